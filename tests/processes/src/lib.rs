//! The stores that several processes can share, by URL, and the worker process that uses them.

mod stores;

use serde::{Deserialize, Serialize};

pub use crate::stores::Stores;

/// What the worker's `write` keeps under each key: damage and mixtures of two writes show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Counts the writes of the key.
    pub number: u64,
    /// The number again, many times over, so that the value spans pages.
    pub echo: Vec<u64>,
}

impl Note {
    /// The note with that number; its length varies with it.
    #[must_use]
    pub fn new(number: u64) -> Self {
        let length = usize::try_from(number % 61).unwrap_or_default() * 20 + 1;
        Self { number, echo: vec![number; length] }
    }

    /// Whether the note is as it was made.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        *self == Self::new(self.number)
    }
}

/// What the worker's `lock` keeps beside a lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guarded {
    /// The sum so far.
    pub sum: u64,
    /// The token of the lease under which it was last written.
    pub token: u64,
}
