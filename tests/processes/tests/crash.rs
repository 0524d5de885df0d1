//! The writing process is killed at random moments: nothing that was acknowledged is missing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test fails by panicking.

use std::{collections::BTreeMap, process::Stdio, time::Duration};

use larder::Key;
use larder_processes::{Note, Stores};
use larder_testkit::{Context, Missing, Runner, Suite};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
};

const KILLS: usize = 50;
const TASKS: u64 = 8;

fn main() {
    Runner::new()
        .suite(crash("file", || async { Stores::file() }))
        .suite(crash("file_grammy", || async { Stores::grammy_file() }))
        .suite(crash("sqlite", || async { Stores::sqlite() }))
        .main()
}

fn crash<C>(name: &str, connect: impl Fn() -> C + Send + Sync + 'static) -> Suite<Stores>
where
    C: Future<Output = Result<Stores, Missing>> + Send + 'static,
{
    Suite::connect(name, connect)
        .without_laws()
        .timeout(Duration::from_secs(600))
        .case("acknowledged_writes_survive_fifty_kills", acknowledged_writes_survive)
}

async fn acknowledged_writes_survive(context: Context<Stores>) {
    let url = context.factory.url(context.target.space());
    // The last number that each task saw acknowledged.
    let mut acknowledged = BTreeMap::<u64, u64>::new();
    let mut next = 1;
    for kill in 0..KILLS {
        write_until_killed(&url, next, fastrand::usize(1..200), &mut acknowledged).await;

        let storage = larder::open(&url).await.expect("open the store after a kill");
        for (task, &number) in &acknowledged {
            let key = Key::new(format!("task:{task}")).expect("a key");
            let note = storage.read_as::<Note>(&key).await.expect("read after a kill");
            let note = note.unwrap_or_else(|| panic!("kill {kill}: task {task}'s entry is gone"));
            assert!(note.is_whole(), "kill {kill}: task {task}'s entry is damaged");
            assert!(
                note.number >= number,
                "kill {kill}: task {task} was told that {number} is stored, and {} is",
                note.number
            );
            next = next.max(note.number + 1);
        }
        storage.close().await.expect("close the store");
    }
    assert_eq!(
        acknowledged.len(),
        usize::try_from(TASKS).expect("a small number"),
        "every task got to write"
    );
}

/// Runs a writer until it has had `lines` writes acknowledged, and kills it there and then, with
/// others under way.
async fn write_until_killed(url: &str, first: u64, lines: usize, acknowledged: &mut BTreeMap<u64, u64>) {
    let mut worker = Command::new(env!("CARGO_BIN_EXE_worker"))
        .args(["write", url, &TASKS.to_string(), &first.to_string()])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("start a worker");
    let mut output = BufReader::new(worker.stdout.take().expect("its output"));
    let mut line = String::new();
    for read in 0.. {
        if read == lines {
            worker.start_kill().expect("kill the worker");
        }
        line.clear();
        // What was written to the pipe before the kill is still read after it.
        let length = output.read_line(&mut line).await.expect("read the worker's output");
        assert!(length > 0 || read >= lines, "the worker ended by itself");
        // The kill may have cut the last line.
        let Some((task, number)) = line.strip_suffix('\n').and_then(|line| line.split_once(' ')) else {
            break;
        };
        acknowledged.insert(task.parse().expect("a task"), number.parse().expect("a number"));
    }
    worker.wait().await.expect("wait for the worker");
}
