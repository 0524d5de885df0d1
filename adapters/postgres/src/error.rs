//! Converts errors of the driver, without the keys and values that they may contain.

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

/// The classes whose messages are about connections, roles, tables and limits, never about contents.
const SAFE_CLASSES: &[&str] = &["08", "25", "28", "3D", "3F", "40", "42", "53", "55", "57"];

/// Returns whether the statement can run again: the server rolled it back because of others, or lost its prepared form.
pub(crate) fn may_run_again(error: &tokio_postgres::Error) -> bool {
    // Serialization failure, deadlock; no such prepared statement, "cached plan must not change result type".
    matches!(state(error), "40001" | "40P01" | "26000" | "0A000")
}

/// Returns whether the connection is unusable, or its prepared statements are.
pub(crate) fn spoils_connection(error: &tokio_postgres::Error) -> bool {
    match state(error) {
        // An error of the driver; a statement of that name exists; read-only, because the server has become a standby.
        "" | "26000" | "0A000" | "42P05" | "25006" => true,
        state => state.starts_with("08") || state.starts_with("57P"),
    }
}

/// Returns whether the server rejected the statement, so that it was not executed and never will be.
///
/// Each statement is a transaction of its own, which an error aborts, even during its commit: an error after the commit
/// ends the server (PANIC). An error that ends the connection (FATAL) may occur at any time.
pub(crate) fn is_refusal(error: &tokio_postgres::Error) -> bool {
    // Connections, the end of a process, an unknown completion, the system, internal errors: poolers, and servers that
    // only speak the protocol, use these to report that they lost a server or its answer.
    const NO_PROOF: &[&str] = &["08", "57P", "40003", "58", "XX"];
    error.as_db_error().is_some_and(|refusal| {
        let state = refusal.code().code();
        refusal.parsed_severity() == Some(Severity::Error)
            && !NO_PROOF.iter().any(|class| state.starts_with(class))
    })
}

/// Returns the SQLSTATE; empty for an error of the driver.
pub(crate) fn state(error: &tokio_postgres::Error) -> &str {
    error.code().map_or("", SqlState::code)
}

pub(crate) fn from_driver(error: &tokio_postgres::Error) -> Error {
    match error.as_db_error() {
        Some(refusal) if is_refusal(error) => from_server(refusal.code(), refusal.message()).not_applied(),
        // The outcome is unknown, even if the error's kind usually means a rejection.
        Some(failure) => from_server(failure.code(), failure.message()).partly_applied(),
        None => from_connection(error),
    }
}

/// Converts an error of the server. The source is the SQLSTATE, and the message if that cannot contain a key or a
/// value.
/// The detail and hint, which may, are left out.
fn from_server(state: &SqlState, message: &str) -> Error {
    let state = state.code();
    let (kind, words) = classify(state);
    let safe = SAFE_CLASSES.iter().any(|class| state.starts_with(class));
    let source = if safe { format!("SQLSTATE {state}: {message}") } else { format!("SQLSTATE {state}") };
    Error::new(kind, words).with_source(source)
}

fn classify(state: &str) -> (ErrorKind, &'static str) {
    match state {
        "57014" => {
            (Timeout, "the server cancelled the statement, perhaps because of its `statement_timeout`")
        }
        "55P03" => (Timeout, "could not acquire the lock within the server's `lock_timeout`"),
        "57P01" | "57P02" | "57P03" => (Unavailable, "the server is shutting down or starting"),
        "53300" => (
            Unavailable,
            "the server has reached its limit of connections: reduce `pool_size`, or raise the server's limit",
        ),
        "53200" => (Unavailable, "the server is out of memory"),
        "53100" => (StorageFull, "the server's disk is full"),
        "40001" | "40P01" => {
            (Unavailable, "the server rolled back the statement because of concurrent ones, at every attempt")
        }
        "25006" => (
            Unavailable,
            "the server is read-only (a standby?): `target_session_attrs=read-write` selects one that is not",
        ),
        "28000" | "28P01" => (PermissionDenied, "the server rejected this user, password or host"),
        "42501" => (PermissionDenied, "this user does not have the required permission"),
        "26000" | "42P05" | "0A000" => (
            InvalidConfig,
            "the server does not keep prepared statements: use `statements=unnamed`, or prevent other programs that \
             share the pool from deallocating them",
        ),
        "42P01" | "3F000" => (
            InvalidConfig,
            "the table or schema does not exist: connect with `setup=true`, or run the SQL of `Config::setup_sql`",
        ),
        "3D000" => (InvalidConfig, "the database does not exist"),
        "42703" | "42804" | "42883" | "42P10" | "23502" => {
            (InvalidConfig, "the table does not have the columns, types or unique key of this layout")
        }
        "54001" => (InvalidValue, "the value is nested too deeply for the server"),
        "54000" => (TooLarge, "the value exceeds the server's limit"),
        "22021" => (InvalidValue, "the database's encoding cannot represent this text"),
        "22P02" | "22P03" | "22P05" | "22003" | "22030" | "22032" => {
            (InvalidValue, "the column cannot hold this value")
        }
        "23514" => (InvalidValue, "a check constraint of the table rejected this entry"),
        "54023" | "54011" => (InvalidKey, "the server rejected this key"),
        state if state.starts_with("08") => (Unavailable, "the connection to the server failed"),
        state if state.starts_with("57P") || state.starts_with("25P") => {
            (Unavailable, "the server ended the connection")
        }
        state if state.starts_with("53") => (Unavailable, "the server is out of a resource"),
        state if state.starts_with("42") => (InvalidConfig, "the server rejected the statement"),
        _ => (Other, "the server reported an error"),
    }
}

/// Converts the driver's own errors. Their kinds are private, but each text begins with its own words.
fn from_connection(error: &tokio_postgres::Error) -> Error {
    let words = error.to_string();
    let cause = StdError::source(error);
    let (kind, message) = match words.as_str() {
        "authentication error" => (
            PermissionDenied,
            "authentication failed: the password is missing, or the method is not supported",
        ),
        "invalid configuration" | "invalid connection string" => {
            (InvalidConfig, "the connection's configuration is invalid")
        }
        "timeout waiting for server" => (Timeout, "the server did not answer in time"),
        "error performing TLS handshake" if !is_reset(cause) => {
            (InvalidConfig, "the TLS handshake failed, or the server's certificate is not trusted")
        }
        words if words.starts_with("error serializing") || words.starts_with("error encoding") => {
            return Error::new(InvalidValue, "could not encode the statement");
        }
        _ => (Unavailable, "cannot reach the server, or it closed the connection"),
    };
    Error::new(kind, message).with_source(match cause {
        // These causes are about sockets, hosts and certificates.
        Some(cause) => format!("{words}: {cause}"),
        None => words,
    })
}

/// Returns whether the cause is a broken connection, rather than a TLS message that one side rejected.
fn is_reset(cause: Option<&(dyn StdError + 'static)>) -> bool {
    let cause = cause.and_then(|cause| cause.downcast_ref::<io::Error>());
    cause.is_some_and(|error| {
        !matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput)
    })
}

/// Returns the error for a row of the server's catalogue that cannot be decoded.
pub(crate) fn unexpected(_: tokio_postgres::Error) -> Error {
    Error::new(Other, "the server's catalogue has an unexpected form")
}

/// Converts an error of the pool. Nothing was sent.
pub(crate) fn from_pool(error: PoolError) -> Error {
    let (kind, message) = match error {
        PoolError::Backend(error) => return from_driver(&error).not_applied(),
        PoolError::Timeout(TimeoutType::Create) => {
            (Timeout, "the server did not complete the connection within `connect_timeout`")
        }
        PoolError::Timeout(_) => (Timeout, "no connection of the pool became free in time"),
        PoolError::Closed => (Closed, "the connection pool is closed"),
        PoolError::NoRuntimeSpecified => {
            (InvalidConfig, "the pool has timeouts, but no runtime to measure them")
        }
        // A hook is the caller's code; its message may contain anything.
        PoolError::PostCreateHook(_) => (Unavailable, "a hook of the pool rejected the new connection"),
    };
    Error::new(kind, message).not_applied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sqlstates_have_kinds() {
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
    fn errors_contain_no_keys_or_values() {
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
