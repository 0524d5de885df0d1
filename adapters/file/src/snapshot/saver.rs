//! From memory to the file: who may, when, and how.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, BufWriter},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use larder_core::{Error, ErrorKind, Key, Result, clock::unix_millis};
use tokio::{runtime::Handle, task::AbortHandle};

use super::{
    config::SnapshotBuilder,
    document,
    map::{Map, Slot},
};
use crate::{
    atomic,
    error::{self, blocking, configuration},
    form::read_whole,
    home::Home,
    permissions::Permissions,
};

/// How many entries are written while nobody else can get at them.
const PAGE: usize = 1024;

/// How long to wait, at most, before another try after a failed one.
const RETRY: Duration = Duration::from_secs(5);

/// What all handles on a snapshot share.
#[derive(Debug)]
pub(super) struct Shared {
    path: PathBuf,
    permissions: Permissions,
    interval: Duration,
    /// Whether nothing has been changed yet and the file was only opened to look at it.
    looking: AtomicBool,
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
    closed: bool,
    /// The lock against other processes; none once closed, or where the file is only looked at.
    lock: Option<File>,
}

impl Shared {
    /// Reads the file and takes the lock. Blocks the thread.
    pub(super) fn open(builder: &SnapshotBuilder) -> Result<Self> {
        // Whatever link leads there, it is one file with one lock, and the link is not what is replaced.
        let path = fs::canonicalize(&builder.path).unwrap_or_else(|_| builder.path.clone());
        let permissions = Permissions::new(builder.permissions)?;
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => {
                return Err(configuration("the snapshot's path names a directory; name a file in it"));
            }
            Ok(metadata) if !metadata.is_file() => {
                return Err(configuration("the snapshot's path names a pipe or a device; name a file"));
            }
            _ => {}
        }
        // Before anything is created beside it: it may be a file of something else.
        let (text, mut slots) = read(&path, builder.existing)?;
        let lock_path = with_suffix(&path, ".lock");
        let lock = if builder.existing {
            lock_if_there(&lock_path)?
        } else {
            Home::new(parent(&path).to_owned(), false, permissions).create_root()?;
            Some(lock(permissions.open_or_create(&lock_path).map_err(error::io)?)?)
        };
        if lock.is_some() && read_whole(&path)? != text {
            // It was replaced before the lock was ours.
            (_, slots) = read(&path, builder.existing)?;
        }
        if !builder.existing {
            // Nobody else writes it: it is what a killed process left behind, if it is there.
            let _ = fs::remove_file(with_suffix(&path, ".tmp"));
        }
        let saving = Saving { saved: 0, settled: builder.existing, closed: false, lock };
        Ok(Self {
            path,
            permissions,
            interval: builder.interval,
            state: Mutex::new(State { map: Map::new(slots), closed: false }),
            saving: Arc::new(tokio::sync::Mutex::new(saving)),
            looking: AtomicBool::new(builder.existing),
            task: Mutex::default(),
        })
    }

    /// Makes sure, before a change, that the lock is ours and that the map is what the file says: a
    /// snapshot that is only looked at need not have a lock.
    pub(super) async fn take_hold(self: &Arc<Self>) -> Result<()> {
        if !self.looking.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut saving = Arc::clone(&self.saving).lock_owned().await;
        let shared = Arc::clone(self);
        blocking(move || {
            let done = shared.take_hold_now(&mut saving);
            // Before `shared`, as in `flush`.
            drop(saving);
            done
        })
        .await
    }

    fn take_hold_now(&self, saving: &mut Saving) -> Result<()> {
        if saving.closed || !self.looking.load(Ordering::Acquire) {
            return Ok(());
        }
        if saving.lock.is_none() {
            let path = with_suffix(&self.path, ".lock");
            let lock = lock(self.permissions.open_or_create(&path).map_err(error::io)?)?;
            let (_, slots) = read(&self.path, true)?;
            self.state().map = Map::new(slots);
            saving.lock = Some(lock);
        }
        saving.settled = false;
        self.looking.store(false, Ordering::Release);
        Ok(())
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
        if saving.closed {
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
        let parent = Home::new(parent(&self.path).to_owned(), false, self.permissions);
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
            let file = create(&temp)?;
            match permissions {
                Some(permissions) => file.set_permissions(permissions)?,
                None => self.permissions.apply(&file)?,
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
        if !saving.closed && saving.settled && saving.saved == self.state().map.changes() {
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
        if saving.closed {
            return Ok(());
        }
        let shared = Arc::clone(self);
        blocking(move || {
            // From here on nobody changes anything, so that nothing can be left out.
            shared.state().closed = true;
            let done = shared.save(&mut saving);
            if done.is_ok() {
                saving.closed = true;
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
        if !saving.closed
            && let Err(error) = self.save(&mut saving)
        {
            tracing::warn!(%error, "the snapshot could not be written when it was dropped; its last changes are lost");
        }
    }
}

pub(super) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the storage has been closed; open it again to use it")
}

/// Creates the temporary file, which only its owner may read until its permissions are known.
fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Reads the file: its text, if it is there, and what that says.
fn read(path: &Path, existing: bool) -> Result<(Option<Bytes>, BTreeMap<Key, Slot>)> {
    match read_whole(path)? {
        Some(text) => {
            let slots = document::parse(&text)?;
            Ok((Some(text), slots))
        }
        None if existing => Err(configuration("there is no file at this path; check the path")),
        None => Ok((None, BTreeMap::new())),
    }
}

/// Takes the lock if its file is there. If it is not, no other process has the snapshot.
fn lock_if_there(path: &Path) -> Result<Option<File>> {
    let open = |write| OpenOptions::new().read(true).write(write).open(path);
    let opened = match open(true) {
        // Enough to see that no other process has it.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
            ) =>
        {
            open(false)
        }
        opened => opened,
    };
    match opened {
        Ok(file) => lock(file).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error::io(error)),
    }
}

fn lock(file: File) -> Result<File> {
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
    use larder_core::{Expiry, Storage};

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
        let file = create(&dir.path().join("t")).unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}
