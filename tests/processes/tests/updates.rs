//! Four processes update one session through `Sessions`: every update succeeds, and none is lost.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test fails by panicking.

use std::{process::Stdio, time::Duration};

use larder::Key;
use larder_processes::Stores;
use larder_testkit::{Context, Missing, Runner, Suite};
use tokio::{process::Command, sync::Mutex};

const PROCESSES: u64 = 4;
const TASKS: u64 = 64;

// The increments of each task. With these, a case takes up to 20 seconds on two otherwise idle cores.

/// For the most important stores.
const INCREMENTS: u64 = 100;
/// For their variants.
const FEWER_INCREMENTS: u64 = 40;
/// For stores with a few hundred updates per second.
const FEW_INCREMENTS: u64 = 20;
/// For the MongoDB stand-in, with sixty updates per second.
const FEWEST_INCREMENTS: u64 = 3;

/// Runs one case at a time, so that the processes compete only with each other.
static ALONE: Mutex<()> = Mutex::const_new(());

fn main() {
    Runner::new()
        .suite(updates("file", FEW_INCREMENTS, || async { Stores::file() }))
        .suite(updates("file_grammy", FEW_INCREMENTS, || async { Stores::grammy_file() }))
        .suite(updates("sqlite", INCREMENTS, || async { Stores::sqlite() }))
        .suite(updates("postgres", INCREMENTS, || Stores::postgres("")))
        .suite(updates("postgres_jsonb", FEWER_INCREMENTS, || Stores::postgres("&values=jsonb")))
        .suite(updates("postgres_grammy", FEWER_INCREMENTS, || Stores::postgres("&layout=grammy")))
        .suite(updates("mysql", INCREMENTS, || Stores::mysql("")))
        .suite(updates("mysql_json", FEWER_INCREMENTS, || Stores::mysql("&values=json")))
        .suite(updates("redis", INCREMENTS, Stores::redis))
        .suite(updates("valkey", FEWER_INCREMENTS, Stores::valkey))
        .suite(updates("mongodb", FEWEST_INCREMENTS, || Stores::mongodb("")))
        .suite(updates("mongodb_grammy", FEWEST_INCREMENTS, || Stores::mongodb("&layout=grammy")))
        .suite(updates("dynamodb", FEWER_INCREMENTS, Stores::dynamodb))
        .main()
}

fn updates<C>(name: &str, increments: u64, connect: impl Fn() -> C + Send + Sync + 'static) -> Suite<Stores>
where
    C: Future<Output = Result<Stores, Missing>> + Send + 'static,
{
    Suite::connect(name, connect)
        .without_laws()
        // Includes the time of the cases before it.
        .timeout(Duration::from_secs(1800))
        .case("updates_of_four_processes_add_up_exactly", move |context| sum_is_exact(context, increments))
}

async fn sum_is_exact(context: Context<Stores>, increments: u64) {
    let _alone = ALONE.lock().await;
    let url = context.factory.url(context.target.space());
    let storage = context.target.open().await;
    let workers: Vec<_> = (0..PROCESSES)
        .map(|_| {
            Command::new(env!("CARGO_BIN_EXE_worker"))
                .args(["session", &url, "sum", &TASKS.to_string(), &increments.to_string()])
                .stdout(Stdio::piped())
                .kill_on_drop(true)
                .spawn()
                .expect("start a worker")
        })
        .collect();
    let mut runs = 0;
    for worker in workers {
        let output = worker.wait_with_output().await.expect("wait for a worker");
        assert!(output.status.success(), "a worker failed");
        let output = String::from_utf8(output.stdout).expect("read the output as text");
        let (of_all, _) = output.split_once(' ').expect("find two numbers");
        runs += of_all.parse::<u64>().expect("parse the number of runs");
    }
    // The session is stored as a plain number.
    let sum = storage.read_as::<u64>(&Key::new("sum").expect("make a key")).await.expect("read the sum");
    let updates = PROCESSES * TASKS * increments;
    assert_eq!(sum, Some(updates));
    assert!(runs > updates, "the processes never conflicted, so the test shows nothing");
}
