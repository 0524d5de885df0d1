//! Two processes on one key.

use std::{process::Stdio, sync::Arc, time::Duration};

use larder_core::{Key, Storage};
use larder_postgres::PostgresStorage;
use larder_testkit::{Handle, Must, Runner, increment_by_write_if};

use crate::place::suite;

/// Tells this binary, started a second time, to increment in the table that this URL names.
const URL: &str = "LARDER_TEST_POSTGRES_INCREMENT";
const TASKS: usize = 8;
const TIMES: usize = 500;

/// Whether this is the second process; if so, its work is done when this returns.
pub(crate) fn is_second() -> bool {
    let Ok(url) = std::env::var(URL) else {
        return false;
    };
    tokio::runtime::Runtime::new().must("start a runtime").block_on(increment(&url));
    true
}

async fn increment(url: &str) {
    let storage = PostgresStorage::connect(url).await.must("open the storage");
    let handle = Handle::new(Arc::new(storage.clone()));
    larder_testkit::race(TASKS, |_| {
        let handle = handle.clone();
        async move { increment_by_write_if(&handle, &counter(), TIMES).await }
    })
    .await;
    storage.close().await.must("close the storage");
}

fn counter() -> Key {
    Key::new("counter").must("make a key")
}

pub(crate) fn suites(runner: Runner) -> Runner {
    runner.suite(suite("postgres_processes", "").without_laws().timeout(Duration::from_secs(600)).case(
        "increments_of_two_processes_are_all_there",
        |context| async move {
            let table = context.target.space();
            // What is compared here is not made safer by waiting for the disk each time.
            let url = context.factory.url(&format!("table={table}&options=-c%20synchronous_commit%3Doff"));
            let storage = context.factory.storage(&format!("table={table}")).await;
            let mut second = std::process::Command::new(std::env::current_exe().must("find this binary"))
                .env(URL, &url)
                .stdout(Stdio::null())
                .spawn()
                .must("start the second process");
            increment(&url).await;
            let ended = tokio::task::spawn_blocking(move || second.wait()).await.must("wait for it");
            assert!(ended.must("wait for the second process").success());
            let record = storage.read(&counter()).await.must("read the counter").must("find the counter");
            let sum = (2 * TASKS * TIMES).to_string();
            assert_eq!(std::str::from_utf8(&record.value), Ok(&*sum));
            storage.close().await.must("close the storage");
        },
    ))
}
