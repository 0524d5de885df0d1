//! Driver errors as Larder's.

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

/// The driver's error as Larder's. SQLite's own messages name tables and columns, never a value.
pub(crate) fn from_driver(error: sqlx::Error) -> Error {
    let (kind, message) = match &error {
        sqlx::Error::Database(database) => classify(code(&error), database.message()),
        sqlx::Error::PoolTimedOut => {
            (ErrorKind::Timeout, "no connection of the pool became free in time; enlarge the pool")
        }
        sqlx::Error::PoolClosed => (ErrorKind::Closed, "the pool has been closed"),
        sqlx::Error::WorkerCrashed => (ErrorKind::Unavailable, "the connection's thread has ended"),
        sqlx::Error::Io(_) => (ErrorKind::Unavailable, "the database could not be reached"),
        sqlx::Error::Configuration(_) => (ErrorKind::InvalidConfig, "SQLite does not take these settings"),
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => {
            (ErrorKind::Corrupt, "a row holds something that was not written by this adapter")
        }
        _ => (ErrorKind::Other, "the call failed"),
    };
    // A statement that did not get its lock, or no connection, has changed nothing. Nor has one that SQLite
    // refused: it rolls the statement back, or the transaction.
    let refused = matches!(
        code(&error) & 0xff,
        code::PERM | code::AUTH | code::READONLY | code::FULL | code::CANTOPEN | code::NOTADB
    );
    let not_applied = refused || is_locked(&error) || matches!(error, sqlx::Error::PoolTimedOut);
    let error = Error::new(kind, message).with_source(cause(error));
    if not_applied { error.not_applied() } else { error }
}

/// The source of an error: SQLite's, or the driver's text. The driver prints the error under its own, so a
/// report of the whole chain would say the same twice.
pub(crate) fn cause(error: sqlx::Error) -> BoxDynError {
    let code = code(&error);
    match error {
        // The text is the trigger's and may quote the row.
        sqlx::Error::Database(_) if code == code::CONSTRAINT_TRIGGER => "SQLITE_CONSTRAINT_TRIGGER".into(),
        sqlx::Error::Database(error) => error.into_error(),
        error => error.to_string().into(),
    }
}

fn classify(extended: u32, message: &str) -> (ErrorKind, &'static str) {
    match extended & 0xff {
        code::BUSY | code::LOCKED | code::PROTOCOL => (
            ErrorKind::Unavailable,
            "another connection is writing and did not end within the busy timeout; try again",
        ),
        code::PERM | code::AUTH => (ErrorKind::PermissionDenied, "no permission to use the database file"),
        code::READONLY => (ErrorKind::PermissionDenied, "the database is read-only"),
        code::FULL => (ErrorKind::StorageFull, "there is no room left for the database"),
        code::NOMEM => (ErrorKind::StorageFull, "there is no memory left"),
        code::TOOBIG => (ErrorKind::TooLarge, "the value is larger than SQLite takes"),
        code::CORRUPT => (ErrorKind::Corrupt, "the database file is damaged"),
        code::NOTADB => (
            ErrorKind::InvalidConfig,
            "the file is not an SQLite database (or is encrypted); it is left as it is: name another file",
        ),
        code::CANTOPEN => (
            ErrorKind::InvalidConfig,
            "the database file cannot be opened; check that it, or the directory it is to be made in, is there \
             and may be written to",
        ),
        code::CONSTRAINT => (ErrorKind::InvalidValue, "a constraint or trigger on the table refuses the row"),
        code::IOERR | code::INTERRUPT | code::SCHEMA => {
            (ErrorKind::Unavailable, "the database could not be read or written")
        }
        _ if message.starts_with("no such table") => {
            (ErrorKind::InvalidConfig, "the table is not there; let the storage set it up, or make it")
        }
        _ if message.contains("no such column") || message.contains("has no column") => {
            (ErrorKind::InvalidConfig, "the table has another shape")
        }
        _ => (ErrorKind::Other, "SQLite refused the statement"),
    }
}

/// Whether another connection holds the lock that the call needed. SQLite rolls the statement back.
pub(crate) fn is_locked(error: &sqlx::Error) -> bool {
    matches!(code(error) & 0xff, code::BUSY | code::LOCKED | code::PROTOCOL)
}

/// Whether SQLite could not make or write the files that it needs beside the database.
pub(crate) fn cannot_write(error: &sqlx::Error) -> bool {
    matches!(code(error) & 0xff, code::CANTOPEN | code::READONLY)
}

/// The extended result code; 0 for an error that is not SQLite's.
fn code(error: &sqlx::Error) -> u32 {
    let code = error.as_database_error().and_then(DatabaseError::code);
    code.and_then(|code| code.parse().ok()).unwrap_or(0)
}

/// Whether the connection is of no more use.
pub(crate) fn is_fatal(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::WorkerCrashed | sqlx::Error::Io(_) | sqlx::Error::Protocol(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extended_codes_count_as_their_primary_ones() {
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
    async fn no_text_comes_twice_in_the_chain() {
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
                assert_eq!(again, None, "a text comes twice in {texts:?}");
            }
        }
    }

    #[test]
    fn only_what_may_pass_is_retryable() {
        assert!(from_driver(sqlx::Error::WorkerCrashed).is_retryable());
        assert!(from_driver(sqlx::Error::PoolTimedOut).is_retryable());
        assert!(!from_driver(sqlx::Error::PoolClosed).is_retryable());
    }
}
