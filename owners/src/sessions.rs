//! The sessions that the index names: which exist, and how they are deleted.

use std::collections::HashSet;

use larder_core::{Change, Condition, ErrorKind, Key, Result, Version};

use crate::{entry::Entry, owners::Owners};

/// The number of sessions that are read at a time.
const CHUNK: usize = 256;

/// Finds sessions in the store of the index. See the [crate's documentation](crate) for an example.
pub trait Lookup {
    /// Reads the sessions that are noted at `keys`. Returns one result per key, in the same order: the session,
    /// or `None` if it does not exist or is not `owner`'s.
    ///
    /// The futures of [`Owners`] are `Send` if this one is.
    fn find(&self, owner: &str, keys: &[Key]) -> impl Future<Output = Vec<Result<Option<Found>>>>;
}

/// A session of an owner, as it was read.
#[derive(Clone, Debug)]
pub struct Found {
    /// The key of the session. It differs from the noted one if the session has moved.
    pub key: Key,
    /// Its version.
    pub version: Option<Version>,
}

impl Owners {
    /// Returns the sessions of `owner` that exist, each with its entry, in the order of their creation. Reads
    /// the index, and then the sessions.
    ///
    /// # Errors
    ///
    /// Those of reading, and of `lookup`.
    pub async fn sessions(&self, owner: &str, lookup: &impl Lookup) -> Result<Vec<(Key, Entry)>> {
        let entries = self.entries(owner).await?;
        self.existing(owner, entries, lookup).await
    }

    async fn existing(
        &self,
        owner: &str,
        mut entries: Vec<Entry>,
        lookup: &impl Lookup,
    ) -> Result<Vec<(Key, Entry)>> {
        let mut sessions = Vec::new();
        entries.sort_by(|one, other| (one.created(), one.key()).cmp(&(other.created(), other.key())));
        // A session that has moved can be noted at both keys.
        let mut seen = HashSet::new();
        for entries in entries.chunks(CHUNK) {
            for (entry, found) in entries.iter().zip(lookup.find(owner, &keys(entries)).await) {
                if let Some(found) = found?
                    && seen.insert(found.key.clone())
                {
                    sessions.push((found.key, entry.clone()));
                }
            }
        }
        Ok(sessions)
    }

    /// Deletes the sessions of `owner` whose key `which` accepts. Returns their number.
    ///
    /// A session that is saved at the same time is deleted too, or the save fails with a conflict, or it has
    /// noted the session again, so that the next call finds it.
    ///
    /// # Errors
    ///
    /// The first error, after the other sessions were deleted. A second call continues.
    pub async fn delete(
        &self,
        owner: &str,
        which: impl Fn(&Key) -> bool,
        lookup: &impl Lookup,
    ) -> Result<u64> {
        let (entries, outcome) = self.readable(owner).await?;
        let deleted = self.delete_noted(owner, entries, which, lookup).await;
        outcome.and(deleted)
    }

    /// Deletes the oldest sessions of `owner`, so that at most `most` remain, and at least one. Call it after a session
    /// was written. The order is the same for every caller, so simultaneous sign-ins do not delete each other.
    pub(crate) async fn limit(&self, owner: &str, most: usize, lookup: &impl Lookup) -> Result<u64> {
        let entries = self.entries(owner).await?;
        if entries.len() <= most {
            return Ok(0);
        }
        let sessions = self.existing(owner, entries, lookup).await?;
        let excess = sessions.len().saturating_sub(most.max(1));
        let oldest = sessions.into_iter().take(excess).map(|(_, entry)| entry).collect();
        self.delete_noted(owner, oldest, |_| true, lookup).await
    }

    /// Deletes the sessions of these entries, and then removes the entries.
    ///
    /// A session is deleted at the version that was read, after its entry was read. So a save that has noted the
    /// session before the entry was read fails, or has come first and is deleted. A later note has a new stamp,
    /// and its entry stays.
    async fn delete_noted(
        &self,
        owner: &str,
        mut waiting: Vec<Entry>,
        which: impl Fn(&Key) -> bool,
        lookup: &impl Lookup,
    ) -> Result<u64> {
        let mut deleted = 0;
        let mut obsolete = Vec::new();
        let mut outcome = Ok(());
        while !waiting.is_empty() {
            let entries = waiting.split_off(waiting.len().saturating_sub(CHUNK));
            let (mut named, mut changes) = (Vec::new(), Vec::new());
            for (entry, found) in entries.iter().zip(lookup.find(owner, &keys(&entries)).await) {
                match found {
                    Ok(Some(found)) if !which(&found.key) => {}
                    Ok(Some(found)) => {
                        let condition = found.version.map_or(Condition::Present, Condition::At);
                        changes.push(Change::delete(found.key).on(condition));
                        named.push(entry);
                    }
                    // Otherwise the session may be about to be written.
                    Ok(None) if entry.is_settled() => obsolete.push(entry.clone()),
                    Ok(None) => {}
                    Err(error) => outcome = outcome.and(Err(error)),
                }
            }
            let applied = self.store.apply(changes).await;
            for (entry, applied) in named.into_iter().zip(applied) {
                match applied {
                    Ok(_) => {
                        deleted += 1;
                        obsolete.push(entry.clone());
                    }
                    // It has changed: read it again.
                    Err(error) if error.kind() == ErrorKind::Conflict => waiting.push(entry.clone()),
                    Err(error) => outcome = outcome.and(Err(error)),
                }
            }
        }
        let removed = self.remove(owner, &obsolete).await;
        outcome.and(removed).map(|()| deleted)
    }
}

fn keys(entries: &[Entry]) -> Vec<Key> {
    entries.iter().map(|entry| entry.key().clone()).collect()
}
