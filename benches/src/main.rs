//! Compares Larder with the raw drivers and other libraries. See `docs/benchmarks.md`.

mod allocations;
mod before;
mod charts;
mod contenders;
mod copy;
mod data;
mod machine;
mod measure;
mod output;
mod peers;
mod plan;
mod report;
mod results;
mod round_trips;
mod stores;
mod targets;

use std::{process::ExitCode, time::Instant};

use crate::{
    before::Before,
    measure::message,
    output::Output,
    plan::{Plan, Step},
    results::{Results, Row},
    stores::{Bench, Place},
};

const USAGE: &str = "\
usage: cargo run --release -- [WORD]... [OPTION]...

WORD is `all` (measures everything and writes docs/benchmarks.md), `report` (writes the last results to the page,
whose other rows stay), or any of
  memory file sqlite postgres mysql redis mongodb dynamodb   only these stores
  reads writes sessions hot                         only these operations
  tasks sizes keys                                  only these axes
  trips copy                                        round trips; copies of a million sessions

  --quick          a smoke test into target/benchmarks/quick; ignore its figures
  --rounds N       rounds of each row (default: 5)
  --millis N       milliseconds per round and contender (default: 300)
  --before BINARY  adds an earlier build of this program to each row";

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [copy::CHILD, what, from, to] => copy::child(what, from, to).await,
        [before::CHILD, store, keys, size] => before::child(store, keys, size).await,
        ["report"] => report::write(&Output::new(false), false),
        _ => match Plan::parse(&arguments) {
            Ok(plan) => measure(&plan).await,
            Err(wrong) => {
                eprintln!("{wrong}\n\n{USAGE}");
                return ExitCode::FAILURE;
            }
        },
    }
    ExitCode::SUCCESS
}

async fn measure(plan: &Plan) {
    let output = Output::new(plan.quick);
    let mut results = if plan.all { Results::default() } else { Results::load(&output.results()) };
    // The results of this run, for printing.
    let mut fresh = Results::default();
    results.machine = machine::describe().await;
    results.effort = Some(plan.effort);
    let mut progress = Progress { started: Instant::now(), done: 0, steps: plan.rows() };
    for bench in &stores::ALL {
        for step in plan.steps(bench) {
            rows(plan, bench, &step, &mut progress, [&mut fresh, &mut results]).await;
            results.save(&output.results());
        }
        if plan.trips(bench) {
            let counted = round_trips::count(bench).await;
            results.round_trips.retain(|earlier| earlier.store != bench.name);
            results.round_trips.extend(counted.iter().cloned());
            fresh.round_trips.extend(counted);
            progress.say(&format!("{}: round trips", bench.name));
        }
    }
    if plan.copy {
        fresh.copies = copy::measure(plan.copied(), plan.effort.rounds.min(3)).await;
        results.copies.clone_from(&fresh.copies);
        progress.say("copies");
    }
    results.took = progress.started.elapsed();
    results.save(&output.results());
    if plan.all {
        report::write(&output, true);
    } else {
        println!("{}", report::text(&fresh));
    }
}

/// Measures all rows on one set of data.
async fn rows(
    plan: &Plan,
    bench: &Bench,
    step: &Step,
    progress: &mut Progress,
    [fresh, results]: [&mut Results; 2],
) {
    let place = Place { data: step.data, peers: step.peers, url: None, space: "bench" };
    // In a task, because it panics if a server is missing, and the other stores should still be measured.
    let mut set = match tokio::spawn((bench.open)(place)).await {
        Ok(set) => set,
        Err(error) => {
            let why = error.try_into_panic().map_or_else(|error| error.to_string(), |panic| message(&*panic));
            progress.say(&format!("{}: cannot measure: {why}", bench.name));
            return;
        }
    };
    if let Some(binary) = plan.before.as_ref().filter(|_| step.peers) {
        Before::start(binary, bench, step.data).await.join(&mut set);
    }
    for &(operation, tasks) in &step.rows {
        // A cache cannot hold sessions.
        let Some(contenders) = set.rows.get(&operation) else { continue };
        if let Some(tidy) = &set.tidy {
            tidy().await;
        }
        let measured = measure::measure(contenders, operation, step.data, tasks, plan.effort).await;
        let row = Row {
            store: bench.name.to_owned(),
            operation,
            tasks,
            size: step.data.size,
            keys: step.data.keys,
            contenders: measured,
        };
        progress.say(&report::line(&row));
        fresh.rows.push(row.clone());
        results.put(row);
    }
}

struct Progress {
    started: Instant,
    done: usize,
    steps: usize,
}

impl Progress {
    fn say(&mut self, line: &str) {
        self.done += 1;
        let seconds = self.started.elapsed().as_secs();
        let left = seconds as usize * self.steps.saturating_sub(self.done) / self.done;
        let (done, steps) = (self.done, self.steps);
        eprintln!("[{done}/{steps}, {}:{:02}, {} min left] {line}", seconds / 60, seconds % 60, left / 60);
    }
}
