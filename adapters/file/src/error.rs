//! Converts errors of the operating system.

use std::{borrow::Cow, io};

use larder_core::{Error, ErrorKind, Result};

/// Converts an error of the operating system. Its text contains no path, and so no key.
pub(crate) fn io(error: io::Error) -> Error {
    use io::ErrorKind as Io;
    let (kind, message) = match error.kind() {
        // EMFILE and ENFILE: they have these numbers on every Unix, but no `io::ErrorKind`.
        _ if cfg!(unix) && matches!(error.raw_os_error(), Some(24 | 23)) => {
            (ErrorKind::Unavailable, "too many files are open: raise the limit, or try again")
        }
        Io::PermissionDenied => {
            (ErrorKind::PermissionDenied, "no permission for the directory, or for a file in it")
        }
        Io::ReadOnlyFilesystem => (ErrorKind::PermissionDenied, "the file system is mounted read-only"),
        Io::StorageFull => (ErrorKind::StorageFull, "the disk is full"),
        Io::QuotaExceeded => (ErrorKind::StorageFull, "the disk quota of this user is used up"),
        Io::FileTooLarge => (ErrorKind::TooLarge, "the file would be larger than the file system allows"),
        Io::NotADirectory => {
            (ErrorKind::InvalidConfig, "a part of the path is a file, but must be a directory")
        }
        Io::IsADirectory => (ErrorKind::Corrupt, "a directory is in the place of the entry's file"),
        Io::InvalidFilename => {
            (ErrorKind::InvalidKey, "the file system does not allow a file with this name")
        }
        Io::Unsupported => (
            ErrorKind::InvalidConfig,
            "the file system does not support a required operation: Larder needs atomic renames and advisory locks",
        ),
        Io::TimedOut => (ErrorKind::Timeout, "the file system did not answer in time"),
        Io::NotFound => {
            (ErrorKind::Unavailable, "the directory no longer exists: check that its disk is mounted")
        }
        Io::Interrupted | Io::WouldBlock | Io::ResourceBusy | Io::StaleNetworkFileHandle => {
            (ErrorKind::Unavailable, "the file system is busy or was disconnected: try again")
        }
        _ => (ErrorKind::Other, "the operating system reported an error"),
    };
    Error::new(kind, message).with_source(error)
}

/// Converts the result of a system call; `None` if the file or directory does not exist.
pub(crate) fn if_found<T>(result: io::Result<T>) -> Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        found => found.map(Some).map_err(io),
    }
}

/// Returns the error for data that is damaged, or was not written by this adapter.
pub(crate) fn corrupt(message: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Corrupt, message)
}

/// Marks an error of the system call that makes a change. Without permission or space, the call changed nothing.
pub(crate) fn unchanged(error: Error) -> Error {
    match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::StorageFull => error.not_applied(),
        _ => error,
    }
}

/// Returns the error for an option or path that the user must change.
pub(crate) fn configuration(message: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidConfig, message)
}

/// Runs file system calls on tokio's threads for blocking work: one hop per operation.
///
/// The work runs to its end even if the future is dropped.
pub(crate) async fn blocking<T, F>(work: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(stopped) if stopped.is_cancelled() => {
            // The work was not started.
            Err(Error::new(ErrorKind::Unavailable, "the tokio runtime is shutting down").not_applied())
        }
        Err(_) => Err(Error::new(ErrorKind::Other, "an operation on the file system panicked")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operating_system_errors_have_kinds() {
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
    fn too_many_open_files_is_retryable() {
        assert!(io(io::Error::from_raw_os_error(24)).is_retryable());
    }

    #[tokio::test]
    async fn a_panic_is_an_error() {
        let error = blocking::<(), _>(|| panic!("on purpose")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Other);
    }
}
