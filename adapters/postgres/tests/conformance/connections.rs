//! Connections: the pool of the caller, broken connections, shared connections.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use larder_core::{Bytes, ErrorKind, Key, Outcome};
use larder_postgres::{
    Config,
    deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod},
    tokio_postgres::{self, NoTls},
};
use larder_testkit::{Fails, Runner, until};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    time::{Instant, sleep, timeout},
};

use crate::place::suite;

fn pool(url: &str, size: usize) -> Pool {
    let config: tokio_postgres::Config = url.parse().unwrap();
    let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    Pool::builder(Manager::from_config(config, NoTls, recycling)).max_size(size).build().unwrap()
}

/// An address that leads to `server` after a delay.
async fn slow_way(server: &str, delay: Duration) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = server.to_owned();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let server = server.clone();
            tokio::spawn(async move {
                sleep(delay).await;
                let mut server = TcpStream::connect(server).await?;
                copy_bidirectional(&mut client, &mut server).await
            });
        }
    });
    address
}

pub(crate) fn suites(runner: Runner) -> Runner {
    runner.suite(
        suite("postgres_connections", "")
            .without_laws()
            .case("the_pool_of_the_caller_stays_open", |context| async move {
                let pool = pool(context.factory.bare_url(), 2);
                let config = Config::new().table(context.target.space());
                let storage = config.connect_with(pool.clone()).await.unwrap();
                let key = Key::new("k").unwrap();
                storage.write(&key, Bytes::from_static(b"x")).await.unwrap();
                let clone = storage.clone();
                storage.close().await.unwrap();
                storage.close().await.unwrap();
                drop(clone.read(&key).await.fails(ErrorKind::Closed, "closed through another clone"));
                let client = pool.get().await.unwrap();
                assert_eq!(client.query_one("SELECT 1", &[]).await.unwrap().get::<_, i32>(0), 1);
                // The store holds none of its connections.
                let other = pool.get().await.unwrap();
                drop((client, other));
            })
            .case("connections_of_the_caller_are_returned_between_calls", |context| async move {
                let pool = pool(context.factory.bare_url(), 1);
                let storage =
                    Config::new().table(context.target.space()).connect_with(pool.clone()).await.unwrap();
                let key = Key::new("k").unwrap();
                for _ in 0..20 {
                    storage.write(&key, Bytes::from_static(b"x")).await.unwrap();
                    assert!(storage.read(&key).await.unwrap().is_some());
                    drop(pool.get().await.unwrap());
                }
                storage.close().await.unwrap();
            })
            .case("deallocated_statements_are_prepared_again", |context| async move {
                let pool = pool(context.factory.bare_url(), 1);
                let storage =
                    Config::new().table(context.target.space()).connect_with(pool.clone()).await.unwrap();
                let key = Key::new("k").unwrap();
                storage.write(&key, Bytes::from_static(b"x")).await.unwrap();
                pool.get().await.unwrap().batch_execute("DEALLOCATE ALL").await.unwrap();
                storage.write(&key, Bytes::from_static(b"y")).await.unwrap();
                assert_eq!(&storage.read(&key).await.unwrap().unwrap().value[..], b"y");
                storage.close().await.unwrap();
            })
            .case("the_timeout_includes_the_wait_for_a_connection", |context| async move {
                let table = context.target.space().to_owned();
                let options = format!("table={table}&pool_size=1&timeout=2s&group_commit=false");
                let storage = context.factory.storage(&options).await;
                let key = Key::new("k").unwrap();
                storage.write(&key, "old").await.unwrap();
                let admin = context.factory.admin().await;
                admin.run(&format!("BEGIN; SELECT * FROM \"{table}\" FOR UPDATE")).await;
                let write = async |delay| {
                    sleep(delay).await;
                    let begun = Instant::now();
                    let error =
                        storage.write(&key, "new").await.fails(ErrorKind::Timeout, "the row is locked");
                    (begun.elapsed(), error.outcome())
                };
                // The second call waits a second for the connection, and then a second for the lock.
                let second = Duration::from_secs(1);
                let (first, second) = futures_util::join!(write(Duration::ZERO), write(second));
                for (time, outcome) in [first, second] {
                    assert_eq!(outcome, Outcome::Unknown);
                    assert!(
                        time > Duration::from_millis(1_900) && time < Duration::from_millis(2_800),
                        "{time:?}"
                    );
                }
                admin.run("COMMIT").await;
                storage.close().await.unwrap();
            })
            .case("a_slow_connection_serves_a_later_call", |context| async move {
                let table = context.target.space().to_owned();
                let application = format!("{table}-slow");
                let address = slow_way(context.factory.server(), Duration::from_secs(1)).await;
                let options =
                    format!("table={table}&pool_size=1&timeout=300ms&application_name={application}");
                let storage = context.factory.at(&address).storage(&options).await;
                let key = Key::new("k").unwrap();
                assert!(storage.read(&key).await.unwrap().is_none());
                assert!(context.factory.admin().await.end_connections_of(&application).await > 0);
                until("a read finds a connection", Duration::from_secs(10), || async {
                    storage.read(&key).await.is_ok()
                })
                .await;
                storage.close().await.unwrap();
            })
            .case("many_calls_share_few_connections", |context| async move {
                let table = context.target.space().to_owned();
                let application = format!("{table}-crowd");
                let storage = context
                    .factory
                    .storage(&format!("table={table}&pool_size=2&application_name={application}"))
                    .await;
                let keys: Vec<Key> = (0..300).map(|number| Key::new(format!("{number}")).unwrap()).collect();
                let value = |key: &Key| Bytes::copy_from_slice(key.as_bytes());
                let writes = keys.iter().map(|key| storage.write(key, value(key)).into_future());
                for written in futures_util::future::join_all(writes).await {
                    written.unwrap();
                }
                // Each call gets its own answer, although they are sent together.
                for _ in 0..5 {
                    let reads = futures_util::future::join_all(
                        keys.iter().map(|key| storage.read(key).into_future()),
                    )
                    .await;
                    for (key, read) in keys.iter().zip(reads) {
                        assert_eq!(&read.unwrap().unwrap().value[..], key.as_bytes());
                    }
                }
                let admin = context.factory.admin().await;
                assert!(admin.connections_of(&application).await <= 2);
                // Dropping some calls does not affect the others.
                for round in 0..20 {
                    let reads = keys.iter().enumerate().map(|(at, key)| {
                        let storage = &storage;
                        async move {
                            if at % 3 == round % 3 {
                                larder_testkit::abandon(storage.read(key).into_future(), round % 7).await;
                                return;
                            }
                            assert_eq!(&storage.read(key).await.unwrap().unwrap().value[..], key.as_bytes());
                        }
                    });
                    futures_util::future::join_all(reads).await;
                }
                storage.close().await.unwrap();
                until("all connections are closed", Duration::from_secs(5), || async {
                    admin.connections_of(&application).await == 0
                })
                .await;
            })
            .case("reads_and_writes_alternate_on_one_connection", |context| async move {
                let table = context.target.space().to_owned();
                let storage = context.factory.storage(&format!("table={table}&pool_size=1&timeout=5s")).await;
                let keys: Vec<Key> = (0..10).map(|number| Key::new(format!("{number}")).unwrap()).collect();
                for key in &keys {
                    storage.write(key, "x").await.unwrap();
                }
                let written = Arc::new(AtomicUsize::new(0));
                let readers = (0..8).map(|task| {
                    let (storage, key, written) = (storage.clone(), keys[task].clone(), written.clone());
                    tokio::spawn(async move {
                        let mut read = 0;
                        // At least one read is always running.
                        while written.load(Ordering::Relaxed) < 200 {
                            assert!(storage.read(&key).await.unwrap().is_some());
                            read += 1;
                        }
                        read
                    })
                });
                let readers: Vec<_> = readers.collect();
                let writers = (8..10).map(|task| {
                    let (storage, key, written) = (storage.clone(), keys[task].clone(), written.clone());
                    tokio::spawn(async move {
                        for number in 0..100 {
                            storage.write(&key, format!("{number}")).await.unwrap();
                            written.fetch_add(1, Ordering::Relaxed);
                        }
                    })
                });
                for writer in futures_util::future::join_all(writers).await {
                    writer.unwrap();
                }
                let mut fewest = usize::MAX;
                for reader in readers {
                    fewest = fewest.min(reader.await.unwrap());
                }
                // At least one read per turn; at most two writes share a turn.
                assert!(fewest >= 50, "a reader has read {fewest} times in a hundred turns");
                storage.close().await.unwrap();
            })
            .case("an_abandoned_statement_does_not_affect_later_ones", |context| async move {
                let table = context.target.space().to_owned();
                let storage = context.factory.storage(&format!("table={table}&pool_size=1&timeout=5s")).await;
                let key = Key::new("k").unwrap();
                storage.write(&key, "x").await.unwrap();
                let admin = context.factory.admin().await;
                for round in 0..60 {
                    // This lock blocks reads, too.
                    admin.run(&format!("BEGIN; LOCK TABLE \"{table}\"")).await;
                    let abandoned = Duration::from_millis(5);
                    assert!(timeout(abandoned, storage.read(&key)).await.is_err(), "the table is locked");
                    // It ends now, or about when it is cancelled after a tenth of a second.
                    sleep(Duration::from_micros(round % 3 * 46_000 + round * 100)).await;
                    let read = storage.read(&key).into_future();
                    let ((), read) = futures_util::join!(admin.run("COMMIT"), read);
                    assert_eq!(&read.unwrap().unwrap().value[..], b"x", "round {round}");
                    for _ in 0..3 {
                        assert!(storage.read(&key).await.unwrap().is_some(), "round {round}");
                    }
                    storage.write(&key, "x").await.unwrap();
                }
                storage.close().await.unwrap();
            })
            .case("an_abandoned_change_does_not_affect_later_ones", |context| async move {
                let table = context.target.space().to_owned();
                let options = format!("table={table}&pool_size=1&timeout=5s&group_commit=false");
                let storage = context.factory.storage(&options).await;
                let key = Key::new("k").unwrap();
                storage.write(&key, "0").await.unwrap();
                let admin = context.factory.admin().await;
                for round in 0..60 {
                    admin.run(&format!("BEGIN; SELECT FROM \"{table}\" FOR UPDATE")).await;
                    let abandoned = Duration::from_millis(5);
                    let write = storage.write(&key, format!("late {round}"));
                    assert!(timeout(abandoned, write).await.is_err(), "the row is locked");
                    sleep(Duration::from_micros(round % 3 * 46_000 + round * 100)).await;
                    let value = format!("{round}");
                    let write = storage.write(&key, value.clone()).into_future();
                    let ((), written) = futures_util::join!(admin.run("COMMIT"), write);
                    written.unwrap();
                    for _ in 0..3 {
                        assert_eq!(storage.read(&key).await.unwrap().unwrap().value, value);
                    }
                }
                storage.close().await.unwrap();
            })
            .case("a_dropped_storage_leaves_no_connection", |context| async move {
                let table = context.target.space().to_owned();
                let application = format!("{table}-dropped");
                let storage =
                    context.factory.storage(&format!("table={table}&application_name={application}")).await;
                storage.write(Key::new("k").unwrap(), Bytes::new()).await.unwrap();
                let admin = context.factory.admin().await;
                assert!(admin.connections_of(&application).await > 0);
                drop(storage);
                until("all connections are closed", Duration::from_secs(5), || async {
                    admin.connections_of(&application).await == 0
                })
                .await;
            })
            .case("connections_that_the_server_ends_are_replaced", |context| async move {
                let table = context.target.space().to_owned();
                let application = format!("{table}-ended");
                let storage =
                    context.factory.storage(&format!("table={table}&application_name={application}")).await;
                let key = Key::new("k").unwrap();
                let admin = context.factory.admin().await;
                for round in 0..5_u8 {
                    let value = Bytes::from(vec![round]);
                    // Failures until then are retryable.
                    until("a write works again", Duration::from_secs(10), || async {
                        match storage.write(&key, value.clone()).await {
                            Ok(_) => true,
                            Err(error) => {
                                assert!(error.is_retryable(), "{error:?}");
                                false
                            }
                        }
                    })
                    .await;
                    assert_eq!(storage.read(&key).await.unwrap().unwrap().value, value);
                    assert!(admin.end_connections_of(&application).await > 0);
                }
                storage.close().await.unwrap();
            }),
    )
}
