//! The database file: creates it, and detects that it was moved, deleted or replaced.

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

/// Creates an empty file, which SQLite treats as an empty database. Does nothing if the file exists.
pub(crate) fn create(path: &Path, permissions: Option<Permissions>) -> Result<()> {
    // SQLite uses POSIX locks: closing a file releases every lock that this process holds on it. Therefore an existing
    // file is not opened here, and a new one must not be opened elsewhere before it is closed.
    static CREATING: Mutex<()> = Mutex::new(());
    let _guard = CREATING.lock().unwrap_or_else(PoisonError::into_inner);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    // Keys may be session ids.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = match options.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) => return Err(refused(error)),
    };
    // Set afterwards, because the process's umask does not apply to this.
    #[cfg(unix)]
    if let Some(permissions) = permissions {
        let mode = permissions.mode();
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode)).map_err(refused)?;
    }
    #[cfg(not(unix))]
    let _ = (permissions, file);
    Ok(())
}

/// Returns whether a log or journal with data is beside the database.
pub(crate) fn has_log(path: &Path) -> bool {
    ["-wal", "-journal"].into_iter().any(|suffix| {
        let mut path = path.as_os_str().to_owned();
        path.push(suffix);
        fs::metadata(path).is_ok_and(|metadata| metadata.len() > 0)
    })
}

fn refused(error: io::Error) -> Error {
    let (kind, message) = match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            (ErrorKind::InvalidConfig, "the database file or its directory does not exist: check the path")
        }
        io::ErrorKind::PermissionDenied => {
            (ErrorKind::PermissionDenied, "no permission to use the database file or its directory")
        }
        io::ErrorKind::ReadOnlyFilesystem => (
            ErrorKind::PermissionDenied,
            "the file system is mounted read-only: open the database with `mode=ro`",
        ),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            (ErrorKind::StorageFull, "the disk is full, or the quota is used up")
        }
        _ => (ErrorKind::InvalidConfig, "cannot open the database file: check the path"),
    };
    Error::new(kind, message).with_source(error)
}

/// The open file. SQLite continues with a file that has been deleted, moved or replaced, and the changes are lost.
pub(crate) struct OpenedFile {
    path: PathBuf,
    /// The metadata when the file was opened.
    metadata: Metadata,
    /// Whether the file is read without locks.
    immutable: bool,
}

impl OpenedFile {
    /// Records the file at `path`, just before or after it is opened. `immutable` is for a file read without locks.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if the file does not exist.
    pub(crate) fn new(path: PathBuf, immutable: bool) -> Result<Self> {
        let metadata = fs::metadata(&path).map_err(refused)?;
        Ok(Self { path, metadata, immutable })
    }

    /// Fails if the path names another file or none. Also fails if a file that is read without locks has changed or has
    /// a log, which another process writes first.
    pub(crate) fn check(&self) -> Result<()> {
        let message = match fs::metadata(&self.path) {
            Ok(now) if identity(&now) != identity(&self.metadata) => {
                "the database file was replaced while it was open: open the storage again to use the new file"
            }
            Ok(now)
                if self.immutable && (content(&now) != content(&self.metadata) || has_log(&self.path)) =>
            {
                "the database has changed, and it is read without locks because its directory is read-only: open the \
                 storage again"
            }
            Ok(_) => return Ok(()),
            Err(error) => {
                let message = "the database file was moved or deleted while it was open: put it back, or open the \
                               storage again";
                return Err(invalid(message).with_source(error));
            }
        };
        Err(invalid(message))
    }

    /// Returns a text that identifies the file.
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
