//! The directory of a storage, and the hidden directory in it for locks, temporary files and the marker.

#[cfg(unix)]
use std::os::unix::fs::MetadataExt;
use std::{ffi::OsString, fs, path::PathBuf};

use larder_core::{Location, Result, unique};

use crate::{error, files, permissions::Permissions, sys};

/// The hidden directory. It contains no files of entries.
const HIDDEN: &str = ".larder";

/// The file that marks the directory as Larder's, and has its format.
pub(crate) const MARKER: &str = ".larder/format.json";

/// The directory of a storage.
#[derive(Clone)]
pub(crate) struct DataDir {
    pub(crate) root: PathBuf,
    pub(crate) marker: PathBuf,
    pub(crate) locks: PathBuf,
    pub(crate) temporary: PathBuf,
    pub(crate) permissions: Permissions,
    /// A path that exists as long as the directory does.
    probe: PathBuf,
}

impl DataDir {
    pub(crate) fn new(root: PathBuf, probe: &str, permissions: Permissions) -> Self {
        let path = |name: &str| root.join(name);
        let (marker, locks, temporary) = (path(MARKER), path(".larder/locks"), path(".larder/tmp"));
        Self { probe: path(probe), marker, locks, temporary, permissions, root }
    }

    /// Returns a name for a new temporary file of the holder of lock `lock`.
    pub(crate) fn temporary_file(&self, lock: usize) -> PathBuf {
        self.temporary.join(format!("{lock:02x}-{:016x}", unique::id64()))
    }

    /// Checks that the directory still exists: a file that is missing in an empty mount point is not an absent key.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](larder_core::ErrorKind::Unavailable) if it does not. Then nothing has been changed.
    pub(crate) fn check(&self) -> Result<()> {
        fs::metadata(&self.probe).map(drop).map_err(|error| error::io(error).not_applied())
    }

    /// Returns the location of the directory, which is the same for all paths to it.
    pub(crate) fn location(&self) -> Result<Location> {
        #[cfg(unix)]
        let location = fs::metadata(&self.root)
            .map(|metadata| Location::new(format!("file:{}/{}", metadata.dev(), metadata.ino())));
        #[cfg(not(unix))]
        let location = fs::canonicalize(&self.root).map(|root| files::location(&root));
        location.map_err(error::io)
    }

    /// Creates the missing hidden directories.
    pub(crate) fn create_hidden(&self) -> Result<()> {
        for directory in [&self.root.join(HIDDEN), &self.locks, &self.temporary] {
            self.permissions.create_directory(directory).map_err(error::io)?;
        }
        Ok(())
    }

    /// Syncs the names in the directory itself to the disk: those of shards, and the marker.
    pub(crate) fn sync(&self) -> Result<()> {
        files::sync_directory(&self.root.join(HIDDEN)).map_err(error::io)?;
        files::sync_directory(&self.root).map_err(error::io)
    }

    /// Returns the names in the directory, without hidden ones and those that file systems create.
    pub(crate) fn names(&self) -> Result<Vec<OsString>> {
        let mut names = sys::names(&self.root).map_err(error::io)?;
        names.retain(|name| name != "lost+found" && !name.as_encoded_bytes().starts_with(b"."));
        Ok(names)
    }
}
