//! Behind pgbouncer in transaction mode.

use larder_core::{Bytes, Expiry, Key, Storage};
use larder_test_servers::Kind;
use larder_testkit::Runner;

use crate::place::suite_on;

pub(crate) fn suites(runner: Runner) -> Runner {
    runner.suite(suite_on("postgres_pgbouncer", Kind::Pgbouncer, "statements=unnamed").case(
        "more_clients_than_server_connections",
        |context| async move {
            let table = context.target.space().to_owned();
            let storage =
                context.factory.storage(&format!("table={table}&pool_size=12&coalesce=false")).await;
            let tasks = (0..12).map(|task| {
                let storage = storage.clone();
                tokio::spawn(async move {
                    for round in 0..30 {
                        let key = Key::new(format!("{task}")).unwrap();
                        let value = Bytes::from(format!("{round}"));
                        storage.write(&key, value.clone(), Expiry::after_secs(60)).await.unwrap();
                        assert_eq!(storage.read(&key).await.unwrap().unwrap().value, value);
                    }
                })
            });
            for task in futures_util::future::join_all(tasks).await {
                task.unwrap();
            }
            storage.close().await.unwrap();
        },
    ))
}
