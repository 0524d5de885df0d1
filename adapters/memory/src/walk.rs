//! Listings, one shard at a time.

use std::{time::Duration, vec};

use larder_core::{Entry, Key, Operation, Result};

use crate::store::Store;

/// How far a listing has come.
///
/// A key that stays is in its shard when the listing comes there, so none is missed, and none comes
/// twice. No lock is held between two steps.
pub(crate) struct Walk<'a> {
    store: &'a Store,
    prefix: &'a str,
    operation: Operation,
    next_shard: usize,
    found: vec::IntoIter<(Key, Option<Duration>)>,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(store: &'a Store, prefix: &'a str, operation: Operation) -> Self {
        Self { store, prefix, operation, next_shard: 0, found: Vec::new().into_iter() }
    }

    /// The next key; `None` at the end.
    pub(crate) fn next_key(&mut self) -> Result<Option<Key>> {
        loop {
            // A listing cut short by a close must not look complete.
            self.store.check_open(self.operation)?;
            // It may have expired since the shard was looked through.
            let now = self.store.now();
            if let Some((key, _)) =
                self.found.find(|(_, deadline)| deadline.is_none_or(|deadline| now < deadline))
            {
                return Ok(Some(key));
            }
            match self.store.keys_of(self.next_shard, self.prefix) {
                Some(keys) => self.found = keys.into_iter(),
                None => return Ok(None),
            }
            self.next_shard += 1;
        }
    }

    /// The next entry; `None` at the end.
    pub(crate) fn next_entry(&mut self) -> Result<Option<Entry>> {
        while let Some(key) = self.next_key()? {
            if let Some((record, expiry)) = self.store.get_with_expiry(&key) {
                return Ok(Some(Entry::new(key, record, expiry)));
            }
        }
        Ok(None)
    }
}
