//! A server that is killed, paused, or full.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, TryStreamExt};
use larder_core::{Change, Error, ErrorKind, Expiry, Outcome};
use larder_test_servers::Kind;
use larder_testkit::{Context, Fails, Must, Writers, until};

use crate::places::{
    PATIENCE, Place, apply, command, key, open, open_impatient, private, write_until_acknowledged,
};

const TASKS: usize = 16;

pub(crate) async fn killed_under_load(context: Context<Place>) {
    let server = private(Kind::Redis, &[]).await;
    let storage = open(&server, context.target.space(), "&timeout=2s&connect_timeout=2s").await;
    let kill = || async { server.kill().await.must("kill the server") };
    let start = || async { server.start().await.must("start the server") };
    Writers::start(storage, TASKS).kill_and_restart(3, 20, kill, start).await;
}

pub(crate) async fn restart_between_calls(context: Context<Place>) {
    let server = private(Kind::Redis, &[]).await;
    let storage = open(&server, context.target.space(), "").await;
    storage.write(key("k"), "v").await.must("write");
    server.restart().await.must("restart the server");
    // No call was running, so none has to fail. But the operating system decides whether the
    // storage learns of the closed connection before the next call.
    let first = storage.write(key("k"), "w").await;
    if let Err(error) = first {
        assert!(error.is_retryable(), "{error}");
        storage.write(key("k"), "w").await.must("write the second time");
    }
    assert_eq!(storage.read(key("k")).await.must("read").must("find it").value, "w");

    // While the server is down every call fails quickly, and the first call after that succeeds.
    server.kill().await.must("kill the server");
    for _ in 0..5 {
        let started = Instant::now();
        let error = storage.read(key("k")).await.fails(ErrorKind::Unavailable, "read of a dead server");
        assert!(error.is_retryable());
        let error =
            storage.write(key("k"), "v").await.fails(ErrorKind::Unavailable, "write to a dead server");
        assert_eq!(error.outcome(), Outcome::NotApplied, "{error:?}");
        assert!(started.elapsed() < Duration::from_secs(6));
    }
    server.start().await.must("start the server");
    assert_eq!(storage.read(key("k")).await.must("read").must("find it").value, "w");
}

pub(crate) async fn frozen(context: Context<Place>) {
    let server = private(Kind::Redis, &[]).await;
    let storage = open_impatient(&server, context.target.space()).await;
    write_until_acknowledged(&storage, &key("k"), "v").await;
    server.pause().await.must("freeze the server");
    let started = Instant::now();
    let error = storage.read(key("k")).await.fails(ErrorKind::Timeout, "read of a frozen server");
    assert!(error.is_retryable());
    // Simultaneous calls share one attempt to connect.
    let failed = larder_testkit::race(32, |_| {
        let storage = storage.clone();
        async move { storage.read(key("k")).await.err().is_some_and(|error: Error| error.is_retryable()) }
    })
    .await;
    assert!(failed.into_iter().all(|failed| failed));
    assert!(started.elapsed() < Duration::from_secs(16), "{:?}", started.elapsed());
    server.resume().await.must("thaw the server");
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
}

pub(crate) async fn restart_within_a_listing(context: Context<Place>) {
    let server = private(Kind::Redis, &[]).await;
    let storage = open(&server, context.target.space(), "&scan_count=16").await;
    let keys: BTreeSet<_> = (0..2_000).map(|number| key(format!("k{number}"))).collect();
    apply(&storage, keys.iter().map(|key| Change::put(key.clone(), "v", Expiry::Never))).await;
    let mut listing = storage.keys("");
    let mut seen = BTreeSet::new();
    for _ in 0..800 {
        seen.insert(listing.next().await.must("go on").must("list"));
    }
    server.restart().await.must("restart the server");
    match listing.try_collect::<Vec<_>>().await {
        Ok(rest) => {
            seen.extend(rest);
            assert_eq!(seen.len(), keys.len(), "keys that stayed were missed");
        }
        // It may fail, but it may not end early as if it were complete.
        Err(error) => assert!(error.is_retryable(), "{error}"),
    }
    let listed: BTreeSet<_> = storage.keys("").try_collect().await.must("list again");
    assert_eq!(listed, keys);
}

pub(crate) async fn full(context: Context<Place>) {
    let server = private(Kind::Redis, &["--maxmemory", "1kb"]).await;
    let storage = open(&server, context.target.space(), "").await;
    let error = storage.write(key("k"), "v").await;
    let error = error.fails(ErrorKind::StorageFull, "write into full memory");
    assert!(!error.is_retryable());
    assert_eq!(error.outcome(), Outcome::NotApplied, "{error}");
    assert!(storage.read(key("k")).await.must("read").is_none());
    assert!(!storage.delete(key("k")).await.must("delete"));
    command(server.url(), "CONFIG SET maxmemory 0").await;
    storage.write(key("k"), "v").await.must("write into memory with room");
}

pub(crate) async fn smaller_limit(context: Context<Place>) {
    let server = private(Kind::Redis, &["--proto-max-bulk-len", "1mb"]).await;
    let storage = open(&server, context.target.space(), "").await;
    storage.write(key("k"), "old").await.must("write");
    let large = vec![b'x'; (1 << 20) + 1];
    let error = storage.write(key("k"), large).await.err().must("be refused");
    // The server answers and closes the connection; the client may see either first.
    assert!(matches!(error.kind(), ErrorKind::TooLarge | ErrorKind::Unavailable), "{error}");
    until("the storage works again", PATIENCE, || async {
        storage.read(key("k")).await.is_ok_and(|record| record.is_some_and(|record| record.value == "old"))
    })
    .await;
}
