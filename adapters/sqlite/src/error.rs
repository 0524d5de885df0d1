//! Converts errors of the driver.

use larder_core::{Error, ErrorKind};
use sqlx::error::{BoxDynError, DatabaseError};

/// SQLite's result codes, from `sqlite3.h`; the low byte of an extended code.
mod code {
    pub(super) const PERM: u32 = 3;
    pub(super) const BUSY: u32 = 5;
    pub(super) const LOCKED: u32 = 6;
    pub(super) const NOMEM: u32 = 7;
    pub(super) const READONLY: u32 = 8;
    pub(super) const INTERRUPT: u32 = 9;
    pub(super) const IOERR: u32 = 10;
    pub(super) const CORRUPT: u32 = 11;
    pub(super) const FULL: u32 = 13;
    pub(super) const CANTOPEN: u32 = 14;
    pub(super) const PROTOCOL: u32 = 15;
    pub(super) const SCHEMA: u32 = 17;
    pub(super) const TOOBIG: u32 = 18;
    pub(super) const CONSTRAINT: u32 = 19;
    pub(super) const AUTH: u32 = 23;
    pub(super) const NOTADB: u32 = 26;
    pub(super) const CONSTRAINT_TRIGGER: u32 = 1811;
}

/// Converts an error of the driver. SQLite's own messages contain names of tables and columns, but never values.
pub(crate) fn from_driver(error: sqlx::Error) -> Error {
    let (kind, message) = match &error {
        sqlx::Error::Database(database) => classify(code(&error), database.message()),
        sqlx::Error::PoolTimedOut => {
            (ErrorKind::Timeout, "no connection of the pool became free in time: increase the pool's size")
        }
        sqlx::Error::PoolClosed => (ErrorKind::Closed, "the pool is closed"),
        sqlx::Error::WorkerCrashed => (ErrorKind::Unavailable, "the thread of the connection has ended"),
        sqlx::Error::Io(_) => (ErrorKind::Unavailable, "cannot reach the database"),
        sqlx::Error::Configuration(_) => {
            (ErrorKind::InvalidConfig, "SQLite rejected the connection settings")
        }
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => {
            (ErrorKind::Corrupt, "a row contains data that this adapter did not write")
        }
        _ => (ErrorKind::Other, "the call failed"),
    };
    // A call that got no lock or no connection has changed nothing. Neither has a statement that SQLite rejects: SQLite
    // rolls back the statement or the transaction.
    let refused = matches!(
        code(&error) & 0xff,
        code::PERM | code::AUTH | code::READONLY | code::FULL | code::CANTOPEN | code::NOTADB
    );
    let not_applied = refused || is_locked(&error) || matches!(error, sqlx::Error::PoolTimedOut);
    let error = Error::new(kind, message).with_source(cause(error));
    if not_applied { error.not_applied() } else { error }
}

/// Returns the source of an error: SQLite's error, or the driver's text. The driver's own error would repeat its text
/// in a report of the whole chain.
pub(crate) fn cause(error: sqlx::Error) -> BoxDynError {
    let code = code(&error);
    match error {
        // The text comes from the trigger and may contain data of the row.
        sqlx::Error::Database(_) if code == code::CONSTRAINT_TRIGGER => "SQLITE_CONSTRAINT_TRIGGER".into(),
        sqlx::Error::Database(error) => error.into_error(),
        error => error.to_string().into(),
    }
}

fn classify(extended: u32, message: &str) -> (ErrorKind, &'static str) {
    match extended & 0xff {
        code::BUSY | code::LOCKED | code::PROTOCOL => (
            ErrorKind::Unavailable,
            "another connection is writing and did not finish within the busy timeout: try again",
        ),
        code::PERM | code::AUTH => (ErrorKind::PermissionDenied, "no permission to use the database file"),
        code::READONLY => (ErrorKind::PermissionDenied, "the database is read-only"),
        code::FULL => (ErrorKind::StorageFull, "the disk is full"),
        code::NOMEM => (ErrorKind::StorageFull, "out of memory"),
        code::TOOBIG => (ErrorKind::TooLarge, "the value exceeds SQLite's limit"),
        code::CORRUPT => (ErrorKind::Corrupt, "the database file is damaged"),
        code::NOTADB => (
            ErrorKind::InvalidConfig,
            "the file is not an SQLite database, or is encrypted; it was not changed: name another file",
        ),
        code::CANTOPEN => (
            ErrorKind::InvalidConfig,
            "cannot open the database file: check that the file, or its directory if it is new, exists and is writable",
        ),
        code::CONSTRAINT => {
            (ErrorKind::InvalidValue, "a constraint or trigger of the table rejected the row")
        }
        code::IOERR | code::INTERRUPT | code::SCHEMA => {
            (ErrorKind::Unavailable, "cannot read or write the database")
        }
        _ if message.starts_with("no such table") => (
            ErrorKind::InvalidConfig,
            "the table does not exist: create it, or open the store with `setup=true`",
        ),
        _ if message.contains("no such column") || message.contains("has no column") => {
            (ErrorKind::InvalidConfig, "the table does not have the expected columns")
        }
        _ => (ErrorKind::Other, "SQLite rejected the statement"),
    }
}

/// Returns whether another connection holds the required lock. SQLite then rolls back the statement.
pub(crate) fn is_locked(error: &sqlx::Error) -> bool {
    matches!(code(error) & 0xff, code::BUSY | code::LOCKED | code::PROTOCOL)
}

/// Returns whether SQLite could not create or write its files beside the database.
pub(crate) fn cannot_write(error: &sqlx::Error) -> bool {
    matches!(code(error) & 0xff, code::CANTOPEN | code::READONLY)
}

/// Returns the extended result code; 0 for an error of the driver.
fn code(error: &sqlx::Error) -> u32 {
    let code = error.as_database_error().and_then(DatabaseError::code);
    code.and_then(|code| code.parse().ok()).unwrap_or(0)
}

/// Returns whether the connection is unusable.
pub(crate) fn is_fatal(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::WorkerCrashed | sqlx::Error::Io(_) | sqlx::Error::Protocol(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extended_codes_have_the_kind_of_their_primary_code() {
        let kind = |code| classify(code, "").0;
        assert_eq!(kind(5), ErrorKind::Unavailable);
        assert_eq!(kind(517), ErrorKind::Unavailable); // SQLITE_BUSY_SNAPSHOT
        assert_eq!(kind(1032), ErrorKind::PermissionDenied); // SQLITE_READONLY_DBMOVED
        assert_eq!(kind(13), ErrorKind::StorageFull);
        assert_eq!(kind(26), ErrorKind::InvalidConfig);
        assert_eq!(kind(1), ErrorKind::Other);
        assert_eq!(classify(1, "no such table: larder").0, ErrorKind::InvalidConfig);
    }

    #[tokio::test]
    async fn an_error_chain_repeats_no_text() {
        use std::error::Error as _;

        use sqlx::{ConnectOptions, Connection, sqlite::SqliteConnectOptions};

        let mut memory = SqliteConnectOptions::new().in_memory(true).connect().await.unwrap();
        let refused = sqlx::query("SELECT * FROM absent").execute(&mut memory).await.unwrap_err();
        let decoded = sqlx::query_scalar::<_, i64>("SELECT 'text'").fetch_one(&mut memory).await.unwrap_err();
        memory.close().await.unwrap();
        let io = sqlx::Error::Io(std::io::Error::other("the disk is on fire"));
        let settings = sqlx::Error::Configuration("no such setting".into());
        for error in [refused, decoded, io, settings, sqlx::Error::WorkerCrashed] {
            let error = from_driver(error);
            let mut texts = vec![error.to_string()];
            let mut source = error.source();
            while let Some(cause) = source {
                texts.push(cause.to_string());
                source = cause.source();
            }
            assert!(texts.len() >= 2, "the cause is missing: {texts:?}");
            for (place, text) in texts.iter().enumerate() {
                let again = texts.iter().skip(place + 1).find(|later| text.contains(later.as_str()));
                assert_eq!(again, None, "a text is repeated in {texts:?}");
            }
        }
    }

    #[test]
    fn only_temporary_errors_are_retryable() {
        assert!(from_driver(sqlx::Error::WorkerCrashed).is_retryable());
        assert!(from_driver(sqlx::Error::PoolTimedOut).is_retryable());
        assert!(!from_driver(sqlx::Error::PoolClosed).is_retryable());
    }
}
