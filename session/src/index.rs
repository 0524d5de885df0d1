//! The index from owners to sessions.

use std::sync::Arc;

use larder_core::{ErrorKind, Expiry, Key, ReadOptions, Record, Result};
use larder_owners::{Deadline, Found, Indexed, Lookup, Owner, Owners, Saving};

use crate::{moves::Marker, shared::Shared};

pub(crate) type TextOf<T> = Arc<dyn Fn(&T) -> Option<String> + Send + Sync>;

pub(crate) struct Index<T> {
    pub(crate) owners: Owners,
    pub(crate) owner: TextOf<T>,
    pub(crate) device: Option<TextOf<T>>,
}

impl<T> Index<T> {
    /// Returns the owner of a session, if it has one.
    pub(crate) fn owner_of(&self, value: &T) -> Option<Owner> {
        let id = (self.owner)(value)?;
        Some(Owner { id, device: self.device.as_ref().and_then(|device| device(value)) })
    }
}

impl<T> Shared<T> {
    /// Returns the owner of a session, if it has one and there is an index.
    pub(crate) fn owner_of(&self, value: &T) -> Option<Owner> {
        self.index.as_ref()?.owner_of(value)
    }

    /// Returns the options for a read that precedes a save: the index needs the TTL.
    pub(crate) fn reading(&self) -> ReadOptions {
        let mut options = ReadOptions::new();
        options.ttl = self.index.is_some() && self.store().info().expiry;
        options
    }

    /// Returns the state of a session that was read without its TTL. It has not ended yet, so now is not later than
    /// its deadline.
    pub(crate) async fn indexed(&self, key: &Key, stored: Option<&[u8]>) -> Indexed {
        // Without an index, do not decode.
        let (Some(index), Some(stored)) = (&self.index, stored) else {
            return Indexed::NONE;
        };
        let decoded = self.decode(key, stored).await.ok().flatten();
        let owner = decoded.and_then(|session| index.owner_of(&session.value));
        Indexed { owner, deadline: Deadline::after(Expiry::after_millis(0)) }
    }

    /// Notes the session at `key` before it is saved: see [`Owners::before_save`].
    pub(crate) async fn before_save(&self, key: &Key, was: &Indexed, will: &Indexed) -> Result<Saving> {
        match &self.index {
            Some(index) => index.owners.before_save(key, was, will).await,
            None => Ok(Saving::default()),
        }
    }

    /// Notes the session again after a conflict: in the meantime, its entry may have been removed.
    pub(crate) async fn note_again(&self, owner: Option<&Owner>, key: &Key, expiry: Expiry) -> Result<()> {
        match (&self.index, owner) {
            (Some(index), Some(owner)) => index.owners.add(owner, key, Deadline::after(expiry)).await,
            _ => Ok(()),
        }
    }

    /// Notes a session before it is touched.
    pub(crate) async fn before_touch(&self, key: &Key, was: &Indexed, expiry: Expiry) -> Result<()> {
        match &self.index {
            Some(index) => index.owners.before_touch(key, was, Deadline::after(expiry)).await,
            None => Ok(()),
        }
    }

    /// Completes the index after a save: see [`Owners::after_save`].
    pub(crate) async fn after_save(&self, saving: Saving) {
        if let Some(index) = &self.index {
            index.owners.after_save(saving, self).await;
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
                let own = session.and_then(|session| self.owner_of(&session.value));
                own.is_some_and(|own| own.id == owner)
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
