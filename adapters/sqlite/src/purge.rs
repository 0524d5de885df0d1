//! Removes expired rows.
//!
//! An index on the deadline would find them at once, but each write would change two places of it, which halves the
//! speed of writes at 1,000,000 keys. Instead, a sweep reads the table in slices, in the order of row ids. It starts a
//! statement that writes only for a slice with expired rows, so writers wait for at most one slice.

use std::sync::atomic::Ordering;

use larder_core::{ErrorKind, Result};
use sqlx::Row as _;

use crate::{error::from_driver, table::SqliteStorage};

/// The smallest row id.
pub(crate) const FIRST: i64 = i64::MIN;
/// The number of rows in a slice.
const SLICE: u32 = 1_000;
/// The maximum number of slices that a sweep reads, not counting those of which at least a tenth has expired.
const SLICES: u32 = 100;

/// Removes all expired rows. Returns their number.
pub(crate) async fn all(storage: &SqliteStorage) -> Result<u64> {
    let (mut purged, mut next) = (0, Some(FIRST));
    while let Some(from) = next {
        let removed;
        (removed, next) = slice(storage, from).await?;
        purged += removed;
    }
    Ok(purged)
}

/// Removes expired rows. Continues where the last sweep ended, and stops at the end of the table or after [`SLICES`]
/// slices. Slices with many expired rows do not count, so expired rows stay below about a tenth of the table however
/// fast rows expire. Returns the number of removed rows.
pub(crate) async fn sweep(storage: &SqliteStorage) -> Result<u64> {
    let (mut purged, mut read) = (0, 0);
    while read < SLICES {
        let from = storage.swept.load(Ordering::Relaxed);
        let outcome = slice(storage, from).await;
        if outcome.as_ref().is_err_and(|error| error.kind() == ErrorKind::Corrupt) {
            // The next sweep starts after the damaged page.
            storage.swept.store(from.max(0).saturating_add(SLICE.into()), Ordering::Relaxed);
        }
        let (removed, next) = outcome?;
        purged += removed;
        storage.swept.store(next.unwrap_or(FIRST), Ordering::Relaxed);
        if next.is_none() {
            break;
        }
        read += u32::from(removed < u64::from(SLICE / 10));
    }
    Ok(purged)
}

/// Removes the expired rows of the slice that begins at the row id `from`. Returns their number, and the first row id
/// of the next slice (`None` after the last).
async fn slice(storage: &SqliteStorage, from: i64) -> Result<(u64, Option<i64>)> {
    let call = sqlx::query(storage.sql.slice.clone()).bind(from).bind(SLICE);
    let Some(row) = storage.fetch_one(call).await? else { return Ok((0, None)) };
    let last: i64 = row.try_get(0).map_err(from_driver)?;
    let removed = if row.try_get(1).map_err(from_driver)? {
        storage.execute(sqlx::query(storage.sql.purge.clone()).bind(from).bind(last)).await?
    } else {
        0
    };
    Ok((removed, last.checked_add(1)))
}
