//! The snapshot file: locked against other processes, read once, and replaced as a whole.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, BufWriter},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use larder_core::{Bytes, Error, ErrorKind, Location, Result, clock::unix_millis};
use tokio::sync::OnceCell;

use super::{
    config::SnapshotConfig,
    document,
    map::{Map, Slots},
};
use crate::{
    error::{self, blocking, configuration},
    files,
    lock::FileLock,
    permissions::Permissions,
    sys::{self, Output},
};

/// A snapshot, and its entries in memory.
pub(super) struct SnapshotFile {
    pub(super) path: PathBuf,
    permissions: Permissions,
    /// The entries; `None` after a close. Locked only briefly, never across an await.
    map: Mutex<Option<Map>>,
    /// Set when the file is locked against other processes.
    held: OnceCell<()>,
    saving: Arc<tokio::sync::Mutex<Saving>>,
}

/// The right to write the file.
struct Saving {
    /// The number of the last change in the file.
    saved: u64,
    /// Whether the file's name, and those of the directories above it, are known to be on the disk. The process that
    /// wrote the file may have been killed before it synced them.
    synced: bool,
    /// The lock against other processes; `None` after a close, and before the first change with `existing`.
    lock: Option<FileLock>,
}

impl SnapshotFile {
    /// Reads the file and takes the lock. Blocks the thread.
    pub(super) fn open(config: &SnapshotConfig) -> Result<Self> {
        // Links to the file share one lock, and a save replaces the file, not the link.
        let path = fs::canonicalize(&config.path).unwrap_or_else(|_| config.path.clone());
        let (existing, permissions) = (config.existing, Permissions(config.permissions));
        if fs::metadata(&path).is_ok_and(|metadata| !metadata.is_file()) {
            return Err(configuration(
                "the snapshot's path names a directory, a pipe or a device: name a file, such as one in the directory",
            ));
        }
        // Read before anything is created beside it: the file may be something else.
        let (text, mut slots) = read(&path, existing)?;
        let lock = if existing {
            // Without a lock file, no other process uses the snapshot.
            files::open(&path.with_added_extension("lock"))?.map(|file| lock(file, false)).transpose()?
        } else {
            permissions.create_directories(parent(&path)).map_err(error::io)?;
            Some(lock_alone(&path, permissions)?)
        };
        if lock.is_some() && files::read(&path)? != text {
            // The file was replaced before this process had the lock.
            (_, slots) = read(&path, existing)?;
        }
        if !existing {
            // No other process writes this file: if it exists, a killed process left it.
            let _ = sys::remove_file(&path.with_added_extension("tmp"));
        }
        let saving = Saving { saved: 0, synced: existing, lock };
        Ok(Self {
            path,
            permissions,
            map: Mutex::new(Some(Map::new(slots))),
            held: OnceCell::new_with((!existing).then_some(())),
            saving: Arc::new(tokio::sync::Mutex::new(saving)),
        })
    }

    /// Ensures before a change that this storage has the exclusive lock, and that the entries are those of the file. A
    /// snapshot opened with `existing` need not have a lock.
    pub(super) async fn hold(self: &Arc<Self>) -> Result<()> {
        let hold = || {
            self.saving(|file, saving| {
                saving.lock = None;
                let lock = lock_alone(&file.path, file.permissions)?;
                let (_, slots) = read(&file.path, true)?;
                file.with_map(|map| *map = Map::new(slots))?;
                saving.lock = Some(lock);
                saving.synced = false;
                Ok(())
            })
        };
        self.held.get_or_try_init(hold).await.copied()
    }

    /// Returns the location of the file, which is the same for all paths to it. The file may not exist yet.
    pub(super) fn location(&self) -> Result<Location> {
        let directory = fs::canonicalize(parent(&self.path)).map_err(error::io)?;
        Ok(files::location(&directory.join(self.path.file_name().unwrap_or_default())))
    }

    /// Calls `work` with the entries.
    ///
    /// # Errors
    ///
    /// [`Closed`](ErrorKind::Closed) after the file has been closed.
    pub(super) fn with_map<T>(&self, work: impl FnOnce(&mut Map) -> T) -> Result<T> {
        self.map().as_mut().map(work).ok_or_else(Error::closed)
    }

    fn map(&self) -> MutexGuard<'_, Option<Map>> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `work` on a thread that may block. It runs to its end even if the future is dropped.
    async fn saving(
        self: &Arc<Self>,
        work: impl FnOnce(&Self, &mut Saving) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let mut saving = Arc::clone(&self.saving).lock_owned().await;
        let file = Arc::clone(self);
        blocking(move || {
            let done = work(&file, &mut saving);
            // Dropped before `file`, which may be the last handle and then saves later changes.
            drop(saving);
            done
        })
        .await
    }

    /// Writes the file if entries have changed, and syncs it to the disk.
    pub(super) async fn flush(self: &Arc<Self>) -> Result<()> {
        self.saving(Self::save).await
    }

    /// Writes the file as [`flush`](Self::flush) does, and releases it. If this fails, the entries remain in memory.
    pub(super) async fn close(self: &Arc<Self>) -> Result<()> {
        self.saving(|file, saving| {
            loop {
                file.save(saving)?;
                let mut map = file.map();
                // Operations that were running may have changed entries in the meantime.
                if map.as_ref().is_none_or(|map| map.changes == saving.saved) {
                    *map = None;
                    saving.lock = None;
                    return Ok(());
                }
            }
        })
        .await
    }

    /// Writes the file if entries have changed since the last write, and syncs its name to the disk. Blocks the thread.
    fn save(&self, saving: &mut Saving) -> Result<()> {
        let Ok((slots, changes)) = self.with_map(|map| (Arc::clone(&map.slots), map.changes)) else {
            // The close has saved everything.
            return Ok(());
        };
        if changes != saving.saved {
            self.replace(&slots).map_err(error::io)?;
        } else if saving.synced {
            return Ok(());
        }
        drop(slots);
        let parent = parent(&self.path);
        if !saving.synced {
            files::sync_above(parent).map_err(error::io)?;
        }
        files::sync_directory(parent).map_err(error::io)?;
        saving.synced = true;
        saving.saved = changes;
        Ok(())
    }

    fn replace(&self, slots: &Slots) -> io::Result<()> {
        let now = unix_millis();
        let temp = self.path.with_added_extension("tmp");
        files::write_and_rename(&temp, &self.path, || {
            // The new file has the mode of the old one before any data is written.
            let permissions = fs::metadata(&self.path).ok().map(|metadata| metadata.permissions());
            let file = create(&temp)?;
            match permissions {
                Some(permissions) => file.set_permissions(permissions)?,
                None => self.permissions.apply(&file)?,
            }
            let mut out = BufWriter::with_capacity(64 * 1024, Output(file));
            document::write(&mut out, slots.iter().filter(|(_, slot)| slot.is_alive(now)))?;
            sys::sync_all(&out.get_ref().0)
        })
    }
}

impl Drop for SnapshotFile {
    /// The last handle was dropped without a close: saves the last changes now.
    fn drop(&mut self) {
        let saving = Arc::clone(&self.saving);
        // A running save holds a handle until it has released this lock, so no save is running.
        let Ok(mut saving) = saving.try_lock() else {
            return;
        };
        if let Err(error) = self.save(&mut saving) {
            tracing::warn!(%error, "could not write the snapshot when it was dropped; its last changes are lost");
        }
    }
}

/// Creates the temporary file, which only its owner may read until its permissions are set.
fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    sys::open(&options, path)
}

/// Reads the file if it exists. Returns its text and the entries.
fn read(path: &Path, existing: bool) -> Result<(Option<Bytes>, Slots)> {
    match files::read(path)? {
        Some(text) => {
            let slots = document::parse(&text)?;
            Ok((Some(text), slots))
        }
        None if existing => Err(configuration("the file does not exist: check the path")),
        None => Ok((None, Slots::new())),
    }
}

/// Takes the exclusive lock of the snapshot at `path`.
fn lock_alone(path: &Path, permissions: Permissions) -> Result<FileLock> {
    let file = permissions.open_or_create(&path.with_added_extension("lock")).map_err(error::io)?;
    lock(file, true)
}

/// Takes the lock, exclusively, or shared with other storages that only read.
fn lock(file: File, alone: bool) -> Result<FileLock> {
    match if alone { file.try_lock() } else { file.try_lock_shared() } {
        Ok(()) => Ok(FileLock(file)),
        Err(TryLockError::WouldBlock) => Err(Error::new(
            ErrorKind::Unavailable,
            "the snapshot is in use by another process, or by another storage in this process: use a directory, \
             such as `file:sessions`, to share entries",
        )),
        Err(TryLockError::Error(error)) => Err(error::io(error)),
    }
}

/// Returns the directory of a file.
fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

#[cfg(all(test, unix))]
mod tests {
    use futures_util::FutureExt;
    use larder_core::Key;

    use super::*;
    use crate::SnapshotConfig;

    #[test]
    fn changes_during_a_save_after_the_last_handle_are_saved() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.json");
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let storage = SnapshotConfig::new().file(&path).connect().await.unwrap();
            let key = Key::new("early").unwrap();
            storage.write(&key, "1").await.unwrap();
            // Opening a pipe for writing waits until it is read, so this save waits. Then it fails, because a pipe
            // cannot be synced.
            let temp = path.with_added_extension("tmp");
            assert!(std::process::Command::new("mkfifo").arg(&temp).status().unwrap().success());
            assert!(storage.flush().now_or_never().is_none());
            let key = Key::new("late").unwrap();
            storage.write(&key, "2").await.unwrap();
            drop(storage);
            let read = tokio::task::spawn_blocking(move || fs::read(temp)).await.unwrap().unwrap();
            assert!(!read.is_empty());
        });
        // Waits for the save.
        drop(runtime);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("early") && text.contains("late"), "{text}");
    }

    #[test]
    fn a_new_file_is_private_from_the_start() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let file = create(&dir.path().join("t")).unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}
