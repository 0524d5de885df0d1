//! Opening an existing store creates nothing, and rejects a place of another program.

use std::{
    fs,
    path::{Path, PathBuf},
};

use futures_util::StreamExt;
use larder_core::{ErrorKind, Expiry, Outcome, Result, Store};
use larder_file::{Config, Layout, SnapshotConfig, ValueFormat};
use larder_testkit::{Fails, Must, Suite};

use crate::spaces::{Directories, key};

/// Opens the store at `url` if it exists.
async fn look(url: &str) -> Result<Store> {
    if larder_file::is_snapshot(url)? {
        SnapshotConfig::from_url(url)?.existing().connect().await
    } else {
        Config::from_url(url)?.existing().connect().await
    }
}

pub(crate) fn cases(suite: Suite<Directories>) -> Suite<Directories> {
    suite
        .case("opening_a_missing_store_creates_nothing", |context| async move {
            let root = space(&context.factory, context.target.space());
            for url in ["missing", "missing?layout=grammy", "missing/below", "missing.json", "missing/x.json"]
            {
                let url = format!("file:{}/{url}", root.display());
                let error = look(&url).await.map(drop);
                let error = error.fails(ErrorKind::InvalidConfig, &url);
                assert!(error.message().contains("does not exist"), "{error}");
                assert!(everything(&root).is_empty(), "{url}: {:?}", everything(&root));
            }
            let url = format!("file:{}", root.display());
            let error = look(&url).await.map(drop).fails(ErrorKind::InvalidConfig, "empty");
            assert!(error.message().contains("empty"), "{error}");
            assert!(everything(&root).is_empty());
        })
        .case("opening_a_directory_changes_nothing", |context| async move {
            let root = space(&context.factory, context.target.space());
            let urls = ["larder", "json?values=json", "grammy?layout=grammy"];
            for url in urls {
                let url = format!("file:{}/{url}", root.display());
                let storage = larder_file::connect(&url).await.must("open");
                storage.write(key("a"), "1").await.must("write");
                storage.close().await.must("close");
            }
            // As grammY creates it.
            fs::remove_dir_all(root.join("grammy/.larder")).must("remove the locks");
            fs::write(root.join("larder/.larder/tmp/00-1"), b"").must("write a file");
            let before = everything(&root);
            for url in urls {
                let url = format!("file:{}/{url}", root.display());
                let storage = look(&url).await.must("open an existing store");
                assert_eq!(storage.read(key("a")).await.must("read").must("a value").value, "1");
                assert!(!storage.contains(&key("b")).await.must("contains"));
                assert_eq!(storage.keys("").count().await, 1);
                assert_eq!(storage.entries("").count().await, 1);
                storage.ping().await.must("ping");
                storage.close().await.must("close");
            }
            assert_eq!(everything(&root), before);
            for url in urls {
                let url = format!("file:{}/{url}", root.display());
                let storage = look(&url).await.must("open an existing store");
                assert!(storage.delete(key("a")).await.must("delete an existing entry"));
                storage.close().await.must("close");
            }
        })
        .case("opening_a_snapshot_changes_nothing", |context| async move {
            let root = space(&context.factory, context.target.space());
            let path = root.join("sessions.json");
            let url = format!("file:{}", path.display());
            let storage = larder_file::connect(&url).await.must("open");
            storage.write(key("a"), "1").await.must("write");
            storage.flush().await.must("flush");
            let used = look(&url).await;
            used.fails(ErrorKind::Unavailable, "look at a snapshot that is in use");
            storage.close().await.must("close");
            for lock in [true, false] {
                if !lock {
                    fs::remove_file(root.join("sessions.json.lock")).must("remove the lock");
                }
                let before = everything(&root);
                let storage = look(&url).await.must("open an existing store");
                assert_eq!(storage.read(key("a")).await.must("read").must("a value").value, "1");
                assert_eq!(storage.keys("").count().await, 1);
                storage.flush().await.must("flush");
                storage.close().await.must("close");
                assert_eq!(everything(&root), before);
            }

            // A change takes the lock, unless another process holds it, and sees that process's writes.
            let storage = look(&url).await.must("open an existing store");
            let other = larder_file::connect(&url).await.must("open");
            for error in [
                storage.write(key("a"), "2").await.fails(ErrorKind::Unavailable, "write to a store in use"),
                storage.delete(key("a")).await.fails(ErrorKind::Unavailable, "delete from a store in use"),
                storage.touch(key("a"), Expiry::Never).await.fails(ErrorKind::Unavailable, "touch it"),
                storage.read(key("a")).touching(Expiry::Never).await.fails(ErrorKind::Unavailable, "read it"),
            ] {
                assert_eq!(error.outcome(), Outcome::NotApplied);
            }
            other.write(key("b"), "2").await.must("write");
            other.close().await.must("close");
            assert!(storage.delete(key("a")).await.must("delete"));
            storage.close().await.must("close");
            let storage = larder_file::connect(&url).await.must("open");
            assert!(storage.contains(&key("b")).await.must("contains"));
            assert!(!storage.contains(&key("a")).await.must("contains"));
            storage.close().await.must("close");
        })
        .case("another_layout_is_rejected", |context| async move {
            let root = space(&context.factory, context.target.space());
            let open = |name: &str, layout: Layout, existing: bool| {
                let config = Config::new().directory(root.join(name)).layout(layout).sweep(None);
                let config = if existing { config.existing() } else { config };
                async move { config.connect().await }
            };
            for (name, layout) in [("larder", Layout::Larder), ("grammy", Layout::Grammy)] {
                let storage = open(name, layout, false).await.must("open");
                storage.write(key("424242"), "1").await.must("write");
                storage.close().await.must("close");
            }
            fs::create_dir(root.join("other")).must("make a directory");
            fs::write(root.join("other/package.json"), b"{}").must("write a file");
            let before = everything(&root);
            for existing in [false, true] {
                let error = open("larder", Layout::Grammy, existing).await;
                let error = error.fails(ErrorKind::InvalidConfig, "open Larder's directory as grammY's");
                assert!(error.message().contains("remove the option `layout=grammy`"), "{error}");
                let error = open("grammy", Layout::Larder, existing).await;
                let error = error.fails(ErrorKind::InvalidConfig, "open grammY's directory as Larder's");
                assert!(error.message().contains("layout=grammy"), "{error}");
                for layout in [Layout::Larder, Layout::Grammy] {
                    let error = open("other", layout, existing).await;
                    error.fails(ErrorKind::InvalidConfig, "open a directory of something else");
                }
                let json = Config::new().directory(root.join("larder")).values(ValueFormat::Json);
                let json = if existing { json.existing() } else { json };
                json.connect().await.fails(ErrorKind::InvalidConfig, "open it with another format");
            }
            assert_eq!(everything(&root), before);
        })
        .case("a_file_of_another_program_is_rejected_and_not_locked", |context| async move {
            let root = space(&context.factory, context.target.space());
            let path = root.join("session.json");
            fs::write(&path, b"{\"cookie\":\"x\"}").must("write a file");
            let before = everything(&root);
            for existing in [false, true] {
                let config = SnapshotConfig::new().file(&path);
                let config = if existing { config.existing() } else { config };
                config.connect().await.fails(ErrorKind::Corrupt, "open it");
                assert_eq!(everything(&root), before);
            }
        })
        .case("pipes_are_rejected_without_waiting", |context| async move {
            if !cfg!(unix) {
                return;
            }
            let root = space(&context.factory, context.target.space());
            let pipe = |path: PathBuf| {
                let made = std::process::Command::new("mkfifo").arg(&path).status().must("run mkfifo");
                assert!(made.success(), "mkfifo failed");
                path
            };
            let path = pipe(root.join("x.json"));
            for existing in [false, true] {
                let config = SnapshotConfig::new().file(&path);
                let config = if existing { config.existing() } else { config };
                config.connect().await.fails(ErrorKind::InvalidConfig, "open a pipe");
            }
            assert_eq!(everything(&root).len(), 1, "nothing was created beside it");
            for (name, url, extension) in [
                ("larder", "larder", "larder"),
                ("json", "json?values=json", "json"),
                ("grammy", "grammy?layout=grammy", "json"),
            ] {
                let storage =
                    larder_file::connect(&format!("file:{}/{url}", root.display())).await.must("open");
                storage.write(key("ab"), "1").await.must("write");
                let file = everything(&root.join(name))
                    .into_iter()
                    .map(|(path, _)| root.join(name).join(path))
                    .find(|path| path.file_name().is_some_and(|file| *file == *format!("ab.{extension}")));
                let file = file.must("the entry's file");
                fs::remove_file(&file).must("remove it");
                pipe(file.clone());
                // Also while another process has the pipe open.
                for open in [false, true] {
                    let _writer = open.then(|| {
                        fs::OpenOptions::new().read(true).write(true).open(&file).must("open the pipe")
                    });
                    storage.read(key("ab")).await.fails(ErrorKind::Corrupt, "read a pipe");
                    for entry in storage.entries("").collect::<Vec<_>>().await {
                        entry.fails(ErrorKind::Corrupt, "list a pipe");
                    }
                    assert_eq!(storage.keys("").count().await, 1);
                }
                assert!(storage.delete(key("ab")).await.must("delete it"));
                storage.close().await.must("close");
            }
        })
}

/// Creates the directory of a space.
fn space(factory: &Directories, space: &str) -> PathBuf {
    let root = factory.path(space);
    fs::create_dir_all(&root).must("make a directory");
    root
}

/// All files and directories below `root`, with their contents.
fn everything(root: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut directories = vec![root.to_owned()];
    while let Some(next) = directories.pop() {
        for entry in fs::read_dir(next).must("read a directory") {
            let path = entry.must("read a directory").path();
            let name = path.strip_prefix(root).must("a path below").to_owned();
            if path.is_dir() {
                directories.push(path);
                found.push((name, Vec::new()));
            } else if path.is_file() {
                found.push((name, fs::read(path).must("read a file")));
            } else {
                found.push((name, Vec::new()));
            }
        }
    }
    found.sort();
    found
}
