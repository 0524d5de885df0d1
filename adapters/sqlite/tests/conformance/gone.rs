//! Files that are deleted, replaced or moved while a store has them open.

use std::{
    fs,
    path::{Path, PathBuf},
};

use futures_util::StreamExt;
use larder_core::{
    Applied, Bytes, Change, Condition, Error, ErrorKind, Expiry, Key, ReadOptions, Record, Result, Store,
    Version,
};
use larder_sqlite::Config;
use larder_testkit::{Fails, Must, Suite};
use sqlx::{
    ConnectOptions, Connection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions},
};
use tempfile::TempDir;

use crate::spaces::Files;

fn key(text: &str) -> Key {
    Key::new(text).must("a key")
}

fn value(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

/// A storage with an entry, in its own directory.
async fn open(directory: &TempDir) -> (Store, PathBuf) {
    let path = directory.path().join("data").join("sessions.db");
    fs::create_dir(directory.path().join("data")).must("make the directory");
    let storage = Config::new().file(&path).connect().await.must("open");
    storage.write(key("a"), value("1")).await.must("write");
    assert!(storage.contains(&key("a")).await.must("look"));
    (storage, path)
}

fn delete(path: &Path) {
    for suffix in ["", "-wal", "-shm"] {
        let mut path = path.as_os_str().to_owned();
        path.push(suffix);
        match fs::remove_file(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            done => done.must("delete the file"),
        }
    }
}

/// The error of every call, by the name of the call.
async fn errors_of_every_call(storage: &Store) -> Vec<(&'static str, Option<Error>)> {
    let (a, never) = (key("a"), Expiry::Never);
    let keys = [a.clone(), key("b")];
    let at = || Version::from_token(1);
    let puts = keys.clone().map(|key| Change::put(key, "2", never));
    let deletes = keys.clone().map(Change::delete);
    let mixed =
        vec![Change::put(a.clone(), "2", never), Change::touch(key("b"), never).on(Condition::Present)];
    let read = async |options: ReadOptions| -> Result<Vec<Option<Record>>> {
        storage.read_many(&keys, &options).await.into_iter().collect()
    };
    let apply = async |changes: Vec<Change>| -> Result<Vec<Applied>> {
        storage.apply(changes).await.into_iter().collect()
    };
    vec![
        ("read", storage.read(&a).await.err()),
        ("read and touch", storage.read(&a).touching(never).await.err()),
        ("write", storage.write(&a, value("2")).await.err()),
        ("delete", storage.delete(&a).await.err()),
        ("write if absent", storage.write(key("new"), value("2")).if_absent().await.err()),
        ("write if present", storage.write(&a, value("2")).if_present().await.err()),
        ("write if at", storage.write(&a, value("2")).if_at(at()).await.err()),
        ("delete if at", storage.delete(&a).if_at(at()).await.err()),
        ("touch", storage.touch(&a, never).await.err()),
        ("ttl", storage.ttl(&a).await.err()),
        ("contains", storage.contains(&a).await.err()),
        ("read_many", read(ReadOptions::new()).await.err()),
        ("read_many and touch", read(ReadOptions::new().with_touch(never)).await.err()),
        ("apply puts", apply(puts.to_vec()).await.err()),
        ("apply deletes", apply(deletes.to_vec()).await.err()),
        ("apply both", apply(mixed).await.err()),
        ("keys", storage.keys("").next().await.and_then(Result::err)),
        ("entries", storage.entries("").next().await.and_then(Result::err)),
        ("clear", storage.clear("").await.err()),
        ("purge_expired", storage.purge_expired().await.err()),
        ("ping", storage.ping().await.err()),
        ("flush", storage.flush().await.err()),
    ]
}

async fn every_call_fails(storage: &Store, why: &str) {
    for (call, error) in errors_of_every_call(storage).await {
        let error = error.must(&format!("an error of {call} after the file was {why}"));
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{call} after the file was {why}: {error}");
        assert!(!error.is_retryable());
        assert!(error.message().contains("open the storage again"), "{call}: {error}");
        assert!(error.operation().is_some(), "{call}: {error}");
    }
    // More readers than open connections, so that new ones are opened.
    let a = key("a");
    let reads = futures_util::future::join_all((0..16).map(|_| storage.read(&a).into_future())).await;
    assert!(reads.iter().all(Result::is_err), "a read succeeded after the file was {why}");
}

/// The number of times that this process has the file open, if the system reports it.
fn handles(path: &Path) -> Option<usize> {
    let open = fs::read_dir("/proc/self/fd").ok()?.flatten();
    Some(open.filter(|open| fs::read_link(open.path()).is_ok_and(|target| target == path)).count())
}

async fn close_fails_once(storage: Store) {
    let error = storage.close().await.err().must("an error of close");
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    storage.close().await.must("close again");
}

pub(crate) fn cases(suite: Suite<Files>) -> Suite<Files> {
    suite
        .case("every_call_on_a_deleted_file_fails_and_does_not_create_it", |context| async move {
            let directory = TempDir::new().must("make a directory");
            let (storage, path) = open(&directory).await;
            delete(&path);
            every_call_fails(&storage, "deleted").await;
            close_fails_once(storage).await;
            assert!(!path.exists(), "a file was made in the place of the deleted one");
            drop(context);
        })
        .case("every_call_on_a_replaced_file_fails_and_does_not_change_it", |context| async move {
            let directory = TempDir::new().must("make a directory");
            let (storage, path) = open(&directory).await;
            let other = directory.path().join("other.db");
            let beside = Config::new().file(&other).connect().await.must("open another");
            beside.write(key("b"), value("2")).await.must("write");
            beside.close().await.must("close the other");
            let expected = fs::read(&other).must("read the other file");
            fs::rename(&other, &path).must("put it in the place of the first");
            every_call_fails(&storage, "replaced").await;
            close_fails_once(storage).await;
            assert_eq!(fs::read(&path).must("read the file"), expected);
            drop(context);
        })
        .case("a_file_replaced_during_opening_is_detected", |context| async move {
            let directory = TempDir::new().must("make a directory");
            let (storage, path) = open(&directory).await;
            storage.close().await.must("close");
            let path = fs::canonicalize(path).must("the path with no link in it");
            let other = directory.path().join("other.db");
            fs::copy(&path, &other).must("copy the file");
            if handles(&path).is_none() {
                eprintln!("skipped: this needs `/proc` to see when the file has been opened");
                return;
            }
            let holder = SqliteConnectOptions::new().filename(&path).journal_mode(SqliteJournalMode::Delete);
            let mut holder = holder.connect().await.must("connect");
            sqlx::query("BEGIN EXCLUSIVE").execute(&mut holder).await.must("take the lock");
            let before = handles(&path);
            let opening = tokio::spawn(Config::new().file(&path).existing().connect());
            while handles(&path) == before {
                tokio::task::yield_now().await;
            }
            fs::rename(&other, &path).must("put another file in its place");
            sqlx::query("COMMIT").execute(&mut holder).await.must("let go of the lock");
            let opened = opening.await.must("the task");
            let error = opened.fails(ErrorKind::InvalidConfig, "open a file that is replaced during that");
            assert!(error.message().contains("was replaced"), "{error}");
            drop((holder, context));
        })
        .case("every_call_on_a_moved_directory_fails_until_it_is_back", |context| async move {
            let directory = TempDir::new().must("make a directory");
            let (storage, path) = open(&directory).await;
            let (here, there) = (directory.path().join("data"), directory.path().join("moved"));
            fs::rename(&here, &there).must("move the directory");
            every_call_fails(&storage, "moved").await;
            assert!(!here.exists());
            fs::rename(&there, &here).must("move it back");
            assert_eq!(storage.read(key("a")).await.must("read").must("the entry").value, "1");
            storage.write(key("a"), value("2")).await.must("write");
            storage.close().await.must("close");
            assert!(path.exists());
            drop(context);
        })
        .case("every_call_on_a_deleted_file_under_a_pool_fails", |context| async move {
            let directory = TempDir::new().must("make a directory");
            let path = directory.path().join("own.db");
            let url = format!("sqlite:{}?mode=rwc", path.display());
            let pool = SqlitePoolOptions::new().max_connections(2).connect(&url).await.must("open");
            let storage = Config::new().connect_with(pool.clone()).await.must("set up");
            storage.write(key("a"), value("1")).await.must("write");
            delete(&path);
            every_call_fails(&storage, "deleted").await;
            pool.close().await;
            drop(context);
        })
        .case("a_relative_path_is_resolved_once", |context| async move {
            // A connection that is opened later opens the same file.
            let current = std::env::current_dir().must("the current directory");
            let path = context.factory.path(context.target.space());
            let up: PathBuf = current.components().skip(1).map(|_| "..").collect();
            let relative = up.join(path.strip_prefix("/").must("an absolute path"));
            let storage = Config::new().file(relative).connect().await.must("open");
            storage.write(key("a"), value("1")).await.must("write");
            let mut stranger = context.factory.stranger(context.target.space()).await;
            let count: i64 = sqlx::query_scalar("SELECT count(*) FROM larder")
                .fetch_one(&mut stranger)
                .await
                .must("count");
            assert_eq!(count, 1);
            stranger.close().await.must("close");
            storage.close().await.must("close");
        })
}
