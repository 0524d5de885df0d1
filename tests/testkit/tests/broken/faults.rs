//! The faults, by topic.

mod batches;
mod concurrency;
mod conditional_changes;
mod conditions;
mod damage;
mod expiry;
mod fencing;
mod keys;
mod listings;
mod locations;
mod mixed_batches;
mod ordered_listings;
mod outcomes;
mod read_options;
mod values;

use crate::Fault;

/// Returns every fault, with the laws that must catch it.
pub(crate) fn faults() -> Vec<Fault> {
    [
        values::faults(),
        keys::faults(),
        expiry::faults(),
        read_options::faults(),
        conditions::faults(),
        conditional_changes::faults(),
        batches::faults(),
        mixed_batches::faults(),
        listings::faults(),
        ordered_listings::faults(),
        damage::faults(),
        locations::faults(),
        concurrency::faults(),
        fencing::faults(),
        outcomes::faults(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Returns correct storages with more abilities than a memory store, and the laws that must hold on them.
pub(crate) fn correct() -> Vec<Fault> {
    vec![ordered_listings::correct(), damage::correct(), outcomes::correct()]
}
