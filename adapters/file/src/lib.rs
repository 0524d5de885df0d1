//! Larder storages on the file system, without a database or a server.
//!
//! | URL | configuration | files |
//! |---|---|---|
//! | `file:sessions` | [`Config`] | a directory with one file per key |
//! | `file:sessions?values=json` | [`Config`] | the same, in `.json` files that people can edit |
//! | `file:sessions?layout=grammy` | [`Config`] | the files of grammY's file storage |
//! | `file:sessions.json` | [`SnapshotConfig`] | one JSON file, written periodically |
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
//! Every store needs a tokio runtime. [`Config`] and [`SnapshotConfig`] have the options.
//!
//! # The directory
//!
//! ```text
//! sessions/.larder/format.json       the layout and its version
//! sessions/.larder/locks/            locks between processes
//! sessions/.larder/tmp/              files that are being written
//! sessions/5e/-1001234567890.larder  an entry
//! sessions/a0/chat%3a7.larder        another: the key is `chat:7`
//! ```
//!
//! The file of an entry is replaced as a whole: a new file is written, synced to the disk, and renamed. With
//! `sync=true`, a write is acknowledged after the rename is on the disk too. With `sync=false`, it is acknowledged when
//! the operating system has it: it survives the death of the process, but not a power cut, after which an entry may
//! also be damaged.
//!
//! **Several processes** on one machine can use a directory at the same time. Writers exclude each other with advisory
//! locks, 64 for all keys, so conditions hold between processes. Reads take no lock unless they touch. The changes of a
//! batch that share a lock are made together, including conditions, and wait for the disk once. Do not remove `.larder`
//! while a program is running, and do not share a directory over a network file system without working locks. A process
//! that is stopped (`SIGSTOP`, a debugger) while it holds a lock keeps it: changes of the same keys, and listings, then
//! fail as [`Unavailable`](larder_core::ErrorKind::Unavailable) after `lock_timeout`.
//!
//! **Power cuts.** With `sync=true`, the result of each change reflects the state on the disk. If a process is killed
//! before it has synced a change, the next change syncs it first, in any process. Reads do not guarantee this: they may
//! return a change that is not on the disk yet.
//!
//! **File names** are the key if possible: lower-case ASCII letters, digits and `-_.+=@,` remain as they are. Other
//! bytes become `%` and two hexadecimal digits. A name of more than 128 characters is replaced by `#` and the key's
//! SHA-256. So different keys have different names on every file system, even if it ignores case or normalizes Unicode.
//! The entries are spread over 256 directories by the CRC-32 of the key. Empty directories are not removed.
//!
//! **A file** has a header of 48 bytes (little-endian), then the key, then the value:
//!
//! | at | bytes | content |
//! |---|---|---|
//! | 0 | 8 | `LARDER`, format version 1, 0 |
//! | 8 | 8 | version token, new at every write |
//! | 16 | 8 | length of the value |
//! | 24 | 4 | length of the key (2 bytes), 0 |
//! | 28 | 4 | CRC-32 of the value |
//! | 32 | 4 | CRC-32 of bytes 0 to 31 and of the key |
//! | 36 | 4 | CRC-32 of bytes 40 to 47 |
//! | 40 | 8 | expiry in Unix milliseconds, signed; 0: never |
//!
//! With `values=json`, the file is JSON that people can read and edit. The text of the value is kept, except for white
//! space:
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
//! **A damaged or foreign file** in the place of an entry is [`Corrupt`](larder_core::ErrorKind::Corrupt) for reads,
//! conditional changes and touches; other keys are not affected. A listing includes it, a plain write replaces it, and
//! a delete removes it and returns `true`. If a file's name is that of an entry whose key is not valid in Larder (for
//! example with control characters, or not UTF-8), listings return
//! [`InvalidKey`](larder_core::ErrorKind::InvalidKey). Other files are ignored.
//!
//! **Permissions.** Only this user can access new files (mode `0600`, directories `0700`), because keys and values may
//! be secrets. The option `permissions` sets another mode for files, regardless of the umask. For directories,
//! permission to read includes permission to search. Existing files keep their mode until they are replaced: an entry
//! by its next write, a snapshot never. No effect on Windows.
//!
//! **Inspection.** [`Config::existing`] and [`SnapshotConfig::existing`] open only existing data. Opening and reading
//! then create and change nothing: no directory, lock or marker. The first change, even a delete of an absent key,
//! creates the lock files: `.larder/locks` and `.larder/tmp` in a directory, `sessions.json.lock` beside a snapshot.
//!
//! **Expiry** is measured by the clock of the machine. Without values, a listing reads only headers.
//!
//! # grammY's layout
//!
//! The files are `<directory>/<last two characters of the key>/<key>.json`, with the value as JSON indented with tabs.
//! They are byte for byte the files that grammY writes, but are replaced as a whole, so a reader never sees a partial
//! file. Reading returns compact JSON, with numbers and strings written as in the file. Entries do not expire, and
//! versions are the content.
//!
//! Some keys have no place in this layout, and are rejected as [`InvalidKey`](larder_core::ErrorKind::InvalidKey): keys
//! with `/` or `\`, keys whose end would name a place outside of the directory, and keys of more than 250 bytes. On a
//! file system that ignores case, two keys that differ only in case are one entry; this is a limit of the layout.
//! Opening and reading add nothing to the directory. The first change adds `.larder` with locks, which grammY ignores.
//! grammY takes no locks: do not let both write at the same time.
//!
//! # The snapshot
//!
//! The entries are in memory, and are written into one JSON file periodically.
//!
//! **A write is acknowledged when it is in memory.** It is in the file after the next interval (60 seconds by default),
//! or after [`Store::flush`] or [`Store::close`]. A crash before that loses it. Therefore
//! [`Info::persistent`](larder_core::Info::persistent) is `false`, although all flushed entries are there when the
//! snapshot is opened again.
//!
//! **The file has the state of one moment**: the start of the save. Changes during a save are in the next one. The
//! first change during a save copies the table of the entries, without their values: the more entries, the longer this
//! takes.
//!
//! If the last handle is dropped without a close, the last changes are written at once. This blocks the thread, and can
//! report an error only through `tracing`, so prefer to close the store. If a close fails, the entries remain in memory
//! and are saved in the background. Close again to be sure that they are in the file.
//!
//! The file has one line per entry. Values that are compact JSON are written as they are, others in base64:
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
//! A file that is not a snapshot is rejected and not changed. `sessions.json.lock` prevents a second process from using
//! the snapshot. It remains after the storage is closed, and may then be deleted.
//!
//! # Errors
//!
//! | cause | kind |
//! |---|---|
//! | a missing permission | [`PermissionDenied`](larder_core::ErrorKind::PermissionDenied) |
//! | a full disk or quota | [`StorageFull`](larder_core::ErrorKind::StorageFull) |
//! | a path of the wrong type, or a directory with other contents | [`InvalidConfig`](larder_core::ErrorKind::InvalidConfig) |
//! | a directory that disappeared, for example because its disk was unmounted | [`Unavailable`](larder_core::ErrorKind::Unavailable) |

mod adapter;
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
#[cfg(test)]
#[cfg(unix)]
mod power_cuts;
mod schema;
mod snapshot;
mod storage;
mod sys;
mod tree;

use larder_core::{Result, Store};
use larder_kit::{Configure, StoreUrl};
pub use larder_kit::{Interval, Layout, Permissions, ValueFormat};

pub use crate::{adapter::Adapter, config::Config, snapshot::SnapshotConfig};

/// Opens the store of a `file:` URL: a [snapshot](SnapshotConfig) if the path ends with `.json`, otherwise a
/// [directory](Config).
///
/// # Errors
///
/// Fails as [`SnapshotConfig::from_url`] and [`SnapshotConfig::connect`] do, or [`Config::from_url`] and
/// [`Config::connect`].
pub async fn connect(url: &str) -> Result<Store> {
    if is_snapshot(url)? {
        SnapshotConfig::from_url(url)?.connect().await
    } else {
        Config::from_url(url)?.connect().await
    }
}

/// Returns whether a `file:` URL names a [snapshot](SnapshotConfig) instead of a [directory](Config): whether its path
/// ends with `.json`.
///
/// # Errors
///
/// [`InvalidConfig`](larder_core::ErrorKind::InvalidConfig) if the URL does not name a file.
pub fn is_snapshot(url: &str) -> Result<bool> {
    let path = StoreUrl::parse(url).and_then(|url| config::path(&url)).map_err(Config::named)?;
    Ok(path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extension_decides_between_snapshot_and_directory() {
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
