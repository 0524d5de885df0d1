//! The outcome of a change that the server rejected or did not finish.

use larder_core::{Applied, Change, Condition, Error, ErrorKind, Expiry, Outcome, Result, Store};
use larder_mysql::{
    Config,
    sqlx::{self, mysql::MySqlPoolOptions},
};
use larder_test_servers::Kind;
use larder_testkit::{Fails, Runner, Suite};

use crate::{
    admin::Admin,
    place::{Place, holds, key, suite},
};

/// Every kind of change to one key.
fn changes() -> Vec<Change> {
    let put = || Change::put(key("k"), "new", Expiry::Never);
    vec![
        put(),
        put().on(Condition::Absent),
        put().on(Condition::Present),
        Change::delete(key("k")),
        Change::delete(key("k")).on(Condition::Present),
        Change::touch(key("k"), Expiry::after_secs(3600)),
    ]
}

/// The changes fail for this reason and are not applied, each alone and all in one batch.
async fn refuses(storage: &Store, kind: ErrorKind, why: &str) -> String {
    let mut message = String::new();
    let mut refused = |result: Result<Applied>| {
        let error = result.fails(kind, why);
        assert_eq!(error.outcome(), Outcome::NotApplied, "{why}: {error}");
        message = error.message().to_owned();
    };
    for change in changes() {
        storage.apply(vec![change]).await.into_iter().for_each(&mut refused);
    }
    storage.apply(changes()).await.into_iter().for_each(&mut refused);
    let other = Change::put(key("other"), "new", Expiry::Never);
    storage.apply(vec![other, changes().remove(3)]).await.into_iter().skip(1).for_each(&mut refused);
    message
}

async fn holds_old(storage: &Store) {
    holds(storage, "k", Some("old")).await;
    assert_eq!(storage.ttl(key("k")).await.unwrap(), Some(Expiry::Never));
}

pub(crate) fn suites(runner: Runner) -> Runner {
    let replica = Suite::connect("mariadb_replica", || async { Place::on(Kind::MariadbReplica, "").await });
    runner.suite(cases(suite("mariadb_outcomes", "sweep=off").without_laws())).suite(
        replica.without_laws().case("a_replica_can_be_read_and_rejects_changes", |context| async move {
            let (place, table) = (&context.factory, context.target.space());
            let Some(primary) = place.primary() else { return };
            let options = format!("table={table}");
            let storage = primary.storage(&options).await;
            storage.write(key("k"), "old").await.unwrap();
            let admin = Admin::connect(primary.bare_url()).await;
            let position = admin.texts("SELECT @@gtid_binlog_pos", 0).await.remove(0);
            let replica = place.admin().await;
            assert_eq!(replica.number(format!("SELECT MASTER_GTID_WAIT('{position}', 20)")).await, 0);
            let reader = place.storage(&options).await;
            holds_old(&reader).await;
            let message = refuses(&reader, ErrorKind::Unavailable, "it is read-only").await;
            assert!(message.contains("replica") && message.contains("primary"), "{message}");
            holds_old(&reader).await;
            let error = place.builder(&format!("{options}x")).connect().await;
            drop(error.fails(ErrorKind::Unavailable, "the table is missing, and the server is read-only"));
            assert_ne!(reader.location().await.unwrap(), storage.location().await.unwrap());
            reader.close().await.unwrap();
            admin.run(format!("DROP TABLE `{table}`")).await;
        }),
    )
}

fn cases(suite: Suite<Place>) -> Suite<Place> {
    suite
        .case("a_wait_for_a_lock_that_the_server_ends_is_not_applied", |context| async move {
            let (place, table) = (&context.factory, context.target.space());
            let storage = place.storage(&format!("table={table}")).await;
            storage.write(key("k"), "old").await.unwrap();
            for (setting, kind) in [
                ("innodb_lock_wait_timeout = 0", ErrorKind::Unavailable),
                ("max_statement_time = 0.05", ErrorKind::Timeout),
            ] {
                let pool = MySqlPoolOptions::new().after_connect(move |connection, _| {
                    Box::pin(async move {
                        let set = sqlx::AssertSqlSafe(format!("SET {setting}"));
                        sqlx::raw_sql(set).execute(connection).await.map(drop)
                    })
                });
                let pool = pool.max_connections(2).connect(place.bare_url()).await.unwrap();
                let hasty = Config::new().table(table).connect_with(pool).await.unwrap();
                let admin = place.admin().await;
                admin.run(format!("BEGIN; SELECT * FROM `{table}` FOR UPDATE")).await;
                refuses(&hasty, kind, setting).await;
                admin.run("COMMIT").await;
                holds_old(&storage).await;
                hasty.write(key("k"), "old").await.unwrap();
            }
            storage.close().await.unwrap();
        })
        .case("a_change_that_a_trigger_rejects_is_not_applied", |context| async move {
            let (place, table) = (&context.factory, context.target.space());
            let storage = place.storage(&format!("table={table}")).await;
            storage.write(key("k"), "old").await.unwrap();
            let admin = place.admin().await;
            for (number, event) in ["INSERT", "UPDATE", "DELETE"].iter().enumerate() {
                admin
                    .run(format!(
                        "CREATE TRIGGER `{table}{number}` BEFORE {event} ON `{table}` FOR EACH ROW \
                         SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'hunter2'"
                    ))
                    .await;
            }
            refuses(&storage, ErrorKind::InvalidValue, "a trigger").await;
            holds_old(&storage).await;
            storage.close().await.unwrap();
        })
        .case("a_change_on_an_ended_connection_has_an_unknown_outcome", |context| async move {
            let space = context.target.space();
            let place = context.factory.own_database(space).await;
            let storage = place.storage("group_commit=false").await;
            storage.write(key("k"), "old").await.unwrap();
            let (admin, watch) = (context.factory.admin().await, context.factory.admin().await);
            for (end, kind) in [("KILL", ErrorKind::Unavailable), ("KILL QUERY", ErrorKind::Timeout)] {
                admin.run(format!("BEGIN; SELECT * FROM `{space}`.larder FOR UPDATE")).await;
                let ending = async {
                    watch.until_locked(space, 1).await;
                    let sql =
                        "SELECT id FROM information_schema.processlist WHERE command <> 'Sleep' AND db =";
                    let id = watch.number(format!("{sql} '{space}'")).await;
                    watch.run(format!("{end} {id}")).await;
                };
                let (written, ()) = tokio::join!(storage.write(key("k"), "new").into_future(), ending);
                let error: Error = written.fails(kind, end);
                assert_eq!(error.outcome(), Outcome::Unknown, "{error}");
                assert!(error.is_retryable(), "{error}");
                admin.run("COMMIT").await;
                holds_old(&storage).await;
                storage.write(key("k"), "old").await.unwrap();
            }
            storage.close().await.unwrap();
        })
        .case("a_row_lock_delays_writes_but_not_reads", |context| async move {
            let space = context.target.space();
            let place = context.factory.own_database(space).await;
            let storage = place.storage("timeout=2s").await;
            storage.write(key("k"), "old").await.unwrap();
            let admin = context.factory.admin().await;
            admin.run(format!("BEGIN; SELECT * FROM `{space}`.larder FOR UPDATE")).await;
            let read = async {
                for _ in 0..20 {
                    holds(&storage, "k", Some("old")).await;
                }
            };
            let (written, ()) = tokio::join!(storage.write(key("k"), "new").into_future(), read);
            let error = written.fails(ErrorKind::Timeout, "the row is locked");
            assert!(error.is_retryable() && error.message().contains("2s"), "{error}");
            // A write that timed out is cancelled, and is not applied later.
            admin.until_locked(space, 0).await;
            admin.run("COMMIT").await;
            holds_old(&storage).await;
            storage.write(key("k"), "new").await.unwrap();
            storage.close().await.unwrap();
        })
        .case("an_entry_written_behind_a_clear_stays", |context| async move {
            let space = context.target.space();
            let place = context.factory.own_database(space).await;
            let storage = place.storage("group_commit=false").await;
            let (admin, watch) = (context.factory.admin().await, context.factory.admin().await);
            let table = format!("`{space}`.larder");
            admin
                .run(format!("INSERT INTO {table} SELECT LPAD(seq, 4, '0'), '1', 1, NULL FROM seq_1_to_3500"))
                .await;
            admin.run(format!("BEGIN; SELECT * FROM {table} WHERE `key` = '3400' FOR UPDATE")).await;
            let behind = async {
                watch.until_locked(space, 1).await;
                storage.write(key("0001"), "2").await.unwrap();
                admin.run("COMMIT").await;
            };
            let (cleared, ()) = tokio::join!(storage.clear(""), behind);
            assert_eq!(cleared.unwrap(), 3500);
            holds(&storage, "0001", Some("2")).await;
            assert_eq!(storage.clear("").await.unwrap(), 1);
            storage.close().await.unwrap();
        })
}
