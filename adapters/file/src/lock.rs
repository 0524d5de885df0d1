//! Exclusion, between tasks and between processes.
//!
//! Keys are spread over a fixed number of locks. Each lock is two: a mutex for the tasks of this
//! process, which is waited for without blocking a thread, and an advisory lock on a file, for other
//! processes (and other handles in this one), which is held only by work that is already running on
//! a thread of its own. So whoever waits for the latter never keeps its holder from running.

use std::{
    cell::Cell,
    fs::{File, OpenOptions, TryLockError},
    io,
    path::PathBuf,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use larder_core::{Error, ErrorKind, Result};
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::{error, home::Home};

/// How many locks there are: as many writes can wait for the disk at a time, and as many file
/// handles are kept open at most.
pub(crate) const COUNT: usize = 64;

/// The first pause between two attempts to take a lock; each is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_micros(20);

/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_millis(1);

/// The locks of one storage.
#[derive(Debug)]
pub(crate) struct Locks {
    home: Home,
    /// How long to wait for another process.
    timeout: Duration,
    slots: Vec<Arc<Mutex<Option<File>>>>,
}

/// The right of a task to take a lock: no other task of this storage has it.
#[derive(Debug)]
pub(crate) struct Turn {
    slot: OwnedMutexGuard<Option<File>>,
    home: Home,
    index: usize,
    timeout: Duration,
    /// When the wait began. Those who wait for each other in this process wait for the same other
    /// process, so each of them waits no longer than the timeout.
    since: Instant,
}

/// A lock held against other processes, until it is dropped.
///
/// Its file says whether all changes made under the lock are on the disk, so that the next holder
/// knows it also if this process is killed. It says so by its length, one byte if they are, since a
/// full disk does not keep a file from becoming shorter. A new file is empty: nothing is known.
#[derive(Debug)]
pub(crate) struct Held<'a> {
    file: &'a File,
    index: usize,
    settled: Cell<bool>,
}

/// The same for readers, who share it.
#[derive(Debug)]
pub(crate) struct Visit(File);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // It cannot fail on a lock that is held; and if it did, closing the file would release it.
        let _ = self.file.unlock();
    }
}

impl Held<'_> {
    /// Which lock it is.
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// Whether all changes made under this lock are known to be on the disk.
    pub(crate) fn is_settled(&self) -> bool {
        self.settled.get()
    }

    /// Notes, before a change, that it may not be on the disk.
    pub(crate) fn unsettle(&self) -> Result<()> {
        if self.settled.get() {
            self.file.set_len(0).map_err(error::io)?;
            self.settled.set(false);
        }
        Ok(())
    }

    /// Notes that all changes made under this lock are on the disk.
    pub(crate) fn settle(&self) {
        // If it fails, the next holder syncs everything under the lock once more.
        if !self.settled.get() && self.file.set_len(1).is_ok() {
            self.settled.set(true);
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

impl Locks {
    pub(crate) fn new(home: Home, timeout: Duration) -> Self {
        Self { home, timeout, slots: (0..COUNT).map(|_| Arc::default()).collect() }
    }

    fn path(home: &Home, index: usize) -> PathBuf {
        home.locks().join(format!("{index:02x}"))
    }

    /// Waits for the turn at lock `index`. Dropping the future, or the turn, gives it to the next.
    pub(crate) async fn turn(&self, index: usize) -> Turn {
        let since = Instant::now();
        let slot = Arc::clone(&self.slots[index % COUNT]).lock_owned().await;
        Turn { slot, home: self.home.clone(), index: index % COUNT, timeout: self.timeout, since }
    }

    /// Whether lock `index` has ever been taken. A writer creates the lock before anything else.
    pub(crate) fn exists(&self, index: usize) -> bool {
        Self::path(&self.home, index).exists()
    }

    /// Takes lock `index` as a reader: all that writers have begun is complete. `None` where there
    /// is no lock to take: nobody has ever written, or this user may not open it.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](ErrorKind::Unavailable) if another process holds it for too long.
    pub(crate) fn visit(&self, index: usize) -> Result<Option<Visit>> {
        let Ok(file) = File::open(Self::path(&self.home, index)) else {
            return Ok(None);
        };
        match wait(Instant::now(), self.timeout, || file.try_lock_shared()) {
            Ok(true) => Ok(Some(Visit(file))),
            Ok(false) => Err(busy()),
            Err(_) => Ok(None),
        }
    }

    /// Takes the lock that a process holds while it sets the directory up. It is released with the
    /// file.
    pub(crate) fn setup(&self) -> Result<File> {
        let path = self.home.locks().join("setup");
        let file = self.home.permissions.open_or_create(&path).map_err(error::io)?;
        match wait(Instant::now(), self.timeout, || file.try_lock()).map_err(error::io)? {
            true => Ok(file),
            false => Err(busy()),
        }
    }

    /// Takes lock `index` if nobody has it, as who cleans up does.
    pub(crate) fn try_visit(&self, index: usize) -> Option<Visit> {
        let file = OpenOptions::new().read(true).write(true).open(Self::path(&self.home, index)).ok()?;
        file.try_lock().ok()?;
        Some(Visit(file))
    }

    /// Waits for all who have a turn, and closes the files.
    pub(crate) async fn close(&self) {
        for slot in &self.slots {
            slot.lock().await.take();
        }
    }
}

impl Turn {
    /// Takes the lock, waiting for other processes. Blocks the thread.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](ErrorKind::Unavailable) if another process holds it for too long.
    pub(crate) fn exclusive(&mut self) -> Result<Held<'_>> {
        if self.slot.is_none() {
            *self.slot = Some(self.open()?);
        }
        let Some(file) = self.slot.as_ref() else {
            return Err(error::io(io::ErrorKind::NotFound.into()));
        };
        if !wait(self.since, self.timeout, || file.try_lock()).map_err(error::io)? {
            return Err(busy());
        }
        self.since = Instant::now();
        // Held from here on, so that it is released if the next call fails.
        let held = Held { file, index: self.index, settled: Cell::new(false) };
        held.settled.set(file.metadata().map_err(error::io)?.len() == 1);
        Ok(held)
    }

    fn open(&self) -> Result<File> {
        let path = Locks::path(&self.home, self.index);
        let open = || self.home.permissions.open_or_create(&path);
        match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.home.check()?;
                self.home.create_hidden()?;
                open().map_err(error::io)
            }
            opened => opened.map_err(error::io),
        }
    }
}

/// Attempts to take a lock until that succeeds, or until `timeout` after `since`; at least once. The
/// system's own wait for a lock has no end that one could set.
fn wait(
    since: Instant,
    timeout: Duration,
    mut attempt: impl FnMut() -> Result<(), TryLockError>,
) -> io::Result<bool> {
    let mut pause = FIRST_PAUSE;
    loop {
        match attempt() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let left = timeout.saturating_sub(since.elapsed());
        if left.is_zero() {
            return Ok(false);
        }
        thread::sleep(pause.min(left));
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn busy() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "another process holds the lock, and has not released it within `lock_timeout`; nothing was changed. Look for \
         a program that has stopped while it was using the directory",
    )
}
