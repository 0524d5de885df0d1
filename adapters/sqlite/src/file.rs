//! The database's file: how it is made, and whether it is still the one that was opened.

use std::{
    fs::{self, Metadata, OpenOptions},
    io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

use larder_core::{Error, ErrorKind, Result};
use larder_kit::Permissions;

use crate::config::invalid;

/// Makes an empty file, which SQLite takes for an empty database, unless there is one.
pub(crate) fn create(path: &Path, permissions: Option<Permissions>) -> Result<()> {
    // SQLite's locks are POSIX locks: closing a file lets go of every lock that this process has on it.
    // So a file that is there is not opened here, and a new one is not opened elsewhere before it is closed.
    static CREATING: Mutex<()> = Mutex::new(());
    let _guard = CREATING.lock().unwrap_or_else(PoisonError::into_inner);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    // The keys may be session ids.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = match options.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) => return Err(refused(error)),
    };
    // The process's umask does not apply to this.
    #[cfg(unix)]
    if let Some(permissions) = permissions {
        let mode = permissions.mode();
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode)).map_err(refused)?;
    }
    #[cfg(not(unix))]
    let _ = (permissions, file);
    Ok(())
}

/// Whether there is a log or a journal beside the database that holds part of it.
pub(crate) fn has_log(path: &Path) -> bool {
    ["-wal", "-journal"].into_iter().any(|suffix| {
        let mut path = path.as_os_str().to_owned();
        path.push(suffix);
        fs::metadata(path).is_ok_and(|metadata| metadata.len() > 0)
    })
}

fn refused(error: io::Error) -> Error {
    let (kind, message) = match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => (
            ErrorKind::InvalidConfig,
            "there is no database file, or no directory for it, at this path; check the path",
        ),
        io::ErrorKind::PermissionDenied => {
            (ErrorKind::PermissionDenied, "no permission to use the database file or its directory")
        }
        io::ErrorKind::ReadOnlyFilesystem => (
            ErrorKind::PermissionDenied,
            "the file system is mounted read-only; `mode=ro` reads a database on it",
        ),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            (ErrorKind::StorageFull, "there is no room left for the database")
        }
        _ => (ErrorKind::InvalidConfig, "the database file cannot be opened; check the path"),
    };
    Error::new(kind, message).with_source(error)
}

/// The file that is open: SQLite goes on with a file that has been deleted, moved or replaced, and the
/// changes are lost.
pub(crate) struct OpenedFile {
    path: PathBuf,
    /// As it was then.
    metadata: Metadata,
    /// Whether it is read without locks.
    immutable: bool,
}

impl OpenedFile {
    /// The file at `path`, which is about to be opened, or has just been; `immutable` if without locks.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if there is no such file.
    pub(crate) fn new(path: PathBuf, immutable: bool) -> Result<Self> {
        let metadata = fs::metadata(&path).map_err(refused)?;
        Ok(Self { path, metadata, immutable })
    }

    /// Fails if the path does not name the file any more, or if a file that is read without locks has
    /// changed: another process changes the log first.
    pub(crate) fn check(&self) -> Result<()> {
        let message = match fs::metadata(&self.path) {
            Ok(now) if identity(&now) != identity(&self.metadata) => {
                "another file is in the place of the database file, which was moved, deleted or replaced while it \
                 was open; open the storage again to use what is there now"
            }
            Ok(now)
                if self.immutable && (content(&now) != content(&self.metadata) || has_log(&self.path)) =>
            {
                "the database has changed; it is in a place that cannot be written, so it is read without \
                 locks: open the storage again"
            }
            Ok(_) => return Ok(()),
            Err(error) => {
                let message = "the database file is gone: it was moved or deleted while it was open; put it back, or \
                               open the storage again to begin with what is there";
                return Err(invalid(message).with_source(error));
            }
        };
        Err(invalid(message))
    }

    /// Tells the file from every other one.
    pub(crate) fn id(&self) -> String {
        format!("{:?}", identity(&self.metadata))
    }
}

#[cfg(unix)]
fn identity(metadata: &Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    (metadata.dev(), metadata.ino())
}

#[cfg(not(unix))]
fn identity(metadata: &Metadata) -> Option<SystemTime> {
    metadata.created().ok()
}

fn content(metadata: &Metadata) -> (u64, Option<SystemTime>) {
    (metadata.len(), metadata.modified().ok())
}
