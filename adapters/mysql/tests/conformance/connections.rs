//! Connections: the pool of the caller, its log, broken and dropped ones.

use std::{
    io,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures_util::TryStreamExt;
use larder_core::{Change, Condition, ErrorKind, Expiry, ReadOptions};
use larder_mysql::{
    Config,
    sqlx::{
        self, ConnectOptions, MySqlPool,
        mysql::{MySqlConnectOptions, MySqlPoolOptions},
    },
};
use larder_testkit::{Fails, Runner, race, until};
use tokio::time::{Instant, sleep, timeout};
use tracing_subscriber::filter::LevelFilter;

use crate::place::{Place, holds, key, suite};

const PATIENCE: Duration = Duration::from_secs(10);

/// Everything that sqlx logs while this binary runs.
static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Log;

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.lock().unwrap_or_else(PoisonError::into_inner).extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Begins to record the log.
pub(crate) fn record_log() {
    tracing_subscriber::fmt().with_max_level(LevelFilter::DEBUG).with_writer(|| Log).init();
}

/// Returns the lines of the log that contain a text.
fn logged(text: &str) -> Vec<String> {
    let log = LOG.lock().unwrap_or_else(PoisonError::into_inner);
    let log = String::from_utf8_lossy(&log);
    log.lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
}

async fn pool(place: &Place, size: u32) -> MySqlPool {
    MySqlPoolOptions::new().max_connections(size).connect(place.bare_url()).await.unwrap()
}

pub(crate) fn suites(runner: Runner) -> Runner {
    runner.suite(
        suite("mariadb_connections", "")
            .without_laws()
            .case("the_pool_of_the_caller_stays_open", |context| async move {
                let pool = pool(&context.factory, 1).await;
                let config = Config::new().table(context.target.space());
                let storage = config.connect_with(pool.clone()).await.unwrap();
                for _ in 0..20 {
                    storage.write(key("k"), "x").await.unwrap();
                    holds(&storage, "k", Some("x")).await;
                    // Between calls, the store holds no connection.
                    drop(pool.acquire().await.unwrap());
                }
                let clone = storage.clone();
                storage.close().await.unwrap();
                storage.close().await.unwrap();
                drop(clone.read(key("k")).await.fails(ErrorKind::Closed, "closed through another clone"));
                assert_eq!(sqlx::query_scalar::<_, i64>("SELECT 1").fetch_one(&pool).await.unwrap(), 1);
            })
            .case("a_pool_without_autocommit_is_rejected", |context| async move {
                let options = MySqlPoolOptions::new().after_connect(|connection, _| {
                    Box::pin(async move {
                        sqlx::raw_sql("SET autocommit = 0").execute(connection).await.map(drop)
                    })
                });
                let pool = options.connect(context.factory.bare_url()).await.unwrap();
                let config = Config::new().table(context.target.space());
                let error = config.connect_with(pool).await.fails(ErrorKind::InvalidConfig, "autocommit");
                assert!(error.message().contains("autocommit"), "{error}");
                let sql = format!("SHOW TABLES LIKE '{}'", context.target.space());
                assert!(context.factory.admin().await.rows(sql).await.is_empty());
            })
            .case("logged_statements_contain_no_keys_and_values", |context| async move {
                let (place, table) = (&context.factory, context.target.space());
                let options: MySqlConnectOptions = place.bare_url().parse().unwrap();
                // As a slow statement, too.
                let slow = options.log_slow_statements("warn".parse().unwrap(), Duration::ZERO);
                let pool = MySqlPoolOptions::new().connect_with(slow).await.unwrap();
                for group_commit in [true, false] {
                    let config = Config::new().table(table).group_commit(group_commit);
                    let storage = config.connect_with(pool.clone()).await.unwrap();
                    let secret = |number| key(format!("hunter2-key-{number}"));
                    storage.write(secret(1), "hunter2-value").await.unwrap();
                    let put = |number| Change::put(secret(number), "hunter2-value", Expiry::after_secs(60));
                    for changes in [
                        vec![put(1), put(2), put(3)],
                        vec![
                            put(1).on(Condition::Present),
                            put(4),
                            Change::delete(secret(2)),
                            Change::touch(secret(3), Expiry::Never),
                        ],
                    ] {
                        for applied in storage.apply(changes).await {
                            drop(applied.unwrap());
                        }
                    }
                    storage.write(secret(1), "hunter2-value").if_absent().await.unwrap_err();
                    assert!(storage.read(secret(1)).touching(Expiry::Never).await.unwrap().is_some());
                    let found = storage.read_many(&[secret(1), secret(3)], &ReadOptions::new()).await;
                    assert!(found.iter().all(|record| record.as_ref().unwrap().is_some()));
                    let keys: Vec<_> = storage.keys("hunter2").try_collect().await.unwrap();
                    assert_eq!(keys.len(), 3);
                    assert_eq!(storage.clear("hunter2").await.unwrap(), 3);
                }
                let lines = logged(table);
                for word in ["SELECT", "INSERT", "UPDATE", "DELETE", "WARN"] {
                    assert!(lines.iter().any(|line| line.contains(word)), "{word}");
                }
                for secret in ["hunter2-key", "hunter2-value"] {
                    // Also as the driver prints bytes.
                    let bytes = format!("{:?}", secret.as_bytes());
                    let bytes = bytes.trim_matches(['[', ']']);
                    assert!(logged(secret).is_empty() && logged(bytes).is_empty(), "{secret} is in the log");
                }
            })
            .case("own_connections_log_no_statements", |context| async move {
                let table = context.target.space();
                let handle = context.target.open().await;
                handle.write(key("k"), "x").await.unwrap();
                assert!(!logged(table).iter().any(|line| line.contains("sqlx")));
            })
            .case("connections_that_the_server_ends_are_replaced", |context| async move {
                let space = context.target.space();
                let place = context.factory.own_database(space).await;
                let storage = place.storage("").await;
                let admin = context.factory.admin().await;
                for round in 0..5 {
                    let value = round.to_string();
                    // Failures until then are retryable.
                    until("a write works again", PATIENCE, || async {
                        match storage.write(key("k"), value.clone()).await {
                            Ok(_) => true,
                            Err(error) => {
                                assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
                                false
                            }
                        }
                    })
                    .await;
                    holds(&storage, "k", Some(&value)).await;
                    assert!(admin.end_connections_of(space).await > 0);
                    if round % 2 == 0 {
                        // Only one read fails; then all connections are checked.
                        drop(storage.read(key("k")).await.fails(ErrorKind::Unavailable, "ended"));
                        holds(&storage, "k", Some(&value)).await;
                    }
                }
                storage.close().await.unwrap();
                until("all connections are closed", PATIENCE, || async {
                    admin.connections_of(space).await == 0
                })
                .await;
            })
            .case("many_calls_share_few_connections", |context| async move {
                let space = context.target.space();
                let place = context.factory.own_database(space).await;
                let admin = context.factory.admin().await;
                for size in [1, 2] {
                    let storage = place.storage(&format!("pool_size={size}")).await;
                    race(200, |number| {
                        let storage = storage.clone();
                        async move {
                            let name = number.to_string();
                            for _ in 0..3 {
                                storage.write(key(&name), name.clone()).await.unwrap();
                                holds(&storage, &name, Some(&name)).await;
                            }
                        }
                    })
                    .await;
                    assert!(admin.connections_of(space).await <= size);
                    drop(storage);
                    until("all connections are closed", PATIENCE, || async {
                        admin.connections_of(space).await == 0
                    })
                    .await;
                }
            })
            .case("the_timeout_includes_the_wait_for_a_connection", |context| async move {
                let space = context.target.space();
                let place = context.factory.own_database(space).await;
                let storage = place.storage("pool_size=1&timeout=2s&group_commit=false").await;
                storage.write(key("k"), "old").await.unwrap();
                let admin = context.factory.admin().await;
                admin.run(format!("BEGIN; SELECT * FROM `{space}`.larder FOR UPDATE")).await;
                let write = async |delay| {
                    sleep(delay).await;
                    let begun = Instant::now();
                    let error = storage.write(key("k"), "new").await.expect_err("the row is locked");
                    assert!(error.is_retryable(), "{error}");
                    begun.elapsed()
                };
                let (first, second) = tokio::join!(write(Duration::ZERO), write(Duration::from_secs(1)));
                for time in [first, second] {
                    let right = Duration::from_millis(900)..Duration::from_millis(2_800);
                    assert!(right.contains(&time), "{time:?}");
                }
                // Then the changes are cancelled.
                admin.until_locked(space, 0).await;
                admin.run("COMMIT").await;
                holds(&storage, "k", Some("old")).await;
                storage.close().await.unwrap();
            })
            .case("calls_dropped_at_a_lock_do_not_delay_others", |context| async move {
                const POOL_SIZE: u32 = 3;
                let space = context.target.space();
                let place = context.factory.own_database(space).await;
                let storage = place.storage(&format!("pool_size={POOL_SIZE}&group_commit=false")).await;
                storage.write(key("locked"), "x").await.unwrap();
                let admin = context.factory.admin().await;
                let lock = format!("SELECT * FROM `{space}`.larder WHERE `key` = 'locked' FOR UPDATE");
                admin.run(format!("BEGIN; {lock}")).await;
                for _ in 0..2 * POOL_SIZE {
                    let delete = storage.delete(key("locked")).into_future();
                    assert!(timeout(Duration::from_millis(50), delete).await.is_err(), "the row is locked");
                }
                // Far less than the timeout of a statement.
                let others = async {
                    for number in 0..20 {
                        let value = number.to_string();
                        storage.write(key("free"), value.clone()).await.unwrap();
                        holds(&storage, "free", Some(&value)).await;
                        holds(&storage, "locked", Some("x")).await;
                    }
                };
                timeout(PATIENCE, others).await.expect("other keys do not wait for the lock");
                admin.run("COMMIT").await;
                storage.write(key("locked"), "y").await.unwrap();
                holds(&storage, "locked", Some("y")).await;
                assert!(admin.connections_of(space).await <= i64::from(POOL_SIZE));
                storage.close().await.unwrap();
            })
            .case("dropped_calls_do_not_affect_later_ones", |context| async move {
                let (place, table) = (&context.factory, context.target.space());
                for (options, callers) in [
                    ("pool_size=1", false),
                    ("pool_size=3&group_commit=false", false),
                    ("group_commit=false", true),
                ] {
                    let config = place.builder(&format!("table={table}&{options}"));
                    let storage = match callers {
                        true => config.connect_with(pool(place, 2).await).await.unwrap(),
                        false => config.connect().await.unwrap(),
                    };
                    for round in 0..200_u32 {
                        let wait = Duration::from_micros(u64::from(round * 37 % 1_500));
                        let (dropped, own) = (key(format!("dropped {}", round % 3)), round.to_string());
                        drop(match round % 4 {
                            0 => timeout(wait, storage.write(&dropped, "late").into_future()).await.map(drop),
                            1 => timeout(wait, storage.read(&dropped).into_future()).await.map(drop),
                            2 => {
                                let changes = vec![
                                    Change::delete(dropped.clone()),
                                    Change::touch(key("k"), Expiry::Never),
                                ];
                                timeout(wait, storage.apply(changes)).await.map(drop)
                            }
                            _ => timeout(wait, storage.keys("").try_collect::<Vec<_>>()).await.map(drop),
                        });
                        storage.write(key("k"), own.clone()).await.unwrap();
                        holds(&storage, "k", Some(&own)).await;
                        let found = storage.read_many(&[key("k"), key("none")], &ReadOptions::new()).await;
                        let found: Vec<_> = found
                            .into_iter()
                            .map(|record| record.unwrap().map(|record| record.value))
                            .collect();
                        assert_eq!(found, [Some(own.into()), None], "round {round}");
                    }
                    storage.close().await.unwrap();
                }
            })
            .case("a_storage_works_after_its_runtime_has_ended", |context| async move {
                let (place, table) = (&context.factory, context.target.space());
                // The connections belong to the runtime that opened them.
                let storage = tokio::task::block_in_place(|| {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                    runtime.block_on(async {
                        let storage = place.storage(&format!("table={table}")).await;
                        storage.write(key("k"), "1").await.unwrap();
                        storage
                    })
                });
                until("a write works", PATIENCE, || async {
                    match storage.write(key("k"), "2").await {
                        Ok(_) => true,
                        Err(error) => {
                            assert!(error.is_retryable(), "{error:?}");
                            false
                        }
                    }
                })
                .await;
                holds(&storage, "k", Some("2")).await;
                storage.close().await.unwrap();
            }),
    )
}
