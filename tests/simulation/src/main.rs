//! A longer run with fresh seeds; see `USAGE`.

use std::process::ExitCode;

use larder_simulation::{Counts, Faults, Outcome, group_commit, sessions};

const USAGE: &str = "\
Simulates the group commit or the sessions with fresh seeds, and checks what they promise.

usage: larder-simulation <group-commit|sessions> [number of seeds] [first seed]

  group-commit    the group commit of larder-kit, and as many schedules of threads
  sessions        sessions, leases, moves and owners

The default is 1,000,000 seeds, from a random one. A failure prints its seed, the trace and the broken promises.
";

/// The default. Takes minutes.
const SEEDS: u64 = 1_000_000;

/// The numbers of seeds in which every fault must happen: those of the short form.
const ENOUGH_OF_GROUP_COMMIT: u64 = 20_000;
const ENOUGH_OF_SESSIONS: u64 = 3_000;

/// The number of seeds between two lines of progress.
const CHUNK: u64 = 20_000;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let simulation = arguments.next();
    let mut number = |default: u64| arguments.next().map_or(Ok(default), |number| number.parse());
    let (Ok(count), Ok(first)) = (number(SEEDS), number(fastrand::u64(..1 << 48))) else {
        eprint!("{USAGE}");
        return ExitCode::FAILURE;
    };
    let passed = match simulation.as_deref() {
        Some("group-commit") => {
            let seeds = |from, to| group_commit::simulate_all(from..to);
            run_seeds(first, count, ENOUGH_OF_GROUP_COMMIT, seeds, "LARDER_SIM_SEED")
                && run_schedules(first, count)
        }
        Some("sessions") => {
            let seeds = |from, to| sessions::simulate_all(from..to);
            run_seeds(first, count, ENOUGH_OF_SESSIONS, seeds, "LARDER_SIM_SESSIONS_SEED")
        }
        Some("--help" | "-h") => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprint!("{USAGE}");
            return ExitCode::FAILURE;
        }
    };
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs seeds, with progress on stderr. Returns whether all promises were kept, and enough seeds had every fault.
fn run_seeds<F: Faults, O: Outcome + std::fmt::Display>(
    first: u64,
    count: u64,
    enough: u64,
    run: impl Fn(u64, u64) -> Result<Counts<F>, Box<O>>,
    variable: &str,
) -> bool {
    println!("{count} seeds from {first}");
    let mut counts = Counts::default();
    let mut from = first;
    while from < first + count {
        let to = (from + CHUNK).min(first + count);
        match run(from, to) {
            Ok(more) => counts.add(&more),
            Err(report) => {
                println!("{report}replay it with {variable}=<the seed above>");
                return false;
            }
        }
        from = to;
        eprintln!("{} of {count} seeds", from - first);
    }
    print!("{}", counts.table());
    let missing = counts.missing();
    if !missing.is_empty() {
        println!("these faults have never happened: {missing:?}");
    }
    missing.is_empty() || count < enough
}

fn run_schedules(first: u64, count: u64) -> bool {
    use group_commit::{Schedules, explore};
    for schedules in [Schedules::Random, Schedules::Pct] {
        println!("{count} schedules ({schedules:?}) from seed {first}");
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let explored = explore(&schedules, first, count);
        print!("{}", explored.counts.table());
        if let Some(failure) = explored.failure {
            println!("{failure}\nreplay it with LARDER_SIM_SCHEDULE=<the schedule above>");
            return false;
        }
    }
    true
}
