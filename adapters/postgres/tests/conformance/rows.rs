//! Batches and conflicts between them.

use std::time::Duration;

use larder_core::{Bytes, Change, Error, ErrorKind, Expiry, Key, ReadOptions, Result, Store};
use larder_testkit::{Fails, Suite, until};

use crate::place::Place;

fn keys(count: usize) -> Vec<Key> {
    (0..count).map(|number| Key::new(format!("key {number}")).unwrap()).collect()
}

/// Writes these values in one batch. Returns the indices of the values that were rejected.
async fn refused(store: &Store, puts: impl Iterator<Item = (Key, Bytes)>) -> Vec<usize> {
    let changes = puts.map(|(key, value)| Change::put(key, value, Expiry::Never)).collect();
    let applied = store.apply(changes).await.into_iter().enumerate();
    let failed = applied.filter_map(|(place, result)| Some((place, result.err()?)));
    let places = failed.map(|(place, error): (usize, Error)| {
        assert_eq!(error.kind(), ErrorKind::InvalidValue, "{error}");
        assert!(!format!("{error:?}").contains("hunter2"));
        place
    });
    places.collect()
}

pub(crate) fn cases(suite: Suite<Place>) -> Suite<Place> {
    suite
        .case("a_value_that_only_the_server_rejects_fails_alone", |context| async move {
            let table = context.target.space().to_owned();
            let storage = context.factory.storage(&format!("table={table}&values=jsonb")).await;
            let keys = keys(40);
            let bad = Bytes::from_static(br#""hunter2 \u0000""#);
            let good = Bytes::from_static(b"1");
            let value = |at: usize| if at % 13 == 5 { bad.clone() } else { good.clone() };
            let puts = keys.iter().enumerate().map(|(at, key)| (key.clone(), value(at)));
            assert_eq!(refused(&storage, puts).await, [5, 18, 31]);
            let found = storage.read_many(&keys, &ReadOptions::new()).await;
            let found: Vec<_> = found.into_iter().map(Result::unwrap).collect();
            assert!(found.iter().enumerate().all(|(at, record)| record.is_some() == (at % 13 != 5)));

            // The same key twice in the batch: the write before the invalid one stays.
            let twice = [Bytes::from_static(b"2"), bad.clone()].map(|value| (keys[0].clone(), value));
            assert_eq!(refused(&storage, twice.into_iter()).await, [1]);
            assert_eq!(&storage.read(&keys[0]).await.unwrap().unwrap().value[..], b"2");

            // Also among many concurrent writes.
            let written = futures_util::future::join_all(keys.iter().enumerate().map(|(at, key)| {
                let value = if at == 7 { bad.clone() } else { good.clone() };
                storage.write(key, value).into_future()
            }))
            .await;
            for (at, outcome) in written.into_iter().enumerate() {
                match at {
                    7 => drop(outcome.fails(ErrorKind::InvalidValue, "the bad one")),
                    _ => drop(outcome.unwrap()),
                }
            }
            for (value, why) in
                [("1e200000", "a number out of range"), ("\"\\ud800\"", "half a surrogate pair")]
            {
                let value = Bytes::copy_from_slice(value.as_bytes());
                drop(storage.write(&keys[0], value).await.fails(ErrorKind::InvalidValue, why));
            }
            storage.close().await.unwrap();
        })
        .case("batches_over_the_same_keys_do_not_deadlock", |context| async move {
            let table = context.target.space().to_owned();
            let storages = [
                context.factory.storage(&format!("table={table}&pool_size=3")).await,
                context.factory.storage(&format!("table={table}&pool_size=3")).await,
            ];
            let keys = keys(300);
            let tasks = (0..6).map(|task| {
                let storage = storages[task % 2].clone();
                let mut keys = keys.clone();
                // In another order for each task.
                keys.rotate_left(task * 50);
                if task % 3 == 0 {
                    keys.reverse();
                }
                tokio::spawn(async move {
                    for round in 0..10 {
                        let put = |key: &Key| Change::put(key.clone(), "x", Expiry::Never);
                        let mut batches = vec![keys.iter().map(put).collect::<Vec<_>>()];
                        if round % 2 == task % 2 {
                            batches.push(keys.iter().cloned().map(Change::delete).collect());
                        }
                        for batch in batches {
                            for applied in storage.apply(batch).await {
                                applied.unwrap();
                            }
                        }
                        let options = ReadOptions::new().with_touch(Expiry::after_secs(60));
                        for record in storage.read_many(&keys, &options).await {
                            record.unwrap();
                        }
                        if round == task {
                            storage.clear("key 1").await.unwrap();
                        }
                    }
                })
            });
            for task in futures_util::future::join_all(tasks).await {
                task.unwrap();
            }
            for storage in storages {
                storage.close().await.unwrap();
            }
        })
        .case("a_row_lock_delays_writes_but_not_reads", |context| async move {
            let table = context.target.space().to_owned();
            let application = format!("{table}-locks");
            let storage = context
                .factory
                .storage(&format!("table={table}&timeout=3s&application_name={application}"))
                .await;
            let key = Key::new("k").unwrap();
            storage.write(&key, Bytes::from_static(b"old")).await.unwrap();
            let admin = context.factory.admin().await;
            admin.run(&format!("BEGIN; SELECT * FROM \"{table}\" FOR UPDATE")).await;
            let write = storage.write(&key, Bytes::from_static(b"new")).into_future();
            let read = async {
                for _ in 0..20 {
                    assert_eq!(&storage.read(&key).await.unwrap().unwrap().value[..], b"old");
                }
            };
            let (written, ()) = futures_util::join!(write, read);
            let error = written.fails(ErrorKind::Timeout, "the row is locked");
            assert!(error.is_retryable() && error.message().contains("3s"), "{error}");
            // A write that timed out has been cancelled, and is not applied later.
            let watch = context.factory.admin().await;
            until("nothing of the storage waits any more", Duration::from_secs(5), || async {
                let sql =
                    "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND state = 'active'";
                watch.count(sql, &[&application]).await == 0
            })
            .await;
            admin.run("COMMIT").await;
            assert_eq!(&storage.read(&key).await.unwrap().unwrap().value[..], b"old");
            storage.write(&key, Bytes::from_static(b"new")).await.unwrap();
            storage.close().await.unwrap();
        })
        .case("an_entry_written_behind_a_clear_stays", |context| async move {
            for layout in ["larder", "grammy"] {
                let table = format!("{}{layout}", context.target.space());
                let options = format!("table={table}&layout={layout}&group_commit=false");
                let storage = context.factory.storage(&options).await;
                let (admin, watch) = (context.factory.admin().await, context.factory.admin().await);
                let columns = if layout == "larder" { ", 1, NULL" } else { "" };
                admin
                    .run(&format!(
                        "INSERT INTO \"{table}\" SELECT lpad(n::text, 4, '0'), '1'{columns} \
                         FROM generate_series(1, 3500) AS n"
                    ))
                    .await;
                admin.run(&format!("BEGIN; SELECT FROM \"{table}\" WHERE key = '3400' FOR UPDATE")).await;
                let first = Key::new("0001").unwrap();
                let behind = async {
                    until("the first entries are deleted", Duration::from_secs(10), || async {
                        watch.count(&format!("SELECT count(*) FROM \"{table}\""), &[]).await < 1500
                    })
                    .await;
                    storage.write(&first, Bytes::from_static(b"2")).await.unwrap();
                    admin.run("COMMIT").await;
                };
                let (cleared, ()) = futures_util::join!(storage.clear(""), behind);
                assert_eq!(cleared.unwrap(), 3500, "{layout}");
                assert_eq!(&storage.read(&first).await.unwrap().unwrap().value[..], b"2", "{layout}");
                assert_eq!(storage.clear("").await.unwrap(), 1, "{layout}");
                storage.close().await.unwrap();
                admin.run(&format!("DROP TABLE \"{table}\"")).await;
            }
        })
        .case("calls_dropped_at_a_lock_do_not_delay_others", |context| async move {
            const POOL_SIZE: usize = 3;
            for options in ["group_commit=false", "group_commit=false&statements=unnamed"] {
                let table = context.target.space().to_owned();
                let application = format!("{table}-dropped");
                let storage = context
                    .factory
                    .storage(&format!(
                        "table={table}&pool_size={POOL_SIZE}&application_name={application}&{options}"
                    ))
                    .await;
                let (locked, free) = (Key::new("locked").unwrap(), Key::new("free").unwrap());
                storage.write(&locked, Bytes::from_static(b"x")).await.unwrap();
                let admin = context.factory.admin().await;
                admin.run(&format!("BEGIN; SELECT * FROM \"{table}\" WHERE key = 'locked' FOR UPDATE")).await;
                let calls = (0..2 * POOL_SIZE).map(|number| {
                    let (storage, locked) = (&storage, &locked);
                    async move {
                        let limit = Duration::from_millis(50);
                        let gone = match number % 2 {
                            0 => tokio::time::timeout(limit, storage.delete(locked)).await.is_err(),
                            _ => tokio::time::timeout(limit, storage.touch(locked, Expiry::Never))
                                .await
                                .is_err(),
                        };
                        assert!(gone, "the row is locked");
                    }
                });
                futures_util::future::join_all(calls).await;
                // Far less than the timeout of a statement.
                tokio::time::timeout(Duration::from_secs(10), async {
                    for number in 0..20_u8 {
                        let value = Bytes::from(vec![number]);
                        storage.write(&free, value.clone()).await.unwrap();
                        assert_eq!(storage.read(&free).await.unwrap().unwrap().value, value);
                        assert!(storage.touch(&free, Expiry::Never).await.unwrap());
                        assert!(storage.read(&locked).await.unwrap().is_some());
                    }
                })
                .await
                .unwrap_or_else(|_| panic!("{options}: other keys wait for the lock"));
                admin.run("COMMIT").await;
                storage.write(&locked, Bytes::from_static(b"y")).await.unwrap();
                assert_eq!(&storage.read(&locked).await.unwrap().unwrap().value[..], b"y");
                assert!(admin.connections_of(&application).await <= i64::try_from(POOL_SIZE).unwrap());
                storage.close().await.unwrap();
            }
        })
        .case("a_second_close_finishes_an_abandoned_one", |context| async move {
            let table = context.target.space().to_owned();
            let application = format!("{table}-closing");
            let storage =
                context.factory.storage(&format!("table={table}&application_name={application}")).await;
            let key = Key::new("k").unwrap();
            storage.write(&key, Bytes::from_static(b"x")).await.unwrap();
            let admin = context.factory.admin().await;
            admin.run(&format!("BEGIN; SELECT * FROM \"{table}\" FOR UPDATE")).await;
            let limit = Duration::from_millis(50);
            let write = storage.write(&key, Bytes::from_static(b"y"));
            assert!(tokio::time::timeout(limit, write).await.is_err(), "the row is locked");
            assert!(tokio::time::timeout(limit, storage.close()).await.is_err(), "the write is under way");
            drop(storage.read(&key).await.fails(ErrorKind::Closed, "closed, if not to the end"));
            admin.run("COMMIT").await;
            storage.close().await.unwrap();
            storage.close().await.unwrap();
            until("all connections are closed", Duration::from_secs(5), || async {
                admin.connections_of(&application).await == 0
            })
            .await;
            let value = admin.text(&format!("SELECT encode(value, 'escape') FROM \"{table}\"")).await;
            assert_eq!(value.as_deref(), Some("y"), "the write has come to its end");
        })
        .case("writes_succeed_under_serializable_transactions", |context| async move {
            let table = context.target.space().to_owned();
            let options = "options=-c%20default_transaction_isolation%3Dserializable";
            let storage = context.factory.storage(&format!("table={table}&{options}&pool_size=4")).await;
            let handle = larder_testkit::Handle::new(storage.clone());
            let key = Key::new("counter").unwrap();
            larder_testkit::race(4, |_| {
                let (handle, key) = (handle.clone(), key.clone());
                async move { larder_testkit::increment_by_update(&handle, &key, 25).await }
            })
            .await;
            assert_eq!(&storage.read(&key).await.unwrap().unwrap().value[..], b"100");
            storage.close().await.unwrap();
        })
}
