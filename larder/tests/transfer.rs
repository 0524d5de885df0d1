//! What copying and verifying promise, on storages in memory.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test fails by panicking.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use larder::{
    Bytes, Capabilities, EntryStream, Error, ErrorKind, Expiry, Key, Operation, Record, Result, Storage,
    async_trait,
    memory::MemoryStorage,
    transfer::{self, CopyOptions, Difference, Event},
};

const HOUR: Expiry = Expiry::after_secs(3600);
const TOLERANCE: Duration = Duration::from_secs(5);

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

async fn filled(count: usize) -> MemoryStorage {
    let storage = MemoryStorage::new();
    for number in 0..count {
        let expiry = if number % 2 == 0 { HOUR } else { Expiry::Never };
        storage
            .write(&key(&format!("chat:{number}")), Bytes::from(format!("{number}")), expiry)
            .await
            .unwrap();
    }
    storage
}

async fn copy(from: &dyn Storage, to: &dyn Storage, options: &CopyOptions) -> Result<transfer::CopyReport> {
    transfer::copy(from, to, options, |_| {}).await
}

/// The counts of equal and of different entries.
async fn verify(from: &dyn Storage, to: &dyn Storage) -> (u64, u64) {
    let report = transfer::verify(from, to, "", TOLERANCE, |_| {}).await.unwrap();
    (report.equal, report.different)
}

#[tokio::test]
async fn every_entry_arrives_with_the_time_it_has_left() {
    let (from, to) = (filled(1_000).await, MemoryStorage::new());
    let report = copy(&from, &to, &CopyOptions::default()).await.unwrap();
    assert_eq!((report.copied, report.failed, report.expired), (1_000, 0, 0));

    assert_eq!(to.ttl(&key("chat:1")).await.unwrap(), Some(Expiry::Never));
    let Some(Expiry::After(left)) = to.ttl(&key("chat:0")).await.unwrap() else {
        panic!("the entry expires");
    };
    assert!(left <= Duration::from_secs(3600) && left > Duration::from_secs(3000), "{left:?}");
    assert_eq!(verify(&from, &to).await, (1_000, 0));
}

#[tokio::test]
async fn only_the_prefix_is_copied_and_what_else_the_target_holds_stays() {
    let (from, to) = (filled(3).await, MemoryStorage::new());
    from.write(&key("user:1"), "u".into(), Expiry::Never).await.unwrap();
    to.write(&key("other"), "o".into(), Expiry::Never).await.unwrap();
    let report = copy(&from, &to, &CopyOptions::default().prefix("chat:")).await.unwrap();
    assert_eq!(report.copied, 3);
    assert!(to.contains(&key("other")).await.unwrap());
    assert!(!to.contains(&key("user:1")).await.unwrap());
}

#[tokio::test]
async fn a_resumed_copy_writes_only_what_is_missing_or_has_changed() {
    let (from, to) = (filled(10).await, MemoryStorage::new());
    copy(&from, &to, &CopyOptions::default().prefix("chat:1")).await.unwrap();
    from.write(&key("chat:1"), "changed".into(), Expiry::Never).await.unwrap();
    let report = copy(&from, &to, &CopyOptions::default().resume(true)).await.unwrap();
    assert_eq!((report.copied, report.unchanged), (10, 0));
    let report = copy(&from, &to, &CopyOptions::default().resume(true)).await.unwrap();
    assert_eq!((report.copied, report.unchanged), (0, 10));
    from.touch(&key("chat:2"), Expiry::Never).await.unwrap();
    let report = copy(&from, &to, &CopyOptions::default().resume(true)).await.unwrap();
    assert_eq!((report.copied, report.unchanged), (1, 9));
    assert_eq!(verify(&from, &to).await, (10, 0));
}

#[tokio::test]
async fn verification_finds_every_kind_of_difference() {
    let (from, to) = (filled(4).await, MemoryStorage::new());
    copy(&from, &to, &CopyOptions::default()).await.unwrap();
    to.write(&key("chat:0"), "other".into(), HOUR).await.unwrap();
    to.touch(&key("chat:1"), HOUR).await.unwrap();
    to.delete(&key("chat:2")).await.unwrap();

    let mut found = Vec::new();
    let report = transfer::verify(&from, &to, "", TOLERANCE, |difference| {
        found.push(match difference {
            Difference::Value(key) => format!("value {key}"),
            Difference::Expiry(key) => format!("expiry {key}"),
            Difference::Missing(key) => format!("missing {key}"),
            other => panic!("{other:?}"),
        });
    })
    .await
    .unwrap();
    found.sort();
    assert_eq!(found, ["expiry chat:1", "missing chat:2", "value chat:0"]);
    assert_eq!((report.equal, report.different), (1, 3));
}

/// A target with three methods, no expiry, and a dislike.
#[derive(Debug, Default)]
struct Picky {
    entries: MemoryStorage,
    down: bool,
}

#[async_trait]
impl Storage for Picky {
    async fn read(&self, key: &Key) -> Result<Option<Record>> {
        self.entries.read(key).await
    }

    async fn write(&self, key: &Key, value: Bytes, expiry: Expiry) -> Result<()> {
        if self.down {
            return Err(Error::new(ErrorKind::Unavailable, "down"));
        }
        if expiry != Expiry::Never {
            return Err(Error::unsupported("picky", Operation::Write));
        }
        if key.as_str() == "chat:3" {
            return Err(Error::new(ErrorKind::InvalidValue, "not this one"));
        }
        self.entries.write(key, value, expiry).await
    }

    async fn delete(&self, key: &Key) -> Result<bool> {
        self.entries.delete(key).await
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::minimal()
    }
}

#[tokio::test]
async fn an_entry_that_fails_is_named_and_the_others_are_copied() {
    let (from, to) = (filled(6).await, Picky::default());
    let mut failed = Vec::new();
    let report = transfer::copy(&from, &to, &CopyOptions::default(), |event| {
        if let Event::Failed { key: Some(key), error } = event {
            failed.push((key.to_string(), error.kind()));
        }
    })
    .await
    .unwrap();
    failed.sort_by(|one, other| one.0.cmp(&other.0));
    let expected = [
        ("chat:0".to_owned(), ErrorKind::Unsupported),
        ("chat:2".to_owned(), ErrorKind::Unsupported),
        ("chat:3".to_owned(), ErrorKind::InvalidValue),
        ("chat:4".to_owned(), ErrorKind::Unsupported),
    ];
    assert_eq!(failed, expected);
    assert_eq!((report.copied, report.failed), (2, 4));

    let report = copy(&from, &to, &CopyOptions::default().drop_expiry(true)).await.unwrap();
    assert_eq!((report.copied, report.failed), (5, 1));
}

#[tokio::test]
async fn a_target_that_is_down_ends_the_copy_with_a_retryable_error() {
    let to = Picky { down: true, ..Picky::default() };
    let error = copy(&filled(3).await, &to, &CopyOptions::default()).await.unwrap_err();
    assert!(error.is_retryable());
}

#[tokio::test]
async fn a_source_with_no_listing_is_an_error() {
    let error = copy(&Picky::default(), &MemoryStorage::new(), &CopyOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

/// A source whose listing breaks off, as that of a damaged database does.
#[derive(Debug)]
struct BreaksOff(MemoryStorage);

#[async_trait]
impl Storage for BreaksOff {
    async fn read(&self, key: &Key) -> Result<Option<Record>> {
        self.0.read(key).await
    }

    async fn write(&self, key: &Key, value: Bytes, expiry: Expiry) -> Result<()> {
        self.0.write(key, value, expiry).await
    }

    async fn delete(&self, key: &Key) -> Result<bool> {
        self.0.delete(key).await
    }

    fn entries<'a>(&'a self, prefix: &'a str) -> EntryStream<'a> {
        let broken = Err(Error::new(ErrorKind::Other, "the rest cannot be read"));
        self.0.entries(prefix).take(3).chain(stream::once(async { broken })).boxed()
    }
}

#[tokio::test]
async fn a_listing_that_breaks_off_is_an_error_and_not_a_short_copy() {
    let (from, to) = (BreaksOff(filled(10).await), MemoryStorage::new());
    let error = copy(&from, &to, &CopyOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Other);
    let error = transfer::verify(&from, &to, "", TOLERANCE, |_| {}).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Other);
}
