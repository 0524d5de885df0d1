//! Two processes on one table.

use std::{process::Stdio, time::Duration};

use larder_core::Key;
use larder_postgres::PostgresStorage;
use larder_testkit::{Handle, Must, Runner, increment_by_write_if};

use crate::place::suite;

/// Tells this binary, started a second time, to increment in the table that this URL names.
const URL: &str = "LARDER_TEST_POSTGRES_INCREMENT";
/// How often each of its tasks does that.
const TIMES: &str = "LARDER_TEST_POSTGRES_TIMES";
const TASKS: usize = 8;

/// Whether this is the second process; if so, its work is done when this returns.
pub(crate) fn is_second() -> bool {
    let Ok(url) = std::env::var(URL) else {
        return false;
    };
    let times = std::env::var(TIMES).ok().and_then(|times| times.parse().ok()).must("be told how often");
    tokio::runtime::Runtime::new().must("start a runtime").block_on(increment(&url, times));
    true
}

async fn increment(url: &str, times: usize) {
    let storage = PostgresStorage::connect(url).await.must("open the storage");
    let handle = Handle::new(storage.clone());
    larder_testkit::race(TASKS, |_| {
        let handle = handle.clone();
        async move { increment_by_write_if(&handle, &counter(), times).await }
    })
    .await;
    storage.close().await.must("close the storage");
}

fn counter() -> Key {
    Key::new("counter").must("make a key")
}

/// Increments in this process and in a second one, each with storages of its own at `url`, and
/// compares the sum.
pub(crate) async fn increment_in_two_processes(url: &str, times: usize) {
    let mut second = std::process::Command::new(std::env::current_exe().must("find this binary"))
        .env(URL, url)
        .env(TIMES, times.to_string())
        .stdout(Stdio::null())
        .spawn()
        .must("start the second process");
    increment(url, times).await;
    let ended = tokio::task::spawn_blocking(move || second.wait()).await.must("wait for it");
    assert!(ended.must("wait for the second process").success());
    let storage = PostgresStorage::connect(url).await.must("open the storage");
    let record = storage.read(counter()).await.must("read the counter").must("find the counter");
    let sum = (2 * TASKS * times).to_string();
    assert_eq!(std::str::from_utf8(&record.value), Ok(&*sum));
    storage.close().await.must("close the storage");
}

pub(crate) fn suites(runner: Runner) -> Runner {
    runner.suite(suite("postgres_processes", "").without_laws().timeout(Duration::from_secs(600)).case(
        "increments_of_two_processes_are_all_there",
        |context| async move {
            let table = context.target.space();
            // What is compared here is not made safer by waiting for the disk each time.
            let url = context.factory.url(&format!("table={table}&options=-c%20synchronous_commit%3Doff"));
            increment_in_two_processes(&url, 500).await;
        },
    ))
}
