//! Opening: names, set-up, permissions and errors.

use larder_core::{ErrorKind, Expiry};
use larder_testkit::{Fails, Runner};

use crate::place::{Place, holds, key, refused, suite};

/// Encodes every byte for a URL.
fn encoded(name: &str) -> String {
    name.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// Creates a user without permissions, whose name is the password.
pub(crate) async fn create_user(place: &Place, user: &str) {
    place.admin().await.run(format!("CREATE USER `{user}`@'%' IDENTIFIED BY '{user}'")).await;
}

pub(crate) fn suites(runner: Runner) -> Runner {
    runner.suite(
        suite("mariadb_opening", "")
            .without_laws()
            .case("a_table_and_a_database_can_have_any_name", |context| async move {
                let (place, space) = (&context.factory, context.target.space());
                let admin = place.admin().await;
                for odd in [
                    "we`ird; drop table x --",
                    "Ünïcødé 名前",
                    "UPPER case",
                    "a'b%s\\@now",
                    "a/b?c#d",
                    "v1.x",
                ] {
                    let (database, table) = (format!("{odd}{space}"), format!("{space}{odd}"));
                    let name = format!("{}.{}", quoted(&database), quoted(&table));
                    admin.run(format!("CREATE DATABASE {}", quoted(&database))).await;
                    let place = place.database(&encoded(&database));
                    let storage = place.storage(&format!("table={}", encoded(&table))).await;
                    storage.write(key("k"), "1").await.unwrap();
                    assert_eq!(storage.clear("").await.unwrap(), 1);
                    storage.write(key("k"), "1").await.unwrap();
                    assert!(storage.location().await.unwrap().is_some(), "{odd}");
                    storage.close().await.unwrap();
                    assert_eq!(admin.number(format!("SELECT COUNT(*) FROM {name}")).await, 1, "{odd}");
                    admin.run(format!("DROP DATABASE {}", quoted(&database))).await;
                }
                // The longest name, of characters of two bytes.
                let table = format!("{space}{}", "ü".repeat(64 - space.len()));
                let storage = place.storage(&format!("table={}", encoded(&table))).await;
                storage.write(key("k"), "1").await.unwrap();
                storage.close().await.unwrap();
                admin.run(format!("DROP TABLE {}", quoted(&table))).await;
            })
            .case("ten_simultaneous_set_ups_succeed", |context| async move {
                let (place, space) = (&context.factory, context.target.space());
                for round in 0..5 {
                    let table = format!("{space}_{round}");
                    let opened = larder_testkit::race(10, |_| {
                        place.builder(&format!("table={table}&pool_size=1")).connect()
                    })
                    .await;
                    for storage in opened {
                        storage.unwrap().close().await.unwrap();
                    }
                    place.admin().await.run(format!("DROP TABLE `{table}`")).await;
                }
            })
            .case("set_up_rejects_a_table_that_appears_during_it", |context| async move {
                // Another program and the set-up create the table at the same time.
                let (place, table) = (&context.factory, context.target.space());
                let admin = place.admin().await;
                for _ in 0..20 {
                    let foreign = format!("CREATE TABLE `{table}` (id INT PRIMARY KEY)");
                    let opening = place.builder(&format!("table={table}")).connect();
                    let (opened, created) = tokio::join!(opening, admin.try_rows(foreign));
                    match created {
                        Ok(_) => drop(opened.fails(ErrorKind::InvalidConfig, "a table of another program")),
                        Err(_) => opened.unwrap().close().await.unwrap(),
                    }
                    admin.run(format!("DROP TABLE `{table}`")).await;
                }
            })
            .case("a_wrong_password_is_an_error", |context| async move {
                let place = context.factory.user("hunter2-wrong");
                let error = refused(place.builder(""), ErrorKind::PermissionDenied, "wrong user").await;
                assert!(!format!("{error:?}").contains("hunter2-wrong:"));
                let url = context.factory.url("").replace(larder_test_servers::PASSWORD, "hunter2-wrong");
                let error = larder_mysql::connect(&url).await;
                let error = error.fails(ErrorKind::PermissionDenied, "wrong password");
                assert!(!format!("{error:?}").contains("hunter2"));
            })
            .case("an_unknown_host_port_or_database_is_an_error", |context| async move {
                let place = &context.factory;
                refused(place.at("no-such-host.invalid").builder(""), ErrorKind::Unavailable, "host").await;
                // Nothing listens on port 1.
                let error =
                    refused(place.at("127.0.0.1:1").builder(""), ErrorKind::Unavailable, "port").await;
                assert!(error.is_retryable());
                let place = place.database("no-such-database");
                let error = refused(place.builder(""), ErrorKind::InvalidConfig, "database").await;
                assert!(error.message().contains("database"), "{error}");
            })
            .case("a_silent_server_is_a_timeout", |context| async move {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                let place = context.factory.at(&listener.local_addr().unwrap().to_string());
                refused(place.builder("connect_timeout=300ms"), ErrorKind::Timeout, "no answer").await;
            })
            .case("a_missing_table_without_set_up_is_an_error", |context| async move {
                let (place, table) = (&context.factory, context.target.space());
                let config = || place.builder(&format!("table={table}&setup=false"));
                let error = refused(config(), ErrorKind::InvalidConfig, "there is no table").await;
                assert!(error.message().contains("setup_sql") && error.message().contains(table), "{error}");
                let admin = place.admin().await;
                // The SQL can run more than once.
                admin.run(config().setup_sql()).await;
                admin.run(config().setup_sql()).await;
                let storage = config().connect().await.unwrap();
                storage.write(key("k"), "1").await.unwrap();
                admin.run(format!("DROP TABLE `{table}`")).await;
                let error = storage.read(key("k")).await.fails(ErrorKind::InvalidConfig, "dropped");
                assert!(error.message().contains("setup_sql"), "{error}");
            })
            .case("a_user_without_permission_to_create_uses_an_existing_table", |context| async move {
                let space = context.target.space();
                let place = context.factory.own_database(space).await;
                let (admin, config) = (place.admin().await, place.user(space).builder(""));
                create_user(&place, space).await;
                // With access to the database, but not to the table.
                let other = format!("`{space}`.other");
                admin
                    .run(format!("CREATE TABLE {other} (id INT); GRANT SELECT ON {other} TO `{space}`@'%'"))
                    .await;
                let error = refused(config.clone(), ErrorKind::PermissionDenied, "may not create").await;
                assert!(
                    error.message().contains("GRANT") || error.message().contains("setup_sql"),
                    "{error}"
                );

                // The remedy: another user runs the SQL.
                admin.run(config.setup_sql()).await;
                let error = refused(config.clone(), ErrorKind::PermissionDenied, "nothing is granted").await;
                assert!(error.message().contains("GRANT"), "{error}");
                let rights = "SELECT, INSERT, UPDATE, DELETE";
                admin.run(format!("GRANT {rights} ON `{space}`.larder TO `{space}`@'%'")).await;
                for setup in [true, false] {
                    let storage = config.clone().setup(setup).connect().await.unwrap();
                    storage.write(key("k"), "x").expiry(Expiry::after_secs(9)).await.unwrap();
                    holds(&storage, "k", Some("x")).await;
                    assert!(storage.touch(key("k"), Expiry::Never).await.unwrap());
                    assert!(storage.delete(key("k")).await.unwrap());
                    storage.write(key("k"), "x").await.unwrap();
                    assert_eq!(storage.clear("").await.unwrap(), 1);
                    assert_eq!(storage.purge_expired().await.unwrap(), 0);
                    assert!(storage.info().fenced && storage.location().await.unwrap().is_some());
                    storage.close().await.unwrap();
                }
                admin.run(format!("DROP USER `{space}`@'%'")).await;
            }),
    )
}
