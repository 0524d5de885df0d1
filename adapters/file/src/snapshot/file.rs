//! The snapshot's file: held against other processes, read once, and replaced as a whole.

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
};

/// A snapshot, and its entries in memory.
pub(super) struct SnapshotFile {
    pub(super) path: PathBuf,
    permissions: Permissions,
    /// The entries; `None` once closed. Locked for moments only, never over an await.
    map: Mutex<Option<Map>>,
    /// Set once the file is held against other processes.
    held: OnceCell<()>,
    saving: Arc<tokio::sync::Mutex<Saving>>,
}

/// The right to write the file.
struct Saving {
    /// The change that the file is up to date with.
    saved: u64,
    /// Whether the file's name is known to be on the disk, with those of the directories above it. The
    /// process that wrote the file may have been killed before it synced them.
    synced: bool,
    /// The lock against other processes; `None` once closed, or where the file is only looked at.
    lock: Option<FileLock>,
}

impl SnapshotFile {
    /// Reads the file and takes the lock. Blocks the thread.
    pub(super) fn open(config: &SnapshotConfig) -> Result<Self> {
        // Links to the file lead to one lock, and a save replaces the file, not the link.
        let path = fs::canonicalize(&config.path).unwrap_or_else(|_| config.path.clone());
        let (existing, permissions) = (config.existing, Permissions(config.permissions));
        if fs::metadata(&path).is_ok_and(|metadata| !metadata.is_file()) {
            return Err(configuration(
                "the snapshot's path names a directory, a pipe or a device; name a file, such as one in the directory",
            ));
        }
        // Before anything is created beside it: it may be a file of something else.
        let (text, mut slots) = read(&path, existing)?;
        let lock = if existing {
            // Where no lock is, no other process has the snapshot.
            files::open(&path.with_added_extension("lock"))?.map(|file| lock(file, false)).transpose()?
        } else {
            permissions.create_directories(parent(&path)).map_err(error::io)?;
            Some(lock_alone(&path, permissions)?)
        };
        if lock.is_some() && files::read(&path)? != text {
            // It was replaced before the lock was ours.
            (_, slots) = read(&path, existing)?;
        }
        if !existing {
            // No other process writes it: if it is there, a killed process left it behind.
            let _ = fs::remove_file(path.with_added_extension("tmp"));
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

    /// Makes sure, before a change, that the lock is ours alone and that the entries are those of the file: a
    /// snapshot that is only looked at need not have a lock.
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

    /// Where the file is, whatever path leads to it. It may not have been written yet.
    pub(super) fn location(&self) -> Result<Location> {
        let directory = fs::canonicalize(parent(&self.path)).map_err(error::io)?;
        Ok(files::location(&directory.join(self.path.file_name().unwrap_or_default())))
    }

    /// Calls `work` with the entries.
    ///
    /// # Errors
    ///
    /// [`Closed`](ErrorKind::Closed) once the file has been closed.
    pub(super) fn with_map<T>(&self, work: impl FnOnce(&mut Map) -> T) -> Result<T> {
        self.map().as_mut().map(work).ok_or_else(Error::closed)
    }

    fn map(&self) -> MutexGuard<'_, Option<Map>> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does `work` on a thread that may block. It runs to its end also if the future is dropped.
    async fn saving(
        self: &Arc<Self>,
        work: impl FnOnce(&Self, &mut Saving) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let mut saving = Arc::clone(&self.saving).lock_owned().await;
        let file = Arc::clone(self);
        blocking(move || {
            let done = work(&file, &mut saving);
            // Before `file`, which may be the last handle and then saves later changes.
            drop(saving);
            done
        })
        .await
    }

    /// Writes the file, if something has changed, and puts it on the disk.
    pub(super) async fn flush(self: &Arc<Self>) -> Result<()> {
        self.saving(Self::save).await
    }

    /// Writes the file as [`flush`](Self::flush) does, and releases it. If that fails, the entries
    /// stay in memory.
    pub(super) async fn close(self: &Arc<Self>) -> Result<()> {
        self.saving(|file, saving| {
            loop {
                file.save(saving)?;
                let mut map = file.map();
                // Operations that were under way may have changed something since.
                if map.as_ref().is_none_or(|map| map.changes == saving.saved) {
                    *map = None;
                    saving.lock = None;
                    return Ok(());
                }
            }
        })
        .await
    }

    /// Writes the file if something has changed since it was written, and puts its name on the disk.
    /// Blocks the thread.
    fn save(&self, saving: &mut Saving) -> Result<()> {
        let Ok((slots, changes)) = self.with_map(|map| (Arc::clone(&map.slots), map.changes)) else {
            // Everything was saved when it was closed.
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
            files::sync_above(parent);
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
            // The file keeps its mode, from the first byte on.
            let permissions = fs::metadata(&self.path).ok().map(|metadata| metadata.permissions());
            let file = create(&temp)?;
            match permissions {
                Some(permissions) => file.set_permissions(permissions)?,
                None => self.permissions.apply(&file)?,
            }
            let mut out = BufWriter::with_capacity(64 * 1024, file);
            document::write(&mut out, slots.iter().filter(|(_, slot)| slot.is_alive(now)))?;
            out.get_ref().sync_all()
        })
    }
}

impl Drop for SnapshotFile {
    /// The last handle is gone without a close: saves the last changes now.
    fn drop(&mut self) {
        let saving = Arc::clone(&self.saving);
        // A save holds a handle until it has let go of this, so none is under way.
        let Ok(mut saving) = saving.try_lock() else {
            return;
        };
        if let Err(error) = self.save(&mut saving) {
            tracing::warn!(%error, "the snapshot could not be written when it was dropped; its last changes are lost");
        }
    }
}

/// Creates the temporary file, which only its owner may read until its permissions are known.
fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Reads the file, if it is there: its text and the entries.
fn read(path: &Path, existing: bool) -> Result<(Option<Bytes>, Slots)> {
    match files::read(path)? {
        Some(text) => {
            let slots = document::parse(&text)?;
            Ok((Some(text), slots))
        }
        None if existing => Err(configuration("there is no file at this path; check the path")),
        None => Ok((None, Slots::new())),
    }
}

/// Takes the lock of the snapshot at `path`, alone.
fn lock_alone(path: &Path, permissions: Permissions) -> Result<FileLock> {
    let file = permissions.open_or_create(&path.with_added_extension("lock")).map_err(error::io)?;
    lock(file, true)
}

/// Takes the lock, alone or together with others that only look.
fn lock(file: File, alone: bool) -> Result<FileLock> {
    match if alone { file.try_lock() } else { file.try_lock_shared() } {
        Ok(()) => Ok(FileLock(file)),
        Err(TryLockError::WouldBlock) => Err(Error::new(
            ErrorKind::Unavailable,
            "the snapshot is in use, by another process or another storage in this one; one at a time can have it \
             (a directory, such as `file:sessions`, can be shared)",
        )),
        Err(TryLockError::Error(error)) => Err(error::io(error)),
    }
}

/// The directory that a file is in.
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
    fn changes_during_a_save_that_outlives_the_handles_are_saved() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.json");
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let storage = SnapshotConfig::new().file(&path).connect().await.unwrap();
            let key = Key::new("early").unwrap();
            storage.write(&key, "1").await.unwrap();
            // A pipe is not opened for writing until it is read, so this save waits; then it fails, since
            // a pipe cannot be synced.
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
    fn private_file_is_private_from_the_start() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let file = create(&dir.path().join("t")).unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}
