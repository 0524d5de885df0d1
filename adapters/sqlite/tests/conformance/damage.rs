//! Files that are not databases, are damaged, or are full.

use futures_util::StreamExt;
use larder_core::{Bytes, Change, Error, ErrorKind, Expiry, Key, ReadOptions, Store};
use larder_sqlite::Config;
use larder_testkit::{Fails, Must, Suite};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};

use crate::spaces::Files;

/// Applies changes, which must succeed.
async fn apply(store: &Store, changes: Vec<Change>) {
    for result in store.apply(changes).await {
        result.must("apply a change");
    }
}

pub(crate) fn cases(suite: Suite<Files>) -> Suite<Files> {
    suite
        .case("a_file_that_is_not_a_database_is_rejected_and_unchanged", |context| async move {
            let path = context.factory.path("letter");
            let text = b"Dear Larder, this is a letter and not a database. ".repeat(100);
            std::fs::write(&path, &text).must("write the letter");
            let error =
                context.factory.builder("letter").connect().await.fails(ErrorKind::InvalidConfig, "open it");
            assert!(error.message().contains("not an SQLite database"), "{error}");
            assert_eq!(std::fs::read(&path).must("read the letter"), text);
            std::fs::remove_file(path).must("remove the letter");
        })
        .case("a_missing_directory_is_a_configuration_error", |context| async move {
            let path = context.factory.path("no").join("such").join("file.db");
            let error = Config::new().file(path).connect().await;
            error.fails(ErrorKind::InvalidConfig, "open a file in no directory");
            let error = Config::new().file(std::env::temp_dir()).connect().await;
            error.fails(ErrorKind::InvalidConfig, "open a directory");
            Config::new().connect().await.fails(ErrorKind::InvalidConfig, "open nothing");
        })
        .case("a_damaged_file_is_corrupt", |context| async move {
            let space = context.target.space();
            let key = Key::new("k").must("a key");
            let storage = context.factory.builder(space).connect().await.must("open");
            storage.write(&key, Bytes::from(vec![1; 50_000])).await.must("write");
            storage.close().await.must("close");
            let path = context.factory.path(space);
            let mut file = std::fs::read(&path).must("read the file");
            // The first page, which holds the schema, stays; the others are overwritten.
            file[4096..].fill(0xa5);
            std::fs::write(&path, &file).must("damage the file");
            let outcome = match context.factory.builder(space).connect().await {
                Ok(storage) => storage.read(&key).await.map(drop),
                Err(error) => Err(error),
            };
            outcome.fails(ErrorKind::Corrupt, "read from it");
        })
        .case("a_damaged_row_does_not_end_a_listing", |context| async move {
            let space = context.target.space();
            let storage = context.factory.builder(space).connect().await.must("open");
            let value = |number: i32| format!("<{number}>").repeat(20);
            let keys: Vec<_> =
                (0..2_000).map(|number| Key::new(format!("{number:04}")).must("a key")).collect();
            let change = |(key, number): (&Key, i32)| Change::put(key.clone(), value(number), Expiry::Never);
            apply(&storage, keys.iter().zip(0..).map(change).collect()).await;
            storage.close().await.must("close");
            let path = context.factory.path(space);
            let mut file = std::fs::read(&path).must("read the file");
            // The page of this row and a few others. The index of the keys is on another page.
            let needle = value(1_000);
            let at = file.windows(needle.len()).position(|part| part == needle.as_bytes()).must("the row");
            let page = at / 4096 * 4096;
            file[page..page + 4096].fill(0xa5);
            std::fs::write(&path, &file).must("damage the page");
            let storage = context.factory.builder(space).connect().await.must("open the damaged file");
            let entries: Vec<_> = storage.entries("").map(|entry| entry.map(|(key, _)| key)).collect().await;
            let listed: Vec<_> = storage.keys("").collect().await;
            for listed in [entries, listed] {
                assert_eq!(listed.len(), keys.len(), "each row is listed, as an entry or as an error");
                let bad = listed.iter().filter_map(|key| key.as_ref().err());
                assert!(bad.clone().all(|error| error.kind() == ErrorKind::Corrupt));
                assert!((1..100).contains(&bad.count()));
                assert_eq!(listed.last().must("the last").as_ref().must("the last").as_str(), "1999");
            }
            // Rows on other pages are read, one by one and together.
            let read = storage.read_many(&keys, &ReadOptions::new()).await;
            assert_eq!(read.len(), keys.len());
            let bad = read.iter().filter_map(|record| record.as_ref().err());
            assert!(bad.clone().all(|error| error.kind() == ErrorKind::Corrupt));
            assert!((1..100).contains(&bad.count()));
            assert!(read.last().must("the last").as_ref().must("the last").is_some());
        })
        .case("a_listing_of_a_damaged_file_does_not_end_as_corrupt", |context| async move {
            let space = context.target.space();
            let storage = context.factory.builder(space).connect().await.must("open");
            let changes: Vec<_> = (0..2_000)
                .map(|number| {
                    let key = Key::new(format!("{number:04}")).must("a key");
                    Change::put(key, vec![1; 100], Expiry::Never)
                })
                .collect();
            let count = changes.len();
            apply(&storage, changes).await;
            storage.close().await.must("close");
            let path = context.factory.path(space);
            let mut file = std::fs::read(&path).must("read the file");
            let half = file.len() / 2;
            file[half..].fill(0xa5);
            std::fs::write(&path, &file).must("damage the file");
            let storage = context.factory.builder(space).connect().await.must("open the damaged file");
            let mut entries: Vec<_> = storage.entries("").collect().await;
            let last = entries.pop().must("the end of the listing");
            let error = last.fails(ErrorKind::Other, "list a damaged file");
            assert!(error.message().contains("a page of the store is damaged"), "{error}");
            let source = std::error::Error::source(&error).must("a source").to_string();
            assert!(source.contains("the database file is damaged"), "{source}");
            assert!(entries.len() < count);
            let damaged = entries.iter().filter_map(|entry| entry.as_ref().err());
            assert!(damaged.map(Error::kind).all(|kind| kind == ErrorKind::Corrupt));
        })
        .case("a_full_database_keeps_its_entries", |context| async move {
            let options = SqliteConnectOptions::new()
                .filename(context.factory.path(context.target.space()))
                .create_if_missing(true)
                .pragma("max_page_count", "64");
            let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await.must("open");
            let storage = Config::new().connect_with(pool.clone()).await.must("set up");
            let (small, large) = (Key::new("small").must("a key"), Key::new("large").must("a key"));
            storage.write(&small, Bytes::from_static(b"1")).await.must("write");
            let refused = storage.write(&large, Bytes::from(vec![1; 1 << 20])).await;
            refused.fails(ErrorKind::StorageFull, "write more than there is room for");
            assert!(!storage.contains(&large).await.must("look"));
            storage.write(&small, Bytes::from_static(b"2")).await.must("write");
            assert_eq!(storage.read(&small).await.must("read").must("the entry").value, "2");
            storage.close().await.must("close");
            pool.close().await;
        })
}
