//! Opening a directory: making it ours, or making sure that it is.

use std::{fs, io};

use larder_core::Result;
use serde::{Deserialize, Serialize};

use crate::{
    atomic,
    directory::Directory,
    error::{self, configuration, corrupt},
    form::{Form, read_whole},
    home::Home,
    lock::{COUNT, Locks},
};

/// The version of the layout that this crate writes.
const LAYOUT_VERSION: u32 = 1;

/// What the marker says.
#[derive(Serialize, Deserialize)]
struct Marker {
    layout: String,
    version: u32,
    values: String,
}

impl Marker {
    fn of(form: Form) -> Self {
        let values = if form == Form::Json { "json" } else { "bytes" };
        Self { layout: "larder".to_owned(), version: LAYOUT_VERSION, values: values.to_owned() }
    }
}

/// Opens the directory: creates what is missing, and removes what killed processes left behind.
///
/// A directory that may only be read opens too, if it is there.
pub(crate) fn open(directory: &Directory) -> Result<()> {
    let Directory { home, form, locks, .. } = directory;
    home.create_root()?;
    if *form == Form::Grammy {
        check_grammy(home)?;
        if !home.locks().exists() {
            // The first write makes the locks, after it has synced the directories above.
            home.sync_above();
        }
    } else if !is_marked(home, *form)? {
        mark(directory)?;
    }
    remove_leftovers(home, locks);
    Ok(())
}

/// Makes sure that the directory is there and has this form. Changes nothing.
pub(crate) fn check(directory: &Directory) -> Result<()> {
    let Directory { home, form, .. } = directory;
    if !home.exists()? {
        return Err(configuration("there is no directory at this path; check the path"));
    }
    if *form == Form::Grammy {
        return check_grammy(home);
    }
    if is_marked(home, *form)? {
        return Ok(());
    }
    refuse_foreign(home)?;
    Err(configuration("the directory is empty, so it is not a storage; check the path"))
}

/// Refuses a directory that has no entry in grammY's layout, but something else.
fn check_grammy(home: &Home) -> Result<()> {
    if home.marker().exists() {
        return Err(configuration("the directory has Larder's own layout; leave `layout=grammy` out"));
    }
    let names = home.names()?;
    if names.is_empty()
        || names.iter().filter_map(|name| name.to_str()).any(|name| Form::Grammy.is_shard(name))
    {
        return Ok(());
    }
    Err(configuration(
        "the directory holds files, and none where grammY's file storage puts them; name its directory, an empty \
         one or a new one",
    ))
}

/// Whether the directory has a marker, which must say the same form.
fn is_marked(home: &Home, form: Form) -> Result<bool> {
    let Some(text) = read_whole(&home.marker())? else {
        return Ok(false);
    };
    let marker: Marker = serde_json::from_slice(&text)
        .map_err(|_| corrupt("`.larder/format.json` in the directory is not what Larder writes there"))?;
    let ours = Marker::of(form);
    if marker.layout != ours.layout || marker.version != ours.version {
        return Err(configuration("the directory was made by a version of Larder with another layout"));
    }
    if marker.values != ours.values {
        return Err(configuration(format!(
            "the directory holds values as {0}; open it with `values={0}`, or copy it into a new one",
            if marker.values == "json" { "json" } else { "bytes" }
        )));
    }
    Ok(true)
}

fn mark(directory: &Directory) -> Result<()> {
    let Directory { home, form, locks, .. } = directory;
    if let Err(error) = refuse_foreign(home) {
        // Another process may have set it up and written to it since we looked for the marker.
        return if is_marked(home, *form)? { Ok(()) } else { Err(error) };
    }
    // Before there is a marker: one that is there says that this has been done.
    home.sync_above();
    // Not through `Home::check`, which asks for the marker.
    home.create_hidden()?;
    let _lock = locks.setup()?;
    // Another process may have been faster.
    if is_marked(home, *form)? {
        return Ok(());
    }
    refuse_foreign(home)?;
    let mut text = serde_json::to_vec(&Marker::of(*form)).unwrap_or_default();
    text.push(b'\n');
    let write = || -> io::Result<()> {
        // On the disk before any entry is: a directory with entries and no marker would be refused.
        atomic::replace(&home.temporary_file(COUNT), &home.marker(), home.permissions, &text, b"", true)?;
        home.sync()
    };
    write().map_err(error::io)
}

fn refuse_foreign(home: &Home) -> Result<()> {
    if home.names()?.is_empty() {
        return Ok(());
    }
    Err(configuration(
        "the directory holds files that are not Larder's; name an empty or a new one (for a directory that \
         grammY's file storage wrote, say `layout=grammy`)",
    ))
}

/// Removes temporary files that nobody is writing: whoever is holds the lock that the name says, from
/// before the file is created until it has its final name.
fn remove_leftovers(home: &Home, locks: &Locks) {
    // Nothing depends on it, and the directory may be read-only: errors are for the next time.
    let Ok(entries) = fs::read_dir(home.temporary()) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let lock = name.to_str().and_then(|name| usize::from_str_radix(name.split('-').next()?, 16).ok());
        let Some(lock) = lock.filter(|lock| *lock < COUNT) else {
            continue;
        };
        if let Some(_visit) = locks.try_visit(lock) {
            let _ = fs::remove_file(entry.path());
        }
    }
}
