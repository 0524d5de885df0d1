//! The directory of a storage, and the hidden directory in it that Larder uses for locks and the like.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use larder_core::{Result, Version};

use crate::{error, files, permissions::Permissions};

/// Holds locks, temporary files and the marker. No key's file is ever in it.
const HIDDEN: &str = ".larder";

/// The directory of a storage.
#[derive(Clone, Debug)]
pub(crate) struct DataDir {
    root: PathBuf,
    /// Whether the directory has a marker, which says that it is Larder's and in which format.
    marked: bool,
    pub(crate) permissions: Permissions,
}

impl DataDir {
    pub(crate) fn new(root: PathBuf, marked: bool, permissions: Permissions) -> Self {
        Self { root, marked, permissions }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn marker(&self) -> PathBuf {
        self.root.join(HIDDEN).join("format.json")
    }

    pub(crate) fn locks(&self) -> PathBuf {
        self.root.join(HIDDEN).join("locks")
    }

    pub(crate) fn temporary(&self) -> PathBuf {
        self.root.join(HIDDEN).join("tmp")
    }

    /// A name for a new temporary file that belongs to the holder of lock `lock`.
    pub(crate) fn temporary_file(&self, lock: usize) -> PathBuf {
        let unique = Version::unique().as_token().unwrap_or_default();
        self.temporary().join(format!("{lock:02x}-{unique:016x}"))
    }

    /// Checks that the directory is still there: a key that is not found in an empty mount point is
    /// not an absent key.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](larder_core::ErrorKind::Unavailable) if it is not. Nothing has been changed
    /// then.
    pub(crate) fn check(&self) -> Result<()> {
        let sign = if self.marked { self.marker() } else { self.root.clone() };
        fs::metadata(sign).map(drop).map_err(|error| error::io(error).not_applied())
    }

    /// Creates the hidden directories where they are missing.
    pub(crate) fn create_hidden(&self) -> Result<()> {
        for directory in [self.root.join(HIDDEN), self.locks(), self.temporary()] {
            self.permissions.create_directory(&directory).map_err(error::io)?;
        }
        Ok(())
    }

    /// Whether the directory is there.
    pub(crate) fn exists(&self) -> Result<bool> {
        match fs::metadata(&self.root) {
            Ok(metadata) if metadata.is_dir() => Ok(true),
            Ok(_) => Err(error::configuration(
                "the path names a file; a directory is needed (a snapshot's path ends in `.json`)",
            )),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error::io(error)),
        }
    }

    /// Creates the directory itself, with those above it.
    pub(crate) fn create_root(&self) -> Result<()> {
        if self.exists()? {
            return Ok(());
        }
        let paths = self.root.ancestors();
        let missing: Vec<_> =
            paths.take_while(|path| !path.as_os_str().is_empty() && !path.exists()).collect();
        for path in missing.into_iter().rev() {
            self.permissions.create_directory(path).map_err(error::io)?;
        }
        Ok(())
    }

    /// Puts the name of the directory on the disk, and the names of those above it, which may be new
    /// too.
    pub(crate) fn sync_above(&self) {
        // The directories above may not be ours to open; then they are not ours to have lost either.
        for above in above(&self.root) {
            let _ = files::sync_directory(above);
        }
    }

    /// Puts the names in the directory itself on the disk: those of shards, and the marker.
    pub(crate) fn sync(&self) -> Result<()> {
        files::sync_directory(&self.root.join(HIDDEN)).map_err(error::io)?;
        files::sync_directory(&self.root).map_err(error::io)
    }

    /// The names in the directory, without hidden ones and those that file systems create.
    pub(crate) fn names(&self) -> Result<Vec<OsString>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.root).map_err(error::io)? {
            let name = entry.map_err(error::io)?.file_name();
            if name != "lost+found" && !name.as_encoded_bytes().starts_with(b".") {
                names.push(name);
            }
        }
        Ok(names)
    }
}

/// The directories above a path, up to the root or, above a relative path, the working directory.
fn above(path: &Path) -> impl Iterator<Item = &Path> {
    path.ancestors().skip(1).map(|above| if above.as_os_str().is_empty() { Path::new(".") } else { above })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn working_directory_is_above_a_relative_path() {
        let list = |path| above(Path::new(path)).map(Path::to_owned).collect::<Vec<_>>();
        assert_eq!(list("sessions"), [Path::new(".")]);
        assert_eq!(list("data/sessions"), [Path::new("data"), Path::new(".")]);
        assert_eq!(list("/data/sessions"), [Path::new("/data"), Path::new("/")]);
    }
}
