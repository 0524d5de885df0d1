//! Random ids, unique across processes.
//!
//! The operating system generates each id. A generator in the process would be faster by a fraction of
//! a microsecond. But `fork` and a snapshot of a virtual machine copy its state, and both copies would then
//! generate the same ids.

use std::{
    collections::hash_map::RandomState,
    hash::BuildHasher,
    process,
    sync::atomic::{AtomicU64, Ordering},
    time::SystemTime,
};

/// Returns 64 random bits. Two ids are equal with a probability of 2^-64.
#[must_use]
pub fn id64() -> u64 {
    #[cfg(feature = "simulation")]
    if let Some(id) = crate::simulation::id64() {
        return id;
    }
    getrandom::u64().unwrap_or_else(|_| makeshift())
}

/// Returns `count` ids as [`id64`] does, with one call to the operating system. 64 calls would take 25 µs: 3 % of
/// the time of a batch that SQLite syncs to the disk.
#[must_use]
pub fn id64s(count: usize) -> Vec<u64> {
    #[cfg(feature = "simulation")]
    if let Some(ids) = (0..count).map(|_| crate::simulation::id64()).collect() {
        return ids;
    }
    let mut bytes = vec![[0; 8]; count];
    match getrandom::fill(bytes.as_flattened_mut()) {
        Ok(()) => bytes.into_iter().map(u64::from_ne_bytes).collect(),
        Err(_) => bytes.iter().map(|_| makeshift()).collect(),
    }
}

/// Returns 128 random bits. Two ids are equal with a probability of 2^-128.
#[must_use]
pub fn id128() -> u128 {
    u128::from(id64()) << 64 | u128::from(id64())
}

/// Returns an id without random numbers of the operating system: a keyed hash of the process, the time and
/// a counter.
fn makeshift() -> u64 {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let drawn = COUNT.fetch_add(1, Ordering::Relaxed);
    RandomState::new().hash_one((process::id(), SystemTime::now(), drawn))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_differ() {
        let long: HashSet<_> = (0..10_000).map(|_| id128()).collect();
        assert_eq!(long.len(), 10_000);
        // Each half is unique too.
        let short: HashSet<_> = long.iter().flat_map(|id| [*id as u64, (*id >> 64) as u64]).collect();
        assert_eq!(short.len(), 20_000);
    }

    #[test]
    fn makeshift_ids_differ() {
        let ids: HashSet<_> = (0..10_000).map(|_| makeshift()).collect();
        assert_eq!(ids.len(), 10_000);
    }
}
