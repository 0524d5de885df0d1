//! The faults, by what they are about.

mod batches;
mod concurrency;
mod conditions;
mod expiry;
mod fencing;
mod keys;
mod listings;
mod values;

use crate::Fault;

/// Every fault, with the laws that must find it.
pub(crate) fn faults() -> Vec<Fault> {
    [
        values::faults(),
        keys::faults(),
        expiry::faults(),
        conditions::faults(),
        batches::faults(),
        listings::faults(),
        concurrency::faults(),
        fencing::faults(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
