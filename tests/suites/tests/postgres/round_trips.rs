//! How many round trips an operation costs, counted by the server.
//!
//! Every message that the server answers with "ready" is a transaction of its own in
//! `pg_stat_database`, be it a statement that is prepared or one that is run. A database that nobody
//! else uses, on a server without autovacuum, thus counts round trips exactly. A process writes its
//! figures down when it ends at the latest, so they are read once the storage is closed.

use std::time::Duration;

use larder_core::{
    Bytes, Condition, Error, Expiry, Key, Storage, Version, async_trait,
    v2::{Store, legacy},
};
use larder_postgres::{PostgresBuilder, PostgresStorage};
use larder_test_servers::{Kind, Server};
use larder_testkit::{Factory, Runner, Suite, until};

use crate::{
    admin::Admin,
    place::{missing, with_options},
};

struct Counted(Server);

#[async_trait]
impl Factory for Counted {
    async fn open(&self, space: &str) -> Result<Store, Error> {
        let storage =
            PostgresStorage::connect(&with_options(self.0.url(), &format!("table={space}"))).await?;
        Ok(legacy(storage))
    }
}

impl Counted {
    /// Transactions in `database` until now. Nobody is connected to it when this returns.
    async fn transactions(&self, admin: &Admin, database: &str) -> i64 {
        until("everybody has left the database", Duration::from_secs(10), || async {
            let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = $1";
            admin.count(sql, &[&database]).await == 0
        })
        .await;
        let sql = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = $1";
        admin.count(sql, &[&database]).await
    }

    /// The round trips of `times` calls of `operation`, with everything around them.
    async fn cost(
        &self,
        admin: &Admin,
        database: &str,
        options: &str,
        operation: Operation,
        times: i64,
    ) -> i64 {
        let before = self.transactions(admin, database).await;
        let url = self.0.url().rsplit_once('/').map(|(head, _)| format!("{head}/{database}")).unwrap();
        let options = format!("pool_size=1&setup=false&sweep=off&{options}");
        let storage =
            PostgresBuilder::from_url(&with_options(&url, &options)).unwrap().connect().await.unwrap();
        let mut version = None;
        for number in 0..times {
            version = operation.run(&storage, number, version).await;
        }
        storage.close().await.unwrap();
        drop(storage);
        self.transactions(admin, database).await - before
    }
}

#[derive(Clone, Copy, Debug)]
enum Operation {
    Read,
    Write,
    Delete,
    WriteIfAbsent,
    WriteIfAt,
    DeleteIf,
    Touch,
    Ttl,
    Contains,
    WriteMany,
    ReadMany,
    DeleteMany,
}

impl Operation {
    const ALL: [Self; 12] = [
        Self::Read,
        Self::Write,
        Self::Delete,
        Self::WriteIfAbsent,
        Self::WriteIfAt,
        Self::DeleteIf,
        Self::Touch,
        Self::Ttl,
        Self::Contains,
        Self::WriteMany,
        Self::ReadMany,
        Self::DeleteMany,
    ];

    async fn run(self, storage: &PostgresStorage, number: i64, version: Option<Version>) -> Option<Version> {
        let key = Key::new("k").unwrap();
        let value = Bytes::from_static(b"\"value\"");
        let expiry = Expiry::after_secs(60);
        let keys = || (0..50).map(|at| Key::new(format!("{at}")).unwrap()).collect::<Vec<_>>();
        match self {
            Self::Read => drop(storage.read(&key).await.unwrap()),
            Self::Write => storage.write(&key, value, expiry).await.unwrap(),
            Self::Delete => drop(storage.delete(&key).await.unwrap()),
            Self::WriteIfAbsent => {
                let key = Key::new(format!("absent {number} {}", storage.capabilities().listing)).unwrap();
                // Who comes first in this database wins; a conflict costs no more.
                drop(storage.write_if(&key, value, expiry, Condition::Absent).await);
            }
            Self::WriteIfAt => {
                let condition = Condition::At(version.unwrap_or_else(Version::unique));
                // The first one conflicts or not; the rest of the chain is the same either way.
                return storage.write_if(&key, value, expiry, condition).await.ok();
            }
            Self::DeleteIf => drop(storage.delete_if(&key, &Version::unique()).await),
            Self::Touch => drop(storage.touch(&key, expiry).await.unwrap()),
            Self::Ttl => drop(storage.ttl(&key).await.unwrap()),
            Self::Contains => drop(storage.contains(&key).await.unwrap()),
            Self::WriteMany => {
                let writes: Vec<_> = keys()
                    .into_iter()
                    .map(|key| larder_core::Write::new(key, value.clone(), expiry))
                    .collect();
                storage.write_many(&writes).await.unwrap();
            }
            Self::ReadMany => drop(storage.read_many(&keys()).await.unwrap()),
            Self::DeleteMany => drop(storage.delete_many(&keys()).await.unwrap()),
        }
        None
    }
}

pub(crate) fn suites(runner: Runner) -> Runner {
    let suite = Suite::connect("postgres_round_trips", || async {
        Kind::Postgres.private_with(&["-c", "autovacuum=off"]).await.map(Counted).map_err(missing)
    });
    runner.suite(suite.without_laws().case("one_per_operation", |context| async move {
        let counted = &context.factory;
        let admin = Admin::connect(counted.0.url()).await;
        for (at, (options, prepared)) in
            [("", 1), ("statements=unnamed", 0), ("coalesce=false", 1), ("values=jsonb", 1)]
                .into_iter()
                .enumerate()
        {
            let database = format!("trips{at}");
            admin.run(&format!("CREATE DATABASE {database}")).await;
            let url = counted.0.url().rsplit_once('/').map(|(head, _)| format!("{head}/{database}")).unwrap();
            let builder = PostgresBuilder::from_url(&with_options(&url, options)).unwrap();
            // Set up beforehand, so that only the operation is counted.
            builder.connect().await.unwrap().close().await.unwrap();
            for operation in Operation::ALL {
                let none = counted.cost(&admin, &database, options, operation, 0).await;
                let once = counted.cost(&admin, &database, options, operation, 1).await;
                let often = counted.cost(&admin, &database, options, operation, 101).await;
                // Each of the two lanes has its share of a batch, and both are under way at once.
                let lanes = matches!(operation, Operation::WriteMany) && options != "coalesce=false";
                let each = if lanes { 2 } else { 1 };
                assert_eq!(once - none, prepared + each, "{operation:?} ({options}): the first time");
                assert_eq!(often - once, 100 * each, "{operation:?} ({options}): a hundred more times");
            }
        }
    }))
}
