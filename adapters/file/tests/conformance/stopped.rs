//! A process that is stopped while it holds the locks: this binary again.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use larder_core::{Change, Error, ErrorKind, Expiry, Outcome, ReadOptions};
use larder_testkit::{Fails, Must, Suite};

use crate::spaces::{Directories, hold_locks, key};

/// Names the directory with the locks for the child process.
const CHILD: &str = "LARDER_TEST_FILE_HOLD_LOCKS";

const TIMEOUT: Duration = Duration::from_millis(300);

/// Much longer than the timeout, for a busy machine.
const SOON: Duration = Duration::from_secs(20);

pub(crate) fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// Takes all locks, reports that, and holds them until its input ends.
pub(crate) fn child() {
    let locks = PathBuf::from(std::env::var_os(CHILD).must("the directory's name"));
    let _held = hold_locks(&locks);
    println!("held");
    std::io::stdin().read_to_end(&mut Vec::new()).must("wait for the end");
}

pub(crate) fn cases(suite: Suite<Directories>) -> Suite<Directories> {
    if !cfg!(unix) {
        return suite;
    }
    suite.case("a_lock_of_a_stopped_process_times_out", |context| async move {
        let root = context.factory.path(context.target.space());
        let open = || context.factory.config(context.target.space()).lock_timeout(TIMEOUT).connect();
        let storage = open().await.must("open");
        storage.write(key("a"), "1").await.must("write");
        let locks = root.join(".larder/locks");
        let mut holder = tokio::task::spawn_blocking(move || stopped(&locks)).await.must("join");

        let begun = Instant::now();
        refused(storage.write(key("a"), "2").await.map(drop), "write");
        assert!(begun.elapsed() >= TIMEOUT, "it waited");
        refused(storage.delete(key("a")).await.map(drop), "delete");
        refused(storage.touch(key("a"), Expiry::Never).await.map(drop), "touch");
        refused(storage.clear("").await.map(drop), "clear");
        refused(storage.read(key("a")).touching(Expiry::Never).await.map(drop), "read and touch");
        let changes = vec![Change::put(key("a"), "2", Expiry::Never), Change::delete(key("a"))];
        for result in storage.apply(changes).await {
            let error = result.fails(ErrorKind::Unavailable, "apply");
            assert_eq!(error.outcome(), Outcome::NotApplied);
        }
        let listed: Vec<_> = storage.keys("").collect().await;
        assert_eq!(listed.len(), 1, "an error ends the listing");
        for outcome in listed {
            refused(outcome.map(drop), "keys");
        }
        // After one touch has failed because the store is gone, the rest of its batch fails without a wait.
        let begun = Instant::now();
        let keys = vec![key("a"); 40];
        for result in storage.read_many(&keys, &ReadOptions::new().with_touch(Expiry::Never)).await {
            let error = result.fails(ErrorKind::Unavailable, "read_many and touch");
            assert_eq!(error.outcome(), Outcome::NotApplied);
        }
        assert!(begun.elapsed() < 20 * TIMEOUT, "each key waited: {:?}", begun.elapsed());
        // Simultaneous calls do not wait for each other's timeouts.
        let begun = Instant::now();
        let same = key("a");
        let all = (0..40).map(|_| storage.write(&same, "2").into_future());
        for outcome in futures_util::future::join_all(all).await {
            refused(outcome.map(drop), "concurrent writes");
        }
        assert!(begun.elapsed() < 20 * TIMEOUT, "they waited for each other: {:?}", begun.elapsed());
        // Reads take no lock, and opening needs none.
        assert_eq!(storage.read(key("a")).await.must("read").must("a value").value, "1");
        open().await.must("open once more").close().await.must("close");
        assert!(begun.elapsed() < SOON);

        signal(&holder, "CONT");
        drop(holder.stdin.take());
        tokio::task::spawn_blocking(move || holder.wait()).await.must("join").must("wait for the child");
        storage.write(key("a"), "2").await.must("write");
        assert_eq!(storage.keys("").count().await, 1);
        storage.close().await.must("close");
    })
}

fn refused(outcome: Result<(), Error>, what: &str) {
    let error = outcome.fails(ErrorKind::Unavailable, what);
    assert!(error.message().contains("another process holds the lock"), "{what}: {error}");
}

fn stopped(locks: &Path) -> Child {
    let mut child = Command::new(std::env::current_exe().must("find this binary"))
        .env(CHILD, locks)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .must("start the child");
    let mut line = String::new();
    BufReader::new(child.stdout.take().must("its output")).read_line(&mut line).must("wait for the child");
    assert_eq!(line.trim(), "held");
    signal(&child, "STOP");
    child.stdin.as_mut().must("its input").flush().must("flush");
    let state = PathBuf::from(format!("/proc/{}/stat", child.id()));
    let begun = Instant::now();
    // Without /proc the signal has to suffice.
    while fs::read_to_string(&state).is_ok_and(|text| !text.contains(") T ")) {
        assert!(begun.elapsed() < SOON, "the child does not stop");
        std::thread::yield_now();
    }
    child
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").arg(format!("-{name}")).arg(child.id().to_string()).status();
    assert!(sent.must("run kill").success(), "kill -{name} failed");
}
