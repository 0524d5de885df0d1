//! Errors of the operating system as Larder's errors.

use std::{borrow::Cow, io};

use larder_core::{Error, ErrorKind, Result};

/// An error of the operating system. Its text names no path, so no key.
pub(crate) fn io(error: io::Error) -> Error {
    use io::ErrorKind as Io;
    let (kind, message) = match error.kind() {
        // EMFILE and ENFILE, which have these numbers on every Unix and no kind of their own.
        _ if cfg!(unix) && matches!(error.raw_os_error(), Some(24 | 23)) => {
            (ErrorKind::Unavailable, "too many files are open; raise the limit or try again")
        }
        Io::PermissionDenied => {
            (ErrorKind::PermissionDenied, "this user may not do that to the directory or a file in it")
        }
        Io::ReadOnlyFilesystem => (ErrorKind::PermissionDenied, "the file system is mounted read-only"),
        Io::StorageFull => (ErrorKind::StorageFull, "the disk is full"),
        Io::QuotaExceeded => (ErrorKind::StorageFull, "this user's disk quota is exhausted"),
        Io::FileTooLarge => (ErrorKind::TooLarge, "the file would be larger than the file system allows"),
        Io::NotADirectory => {
            (ErrorKind::InvalidConfig, "a part of the path is a file where a directory is needed")
        }
        Io::IsADirectory => (ErrorKind::Corrupt, "there is a directory where the entry's file belongs"),
        Io::InvalidFilename => (ErrorKind::InvalidKey, "the file system cannot hold a file of this name"),
        Io::Unsupported => (
            ErrorKind::InvalidConfig,
            "the file system cannot do that; Larder needs atomic renames and advisory locks",
        ),
        Io::TimedOut => (ErrorKind::Timeout, "the file system did not answer in time"),
        Io::NotFound => (ErrorKind::Unavailable, "the directory has gone; is its disk mounted?"),
        Io::Interrupted | Io::WouldBlock | Io::ResourceBusy | Io::StaleNetworkFileHandle => {
            (ErrorKind::Unavailable, "the file system is busy or has gone away; try again")
        }
        _ => (ErrorKind::Other, "the operating system reports an error"),
    };
    Error::new(kind, message).with_source(error)
}

/// The result of a system call; `None` if it found no file or directory of that name.
pub(crate) fn if_found<T>(result: io::Result<T>) -> Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        found => found.map(Some).map_err(io),
    }
}

/// The stored data is damaged, or was not written by this adapter.
pub(crate) fn corrupt(message: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Corrupt, message)
}

/// An error of the system call that makes a change. Without permission or room it has not made it.
pub(crate) fn unchanged(error: Error) -> Error {
    match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::StorageFull => error.not_applied(),
        _ => error,
    }
}

/// The user has to change an option or the path first.
pub(crate) fn configuration(message: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidConfig, message)
}

/// Runs file system calls on tokio's threads for blocking work: one hop per operation.
///
/// The work runs to its end also if the future is dropped.
pub(crate) async fn blocking<T, F>(work: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(stopped) if stopped.is_cancelled() => {
            // It has not begun.
            Err(Error::new(ErrorKind::Unavailable, "the tokio runtime is shutting down").not_applied())
        }
        Err(_) => Err(Error::new(ErrorKind::Other, "the work on the file system panicked")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_says_what_to_do() {
        for (from, kind) in [
            (io::ErrorKind::PermissionDenied, ErrorKind::PermissionDenied),
            (io::ErrorKind::ReadOnlyFilesystem, ErrorKind::PermissionDenied),
            (io::ErrorKind::StorageFull, ErrorKind::StorageFull),
            (io::ErrorKind::QuotaExceeded, ErrorKind::StorageFull),
            (io::ErrorKind::NotADirectory, ErrorKind::InvalidConfig),
            (io::ErrorKind::NotFound, ErrorKind::Unavailable),
            (io::ErrorKind::TimedOut, ErrorKind::Timeout),
            (io::ErrorKind::BrokenPipe, ErrorKind::Other),
        ] {
            assert_eq!(io(from.into()).kind(), kind, "{from}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn running_out_of_file_handles_is_worth_another_try() {
        assert!(io(io::Error::from_raw_os_error(24)).is_retryable());
    }

    #[tokio::test]
    async fn panic_is_an_error() {
        let error = blocking::<(), _>(|| panic!("on purpose")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Other);
    }
}
