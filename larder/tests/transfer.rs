//! The guarantees of `copy` and `verify`, on stores in memory.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test fails by panicking.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt, stream};
use larder::memory::MemoryStorage;
use larder::transfer::{self, CopyOptions, Difference, Event, VerifyOptions};
use larder::{
    Applied, Bytes, Change, DeleteOptions, Entry, EntryStream, Error, ErrorKind, Expiry, Info, Key,
    ListOptions, Location, Operation, ReadOptions, Record, Result, Storage, Store, TouchOptions,
    WriteOptions, Written, async_trait,
};

const HOUR: Expiry = Expiry::after_secs(3600);

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

fn empty() -> Store {
    Store::from(MemoryStorage::new())
}

async fn filled(count: usize) -> Store {
    Store::from(entries(count).await)
}

async fn entries(count: usize) -> MemoryStorage {
    let storage = MemoryStorage::new();
    let store = Store::from(storage.clone());
    for number in 0..count {
        let expiry = if number % 2 == 0 { HOUR } else { Expiry::Never };
        store.write(format!("chat:{number}"), number.to_string()).expiry(expiry).await.unwrap();
    }
    storage
}

async fn copy(from: &Store, to: &Store, options: &CopyOptions) -> Result<transfer::CopyReport> {
    transfer::copy(from, to, options, |_| {}).await
}

/// The numbers of equal entries, and of entries that differ or that only the target has.
async fn verify(from: &Store, to: &Store) -> (u64, u64) {
    let report = transfer::verify(from, to, &VerifyOptions::default(), |_| {}).await.unwrap();
    (report.equal, report.different + report.extra)
}

#[tokio::test]
async fn copied_entries_keep_their_time_to_live() {
    let (from, to) = (filled(1_000).await, empty());
    let report = copy(&from, &to, &CopyOptions::default()).await.unwrap();
    assert_eq!((report.copied, report.failed, report.expired), (1_000, 0, 0));

    assert_eq!(to.ttl("chat:1").await.unwrap(), Some(Expiry::Never));
    let Some(Expiry::After(left)) = to.ttl("chat:0").await.unwrap() else {
        panic!("the entry expires");
    };
    assert!(left <= Duration::from_secs(3600) && left > Duration::from_secs(3000), "{left:?}");
    assert_eq!(verify(&from, &to).await, (1_000, 0));
}

#[tokio::test]
async fn only_keys_with_the_prefix_are_copied_and_other_entries_of_the_target_stay() {
    let (from, to) = (filled(3).await, empty());
    from.write("user:1", "u").await.unwrap();
    to.write("other", "o").await.unwrap();
    let report = copy(&from, &to, &CopyOptions::default().prefix("chat:")).await.unwrap();
    assert_eq!(report.copied, 3);
    assert!(to.contains("other").await.unwrap());
    assert!(!to.contains("user:1").await.unwrap());
}

#[tokio::test]
async fn resumed_copy_writes_only_missing_entries() {
    let (from, to) = (filled(10).await, empty());
    copy(&from, &to, &CopyOptions::default().prefix("chat:1")).await.unwrap();
    let resumed = CopyOptions::default().resume(true);
    let report = copy(&from, &to, &resumed).await.unwrap();
    assert_eq!((report.copied, report.unchanged, report.kept), (9, 1, 0));
    let report = copy(&from, &to, &resumed).await.unwrap();
    assert_eq!((report.copied, report.unchanged, report.kept), (0, 10, 0));
    assert_eq!(verify(&from, &to).await, (10, 0));

    from.write("chat:1", "changed").await.unwrap();
    from.touch("chat:2", Expiry::Never).await.unwrap();
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
    assert_eq!(to.read("chat:1").await.unwrap().unwrap().value, "1");
}

/// A target into which another program writes `chat:1` after every read.
#[derive(Debug)]
struct Contested(MemoryStorage);

#[async_trait]
impl Storage for Contested {
    async fn read(&self, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
        self.0.read(key, options).await
    }

    async fn read_many(&self, keys: &[Key], options: &ReadOptions) -> Vec<Result<Option<Record>>> {
        let records = self.0.read_many(keys, options).await;
        self.0.write(&key("chat:1"), "newer".into(), &WriteOptions::new()).await.unwrap();
        records
    }

    async fn write(&self, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        self.0.write(key, value, options).await
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<bool> {
        self.0.delete(key, options).await
    }

    fn info(&self) -> Info {
        self.0.info()
    }
}

#[tokio::test]
async fn resumed_copy_never_overwrites_a_concurrent_write_to_the_target() {
    let to = Store::from(Contested(MemoryStorage::new()));
    let report = copy(&filled(3).await, &to, &CopyOptions::default().resume(true)).await.unwrap();
    assert_eq!((report.copied, report.kept), (2, 1));
    assert_eq!(to.read("chat:1").await.unwrap().unwrap().value, "newer");
}

#[tokio::test]
async fn delete_removes_only_entries_that_the_source_lacks() {
    let (from, to) = (filled(600).await, filled(1_300).await);
    to.write("user:1", "u").await.unwrap();
    let options = CopyOptions::default().prefix("chat:").delete(true);
    let report = copy(&from, &to, &options.clone().dry_run(true)).await.unwrap();
    assert_eq!((report.copied, report.deleted), (600, 700));
    assert_eq!(verify(&from, &to).await, (600, 701));

    let report = copy(&from, &to, &options).await.unwrap();
    assert_eq!((report.copied, report.deleted, report.failed), (600, 700, 0));
    assert!(to.contains("user:1").await.unwrap());
    assert_eq!(verify(&from, &to).await, (600, 1));

    let error = copy(&empty(), &to, &CopyOptions::default().delete(true)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    assert!(to.contains("chat:1").await.unwrap());
}

/// A store in memory with replaced listings.
struct Listed {
    inner: Arc<MemoryStorage>,
    info: Info,
    /// Whether it has a location.
    tells: bool,
    list: fn(&Arc<MemoryStorage>, ListOptions) -> EntryStream,
}

#[async_trait]
impl Storage for Listed {
    async fn read(&self, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
        self.inner.read(key, options).await
    }

    async fn write(&self, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        self.inner.write(key, value, options).await
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<bool> {
        self.inner.delete(key, options).await
    }

    async fn location(&self) -> Result<Option<Location>> {
        if self.tells { self.inner.location().await } else { Ok(None) }
    }

    fn info(&self) -> Info {
        self.info
    }

    fn list(self: Arc<Self>, options: ListOptions) -> EntryStream {
        (self.list)(&self.inner, options)
    }
}

/// The same entries in the order of their keys, errors first.
fn sorted(listed: EntryStream) -> EntryStream {
    let sort = |mut entries: Vec<Result<Entry>>| {
        entries.sort_by_cached_key(|entry| entry.as_ref().ok().map(|entry| entry.key.clone()));
        stream::iter(entries)
    };
    stream::once(listed.collect()).map(sort).flatten().boxed()
}

/// A store that lists entries in the order of their keys.
fn ordered(inner: MemoryStorage) -> Store {
    let info = inner.info().with_ordered_listing();
    let list = |inner: &Arc<MemoryStorage>, options: ListOptions| sorted(Arc::clone(inner).list(options));
    Store::from(Listed { inner: Arc::new(inner), info, tells: true, list })
}

/// A store that lists every key twice.
fn repeating(inner: MemoryStorage) -> Store {
    let info = inner.info().with_repeating_listing();
    let list = |inner: &Arc<MemoryStorage>, options: ListOptions| {
        Arc::clone(inner).list(options.clone()).chain(Arc::clone(inner).list(options)).boxed()
    };
    Store::from(Listed { inner: Arc::new(inner), info, tells: true, list })
}

/// A store that lists an entry with an invalid key, and a damaged entry.
fn littered(inner: MemoryStorage) -> Store {
    let info = inner.info();
    let list = |inner: &Arc<MemoryStorage>, options: ListOptions| {
        let litter: &[ErrorKind] = if options.values {
            &[ErrorKind::InvalidKey, ErrorKind::Corrupt]
        } else {
            &[ErrorKind::InvalidKey]
        };
        let litter = litter.iter().map(|kind| Err(Error::new(*kind, "litter")));
        stream::iter(litter).chain(Arc::clone(inner).list(options)).boxed()
    };
    Store::from(Listed { inner: Arc::new(inner), info, tells: true, list })
}

#[tokio::test]
async fn entry_that_is_listed_twice_is_deleted_and_counted_once() {
    let to = repeating(entries(20).await);
    let report = copy(&filled(5).await, &to, &CopyOptions::default().delete(true)).await.unwrap();
    assert_eq!((report.copied, report.deleted, report.failed), (5, 15, 0));
}

#[tokio::test]
async fn entries_that_cannot_be_listed_are_counted_and_prevent_deletions() {
    let (from, to) = (littered(entries(3).await), filled(5).await);
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
    assert!(to.contains("chat:4").await.unwrap());

    let report = transfer::verify(&from, &to, &VerifyOptions::default(), |_| {}).await.unwrap();
    assert_eq!((report.equal, report.extra, report.failed), (3, 2, 2));
    // Unreadable entries of the target stay, and do not count as equal.
    let report = copy(&to, &from, &CopyOptions::default().delete(true)).await.unwrap();
    assert_eq!((report.copied, report.failed), (5, 1));
    let report = transfer::verify(&to, &from, &VerifyOptions::default(), |_| {}).await.unwrap();
    assert_eq!((report.equal, report.extra, report.failed), (5, 0, 1));
    assert!(!report.is_equal());
}

#[tokio::test]
async fn copy_into_a_part_of_the_source_copies_each_entry_once() {
    let whole = filled(1_000).await;
    let part = whole.namespace("part:").unwrap();
    let options = CopyOptions::default().delete(true);
    for _ in 0..2 {
        let report = copy(&whole, &part, &options).await.unwrap();
        assert_eq!((report.copied, report.failed, report.deleted), (1_000, 0, 0));
    }
    let report = transfer::verify(&whole, &part, &VerifyOptions::default(), |_| {}).await.unwrap();
    assert_eq!(report.equal, 1_000);
    assert!(report.is_equal());
    assert_eq!(whole.keys("").count().await, 2_000);

    whole.delete("chat:7").await.unwrap();
    assert_eq!(copy(&whole, &part, &options).await.unwrap().deleted, 1);
    assert!(!part.contains("chat:7").await.unwrap());
}

#[tokio::test]
async fn copy_from_a_part_of_the_target_never_changes_the_source() {
    let whole = filled(3).await;
    let part = whole.namespace("part:").unwrap();
    part.write("a", "1").await.unwrap();
    part.write("part:a", "2").await.unwrap();
    let report = copy(&part, &whole, &CopyOptions::default()).await.unwrap();
    assert_eq!((report.copied, report.failed), (1, 1));
    assert_eq!(part.read("a").await.unwrap().unwrap().value, "1");

    part.delete("part:a").await.unwrap();
    let report = copy(&part, &whole, &CopyOptions::default().delete(true)).await.unwrap();
    assert_eq!((report.copied, report.deleted), (1, 3));
    assert!(part.contains("a").await.unwrap());
    assert!(whole.contains("a").await.unwrap());
}

#[tokio::test]
async fn copy_of_a_store_to_itself_is_refused() {
    let store = filled(3).await;
    for options in [CopyOptions::default(), CopyOptions::default().dry_run(true)] {
        let error = copy(&store, &store.clone(), &options).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        assert!(error.message().contains("same store"), "{error}");
    }
}

/// A store without a location and without expiry.
fn silent(inner: MemoryStorage) -> Store {
    let info = Info::minimal("memory").with_listing();
    let list = |inner: &Arc<MemoryStorage>, options: ListOptions| Arc::clone(inner).list(options);
    Store::from(Listed { inner: Arc::new(inner), info, tells: false, list })
}

#[tokio::test]
async fn nothing_is_deleted_if_the_stores_may_be_the_same() {
    let (from, to) = (filled(3).await, silent(MemoryStorage::new()));
    to.write("extra", "x").await.unwrap();
    let error = copy(&from, &to, &CopyOptions::default().delete(true)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    assert_eq!(to.keys("").count().await, 1, "nothing was copied or deleted");
    assert_eq!(copy(&from, &to, &CopyOptions::default().drop_expiry(true)).await.unwrap().copied, 3);
}

#[tokio::test]
async fn verify_reports_every_kind_of_difference() {
    let (stored, copied) = (entries(4).await, MemoryStorage::new());
    let (from, to) = (Store::from(stored.clone()), Store::from(copied.clone()));
    copy(&from, &to, &CopyOptions::default()).await.unwrap();
    to.write("chat:0", "other").expiry(HOUR).await.unwrap();
    to.touch("chat:1", HOUR).await.unwrap();
    to.delete("chat:2").await.unwrap();
    to.write("chat:9", "9").await.unwrap();
    // Before, between and after the keys of the source.
    to.write("a", "x").await.unwrap();
    to.write("chat:2.5", "x").await.unwrap();

    let both =
        [(from, to.clone()), (ordered(stored.clone()), ordered(copied.clone())), (ordered(stored), to)];
    for (from, to) in both {
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
        let expected =
            ["expiry chat:1", "extra a", "extra chat:2.5", "extra chat:9", "missing chat:2", "value chat:0"];
        assert_eq!(found, expected);
        assert_eq!((report.equal, report.different, report.extra), (1, 3, 3));
    }
}

#[tokio::test]
async fn ordered_verify_continues_after_a_damaged_entry_and_ends_with_a_broken_listing() {
    let damaged = |inner: &Arc<MemoryStorage>, options: ListOptions| {
        // The entries exist, but the listing fails to read one entry and has an old value of another.
        let read = |entry: Result<Entry>| match entry {
            Ok(entry) if entry.key.as_str() == "chat:2" => Err(Error::new(ErrorKind::Corrupt, "damaged")),
            Ok(entry) if entry.key.as_str() == "chat:3" => {
                Ok(Entry::new(entry.key, Record::new("old".into()).expires(Expiry::Never)))
            }
            entry => entry,
        };
        sorted(Arc::clone(inner).list(options)).map(read).boxed()
    };
    let (from, copied) = (ordered(entries(4).await), entries(4).await);
    let info = copied.info().with_ordered_listing();
    let to = Store::from(Listed { inner: Arc::new(copied), info, tells: true, list: damaged });
    let mut unlisted = 0;
    let report = transfer::verify(&from, &to, &VerifyOptions::default(), |difference| match difference {
        Difference::Unlisted(error) if error.kind() == ErrorKind::Corrupt => unlisted += 1,
        other => panic!("{other:?}"),
    })
    .await
    .unwrap();
    // Both entries are read once more.
    assert_eq!((report.equal, report.different, report.failed, unlisted), (4, 0, 1, 1));

    let broken = |inner: &Arc<MemoryStorage>, options: ListOptions| {
        let broken = Err(Error::new(ErrorKind::Unavailable, "gone"));
        sorted(Arc::clone(inner).list(options)).take(2).chain(stream::once(async { broken })).boxed()
    };
    for breaks in [true, false] {
        let inner = Arc::new(entries(4).await);
        let store = Store::from(Listed { inner, info, tells: true, list: broken });
        let (from, to) = if breaks { (&store, &to) } else { (&from, &store) };
        let error = transfer::verify(from, to, &VerifyOptions::default(), |_| {}).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
    }
}

/// A target with three methods and without expiry, which refuses one entry.
#[derive(Debug, Default)]
struct Picky {
    entries: MemoryStorage,
    down: bool,
}

#[async_trait]
impl Storage for Picky {
    async fn read(&self, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
        self.entries.read(key, options).await
    }

    async fn write(&self, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        if self.down {
            return Err(Error::new(ErrorKind::Unavailable, "down"));
        }
        if options.expiry != Expiry::Never {
            return Err(Error::unsupported().with_adapter("picky").with_operation(Operation::Write));
        }
        if key.as_str() == "chat:3" {
            return Err(Error::new(ErrorKind::InvalidValue, "not this one"));
        }
        self.entries.write(key, value, options).await
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<bool> {
        self.entries.delete(key, options).await
    }
}

#[tokio::test]
async fn failed_entry_is_reported_and_the_others_are_copied() {
    let (from, to) = (filled(6).await, Store::from(Picky::default()));
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
async fn unavailable_target_ends_the_copy_with_a_retryable_error() {
    let to = Store::from(Picky { down: true, ..Picky::default() });
    let error = copy(&filled(3).await, &to, &CopyOptions::default()).await.unwrap_err();
    assert!(error.is_retryable());
}

#[tokio::test]
async fn source_without_listing_is_an_error() {
    let error = copy(&Picky::default().into(), &empty(), &CopyOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

/// A source whose listing ends with an error, as in a damaged database.
fn broken(inner: MemoryStorage) -> Store {
    let info = Info::minimal("broken").with_listing();
    let list = |inner: &Arc<MemoryStorage>, options: ListOptions| {
        let broken = Err(Error::new(ErrorKind::Other, "the rest cannot be read"));
        Arc::clone(inner).list(options).take(3).chain(stream::once(async { broken })).boxed()
    };
    Store::from(Listed { inner: Arc::new(inner), info, tells: true, list })
}

#[tokio::test]
async fn broken_listing_is_an_error() {
    let (from, to) = (broken(entries(10).await), empty());
    let error = copy(&from, &to, &CopyOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Other);
    let error = transfer::verify(&from, &to, &VerifyOptions::default(), |_| {}).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Other);
}

/// Counts the calls of each method.
#[derive(Debug, Default)]
struct Counted {
    entries: MemoryStorage,
    /// Whether listings are in the order of the keys.
    ordered: bool,
    calls: Arc<Calls>,
}

#[derive(Debug, Default)]
struct Calls {
    listings: AtomicU64,
    batches_read: AtomicU64,
    batches_applied: AtomicU64,
    /// Calls for one entry each.
    single: AtomicU64,
}

impl Calls {
    /// The numbers of listings, of batches read and applied, and of calls for one entry, since the last call.
    fn take(&self) -> [u64; 4] {
        [&self.listings, &self.batches_read, &self.batches_applied, &self.single]
            .map(|count| count.swap(0, Ordering::Relaxed))
    }
}

fn count(calls: &AtomicU64) {
    calls.fetch_add(1, Ordering::Relaxed);
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Storage for Counted {
    async fn read(&self, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
        count(&self.calls.single);
        self.entries.read(key, options).await
    }

    async fn write(&self, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        count(&self.calls.single);
        self.entries.write(key, value, options).await
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<bool> {
        count(&self.calls.single);
        self.entries.delete(key, options).await
    }

    fn info(&self) -> Info {
        let info = self.entries.info();
        if self.ordered { info.with_ordered_listing() } else { info }
    }

    async fn touch(&self, key: &Key, expiry: Expiry, options: &TouchOptions) -> Result<bool> {
        count(&self.calls.single);
        self.entries.touch(key, expiry, options).await
    }

    async fn read_many(&self, keys: &[Key], options: &ReadOptions) -> Vec<Result<Option<Record>>> {
        count(&self.calls.batches_read);
        self.entries.read_many(keys, options).await
    }

    async fn apply(&self, changes: Vec<Change>) -> Vec<Result<Applied>> {
        count(&self.calls.batches_applied);
        self.entries.apply(changes).await
    }

    fn list(self: Arc<Self>, options: ListOptions) -> EntryStream {
        count(&self.calls.listings);
        let listed = Arc::new(self.entries.clone()).list(options);
        if self.ordered { sorted(listed) } else { listed }
    }

    async fn clear(self: Arc<Self>, prefix: &str) -> Result<u64> {
        count(&self.calls.single);
        Arc::new(self.entries.clone()).clear(prefix).await
    }

    async fn purge_expired(&self) -> Result<u64> {
        self.entries.purge_expired().await
    }

    async fn ping(&self) -> Result<()> {
        self.entries.ping().await
    }

    async fn location(&self) -> Result<Option<Location>> {
        self.entries.location().await
    }

    async fn flush(&self) -> Result<()> {
        self.entries.flush().await
    }

    async fn close(&self) -> Result<()> {
        self.entries.close().await
    }
}

#[tokio::test]
async fn copy_and_verify_make_no_call_for_a_single_entry() {
    let counted = |entries, ordered| {
        let storage = Counted { entries, ordered, calls: Arc::default() };
        (Arc::clone(&storage.calls), Store::from(storage))
    };
    let stored = entries(4_000).await;
    let (source, from) = counted(stored.clone(), false);
    let copied = MemoryStorage::new();
    let (target, to) = counted(copied.clone(), false);
    let (ordered_source, ordered_from) = counted(stored, true);
    let (ordered_target, ordered_to) = counted(copied, true);
    let resume = CopyOptions::default().resume(true);

    // Four thousand entries are four batches.
    assert_eq!(copy(&from, &to, &CopyOptions::default()).await.unwrap().copied, 4_000);
    assert_eq!((source.take(), target.take()), ([1, 0, 0, 0], [0, 0, 4, 0]));
    assert_eq!(copy(&from, &to, &resume).await.unwrap().unchanged, 4_000);
    assert_eq!((source.take(), target.take()), ([1, 0, 0, 0], [0, 4, 0, 0]));
    assert_eq!(verify(&from, &to).await, (4_000, 0));
    assert_eq!((source.take(), target.take()), ([1, 4, 0, 0], [1, 4, 0, 0]));
    // If both listings have an order, no key is looked up.
    assert_eq!(verify(&ordered_from, &ordered_to).await, (4_000, 0));
    assert_eq!((ordered_source.take(), ordered_target.take()), ([1, 0, 0, 0], [1, 0, 0, 0]));

    for number in 0..1_200 {
        to.write(format!("extra:{number}"), "x").await.unwrap();
        to.delete(format!("chat:{number}")).await.unwrap();
    }
    target.take();
    // Only the entries that one of the stores lacks are looked up: 2,400, in three batches.
    assert_eq!(verify(&ordered_from, &ordered_to).await, (2_800, 2_400));
    assert_eq!((ordered_source.take(), ordered_target.take()), ([1, 3, 0, 0], [1, 3, 0, 0]));
    let report = copy(&from, &to, &resume.delete(true)).await.unwrap();
    assert_eq!((report.copied, report.unchanged, report.deleted), (1_200, 2_800, 1_200));
    let ([source_listings, batches, 0, 0], [1, 4, applied, 0]) = (source.take(), target.take()) else {
        panic!("a call was made for a single entry");
    };
    // The target now has 5,200 keys. Each is looked up in the source, in six batches.
    assert_eq!((source_listings, batches), (1, 6));
    assert!(applied <= 10, "{applied}");
}

#[tokio::test]
async fn failed_batch_counts_the_entries_that_were_written() {
    /// Accepts 2,500 entries, and then fails.
    #[derive(Debug)]
    struct Dies(MemoryStorage);

    #[async_trait]
    impl Storage for Dies {
        async fn read(&self, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
            self.0.read(key, options).await
        }

        async fn write(&self, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
            if self.0.len() == 2_500 {
                return Err(Error::new(ErrorKind::Unavailable, "gone"));
            }
            self.0.write(key, value, options).await
        }

        async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<bool> {
            self.0.delete(key, options).await
        }

        fn info(&self) -> Info {
            Info::minimal("dies").with_expiry()
        }
    }

    let (mut copied, mut failed) = (0, 0);
    let to = Store::from(Dies(MemoryStorage::new()));
    // Five batches, several of them in flight at once.
    let error = transfer::copy(&filled(5_000).await, &to, &CopyOptions::default(), |event| match event {
        Event::Progress(report) => copied = report.copied,
        Event::Failed { .. } => failed += 1,
        _ => {}
    })
    .await
    .unwrap_err();
    assert_eq!((error.kind(), copied, failed), (ErrorKind::Unavailable, 2_500, 0));
}

/// A listing that repeats a key may have two values of it, and the second is newer.
#[tokio::test]
async fn batches_are_written_concurrently_unless_the_listing_repeats_keys() {
    /// Counts the batches that are applied at the same time.
    #[derive(Debug, Default)]
    struct Busy {
        entries: MemoryStorage,
        now: AtomicU64,
        most: Arc<AtomicU64>,
    }

    #[async_trait]
    impl Storage for Busy {
        async fn read(&self, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
            self.entries.read(key, options).await
        }

        async fn write(&self, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
            self.entries.write(key, value, options).await
        }

        async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<bool> {
            self.entries.delete(key, options).await
        }

        fn info(&self) -> Info {
            self.entries.info()
        }

        async fn apply(&self, changes: Vec<Change>) -> Vec<Result<Applied>> {
            self.most.fetch_max(self.now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            // In the meantime, the copy can begin another batch.
            tokio::task::yield_now().await;
            let applied = self.entries.apply(changes).await;
            self.now.fetch_sub(1, Ordering::Relaxed);
            applied
        }
    }

    let stored = entries(5_000).await;
    for (from, expected) in [(Store::from(stored.clone()), 3), (repeating(stored), 1)] {
        let target = Busy::default();
        let most = Arc::clone(&target.most);
        copy(&from, &target.into(), &CopyOptions::default()).await.unwrap();
        assert_eq!(most.load(Ordering::Relaxed), expected);
    }
}
