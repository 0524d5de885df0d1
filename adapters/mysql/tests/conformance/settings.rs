//! Settings of the server, the pool and the table that must not change an outcome.

use std::{net::SocketAddr, time::Duration};

use larder_core::{Change, Expiry, Key, Store};
use larder_mysql::{
    Config, ValueFormat,
    sqlx::{
        AssertSqlSafe, Connection, Executor, MySqlConnection,
        mysql::{MySqlConnectOptions, MySqlPoolOptions},
        raw_sql,
    },
};
use larder_testkit::{Factory, Runner, until};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::sleep,
};

use crate::place::{Place, suite};

const PATIENCE: Duration = Duration::from_secs(20);

fn key(name: &str) -> Key {
    Key::new(name).unwrap()
}

/// Opens a store on a pool with one connection, which runs `sql` first.
async fn after(sql: &'static str, place: &Place, table: &str) -> larder_core::Result<Store> {
    let pool = MySqlPoolOptions::new()
        .max_connections(1)
        .after_connect(move |connection, _| Box::pin(async move { connection.execute(sql).await.map(drop) }));
    Config::new().table(table).connect_with(pool.connect(&place.url("")).await.unwrap()).await
}

/// Starts a proxy to `server` that delivers each message after `latency`.
async fn distant(server: String, latency: Duration) -> SocketAddr {
    async fn forward(
        mut from: impl AsyncReadExt + Unpin,
        mut to: impl AsyncWriteExt + Unpin,
        latency: Duration,
    ) {
        let mut message = [0; 65_536];
        while let Ok(length @ 1..) = from.read(&mut message).await {
            sleep(latency).await;
            if to.write_all(&message[..length]).await.is_err() {
                break;
            }
        }
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let far = TcpStream::connect(&server).await.unwrap();
            let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
            tokio::spawn(forward(from_near, to_far, latency));
            tokio::spawn(forward(from_far, to_near, latency));
        }
    });
    address
}

pub(crate) fn suites(runner: Runner) -> Runner {
    runner.suite(
        suite("mariadb_settings", "")
            .without_laws()
            .case("json_is_returned_unchanged_whatever_the_character_set_of_the_pool", |context| async move {
                let (place, table) = (&context.factory, context.target.space());
                let options: MySqlConnectOptions = place.url("").parse().unwrap();
                let pool = MySqlPoolOptions::new().connect_with(options.charset("latin1")).await.unwrap();
                let config = Config::new().table(table).values(ValueFormat::Json);
                let storage = config.connect_with(pool).await.unwrap();
                storage.write(key("k"), "\"č😀\"").await.unwrap();
                assert_eq!(storage.read(key("k")).await.unwrap().unwrap().value, "\"č😀\"");
                place.remove(table).await.unwrap();
            })
            .case("a_batch_leaves_no_transaction_open_with_completion_type_chain", |context| async move {
                let (place, table) = (&context.factory, context.target.space());
                let storage = after("SET completion_type = CHAIN", place, table).await.unwrap();
                let changes = vec![Change::put(key("a"), "1", Expiry::Never), Change::delete(key("b"))];
                assert!(storage.apply(changes).await.iter().all(Result::is_ok));
                storage.write(key("c"), "acknowledged").await.unwrap();
                let other = context.target.open().await;
                assert!(other.read(key("c")).await.unwrap().is_some());
                drop(storage);
                place.remove(table).await.unwrap();
            })
            .case("tables_can_be_used_in_the_sql_mode_ansi", |context| async move {
                let (place, table) = (&context.factory, context.target.space());
                let storage = after("SET sql_mode = 'ANSI'", place, table).await.unwrap();
                storage.write(key("k"), "v").await.unwrap();
                place.remove(table).await.unwrap();
            })
            .case("an_insert_succeeds_if_the_table_has_an_auto_increment_column", |context| async move {
                let (place, table) = (&context.factory, context.target.space());
                drop(context.target.open().await);
                let alter = format!("ALTER TABLE `{table}` ADD id BIGINT AUTO_INCREMENT, ADD KEY (id)");
                place.admin().await.run(alter).await;
                let storage = context.target.open().await;
                storage.write(key("k"), "v").if_absent().await.unwrap();
                assert!(storage.write(key("k"), "v").if_absent().await.is_err());
                place.remove(table).await.unwrap();
            })
            .case("the_name_of_a_table_is_not_taken_for_a_key", |context| async move {
                let (place, table) = (&context.factory, format!("{} unique key x", context.target.space()));
                let storage = place.open(&table).await;
                place.remove(&table).await.unwrap();
                storage.unwrap();
            })
            .case("writes_succeed_again_after_many_connections_were_abandoned", |context| async move {
                let (place, table) = (&context.factory, context.target.space());
                let near = context.target.open().await;
                near.write(key("k0"), "v").await.unwrap();
                // A second is too short to end all connections one after the other.
                let address = distant(place.server().to_owned(), Duration::from_millis(10)).await;
                let options = format!("table={table}&group_commit=false&pool_size=32&timeout=1s");
                let url = place.url(&options).replace(place.server(), &address.to_string());
                let storage = larder_mysql::connect(&url).await.unwrap();
                let write_all = async |keys: u32| {
                    let write = async |number: u32| {
                        storage.write(key(&format!("k{}", number % keys)), "w").await.is_ok()
                    };
                    futures_util::future::join_all((0..64).map(write))
                        .await
                        .into_iter()
                        .any(|written| written)
                };
                assert!(write_all(64).await);
                let mut locker = MySqlConnection::connect(&place.url("")).await.unwrap();
                let lock = format!("BEGIN; SELECT 1 FROM `{table}` WHERE `key` = 'k0' FOR UPDATE");
                locker.execute(raw_sql(AssertSqlSafe(lock))).await.unwrap();
                assert!(!write_all(1).await);
                locker.close().await.unwrap();
                until("a write succeeds", PATIENCE, || write_all(64)).await;
                storage.close().await.unwrap();
                place.remove(table).await.unwrap();
            }),
    )
}
