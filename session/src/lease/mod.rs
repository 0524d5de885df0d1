//! Leases: work on a key that must not be done twice at the same time, by any task or process.
//!
//! A lease is an entry in the store that one holder writes on the condition that it is absent, and
//! that expires unless the holder renews it. Nothing is needed but a storage with compare-and-swap
//! and expiry, and the store's clock decides when a lease ends.
//!
//! # Layout
//!
//! Two entries per key, with the prefix of [`Leases`] (`lease:` unless it is set):
//!
//! | entry | value | lives |
//! |---|---|---|
//! | `<prefix>held:<key>` | `{"holder":"<32 hexadecimal digits>","token":7}` | the time to live |
//! | `<prefix>token:<key>` | `{"token":7}`, the last number drawn | for ever |
//!
//! The word after the prefix keeps them apart: the lease of a key is never the counter of another,
//! whatever the keys are. Two prefixes in one store are separate as long as neither begins with the
//! other.
//!
//! Every acquisition draws its own `holder`, and `token` is absent (`null`) until the lease is complete.
//! So no two writes have equal contents, and a store whose versions are contents tells them apart as
//! well as one whose versions are unique. A renewal touches the entry at the version of its last write:
//! the value stays, and the entry of another holder is not extended. Values are compared as JSON, never
//! as bytes: some stores reorder the members.

mod acquire;
mod backoff;
mod claim;
mod entry;
mod guard;
mod hold;
mod leases;
mod renewal;

pub use self::{guard::Lease, leases::Leases};
