//! Opens a directory: sets it up, or checks that its layout is Larder's or grammY's.

use std::fs;

use larder_core::Result;
use serde::{Deserialize, Serialize};

use crate::{
    data_dir::DataDir,
    error::{self, configuration, corrupt},
    files,
    lock::COUNT,
    sys,
    tree::Tree,
};

/// The layout that this crate writes, and its version.
const LAYOUT: &str = "larder";
const VERSION: u32 = 1;

/// The content of the marker.
#[derive(Serialize, Deserialize)]
struct Marker {
    layout: String,
    version: u32,
    values: String,
}

/// Opens the directory: creates missing parts, and removes files that killed processes left. An existing directory that
/// may only be read opens too. With `existing` this changes nothing. `check` checks the contents of the directory.
pub(crate) fn open(tree: &Tree, existing: bool, check: impl FnOnce(&Tree) -> Result<()>) -> Result<()> {
    let dir = &tree.dir;
    match error::if_found(fs::metadata(&dir.root))? {
        Some(metadata) if metadata.is_dir() => {}
        Some(_) => {
            return Err(configuration(
                "the path names a file, but a directory is needed (the path of a snapshot ends with `.json`)",
            ));
        }
        None if existing => {
            return Err(configuration("the directory does not exist: check the path"));
        }
        None => dir.permissions.create_directories(&dir.root).map_err(error::io)?,
    }
    check(tree)?;
    if !existing {
        if !dir.locks.exists() {
            // The first write creates the locks, after this has synced the directories above.
            files::sync_above(&dir.root).map_err(error::io)?;
        }
        remove_leftovers(tree);
    }
    Ok(())
}

/// Checks that the directory has values of this format. Marks an empty directory with it.
pub(crate) fn check_or_mark(tree: &Tree, values: &str, existing: bool) -> Result<()> {
    if is_marked(&tree.dir, values)? {
        return Ok(());
    }
    if existing {
        return Err(configuration("the directory is empty, so it is not a storage: check the path"));
    }
    mark(tree, values)
}

/// Returns whether the directory has a marker, which must have this format of values. A directory without a marker
/// must be empty.
fn is_marked(dir: &DataDir, values: &str) -> Result<bool> {
    let read = || files::read(&dir.marker);
    let text = match read()? {
        Some(text) => text,
        None if dir.names()?.is_empty() => return Ok(false),
        // Read again: another process may have set up the directory, and written to it, in the meantime.
        None => read()?.ok_or_else(|| {
            configuration(
                "the directory has files that are not Larder's: use an empty or a new one (for a directory of \
                 grammY's file storage, add the option `layout=grammy`)",
            )
        })?,
    };
    let marker: Marker = serde_json::from_slice(&text).map_err(|_| {
        corrupt("`.larder/format.json` in the directory is damaged, or was not written by Larder")
    })?;
    if marker.layout != LAYOUT || marker.version != VERSION {
        return Err(configuration("the directory was created by a version of Larder with another layout"));
    }
    if marker.values != values {
        return Err(configuration(format!(
            "the directory stores values as {0}: open it with `values={0}`, or copy its entries into a new one",
            if marker.values == "json" { "json" } else { "bytes" }
        )));
    }
    Ok(true)
}

fn mark(tree: &Tree, values: &str) -> Result<()> {
    let dir = &tree.dir;
    // Done before the marker is written: an existing marker means that this has been done.
    files::sync_above(&dir.root).map_err(error::io)?;
    // Does not use `DataDir::check`, which needs the marker.
    dir.create_hidden()?;
    let _lock = tree.locks.setup()?;
    // Another process may have created the marker in the meantime.
    if is_marked(dir, values)? {
        return Ok(());
    }
    let marker = Marker { layout: LAYOUT.to_owned(), version: VERSION, values: values.to_owned() };
    let text = serde_json::to_vec(&marker).unwrap_or_default();
    // Synced before any entry is written: a directory with entries and without a marker would be rejected.
    files::replace(&dir.temporary_file(COUNT), &dir.marker, dir.permissions, &text, b"\n", true)
        .map_err(error::io)?;
    dir.sync()
}

/// Removes temporary files of killed processes. A process holds the lock in the name of its temporary file until the
/// file is renamed.
fn remove_leftovers(Tree { dir, locks, .. }: &Tree) {
    // Errors are ignored, because nothing depends on this, and the directory may be read-only.
    for name in sys::names(&dir.temporary).unwrap_or_default() {
        let lock = name.to_str().and_then(|name| usize::from_str_radix(name.split('-').next()?, 16).ok());
        if let Some(_lock) = lock.filter(|lock| *lock < COUNT).and_then(|lock| locks.try_exclusive(lock)) {
            let _ = sys::remove_file(&dir.temporary.join(name));
        }
    }
}
