//! The number of round trips per operation, counted by the server.
//!
//! Every message that the server answers with "ready" is one transaction in
//! `pg_stat_database`, whether it prepares or runs a statement. A database that no other program
//! uses, on a server without autovacuum, thus counts round trips exactly. A process writes its
//! statistics at the latest when it ends, so they are read after the store is closed.

use std::time::Duration;

use larder_core::{Bytes, Change, Condition, Error, Expiry, Key, ReadOptions, Store, Version, async_trait};
use larder_postgres::Config;
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
        larder_postgres::connect(&with_options(self.0.url(), &format!("table={space}"))).await
    }
}

impl Counted {
    /// The number of transactions in `database`. Waits until it has no connections.
    async fn transactions(&self, admin: &Admin, database: &str) -> i64 {
        until("everybody has left the database", Duration::from_secs(10), || async {
            let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = $1";
            admin.count(sql, &[&database]).await == 0
        })
        .await;
        let sql = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = $1";
        admin.count(sql, &[&database]).await
    }

    /// The number of round trips of `times` calls of `operation`, with opening and closing.
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
        // With several batches at the same time, each would have some of the changes.
        let options = format!("pool_size=1&max_batches=1&setup=false&sweep=off&{options}");
        let store = Config::from_url(&with_options(&url, &options)).unwrap().connect().await.unwrap();
        let mut version = None;
        for number in 0..times {
            version = operation.run(&store, number, version).await;
        }
        store.close().await.unwrap();
        drop(store);
        self.transactions(admin, database).await - before
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Operation {
    Read,
    ReadWithTtl,
    ReadTouching,
    Write,
    WriteIfAbsent,
    WriteIfPresent,
    WriteIfAt,
    Delete,
    DeleteIfPresent,
    DeleteIfAt,
    Touch,
    TouchIfPresent,
    TouchIfAt,
    Ttl,
    Contains,
    ReadMany,
    ReadManyWithTtl,
    ReadManyTouching,
    ApplyPuts,
    ApplyDeletions,
    ApplyMixed,
    Clear,
}

impl Operation {
    const ALL: [Self; 22] = [
        Self::Read,
        Self::ReadWithTtl,
        Self::ReadTouching,
        Self::Write,
        Self::WriteIfAbsent,
        Self::WriteIfPresent,
        Self::WriteIfAt,
        Self::Delete,
        Self::DeleteIfPresent,
        Self::DeleteIfAt,
        Self::Touch,
        Self::TouchIfPresent,
        Self::TouchIfAt,
        Self::Ttl,
        Self::Contains,
        Self::ReadMany,
        Self::ReadManyWithTtl,
        Self::ReadManyTouching,
        Self::ApplyPuts,
        Self::ApplyDeletions,
        Self::ApplyMixed,
        Self::Clear,
    ];

    /// A failed condition takes as many round trips as a met one.
    async fn run(self, store: &Store, number: i64, version: Option<Version>) -> Option<Version> {
        let key = Key::new("k").unwrap();
        let value = Bytes::from_static(b"\"value\"");
        let expiry = Expiry::after_secs(60);
        let keys = || (0..50).map(|at| Key::new(format!("{at}")).unwrap()).collect::<Vec<_>>();
        let read_many = |options: ReadOptions| async move {
            for record in store.read_many(&keys(), &options).await {
                drop(record.unwrap());
            }
        };
        let apply = |change: fn(Key) -> Change| async move {
            for applied in store.apply(keys().into_iter().map(change).collect()).await {
                drop(applied.unwrap());
            }
        };
        match self {
            Self::Read => drop(store.read(&key).await.unwrap()),
            Self::ReadWithTtl => drop(store.read(&key).with_ttl().await.unwrap()),
            Self::ReadTouching => drop(store.read(&key).with_ttl().touching(expiry).await.unwrap()),
            Self::Write => drop(store.write(&key, value).expiry(expiry).await.unwrap()),
            Self::WriteIfAbsent => {
                let key = Key::new(format!("absent {number}")).unwrap();
                drop(store.write(&key, value).expiry(expiry).if_absent().await);
            }
            Self::WriteIfPresent => drop(store.write(&key, value).expiry(expiry).if_present().await),
            Self::WriteIfAt => {
                let condition = Condition::At(version.unwrap_or_else(Version::unique));
                // The first one may conflict; the rest of the chain is the same.
                let written = store.write(&key, value).expiry(expiry).condition(condition).await;
                return written.ok().and_then(|written| written.version);
            }
            Self::Delete => drop(store.delete(&key).await.unwrap()),
            Self::DeleteIfPresent => drop(store.delete(&key).if_present().await),
            Self::DeleteIfAt => drop(store.delete(&key).if_at(Version::unique()).await),
            Self::Touch => drop(store.touch(&key, expiry).await.unwrap()),
            Self::TouchIfPresent => drop(store.touch(&key, expiry).if_present().await),
            Self::TouchIfAt => drop(store.touch(&key, expiry).if_at(Version::unique()).await),
            Self::Ttl => drop(store.ttl(&key).await.unwrap()),
            Self::Contains => drop(store.contains(&key).await.unwrap()),
            Self::ReadMany => read_many(ReadOptions::new()).await,
            Self::ReadManyWithTtl => read_many(ReadOptions::new().with_ttl()).await,
            Self::ReadManyTouching => read_many(ReadOptions::new().with_touch(expiry)).await,
            Self::ApplyPuts => apply(|key| Change::put(key, "1", Expiry::after_secs(60))).await,
            Self::ApplyDeletions => apply(Change::delete).await,
            Self::ApplyMixed => {
                let changes = keys().into_iter().enumerate().map(|(at, key)| match at % 5 {
                    0 => Change::put(key, "1", expiry).on(Condition::Absent),
                    1 => Change::put(key, "1", expiry).on(Condition::Present),
                    2 => Change::put(key, "1", expiry).on(Condition::At(Version::unique())),
                    3 => Change::delete(key),
                    _ => Change::touch(key, expiry),
                });
                drop(store.apply(changes.collect()).await);
            }
            Self::Clear => drop(store.clear(&format!("cleared {number}:")).await.unwrap()),
        }
        None
    }
}

pub(crate) fn suites(runner: Runner) -> Runner {
    let suite = Suite::connect("postgres_round_trips", || async {
        Kind::Postgres.private_with(&["-c", "autovacuum=off"]).await.map(Counted).map_err(missing)
    });
    runner.suite(suite.without_laws().case("each_operation_is_one_round_trip", |context| async move {
        let counted = &context.factory;
        let admin = Admin::connect(counted.0.url()).await;
        for (at, (options, prepared)) in
            [("", 1), ("statements=unnamed", 0), ("group_commit=false", 1), ("values=jsonb", 1)]
                .into_iter()
                .enumerate()
        {
            let database = format!("trips{at}");
            admin.run(&format!("CREATE DATABASE {database}")).await;
            let url = counted.0.url().rsplit_once('/').map(|(head, _)| format!("{head}/{database}")).unwrap();
            let builder = Config::from_url(&with_options(&url, options)).unwrap();
            // The set-up is done before, so that only the operation is counted.
            builder.connect().await.unwrap().close().await.unwrap();
            let filling = Admin::connect(&url).await;
            filling
                .run(
                    "INSERT INTO larder SELECT 'cleared ' || n || ':' || m, '1', 1 \
                     FROM generate_series(0, 100) AS n, generate_series(1, 50) AS m",
                )
                .await;
            drop(filling);
            for operation in Operation::ALL {
                let none = counted.cost(&admin, &database, options, operation, 0).await;
                let once = counted.cost(&admin, &database, options, operation, 1).await;
                let often = counted.cost(&admin, &database, options, operation, 101).await;
                assert_eq!(once - none, prepared + 1, "{operation:?} ({options}): the first time");
                assert_eq!(often - once, 100, "{operation:?} ({options}): a hundred more times");
            }
        }
    }))
}
