//! The permissions of the files and directories that are created.

use std::{
    fs::{self, File, OpenOptions},
    io,
    path::Path,
};

use larder_core::Result;

use crate::error::configuration;

/// The values that the option `permissions` takes, for errors.
pub(crate) const EXPECTS: &str = "the mode of new files in octal, from 0600 to 0666, such as 0640 or 0660";

/// The mode of new files. Windows has no such thing: there it has no effect.
/// A mode that was asked for applies whatever the process's umask is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Permissions(Option<u32>);

impl Permissions {
    /// # Errors
    ///
    /// [`InvalidConfig`](larder_core::ErrorKind::InvalidConfig) for a mode that is not one of files
    /// that this user can read and write.
    pub(crate) fn new(mode: Option<u32>) -> Result<Self> {
        if mode.is_none_or(is_allowed) {
            return Ok(Self(mode));
        }
        Err(configuration(format!("`permissions` takes {EXPECTS}")))
    }

    /// By default for this user only: keys and values may be secrets.
    #[cfg(unix)]
    fn mode(self) -> u32 {
        self.0.unwrap_or(0o600)
    }

    /// Creates the file at `path`, for reading and writing.
    pub(crate) fn create(self, path: &Path) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, self.mode());
        let file = options.open(path)?;
        self.apply(&file)?;
        Ok(file)
    }

    /// Gives a file that was just created its mode.
    pub(crate) fn apply(self, file: &File) -> io::Result<()> {
        #[cfg(unix)]
        if let Some(mode) = self.0 {
            file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))?;
        }
        #[cfg(not(unix))]
        let _ = file;
        Ok(())
    }

    /// Opens the file at `path` for reading and writing; creates it if it is not there.
    pub(crate) fn open_or_create(self, path: &Path) -> io::Result<File> {
        let open = || OpenOptions::new().read(true).write(true).open(path);
        match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => match self.create(path) {
                // Another process was faster.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => open(),
                created => created,
            },
            opened => opened,
        }
    }

    /// Creates a directory; returns whether it was not there before. Users who may read it may also
    /// search it.
    pub(crate) fn create_directory(self, path: &Path) -> io::Result<bool> {
        #[cfg_attr(not(unix), allow(unused_mut))]
        let mut builder = fs::DirBuilder::new();
        #[cfg(unix)]
        let mode = self.mode() | (self.mode() & 0o444) >> 2;
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, mode);
        match builder.create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
            created => created?,
        }
        #[cfg(unix)]
        if self.0.is_some() {
            fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode))?;
        }
        Ok(true)
    }
}

fn is_allowed(mode: u32) -> bool {
    mode & !0o666 == 0 && mode & 0o600 == 0o600
}

/// The mode that the option says.
pub(crate) fn parse(text: &str) -> Option<u32> {
    let octal = matches!(text.len(), 3 | 4) && text.bytes().all(|byte| byte.is_ascii_digit());
    u32::from_str_radix(text, 8).ok().filter(|mode| octal && is_allowed(*mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mode_is_octal_and_of_files_that_the_user_can_read_and_write() {
        for (text, mode) in
            [("0600", 0o600), ("600", 0o600), ("0660", 0o660), ("0644", 0o644), ("0666", 0o666)]
        {
            assert_eq!(parse(text), Some(mode), "{text}");
        }
        for text in
            ["", "0", "0400", "0700", "0755", "1600", "4660", "600 ", "+600", "0o600", "rw", "00600", "0680"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
        for mode in [0, 0o400, 0o755, 600] {
            assert!(Permissions::new(Some(mode)).is_err(), "{mode:o}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn files_and_directories_are_private_unless_chosen() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        for (chosen, file, directory) in [
            (None, 0o600, 0o700),
            (Some(0o660), 0o660, 0o770),
            (Some(0o662), 0o662, 0o772),
            (Some(0o644), 0o644, 0o755),
        ] {
            let permissions = Permissions::new(chosen).unwrap();
            let path = dir.path().join(format!("{file:o}"));
            permissions.create(&path).unwrap();
            assert_eq!(mode(&path), file);
            // A file that is there keeps its mode.
            Permissions::new(Some(0o600)).unwrap().open_or_create(&path).unwrap();
            assert_eq!(mode(&path), file);
            let path = dir.path().join(format!("{directory:o}.d"));
            assert!(permissions.create_directory(&path).unwrap());
            assert!(!Permissions::default().create_directory(&path).unwrap());
            assert_eq!(mode(&path), directory);
        }
    }
}
