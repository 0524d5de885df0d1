//! Exclusion, between tasks and between processes.
//!
//! Keys are spread over a fixed number of locks. Each lock has two parts: a mutex for the tasks of this
//! storage, which is awaited without blocking a thread, and an advisory lock on a file, for other
//! processes (and other storages in this one), which is held only by work that already runs on a thread
//! of its own. So a wait for the file never keeps its holder from running.
//!
//! A change holds both ([`ShardGuard`], then [`FileLock`]). A reader that needs to know that no change
//! is under way holds the file's lock together with other readers ([`FileLock`]).

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

use crate::{data_dir::DataDir, error};

/// How many locks there are: as many writes can wait for the disk at a time, and as many file
/// handles are kept open at most.
pub(crate) const COUNT: usize = 64;

/// The first pause between two attempts to take a lock; each is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_micros(20);

/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_millis(1);

/// The lock of the directory `shard`.
pub(crate) fn of_shard(shard: &OsStr) -> usize {
    usize::from(crc32fast::hash(shard.as_encoded_bytes()).to_le_bytes()[0]) % COUNT
}

/// The locks of one storage.
pub(crate) struct Locks {
    dir: DataDir,
    /// How long to wait for another process.
    timeout: Duration,
    /// The files, as far as they have been opened.
    files: Vec<Arc<Mutex<Option<File>>>>,
    /// Set before [`close`](Locks::close) waits for the guards: no task has one afterwards.
    closed: AtomicBool,
}

/// Keeps the other tasks of this storage from one lock.
pub(crate) struct ShardGuard {
    file: OwnedMutexGuard<Option<File>>,
    pub(crate) index: usize,
    /// When the wait began. The tasks that wait for each other wait for the same other process, so each
    /// of them waits no longer than the timeout.
    since: Instant,
}

/// The lock of a file, until it is dropped.
pub(crate) struct FileLock<F: Borrow<File> = File>(pub(crate) F);

impl<F: Borrow<File>> Drop for FileLock<F> {
    fn drop(&mut self) {
        // Closing the file is not enough: a child process that is being started has a copy of it, which would
        // keep the lock. This cannot fail on a lock that is held.
        let _ = self.0.borrow().unlock();
    }
}

impl Locks {
    pub(crate) fn new(dir: DataDir, timeout: Duration) -> Self {
        let files = (0..COUNT).map(|_| Arc::default()).collect();
        Self { dir, timeout, files, closed: AtomicBool::new(false) }
    }

    /// Waits for the other tasks that want lock `index`. Dropping the future, or the guard, lets the
    /// next one have it.
    ///
    /// # Errors
    ///
    /// [`Closed`](ErrorKind::Closed) once a [`close`](Locks::close) has begun.
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
    /// [`Unavailable`](ErrorKind::Unavailable) if another process holds it for too long.
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

    /// Takes lock `index` as a reader: all that writers have begun is complete. `None` where there is no lock to
    /// take: nothing was ever written, as a writer creates the lock first, or this user may not open it.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](ErrorKind::Unavailable) if another process holds it for too long.
    pub(crate) fn shared(&self, index: usize) -> Result<Option<FileLock>> {
        let Ok(file) = File::open(self.path(index)) else {
            return Ok(None);
        };
        match wait(Instant::now(), self.timeout, || file.try_lock_shared()) {
            Ok(()) => Ok(Some(FileLock(file))),
            Err(error) if error.kind() == ErrorKind::Unavailable => Err(error),
            Err(_) => Ok(None),
        }
    }

    /// Takes the lock that a process holds while it sets the directory up.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](ErrorKind::Unavailable) if another process holds it for too long.
    pub(crate) fn setup(&self) -> Result<FileLock> {
        let path = self.dir.locks.join("setup");
        let file = self.dir.permissions.open_or_create(&path).map_err(error::io)?;
        wait(Instant::now(), self.timeout, || file.try_lock())?;
        Ok(FileLock(file))
    }

    /// Takes lock `index` for a clean-up, if it is there and no process holds it.
    pub(crate) fn try_exclusive(&self, index: usize) -> Option<FileLock> {
        let file = OpenOptions::new().read(true).write(true).open(self.path(index)).ok()?;
        file.try_lock().ok()?;
        Some(FileLock(file))
    }

    /// Waits for the tasks that hold guards, and closes the files. The tasks that wait for a guard get an
    /// error.
    pub(crate) async fn close(&self) {
        self.closed.store(true, Ordering::Release);
        for file in &self.files {
            file.lock().await.take();
        }
    }
}

/// Attempts to take a lock until that succeeds, or until `timeout` after `since`; at least once. The
/// system's own wait for a lock has no time limit.
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
                "another process holds the lock, and has not released it within `lock_timeout`; nothing was changed. \
                 Look for a program that has stopped while it was using the directory",
            )
            .not_applied());
        }
        thread::sleep(pause.min(left));
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
