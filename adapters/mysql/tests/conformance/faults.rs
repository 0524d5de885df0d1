//! A server that is killed or silent.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use larder_core::{Change, Condition, ErrorKind, Expiry, Outcome, ReadOptions, Record, Result, Store};
use larder_test_servers::{Kind, Server};
use larder_testkit::{Context, Fails, Missing, Must, Runner, Suite, Writers, until};

use crate::{
    admin::Admin,
    place::{Place, holds, key, missing},
};

const PATIENCE: Duration = Duration::from_secs(30);

/// A server for one case, which may kill it.
async fn private(context: &Context<Place>, timeout: &str) -> (Server, Store) {
    let server = Kind::Mariadb.private().await.must("start a server");
    let options = format!("table={}&timeout={timeout}", context.target.space());
    let storage = Place::of(&server, "").storage(&options).await;
    (server, storage)
}

/// The entries, after the server is back.
async fn seen(storage: &Store, keys: &[larder_core::Key]) -> Vec<Option<Record>> {
    loop {
        let found = storage.read_many(keys, &ReadOptions::new()).await;
        match found.into_iter().collect::<Result<Vec<_>>>() {
            Ok(found) => return found,
            Err(error) => assert!(error.is_retryable(), "{error}"),
        }
        tokio::task::yield_now().await;
    }
}

pub(crate) fn suites(runner: Runner) -> Runner {
    let suite = Suite::connect("mariadb_faults", || async {
        if std::env::var_os(Kind::Mariadb.url_variable()).is_some() {
            return Err(Missing::new("the server from the environment is not ours to stop", false));
        }
        Kind::Mariadb.shared().await.map(|server| Place::of(&server, "")).map_err(missing)
    });
    runner.suite(
        suite
            .without_laws()
            .case("a_restart_between_calls_is_survived", |context| async move {
                let (server, storage) = private(&context, "5s").await;
                storage.write(key("k"), "before").await.unwrap();
                server.kill().await.unwrap();
                for _ in 0..3 {
                    let down =
                        storage.read(key("k")).await.fails(ErrorKind::Unavailable, "the server is down");
                    assert!(down.is_retryable());
                    let down = storage.write(key("k"), "x").await;
                    assert!(down.fails(ErrorKind::Unavailable, "the server is down").is_retryable());
                }
                server.start().await.unwrap();
                until("it works again by itself", PATIENCE, || async {
                    match storage.read(key("k")).await {
                        Ok(record) => record.unwrap().value == "before",
                        Err(error) => {
                            assert!(error.is_retryable(), "{error:?}");
                            false
                        }
                    }
                })
                .await;
                storage.write(key("k"), "after").await.unwrap();
                storage.close().await.unwrap();
            })
            .case("a_kill_under_load_loses_no_acknowledged_write", |context| async move {
                let (server, storage) = private(&context, "5s").await;
                let kill = || async { server.kill().await.must("kill the server") };
                let start = || async { server.start().await.must("start the server") };
                Writers::start(storage, 16).kill_and_restart(3, 20, kill, start).await;
            })
            .case("batches_report_the_right_outcome_when_the_server_is_killed", |context| async move {
                let (server, storage) = private(&context, "5s").await;
                let keys: Vec<_> = (0..20).map(key).collect();
                let (batches, deaths) = (AtomicUsize::new(0), AtomicUsize::new(0));
                let load = async {
                    let (mut round, mut before) = (0, seen(&storage, &keys).await);
                    while deaths.load(Ordering::Relaxed) < 3 {
                        round += 1;
                        let changes = keys.iter().zip(&before).enumerate().map(|(at, (key, record))| {
                            let put = Change::put(key.clone(), format!("{round}"), Expiry::Never);
                            match record {
                                None => put.on(Condition::Absent),
                                Some(_) if (at + round) % 5 == 0 => Change::delete(key.clone()),
                                Some(record) => put.on(Condition::unchanged(record.version.clone())),
                            }
                        });
                        let results = storage.apply(changes.collect()).await;
                        let after = seen(&storage, &keys).await;
                        let version =
                            |record: &Option<Record>| record.as_ref().and_then(|r| r.version.clone());
                        for (at, result) in results.into_iter().enumerate() {
                            let changed = version(&before[at]) != version(&after[at]);
                            let Err(error) = result else {
                                assert!(changed, "applied, and yet it has not happened");
                                continue;
                            };
                            assert!(error.is_retryable(), "{error}");
                            let lie = changed && error.outcome() == Outcome::NotApplied;
                            assert!(!lie, "not applied, and yet it has happened: {error}");
                        }
                        before = after;
                        batches.fetch_add(1, Ordering::Relaxed);
                    }
                };
                let killer = async {
                    for _ in 0..3 {
                        let before = batches.load(Ordering::Relaxed);
                        until("the load is under way", PATIENCE, || async {
                            batches.load(Ordering::Relaxed) > before + 30
                        })
                        .await;
                        server.kill().await.unwrap();
                        server.start().await.unwrap();
                        deaths.fetch_add(1, Ordering::Relaxed);
                    }
                };
                tokio::join!(load, killer);
                storage.close().await.unwrap();
            })
            .case("a_silent_server_is_a_timeout", |context| async move {
                let (server, storage) = private(&context, "1s&connect_timeout=5s").await;
                storage.write(key("k"), "x").await.unwrap();
                server.pause().await.unwrap();
                for _ in 0..3 {
                    let read = storage.read(key("k")).into_future();
                    let (read, write) = tokio::join!(read, storage.write(key("k"), "y").into_future());
                    drop(read.fails(ErrorKind::Timeout, "nothing answers"));
                    assert!(write.fails(ErrorKind::Timeout, "nothing answers").is_retryable());
                }
                server.resume().await.unwrap();
                until("it works again by itself", PATIENCE, || async {
                    storage.write(key("k"), "z").await.is_ok()
                })
                .await;
                holds(&storage, "k", Some("z")).await;
                storage.close().await.unwrap();
            })
            .case("a_full_server_is_unavailable", |context| async move {
                let server =
                    Kind::Mariadb.private_with(&["--max-connections=10"]).await.must("start a server");
                let storage =
                    Place::of(&server, "").storage(&format!("table={}", context.target.space())).await;
                storage.write(key("k"), "x").await.unwrap();
                let mut others = Vec::new();
                // One connection is reserved for users with every privilege, such as this one.
                for _ in 0..10 {
                    others.push(Admin::connect(server.url()).await);
                }
                let error = Place::of(&server, "").builder("").connect().await;
                let error = error.fails(ErrorKind::Unavailable, "too many connections");
                assert!(error.message().contains("pool_size"), "{error}");
                drop(others);
                holds(&storage, "k", Some("x")).await;
            }),
    )
}
