//! Creates files and directories with permissions.

#[cfg(unix)]
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::{
    fs::{DirBuilder, File, OpenOptions},
    io,
    path::Path,
};

use crate::sys;

/// The mode of new files. A configured mode applies regardless of the process's umask. No effect on Windows.
#[derive(Clone, Copy, Default)]
pub(crate) struct Permissions(pub(crate) Option<larder_kit::Permissions>);

#[cfg_attr(not(unix), allow(unused_mut, unused_variables))]
impl Permissions {
    /// Returns the mode. By default only this user has access, because keys and values may be secrets.
    #[cfg(unix)]
    fn mode(self) -> u32 {
        self.0.map_or(0o600, larder_kit::Permissions::mode)
    }

    /// Creates the file at `path`, for reading and writing.
    pub(crate) fn create(self, path: &Path) -> io::Result<File> {
        let mut options = OpenOptions::new();
        #[cfg(unix)]
        options.mode(self.mode());
        let file = sys::open(options.read(true).write(true).create_new(true), path)?;
        self.apply(&file)?;
        Ok(file)
    }

    /// Sets the mode of a new file.
    pub(crate) fn apply(self, file: &File) -> io::Result<()> {
        #[cfg(unix)]
        if self.0.is_some() {
            file.set_permissions(PermissionsExt::from_mode(self.mode()))?;
        }
        Ok(())
    }

    /// Opens the file at `path` for reading and writing, and creates it if it does not exist.
    pub(crate) fn open_or_create(self, path: &Path) -> io::Result<File> {
        match self.create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                sys::open(OpenOptions::new().read(true).write(true), path)
            }
            created => created,
        }
    }

    /// Creates a directory. Returns whether it is new. Permission to read it includes permission to search it.
    pub(crate) fn create_directory(self, path: &Path) -> io::Result<bool> {
        let mut builder = DirBuilder::new();
        #[cfg(unix)]
        let mode = self.mode() | (self.mode() & 0o444) >> 2;
        #[cfg(unix)]
        builder.mode(mode);
        match sys::create_directory(&builder, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
            created => created?,
        }
        #[cfg(unix)]
        if self.0.is_some() {
            std::fs::set_permissions(path, PermissionsExt::from_mode(mode))?;
        }
        Ok(true)
    }

    /// Creates a directory and the missing ones above it.
    pub(crate) fn create_directories(self, path: &Path) -> io::Result<()> {
        let missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
        let missing: Vec<_> = path.ancestors().take_while(missing).collect();
        missing.into_iter().rev().try_for_each(|path| self.create_directory(path).map(drop))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use larder_kit::OptionValue;

    use super::*;

    #[cfg(unix)]
    #[test]
    fn files_and_directories_are_private_by_default() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        for (chosen, file, directory) in [
            (None, 0o600, 0o700),
            (Some("0660"), 0o660, 0o770),
            (Some("0662"), 0o662, 0o772),
            (Some("0644"), 0o644, 0o755),
        ] {
            let permissions = Permissions(chosen.and_then(larder_kit::Permissions::parse));
            let path = dir.path().join(format!("{file:o}"));
            permissions.create(&path).unwrap();
            assert_eq!(mode(&path), file);
            // An existing file keeps its mode.
            Permissions(larder_kit::Permissions::parse("0600")).open_or_create(&path).unwrap();
            assert_eq!(mode(&path), file);
            let path = dir.path().join(format!("{directory:o}.d"));
            assert!(permissions.create_directory(&path).unwrap());
            assert!(!Permissions::default().create_directory(&path).unwrap());
            assert_eq!(mode(&path), directory);
        }
    }
}
