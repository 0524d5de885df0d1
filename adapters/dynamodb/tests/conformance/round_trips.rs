//! The number of requests per operation. Each is one round trip.

use futures_util::TryStreamExt;
use larder_core::{Change, Condition, Expiry, Key, ListOptions, ReadOptions, Store, Version};
use larder_testkit::Suite;

use crate::{
    place::{Place, key},
    wire::{Wire, of_table},
};

/// Operations, with their requests.
const OPERATIONS: [(Operation, &[(&str, usize)]); 22] = [
    (Operation::Read, &[("GetItem", 1)]),
    (Operation::ReadWithTtl, &[("GetItem", 1)]),
    (Operation::ReadAbsent, &[("GetItem", 1)]),
    (Operation::ReadTouching, &[("UpdateItem", 1)]),
    (Operation::Contains, &[("GetItem", 1)]),
    (Operation::Write, &[("PutItem", 1)]),
    (Operation::WriteIfAbsent, &[("PutItem", 1)]),
    (Operation::WriteIfPresent, &[("PutItem", 1)]),
    (Operation::WriteIfAt, &[("PutItem", 1)]),
    (Operation::Delete, &[("DeleteItem", 1)]),
    (Operation::DeleteIfAt, &[("DeleteItem", 1)]),
    (Operation::Touch, &[("UpdateItem", 1)]),
    (Operation::TouchIfAt, &[("UpdateItem", 1)]),
    (Operation::ReadMany(100), &[("BatchGetItem", 1)]),
    (Operation::ReadMany(101), &[("BatchGetItem", 2)]),
    (Operation::ReadManyTwice, &[("BatchGetItem", 1)]),
    (Operation::ReadManyTouching, &[("UpdateItem", 50)]),
    (Operation::ApplyPuts(1), &[("PutItem", 1)]),
    (Operation::ApplyPuts(25), &[("BatchWriteItem", 1)]),
    (Operation::ApplyPuts(101), &[("BatchWriteItem", 4), ("PutItem", 1)]),
    (
        Operation::ApplyMixed,
        &[("BatchWriteItem", 1), ("DeleteItem", 10), ("PutItem", 10), ("UpdateItem", 10)],
    ),
    (Operation::List, &[("Scan", 1)]),
];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Operation {
    Read,
    ReadWithTtl,
    ReadAbsent,
    ReadTouching,
    Contains,
    Write,
    WriteIfAbsent,
    WriteIfPresent,
    WriteIfAt,
    Delete,
    DeleteIfAt,
    Touch,
    TouchIfAt,
    ReadMany(usize),
    ReadManyTwice,
    ReadManyTouching,
    ApplyPuts(usize),
    ApplyMixed,
    List,
}

fn keys(count: usize) -> Vec<Key> {
    (0..count).map(key).collect()
}

impl Operation {
    /// A failed condition takes as many round trips as a met one.
    async fn run(self, store: &Store) {
        let expiry = Expiry::after_secs(60);
        match self {
            Self::Read => assert!(store.read(key("k")).await.unwrap().is_some()),
            Self::ReadWithTtl => assert!(store.read(key("k")).with_ttl().await.unwrap().is_some()),
            Self::ReadAbsent => assert!(store.read(key("absent")).await.unwrap().is_none()),
            Self::ReadTouching => assert!(store.read(key("k")).touching(expiry).await.unwrap().is_some()),
            Self::Contains => assert!(store.contains(key("k")).await.unwrap()),
            Self::Write => drop(store.write(key("k"), "x").expiry(expiry).await.unwrap()),
            Self::WriteIfAbsent => drop(store.write(key("new"), "x").if_absent().await.unwrap()),
            Self::WriteIfPresent => drop(store.write(key("k"), "x").if_present().await.unwrap()),
            Self::WriteIfAt => {
                let write = store.write(key("k"), "x").condition(Condition::At(Version::unique()));
                assert!(write.await.is_err());
            }
            Self::Delete => assert!(store.delete(key("new")).await.unwrap()),
            Self::DeleteIfAt => assert!(store.delete(key("k")).if_at(Version::unique()).await.is_err()),
            Self::Touch => assert!(store.touch(key("k"), expiry).await.unwrap()),
            Self::TouchIfAt => assert!(store.touch(key("k"), expiry).if_at(Version::unique()).await.is_err()),
            Self::ReadMany(count) => {
                let found = store.read_many(&keys(count), &ReadOptions::new()).await;
                assert!(found.iter().all(|record| record.as_ref().unwrap().is_some()));
            }
            Self::ReadManyTwice => {
                let found = store.read_many(&[keys(50), keys(50)].concat(), &ReadOptions::new()).await;
                assert!(found.iter().all(|record| record.as_ref().unwrap().is_some()));
            }
            Self::ReadManyTouching => {
                let found = store.read_many(&keys(50), &ReadOptions::new().with_touch(expiry)).await;
                assert!(found.iter().all(|record| record.as_ref().unwrap().is_some()));
            }
            Self::ApplyPuts(count) => {
                let puts = keys(count).into_iter().map(|key| Change::put(key, "x", expiry));
                assert!(store.apply(puts.collect()).await.iter().all(Result::is_ok));
            }
            Self::ApplyMixed => {
                let change = |(at, key)| match at % 4 {
                    0 => Change::put(key, "x", expiry),
                    1 => Change::put(key, "x", expiry).on(Condition::Present),
                    2 => Change::touch(key, expiry),
                    _ => Change::delete(key),
                };
                let changes = keys(40).into_iter().enumerate().map(change);
                assert!(store.apply(changes.collect()).await.iter().all(Result::is_ok));
            }
            Self::List => drop(store.keys("").try_collect::<Vec<_>>().await.unwrap()),
        }
    }
}

pub(crate) fn cases(suite: Suite<Place>) -> Suite<Place> {
    suite
        .case("reads_are_consistent_unless_the_option_is_off", |context| async move {
            for (options, consistent) in [("", true), ("consistent=false", false)] {
                let wire = Wire::default();
                let store = wire.store(&context.factory, context.target.space(), options).await;
                assert!(store.read(key("k")).await.unwrap().is_none());
                assert_eq!(store.read_many(&keys(2), &ReadOptions::new()).await.len(), 2);
                assert!(store.keys("").try_collect::<Vec<_>>().await.unwrap().is_empty());
                let requests = wire.requests();
                let sent = requests.iter().map(|(operation, request)| match operation.as_str() {
                    "BatchGetItem" => ("BatchGetItem", of_table(request).1["ConsistentRead"].as_bool()),
                    other => (other, request["ConsistentRead"].as_bool()),
                });
                let expected =
                    ["GetItem", "BatchGetItem", "Scan"].map(|operation| (operation, Some(consistent)));
                assert_eq!(sent.collect::<Vec<_>>(), expected);
            }
        })
        .case("a_listing_with_a_limit_reads_pages_of_this_size", |context| async move {
            let wire = Wire::default();
            let store = wire.store(&context.factory, context.target.space(), "").await;
            for key in keys(3) {
                store.write(key, "1").await.unwrap();
            }
            wire.requests();
            for (prefix, limit, sent) in [("", 2, Some(100)), ("", 250, Some(250)), ("1", 2, None)] {
                let options = ListOptions::new().prefix(prefix).limit(limit.try_into().unwrap());
                let listed: Vec<_> = store.list(options).try_collect().await.unwrap();
                assert_eq!(listed.len(), if prefix.is_empty() { limit.min(3) } else { 1 });
                assert_eq!(wire.requests()[0].1["Limit"].as_u64(), sent, "{prefix}");
            }
        })
        .case("each_operation_is_few_requests", |context| async move {
            let wire = Wire::default();
            let store = wire.store(&context.factory, context.target.space(), "").await;
            store.write(key("k"), "1").await.unwrap();
            for key in keys(101) {
                store.write(key, "1").await.unwrap();
            }
            for (operation, expected) in OPERATIONS {
                wire.requests();
                operation.run(&store).await;
                let mut operations: Vec<_> =
                    wire.requests().into_iter().map(|(operation, _)| operation).collect();
                operations.sort();
                let counts = operations.chunk_by(|a, b| a == b).map(|same| (same[0].as_str(), same.len()));
                assert_eq!(counts.collect::<Vec<_>>(), expected, "{operation:?}");
            }
        })
}
