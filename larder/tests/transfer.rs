//! What copying and verifying promise, on storages in memory.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test fails by panicking.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use larder::{
    Bytes, Capabilities, Condition, EntryStream, Error, ErrorKind, Expiry, Key, KeyStream, Operation, Record,
    Result, Storage, Version, async_trait,
    memory::MemoryStorage,
    transfer::{self, CopyOptions, Difference, Event, Nesting, VerifyOptions},
};

const HOUR: Expiry = Expiry::after_secs(3600);

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

/// The counts of equal entries, and of those that differ or are in the target alone.
async fn verify(from: &dyn Storage, to: &dyn Storage) -> (u64, u64) {
    let report = transfer::verify(from, to, &VerifyOptions::default(), |_| {}).await.unwrap();
    (report.equal, report.different + report.extra)
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
async fn resumed_copy_writes_only_what_is_missing() {
    let (from, to) = (filled(10).await, MemoryStorage::new());
    copy(&from, &to, &CopyOptions::default().prefix("chat:1")).await.unwrap();
    let resumed = CopyOptions::default().resume(true);
    let report = copy(&from, &to, &resumed).await.unwrap();
    assert_eq!((report.copied, report.unchanged, report.kept), (9, 1, 0));
    let report = copy(&from, &to, &resumed).await.unwrap();
    assert_eq!((report.copied, report.unchanged, report.kept), (0, 10, 0));
    assert_eq!(verify(&from, &to).await, (10, 0));

    from.write(&key("chat:1"), "changed".into(), Expiry::Never).await.unwrap();
    from.touch(&key("chat:2"), Expiry::Never).await.unwrap();
    let mut kept = Vec::new();
    let report = transfer::copy(&from, &to, &resumed, |event| {
        if let Event::Kept(key) = event {
            kept.push(key.to_string());
        }
    })
    .await
    .unwrap();
    kept.sort();
    assert_eq!(kept, ["chat:1", "chat:2"]);
    assert_eq!((report.copied, report.unchanged, report.kept), (0, 8, 2));
    assert_eq!(to.read(&key("chat:1")).await.unwrap().unwrap().value, "1");
}

/// A target into which another program writes `chat:1` after every read.
#[derive(Debug)]
struct Contested(MemoryStorage);

#[async_trait]
impl Storage for Contested {
    async fn read(&self, key: &Key) -> Result<Option<Record>> {
        self.0.read(key).await
    }

    async fn read_many(&self, keys: &[Key]) -> Result<Vec<Option<Record>>> {
        let records = self.0.read_many(keys).await;
        self.0.write(&key("chat:1"), "newer".into(), Expiry::Never).await?;
        records
    }

    async fn write(&self, key: &Key, value: Bytes, expiry: Expiry) -> Result<()> {
        self.0.write(key, value, expiry).await
    }

    async fn write_if(
        &self,
        key: &Key,
        value: Bytes,
        expiry: Expiry,
        condition: Condition,
    ) -> Result<Version> {
        self.0.write_if(key, value, expiry, condition).await
    }

    async fn delete(&self, key: &Key) -> Result<bool> {
        self.0.delete(key).await
    }

    async fn ttl(&self, key: &Key) -> Result<Option<Expiry>> {
        self.0.ttl(key).await
    }

    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }
}

#[tokio::test]
async fn resumed_copy_never_overtakes_a_concurrent_write_to_the_target() {
    let to = Contested(MemoryStorage::new());
    let report = copy(&filled(3).await, &to, &CopyOptions::default().resume(true)).await.unwrap();
    assert_eq!((report.copied, report.kept), (2, 1));
    assert_eq!(to.read(&key("chat:1")).await.unwrap().unwrap().value, "newer");
}

#[tokio::test]
async fn delete_removes_only_what_the_source_does_not_have() {
    let (from, to) = (filled(600).await, filled(1_300).await);
    to.write(&key("user:1"), "u".into(), Expiry::Never).await.unwrap();
    let options = CopyOptions::default().prefix("chat:").delete(true);
    let report = copy(&from, &to, &options.clone().dry_run(true)).await.unwrap();
    assert_eq!((report.copied, report.deleted), (600, 700));
    assert_eq!(verify(&from, &to).await, (600, 701));

    let report = copy(&from, &to, &options).await.unwrap();
    assert_eq!((report.copied, report.deleted, report.failed), (600, 700, 0));
    assert!(to.contains(&key("user:1")).await.unwrap());
    assert_eq!(verify(&from, &to).await, (600, 1));

    let error = copy(&MemoryStorage::new(), &to, &CopyOptions::default().delete(true)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    assert!(to.contains(&key("chat:1")).await.unwrap());
}

/// A store whose listings meet an entry that no key can name, and one that is damaged.
#[derive(Debug)]
struct Littered(MemoryStorage);

#[async_trait]
impl Storage for Littered {
    async fn read(&self, key: &Key) -> Result<Option<Record>> {
        self.0.read(key).await
    }

    async fn write(&self, key: &Key, value: Bytes, expiry: Expiry) -> Result<()> {
        self.0.write(key, value, expiry).await
    }

    async fn delete(&self, key: &Key) -> Result<bool> {
        self.0.delete(key).await
    }

    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    async fn ttl(&self, key: &Key) -> Result<Option<Expiry>> {
        self.0.ttl(key).await
    }

    fn keys<'a>(&'a self, prefix: &'a str) -> KeyStream<'a> {
        let litter = Err(Error::new(ErrorKind::InvalidKey, "a name that is not a key"));
        stream::once(async { litter }).chain(self.0.keys(prefix)).boxed()
    }

    fn entries<'a>(&'a self, prefix: &'a str) -> EntryStream<'a> {
        let litter = [ErrorKind::InvalidKey, ErrorKind::Corrupt].map(|kind| Err(Error::new(kind, "litter")));
        stream::iter(litter).chain(self.0.entries(prefix)).boxed()
    }
}

#[tokio::test]
async fn entries_that_cannot_be_listed_are_counted_and_nothing_is_deleted() {
    let (from, to) = (Littered(filled(3).await), filled(5).await);
    let (mut failed, mut withheld) = (0, false);
    let report = transfer::copy(&from, &to, &CopyOptions::default().delete(true), |event| match event {
        Event::Failed { key: None, .. } => failed += 1,
        Event::NothingDeleted => withheld = true,
        Event::Deleted(key) => panic!("{key} was deleted"),
        _ => {}
    })
    .await
    .unwrap();
    assert!(withheld);
    assert_eq!((report.copied, report.failed, failed, report.deleted), (3, 2, 2, 0));
    assert!(to.contains(&key("chat:4")).await.unwrap());

    let report = transfer::verify(&from, &to, &VerifyOptions::default(), |_| {}).await.unwrap();
    assert_eq!((report.equal, report.extra, report.failed), (3, 2, 2));
    // Litter in the target stays, and is not taken for equal.
    let report = copy(&to, &from, &CopyOptions::default().delete(true)).await.unwrap();
    assert_eq!((report.copied, report.failed), (5, 1));
    let report = transfer::verify(&to, &from, &VerifyOptions::default(), |_| {}).await.unwrap();
    assert_eq!((report.equal, report.extra, report.failed), (5, 0, 1));
    assert!(!report.is_equal());
}

/// A part of a store: the entries whose keys begin with a text, without that text.
#[derive(Debug)]
struct Part<'a>(&'a MemoryStorage, &'static str);

impl Part<'_> {
    fn full(&self, key: &Key) -> Key {
        Key::new(format!("{}{key}", self.1)).unwrap()
    }
}

#[async_trait]
impl Storage for Part<'_> {
    async fn read(&self, key: &Key) -> Result<Option<Record>> {
        self.0.read(&self.full(key)).await
    }

    async fn write(&self, key: &Key, value: Bytes, expiry: Expiry) -> Result<()> {
        self.0.write(&self.full(key), value, expiry).await
    }

    async fn delete(&self, key: &Key) -> Result<bool> {
        self.0.delete(&self.full(key)).await
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::minimal().with_listing().with_expiry()
    }

    async fn ttl(&self, key: &Key) -> Result<Option<Expiry>> {
        self.0.ttl(&self.full(key)).await
    }

    fn keys<'a>(&'a self, prefix: &'a str) -> KeyStream<'a> {
        stream::once(async move {
            let all: Vec<_> = self.0.keys(self.1).collect().await;
            stream::iter(all)
        })
        .flatten()
        .map(move |key| key.and_then(|key| Key::new(&key.as_str()[self.1.len()..])))
        .filter(move |key| std::future::ready(key.as_ref().is_ok_and(|key| key.as_str().starts_with(prefix))))
        .boxed()
    }
}

#[tokio::test]
async fn copy_into_a_part_of_the_source_copies_each_entry_once() {
    let whole = filled(1_000).await;
    let part = Part(&whole, "part:");
    let nesting = Nesting::TargetInSource("part:".to_owned());
    let options = CopyOptions::default().nesting(nesting.clone()).delete(true);
    for _ in 0..2 {
        let report = copy(&whole, &part, &options).await.unwrap();
        assert_eq!((report.copied, report.failed, report.deleted), (1_000, 0, 0));
    }
    let verified = VerifyOptions::default().nesting(nesting);
    let report = transfer::verify(&whole, &part, &verified, |_| {}).await.unwrap();
    assert_eq!(report.equal, 1_000);
    assert!(report.is_equal());
    assert_eq!(whole.keys("").count().await, 2_000);

    whole.delete(&key("chat:7")).await.unwrap();
    assert_eq!(copy(&whole, &part, &options).await.unwrap().deleted, 1);
    assert!(!part.contains(&key("chat:7")).await.unwrap());
}

#[tokio::test]
async fn copy_out_of_a_part_of_the_target_never_touches_the_source() {
    let whole = filled(3).await;
    let part = Part(&whole, "part:");
    part.write(&key("a"), "1".into(), Expiry::Never).await.unwrap();
    part.write(&key("part:a"), "2".into(), Expiry::Never).await.unwrap();
    let nesting = Nesting::SourceInTarget("part:".to_owned());
    let report = copy(&part, &whole, &CopyOptions::default().nesting(nesting.clone())).await.unwrap();
    assert_eq!((report.copied, report.failed), (1, 1));
    assert_eq!(part.read(&key("a")).await.unwrap().unwrap().value, "1");

    part.delete(&key("part:a")).await.unwrap();
    let report = copy(&part, &whole, &CopyOptions::default().nesting(nesting).delete(true)).await.unwrap();
    assert_eq!((report.copied, report.deleted), (1, 3));
    assert!(part.contains(&key("a")).await.unwrap());
    assert!(whole.contains(&key("a")).await.unwrap());
}

#[tokio::test]
async fn verification_finds_every_kind_of_difference() {
    let (from, to) = (filled(4).await, MemoryStorage::new());
    copy(&from, &to, &CopyOptions::default()).await.unwrap();
    to.write(&key("chat:0"), "other".into(), HOUR).await.unwrap();
    to.touch(&key("chat:1"), HOUR).await.unwrap();
    to.delete(&key("chat:2")).await.unwrap();
    to.write(&key("chat:9"), "9".into(), Expiry::Never).await.unwrap();

    let mut found = Vec::new();
    let report = transfer::verify(&from, &to, &VerifyOptions::default(), |difference| {
        found.push(match difference {
            Difference::Value(key) => format!("value {key}"),
            Difference::Expiry(key) => format!("expiry {key}"),
            Difference::Missing(key) => format!("missing {key}"),
            Difference::Extra(key) => format!("extra {key}"),
            other => panic!("{other:?}"),
        });
    })
    .await
    .unwrap();
    found.sort();
    assert_eq!(found, ["expiry chat:1", "extra chat:9", "missing chat:2", "value chat:0"]);
    assert_eq!((report.equal, report.different, report.extra), (1, 3, 1));
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
            return Err(Error::unsupported().with_adapter("picky").with_operation(Operation::Write));
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

    // The target has no compare-and-swap: a resumed copy reads it before it writes.
    let resumed = CopyOptions::default().drop_expiry(true).resume(true);
    let report = copy(&from, &to, &resumed).await.unwrap();
    assert_eq!((report.copied, report.unchanged, report.failed), (3, 2, 1));
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
    let error = transfer::verify(&from, &to, &VerifyOptions::default(), |_| {}).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Other);
}
