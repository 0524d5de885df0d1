//! Opening existing databases, and databases of other programs.

use std::{collections::BTreeMap, fs, path::Path};

use futures_util::StreamExt;
use larder_core::{Bytes, ErrorKind, Expiry, Key};
use larder_sqlite::{Config, Mode};
use larder_testkit::{Fails, Must, Suite};
use sqlx::{Connection, SqliteConnection};
use tempfile::TempDir;

use crate::spaces::Files;

fn key(text: &str) -> Key {
    Key::new(text).must("a key")
}

/// Every file of a directory, with its content.
fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    fs::read_dir(directory)
        .must("list the directory")
        .map(|entry| {
            let entry = entry.must("list the directory");
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, fs::read(entry.path()).must("read a file"))
        })
        .collect()
}

async fn execute(path: &Path, statements: &[&'static str]) {
    let url = format!("sqlite:{}?mode=rwc", path.display());
    let mut connection = SqliteConnection::connect(&url).await.must("connect");
    for &sql in statements {
        sqlx::query(sql).execute(&mut connection).await.must(sql);
    }
    connection.close().await.must("close");
}

/// A database of another program, with its own table, and in the default mode of SQLite.
async fn foreign(directory: &TempDir) -> std::path::PathBuf {
    let path = directory.path().join("app.db");
    execute(&path, &["CREATE TABLE users (id INTEGER PRIMARY KEY)", "INSERT INTO users VALUES (7)"]).await;
    path
}

async fn journal_mode(path: &Path) -> String {
    let url = format!("sqlite:{}", path.display());
    let mut connection = SqliteConnection::connect(&url).await.must("connect");
    let mode = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&mut connection).await.must("ask");
    connection.close().await.must("close");
    mode
}

pub(crate) fn cases(suite: Suite<Files>) -> Suite<Files> {
    suite
        .case("opening_a_foreign_database_changes_no_byte", |context| async move {
            let directory = TempDir::new().must("make a directory");
            let path = foreign(&directory).await;
            let url = format!("sqlite:{}", path.display());
            for mode in ["PRAGMA journal_mode = DELETE", "PRAGMA journal_mode = WAL"] {
                execute(&path, &[mode]).await;
                let before = files(directory.path());
                let look = Config::from_url(&url).must("a URL").existing().connect().await;
                let error = look.fails(ErrorKind::InvalidConfig, "look at it");
                assert!(error.message().contains("table \"larder\" does not exist"), "{error}");
                assert!(error.message().contains("check the name"), "{error}");
                let users = Config::from_url(&url).must("a URL").table("users");
                let look = users.existing().connect().await;
                let error = look.fails(ErrorKind::InvalidConfig, "look at another program's table");
                assert!(error.message().contains("no column `key`"), "{error}");
                assert!(files(directory.path()) == before, "looking changed a database: {mode}");
            }
            drop(context);
        })
        .case("opening_a_missing_file_does_not_create_it", |context| async move {
            let directory = TempDir::new().must("make a directory");
            let path = directory.path().join("no.db");
            let look = Config::new().file(&path).existing().connect().await;
            let error = look.fails(ErrorKind::InvalidConfig, "look at no file");
            assert!(error.message().contains("the database file or its directory does not exist"), "{error}");
            let look = Config::new().file(path.join("below.db")).existing().connect().await;
            look.fails(ErrorKind::InvalidConfig, "look in no directory");
            assert!(files(directory.path()).is_empty());
            drop(context);
        })
        .case("an_existing_table_is_used_without_set_up", |context| async move {
            let directory = TempDir::new().must("make a directory");
            let path = foreign(&directory).await;
            let table = "CREATE TABLE larder (key TEXT NOT NULL PRIMARY KEY, value BLOB NOT NULL, \
                         version INTEGER NOT NULL, expires_at INTEGER)";
            let row = "INSERT INTO larder VALUES ('a', x'31', 1, NULL), ('gone', x'31', 2, 1)";
            execute(&path, &[table, row]).await;
            let before = files(directory.path());
            let sweep = std::time::Duration::from_millis(1);
            let builder = Config::new().file(&path).existing().sweep(Some(sweep));
            let storage = builder.connect().await.must("look");
            assert_eq!(storage.read(key("a")).await.must("read").must("the entry").value, "1");
            let listed: Vec<_> = storage.keys("").collect().await;
            assert_eq!(listed.len(), 1);
            storage.close().await.must("close");
            assert!(files(directory.path()) == before, "looking changed the database");

            let storage = Config::new().file(&path).existing().connect().await.must("look again");
            assert!(storage.delete(key("a")).await.must("delete an entry"));
            storage.close().await.must("close");
            assert_eq!(journal_mode(&path).await, "delete");
            let url = format!("sqlite:{}", path.display());
            let mut connection = SqliteConnection::connect(&url).await.must("connect");
            let left: Vec<String> =
                sqlx::query_scalar("SELECT key FROM larder").fetch_all(&mut connection).await.must("look");
            assert_eq!(left, ["gone"], "nothing was swept");
            connection.close().await.must("close");
            drop(context);
        })
        .case("a_table_of_another_program_is_rejected_before_any_change", |context| async move {
            let directory = TempDir::new().must("make a directory");
            let path = foreign(&directory).await;
            execute(&path, &["CREATE TABLE larder (id INTEGER PRIMARY KEY, name TEXT)"]).await;
            let before = files(directory.path());
            let open = Config::new().file(&path).connect().await;
            let error = open.fails(ErrorKind::InvalidConfig, "open another program's table");
            assert!(error.message().contains("no column `key`"), "{error}");
            assert!(files(directory.path()) == before, "a refused database was changed");
            for name in ["", "a\0b", "sqlite_x"] {
                let none = directory.path().join("none.db");
                let open = Config::new().file(none).table(name).connect().await;
                open.fails(ErrorKind::InvalidConfig, "open a table of no valid name");
            }
            assert!(files(directory.path()) == before, "a file was made for a table of no valid name");
            drop(context);
        })
        .case("a_name_in_use_is_rejected", |context| async move {
            let directory = TempDir::new().must("make a directory");
            let path = foreign(&directory).await;
            execute(&path, &["CREATE TABLE own (id INTEGER)", "CREATE INDEX larder ON own (id)"]).await;
            let before = files(directory.path());
            let open = Config::new().file(&path).connect().await;
            open.fails(ErrorKind::InvalidConfig, "open where an index has the table's name");
            assert!(files(directory.path()) == before, "a refused database was changed");
            drop(context);
        })
        .case("a_database_with_other_tables_keeps_its_journal_mode", |context| async move {
            let directory = TempDir::new().must("make a directory");
            let path = foreign(&directory).await;
            let storage = Config::new().file(&path).connect().await.must("open beside others");
            storage
                .write(key("a"), Bytes::from_static(b"1"))
                .expiry(Expiry::after_secs(60))
                .await
                .must("write");
            let tasks = (0..64).map(|number| {
                let storage = storage.clone();
                async move {
                    let key = key(&number.to_string());
                    storage.write(&key, Bytes::from_static(b"1")).await.must("write");
                    storage.read(&key).await.must("read").must("the entry");
                }
            });
            futures_util::future::join_all(tasks).await;
            assert_eq!(storage.keys("").collect::<Vec<_>>().await.len(), 65);
            storage.close().await.must("close");
            assert_eq!(journal_mode(&path).await, "delete");
            // A database with only Larder's tables is switched, also if there are two.
            for table in ["larder", "second"] {
                let storage = context.factory.builder("alone").table(table).connect().await.must("open");
                storage.close().await.must("close");
                assert_eq!(journal_mode(&context.factory.path("alone")).await, "wal");
            }
        })
        .case("a_database_in_utf_16_is_rejected", |context| async move {
            let path = context.factory.path(context.target.space());
            execute(&path, &["PRAGMA encoding = 'UTF-16le'", "CREATE TABLE other (id INTEGER)"]).await;
            let open = context.factory.builder(context.target.space()).connect().await;
            let error = open.fails(ErrorKind::InvalidConfig, "open a database in UTF-16");
            assert!(error.message().contains("UTF-16"), "{error}");
        })
        .case("a_missing_table_of_a_read_only_database_is_reported", |context| async move {
            let directory = TempDir::new().must("make a directory");
            let path = foreign(&directory).await;
            let open = Config::new().file(path).mode(Mode::ReadOnly).connect().await;
            let error = open.fails(ErrorKind::InvalidConfig, "open a missing table to read it");
            assert!(error.message().contains("check the name"), "{error}");
            drop(context);
        })
}
