//! The database's file: how it is made, and whether it is still the one that was opened.

use std::{
    fs::{self, Metadata, OpenOptions},
    io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

use larder_core::{Error, ErrorKind, Operation, Result};

use crate::{NAME, config::configuration};

/// The default permissions of a new file: the keys may be session ids.
#[cfg(unix)]
const PERMISSIONS: u32 = 0o600;

/// The permissions that a database file may be given: its owner reads and writes, and there are no execute bits.
pub(crate) const fn is_valid(permissions: u32) -> bool {
    permissions & !0o666 == 0 && permissions & 0o600 == 0o600
}

/// The permissions that the option says.
pub(crate) fn permissions(text: &str) -> Option<u32> {
    let octal = matches!(text.len(), 3 | 4) && text.bytes().all(|byte| byte.is_ascii_digit());
    u32::from_str_radix(text, 8).ok().filter(|mode| octal && is_valid(*mode))
}

/// The notation of permissions, for errors.
pub(crate) const PERMISSIONS_EXPECTED: &str =
    "the mode of a new file in octal, from 0600 to 0666, such as 0640 or 0660";

/// Makes an empty file, which SQLite takes for an empty database, unless there is one.
pub(crate) fn create(path: &Path, permissions: Option<u32>) -> Result<()> {
    // SQLite's locks are POSIX locks: closing a file lets go of every lock that this process has on it.
    // So a file that is there is not opened here, and a new one is not opened elsewhere before it is closed.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, PERMISSIONS);
    let file = match options.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) => return Err(refused(error)),
    };
    // The process's umask does not apply to this.
    #[cfg(unix)]
    if let Some(mode) = permissions {
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode)).map_err(refused)?;
    }
    #[cfg(not(unix))]
    let _ = permissions;
    drop(file);
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
    Error::new(kind, message).with_adapter(NAME).with_source(error)
}

/// The file that is open: SQLite goes on with a file that has been deleted, moved or replaced, and what
/// it writes there is lost.
pub(crate) struct Opened {
    path: PathBuf,
    identity: Identity,
    /// The length and the time of the last change, of a file that is read without locks.
    content: Option<(u64, SystemTime)>,
}

#[cfg(unix)]
type Identity = (u64, u64);
#[cfg(not(unix))]
type Identity = Option<SystemTime>;

impl Opened {
    /// The file at `path`, which is about to be opened, or has just been; `immutable` if without locks.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if there is none.
    pub(crate) fn new(path: PathBuf, immutable: bool) -> Result<Self> {
        let metadata = fs::metadata(&path).map_err(refused)?;
        let content = if immutable { content(&metadata) } else { None };
        Ok(Self { identity: identity(&metadata), content, path })
    }

    /// Fails if the path does not name the file any more, or if a file that is read without locks has
    /// changed: another process changes the log first.
    pub(crate) fn check(&self, operation: Operation) -> Result<()> {
        let message = match fs::metadata(&self.path) {
            Ok(metadata) if identity(&metadata) != self.identity => {
                "another file is in the place of the database file, which was moved, deleted or replaced while it \
                 was open; open the storage again to use what is there now"
            }
            Ok(metadata)
                if self.content.is_some() && (content(&metadata) != self.content || has_log(&self.path)) =>
            {
                "the database has changed; it is in a place that cannot be written, so it is read without \
                 locks: open the storage again"
            }
            Ok(_) => return Ok(()),
            Err(error) => {
                let message = "the database file is gone: it was moved or deleted while it was open; put it back, or \
                               open the storage again to begin with what is there";
                return Err(configuration(message).with_operation(operation).with_source(error));
            }
        };
        Err(configuration(message).with_operation(operation))
    }
}

#[cfg(unix)]
fn identity(metadata: &Metadata) -> Identity {
    use std::os::unix::fs::MetadataExt;
    (metadata.dev(), metadata.ino())
}

#[cfg(not(unix))]
fn identity(metadata: &Metadata) -> Identity {
    metadata.created().ok()
}

fn content(metadata: &Metadata) -> Option<(u64, SystemTime)> {
    Some((metadata.len(), metadata.modified().ok()?))
}
