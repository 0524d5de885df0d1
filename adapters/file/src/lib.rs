//! Larder storages on the file system, with no database and no server.
//!
//! | URL | configuration | files |
//! |---|---|---|
//! | `file:sessions` | [`Config`] | a directory with one file per key |
//! | `file:sessions?values=json` | [`Config`] | the same, in `.json` files that people can edit |
//! | `file:sessions?layout=grammy` | [`Config`] | the files of grammY's file storage |
//! | `file:sessions.json` | [`SnapshotConfig`] | one JSON file, written every so often |
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> larder_core::Result<()> {
//! # let dir = tempfile::tempdir().unwrap();
//! # let url = format!("file:{}/sessions", dir.path().display());
//! use std::time::Duration;
//!
//! let store = larder_file::connect(&url).await?; // "file:sessions"
//! store.write("chat:7", "Rex").expires_in(Duration::from_secs(3600)).await?;
//! assert_eq!(store.read("chat:7").await?.unwrap().value, "Rex");
//! store.close().await?;
//! # Ok(())
//! # }
//! ```
//!
//! Every store needs a tokio runtime. Its options are those of [`Config`] or [`SnapshotConfig`].
//!
//! # The directory
//!
//! ```text
//! sessions/.larder/format.json       which layout this is
//! sessions/.larder/locks/            locks between processes
//! sessions/.larder/tmp/              files that are being written
//! sessions/5e/-1001234567890.larder  an entry
//! sessions/a0/chat%3a7.larder        another: the key is `chat:7`
//! ```
//!
//! Each entry's file is replaced as a whole: it is written beside, put on the disk, and renamed. With
//! `sync=true` a write is acknowledged once the name is on the disk too. With `sync=false` it is
//! acknowledged once the operating system has it: it survives the death of the process, not a power
//! cut (after which an entry may also be found damaged).
//!
//! **Several processes** on one machine can use a directory at the same time. Writers exclude each
//! other with advisory locks, 64 for all keys; so conditions hold between processes. Reads take no lock,
//! unless they touch. The changes of a batch that share a lock are made together, conditions included, and
//! wait for the disk once. Do not remove `.larder` while a program is running, and do not share a directory over
//! a network file system that has no working locks. A process that has stopped (`SIGSTOP`, a debugger)
//! while it holds a lock keeps it: changes of the same keys, and listings, fail as
//! [`Unavailable`](larder_core::ErrorKind::Unavailable) after `lock_timeout`.
//!
//! **Power cuts.** With `sync=true` each answer to a change follows from the state on the disk. If a
//! process is killed before it has synced, the next change, in whatever process, syncs first. Reads
//! promise nothing: they may find a change that is not on the disk yet.
//!
//! **File names** are the key, where that is safe: lower-case ASCII letters, digits and `-_.+=@,` stand
//! for themselves, all other bytes are `%` and two hexadecimal digits, and names of more than 128
//! characters are `#` and the key's SHA-256. So different keys have different names on every file
//! system, also where case or Unicode normalisation forms are not told apart. The entries are spread
//! over 256 directories by the CRC-32 of the key; empty ones stay.
//!
//! **A file** begins with a head of 48 bytes (little-endian), then comes the key, then the value:
//!
//! | at | bytes | content |
//! |---|---|---|
//! | 0 | 8 | `LARDER`, format version 1, 0 |
//! | 8 | 8 | version token, new with every write |
//! | 16 | 8 | length of the value |
//! | 24 | 4 | length of the key (2 bytes), 0 |
//! | 28 | 4 | CRC-32 of the value |
//! | 32 | 4 | CRC-32 of bytes 0 to 31 and of the key |
//! | 36 | 4 | CRC-32 of bytes 40 to 47 |
//! | 40 | 8 | expiry in Unix milliseconds, signed; 0: never |
//!
//! With `values=json` it is JSON instead, for people to read and edit; the value keeps its text but for
//! white space:
//!
//! ```json
//! {
//!     "key": "chat:7",
//!     "expires_at": 1795310512273,
//!     "version": "00c0ffee00c0ffee",
//!     "value": [
//!         "Rex"
//!     ]
//! }
//! ```
//!
//! **A damaged or foreign file** in a key's place is [`Corrupt`](larder_core::ErrorKind::Corrupt) to
//! reads, conditional changes and touches; other keys are not affected. It is listed, a
//! plain write replaces it, and a delete removes it (and returns `true`). A file that has the name of
//! an entry's file, but for a key that Larder cannot hold (it has control characters, say, or is not
//! UTF-8), is an [`InvalidKey`](larder_core::ErrorKind::InvalidKey) in listings. Other files are left
//! alone.
//!
//! **Permissions.** New files are for this user only (mode `0600`, directories `0700`), since keys and
//! values may be secrets. The option `permissions` chooses another mode for files, whatever the umask
//! is; users who may read a directory may also search it. Files that are there keep their mode until
//! they are replaced: an entry by its next write, a snapshot never. No effect on Windows.
//!
//! **Looking.** [`Config::existing`] and [`SnapshotConfig::existing`] open only what is there. Opening and
//! reading then create and change nothing: no directory, no lock, no marker. The first change, even a
//! delete that finds nothing, makes the lock files: `.larder/locks` and `.larder/tmp` in a directory,
//! `sessions.json.lock` beside a snapshot.
//!
//! **Expiry** is by this machine's clock. A listing reads heads, not values.
//!
//! # grammY's layout
//!
//! `<directory>/<last two characters of the key>/<key>.json`, the value as JSON indented with tabs, byte
//! for byte what grammY writes, but replaced as a whole, and no reader sees half of it. Reading
//! returns compact JSON in which numbers and strings are spelled as in the file. There is no expiry,
//! and versions are the content. Keys that the layout cannot hold are
//! [`InvalidKey`](larder_core::ErrorKind::InvalidKey): those with `/` or `\`, those that end in a way
//! that leads out of the directory, and those of more than 250 bytes. On a file system that does not
//! tell case apart two keys that differ in case only are one: that is the layout's limit. Opening and
//! reading add nothing to the directory; the first change adds `.larder` with locks, which grammY does
//! not see. grammY takes no locks: do not let both write at the same time.
//!
//! # The snapshot
//!
//! The entries are in memory, and written into one JSON file every so often.
//!
//! **A write is acknowledged when it is in memory.** It is in the file after the next interval (60
//! seconds by default), or after [`Store::flush`] or [`Store::close`]; a crash before that loses it. So
//! [`Info::persistent`](larder_core::Info::persistent) is `false`, though everything that was flushed is there
//! when the snapshot is opened again.
//!
//! **The file holds the state of one moment**: the one at which its save began. Changes during a save
//! are in the next one. The first of them copies the table of the entries, without their values: the more
//! entries there are, the longer it takes.
//!
//! Dropping the last handle without a close writes the last changes at once, which blocks the thread
//! for as long as that takes and can report an error only through `tracing`: close it instead. If a close
//! fails, the entries stay in memory and are saved in the background; close again to know that they are in
//! the file.
//!
//! The file has one line per entry. Values that are compact JSON are there as they are, others in base64:
//!
//! ```json
//! {
//!     "larder": "snapshot",
//!     "version": 1,
//!     "entries": {
//!         "chat:7": {"expires_at":null,"version":"00c0ffee00c0ffee","value":["Rex"]},
//!         "photo:7": {"expires_at":1795310512273,"version":"00facade00facade","base64":"iVBORw0KGgo="}
//!     }
//! }
//! ```
//!
//! A file that is not a
//! snapshot is refused and left as it is. `sessions.json.lock` keeps a second
//! process away; it stays when the storage is closed, and may be deleted then.
//!
//! # Errors
//!
//! No permission is [`PermissionDenied`](larder_core::ErrorKind::PermissionDenied), a full disk or quota
//! [`StorageFull`](larder_core::ErrorKind::StorageFull), a path of the wrong sort or a directory with other things in
//! it [`InvalidConfig`](larder_core::ErrorKind::InvalidConfig), a directory that has gone while it was in
//! use (its disk was unmounted, say) [`Unavailable`](larder_core::ErrorKind::Unavailable).

mod batch;
mod config;
mod connect;
mod data_dir;
mod directory;
mod entries;
mod error;
mod files;
mod format;
mod grammy;
mod listing;
mod lock;
mod permissions;
#[cfg(all(test, unix))]
mod power_cut;
mod schema;
mod snapshot;
mod storage;
mod tree;

use larder_core::{Result, Store};
use larder_kit::{Configure, StoreUrl};
pub use larder_kit::{Interval, Layout, Permissions, ValueFormat};

pub use crate::{config::Config, snapshot::SnapshotConfig};

/// Opens the store that a `file:` URL names: a [snapshot](SnapshotConfig) if the path ends in `.json`, a
/// [directory](Config) otherwise.
///
/// # Errors
///
/// As [`SnapshotConfig::from_url`] and [`SnapshotConfig::connect`], or [`Config::from_url`] and
/// [`Config::connect`].
pub async fn connect(url: &str) -> Result<Store> {
    if is_snapshot(url)? {
        SnapshotConfig::from_url(url)?.connect().await
    } else {
        Config::from_url(url)?.connect().await
    }
}

/// Whether a `file:` URL names a [snapshot](SnapshotConfig) rather than a [directory](Config): whether its path
/// ends in `.json`.
///
/// # Errors
///
/// [`InvalidConfig`](larder_core::ErrorKind::InvalidConfig) if the URL names no file.
pub fn is_snapshot(url: &str) -> Result<bool> {
    let path = StoreUrl::parse(url).and_then(|url| config::path(&url)).map_err(Config::named)?;
    Ok(path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_decides() {
        for (url, snapshot) in [
            ("file:sessions", false),
            ("file:sessions.json", true),
            ("file:/var/lib/bot/S.JSON?interval=5s", true),
            ("file:json", false),
            ("file:.json/x", false),
            ("file:sessions.json.d", false),
        ] {
            assert_eq!(is_snapshot(url).unwrap(), snapshot, "{url}");
        }
        assert!(is_snapshot("redis:x.json").is_err());
    }
}

/// The examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
#[derive(Debug)]
pub struct Readme;
