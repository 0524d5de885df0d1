//! The driver's errors -> ours.

use std::{borrow::Cow, error::Error as StdError, fmt, io};

use larder_core::v2::{Error, ErrorKind};
use mongodb::error::{Error as DriverError, ErrorKind as DriverKind, WriteFailure};

/// The server's code for "a unique index has this key already".
pub(crate) const DUPLICATE_KEY: i32 = 11_000;
/// The server's code for "there is no such collection".
pub(crate) const NAMESPACE_NOT_FOUND: i32 = 26;
/// The label of a server's error that came before anything was written.
const NO_WRITES_PERFORMED: &str = "NoWritesPerformed";

/// The part of a driver's error that may be printed: never a text that may quote a document.
#[derive(Debug)]
struct Cause(String);

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for Cause {}

pub(crate) fn invalid_config(message: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidConfig, message)
}

/// The code of an error that a command ended with.
pub(crate) fn code(error: &DriverError) -> Option<i32> {
    match error.kind.as_ref() {
        DriverKind::Command(error) => Some(error.code),
        _ => None,
    }
}

/// An error of the driver, as ours.
pub(crate) fn from_driver(failed: &DriverError) -> Error {
    let error = match failed.kind.as_ref() {
        DriverKind::Command(error) => from_code(error.code, Some(&error.code_name)),
        DriverKind::Write(WriteFailure::WriteError(error)) => {
            from_code(error.code, error.code_name.as_deref())
        }
        DriverKind::Write(WriteFailure::WriteConcernError(error)) => {
            unconfirmed(error.code, Some(&error.code_name))
        }
        DriverKind::Authentication { .. } => denied(),
        DriverKind::Io(error) => from_io(error),
        // Names the servers and what ailed each; no credentials, no documents.
        DriverKind::ServerSelection { message, .. } => unavailable(
            "no server could be reached in time; is it running, and are host, port and TLS right?",
        )
        .with_source(Cause(message.clone())),
        DriverKind::DnsResolve { message, .. } => {
            unavailable("the server's name could not be resolved").with_source(Cause(message.clone()))
        }
        DriverKind::ConnectionPoolCleared { .. } => unavailable("the connection to the server was lost"),
        DriverKind::Shutdown => Error::new(ErrorKind::Closed, "the MongoDB client has been shut down"),
        DriverKind::InvalidTlsConfig { message, .. } => {
            invalid_config("the TLS options do not work").with_source(Cause(message.clone()))
        }
        DriverKind::IncompatibleServer { message, .. } => {
            invalid_config("the server is too old for this driver").with_source(Cause(message.clone()))
        }
        DriverKind::InvalidResponse { .. } => {
            Error::new(ErrorKind::Other, "the driver does not understand the server's reply")
        }
        DriverKind::InvalidArgument { .. } => invalid_config("the driver refuses the combination of options"),
        _ => Error::new(ErrorKind::Other, "the MongoDB driver failed"),
    };
    if is_not_sent(failed) || failed.contains_label(NO_WRITES_PERFORMED) {
        error.not_applied()
    } else {
        error
    }
}

/// Whether the error proves that no server has received the call. If the driver has tried the call twice,
/// it returns the error of the attempt that may have reached a server.
fn is_not_sent(error: &DriverError) -> bool {
    match error.kind.as_ref() {
        DriverKind::ServerSelection { .. } | DriverKind::DnsResolve { .. } => true,
        DriverKind::Io(error) => error.kind() == io::ErrorKind::ConnectionRefused,
        // The other such error interrupts calls that have been sent.
        DriverKind::ConnectionPoolCleared { message, .. } => message.starts_with("Connection pool for "),
        _ => false,
    }
}

fn unavailable(message: &'static str) -> Error {
    Error::new(ErrorKind::Unavailable, message)
}

fn denied() -> Error {
    Error::new(
        ErrorKind::PermissionDenied,
        "the server refused the credentials; check user, password and authSource in the URL",
    )
}

fn from_io(error: &io::Error) -> Error {
    let cause = Cause(error.to_string());
    match error.kind() {
        io::ErrorKind::TimedOut => {
            Error::new(ErrorKind::Timeout, "the server did not answer in time").with_source(cause)
        }
        io::ErrorKind::NotFound | io::ErrorKind::InvalidInput => {
            invalid_config("a file that the URL names cannot be used").with_source(cause)
        }
        _ => unavailable("the connection to the server failed").with_source(cause),
    }
}

/// An error that the server reports by code. Its text is dropped: it quotes keys and values.
pub(crate) fn from_code(code: i32, name: Option<&str>) -> Error {
    let (kind, message) = match code {
        13 => (
            ErrorKind::PermissionDenied,
            "the user lacks a permission on the database: reading needs the role read, all else readWrite",
        ),
        11 | 18 | 8000 => return denied().with_source(cause(code, name)),
        6 | 7 | 89 | 9001 | 91 | 134 | 189 | 10_058 | 10_107 | 11_600 | 11_602 | 13_435 | 13_436 | 462 => {
            (ErrorKind::Unavailable, "the server is not ready: starting, stopping or electing a primary")
        }
        50 | 202 | 262 => (ErrorKind::Timeout, "the server did not finish in time"),
        64 => return unconfirmed(code, name),
        10_334 | 17_280 | 17_419 | 17_420 => {
            (ErrorKind::TooLarge, "the document is larger than the 16 MiB that MongoDB takes")
        }
        15 | 52 | 54 | 55 | 57 => {
            (ErrorKind::InvalidValue, "MongoDB cannot store a document of this shape; `values=binary` can")
        }
        121 => (ErrorKind::InvalidValue, "the collection's validation rules refuse the document"),
        14_031 => (ErrorKind::StorageFull, "the server's disk is full"),
        85 | 86 => (
            ErrorKind::InvalidConfig,
            "an index of this collection is in the way: same name or key, other options",
        ),
        20 => (
            ErrorKind::InvalidConfig,
            "the server does not allow it; a deployment without retryable writes needs retryWrites=false",
        ),
        73 => (ErrorKind::InvalidConfig, "MongoDB does not take this name for a database or collection"),
        166 => (ErrorKind::InvalidConfig, "the collection is a view, which cannot be written"),
        79 | 100 => (ErrorKind::InvalidConfig, "the deployment cannot satisfy the write concern"),
        59 => {
            (ErrorKind::InvalidConfig, "the server does not know a command that is needed; MongoDB 5.0 does")
        }
        DUPLICATE_KEY => (ErrorKind::Conflict, "another write created the entry at the same time"),
        _ => (ErrorKind::Other, "the server reports an error"),
    };
    Error::new(kind, message).with_source(cause(code, name))
}

/// An error that the server reports for a write that has been done, but that not enough servers have
/// confirmed.
pub(crate) fn unconfirmed(code: i32, name: Option<&str>) -> Error {
    let kind = match code {
        50 | 64 | 202 | 262 => ErrorKind::Timeout,
        _ => match from_code(code, name).kind() {
            ErrorKind::Unavailable => ErrorKind::Unavailable,
            // Not a refusal.
            _ => ErrorKind::Other,
        },
    };
    let message = "the write was not confirmed by as many servers as the write concern asks for";
    Error::new(kind, message).with_source(cause(code, name))
}

fn cause(code: i32, name: Option<&str>) -> Cause {
    match name {
        Some(name) if !name.is_empty() => Cause(format!("server error {code} ({name})")),
        _ => Cause(format!("server error {code}")),
    }
}

#[cfg(test)]
mod tests {
    use larder_core::v2::Outcome;

    use super::*;

    #[test]
    fn codes_become_kinds() {
        for (code, kind) in [
            (13, ErrorKind::PermissionDenied),
            (18, ErrorKind::PermissionDenied),
            (189, ErrorKind::Unavailable),
            (50, ErrorKind::Timeout),
            (64, ErrorKind::Timeout),
            (10_334, ErrorKind::TooLarge),
            (100, ErrorKind::InvalidConfig),
            (DUPLICATE_KEY, ErrorKind::Conflict),
            (4_242, ErrorKind::Other),
        ] {
            assert_eq!(from_code(code, None).kind(), kind, "{code}");
        }
    }

    #[test]
    fn unconfirmed_write_is_never_a_refusal() {
        for code in [13, 64, 79, 91, 100, 4_242] {
            assert_eq!(unconfirmed(code, None).outcome(), Outcome::Unknown, "{code}");
        }
    }

    #[test]
    fn failed_connection_proves_that_nothing_was_sent() {
        let outcome = |kind| from_driver(&DriverError::from(io::Error::from(kind))).outcome();
        assert_eq!(outcome(io::ErrorKind::ConnectionRefused), Outcome::NotApplied);
        assert_eq!(outcome(io::ErrorKind::ConnectionReset), Outcome::Unknown);
        assert_eq!(outcome(io::ErrorKind::TimedOut), Outcome::Unknown);
    }

    #[test]
    fn io_errors_become_kinds() {
        let error = |kind| from_io(&io::Error::from(kind)).kind();
        assert_eq!(error(io::ErrorKind::TimedOut), ErrorKind::Timeout);
        assert_eq!(error(io::ErrorKind::ConnectionReset), ErrorKind::Unavailable);
        assert_eq!(error(io::ErrorKind::UnexpectedEof), ErrorKind::Unavailable);
    }
}
