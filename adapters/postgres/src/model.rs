//! The differences between the layouts of a table.

use larder_core::{Bytes, Error, ErrorKind, Info, Record, Result, Version};
use tokio_postgres::Row;

/// A layout of the table.
pub(crate) trait Model: Send + Sync + 'static {
    /// Returns the capabilities of the layout, added to those of the driver.
    fn info(&self, driver: Info) -> Info;

    /// Rejects a value that the column cannot hold before it is sent, where it would fail its whole batch. Some values,
    /// such as numbers out of range, only the server can reject.
    fn check(&self, value: &[u8]) -> Result<()>;

    /// Returns the version of an entry that is written with this value.
    fn version(value: &Bytes) -> Version;

    /// Returns the record of a row whose first column is the key. The value is empty unless `with_value` is set.
    fn record(row: &Row, with_value: bool) -> Result<Record>;

    /// Returns the start of the keys that begin with `prefix`, and their bound, if they have one.
    fn range(prefix: &str) -> (String, Option<String>);
}

/// Returns the error for a row that cannot be decoded.
pub(crate) fn corrupt(_: tokio_postgres::Error) -> Error {
    Error::new(ErrorKind::Corrupt, "the row was not written by this adapter")
}
