//! Leases: exclusive work on a key, across tasks and processes.
//!
//! A lease is an entry that its holder writes on the condition that it is absent, and that expires unless the
//! holder renews it. It needs only a storage with compare-and-swap and expiry. The store's clock decides when
//! a lease ends.
//!
//! # Layout
//!
//! Two entries per key, with the prefix of [`Leases`] (default: `lease:`):
//!
//! | entry | value | lives |
//! |---|---|---|
//! | `<prefix>held:<key>` | `{"holder":"<32 hexadecimal digits>","token":7}` | the time to live |
//! | `<prefix>token:<key>` | `{"token":7}`, the last token drawn | permanently |
//!
//! The word after the prefix separates them: the lease of one key is never the counter of another. Two
//! prefixes in one store are separate if neither starts with the other.
//!
//! Every acquisition draws its own `holder`, and `token` is absent (`null`) until the lease is complete. So
//! no two writes have equal values, and a store that uses the value as the version distinguishes them too. A
//! renewal touches the entry at the version of its last write: the value stays, and the entry of another
//! holder is not extended. Values are compared as JSON, never as bytes, because some stores reorder the
//! members.

mod acquire;
mod backoff;
mod claim;
mod entry;
mod guard;
mod hold;
mod leases;
mod renewal;

pub use self::{guard::Lease, leases::Leases};
