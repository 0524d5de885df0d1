//! Converts errors of the driver.

use std::io;

use larder_core::{
    Error,
    ErrorKind::{
        self, Closed, Corrupt, InvalidConfig, InvalidValue, Other, PermissionDenied, StorageFull, Timeout,
        TooLarge, Unavailable,
    },
};
use sqlx::mysql::MySqlDatabaseError;

/// Errors that do not prove that the statement was not executed: the server stops, ends the connection or interrupts
/// the statement, perhaps during its commit; it does not know; or the answer was lost behind a proxy (2000 to 2999 are
/// a client's errors).
const NO_PROOF: &[u16] =
    &[1053, 1077, 1079, 1080, 1105, 1152, 1158, 1159, 1160, 1161, 1180, 1184, 1317, 1927];

/// The errors after which the server closes the connection, although it has executed nothing: the message was too
/// large, or the connection was unused for too long.
const CLOSING: &[u16] = &[1153, 4031];

/// The errors whose messages contain only the names of users, hosts, databases, tables, columns and options.
const SAFE: &[u16] = &[
    1040, 1044, 1045, 1049, 1054, 1129, 1142, 1143, 1146, 1203, 1205, 1213, 1226, 1227, 1290, 1698, 1792,
    1836,
];

/// The message for a table that does not exist.
pub(crate) const NO_SUCH_TABLE: &str =
    "the table does not exist: connect with `setup=true`, or run the SQL of `Config::setup_sql`";

const TLS_FAILED: &str = "the TLS handshake failed: the server does not support TLS, its certificate is not trusted, or \
                          this program was built without the feature `tls`";

/// Returns the server's number of the error; 0 for an error of the driver.
pub(crate) fn number(error: &sqlx::Error) -> u16 {
    let error = error.as_database_error().and_then(|error| error.try_downcast_ref::<MySqlDatabaseError>());
    error.map_or(0, MySqlDatabaseError::number)
}

/// Returns whether the server has rejected the statement, so that nothing was changed.
pub(crate) fn is_refusal(error: &sqlx::Error) -> bool {
    let number = number(error);
    number > 0 && !NO_PROOF.contains(&number) && !(2000..3000).contains(&number)
}

/// Returns whether the connection can be used after the error.
pub(crate) fn keeps_connection(error: &sqlx::Error) -> bool {
    is_refusal(error) && !CLOSING.contains(&number(error))
}

/// Returns whether the server rolled back the transaction because of concurrent ones: a deadlock (1213), a row that
/// changed after the snapshot (1020, in MariaDB), or a conflict in a cluster (3101).
pub(crate) fn was_rolled_back(error: &sqlx::Error) -> bool {
    matches!(number(error), 1020 | 1213 | 3101)
}

/// Converts an error of the driver.
pub(crate) fn from_driver(error: sqlx::Error) -> Error {
    let number = number(&error);
    let (kind, message) = if number > 0 { classify(number) } else { from_client(&error) };
    let source = match &error {
        // The message of another error may contain a key or a value.
        sqlx::Error::Database(database) if SAFE.contains(&number) => {
            format!("error {number}: {}", database.message())
        }
        sqlx::Error::Database(_) => format!("error {number}"),
        error => error.to_string(),
    };
    let converted = Error::new(kind, message).with_source(source);
    // The outcome may be unknown, even if the error's kind usually means a rejection.
    if is_refusal(&error) { converted.not_applied() } else { converted.partly_applied() }
}

fn classify(number: u16) -> (ErrorKind, &'static str) {
    match number {
        1290 | 1792 | 1836 | 3032 => {
            (Unavailable, "the server is read-only (a replica?): use the URL of the primary to write")
        }
        1040 | 1203 | 1226 | 1461 => (
            Unavailable,
            "the server has reached its limit of connections or statements: reduce `pool_size`, or raise the limit",
        ),
        1020 | 1213 | 3101 => (
            Unavailable,
            "the server rolled back the statement because of concurrent ones, at every attempt: try again",
        ),
        1205 => (Unavailable, "could not acquire a lock within the server's `innodb_lock_wait_timeout`"),
        1053 | 1077 | 1079 | 1080 | 1152 | 1158..=1161 | 1184 | 1927 | 2000..3000 | 4031 => {
            (Unavailable, "the server is shutting down, or ended the connection")
        }
        1037 | 1038 | 1041 | 1047 | 1129 | 1412 => (
            Unavailable,
            "the server cannot do this now: it has no memory, is not ready, blocks this host, or changes the table",
        ),
        1317 | 1969 | 3024 => {
            (Timeout, "the server interrupted the statement, perhaps because of its own timeout")
        }
        1021 | 1114 | 3 | 28 => (StorageFull, "the server's disk or the table is full"),
        1044 | 1045 | 1130 | 1251 | 1698 | 1820 | 3118 | 3159 | 4151 => {
            (PermissionDenied, "the server rejected this user, password, host or unencrypted connection")
        }
        1142 | 1143 | 1227 | 1370 => {
            (PermissionDenied, "this user does not have the required permission: GRANT it")
        }
        1046 | 1049 => (InvalidConfig, "the database does not exist: create it, or check the URL"),
        1146 => (InvalidConfig, NO_SUCH_TABLE),
        1048 | 1054 | 1136 | 1364 | 1471 => (InvalidConfig, "the table does not have Larder's columns"),
        1665 => (InvalidConfig, "the server's `binlog_format` must be ROW or MIXED"),
        1118 | 1153 => (TooLarge, "the value exceeds the server's `max_allowed_packet` or redo log"),
        1062 | 1264 | 1292 | 1366 | 1406 | 1644 | 3140 | 3819 | 4025 => {
            (InvalidValue, "the table rejected this entry: see its checks, triggers and unique keys")
        }
        _ => (Other, "the server reported an error"),
    }
}

fn from_client(error: &sqlx::Error) -> (ErrorKind, &'static str) {
    match error {
        sqlx::Error::Configuration(_) => (
            InvalidConfig,
            "the server's authentication needs TLS (`ssl-mode=required`), or a file is missing",
        ),
        sqlx::Error::Tls(_) => (InvalidConfig, TLS_FAILED),
        sqlx::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => (InvalidConfig, TLS_FAILED),
        sqlx::Error::PoolTimedOut => (Timeout, "no connection of the pool became free in time"),
        sqlx::Error::PoolClosed => (Closed, "the connection pool is closed"),
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::ColumnNotFound(_) | sqlx::Error::Decode(_) => {
            (Corrupt, "the row was not written by this adapter")
        }
        _ => (Unavailable, "cannot reach the server, or it closed the connection"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_kinds() {
        for (number, kind) in [
            (1045, PermissionDenied),
            (1142, PermissionDenied),
            (3159, PermissionDenied),
            (1040, Unavailable),
            (1053, Unavailable),
            (1205, Unavailable),
            (1213, Unavailable),
            (1290, Unavailable),
            (2013, Unavailable),
            (1969, Timeout),
            (1114, StorageFull),
            (1049, InvalidConfig),
            (1054, InvalidConfig),
            (1146, InvalidConfig),
            (1153, TooLarge),
            (1062, InvalidValue),
            (4025, InvalidValue),
            (1064, Other),
        ] {
            assert_eq!(classify(number).0, kind, "{number}");
        }
    }

    #[test]
    fn messages_with_contents_are_not_shown() {
        // Duplicate entries, data too long, invalid text, signals, checks and syntax errors quote values.
        for number in [1062, 1064, 1264, 1292, 1366, 1406, 1644, 3819, 4025] {
            assert!(!SAFE.contains(&number), "{number}");
        }
    }

    #[test]
    fn an_error_without_a_number_has_an_unknown_outcome() {
        for error in [sqlx::Error::WorkerCrashed, sqlx::Error::Io(io::ErrorKind::ConnectionReset.into())] {
            assert!(!is_refusal(&error) && !keeps_connection(&error) && !was_rolled_back(&error));
            assert_eq!(from_driver(error).outcome(), larder_core::Outcome::Unknown);
        }
    }

    #[test]
    fn untrusted_certificates_are_configuration_errors() {
        let error = from_driver(sqlx::Error::Io(io::ErrorKind::InvalidData.into()));
        assert!(error.kind() == InvalidConfig && error.message().contains("TLS"), "{error}");
    }
}
