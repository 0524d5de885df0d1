//! Two processes update one entry: no update is lost.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test fails by panicking.

use std::time::Duration;

use larder_processes::Stores;
use larder_testkit::{Context, Missing, Runner, Suite};
use tokio::process::Command;

const PROCESSES: u64 = 2;
const TASKS: u64 = 8;
const INCREMENTS: u64 = 500;
/// For a server that does some hundred writes a second.
const FEW_INCREMENTS: u64 = 25;

/// How the eight tasks of each process go about it.
#[derive(Clone, Copy)]
enum Tasks {
    /// All sixteen race.
    Race,
    /// Those of one process take turns, as sessions do; the processes race. For a server that does
    /// some hundred writes a second, where sixteen racers would mostly lose.
    TakeTurns,
}

fn main() {
    Runner::new()
        .suite(race("file", Tasks::Race, || async { Stores::file() }))
        .suite(race("file_grammy", Tasks::Race, || async { Stores::grammy_file() }))
        .suite(race("sqlite", Tasks::Race, || async { Stores::sqlite() }))
        .suite(race("postgres", Tasks::Race, || Stores::postgres("")))
        .suite(race("postgres_jsonb", Tasks::Race, || Stores::postgres("&values=jsonb")))
        .suite(race("postgres_grammy", Tasks::Race, || Stores::postgres("&layout=grammy")))
        .suite(race("redis", Tasks::Race, Stores::redis))
        .suite(race("valkey", Tasks::Race, Stores::valkey))
        .suite(race("mongodb", Tasks::TakeTurns, || Stores::mongodb("")))
        .suite(race("mongodb_grammy", Tasks::TakeTurns, || Stores::mongodb("&layout=grammy")))
        .main()
}

fn race<C>(name: &str, tasks: Tasks, connect: impl Fn() -> C + Send + Sync + 'static) -> Suite<Stores>
where
    C: Future<Output = Result<Stores, Missing>> + Send + 'static,
{
    Suite::connect(name, connect)
        .without_laws()
        .timeout(Duration::from_secs(600))
        .case("increments_of_two_processes_add_up_exactly", move |context| sum_is_exact(context, tasks))
}

async fn sum_is_exact(context: Context<Stores>, tasks: Tasks) {
    let (command, increments) = match tasks {
        Tasks::Race => ("increment", INCREMENTS),
        Tasks::TakeTurns => ("queue", FEW_INCREMENTS),
    };
    let url = context.factory.url(context.target.space());
    let storage = context.target.open().await;
    let workers: Vec<_> = (0..PROCESSES)
        .map(|_| {
            Command::new(env!("CARGO_BIN_EXE_worker"))
                .args([command, &url, "sum", &TASKS.to_string(), &increments.to_string()])
                .kill_on_drop(true)
                .spawn()
                .expect("start a worker")
        })
        .collect();
    for mut worker in workers {
        assert!(worker.wait().await.expect("wait for a worker").success(), "a worker failed");
    }
    let sum = storage.read_as::<u64>(&larder::Key::new("sum").expect("a key")).await.expect("read the sum");
    assert_eq!(sum, Some(PROCESSES * TASKS * increments));
}
