//! The number of statements per operation, counted by the server. Each is one round trip, except for the two
//! that begin a transaction, which are one message.

use futures_util::TryStreamExt;
use larder_core::{Change, Condition, Error, Expiry, Key, ReadOptions, Store, Version, async_trait};
use larder_test_servers::{Kind, Server};
use larder_testkit::{Factory, Must, Runner, Suite};

use crate::{
    admin::Admin,
    place::{Place, key, missing},
};

/// The statements of a transaction that changes rows.
const TRANSACTION: i64 = 5;

/// Operations, with the number of their statements.
const OPERATIONS: [(Operation, i64); 25] = [
    (Operation::Read, 1),
    (Operation::ReadWithTtl, 1),
    (Operation::ReadAbsent, 1),
    (Operation::ReadTouching, 2),
    (Operation::Write, 1),
    (Operation::WriteIfAbsent, 1),
    (Operation::WriteIfPresent, 1),
    (Operation::WriteIfAt, 1),
    (Operation::Delete, 1),
    (Operation::DeleteIfAt, 1),
    (Operation::Touch, 1),
    (Operation::TouchIfAt, 1),
    (Operation::Contains, 1),
    (Operation::ReadMany(256), 1),
    (Operation::ReadMany(257), 2),
    (Operation::ReadMany(50), 1),
    (Operation::ReadManyTouching, 2 * 50),
    (Operation::ApplyOne, 1),
    (Operation::ApplyPuts(50), 1),
    (Operation::ApplyPuts(256), 1),
    (Operation::ApplyPuts(257), 2),
    (Operation::ApplyTouches, TRANSACTION),
    (Operation::ApplyMixed, TRANSACTION + 1),
    (Operation::ApplyConflicts, TRANSACTION - 1),
    (Operation::List, 1),
];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Operation {
    Read,
    ReadWithTtl,
    ReadAbsent,
    ReadTouching,
    Write,
    WriteIfAbsent,
    WriteIfPresent,
    WriteIfAt,
    Delete,
    DeleteIfAt,
    Touch,
    TouchIfAt,
    Contains,
    ReadMany(usize),
    ReadManyTouching,
    ApplyOne,
    ApplyPuts(usize),
    ApplyTouches,
    ApplyMixed,
    ApplyConflicts,
    List,
}

fn keys(count: usize) -> Vec<Key> {
    (0..count).map(key).collect()
}

impl Operation {
    /// A failed condition takes as many round trips as a met one.
    async fn run(self, store: &Store, number: u64) {
        // Different each time, so that a touch changes the row.
        let expiry = Expiry::after_secs(60 + number);
        let apply = async |count: usize, change: &(dyn Fn(usize, Key) -> Change + Sync)| {
            let changes = keys(count).into_iter().enumerate().map(|(at, key)| change(at, key)).collect();
            store.apply(changes).await
        };
        match self {
            Self::Read => drop(store.read(key("k")).await.unwrap()),
            Self::ReadWithTtl => drop(store.read(key("k")).with_ttl().await.unwrap()),
            Self::ReadAbsent => assert!(store.read(key("absent")).await.unwrap().is_none()),
            Self::ReadTouching => drop(store.read(key("k")).touching(expiry).await.unwrap()),
            Self::Write => drop(store.write(key("k"), "x").expiry(expiry).await.unwrap()),
            Self::WriteIfAbsent => {
                drop(store.write(key(format!("absent {number}")), "x").if_absent().await.unwrap());
            }
            Self::WriteIfPresent => drop(store.write(key("k"), "x").if_present().await.unwrap()),
            Self::WriteIfAt => {
                drop(store.write(key("k"), "x").condition(Condition::At(Version::unique())).await);
            }
            Self::Delete => drop(store.delete(key(format!("absent {number}"))).await.unwrap()),
            Self::DeleteIfAt => drop(store.delete(key("k")).if_at(Version::unique()).await),
            Self::Touch => assert!(store.touch(key("k"), expiry).await.unwrap()),
            Self::TouchIfAt => drop(store.touch(key("k"), expiry).if_at(Version::unique()).await),
            Self::Contains => assert!(store.contains(key("k")).await.unwrap()),
            Self::ReadMany(count) => {
                let found = store.read_many(&keys(count), &ReadOptions::new()).await;
                assert!(found.iter().all(Result::is_ok));
            }
            Self::ReadManyTouching => {
                let found = store.read_many(&keys(50), &ReadOptions::new().with_touch(expiry)).await;
                assert!(found.iter().all(|record| record.as_ref().unwrap().is_some()));
            }
            Self::ApplyOne => drop(apply(1, &|_, key| Change::put(key, "x", expiry)).await),
            Self::ApplyPuts(count) => drop(apply(count, &|_, key| Change::put(key, "x", expiry)).await),
            Self::ApplyTouches => drop(apply(50, &|_, key| Change::touch(key, expiry)).await),
            Self::ApplyMixed => {
                let change = |at, key| match at % 4 {
                    0 => Change::put(key, "x", expiry),
                    1 => Change::put(key, "x", expiry).on(Condition::Present),
                    2 => Change::touch(key, expiry),
                    // An entry that the next batch deletes.
                    3 if (at / 4) as u64 % 2 == number % 2 => Change::put(key, "x", expiry),
                    _ => Change::delete(key),
                };
                drop(apply(50, &change).await);
            }
            Self::ApplyConflicts => {
                let conflict = |_, key| Change::put(key, "x", expiry).on(Condition::At(Version::unique()));
                assert!(apply(50, &conflict).await.iter().all(Result::is_err));
            }
            Self::List => drop(store.keys("k").try_collect::<Vec<_>>().await.unwrap()),
        }
    }
}

/// The numbers of executed and prepared statements of all connections but this one.
async fn statements(admin: &Admin, own: &mut i64) -> (i64, i64) {
    let sql = "SHOW GLOBAL STATUS WHERE variable_name IN ('Com_stmt_prepare', 'Questions')";
    let counts = admin.texts(sql, 1).await;
    *own += 1;
    let count = |at: usize| counts[at].parse::<i64>().must("read a number");
    (count(1) - *own, count(0))
}

struct Counted {
    server: Server,
}

#[async_trait]
impl Factory for Counted {
    async fn open(&self, space: &str) -> Result<Store, Error> {
        Place::of(&self.server, "").open(space).await
    }
}

pub(crate) fn suites(runner: Runner) -> Runner {
    let suite = Suite::connect("mariadb_round_trips", || async {
        Kind::Mariadb.private().await.map(|server| Counted { server }).map_err(missing)
    });
    runner.suite(suite.without_laws().case("each_operation_is_few_statements", |context| async move {
        let place = Place::of(&context.factory.server, "pool_size=1&sweep=off&group_commit=false");
        let (admin, mut own) = (place.admin().await, 0);
        let storage = place.storage(&format!("table={}", context.target.space())).await;
        for (operation, expected) in OPERATIONS {
            storage.write(key("k"), "1").await.unwrap();
            for applied in storage
                .apply(keys(257).into_iter().map(|key| Change::put(key, "1", Expiry::Never)).collect())
                .await
            {
                drop(applied.unwrap());
            }
            // The first time, statements are prepared.
            operation.run(&storage, 0).await;
            operation.run(&storage, 1).await;
            let before = statements(&admin, &mut own).await;
            for number in 2..22 {
                operation.run(&storage, number).await;
            }
            let after = statements(&admin, &mut own).await;
            assert_eq!((after.0 - before.0, after.1 - before.1), (20 * expected, 0), "{operation:?}");
        }
    }))
}
