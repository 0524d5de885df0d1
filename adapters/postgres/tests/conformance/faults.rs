//! A server that is killed, restarted, or silent.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use larder_core::{
    Bytes, Change, Condition, Error, ErrorKind, Expiry, Key, Outcome, ReadOptions, Record, Store, async_trait,
};
use larder_test_servers::{Kind, Server};
use larder_testkit::{Factory, Fails, Missing, Runner, Suite, until};

use crate::{
    admin::Admin,
    place::{missing, with_options},
};

/// A server for these cases. They run one at a time: each stops it for all.
struct Fragile {
    server: Server,
    turn: tokio::sync::Mutex<()>,
}

#[async_trait]
impl Factory for Fragile {
    async fn open(&self, space: &str) -> Result<Store, Error> {
        self.storage(space, "").await
    }
}

impl Fragile {
    async fn new() -> Result<Self, Missing> {
        let server = Kind::Postgres.private().await.map_err(missing)?;
        if !server.is_ours() {
            return Err(Missing::new("the server from the environment is not ours to stop", false));
        }
        Ok(Self { server, turn: tokio::sync::Mutex::default() })
    }

    async fn storage(&self, table: &str, options: &str) -> Result<Store, Error> {
        let options = format!("table={table}&timeout=5s&{options}");
        larder_postgres::connect(&with_options(self.server.url(), options.trim_end_matches('&'))).await
    }
}

/// The call must end without outside help.
async fn ends<T>(call: impl IntoFuture<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), call).await.expect("no call hangs")
}

/// The entries, after the server is back.
async fn seen(storage: &Store, keys: &[Key]) -> Vec<Option<Record>> {
    loop {
        let found = ends(storage.read_many(keys, &ReadOptions::new())).await;
        match found.into_iter().collect::<Result<Vec<_>, Error>>() {
            Ok(found) => return found,
            Err(error) => assert!(error.is_retryable(), "{error}"),
        }
        tokio::task::yield_now().await;
    }
}

pub(crate) fn suites(runner: Runner) -> Runner {
    runner.suite(
        Suite::connect("postgres_faults", Fragile::new)
            .without_laws()
            .case("a_restart_between_calls_is_survived", |context| async move {
                let fragile = &context.factory;
                let _turn = fragile.turn.lock().await;
                let storage = fragile.storage(context.target.space(), "").await.unwrap();
                let key = Key::new("k").unwrap();
                storage.write(&key, Bytes::from_static(b"before")).await.unwrap();
                fragile.server.kill().await.unwrap();
                let down = ends(storage.read(&key)).await.fails(ErrorKind::Unavailable, "the server is down");
                assert!(down.is_retryable());
                let down = ends(storage.write(&key, Bytes::new())).await;
                assert!(down.fails(ErrorKind::Unavailable, "the server is down").is_retryable());
                fragile.server.start().await.unwrap();
                until("it works again by itself", Duration::from_secs(20), || async {
                    match ends(storage.read(&key)).await {
                        Ok(record) => {
                            assert_eq!(&record.unwrap().value[..], b"before");
                            true
                        }
                        Err(error) => {
                            assert!(error.is_retryable(), "{error:?}");
                            false
                        }
                    }
                })
                .await;
                storage.write(&key, Bytes::from_static(b"after")).await.unwrap();
                storage.close().await.unwrap();
            })
            .case("a_kill_under_load_loses_no_acknowledged_write", |context| async move {
                let fragile = &context.factory;
                let _turn = fragile.turn.lock().await;
                let storage = fragile.storage(context.target.space(), "").await.unwrap();
                let stop = Arc::new(AtomicBool::new(false));
                let written = Arc::new(AtomicUsize::new(0));
                let failed = Arc::new(AtomicUsize::new(0));
                let tasks: Vec<_> = (0..16)
                    .map(|task| {
                        let storage = storage.clone();
                        let (stop, written, failed) = (stop.clone(), written.clone(), failed.clone());
                        tokio::spawn(async move {
                            let mut acknowledged = Vec::new();
                            for number in 0.. {
                                if stop.load(Ordering::Relaxed) {
                                    break;
                                }
                                let key = Key::new(format!("{task}:{number}")).unwrap();
                                let value = Bytes::from(format!("{number}"));
                                match ends(storage.write(&key, value)).await {
                                    Ok(_) => {
                                        written.fetch_add(1, Ordering::Relaxed);
                                        acknowledged.push(key);
                                    }
                                    Err(error) => {
                                        assert!(error.is_retryable(), "{error:?}");
                                        failed.fetch_add(1, Ordering::Relaxed);
                                        tokio::task::yield_now().await;
                                    }
                                }
                            }
                            acknowledged
                        })
                    })
                    .collect();
                for _ in 0..3 {
                    let before = written.load(Ordering::Relaxed);
                    until("the load is under way", Duration::from_secs(30), || async {
                        written.load(Ordering::Relaxed) > before + 500
                    })
                    .await;
                    let failures = failed.load(Ordering::Relaxed);
                    fragile.server.kill().await.unwrap();
                    until("the load has noticed", Duration::from_secs(30), || async {
                        failed.load(Ordering::Relaxed) > failures
                    })
                    .await;
                    fragile.server.start().await.unwrap();
                }
                let before = written.load(Ordering::Relaxed);
                until("the load goes on", Duration::from_secs(30), || async {
                    written.load(Ordering::Relaxed) > before + 500
                })
                .await;
                stop.store(true, Ordering::Relaxed);
                let mut acknowledged = Vec::new();
                for task in tasks {
                    acknowledged.extend(task.await.unwrap());
                }
                let found = storage.read_many(&acknowledged, &ReadOptions::new()).await;
                let missing = found.into_iter().filter(|record| record.as_ref().unwrap().is_none()).count();
                assert_eq!(missing, 0, "of {} acknowledged writes", acknowledged.len());
                storage.close().await.unwrap();
            })
            .case("batches_report_the_right_outcome_when_the_server_is_killed", |context| async move {
                let fragile = &context.factory;
                let _turn = fragile.turn.lock().await;
                let table = context.target.space();
                let storage = fragile.storage(table, "").await.unwrap();
                let names: Vec<Key> = (0..20).map(|number| Key::new(format!("{number}")).unwrap()).collect();
                let batches = AtomicUsize::new(0);
                let deaths = AtomicUsize::new(0);
                let load = async {
                    let (mut unknown, mut before) = (0_usize, seen(&storage, &names).await);
                    let mut round = 0;
                    while deaths.load(Ordering::Relaxed) < 3 {
                        round += 1;
                        let changes = names.iter().zip(&before).enumerate().map(|(at, (key, record))| {
                            let key = key.clone();
                            let put = |key| Change::put(key, format!("{round}"), Expiry::Never);
                            match record {
                                None => put(key).on(Condition::Absent),
                                Some(_) if (at + round) % 5 == 0 => Change::delete(key),
                                Some(record) => put(key).on(Condition::unchanged(record.version.clone())),
                            }
                        });
                        let results = ends(storage.apply(changes.collect())).await;
                        let after = seen(&storage, &names).await;
                        let version =
                            |record: &Option<Record>| record.as_ref().and_then(|r| r.version.clone());
                        for (at, result) in results.into_iter().enumerate() {
                            let changed = version(&before[at]) != version(&after[at]);
                            let Err(error) = result else {
                                assert!(changed, "applied, and yet it has not happened");
                                continue;
                            };
                            assert!(error.is_retryable(), "{error}");
                            let is_unknown = error.outcome() == Outcome::Unknown;
                            assert!(is_unknown || !changed, "not applied, and yet it has happened: {error}");
                            unknown += usize::from(is_unknown);
                        }
                        before = after;
                        batches.fetch_add(1, Ordering::Relaxed);
                    }
                    unknown
                };
                let killer = async {
                    let under_way = || async {
                        let before = batches.load(Ordering::Relaxed);
                        until("the load is under way", Duration::from_secs(30), || async {
                            batches.load(Ordering::Relaxed) > before + 50
                        })
                        .await;
                    };
                    for _ in 0..2 {
                        under_way().await;
                        fragile.server.kill().await.unwrap();
                        fragile.server.start().await.unwrap();
                        deaths.fetch_add(1, Ordering::Relaxed);
                    }
                    // Again, and certainly during a batch: it waits for a lock. Its statements are
                    // already prepared, because the server would wait for the lock to do that.
                    under_way().await;
                    let admin = Admin::connect(fragile.server.url()).await;
                    admin.run(&format!("BEGIN; LOCK TABLE \"{table}\" IN SHARE MODE")).await;
                    let watch = Admin::connect(fragile.server.url()).await;
                    until("a batch waits for the lock", Duration::from_secs(30), || async {
                        let sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
                        watch.count(sql, &[]).await > 0
                    })
                    .await;
                    fragile.server.kill().await.unwrap();
                    deaths.fetch_add(1, Ordering::Relaxed);
                    fragile.server.start().await.unwrap();
                };
                let (unknown, ()) = futures_util::join!(load, killer);
                assert!(unknown > 0, "the last batch was under way");
                storage.close().await.unwrap();
            })
            .case("a_silent_server_is_a_timeout", |context| async move {
                let fragile = &context.factory;
                let _turn = fragile.turn.lock().await;
                let storage = fragile.storage(context.target.space(), "").await.unwrap();
                storage.close().await.unwrap();
                let url = with_options(
                    fragile.server.url(),
                    &format!("table={}&timeout=1s&connect_timeout=5s", context.target.space()),
                );
                let storage = larder_postgres::connect(&url).await.unwrap();
                let key = Key::new("k").unwrap();
                storage.write(&key, Bytes::from_static(b"x")).await.unwrap();
                fragile.server.pause().await.unwrap();
                for _ in 0..3 {
                    let (read, write) = ends(async {
                        futures_util::join!(
                            storage.read(&key).into_future(),
                            storage.write(&key, Bytes::from_static(b"y")).into_future()
                        )
                    })
                    .await;
                    drop(read.fails(ErrorKind::Timeout, "nothing answers"));
                    drop(write.fails(ErrorKind::Timeout, "nothing answers"));
                }
                fragile.server.resume().await.unwrap();
                until("it works again by itself", Duration::from_secs(20), || async {
                    ends(storage.write(&key, Bytes::from_static(b"z"))).await.is_ok()
                })
                .await;
                assert_eq!(&storage.read(&key).await.unwrap().unwrap().value[..], b"z");
                storage.close().await.unwrap();
            }),
    )
}
