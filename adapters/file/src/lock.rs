//! Locks between tasks and between processes.
//!
//! Keys are spread over a fixed number of locks. Each lock has two parts: a mutex for the tasks of this storage, which
//! is awaited without blocking a thread, and an advisory lock on a file, for other processes and for other storages in
//! this process. Only work that already runs on its own thread takes the file lock, so waiting for it never prevents
//! its holder from running.
//!
//! A change holds both ([`ShardGuard`], then [`FileLock`]). A reader that must exclude running changes shares the file
//! lock with other readers ([`FileLock`]).

use std::{
    borrow::Borrow,
    ffi::OsStr,
    fs::{File, OpenOptions, TryLockError},
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use larder_core::{Error, ErrorKind, Result};
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::{data_dir::DataDir, error, sys};

/// The number of locks. This is also the maximum number of writes that wait for the disk at the same time, and of file
/// handles that are kept open.
pub(crate) const COUNT: usize = 64;

/// The first pause between two attempts to take a lock. It doubles each time.
const FIRST_PAUSE: Duration = Duration::from_micros(20);

/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_millis(1);

/// Returns the index of the lock for the directory `shard`.
pub(crate) fn of_shard(shard: &OsStr) -> usize {
    usize::from(crc32fast::hash(shard.as_encoded_bytes()).to_le_bytes()[0]) % COUNT
}

/// The locks of one storage.
pub(crate) struct Locks {
    dir: DataDir,
    /// The longest wait for another process.
    timeout: Duration,
    /// The lock files that have been opened so far.
    files: Vec<Arc<Mutex<Option<File>>>>,
    /// Set before [`close`](Locks::close) waits for the guards. Afterwards no task can get a guard.
    closed: AtomicBool,
}

/// Excludes the other tasks of this storage from one lock.
pub(crate) struct ShardGuard {
    file: OwnedMutexGuard<Option<File>>,
    pub(crate) index: usize,
    /// The start of the wait. Tasks that wait for each other wait for the same other process, so none of them waits
    /// longer than the timeout.
    since: Instant,
}

/// The lock of a file, which is released when this is dropped.
pub(crate) struct FileLock<F: Borrow<File> = File>(pub(crate) F);

impl<F: Borrow<File>> Drop for FileLock<F> {
    fn drop(&mut self) {
        // Closing the file is not enough: a child process that is starting has a copy of the handle, which would keep
        // the lock. Unlocking a held lock cannot fail.
        let _ = self.0.borrow().unlock();
    }
}

impl Locks {
    pub(crate) fn new(dir: DataDir, timeout: Duration) -> Self {
        let files = (0..COUNT).map(|_| Arc::default()).collect();
        Self { dir, timeout, files, closed: AtomicBool::new(false) }
    }

    /// Waits for the other tasks that use lock `index`. Dropping the future, or the guard, lets the next task continue.
    ///
    /// # Errors
    ///
    /// [`Closed`](ErrorKind::Closed) after a [`close`](Locks::close) has begun.
    pub(crate) async fn guard(&self, index: usize) -> Result<ShardGuard> {
        let since = Instant::now();
        let file = Arc::clone(&self.files[index]).lock_owned().await;
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::closed());
        }
        Ok(ShardGuard { file, index, since })
    }

    /// Takes the lock of the guard, waiting for other processes. Blocks the thread.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](ErrorKind::Unavailable) if another process holds it longer than the timeout.
    pub(crate) fn exclusive<'g>(&self, guard: &'g mut ShardGuard) -> Result<FileLock<&'g File>> {
        let file: &File = match &mut *guard.file {
            Some(file) => file,
            none => none.insert(self.open(guard.index)?),
        };
        wait(guard.since, self.timeout, || file.try_lock())?;
        guard.since = Instant::now();
        Ok(FileLock(file))
    }

    fn open(&self, index: usize) -> Result<File> {
        let path = self.path(index);
        let open = || self.dir.permissions.open_or_create(&path);
        if let Some(file) = error::if_found(open())? {
            return Ok(file);
        }
        self.dir.check()?;
        self.dir.create_hidden()?;
        open().map_err(error::io)
    }

    fn path(&self, index: usize) -> PathBuf {
        self.dir.locks.join(format!("{index:02x}"))
    }

    /// Takes lock `index` as a reader, so that all changes that writers have begun are complete. Returns `None` if this
    /// cannot take a lock: the entries were never written (a writer creates the lock file first), or this user may not
    /// open the lock file.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](ErrorKind::Unavailable) if another process holds it longer than the timeout.
    pub(crate) fn shared(&self, index: usize) -> Result<Option<FileLock>> {
        let Ok(file) = sys::open(OpenOptions::new().read(true), &self.path(index)) else {
            return Ok(None);
        };
        match wait(Instant::now(), self.timeout, || file.try_lock_shared()) {
            Ok(()) => Ok(Some(FileLock(file))),
            Err(error) if error.kind() == ErrorKind::Unavailable => Err(error),
            Err(_) => Ok(None),
        }
    }

    /// Takes the lock that a process holds while it sets up the directory.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](ErrorKind::Unavailable) if another process holds it longer than the timeout.
    pub(crate) fn setup(&self) -> Result<FileLock> {
        let path = self.dir.locks.join("setup");
        let file = self.dir.permissions.open_or_create(&path).map_err(error::io)?;
        wait(Instant::now(), self.timeout, || file.try_lock())?;
        Ok(FileLock(file))
    }

    /// Takes lock `index` for a clean-up, if its file exists and no process holds it.
    pub(crate) fn try_exclusive(&self, index: usize) -> Option<FileLock> {
        let file = sys::open(OpenOptions::new().read(true).write(true), &self.path(index)).ok()?;
        file.try_lock().ok()?;
        Some(FileLock(file))
    }

    /// Waits for the tasks that hold guards, and closes the files. Tasks that wait for a guard get an error.
    pub(crate) async fn close(&self) {
        self.closed.store(true, Ordering::Release);
        for file in &self.files {
            file.lock().await.take();
        }
    }
}

/// Tries to take a lock, at least once, until it succeeds or `timeout` has passed since `since`. The system's own wait
/// for a lock has no timeout.
fn wait(
    since: Instant,
    timeout: Duration,
    mut attempt: impl FnMut() -> Result<(), TryLockError>,
) -> Result<()> {
    let mut pause = FIRST_PAUSE;
    loop {
        match attempt() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(TryLockError::Error(error)) => return Err(error::io(error)),
        }
        let left = timeout.saturating_sub(since.elapsed());
        if left.is_zero() {
            return Err(Error::new(
                ErrorKind::Unavailable,
                "another process holds the lock, and has not released it within `lock_timeout`; nothing was changed: \
                 look for a stopped program that uses the directory",
            )
            .not_applied());
        }
        thread::sleep(pause.min(left));
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
