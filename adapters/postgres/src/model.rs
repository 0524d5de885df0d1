//! The differences between the layouts of a table.

use larder_core::{Bytes, Error, ErrorKind, Info, Record, Result, Version};
use tokio_postgres::Row;

/// A layout of the table.
pub(crate) trait Model: Send + Sync + 'static {
    /// What the layout can do, besides what the driver can.
    fn info(&self, driver: Info) -> Info;

    /// Refuses a value that the column cannot hold before it is sent, where it would fail the batch that
    /// it is in. Only the server can judge some values, such as numbers out of range.
    fn check(&self, value: &[u8]) -> Result<()>;

    /// The version of an entry that is written with this value.
    fn version(value: &Bytes) -> Version;

    /// The record in a row whose first column is the key. Without its value, if that was left out.
    fn record(row: &Row, with_value: bool) -> Result<Record>;

    /// Where the keys that begin with `prefix` begin, and their bound, if there is one.
    fn range(prefix: &str) -> (String, Option<String>);
}

/// A row that does not decode.
pub(crate) fn corrupt(_: tokio_postgres::Error) -> Error {
    Error::new(ErrorKind::Corrupt, "the row is not as this adapter writes it")
}
