//! Opens, reads, replaces and syncs files.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::Path,
};

use bytes::Bytes;
use larder_core::{Location, Result};

use crate::{
    error::{self, corrupt},
    permissions::Permissions,
    sys::{self, Output},
};

/// The maximum size of content that is copied together for a single system call.
const JOIN: usize = 64 * 1024;

/// Opens a file for reading; `None` if it does not exist. Also opens a pipe, without waiting for a process that writes
/// into it.
pub(crate) fn open(path: &Path) -> Result<Option<File>> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NONBLOCK);
    error::if_found(sys::open(&options, path))
}

/// Reads a file; `None` if it does not exist.
///
/// # Errors
///
/// [`Corrupt`](larder_core::ErrorKind::Corrupt) if the path does not name a file.
pub(crate) fn read(path: &Path) -> Result<Option<Bytes>> {
    Ok(read_start(path, usize::MAX)?.map(|(bytes, _)| bytes))
}

/// Reads the first `limit` bytes of a file. Also returns the length of the whole file.
///
/// # Errors
///
/// Fails as [`read`] does.
pub(crate) fn read_start(path: &Path, limit: usize) -> Result<Option<(Bytes, u64)>> {
    let Some(file) = open(path)? else {
        return Ok(None);
    };
    let metadata = file.metadata().map_err(error::io)?;
    if !metadata.is_file() {
        return Err(corrupt("a directory, a pipe or a device is in the place of a file"));
    }
    let length = usize::try_from(metadata.len()).unwrap_or(usize::MAX).min(limit);
    let mut bytes = Vec::with_capacity(length);
    sys::read(&file, length as u64, &mut bytes).map_err(error::io)?;
    Ok(Some((Bytes::from(bytes), metadata.len())))
}

/// Replaces the file `target` by one with `head` and then `body`. Writes it to `temp` first, which must not exist and
/// must be on the same file system. A reader sees the complete old file or the complete new one. With `sync`, the
/// content is on the disk before the rename; the rename is on the disk after [`sync_directory`].
pub(crate) fn replace(
    temp: &Path,
    target: &Path,
    permissions: Permissions,
    head: &[u8],
    body: &[u8],
    sync: bool,
) -> io::Result<()> {
    write_and_rename(temp, target, || {
        let mut file = Output(permissions.create(temp)?);
        if head.len() + body.len() <= JOIN {
            file.write_all(&[head, body].concat())?;
        } else {
            file.write_all(head)?;
            file.write_all(body)?;
        }
        if sync { sys::sync_data(&file.0) } else { Ok(()) }
    })
}

/// Calls `write`, which creates a file at `temp`, and renames the file to `target`. After a failure the file at `temp`
/// is removed, because a partial file only takes space on a full disk.
pub(crate) fn write_and_rename(
    temp: &Path,
    target: &Path,
    write: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    // Returns the first error, which is more useful than one of the clean-up.
    write().and_then(|()| sys::rename(temp, target)).inspect_err(|_| drop(sys::remove_file(temp)))
}

/// Returns the location of this path, which must be canonical.
pub(crate) fn location(path: &Path) -> Location {
    Location::new(format!("file:{}", path.as_os_str().as_encoded_bytes().escape_ascii()))
}

/// Syncs the name of a path to the disk, and the names of the directories above it, which may also be new.
pub(crate) fn sync_above(path: &Path) -> io::Result<()> {
    above(path).try_for_each(|above| match sync_directory(above) {
        // This user did not create a directory that this user may not open, or on a read-only file system.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
            ) =>
        {
            Ok(())
        }
        synced => synced,
    })
}

/// Returns the directories above a path, up to the root or, for a relative path, the working directory.
fn above(path: &Path) -> impl Iterator<Item = &Path> {
    path.ancestors().skip(1).map(|above| if above.as_os_str().is_empty() { Path::new(".") } else { above })
}

/// Syncs the names in a directory to the disk: created, renamed and removed files. Windows has no such call, and NTFS
/// journals names.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    if cfg!(not(unix)) {
        return Ok(());
    }
    match sys::sync_directory(path) {
        // Some network file systems do not support this, and write names through.
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => {
            Ok(())
        }
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_replacement_leaves_no_temporary_file() {
        let dir = tempfile::tempdir().unwrap();
        let (temp, target) = (dir.path().join("t"), dir.path().join("x"));
        for body in [&b""[..], b"short", &vec![7; JOIN + 1]] {
            replace(&temp, &target, Permissions::default(), b"head ", body, true).unwrap();
            assert_eq!(fs::read(&target).unwrap(), [b"head ", body].concat());
            assert!(!temp.exists());
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_directory_above_that_cannot_be_synced_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        sync_above(&dir.path().join("sessions")).unwrap();
        let error = sync_above(&dir.path().join("missing/sessions")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn the_working_directory_is_above_a_relative_path() {
        let list = |path| above(Path::new(path)).map(Path::to_owned).collect::<Vec<_>>();
        assert_eq!(list("sessions"), [Path::new(".")]);
        assert_eq!(list("data/sessions"), [Path::new("data"), Path::new(".")]);
        assert_eq!(list("/data/sessions"), [Path::new("/data"), Path::new("/")]);
    }

    #[test]
    fn a_failed_replacement_keeps_only_the_old_file() {
        let dir = tempfile::tempdir().unwrap();
        let (temp, target) = (dir.path().join("t"), dir.path().join("x"));
        fs::create_dir_all(target.join("in the way")).unwrap();
        assert!(replace(&temp, &target, Permissions::default(), b"new", b"", false).is_err());
        assert!(target.is_dir() && !temp.exists());
    }
}
