//! The common parts of the storages: their entries are the rows of a table.

use std::collections::HashMap;

use larder_core::{Bytes, Condition, Error, ErrorKind, Expiry, Key, Record, Result, Storage, Version};
use tokio_postgres::Row;

use crate::{
    driver::Driver,
    sql::{Pages, Query},
};

/// An entry to write.
pub(crate) type Put<'a> = (&'a Key, &'a Bytes, Expiry);

/// A storage in a table of any layout.
pub(crate) trait Rows: Storage {
    fn driver(&self) -> &Driver;

    /// The keys that begin with `prefix`.
    fn range(&self, prefix: &str) -> Range<'_>;

    /// The record in a row whose first column is the key. Without its value, if that was left out.
    fn record(row: &Row, with_value: bool) -> Result<Record>;

    /// Refuses a value that the column cannot hold before it is sent, where it would fail the batch that
    /// it is in. Only the server can judge some values, such as numbers out of range.
    fn check(&self, value: &[u8]) -> Result<()>;

    /// Writes entries, with one statement; returns their versions.
    fn put_many(&self, puts: &[Put<'_>]) -> impl Future<Output = Result<Vec<Version>>> + Send;

    /// The statement that deletes the rows of an array of keys, and returns those that it found.
    fn delete_many(&self) -> &Query;

    /// The records in such rows, by their keys.
    fn records(rows: &[Row], with_value: bool) -> Result<HashMap<String, Result<Record>>> {
        rows.iter().map(|row| Ok((row.try_get(0).map_err(corrupt)?, Self::record(row, with_value)))).collect()
    }
}

/// A range of keys, for the statements that page through it.
pub(crate) struct Range<'a> {
    pub(crate) pages: &'a Pages,
    /// Where it begins.
    pub(crate) from: String,
    /// Its bound, if the statements take one.
    pub(crate) bound: Option<String>,
}

/// The version that an entry must have, as the parameter that `of` makes of it; null if it may have any.
pub(crate) fn expected<'a, T>(
    condition: &'a Condition,
    of: impl Fn(&'a Version) -> Option<T>,
) -> Result<Option<T>> {
    match condition {
        Condition::Any | Condition::Absent | Condition::Present => Ok(None),
        // No entry of this table has the version of another storage.
        Condition::At(version) => of(version).map(Some).ok_or_else(Error::conflict),
        _ => Err(Error::unsupported()),
    }
}

/// A row that does not decode.
pub(crate) fn corrupt(_: tokio_postgres::Error) -> Error {
    Error::new(ErrorKind::Corrupt, "the row is not as this adapter writes it")
}
