//! Fenced connections, and the permissions that they need.

use std::time::Duration;

use larder_core::{Bytes, ErrorKind, Key, Store};
use larder_postgres::{
    Config,
    deadpool_postgres::{Manager, Pool},
    tokio_postgres::{self, NoTls},
};
use larder_test_servers::{Kind, Relay};
use larder_testkit::{Factory, Fails, Line, Runner, until};

use crate::place::{Place, suite, suite_on};

const PATIENCE: Duration = Duration::from_secs(20);

fn key() -> Key {
    Key::new("k").unwrap()
}

async fn write(storage: &Store, text: &'static str) -> larder_core::Result<()> {
    storage.write(key(), Bytes::from_static(text.as_bytes())).await.map(drop)
}

async fn holds(storage: &Store, text: &str) {
    assert_eq!(&storage.read(key()).await.unwrap().unwrap().value[..], text.as_bytes());
}

/// A new database, and a new user with the right to create tables there. A right to run a function
/// applies to all users of a database.
pub(crate) async fn private(place: &Place, space: &str) -> Place {
    let admin = place.admin().await;
    admin.run(&format!("CREATE DATABASE \"{space}\"")).await;
    admin.run(&format!("CREATE ROLE \"{space}\" LOGIN PASSWORD 'x'")).await;
    admin.run(&format!("ALTER DATABASE \"{space}\" OWNER TO \"{space}\"")).await;
    place.elsewhere(space, space, "x")
}

pub(crate) async fn remove_private(place: &Place, space: &str) {
    let admin = place.admin().await;
    admin.run(&format!("DROP DATABASE \"{space}\" WITH (FORCE)")).await;
    admin.run(&format!("DROP ROLE \"{space}\"")).await;
}

/// Runs `sql`, in which `%s` stands for the function that ends connections.
async fn about_ending(place: &Place, sql: &str) {
    let sql = format!(
        "DO $$ BEGIN EXECUTE (SELECT string_agg(format('{sql}', oid::regprocedure), '; ') FROM pg_proc \
         WHERE proname = 'pg_terminate_backend'); END $$"
    );
    place.admin().await.run(&sql).await;
}

const REVOKE: &str = "REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC";
const GRANT: &str = "GRANT EXECUTE ON FUNCTION %s TO PUBLIC";

pub(crate) fn suites(runner: Runner) -> Runner {
    let direct = suite("postgres_fencing", "group_commit=false")
        .without_laws()
        .case("direct_connections_are_fenced", |context| async move {
            let table = context.target.space();
            let storage = context.factory.storage(&format!("table={table}")).await;
            assert!(storage.info().fenced);
            storage.close().await.unwrap();
            // Also those of a pool of the caller.
            let config: tokio_postgres::Config = context.factory.bare_url().parse().unwrap();
            let pool = Pool::builder(Manager::new(config, NoTls)).max_size(2).build().unwrap();
            let storage = Config::new().table(table).connect_with(pool).await.unwrap();
            assert!(storage.info().fenced);
            storage.close().await.unwrap();
            context.factory.remove(table).await.unwrap();
        })
        .case("a_user_without_permission_to_end_connections_is_not_fenced", |context| async move {
            let space = context.target.space();
            let place = private(&context.factory, space).await;
            let storage = place.storage("").await;
            assert!(storage.info().fenced, "not the owner of the server, and yet of the connection");
            storage.close().await.unwrap();
            about_ending(&place, REVOKE).await;
            let storage = place.storage("").await;
            assert!(!storage.info().fenced);
            write(&storage, "1").await.unwrap();
            holds(&storage, "1").await;
            storage.close().await.unwrap();
            remove_private(&context.factory, space).await;
        })
        .case("a_newer_change_waits_for_the_end_of_the_older_connection", |context| async move {
            let space = context.target.space();
            let place = private(&context.factory, space).await;
            let (storage, line) = place.storage_over_line("").await.unwrap();
            write(&storage, "before").await.unwrap();
            line.hold();
            let late = write(&storage, "late");
            let meanwhile = async {
                until("the write is on its way", PATIENCE, || async { line.held() > 0 }).await;
                // Over a second connection, which is not held up.
                let other = Key::new("other").unwrap();
                storage.write(&other, Bytes::new()).await.unwrap();
                about_ending(&place, REVOKE).await;
            };
            let (late, ()) = futures_util::join!(late, meanwhile);
            drop(late.fails(ErrorKind::Timeout, "it is held back"));
            for _ in 0..2 {
                let error = write(&storage, "newer").await.fails(ErrorKind::Unavailable, "it may come yet");
                assert!(error.is_retryable() && error.message().contains("not applied"), "{error}");
                holds(&storage, "before").await;
            }
            about_ending(&place, GRANT).await;
            write(&storage, "newer").await.unwrap();
            line.release().await;
            holds(&storage, "newer").await;
            storage.close().await.unwrap();
            remove_private(&context.factory, space).await;
        })
        .case("an_unfenced_connection_is_rejected_among_fenced_ones", |context| async move {
            let space = context.target.space();
            let place = private(&context.factory, space).await;
            let storage = place.storage("").await;
            write(&storage, "before").await.unwrap();
            about_ending(&place, REVOKE).await;
            let admin = place.admin().await;
            let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1";
            admin.rows(sql, &[&space]).await;
            until("a new connection is refused", PATIENCE, || async {
                let error = write(&storage, "newer").await.err().unwrap();
                assert!(error.is_retryable() || error.kind() == ErrorKind::InvalidConfig, "{error}");
                error.kind() == ErrorKind::InvalidConfig
            })
            .await;
            let storage = place.storage("").await;
            write(&storage, "newer").await.unwrap();
            storage.close().await.unwrap();
            remove_private(&context.factory, space).await;
        })
        .case("a_different_server_in_between_does_not_end_fencing", |context| async move {
            let table = context.target.space();
            let options = format!("table={table}&application_name={table}-moving");
            let first = &context.factory;
            let second = Kind::Postgres.private().await.expect("another server starts");
            let relay = Relay::to(first.server(), |_| {}).await.unwrap();
            let moving = first.at(&relay.address());
            let (storage, line) = moving.storage_over_line(&options).await.unwrap();
            let second = first.at(Place::server_of(second.url()));
            second.storage(&options).await.close().await.unwrap();
            write(&storage, "before").await.unwrap();
            line.hold();
            drop(write(&storage, "late").await.fails(ErrorKind::Timeout, "it is held back"));
            relay.redirect(second.server());
            write(&storage, "elsewhere").await.unwrap();
            relay.redirect(first.server());
            second.admin().await.end_connections_of(&format!("{table}-moving")).await;
            let watch = first.storage(&format!("table={table}")).await;
            until("the storage is back at the first server", PATIENCE, || async {
                let _ = write(&storage, "newer").await;
                watch.read(key()).await.unwrap().unwrap().value == "newer"
            })
            .await;
            line.release().await;
            holds(&watch, "newer").await;
            storage.close().await.unwrap();
            watch.close().await.unwrap();
            first.remove(table).await.unwrap();
        })
        .case("fencing_does_not_end_other_connections", |context| async move {
            let table = context.target.space();
            let application = format!("{table}-others");
            let more = format!("table={table}&application_name={application}");
            let (storage, line) = context.factory.storage_over_line(&more).await.unwrap();
            let bystander = context.factory.storage(&more).await;
            write(&storage, "before").await.unwrap();
            holds(&bystander, "before").await;
            let admin = context.factory.admin().await;
            let pids = || async {
                let sql = "SELECT pid FROM pg_stat_activity WHERE application_name = $1 ORDER BY pid";
                let rows = admin.rows(sql, &[&application]).await;
                rows.iter().map(|row| row.get::<_, i32>(0)).collect::<Vec<_>>()
            };
            let before = pids().await;
            line.hold();
            drop(write(&storage, "late").await.fails(ErrorKind::Timeout, "it is held back"));
            write(&storage, "newer").await.unwrap();
            let after = pids().await;
            let ended: Vec<i32> = before.iter().filter(|pid| !after.contains(pid)).copied().collect();
            assert_eq!(ended.len(), 1, "{before:?} became {after:?}");
            line.release().await;
            holds(&bystander, "newer").await;
            storage.close().await.unwrap();
            bystander.close().await.unwrap();
            context.factory.remove(table).await.unwrap();
        });
    let pooled = suite_on("postgres_pgbouncer_fencing", Kind::Pgbouncer, "").without_laws().case(
        "connections_through_a_pooler_are_not_fenced",
        |context| async move {
            let table = context.target.space();
            let storage = context.factory.storage(&format!("table={table}")).await;
            assert!(!storage.info().fenced);
            storage.close().await.unwrap();
            context.factory.remove(table).await.unwrap();
        },
    );
    runner.suite(direct).suite(pooled)
}
