//! The meaning of the driver's errors, without the keys and values that they may quote.

use std::{error::Error as StdError, io};

use deadpool_postgres::{PoolError, TimeoutType};
use larder_core::{
    Error,
    ErrorKind::{
        self, Closed, InvalidConfig, InvalidKey, InvalidValue, Other, PermissionDenied, StorageFull, Timeout,
        TooLarge, Unavailable,
    },
};
use tokio_postgres::error::{Severity, SqlState};

/// Classes whose messages speak of connections, roles, tables and limits, never of contents.
const SAFE_CLASSES: &[&str] = &["08", "25", "28", "3D", "3F", "40", "42", "53", "55", "57"];

/// Whether the server has undone the statement for the sake of others or lost its prepared form, so
/// that it may run again.
pub(crate) fn may_run_again(error: &tokio_postgres::Error) -> bool {
    // Serialization failure, deadlock; no such prepared statement, "cached plan must not change result
    // type".
    matches!(state(error), "40001" | "40P01" | "26000" | "0A000")
}

/// Whether the connection cannot be used any more, or not for the statements that are prepared on it.
pub(crate) fn spoils_connection(error: &tokio_postgres::Error) -> bool {
    match state(error) {
        // The driver's own error. Also: a statement of that name exists; read-only (the server has become a
        // standby).
        "" | "26000" | "0A000" | "42P05" | "25006" => true,
        state => state.starts_with("08") || state.starts_with("57P"),
    }
}

/// Whether the server has refused the statement, so that it has not happened and will not.
///
/// Each statement is a transaction of its own, which an error aborts, also one that comes while it commits:
/// one after that ends the server (PANIC). An error that ends the connection (FATAL) may come at any point.
pub(crate) fn is_refusal(error: &tokio_postgres::Error) -> bool {
    // Connections, the end of a process, a completion that is not known, the system, internal errors: poolers
    // and servers that only speak the protocol report with these that they lost a server or its answer.
    const NO_PROOF: &[&str] = &["08", "57P", "40003", "58", "XX"];
    error.as_db_error().is_some_and(|refusal| {
        let state = refusal.code().code();
        refusal.parsed_severity() == Some(Severity::Error)
            && !NO_PROOF.iter().any(|class| state.starts_with(class))
    })
}

/// The SQLSTATE; empty if the error is not the server's.
pub(crate) fn state(error: &tokio_postgres::Error) -> &str {
    error.code().map_or("", SqlState::code)
}

pub(crate) fn from_driver(error: &tokio_postgres::Error) -> Error {
    match error.as_db_error() {
        Some(refusal) if is_refusal(error) => from_server(refusal.code(), refusal.message()).not_applied(),
        // Not even where its kind is one for refusals.
        Some(failure) => from_server(failure.code(), failure.message()).partly_applied(),
        None => from_connection(error),
    }
}

/// Its source is the SQLSTATE, and the message where that cannot contain a key or a value. The detail and
/// hint lines, which may, are left out.
fn from_server(state: &SqlState, message: &str) -> Error {
    let state = state.code();
    let (kind, words) = classify(state);
    let safe = SAFE_CLASSES.iter().any(|class| state.starts_with(class));
    let source = if safe { format!("SQLSTATE {state}: {message}") } else { format!("SQLSTATE {state}") };
    Error::new(kind, words).with_source(source)
}

fn classify(state: &str) -> (ErrorKind, &'static str) {
    match state {
        "57014" => (Timeout, "the server cancelled the statement, perhaps after its `statement_timeout`"),
        "55P03" => (Timeout, "could not acquire the lock within the server's `lock_timeout`"),
        "57P01" | "57P02" | "57P03" => (Unavailable, "the server is shutting down or starting"),
        "53300" => (Unavailable, "the server has no connections left; a smaller `pool_size` asks for fewer"),
        "53200" => (Unavailable, "the server is out of memory"),
        "53100" => (StorageFull, "the server's disk is full"),
        "40001" | "40P01" => {
            (Unavailable, "the server rolled the statement back because of others, each time it was tried")
        }
        "25006" => (
            Unavailable,
            "the server takes no writes (a standby?); `target_session_attrs=read-write` chooses one that does",
        ),
        "28000" | "28P01" => (PermissionDenied, "the server refused this user, password or host"),
        "42501" => (PermissionDenied, "the user lacks a permission"),
        "26000" | "42P05" | "0A000" => (
            InvalidConfig,
            "the server does not keep prepared statements; use `statements=unnamed`, and tell other programs \
             not to deallocate them where they share the pool",
        ),
        "42P01" | "3F000" => (
            InvalidConfig,
            "there is no such table or schema; connect with set-up on, or run Config::setup_sql()",
        ),
        "3D000" => (InvalidConfig, "there is no such database"),
        "42703" | "42804" | "42883" | "42P10" | "23502" => {
            (InvalidConfig, "the table does not have the columns, types or unique key of this layout")
        }
        "54001" => (InvalidValue, "the value is nested too deeply for the server"),
        "54000" => (TooLarge, "the value is larger than the server takes"),
        "22021" => (InvalidValue, "the database's encoding cannot hold this text"),
        "22P02" | "22P03" | "22P05" | "22003" | "22030" | "22032" => {
            (InvalidValue, "the column cannot hold this value")
        }
        "23514" => (InvalidValue, "a check constraint of the table refuses this entry"),
        "54023" | "54011" => (InvalidKey, "the server refuses this key"),
        state if state.starts_with("08") => (Unavailable, "the connection to the server failed"),
        state if state.starts_with("57P") || state.starts_with("25P") => {
            (Unavailable, "the server ended the connection")
        }
        state if state.starts_with("53") => (Unavailable, "the server lacks a resource"),
        state if state.starts_with("42") => (InvalidConfig, "the server does not accept the statement"),
        _ => (Other, "the server reports an error"),
    }
}

/// The driver's own errors. Their kinds are private, but each begins with words of its own.
fn from_connection(error: &tokio_postgres::Error) -> Error {
    let words = error.to_string();
    let cause = StdError::source(error);
    let (kind, message) = match words.as_str() {
        "authentication error" => {
            (PermissionDenied, "could not log in: a password is missing, or of a kind not supported")
        }
        "invalid configuration" | "invalid connection string" => {
            (InvalidConfig, "the connection's configuration is not valid")
        }
        "timeout waiting for server" => (Timeout, "the server did not answer in time"),
        "error performing TLS handshake" if !is_reset(cause) => {
            (InvalidConfig, "the TLS handshake failed, or the server's certificate is not trusted")
        }
        words if words.starts_with("error serializing") || words.starts_with("error encoding") => {
            return Error::new(InvalidValue, "the statement could not be put into a message");
        }
        _ => (Unavailable, "the server cannot be reached, or closed the connection"),
    };
    Error::new(kind, message).with_source(match cause {
        // The causes of these speak of sockets, hosts and certificates.
        Some(cause) => format!("{words}: {cause}"),
        None => words,
    })
}

/// Whether the cause is a connection that broke, rather than a message of TLS that one side refused.
fn is_reset(cause: Option<&(dyn StdError + 'static)>) -> bool {
    let cause = cause.and_then(|cause| cause.downcast_ref::<io::Error>());
    cause.is_some_and(|error| {
        !matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput)
    })
}

/// A row of the server's catalogue that does not decode.
pub(crate) fn unexpected(_: tokio_postgres::Error) -> Error {
    Error::new(Other, "the server's catalogue is not as expected")
}

/// There is no connection, so nothing was sent.
pub(crate) fn from_pool(error: PoolError) -> Error {
    let (kind, message) = match error {
        PoolError::Backend(error) => return from_driver(&error).not_applied(),
        PoolError::Timeout(TimeoutType::Create) => {
            (Timeout, "the server did not let the connection in within the option `connect_timeout`")
        }
        PoolError::Timeout(_) => (Timeout, "no connection of the pool became free in time"),
        PoolError::Closed => (Closed, "the pool of connections has been closed"),
        PoolError::NoRuntimeSpecified => {
            (InvalidConfig, "the pool has timeouts but no runtime to count them with")
        }
        // A hook is the caller's code, and its message not ours to show.
        PoolError::PostCreateHook(_) => (Unavailable, "a hook of the pool refused the new connection"),
    };
    Error::new(kind, message).not_applied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds() {
        for (state, kind) in [
            (SqlState::INVALID_PASSWORD, ErrorKind::PermissionDenied),
            (SqlState::INSUFFICIENT_PRIVILEGE, ErrorKind::PermissionDenied),
            (SqlState::ADMIN_SHUTDOWN, ErrorKind::Unavailable),
            (SqlState::CONNECTION_FAILURE, ErrorKind::Unavailable),
            (SqlState::TOO_MANY_CONNECTIONS, ErrorKind::Unavailable),
            (SqlState::QUERY_CANCELED, ErrorKind::Timeout),
            (SqlState::DISK_FULL, ErrorKind::StorageFull),
            (SqlState::UNDEFINED_TABLE, ErrorKind::InvalidConfig),
            (SqlState::UNDEFINED_DATABASE, ErrorKind::InvalidConfig),
            (SqlState::INVALID_TEXT_REPRESENTATION, ErrorKind::InvalidValue),
            (SqlState::UNTRANSLATABLE_CHARACTER, ErrorKind::InvalidValue),
            (SqlState::PROGRAM_LIMIT_EXCEEDED, ErrorKind::TooLarge),
            (SqlState::INVALID_SQL_STATEMENT_NAME, ErrorKind::InvalidConfig),
            (SqlState::INTERNAL_ERROR, ErrorKind::Other),
        ] {
            assert_eq!(from_server(&state, "").kind(), kind, "{}", state.code());
        }
    }

    #[test]
    fn contents_are_not_shown() {
        for state in
            [SqlState::INVALID_TEXT_REPRESENTATION, SqlState::UNIQUE_VIOLATION, SqlState::RAISE_EXCEPTION]
        {
            let error = from_server(&state, "Key (key)=(hunter2) is bad");
            assert!(!format!("{error} {error:?}").contains("hunter2"));
        }
        let error = from_server(&SqlState::INSUFFICIENT_PRIVILEGE, "permission denied for table larder");
        assert!(format!("{error:?}").contains("permission denied for table larder"));
    }
}
