//! Replacing a file so that a reader sees the old one or the new one, whole.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

use crate::permissions::Permissions;

/// Up to this many bytes are copied together so that one system call writes them.
const JOIN: usize = 64 * 1024;

/// Makes `target` a file that holds `head` followed by `body`, by way of `temp`, which must not
/// exist and is on the same file system. With `sync` the content is on the disk before the name
/// changes hands; the change of the name itself is on the disk after [`sync_directory`].
pub(crate) fn replace(
    temp: &Path,
    target: &Path,
    permissions: Permissions,
    head: &[u8],
    body: &[u8],
    sync: bool,
) -> io::Result<()> {
    let file = permissions.create(temp)?;
    let done = fill(file, head, body, sync).and_then(|()| fs::rename(temp, target));
    if done.is_err() {
        // The error at hand says more than one about cleaning up after it.
        let _ = fs::remove_file(temp);
    }
    done
}

fn fill(mut file: File, head: &[u8], body: &[u8], sync: bool) -> io::Result<()> {
    if body.is_empty() {
        file.write_all(head)?;
    } else if head.len() + body.len() <= JOIN {
        file.write_all(&[head, body].concat())?;
    } else {
        file.write_all(head)?;
        file.write_all(body)?;
    }
    if sync { file.sync_data() } else { Ok(()) }
}

/// Puts the names in a directory on the disk: what was created, renamed and removed in it.
#[cfg(unix)]
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    #[cfg(test)]
    crate::power_cut::before_sync(path)?;
    match File::open(path)?.sync_all() {
        // Some network file systems cannot, and write names through by themselves.
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => {}
        done => done?,
    }
    #[cfg(test)]
    crate::power_cut::synced(path)?;
    Ok(())
}

/// Puts the content of the open file at `path` on the disk.
pub(crate) fn sync_content(file: &File, #[cfg_attr(not(test), allow(unused))] path: &Path) -> io::Result<()> {
    #[cfg(all(test, unix))]
    crate::power_cut::before_sync(path)?;
    file.sync_data()?;
    #[cfg(all(test, unix))]
    crate::power_cut::content_synced(path);
    Ok(())
}

/// Windows has no such call: NTFS journals names by itself.
#[cfg(not(unix))]
pub(crate) fn sync_directory(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let (temp, target) = (dir.path().join("t"), dir.path().join("x"));
        for body in [&b""[..], b"short", &vec![7; JOIN + 1]] {
            replace(&temp, &target, Permissions::default(), b"head ", body, true).unwrap();
            assert_eq!(fs::read(&target).unwrap(), [b"head ", body].concat());
            assert!(!temp.exists());
        }
    }

    #[test]
    fn a_failure_keeps_the_old_file_and_no_temporary_one() {
        let dir = tempfile::tempdir().unwrap();
        let (temp, target) = (dir.path().join("t"), dir.path().join("x"));
        fs::create_dir_all(target.join("in the way")).unwrap();
        assert!(replace(&temp, &target, Permissions::default(), b"new", b"", false).is_err());
        assert!(target.is_dir() && !temp.exists());
    }
}
