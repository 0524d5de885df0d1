//! A disk that loses unsynced changes, for the tests.
//!
//! A directory on the disk holds the names that it held when it was last synced. A process that is
//! killed before it syncs a directory is a sync that fails.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
};

/// The names in a directory, with the contents of their files.
pub(crate) type Names = BTreeMap<OsString, Vec<u8>>;

#[derive(Default)]
struct Disk {
    synced: HashMap<PathBuf, Names>,
    failing: BTreeSet<PathBuf>,
    /// Files that were changed in place and not synced since.
    changed: BTreeSet<PathBuf>,
}

static DISK: LazyLock<Mutex<Disk>> = LazyLock::new(Mutex::default);

fn disk() -> MutexGuard<'static, Disk> {
    DISK.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn before_sync(path: &Path) -> io::Result<()> {
    if disk().failing.contains(path) {
        return Err(io::Error::other("the process is killed before it syncs"));
    }
    Ok(())
}

pub(crate) fn synced(path: &Path) -> io::Result<()> {
    let names = names(path)?;
    disk().synced.insert(path.to_owned(), names);
    Ok(())
}

pub(crate) fn content_changed(path: &Path) {
    disk().changed.insert(path.to_owned());
}

pub(crate) fn content_synced(path: &Path) {
    disk().changed.remove(path);
}

pub(crate) fn names(path: &Path) -> io::Result<Names> {
    let mut names = Names::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        // Anything but an entry counts by its name only: `/dev` is synced too.
        let small = entry.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() < 4096);
        let mut text = if small { fs::read(entry.path()).unwrap_or_default() } else { Vec::new() };
        if text.starts_with(b"LARDER") && text.len() >= 48 {
            // A touch changes the expiry in place: see `Disk::changed`.
            text[36..48].fill(0);
        }
        names.insert(entry.file_name(), text);
    }
    Ok(names)
}

/// The names in `path` after a power cut now.
pub(crate) fn after_power_cut(path: &Path) -> Names {
    disk().synced.get(path).cloned().unwrap_or_default()
}

pub(crate) fn fail(path: &Path) {
    disk().failing.insert(path.to_owned());
}

pub(crate) fn mend(path: &Path) {
    disk().failing.remove(path);
}

/// Whether the file at `path` was changed in place and not synced since.
pub(crate) fn is_changed(path: &Path) -> bool {
    disk().changed.contains(path)
}
