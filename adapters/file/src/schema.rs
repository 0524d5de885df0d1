//! Opening a directory: setting it up, or checking that it is one of Larder's or grammY's.

use std::fs;

use larder_core::Result;
use serde::{Deserialize, Serialize};

use crate::{
    data_dir::DataDir,
    error::{self, configuration, corrupt},
    files,
    lock::COUNT,
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

/// Opens the directory: creates what is missing, and removes what killed processes left behind. A
/// directory that may only be read opens too, if it is there. With `existing` this changes nothing. `check`
/// looks at what is in the directory.
pub(crate) fn open(tree: &Tree, existing: bool, check: impl FnOnce(&Tree) -> Result<()>) -> Result<()> {
    let dir = &tree.dir;
    match error::if_found(fs::metadata(&dir.root))? {
        Some(metadata) if metadata.is_dir() => {}
        Some(_) => {
            return Err(configuration(
                "the path names a file; a directory is needed (a snapshot's path ends in `.json`)",
            ));
        }
        None if existing => {
            return Err(configuration("there is no directory at this path; check the path"));
        }
        None => dir.permissions.create_directories(&dir.root).map_err(error::io)?,
    }
    check(tree)?;
    if !existing {
        if !dir.locks.exists() {
            // The first write makes the locks, after it has synced the directories above.
            files::sync_above(&dir.root);
        }
        remove_leftovers(tree);
    }
    Ok(())
}

/// Checks that the directory holds such values, or marks it so if it is empty.
pub(crate) fn check_or_mark(tree: &Tree, values: &str, existing: bool) -> Result<()> {
    if is_marked(&tree.dir, values)? {
        return Ok(());
    }
    if existing {
        return Err(configuration("the directory is empty, so it is not a storage; check the path"));
    }
    mark(tree, values)
}

/// Whether the directory has a marker, which must say that it holds such values. A directory without one must
/// be empty.
fn is_marked(dir: &DataDir, values: &str) -> Result<bool> {
    let read = || files::read(&dir.marker);
    let text = match read()? {
        Some(text) => text,
        None if dir.names()?.is_empty() => return Ok(false),
        // Again: another process may have set the directory up and written to it between the two looks.
        None => read()?.ok_or_else(|| {
            configuration(
                "the directory holds files that are not Larder's; name an empty or a new one (for a directory that \
                 grammY's file storage wrote, say `layout=grammy`)",
            )
        })?,
    };
    let marker: Marker = serde_json::from_slice(&text)
        .map_err(|_| corrupt("`.larder/format.json` in the directory is not what Larder writes there"))?;
    if marker.layout != LAYOUT || marker.version != VERSION {
        return Err(configuration("the directory was made by a version of Larder with another layout"));
    }
    if marker.values != values {
        return Err(configuration(format!(
            "the directory holds values as {0}; open it with `values={0}`, or copy it into a new one",
            if marker.values == "json" { "json" } else { "bytes" }
        )));
    }
    Ok(true)
}

fn mark(tree: &Tree, values: &str) -> Result<()> {
    let dir = &tree.dir;
    // Before there is a marker: one that is there says that this has been done.
    files::sync_above(&dir.root);
    // Not through `DataDir::check`, which asks for the marker.
    dir.create_hidden()?;
    let _lock = tree.locks.setup()?;
    // Another process may have been faster.
    if is_marked(dir, values)? {
        return Ok(());
    }
    let marker = Marker { layout: LAYOUT.to_owned(), version: VERSION, values: values.to_owned() };
    let text = serde_json::to_vec(&marker).unwrap_or_default();
    // On the disk before any entry is: a directory with entries and no marker would be refused.
    files::replace(&dir.temporary_file(COUNT), &dir.marker, dir.permissions, &text, b"\n", true)
        .map_err(error::io)?;
    dir.sync()
}

/// Removes temporary files of killed processes. A process that writes one holds the lock that the name
/// says, from before the file is created until it has its final name.
fn remove_leftovers(Tree { dir, locks, .. }: &Tree) {
    // Nothing depends on it, and the directory may be read-only: errors are for the next time.
    for name in files::names(&dir.temporary).unwrap_or_default() {
        let lock = name.to_str().and_then(|name| usize::from_str_radix(name.split('-').next()?, 16).ok());
        if let Some(_lock) = lock.filter(|lock| *lock < COUNT).and_then(|lock| locks.try_exclusive(lock)) {
            let _ = fs::remove_file(dir.temporary.join(name));
        }
    }
}
