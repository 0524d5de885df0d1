//! A server that is killed or paused.

use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use larder_core::{Change, ErrorKind, Expiry, Key, ReadOptions};
use larder_testkit::{Context, Fails, Must, Writers, abandon, until};

use crate::places::{Place, key, open, private};

const TASKS: usize = 4;

const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) async fn killed_under_load(context: Context<Place>) {
    let Some(server) = private().await else { return };
    let options = "&timeout=3s&serverSelectionTimeoutMS=2000";
    let storage = open(&server, context.target.space(), options).await;
    let kill = || async { server.kill().await.must("kill the server") };
    let start = || async { server.start().await.must("start the server") };
    Writers::start(storage, TASKS).kill_and_restart(2, 10, kill, start).await;
}

pub(crate) async fn restart_between_calls(context: Context<Place>) {
    let Some(server) = private().await else { return };
    let storage = open(&server, context.target.space(), "&serverSelectionTimeoutMS=1000").await;
    storage.write(key("k"), "v").await.must("write");
    server.kill().await.must("kill the server");
    for _ in 0..2 {
        let started = Instant::now();
        let error = storage.read(key("k")).await.fails(ErrorKind::Unavailable, "read of a dead server");
        assert!(error.is_retryable());
        assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());
    }
    server.start().await.must("start the server");
    until("the storage works again", PATIENCE, || async {
        match storage.read(key("k")).await {
            Ok(record) => record.is_some_and(|record| record.value == "v"),
            Err(error) => {
                assert!(error.is_retryable(), "{error}");
                false
            }
        }
    })
    .await;
    storage.write(key("k"), "w").await.must("write");
}

pub(crate) async fn frozen(context: Context<Place>) {
    let Some(server) = private().await else { return };
    let storage = open(&server, context.target.space(), "&timeout=500ms").await;
    storage.write(key("k"), "v").await.must("write");
    server.pause().await.must("freeze the server");
    let started = Instant::now();
    storage.read(key("k")).await.fails(ErrorKind::Timeout, "read of a frozen server");
    let late = storage.write(key("k"), "old").await;
    late.fails(ErrorKind::Timeout, "write to a frozen server");
    // The next write of the key waits for the one whose outcome is unknown.
    let later = storage.write(key("k"), "middle").await;
    later.fails(ErrorKind::Timeout, "write behind that");
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    server.resume().await.must("thaw the server");
    until("the storage works again", PATIENCE, || async {
        match storage.write(key("k"), "new").await {
            Ok(_) => true,
            Err(error) => {
                assert!(error.is_retryable(), "{error}");
                false
            }
        }
    })
    .await;
    assert_eq!(storage.read(key("k")).await.must("read").must("find it").value, "new");
}

/// Each touching read waits for a missing server, but the reads of a batch do not all wait.
pub(crate) async fn touching_reads(context: Context<Place>) {
    let (storage, line) = context.target.open_over_line().await.must("open over a line");
    let keys: Vec<Key> = (0..1_000).map(|number| key(format!("k{number}"))).collect();
    storage.write(&keys[0], "v").await.must("write");
    line.refuse();
    let started = Instant::now();
    let options = ReadOptions::new().with_touch(Expiry::after_secs(60));
    let results = storage.read_many(&keys, &options).await;
    let elapsed = started.elapsed();
    assert_eq!(results.len(), keys.len());
    for result in results {
        assert!(result.is_err_and(|error| error.is_retryable()));
    }
    // 0.3 s for the first 16; all would take 18 s.
    assert!(elapsed < Duration::from_secs(6), "{elapsed:?}");
    line.restore();
    until("the storage works again", PATIENCE, || async { storage.contains(&keys[0]).await.is_ok() }).await;
}

/// A write whose future was dropped does not overtake a later one.
pub(crate) async fn abandoned_write(context: Context<Place>) {
    let storage = open(&context.factory.server, context.target.space(), "").await;
    let (key, large) = (key("k"), vec![b'x'; 1 << 20]);
    for round in 0..30 {
        let old = storage.write(&key, large.clone()).into_future();
        abandon(old, 1 + round % 3).await;
        let new = round.to_string();
        storage.write(&key, new.clone()).await.must("write");
        // Long enough for a late write to arrive.
        for _ in 0..5 {
            assert_eq!(storage.read(&key).await.must("read").must("find it").value, new, "{round}");
        }
    }
}

/// A clear also removes the result of an abandoned write that began before it.
pub(crate) async fn clear_after_abandoned_write(context: Context<Place>) {
    let storage = open(&context.factory.server, context.target.space(), "").await;
    let (key, large) = (key("k"), vec![b'x'; 1 << 20]);
    for round in 0..20 {
        let old = storage.write(&key, large.clone()).into_future();
        abandon(old, 1 + round % 3).await;
        storage.clear("").await.must("clear");
        // Long enough for a late write to arrive.
        for _ in 0..5 {
            assert!(storage.read(&key).await.must("read").is_none(), "{round}");
        }
    }
}

/// A clear whose future was dropped keeps all later writes.
pub(crate) async fn abandoned_clear(context: Context<Place>) {
    let storage = open(&context.factory.server, context.target.space(), "").await;
    let write = |number: usize| Change::put(key(format!("k{number:04}")), "v", Expiry::Never);
    let writes: Vec<Change> = (0..600).map(write).collect();
    for round in 0..6 {
        for result in storage.apply(writes.clone()).await {
            result.must("write many");
        }
        abandon(storage.clear(""), 1 + round).await;
        // The last key of the first page and the last of all.
        let later = [&writes[499], &writes[599]];
        for write in later {
            storage.write(&write.key, "later").await.must("write");
        }
        for _ in 0..5 {
            for write in later {
                let record = storage.read(&write.key).await.must("read").must("find a later write");
                assert_eq!(record.value, "later", "{round}");
            }
        }
    }
    let left: Vec<Key> = storage.keys("").try_collect().await.must("list");
    assert_eq!(storage.clear("").await.must("clear"), left.len() as u64);
    assert!(storage.keys("").try_next().await.must("list").is_none());
}
