//! Behind pgbouncer in transaction mode, where consecutive statements of a client may run on different
//! connections to the server, and a prepared statement's name may mean another client's statement.

use larder_core::{Bytes, Expiry, Key};
use larder_test_servers::Kind;
use larder_testkit::{Runner, Suite};

use crate::place::{Place, across_processes, suite_on};

pub(crate) fn suites(runner: Runner) -> Runner {
    let runner = runner.suite(cases(suite_on("postgres_pgbouncer", Kind::Pgbouncer, "")));
    ["statements=prepared", "statements=unnamed"].into_iter().fold(runner, |runner, options| {
        let name = format!("postgres_pgbouncer_{}", options.trim_start_matches("statements="));
        // Statements of two processes must not be confused.
        runner.suite(across_processes(cases(suite_on(&name, Kind::Pgbouncer, options).without_laws())))
    })
}

fn cases(suite: Suite<Place>) -> Suite<Place> {
    suite
        .case("more_clients_than_server_connections_can_share_them", |context| async move {
            let table = context.target.space().to_owned();
            let storage =
                context.factory.storage(&format!("table={table}&pool_size=12&group_commit=false")).await;
            let tasks = (0..12).map(|task| {
                let storage = storage.clone();
                tokio::spawn(async move {
                    for round in 0..30 {
                        let key = Key::new(format!("{task}")).unwrap();
                        let value = Bytes::from(format!("{round}"));
                        storage.write(&key, value.clone()).expiry(Expiry::after_secs(60)).await.unwrap();
                        assert_eq!(storage.read(&key).await.unwrap().unwrap().value, value);
                    }
                })
            });
            for task in futures_util::future::join_all(tasks).await {
                task.unwrap();
            }
            storage.close().await.unwrap();
        })
        .case("statements_of_another_client_are_never_run", |context| async move {
            let table = context.target.space().to_owned();
            let storage = context.factory.storage(&format!("table={table}&pool_size=4")).await;
            let keys: Vec<Key> = (0..50).map(|number| Key::new(format!("{number}")).unwrap()).collect();
            for key in &keys {
                storage.write(key, Bytes::from_static(b"x")).await.unwrap();
            }
            // Like another process that started later: names of the same form, for deletes.
            let admin = crate::admin::Admin::connect(context.factory.bare_url()).await;
            for number in 0..500 {
                let sql = format!("PREPARE s{number} (text) AS DELETE FROM \"{table}\" WHERE key = $1");
                // The name may be taken on any connection to the server.
                drop(admin.client.batch_execute(&sql).await);
            }
            let other = context.factory.storage(&format!("table={table}&pool_size=4")).await;
            for key in &keys {
                assert!(storage.read(key).await.unwrap().is_some());
                assert!(other.contains(key).await.unwrap());
                assert!(other.read(key).await.unwrap().is_some());
            }
            storage.close().await.unwrap();
            other.close().await.unwrap();
            for number in 0..500 {
                drop(admin.client.batch_execute(&format!("DEALLOCATE s{number}")).await);
            }
        })
}
