//! Converts errors of the driver.

use std::{borrow::Cow, io};

use larder_core::{
    Error,
    ErrorKind::{
        Closed, Conflict, InvalidConfig, InvalidValue, Other, PermissionDenied, StorageFull, Timeout,
        TooLarge, Unavailable,
    },
};
use mongodb::error::{Error as DriverError, ErrorKind as DriverKind, WriteFailure};

/// The server's code for a duplicate key in a unique index.
const DUPLICATE_KEY: i32 = 11_000;
/// The server's code for an unknown command.
pub(crate) const COMMAND_NOT_FOUND: i32 = 59;
/// The label of a server error that occurred before any write.
const NO_WRITES_PERFORMED: &str = "NoWritesPerformed";

const DENIED: &str = "the server rejected the credentials: check user, password and `authSource` in the URL";
const UNCONFIRMED: &str = "fewer servers confirmed the write than its write concern requires";

pub(crate) fn invalid_config(message: impl Into<Cow<'static, str>>) -> Error {
    Error::new(InvalidConfig, message)
}

/// Converts an error of the driver. Keeps only those of the driver's texts that cannot contain a document or a
/// password.
///
/// The error is marked as not applied if it proves that no server received the call. If the driver has tried twice, it
/// returns the error of the attempt that may have reached a server.
pub(crate) fn from_driver(failed: &DriverError) -> Error {
    match failed.kind.as_ref() {
        DriverKind::Command(error) => {
            let refused = from_code(error.code, Some(&error.code_name));
            if failed.contains_label(NO_WRITES_PERFORMED) { refused.not_applied() } else { refused }
        }
        DriverKind::Write(WriteFailure::WriteError(error)) => {
            from_code(error.code, error.code_name.as_deref())
        }
        DriverKind::Write(WriteFailure::WriteConcernError(error)) => {
            unconfirmed(error.code, Some(&error.code_name))
        }
        DriverKind::Io(error) => from_io(error),
        DriverKind::Authentication { .. } => Error::new(PermissionDenied, DENIED).not_applied(),
        DriverKind::ServerSelection { message, .. } => {
            let hint =
                "cannot reach a server in time: check that it is running, and check host, port and TLS";
            // The source names the servers and the problem of each.
            Error::new(Unavailable, hint).with_source(message.clone()).not_applied()
        }
        DriverKind::DnsResolve { message, .. } => {
            let error = Error::new(Unavailable, "cannot resolve the server's name");
            error.with_source(message.clone()).not_applied()
        }
        DriverKind::ConnectionPoolCleared { message, .. } => {
            let error = Error::new(Unavailable, "the connection to the server was lost");
            // Other errors of this kind interrupt calls that have been sent.
            if message.starts_with("Connection pool for ") { error.not_applied() } else { error }
        }
        DriverKind::InvalidTlsConfig { message, .. } => {
            invalid_config("the TLS options are invalid").with_source(message.clone())
        }
        DriverKind::IncompatibleServer { message, .. } => {
            invalid_config("the server is too old for this driver").with_source(message.clone())
        }
        DriverKind::InvalidArgument { .. } => {
            invalid_config("the driver rejected the combination of options")
        }
        DriverKind::InvalidResponse { .. } => {
            Error::new(Other, "the driver could not read the server's reply")
        }
        DriverKind::Shutdown => Error::new(Closed, "the MongoDB client has been shut down"),
        _ => Error::new(Other, "the MongoDB driver failed"),
    }
}

fn from_io(error: &io::Error) -> Error {
    let (kind, message) = match error.kind() {
        io::ErrorKind::TimedOut => (Timeout, "the server did not answer in time"),
        io::ErrorKind::NotFound | io::ErrorKind::InvalidInput => {
            (InvalidConfig, "cannot use a file that the URL names")
        }
        _ => (Unavailable, "the connection to the server failed"),
    };
    let failed = Error::new(kind, message).with_source(error.to_string());
    if error.kind() == io::ErrorKind::ConnectionRefused { failed.not_applied() } else { failed }
}

/// Converts an error that the server reports by code. Its text is dropped, because it contains keys and values.
pub(crate) fn from_code(code: i32, name: Option<&str>) -> Error {
    let (kind, message) = match code {
        13 => (
            PermissionDenied,
            "this user does not have the required role: `read` for reading, `readWrite` for all else",
        ),
        11 | 18 | 8000 => (PermissionDenied, DENIED),
        6 | 7 | 89 | 9001 | 91 | 134 | 189 | 10_058 | 10_107 | 11_600 | 11_602 | 13_435 | 13_436 | 462 => {
            (Unavailable, "the server is not ready: starting, stopping or electing a primary")
        }
        50 | 202 | 262 => (Timeout, "the server did not finish in time"),
        64 => (Timeout, UNCONFIRMED),
        10_334 | 17_280 | 17_419 | 17_420 => (TooLarge, "the document exceeds MongoDB's limit of 16 MiB"),
        15 | 52 | 54 | 55 | 57 => {
            (InvalidValue, "MongoDB cannot store a document of this form: use `values=bytes`")
        }
        121 => (InvalidValue, "the collection's validation rules rejected the document"),
        14_031 => (StorageFull, "the server's disk is full"),
        85 | 86 => (InvalidConfig, "the collection has an index with the same name or key and other options"),
        20 => (InvalidConfig, "the deployment does not support retryable writes: set `retryWrites=false`"),
        73 => (InvalidConfig, "the name of the database or collection is invalid in MongoDB"),
        166 => (InvalidConfig, "the collection is a view, which cannot be written"),
        79 | 100 => (InvalidConfig, "the deployment cannot satisfy the write concern"),
        COMMAND_NOT_FOUND => {
            (InvalidConfig, "the server does not support a required command: use MongoDB 5.0 or later")
        }
        DUPLICATE_KEY => (Conflict, "another write created the entry at the same time"),
        _ => (Other, "the server reported an error"),
    };
    Error::new(kind, message).with_source(cause(code, name))
}

/// Converts an error for a write that was applied, but not confirmed by enough servers.
pub(crate) fn unconfirmed(code: i32, name: Option<&str>) -> Error {
    let kind = match from_code(code, name).kind() {
        kind @ (Timeout | Unavailable) => kind,
        // These kinds would mean that the write was rejected.
        _ => Other,
    };
    Error::new(kind, UNCONFIRMED).with_source(cause(code, name))
}

fn cause(code: i32, name: Option<&str>) -> String {
    match name {
        Some(name) if !name.is_empty() => format!("server error {code} ({name})"),
        _ => format!("server error {code}"),
    }
}

#[cfg(test)]
mod tests {
    use larder_core::{ErrorKind, Outcome};

    use super::*;

    #[test]
    fn server_codes_have_kinds() {
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
    fn the_outcome_of_an_unconfirmed_write_is_unknown() {
        for code in [13, 64, 79, 91, 100, 4_242] {
            assert_eq!(unconfirmed(code, None).outcome(), Outcome::Unknown, "{code}");
        }
    }

    #[test]
    fn a_refused_connection_is_not_applied() {
        let outcome = |kind| from_driver(&DriverError::from(io::Error::from(kind))).outcome();
        assert_eq!(outcome(io::ErrorKind::ConnectionRefused), Outcome::NotApplied);
        assert_eq!(outcome(io::ErrorKind::ConnectionReset), Outcome::Unknown);
        assert_eq!(outcome(io::ErrorKind::TimedOut), Outcome::Unknown);
    }

    #[test]
    fn io_errors_have_kinds() {
        let error = |kind| from_io(&io::Error::from(kind)).kind();
        assert_eq!(error(io::ErrorKind::TimedOut), ErrorKind::Timeout);
        assert_eq!(error(io::ErrorKind::ConnectionReset), ErrorKind::Unavailable);
        assert_eq!(error(io::ErrorKind::UnexpectedEof), ErrorKind::Unavailable);
    }
}
