//! Removes expired rows.
//!
//! An index on the deadline would find them at once, but each write would change two places of it: at
//! 1,000,000 keys that halves the writes. So the table is walked in the order of its row ids, in slices. A
//! slice is read like any other row; only if it has expired rows does a statement that writes remove them, so
//! writers wait for one slice at most.

use std::sync::atomic::Ordering;

use larder_core::{ErrorKind, Result};
use sqlx::Row as _;

use crate::{error::from_driver, table::SqliteStorage};

/// The least row id.
pub(crate) const FIRST: i64 = i64::MIN;
/// How many rows a slice has.
const SLICE: u32 = 1_000;
/// How many slices a sweep reads at most, besides those of which a tenth has expired.
const SLICES: u32 = 100;

/// Removes all expired rows; returns how many.
pub(crate) async fn all(storage: &SqliteStorage) -> Result<u64> {
    let (mut purged, mut next) = (0, Some(FIRST));
    while let Some(from) = next {
        let removed;
        (removed, next) = slice(storage, from).await?;
        purged += removed;
    }
    Ok(purged)
}

/// Removes expired rows from where the last sweep ended up to the end of the table, or as far as a sweep
/// goes; returns how many. Slices with many expired rows do not count, so however fast rows expire, they are
/// not more than about a tenth of the table.
pub(crate) async fn sweep(storage: &SqliteStorage) -> Result<u64> {
    let (mut purged, mut read) = (0, 0);
    while read < SLICES {
        let from = storage.swept.load(Ordering::Relaxed);
        let outcome = slice(storage, from).await;
        if outcome.as_ref().is_err_and(|error| error.kind() == ErrorKind::Corrupt) {
            // The next sweep leaves the damaged page behind it.
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

/// Removes the expired rows of the slice that begins at this row id; returns how many, and where the next
/// one begins unless this was the last.
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
