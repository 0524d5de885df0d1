//! The index from owners to sessions.

use std::sync::Arc;

use larder_core::{Error, ErrorKind, Expiry, Key, ReadOptions, Record, Result};
use larder_owners::{Deadline, Entry, Found, Lookup, Owners};

use crate::{moves::Marker, shared::Shared};

pub(crate) type TextOf<T> = Arc<dyn Fn(&T) -> Option<String> + Send + Sync>;

pub(crate) struct Index<T> {
    pub(crate) owners: Owners,
    pub(crate) owner: TextOf<T>,
    pub(crate) device: Option<TextOf<T>>,
    /// The maximum number of sessions per owner.
    pub(crate) most: Option<usize>,
}

/// The data of a session that the index contains.
pub(crate) struct Note {
    owner: String,
    device: Option<String>,
}

/// A stored session, as the index contains it.
pub(crate) struct Indexed {
    pub(crate) note: Option<Note>,
    pub(crate) deadline: Deadline,
}

impl Indexed {
    /// Without a session, or without an owner.
    pub(crate) const NONE: Self = Self { note: None, deadline: Deadline::NEVER };

    pub(crate) fn owner(&self) -> Option<&str> {
        self.note.as_ref().map(|note| note.owner.as_str())
    }
}

/// The rest of a save, after the session was written.
#[derive(Default)]
pub(crate) struct AfterSave {
    /// The former owner, and the entry that was read before the write.
    former: Option<(String, Entry)>,
    /// The owner for whom the session is new.
    signed_in: Option<String>,
}

impl<T> Index<T> {
    /// Returns the note for a session. `None` if it has no owner.
    pub(crate) fn note_of(&self, value: &T) -> Option<Note> {
        let owner = (self.owner)(value)?;
        Some(Note { owner, device: self.device.as_ref().and_then(|device| device(value)) })
    }

    /// Notes a session as new. Call it before each attempt to write the session.
    pub(crate) async fn add(&self, note: &Note, key: &Key, expiry: Expiry) -> Result<()> {
        self.owners.add(&note.owner, key, Deadline::after(expiry), note.device.as_deref()).await
    }

    async fn touch(&self, note: &Note, key: &Key, from: Deadline, expiry: Expiry) -> Result<()> {
        let to = Deadline::after(expiry);
        self.owners.touch(&note.owner, key, from, to, note.device.as_deref()).await
    }
}

impl<T> Shared<T> {
    /// Returns the note for a session, if there is an index.
    pub(crate) fn note_of(&self, value: &T) -> Option<Note> {
        self.index.as_ref()?.note_of(value)
    }

    /// Returns the options for a read that precedes a save: the index needs the TTL.
    pub(crate) fn reading(&self) -> ReadOptions {
        let mut options = ReadOptions::new();
        options.ttl = self.index.is_some() && self.store().info().expiry;
        options
    }

    /// Returns what the index contains of a session that was read without its TTL. It has not ended yet, so now
    /// is not later than its deadline.
    pub(crate) async fn indexed(&self, key: &Key, stored: Option<&[u8]>) -> Indexed {
        // Without an index, do not decode.
        let (Some(index), Some(stored)) = (&self.index, stored) else {
            return Indexed::NONE;
        };
        let decoded = self.decode(key, stored).await.ok().flatten();
        let note = decoded.and_then(|session| index.note_of(&session.value));
        Indexed { note, deadline: Deadline::after(Expiry::after_millis(0)) }
    }

    /// Notes the session at `key`, which `has` was read of, before it is written. Without `note` it is deleted, or
    /// has no owner any more.
    pub(crate) async fn before_save(
        &self,
        has: &Indexed,
        note: Option<&Note>,
        key: &Key,
        expiry: Expiry,
    ) -> Result<AfterSave> {
        let mut after = AfterSave::default();
        let Some(index) = &self.index else {
            return Ok(after);
        };
        let owner = note.map(|note| note.owner.as_str());
        if let Some(former) = has.owner().filter(|former| Some(*former) != owner) {
            // An entry that cannot be read stays until it expires.
            let entry = index.owners.entry(former, key).await.inspect_err(warn).unwrap_or_default();
            after.former = entry.map(|entry| (former.to_owned(), entry));
        }
        match note {
            Some(note) if has.owner() == owner => index.touch(note, key, has.deadline, expiry).await?,
            Some(note) => {
                index.add(note, key, expiry).await?;
                after.signed_in = Some(note.owner.clone());
            }
            None => {}
        }
        Ok(after)
    }

    /// Notes the session again after a conflict: in the meantime, its entry may have been removed.
    pub(crate) async fn note_again(&self, note: Option<&Note>, key: &Key, expiry: Expiry) -> Result<()> {
        match (&self.index, note) {
            (Some(index), Some(note)) => index.add(note, key, expiry).await,
            _ => Ok(()),
        }
    }

    /// Notes a session before it is touched.
    pub(crate) async fn before_touch(&self, has: &Indexed, key: &Key, expiry: Expiry) -> Result<()> {
        match (&self.index, &has.note) {
            (Some(index), Some(note)) => index.touch(note, key, has.deadline, expiry).await,
            _ => Ok(()),
        }
    }

    /// Removes the entry of the former owner, and deletes the oldest sessions of the new one. Only logs errors:
    /// the session is saved, and the next sign-in deletes them.
    pub(crate) async fn after_save(&self, after: AfterSave, key: &Key) {
        let Some(index) = &self.index else {
            return;
        };
        if let Some((former, entry)) = after.former {
            index.owners.remove(&former, &[entry]).await.inspect_err(warn).unwrap_or_default();
        }
        if let (Some(owner), Some(most)) = (after.signed_in, index.most) {
            index.owners.limit(&owner, most, key, self).await.inspect_err(warn).unwrap_or_default();
        }
    }

    async fn find_owned(&self, owner: &str, key: &Key, record: Option<Record>) -> Result<Option<Found>> {
        let Some(mut record) = record else {
            return Ok(None);
        };
        let mut key = key.clone();
        match Marker::parse(&record.value) {
            Ok(None) => {}
            Ok(Some(_)) => {
                let found = self.resolver.find(&key).await?;
                let Some(there) = found.record else {
                    return Ok(None);
                };
                (key, record) = (found.key, there);
            }
            // A damaged marker does not say where the session is.
            Err(_) => return Ok(Some(Found { key, version: record.version })),
        }
        let is_theirs = match self.decode(&key, &record.value).await {
            Ok(session) => {
                let note = session.and_then(|session| self.note_of(&session.value));
                note.is_some_and(|note| note.owner == owner)
            }
            // Its owner cannot be read, but was noted.
            Err(error) if matches!(error.kind(), ErrorKind::Codec | ErrorKind::Corrupt) => true,
            Err(error) => return Err(error),
        };
        Ok(is_theirs.then(|| Found { key, version: record.version }))
    }
}

impl<T> Lookup for Shared<T> {
    async fn find(&self, owner: &str, keys: &[Key]) -> Vec<Result<Option<Found>>> {
        let records = self.store().read_many(keys, &ReadOptions::new()).await;
        let mut found = Vec::new();
        for (key, record) in keys.iter().zip(records) {
            found.push(match record {
                Ok(record) => self.find_owned(owner, key, record).await,
                Err(error) => Err(error),
            });
        }
        found
    }
}

fn warn(error: &Error) {
    tracing::warn!(kind = %error.kind(), %error, "the index of owners could not be updated after a session was saved");
}
