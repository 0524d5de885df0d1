//! From memory to the file: who may, when, and how.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, BufWriter},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use larder_core::{Error, ErrorKind, Result, clock::unix_millis};
use tokio::{runtime::Handle, task::AbortHandle};

use super::{document, map::Map};
use crate::{
    atomic,
    error::{self, blocking, configuration},
    form::read_whole,
    home::Home,
};

/// How many entries are written while nobody else can get at them.
const PAGE: usize = 1024;

/// How long to wait, at most, before another try after a failed one.
const RETRY: Duration = Duration::from_secs(5);

/// What all handles on a snapshot share.
#[derive(Debug)]
pub(super) struct Shared {
    path: PathBuf,
    interval: Duration,
    state: Mutex<State>,
    saving: Arc<tokio::sync::Mutex<Saving>>,
    task: Mutex<Option<AbortHandle>>,
}

/// What is in memory. Held for moments only, never over an await.
#[derive(Debug)]
pub(super) struct State {
    pub(super) map: Map,
    pub(super) closed: bool,
}

/// The right to write the file.
#[derive(Debug)]
struct Saving {
    /// The change that the file is up to date with.
    saved: u64,
    /// Whether the file's name is known to be on the disk, with those of the directories above it. The
    /// process that wrote the file may have been killed before it synced them.
    settled: bool,
    /// The lock against other processes; none once closed.
    lock: Option<File>,
}

impl Shared {
    /// Takes the lock and reads the file. Blocks the thread.
    pub(super) fn open(path: &Path, interval: Duration) -> Result<Self> {
        // Whatever link leads there, it is one file with one lock, and the link is not what is replaced.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        if path.is_dir() {
            return Err(configuration("the snapshot's path names a directory; name a file in it"));
        }
        Home::new(parent(&path).to_owned(), false).create_root()?;
        let lock = lock(&with_suffix(&path, ".lock"))?;
        let slots = match read_whole(&path)? {
            Some(text) => document::parse(&text)?,
            None => BTreeMap::new(),
        };
        // Nobody else writes it: it is what a killed process left behind, if it is there.
        let _ = fs::remove_file(with_suffix(&path, ".tmp"));
        Ok(Self {
            path,
            interval,
            state: Mutex::new(State { map: Map::new(slots), closed: false }),
            saving: Arc::new(tokio::sync::Mutex::new(Saving { saved: 0, settled: false, lock: Some(lock) })),
            task: Mutex::default(),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the file if something has changed since it was written, and puts its name on the disk.
    /// Blocks the thread.
    fn save(&self, saving: &mut Saving) -> Result<()> {
        if saving.lock.is_none() {
            return Err(closed());
        }
        let moment = {
            let mut state = self.state();
            (saving.saved != state.map.changes()).then(|| state.map.freeze(unix_millis()))
        };
        if moment.is_some() {
            let replaced = self.replace();
            self.state().map.thaw();
            replaced.map_err(error::io)?;
        } else if saving.settled {
            return Ok(());
        }
        let parent = Home::new(parent(&self.path).to_owned(), false);
        if !saving.settled {
            parent.sync_above();
        }
        atomic::sync_directory(parent.root()).map_err(error::io)?;
        saving.settled = true;
        saving.saved = moment.unwrap_or(saving.saved);
        Ok(())
    }

    fn replace(&self) -> io::Result<()> {
        let temp = with_suffix(&self.path, ".tmp");
        let replace = || -> io::Result<()> {
            // Who may read the snapshot is for its owner to say, from the first byte on.
            let permissions = fs::metadata(&self.path).ok().map(|metadata| metadata.permissions());
            let file = create(&temp, permissions.is_some())?;
            if let Some(permissions) = permissions {
                file.set_permissions(permissions)?;
            }
            self.fill(file)?.sync_all()?;
            fs::rename(&temp, &self.path)
        };
        // A full disk has no use for half a snapshot.
        replace().inspect_err(|_| drop(fs::remove_file(&temp)))
    }

    /// Writes the entries as they were when the map was frozen. Page by page: other operations go on
    /// in between.
    fn fill(&self, file: File) -> io::Result<File> {
        let mut writer = document::Writer::new(BufWriter::with_capacity(64 * 1024, file))?;
        let next = || self.state().map.frozen_page(PAGE);
        while let Some(page) = next() {
            for (key, slot) in &page {
                writer.entry(key, slot)?;
            }
        }
        writer.finish()?.into_inner().map_err(io::IntoInnerError::into_error)
    }

    /// Writes what has not been written. Goes on to its end also when the future is dropped.
    pub(super) async fn flush(self: &Arc<Self>) -> Result<()> {
        let mut saving = Arc::clone(&self.saving).lock_owned().await;
        if saving.lock.is_some() && saving.settled && saving.saved == self.state().map.changes() {
            return Ok(());
        }
        let shared = Arc::clone(self);
        blocking(move || {
            let done = shared.save(&mut saving);
            // Before `shared`, which may be the last handle and then saves what has changed since.
            drop(saving);
            done
        })
        .await
    }

    /// Flushes, and lets others have the file. If that fails the storage stays open.
    pub(super) async fn close(self: &Arc<Self>) -> Result<()> {
        let mut saving = Arc::clone(&self.saving).lock_owned().await;
        if saving.lock.is_none() {
            return Ok(());
        }
        let shared = Arc::clone(self);
        blocking(move || {
            // From here on nobody changes anything, so that nothing can be left out.
            shared.state().closed = true;
            let done = shared.save(&mut saving);
            if done.is_ok() {
                saving.lock = None;
                if let Some(task) = shared.task().take() {
                    task.abort();
                }
            } else {
                shared.state().closed = false;
            }
            // Before `shared`, as in `flush`.
            drop(saving);
            done
        })
        .await
    }

    fn task(&self) -> MutexGuard<'_, Option<AbortHandle>> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the background writer, unless it is running: the runtime that it ran on may have shut
    /// down.
    pub(super) fn ensure_running(self: &Arc<Self>) {
        let mut task = self.task();
        if task.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        if let Ok(runtime) = Handle::try_current() {
            *task = Some(runtime.spawn(run(Arc::downgrade(self), self.interval)).abort_handle());
        }
    }
}

/// The background writer. An error does not end it.
async fn run(shared: Weak<Shared>, interval: Duration) {
    let mut wait = interval;
    loop {
        tokio::time::sleep(wait).await;
        let Some(shared) = shared.upgrade() else {
            return;
        };
        shared.state().map.purge(unix_millis());
        wait = match shared.flush().await {
            Ok(()) => interval,
            Err(error) if error.kind() == ErrorKind::Closed => return,
            Err(error) => {
                tracing::warn!(%error, "the snapshot could not be written; trying again");
                interval.min(RETRY)
            }
        };
    }
}

impl Drop for Shared {
    /// The last handle is gone with no close: what is not written yet is written now.
    fn drop(&mut self) {
        if let Some(task) = self.task().take() {
            task.abort();
        }
        let saving = Arc::clone(&self.saving);
        // Whoever is saving holds a handle until it has let go of this, so nobody is.
        let Ok(mut saving) = saving.try_lock() else {
            return;
        };
        if saving.lock.is_some()
            && let Err(error) = self.save(&mut saving)
        {
            tracing::warn!(%error, "the snapshot could not be written when it was dropped; its last changes are lost");
        }
    }
}

pub(super) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the storage has been closed; open it again to use it")
}

/// Creates the temporary file, for nobody else's eyes if `private`.
fn create(path: &Path, private: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    if private {
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    }
    #[cfg(not(unix))]
    let _ = private;
    options.open(path)
}

fn lock(path: &Path) -> Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(error::io)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
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

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(all(test, unix))]
mod tests {
    use futures_util::FutureExt;
    use larder_core::{Bytes, Expiry, Key, Storage};

    use super::*;
    use crate::SnapshotStorage;

    #[test]
    fn what_changes_during_a_save_that_outlives_the_handles_is_saved() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.json");
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let storage = SnapshotStorage::builder(&path).open().await.unwrap();
            let key = Key::new("early").unwrap();
            storage.write(&key, Bytes::from_static(b"1"), Expiry::Never).await.unwrap();
            // A pipe is not opened until somebody reads it, so this save waits; then it fails, since
            // there is no syncing a pipe.
            let temp = with_suffix(&path, ".tmp");
            assert!(std::process::Command::new("mkfifo").arg(&temp).status().unwrap().success());
            assert!(storage.flush().now_or_never().is_none());
            let key = Key::new("late").unwrap();
            storage.write(&key, Bytes::from_static(b"2"), Expiry::Never).await.unwrap();
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
    fn a_private_file_is_private_from_the_start() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let file = create(&dir.path().join("t"), true).unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}
