//! Damage that is hidden, or that affects other entries.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
};

use futures_util::StreamExt;
use larder_core::{
    Bytes, Entry, EntryStream, Error, ErrorKind, Key, ListOptions, ReadOptions, Record, Result, Store,
    WriteOptions, Written, async_trait,
};

use crate::{Fault, fault, twist::Twist};

/// How a damaged entry is reported.
#[derive(Clone, Copy, PartialEq)]
enum Looks {
    Damaged,
    Absent,
    /// As damaged, together with every entry that is read in the same call.
    Contagious,
}

struct Damageable {
    looks: Looks,
    damaged: Mutex<HashSet<Key>>,
}

impl Damageable {
    fn new(looks: Looks) -> Self {
        Self { looks, damaged: Mutex::default() }
    }

    fn is_damaged(&self, key: &Key) -> bool {
        self.damaged.lock().unwrap().contains(key)
    }
}

fn corrupt() -> Error {
    Error::new(ErrorKind::Corrupt, "the entry is damaged")
}

#[async_trait]
impl Twist for Damageable {
    fn damage(&self, key: &Key) -> bool {
        self.damaged.lock().unwrap().insert(key.clone())
    }

    async fn read(&self, inner: &Store, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
        match self.looks {
            Looks::Absent if self.is_damaged(key) => Ok(None),
            _ if self.is_damaged(key) => Err(corrupt()),
            _ => inner.read_with(key, options).await,
        }
    }

    async fn read_many(
        &self,
        inner: &Store,
        keys: &[Key],
        options: &ReadOptions,
    ) -> Vec<Result<Option<Record>>> {
        let mut results = Vec::new();
        for key in keys {
            results.push(self.read(inner, key, options).await);
        }
        if self.looks == Looks::Contagious && results.iter().any(Result::is_err) {
            results = keys.iter().map(|_| Err(corrupt())).collect();
        }
        results
    }

    async fn write(&self, inner: &Store, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        self.damaged.lock().unwrap().remove(key);
        inner.write_with(key, value, options).await
    }

    fn list(self: Arc<Self>, inner: Store, options: ListOptions) -> EntryStream {
        let values = options.values;
        let look = move |entry: Result<Entry>| match entry {
            Ok(entry) if values && self.is_damaged(&entry.key) => Err(corrupt()),
            entry => entry,
        };
        inner.list(options).map(look).boxed()
    }
}

pub(crate) fn faults() -> Vec<Fault> {
    vec![
        fault(
            "reports damaged entries as absent",
            || Damageable::new(Looks::Absent),
            &["a_damaged_entry_of_read_many_fails_alone", "a_damaged_entry_fails_alone"],
        ),
        fault(
            "fails as a whole if one entry is damaged",
            || Damageable::new(Looks::Contagious),
            &["a_damaged_entry_of_read_many_fails_alone"],
        ),
    ]
}

/// Returns a correct storage, and the laws that must hold on it.
pub(crate) fn correct() -> Fault {
    fault(
        "can be damaged",
        || Damageable::new(Looks::Damaged),
        &["a_damaged_entry_of_read_many_fails_alone", "a_damaged_entry_fails_alone"],
    )
}
