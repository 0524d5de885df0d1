//! The code in "Coming from grammY", and tests of the document's statements.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test fails by panicking.

use larder::{Key, Store};
use larder_memory::MemoryStorage;
use larder_session::{Result, Sessions};
use serde::{Deserialize, Serialize};

mod basics;
mod concurrency;
mod data;
mod enhancements;
mod lazy;
mod migration;
mod multi;
mod named_values;

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Chat {
    pizza_count: u32,
}

fn memory() -> Store {
    Store::from(MemoryStorage::new())
}

fn chats(storage: &Store) -> Sessions<Chat> {
    Sessions::new(storage.clone()).unwrap()
}

/// The stored value under `key`, as text.
async fn stored(storage: &Store, key: &str) -> Option<String> {
    let record = storage.read(key).await.unwrap()?;
    Some(String::from_utf8(record.value.to_vec()).unwrap())
}
