//! The stored data: a number of sessions of a given size.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use bytes::Bytes;
use larder_core::Key;
use serde::{Deserialize, Serialize};

/// The time to live of every write.
pub const TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// The prefix of all keys.
pub const PREFIX: &str = "chat:";

/// The number of entries, and their size in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Data {
    pub keys: u64,
    pub size: usize,
}

/// A session. The stored value is its JSON encoding.
#[derive(Clone, Serialize, Deserialize)]
pub struct Chat {
    pub pizzas: u64,
    pub notes: String,
}

impl Chat {
    /// Changes the session, but not its length.
    pub fn change(&mut self) {
        self.pizzas = 1_000_000 + (self.pizzas + 1) % 1_000_000;
    }
}

impl Data {
    /// A session whose encoding has [`size`](Self::size) bytes.
    pub fn chat(self) -> Chat {
        let empty = Chat { pizzas: 1_000_000, notes: String::new() };
        let frame = serde_json::to_vec(&empty).unwrap().len();
        Chat { notes: "x".repeat(self.size - frame), ..empty }
    }

    pub fn value(self) -> Bytes {
        serde_json::to_vec(&self.chat()).unwrap().into()
    }
}

pub fn key(number: u64) -> Key {
    Key::new(format!("{PREFIX}{number}")).unwrap()
}

/// A version that is not in use.
pub fn fresh() -> i64 {
    static LAST: AtomicI64 = AtomicI64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed)
}

/// The deadline of an entry that is written now, in Unix milliseconds.
pub fn deadline() -> i64 {
    larder_core::clock::unix_millis() + TTL.as_millis() as i64
}
