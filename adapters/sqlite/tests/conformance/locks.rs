//! Other connections and processes on the same file.

use std::time::{Duration, Instant};

use larder_core::{Bytes, Change, ErrorKind, Expiry, Key, Outcome, clock::unix_millis};
use larder_testkit::{Fails, Must, Suite};
use sqlx::Connection;

use crate::spaces::Files;

pub(crate) fn cases(suite: Suite<Files>) -> Suite<Files> {
    suite
        .case("a_write_waits_for_a_lock_and_is_then_unavailable", |context| async move {
            let limit = Duration::from_millis(200);
            let builder = context.factory.builder(context.target.space()).busy_timeout(limit);
            let storage = builder.connect().await.must("open");
            let key = Key::new("k").must("a key");
            let value = || Bytes::from_static(b"1");
            storage.write(&key, value()).await.must("write");
            let mut stranger = context.factory.stranger(context.target.space()).await;
            sqlx::query("BEGIN IMMEDIATE").execute(&mut stranger).await.must("take the lock");

            let start = Instant::now();
            let error = storage.write(&key, value()).await.fails(ErrorKind::Unavailable, "write");
            assert!(error.is_retryable());
            assert!(start.elapsed() >= limit, "it gave up after {:?}", start.elapsed());
            assert_eq!(error.outcome(), Outcome::NotApplied);
            let put = |value: &'static str| Change::put(key.clone(), value, Expiry::Never);
            let mixed = vec![put("2"), put("3"), Change::delete(Key::new("l").must("a key"))];
            for changes in [vec![put("2"), put("3")], mixed] {
                for result in storage.apply(changes).await {
                    let error = result.fails(ErrorKind::Unavailable, "apply");
                    assert_eq!(error.outcome(), Outcome::NotApplied);
                }
            }
            storage.delete(&key).await.fails(ErrorKind::Unavailable, "delete");
            assert_eq!(storage.read(&key).await.must("read nevertheless").must("the entry").value, "1");

            sqlx::query("COMMIT").execute(&mut stranger).await.must("let go of the lock");
            storage.write(&key, Bytes::from_static(b"4")).await.must("write again");
            assert_eq!(storage.read(&key).await.must("read").must("the entry").value, "4");
            stranger.close().await.must("close");
            storage.close().await.must("close");
        })
        .case("a_write_continues_when_the_lock_is_released", |context| async move {
            let storage = context.factory.builder(context.target.space()).connect().await.must("open");
            let mut stranger = context.factory.stranger(context.target.space()).await;
            sqlx::query("BEGIN IMMEDIATE").execute(&mut stranger).await.must("take the lock");
            let key = Key::new("k").must("a key");
            let mut write = storage.write(&key, Bytes::from_static(b"1")).into_future();
            assert!(futures_util::FutureExt::now_or_never(&mut write).is_none());
            sqlx::query("COMMIT").execute(&mut stranger).await.must("let go of the lock");
            write.await.must("write");
            stranger.close().await.must("close");
            storage.close().await.must("close");
        })
        .case("expiry_is_checked_when_the_lock_is_acquired", |context| async move {
            let storage = context.factory.builder(context.target.space()).connect().await.must("open");
            let (old, new) = (Key::new("old").must("a key"), Key::new("new").must("a key"));
            let value = || Bytes::from_static(b"1");
            storage.write(&old, value()).expiry(Expiry::after_millis(300)).await.must("write");
            let gone = unix_millis() + 300;
            let mut stranger = context.factory.stranger(context.target.space()).await;
            sqlx::query("BEGIN IMMEDIATE").execute(&mut stranger).await.must("take the lock");
            let mut touch = storage.touch(&old, Expiry::after_secs(600)).into_future();
            let mut write = storage.write(&new, value()).expiry(Expiry::after_secs(600)).into_future();
            assert!(futures_util::FutureExt::now_or_never(&mut touch).is_none());
            assert!(futures_util::FutureExt::now_or_never(&mut write).is_none());
            while unix_millis() < gone {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let before = unix_millis();
            sqlx::query("COMMIT").execute(&mut stranger).await.must("let go of the lock");
            assert!(!touch.await.must("touch"), "an entry that expired during the wait is not revived");
            write.await.must("write");
            let sql = "SELECT expires_at FROM larder WHERE key = 'new'";
            let deadline: i64 = sqlx::query_scalar(sql).fetch_one(&mut stranger).await.must("look");
            assert!(deadline >= before + 600_000, "{deadline} is early by the wait for the lock");
            stranger.close().await.must("close");
            storage.close().await.must("close");
        })
        .case("a_close_waits_for_running_calls", |context| async move {
            let space = context.target.space();
            let storage = context.factory.builder(space).connect().await.must("open");
            let mut stranger = context.factory.stranger(space).await;
            sqlx::query("BEGIN IMMEDIATE").execute(&mut stranger).await.must("take the lock");
            let (writing, closing) = (storage.clone(), storage);
            let mut write = writing.write("k", "1").if_absent().into_future();
            assert!(futures_util::FutureExt::now_or_never(&mut write).is_none(), "it waits for the lock");
            let close = tokio::spawn(async move { closing.close().await });
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert!(!close.is_finished(), "it was closed under a write");
            sqlx::query("COMMIT").execute(&mut stranger).await.must("let go of the lock");
            write.await.must("write");
            close.await.must("the task").must("close");
            let value: Vec<u8> = sqlx::query_scalar("SELECT value FROM larder WHERE key = 'k'")
                .fetch_one(&mut stranger)
                .await
                .must("look");
            assert_eq!(value, b"1");
            stranger.close().await.must("close");
            let log = context.factory.path(space).with_extension("db-wal");
            assert!(!log.exists(), "a connection was left open");
        })
        .case("a_dropped_call_returns_its_connection", |context| async move {
            let builder = context.factory.builder(context.target.space()).readers(1);
            let storage = builder.connect().await.must("open");
            storage.write("k", "1").await.must("write");
            for _ in 0..20 {
                let read = storage.read("k").into_future();
                assert!(futures_util::FutureExt::now_or_never(read).is_none());
            }
            let read = tokio::time::timeout(Duration::from_secs(10), storage.read("k").into_future()).await;
            assert_eq!(read.must("read in time").must("read").must("the entry").value, "1");
            storage.close().await.must("close");
        })
        .case("ten_simultaneous_opens_of_a_new_file_succeed", |context| async move {
            let space = context.target.space();
            let opened = larder_testkit::race(10, |number| {
                let builder = context.factory.builder(space);
                async move {
                    let storage = builder.connect().await.must("open");
                    let key = Key::new(number.to_string()).must("a key");
                    storage.write(&key, Bytes::from_static(b"1")).await.must("write");
                    storage
                }
            })
            .await;
            for storage in &opened {
                for number in 0..10 {
                    let key = Key::new(number.to_string()).must("a key");
                    assert!(storage.contains(&key).await.must("look"));
                }
            }
            for storage in opened {
                storage.close().await.must("close");
            }
        })
}
