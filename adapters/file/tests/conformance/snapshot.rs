//! The snapshot file.

use std::{fs, num::NonZeroUsize, path::Path, time::Duration};

use futures_util::StreamExt;
use larder_core::{Applied, Bytes, Change, ErrorKind, Expiry, ListOptions, Store};
use larder_file::SnapshotConfig;
use larder_testkit::{Fails, Must, Suite, race, until};
use serde_json::Value;

use crate::spaces::{Snapshots, key};

const LIMIT: Duration = Duration::from_secs(20);

pub(crate) fn cases(suite: Suite<Snapshots>) -> Suite<Snapshots> {
    suite
        .case("entries_survive_a_close", |context| async move {
            let path = context.factory.path("again");
            let storage = open(&path).await;
            let values: &[&[u8]] =
                &[b"", b"{\"a\":[1.50]}", b"{ \"a\": 1 }", b"\xff\0", b"null", b"\"\\ud800\""];
            for (index, value) in values.iter().enumerate() {
                let expiry = if index == 0 { Expiry::Never } else { Expiry::after_secs(600) };
                let key = key(&format!("k\"{index}"));
                storage.write(&key, Bytes::from_static(value)).expiry(expiry).await.must("write");
            }
            storage.write(key("gone"), "1").expiry(Expiry::after_millis(1)).await.must("write");
            let version = storage.read(key("k\"1")).await.must("read").must("a value").version;
            storage.close().await.must("close");
            let storage = open(&path).await;
            for (index, value) in values.iter().enumerate() {
                let key = key(&format!("k\"{index}"));
                assert_eq!(storage.read(&key).await.must("read").must("a value").value, *value);
                let left = storage.ttl(&key).await.must("ttl").must("an entry");
                assert_eq!(left == Expiry::Never, index == 0);
            }
            assert_eq!(storage.keys("").count().await, values.len());
            assert_eq!(storage.read(key("k\"1")).await.must("read").must("a value").version, version);
            storage.close().await.must("close");
        })
        .case("a_flush_writes_json_to_the_disk", |context| async move {
            let path = context.factory.path("flush");
            let storage = open(&path).await;
            assert!(!path.exists(), "there is nothing to write yet");
            storage.write(key("a"), "{\"n\":1.0}").await.must("write");
            storage.write(key("b"), "text").await.must("write");
            storage.flush().await.must("flush");
            let text = fs::read_to_string(&path).must("read the snapshot");
            assert!(text.contains("\"value\":{\"n\":1.0}"), "{text}");
            let snapshot: Value = serde_json::from_str(&text).must("parse the snapshot");
            assert_eq!(snapshot["entries"]["b"]["base64"], "dGV4dA==");
            assert_eq!(snapshot["entries"]["a"]["expires_at"], Value::Null);
            assert!(!path.with_extension("json.tmp").exists());
            // Without changes the file is not written.
            fs::write(&path, b"of another program").must("overwrite it");
            storage.flush().await.must("flush");
            assert_eq!(fs::read(&path).must("read it"), b"of another program");
            storage.delete(key("a")).await.must("delete");
            storage.flush().await.must("flush");
            assert!(!fs::read_to_string(&path).must("read it").contains("\"a\""));
        })
        .case("changes_are_written_every_interval_and_on_drop", |context| async move {
            let path = context.factory.path("interval");
            let storage = every(&path, Duration::from_millis(20)).await;
            storage.write(key("a"), "1").await.must("write");
            let holds = |text: &'static str| {
                let path = path.clone();
                move || {
                    let found = fs::read_to_string(&path).is_ok_and(|read| read.contains(text));
                    async move { found }
                }
            };
            until("the snapshot has the first write", LIMIT, holds("\"a\"")).await;
            storage.write(key("b"), "1").await.must("write");
            until("the snapshot has the second write", LIMIT, holds("\"b\"")).await;
            storage.close().await.must("close");
            drop(storage);

            let storage = open(&path).await;
            storage.write(key("c"), "1").await.must("write");
            drop(storage);
            // The lock is free, and nothing is lost.
            let storage = open(&path).await;
            assert!(storage.contains(&key("c")).await.must("contains"));
            storage.close().await.must("close");
        })
        .case("a_second_storage_is_rejected", |context| async move {
            let path = context.factory.path("second");
            let storage = open(&path).await;
            storage.write(key("a"), "1").await.must("write");
            let refused = SnapshotConfig::new().file(&path).connect().await;
            let error = refused.fails(ErrorKind::Unavailable, "open it again");
            assert!(error.message().contains("in use"), "{error}");
            #[cfg(unix)]
            {
                let link = context.factory.path("link");
                storage.flush().await.must("flush");
                std::os::unix::fs::symlink(&path, &link).must("make a link");
                let refused = SnapshotConfig::new().file(&link).connect().await;
                refused.fails(ErrorKind::Unavailable, "open it through a link");
            }
            assert_eq!(storage.read(key("a")).await.must("read").must("a value").value, "1");
            storage.close().await.must("close");
            open(&path).await.close().await.must("close");
        })
        .case("another_file_is_rejected_and_unchanged", |context| async move {
            let path = context.factory.path("unparsable");
            let storage = open(&path).await;
            storage.write(key("a"), "\"hunter2\"").await.must("write");
            storage.close().await.must("close");
            let whole = fs::read(&path).must("read the snapshot");
            for text in
                [&b""[..], b"{}", b"[]", b"\xff", &whole[..whole.len() / 2], &whole[..whole.len() - 2]]
            {
                fs::write(&path, text).must("damage it");
                let refused = SnapshotConfig::new().file(&path).connect().await;
                let error = refused.fails(ErrorKind::Corrupt, "open it");
                assert!(!format!("{error} {error:?}").contains("hunter2"));
                assert_eq!(fs::read(&path).must("read it"), text, "it is left as it was");
            }
            fs::write(&path, &whole).must("mend it");
            open(&path).await.close().await.must("close");
            let directory = context.factory.path("directory");
            fs::create_dir(&directory).must("make a directory");
            let refused = SnapshotConfig::new().file(&directory).connect().await;
            refused.fails(ErrorKind::InvalidConfig, "open a directory");
        })
        .case("write_errors_are_reported_and_lose_nothing", |context| async move {
            let path = context.factory.path("errors");
            let storage = every(&path, Duration::from_millis(20)).await;
            // A directory blocks the new snapshot.
            let in_the_way = path.with_extension("json.tmp");
            fs::create_dir(&in_the_way).must("make a directory");
            storage.write(key("a"), "1").await.must("write");
            assert!(storage.flush().await.is_err());
            storage.write(key("b"), "1").await.must("write");
            // A failed close loses nothing: the background writer continues, and the close can be retried.
            assert!(storage.close().await.is_err());
            storage.write(key("c"), "1").await.fails(ErrorKind::Closed, "write");
            storage.flush().await.fails(ErrorKind::Closed, "flush");
            assert!(!path.exists());
            fs::remove_dir(&in_the_way).must("remove the directory");
            until("the background writer has tried again", LIMIT, || async { path.exists() }).await;
            storage.close().await.must("close");
            storage.close().await.must("close again");
            storage.write(key("c"), "1").await.fails(ErrorKind::Closed, "write");
            storage.flush().await.fails(ErrorKind::Closed, "flush");
            let storage = open(&path).await;
            assert_eq!(storage.keys("").count().await, 2);
            storage.close().await.must("close");
        })
        .case("a_second_close_saves_after_a_failed_one", |context| async move {
            let path = context.factory.path("closed_twice");
            let storage = open(&path).await;
            storage.write(key("a"), "1").await.must("write");
            let in_the_way = path.with_extension("json.tmp");
            fs::create_dir(&in_the_way).must("make a directory");
            assert!(storage.close().await.is_err());
            SnapshotConfig::new()
                .file(&path)
                .connect()
                .await
                .fails(ErrorKind::Unavailable, "open it in between");
            fs::remove_dir(&in_the_way).must("remove the directory");
            storage.close().await.must("close");
            let storage = open(&path).await;
            assert!(storage.contains(&key("a")).await.must("contains"));
            storage.close().await.must("close");
        })
        .case("listings_are_in_order_and_start_after_a_key", |context| async move {
            let storage = open(&context.factory.path("order")).await;
            for text in ["b", "a", "bé", "c", "ba", "bb"] {
                storage.write(key(text), "1").await.must("write");
            }
            storage.write(key("b0"), "1").expires_in(Duration::from_millis(1)).await.must("write");
            until("the entry has expired", LIMIT, || async {
                !storage.contains(&key("b0")).await.must("contains")
            })
            .await;
            let list = |options: ListOptions| {
                let entries = storage.list(options.keys_only());
                entries.map(|entry| entry.must("list").key.to_string()).collect::<Vec<_>>()
            };
            assert_eq!(list(ListOptions::new()).await, ["a", "b", "ba", "bb", "bé", "c"]);
            assert_eq!(list(ListOptions::new().prefix("b")).await, ["b", "ba", "bb", "bé"]);
            let after = |text| ListOptions::new().prefix("b").start_after(key(text));
            assert_eq!(list(after("a")).await, ["b", "ba", "bb", "bé"]);
            assert_eq!(list(after("b")).await, ["ba", "bb", "bé"]);
            assert_eq!(list(after("b").limit(NonZeroUsize::MIN)).await, ["ba"]);
            assert!(list(after("c")).await.is_empty());
            storage.close().await.must("close");
        })
        .case("a_flush_includes_all_earlier_writes", |context| async move {
            let path = context.factory.path("concurrent");
            let storage = every(&path, Duration::from_millis(5)).await;
            race(8, |task| {
                let (storage, path) = (storage.clone(), path.clone());
                async move {
                    for turn in 0..10 {
                        let key = key(&format!("{task}-{turn}"));
                        storage.write(&key, "1").await.must("write");
                        storage.flush().await.must("flush");
                        let text = fs::read_to_string(&path).must("read the snapshot");
                        let snapshot: Value = serde_json::from_str(&text).must("parse the snapshot");
                        assert!(snapshot["entries"].get(key.as_str()).is_some());
                    }
                }
            })
            .await;
            storage.close().await.must("close");
        })
        .case("a_snapshot_is_consistent", |context| async move {
            #[cfg(unix)]
            a_snapshot_is_consistent(&context.factory.path("moment")).await;
            #[cfg(not(unix))]
            drop(context);
        })
        .case("a_url_with_json_opens_a_snapshot", |context| async move {
            let path = context.factory.path("chosen");
            let storage =
                larder_file::connect(&format!("file:{}?interval=10s", path.display())).await.must("open");
            storage.write(key("a"), "1").await.must("write");
            storage.close().await.must("close");
            assert!(path.is_file());
            let refused = larder_file::connect(&format!("file:{}?sync=false", path.display())).await;
            let error = refused.fails(ErrorKind::InvalidConfig, "an option of the directory");
            assert!(error.message().contains("interval"), "{error}");
        })
        .case("permissions_are_kept", |context| async move {
            #[cfg(unix)]
            {
                use std::os::unix::fs::PermissionsExt;
                let path = context.factory.path("mode");
                let storage = open(&path).await;
                storage.write(key("a"), "1").await.must("write");
                storage.flush().await.must("flush");
                fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).must("change the mode");
                storage.write(key("b"), "1").await.must("write");
                storage.close().await.must("close");
                let mode = fs::metadata(&path).must("ask for the mode").permissions().mode();
                assert_eq!(mode & 0o777, 0o600);
            }
            #[cfg(not(unix))]
            drop(context);
        })
}

/// Sessions move from one key to another during a save. The save writes into a pipe, so
/// that the test decides when it continues.
#[cfg(unix)]
async fn a_snapshot_is_consistent(path: &Path) {
    use std::io::Read;

    const ENTRIES: usize = 20_000;

    let storage = open(path).await;
    let value = Bytes::from(format!("\"{}\"", "v".repeat(100)));
    for at in 0..ENTRIES {
        storage.write(key(&format!("k:{at:05}")), value.clone()).await.must("write");
    }
    for source in ["z:moved", "z:deleted", "z:touched", "z:changed"] {
        storage.write(key(source), value.clone()).await.must("write");
    }
    let pipe = path.with_extension("json.tmp");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().must("run mkfifo");
    assert!(made.success(), "mkfifo failed");
    let saving = tokio::spawn({
        let storage = storage.clone();
        async move { storage.flush().await }
    });
    let begin = move || {
        let mut reader = fs::File::open(pipe).must("open the pipe");
        let mut text = vec![0; 256 * 1024];
        reader.read_exact(&mut text).must("read the beginning");
        (reader, text)
    };
    let (mut reader, mut text) = tokio::task::spawn_blocking(begin).await.must("join");

    // The save has passed the beginning of the map, and not yet its end.
    storage.write(key("a:moved"), value.clone()).await.must("write");
    assert!(storage.delete(key("z:moved")).await.must("delete"));
    let deleted = storage.apply(vec![Change::delete(key("z:deleted"))]).await.remove(0);
    assert_eq!(deleted.must("apply"), Applied::Deleted(true));
    assert!(storage.touch(key("z:touched"), Expiry::after_secs(600)).await.must("touch"));
    storage.write(key("z:changed"), "1").await.must("write");
    storage.write(key("z:new"), "1").await.must("write");
    assert_eq!(storage.clear("k:1").await.must("clear"), 10_000);

    let end = move || {
        reader.read_to_end(&mut text).must("read the rest");
        text
    };
    let text = tokio::task::spawn_blocking(end).await.must("join");
    // A pipe cannot be synced.
    assert!(saving.await.must("join").is_err(), "a flush into a pipe");
    let snapshot: Value = serde_json::from_slice(&text).must("parse the snapshot");
    let entries = snapshot["entries"].as_object().must("the entries");
    for kept in ["z:moved", "z:deleted", "z:touched", "z:changed", "k:00000", "k:10000", "k:19999"] {
        let entry = entries.get(kept).must(kept);
        assert_eq!(entry["value"].as_str().must("a string").len(), 100, "{kept}");
        assert_eq!(entry["expires_at"], Value::Null, "{kept}");
    }
    for created in ["a:moved", "z:new"] {
        assert!(!entries.contains_key(created), "{created} was written after the save began");
    }
    assert_eq!(entries.len(), ENTRIES + 4);

    // The next save has everything.
    storage.close().await.must("close");
    let storage = open(path).await;
    assert_eq!(storage.keys("").count().await, 10_000 + 4);
    assert!(storage.contains(&key("a:moved")).await.must("contains"));
    storage.close().await.must("close");
}

async fn open(path: &Path) -> Store {
    every(path, Duration::from_secs(600)).await
}

async fn every(path: &Path, interval: Duration) -> Store {
    SnapshotConfig::new().file(path).interval(interval).connect().await.must("open the snapshot")
}
