//! Fenced connections.

use std::time::Duration;

use larder_core::{ErrorKind, Store};
use larder_mysql::{Config, sqlx::MySqlPool};
use larder_test_servers::{Kind, Relay};
use larder_testkit::{Fails, Line, Runner, until};

use crate::place::{Place, holds, key, suite};

const PATIENCE: Duration = Duration::from_secs(20);

async fn write(storage: &Store, text: &'static str) -> larder_core::Result<()> {
    storage.write(key("k"), text).await.map(drop)
}

/// The connections of a database, by their numbers.
async fn ids(place: &Place, database: &str) -> Vec<String> {
    let sql = "SELECT id FROM information_schema.processlist WHERE db =";
    place.admin().await.texts(format!("{sql} '{database}' ORDER BY id"), 0).await
}

pub(crate) fn suites(runner: Runner) -> Runner {
    runner.suite(
        suite("mariadb_fencing", "group_commit=false")
            .without_laws()
            .case("own_connections_are_fenced_and_those_of_a_caller_are_not", |context| async move {
                let (place, table) = (&context.factory, context.target.space());
                let storage = place.storage(&format!("table={table}")).await;
                assert!(storage.info().fenced);
                let pool = MySqlPool::connect(place.bare_url()).await.unwrap();
                let storage = Config::new().table(table).connect_with(pool).await.unwrap();
                assert!(!storage.info().fenced);
            })
            .case("a_dropped_change_does_not_happen_after_a_newer_one", |context| async move {
                let space = context.target.space();
                let place = context.factory.own_database(space).await;
                let (storage, line) = place.storage_over_line("").await.unwrap();
                for round in 0..5 {
                    until("a write works", PATIENCE, || async { write(&storage, "before").await.is_ok() })
                        .await;
                    line.hold();
                    // Dropped, or an error.
                    if round % 2 == 0 {
                        let late = write(&storage, "late");
                        assert!(tokio::time::timeout(Duration::from_millis(50), late).await.is_err());
                    } else {
                        drop(write(&storage, "late").await.fails(ErrorKind::Timeout, "it is held back"));
                    }
                    // The check of another connection that is held back may take too long.
                    until("a newer write works", PATIENCE, || async {
                        write(&storage, "newer").await.is_ok()
                    })
                    .await;
                    line.release().await;
                    holds(&storage, "k", Some("newer")).await;
                }
                storage.close().await.unwrap();
            })
            .case("fencing_does_not_end_other_connections", |context| async move {
                let space = context.target.space();
                let place = context.factory.own_database(space).await;
                let (storage, line) = place.storage_over_line("").await.unwrap();
                let bystander = place.storage("").await;
                write(&storage, "before").await.unwrap();
                holds(&bystander, "k", Some("before")).await;
                let before = ids(&context.factory, space).await;
                line.hold();
                drop(write(&storage, "late").await.fails(ErrorKind::Timeout, "it is held back"));
                write(&storage, "newer").await.unwrap();
                let after = ids(&context.factory, space).await;
                assert_eq!(
                    before.iter().filter(|id| !after.contains(id)).count(),
                    1,
                    "{before:?}, {after:?}"
                );
                line.release().await;
                holds(&bystander, "k", Some("newer")).await;
                storage.close().await.unwrap();
                bystander.close().await.unwrap();
            })
            .case("a_different_server_in_between_does_not_end_fencing", |context| async move {
                let space = context.target.space();
                let first = context.factory.own_database(space).await;
                let server = Kind::Mariadb.private().await.unwrap();
                let second = Place::of(&server, "").own_database(space).await;
                let relay = Relay::to(first.server(), |_| {}).await.unwrap();
                let (storage, line) = first.at(&relay.address()).storage_over_line("").await.unwrap();
                second.storage("").await.close().await.unwrap();
                write(&storage, "before").await.unwrap();
                line.hold();
                drop(write(&storage, "late").await.fails(ErrorKind::Timeout, "it is held back"));
                relay.redirect(second.server());
                context.factory.admin().await.end_connections_of(space).await;
                until("the storage is at the other server", PATIENCE, || async {
                    write(&storage, "elsewhere").await.is_ok()
                })
                .await;
                relay.redirect(first.server());
                Place::of(&server, "").admin().await.end_connections_of(space).await;
                let watch = first.storage("").await;
                until("the storage is back at the first server", PATIENCE, || async {
                    let _ = write(&storage, "newer").await;
                    watch.read(key("k")).await.unwrap().unwrap().value == "newer"
                })
                .await;
                line.release().await;
                holds(&watch, "k", Some("newer")).await;
                storage.close().await.unwrap();
                watch.close().await.unwrap();
            }),
    )
}
