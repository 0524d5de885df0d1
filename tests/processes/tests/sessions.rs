//! Four processes update one session through `Sessions`: no update is lost, and none is refused.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test fails by panicking.

use std::{process::Stdio, time::Duration};

use larder::Key;
use larder_processes::Stores;
use larder_testkit::{Context, Missing, Runner, Suite};
use tokio::{process::Command, sync::Mutex};

const PROCESSES: u64 = 4;
const TASKS: u64 = 64;

// Of each task, so that a case takes up to 20 seconds on two cores that do nothing else.

/// For the stores that matter most.
const INCREMENTS: u64 = 100;
/// For their variants.
const FEWER_INCREMENTS: u64 = 40;
/// For stores that do some hundred updates a second.
const FEW_INCREMENTS: u64 = 20;
/// For the MongoDB stand-in, which does sixty.
const FEWEST_INCREMENTS: u64 = 3;

/// One case at a time: its processes race each other, and not those of the next case for the
/// machine.
static ALONE: Mutex<()> = Mutex::const_new(());

fn main() {
    Runner::new()
        .suite(updates("file", FEW_INCREMENTS, || async { Stores::file() }))
        .suite(updates("file_grammy", FEW_INCREMENTS, || async { Stores::grammy_file() }))
        .suite(updates("sqlite", INCREMENTS, || async { Stores::sqlite() }))
        .suite(updates("postgres", INCREMENTS, || Stores::postgres("")))
        .suite(updates("postgres_jsonb", FEWER_INCREMENTS, || Stores::postgres("&values=jsonb")))
        .suite(updates("postgres_grammy", FEWER_INCREMENTS, || Stores::postgres("&layout=grammy")))
        .suite(updates("redis", INCREMENTS, Stores::redis))
        .suite(updates("valkey", FEWER_INCREMENTS, Stores::valkey))
        .suite(updates("mongodb", FEWEST_INCREMENTS, || Stores::mongodb("")))
        .suite(updates("mongodb_grammy", FEWEST_INCREMENTS, || Stores::mongodb("&layout=grammy")))
        .main()
}

fn updates<C>(name: &str, increments: u64, connect: impl Fn() -> C + Send + Sync + 'static) -> Suite<Stores>
where
    C: Future<Output = Result<Stores, Missing>> + Send + 'static,
{
    Suite::connect(name, connect)
        .without_laws()
        // Also for the cases before it.
        .timeout(Duration::from_secs(1800))
        .case("increments_through_sessions_of_four_processes_add_up_exactly", move |context| {
            sum_is_exact(context, increments)
        })
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
        let output = String::from_utf8(output.stdout).expect("text");
        let (of_all, _) = output.split_once(' ').expect("two numbers");
        runs += of_all.parse::<u64>().expect("how often handlers ran");
    }
    // In the layout that the sessions wrote: a bare number.
    let sum = storage.read_as::<u64>(&Key::new("sum").expect("a key")).await.expect("read the sum");
    let updates = PROCESSES * TASKS * increments;
    assert_eq!(sum, Some(updates));
    assert!(runs > updates, "no process ever got in another's way, which was to be tried");
}
