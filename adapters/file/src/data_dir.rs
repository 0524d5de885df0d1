//! The directory of a storage, and the hidden directory in it that Larder uses for locks and the like.

#[cfg(unix)]
use std::os::unix::fs::MetadataExt;
use std::{ffi::OsString, fs, path::PathBuf};

use larder_core::{Location, Result, unique};

use crate::{error, files, permissions::Permissions};

/// Holds locks, temporary files and the marker. No key's file is ever in it.
const HIDDEN: &str = ".larder";

/// Says that the directory is Larder's, and in which format.
pub(crate) const MARKER: &str = ".larder/format.json";

/// The directory of a storage.
#[derive(Clone)]
pub(crate) struct DataDir {
    pub(crate) root: PathBuf,
    pub(crate) marker: PathBuf,
    pub(crate) locks: PathBuf,
    pub(crate) temporary: PathBuf,
    pub(crate) permissions: Permissions,
    /// The path that is there as long as the directory is.
    sign: PathBuf,
}

impl DataDir {
    pub(crate) fn new(root: PathBuf, sign: &str, permissions: Permissions) -> Self {
        let path = |name: &str| root.join(name);
        let (marker, locks, temporary) = (path(MARKER), path(".larder/locks"), path(".larder/tmp"));
        Self { sign: path(sign), marker, locks, temporary, permissions, root }
    }

    /// A name for a new temporary file that belongs to the holder of lock `lock`.
    pub(crate) fn temporary_file(&self, lock: usize) -> PathBuf {
        self.temporary.join(format!("{lock:02x}-{:016x}", unique::id64()))
    }

    /// Checks that the directory is still there: a key that is not found in an empty mount point is
    /// not an absent key.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](larder_core::ErrorKind::Unavailable) if it is not. Nothing has been changed
    /// then.
    pub(crate) fn check(&self) -> Result<()> {
        fs::metadata(&self.sign).map(drop).map_err(|error| error::io(error).not_applied())
    }

    /// Where the directory is, whatever path leads to it.
    pub(crate) fn location(&self) -> Result<Location> {
        #[cfg(unix)]
        let location = fs::metadata(&self.root)
            .map(|metadata| Location::new(format!("file:{}/{}", metadata.dev(), metadata.ino())));
        #[cfg(not(unix))]
        let location = fs::canonicalize(&self.root).map(|root| files::location(&root));
        location.map_err(error::io)
    }

    /// Creates the hidden directories where they are missing.
    pub(crate) fn create_hidden(&self) -> Result<()> {
        for directory in [&self.root.join(HIDDEN), &self.locks, &self.temporary] {
            self.permissions.create_directory(directory).map_err(error::io)?;
        }
        Ok(())
    }

    /// Puts the names in the directory itself on the disk: those of shards, and the marker.
    pub(crate) fn sync(&self) -> Result<()> {
        files::sync_directory(&self.root.join(HIDDEN)).map_err(error::io)?;
        files::sync_directory(&self.root).map_err(error::io)
    }

    /// The names in the directory, without hidden ones and those that file systems create.
    pub(crate) fn names(&self) -> Result<Vec<OsString>> {
        let mut names = files::names(&self.root).map_err(error::io)?;
        names.retain(|name| name != "lost+found" && !name.as_encoded_bytes().starts_with(b"."));
        Ok(names)
    }
}
