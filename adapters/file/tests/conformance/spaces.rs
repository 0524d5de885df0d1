//! The spaces of the suites: directories and files in a temporary directory.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use larder_core::{Error, Key, Store, async_trait};
use larder_file::{Config, SnapshotConfig};
use larder_testkit::{Factory, Must, SingleOpener, Suite};
use tempfile::TempDir;

/// Each space is a directory.
pub(crate) struct Directories {
    root: TempDir,
    configure: fn(Config) -> Config,
}

impl Directories {
    /// The laws on directories, also with a second process.
    pub(crate) fn suite(name: &str, configure: fn(Config) -> Config) -> Suite<Self> {
        let config = move |path| configure(Config::new().directory(path)).sweep(None);
        Suite::connect(name, move || async move {
            Ok(Self { root: tempfile::tempdir().must("make a directory"), configure })
        })
        .across_processes(
            |directories, space| directories.path(space).display().to_string(),
            move |path| config(path).connect(),
        )
    }

    pub(crate) fn path(&self, space: &str) -> PathBuf {
        self.root.path().join(space)
    }

    pub(crate) fn config(&self, space: &str) -> Config {
        // The sweeper has its own cases.
        (self.configure)(Config::new().directory(self.path(space)).sweep(None))
    }

    pub(crate) async fn storage(&self, space: &str) -> Store {
        self.config(space).connect().await.must("open the directory")
    }
}

#[async_trait]
impl Factory for Directories {
    async fn open(&self, space: &str) -> Result<Store, Error> {
        self.config(space).connect().await
    }

    async fn damage(&self, space: &str, key: &Key) -> Result<bool, Error> {
        let root = self.path(space);
        let named = |file: &PathBuf| file.file_stem().is_some_and(|stem| stem == key.as_str());
        let file = entries(&root).into_iter().find(named).must("the entry's file");
        fs::write(root.join(file), b"{ cut off").must("damage the file");
        Ok(true)
    }

    async fn remove(&self, space: &str) -> Result<(), Error> {
        fs::remove_dir_all(self.path(space)).must("remove the directory");
        Ok(())
    }
}

/// Each space is a snapshot, which one storage at a time can open.
pub(crate) type Snapshots = SingleOpener<SnapshotFiles>;

pub(crate) struct SnapshotFiles {
    root: TempDir,
}

impl SnapshotFiles {
    pub(crate) fn suite(name: &str) -> Suite<Snapshots> {
        Suite::connect(name, || async {
            Ok(SingleOpener::new(Self { root: tempfile::tempdir().must("make a directory") }))
        })
    }

    pub(crate) fn path(&self, space: &str) -> PathBuf {
        self.root.path().join(format!("{space}.json"))
    }
}

#[async_trait]
impl Factory for SnapshotFiles {
    async fn open(&self, space: &str) -> Result<Store, Error> {
        SnapshotConfig::new().file(self.path(space)).connect().await
    }

    async fn remove(&self, _: &str) -> Result<(), Error> {
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
