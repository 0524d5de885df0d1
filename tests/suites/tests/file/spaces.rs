//! Spaces for the suites: directories and files in a temporary directory.

use std::{
    collections::HashMap,
    fs::{self, File},
    path::{Path, PathBuf},
};

use larder_core::{Error, ErrorKind, Key, Store, async_trait};
use larder_file::{FileBuilder, SnapshotStorage};
use larder_testkit::{Factory, Must};
use tempfile::TempDir;
use tokio::sync::Mutex;

/// Each space is a directory.
pub(crate) struct Directories {
    root: TempDir,
    configure: fn(FileBuilder) -> FileBuilder,
}

impl Directories {
    pub(crate) fn new(configure: fn(FileBuilder) -> FileBuilder) -> Self {
        Self { root: tempfile::tempdir().must("make a directory"), configure }
    }

    pub(crate) fn path(&self, space: &str) -> PathBuf {
        self.root.path().join(space)
    }

    pub(crate) fn builder(&self, space: &str) -> FileBuilder {
        // Sweeping is tried by a case of its own; elsewhere it would only get in the way.
        (self.configure)(FileBuilder::new(self.path(space)).sweep_every(None))
    }

    pub(crate) async fn storage(&self, space: &str) -> Store {
        self.builder(space).open().await.must("open the directory")
    }
}

#[async_trait]
impl Factory for Directories {
    async fn open(&self, space: &str) -> Result<Store, Error> {
        self.builder(space).open().await
    }

    async fn remove(&self, space: &str) -> Result<(), Error> {
        fs::remove_dir_all(self.path(space)).must("remove the directory");
        Ok(())
    }
}

/// Each space is a snapshot. One storage at a time can have it, so handles are clones of it.
pub(crate) struct Snapshots {
    root: TempDir,
    open: Mutex<HashMap<String, Store>>,
}

impl Snapshots {
    pub(crate) fn new() -> Self {
        Self { root: tempfile::tempdir().must("make a directory"), open: Mutex::default() }
    }

    pub(crate) fn path(&self, space: &str) -> PathBuf {
        self.root.path().join(format!("{space}.json"))
    }
}

#[async_trait]
impl Factory for Snapshots {
    async fn open(&self, space: &str) -> Result<Store, Error> {
        let mut open = self.open.lock().await;
        if let Some(storage) = open.get(space) {
            match storage.ping().await {
                Err(error) if error.kind() == ErrorKind::Closed => {}
                _ => return Ok(storage.clone()),
            }
        }
        let storage = SnapshotStorage::builder(self.path(space)).open().await?;
        open.insert(space.to_owned(), storage.clone());
        Ok(storage)
    }

    async fn remove(&self, space: &str) -> Result<(), Error> {
        self.open.lock().await.remove(space);
        Ok(())
    }
}

pub(crate) fn key(text: &str) -> Key {
    Key::new(text).must("make a key")
}

/// All files below `directory`, by their path from there, in order.
pub(crate) fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(next) = directories.pop() {
        for entry in fs::read_dir(next).must("read a directory") {
            let path = entry.must("read a directory").path();
            if path.is_dir() {
                directories.push(path);
            } else {
                found.push(path.strip_prefix(directory).must("a path below").to_owned());
            }
        }
    }
    found.sort();
    found
}

/// The files of entries below `directory`.
pub(crate) fn entries(directory: &Path) -> Vec<PathBuf> {
    let mut files = files(directory);
    files.retain(|file| !file.starts_with(".larder"));
    files
}

/// Takes all locks in `directory`, as another process does.
pub(crate) fn hold_locks(directory: &Path) -> Vec<File> {
    let hold = |lock: PathBuf| {
        let lock = File::open(directory.join(lock)).must("open a lock");
        lock.lock().must("take a lock");
        lock
    };
    files(directory).into_iter().map(hold).collect()
}
