//! Exclusion, between tasks and between processes.
//!
//! Keys are spread over a fixed number of locks. Each lock is two: a mutex for the tasks of this
//! process, which is waited for without blocking a thread, and an advisory lock on a file, for other
//! processes (and other handles in this one), which is held only by work that is already running on
//! a thread of its own. So whoever waits for the latter never keeps its holder from running.

use std::{
    cell::Cell,
    fs::{File, OpenOptions},
    io,
    path::PathBuf,
    sync::Arc,
};

use larder_core::Result;
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::{error, home::Home};

/// How many locks there are: as many writes can wait for the disk at a time, and as many file
/// handles are kept open at most.
pub(crate) const COUNT: usize = 64;

/// The locks of one storage.
#[derive(Debug)]
pub(crate) struct Locks {
    home: Home,
    slots: Vec<Arc<Mutex<Option<File>>>>,
}

/// The right of a task to take a lock: no other task of this storage has it.
#[derive(Debug)]
pub(crate) struct Turn {
    slot: OwnedMutexGuard<Option<File>>,
    home: Home,
    index: usize,
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
        // If it fails, the next holder syncs the directories once more.
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
    pub(crate) fn new(home: Home) -> Self {
        Self { home, slots: (0..COUNT).map(|_| Arc::default()).collect() }
    }

    fn path(home: &Home, index: usize) -> PathBuf {
        home.locks().join(format!("{index:02x}"))
    }

    /// Waits for the turn at lock `index`. Dropping the future, or the turn, gives it to the next.
    pub(crate) async fn turn(&self, index: usize) -> Turn {
        let slot = Arc::clone(&self.slots[index % COUNT]).lock_owned().await;
        Turn { slot, home: self.home.clone(), index: index % COUNT }
    }

    /// Whether lock `index` has ever been taken. A writer creates the lock before anything else.
    pub(crate) fn exists(&self, index: usize) -> bool {
        Self::path(&self.home, index).exists()
    }

    /// Takes lock `index` as a reader: all that writers have begun is complete. `None` where there
    /// is no lock to take: nobody has ever written, or this user may not open it.
    pub(crate) fn visit(&self, index: usize) -> Option<Visit> {
        let file = File::open(Self::path(&self.home, index)).ok()?;
        retry(|| file.lock_shared()).ok()?;
        Some(Visit(file))
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
    pub(crate) fn exclusive(&mut self) -> Result<Held<'_>> {
        if self.slot.is_none() {
            *self.slot = Some(self.open()?);
        }
        let Some(file) = self.slot.as_ref() else {
            return Err(error::io(io::ErrorKind::NotFound.into()));
        };
        retry(|| file.lock()).map_err(error::io)?;
        // Held from here on, so that it is released if the next call fails.
        let held = Held { file, index: self.index, settled: Cell::new(false) };
        held.settled.set(file.metadata().map_err(error::io)?.len() == 1);
        Ok(held)
    }

    fn open(&self) -> Result<File> {
        let path = Locks::path(&self.home, self.index);
        let open = || OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
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

/// A signal that interrupts the wait is no reason to give up.
fn retry(mut call: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}
