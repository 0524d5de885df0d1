//! The operations on sessions, for every version of tower-sessions.

use larder_core::{
    Bytes, Condition, DeleteOptions, Error, ErrorKind, Key, Operation, ReadOptions, Result, Version,
    WriteOptions, Written,
};
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::{
    LarderStore,
    error::Failure,
    stored::{self, Session, Stored},
};

/// A place for a session in the storage.
pub(crate) struct Place<'a> {
    pub(crate) key: Key,
    /// The id in the stored value. `None` if the key is the hash of the id.
    pub(crate) id: Option<&'a str>,
}

impl LarderStore {
    /// Writes a new session. Returns whether the id was free.
    pub(crate) async fn insert(&self, id: &str, session: &Session<'_>) -> Result<bool, Failure> {
        let place = self.place(id)?;
        let value = self.encode(&place, session)?;
        self.write(&place, value, session, Condition::Absent).await
    }

    /// Replaces a session. Fails if it does not exist.
    pub(crate) async fn replace(&self, id: &str, session: &Session<'_>) -> Result<(), Failure> {
        let (place, old_place) = (self.place(id)?, self.old_place(id)?);
        let value = self.encode(&place, session)?;
        // Most often, the entry is as this process has seen it last.
        if let Some(version) = self.seen.get(&place.key)
            && self.write(&place, value.clone(), session, Condition::At(version)).await?
        {
            return Ok(());
        }
        // If an attempt fails, another request has changed the entry.
        loop {
            let (version, old) = match (self.look(&place).await?, &old_place) {
                (Some((Stored::Session(..), version)), _) => (version, None),
                (_, None) => return Err(self.gone()),
                (Some((Stored::Moving, version)), old) => (version, old.as_ref()),
                (None, old) => match self.announce(&place).await? {
                    Some(version) => (version, old.as_ref()),
                    None => continue,
                },
            };
            if let Some(old) = old
                && self.look(old).await?.is_none()
            {
                if self.withdraw(&place, version).await? {
                    return Err(self.gone());
                }
                continue;
            }
            if self.write(&place, value.clone(), session, Condition::At(version)).await? {
                if let Some(old) = old {
                    self.delete(old).await?;
                }
                return Ok(());
            }
        }
    }

    /// Returns a session.
    pub(crate) async fn find(&self, id: &str) -> Result<Option<Session<'static>>, Failure> {
        let place = self.place(id)?;
        let found = self.session(&place).await?;
        let Some(old) = self.old_place(id)?.filter(|_| found.is_none()) else { return Ok(found) };
        match self.session(&old).await? {
            // Another request may have moved the session between the two reads.
            None => self.session(&place).await,
            found => Ok(found),
        }
    }

    /// Deletes a session from each of its places.
    pub(crate) async fn remove(&self, id: &str) -> Result<(), Failure> {
        // The order matters: see `announce`.
        if let Some(old) = self.old_place(id)? {
            self.delete(&old).await?;
        }
        self.delete(&self.place(id)?).await
    }

    /// Deletes the expired sessions.
    pub(crate) async fn purge(&self) -> Result<(), Failure> {
        self.store.purge_expired().await?;
        Ok(())
    }

    /// Returns the error for a new session of which every tried id was taken.
    pub(crate) fn no_free_id(&self) -> Failure {
        self.conflict("every id that was tried for the new session is taken")
    }

    /// Announces in its new place that a session is moving there, unless the place is taken. Returns the version of
    /// the announcement.
    ///
    /// A move has four steps: write the announcement, check that the session is still in its old place, replace the
    /// announcement by the session, and delete the session from its old place. A deletion deletes the session
    /// from its old place first and from the new one last. So if the second step finds the session, no deletion
    /// had ended before the announcement, and one that ends later removes the announcement too. Then the third
    /// step fails, and the deleted session does not return. A move that ends after any of its steps leaves the
    /// session in at least one of its places, because an announcement alone is not a session.
    async fn announce(&self, place: &Place<'_>) -> Result<Option<Version>, Failure> {
        let options = WriteOptions::new().expiry(stored::ANNOUNCED_FOR).condition(Condition::Absent);
        match held(self.store.write_with(&place.key, stored::announcement()?, &options).await)? {
            Some(Written { version, .. }) => Ok(Some(self.known(version)?)),
            None => Ok(None),
        }
    }

    /// Deletes the announcement of a move. Returns whether it was still there.
    async fn withdraw(&self, place: &Place<'_>, announced: Version) -> Result<bool, Failure> {
        let options = DeleteOptions::new().condition(Condition::At(announced));
        Ok(held(self.store.delete_with(&place.key, &options).await)?.is_some())
    }

    fn encode(&self, place: &Place<'_>, session: &Session<'_>) -> Result<Bytes, Failure> {
        let value = stored::encode(place.id, session).map_err(Failure::encoding)?;
        let (size, max) = (value.len(), self.max_size);
        if size > max {
            let message = format!(
                "the session has {size} bytes, but the maximum is {max}: store less in it, or set `with_max_size`"
            );
            return Err(self.name(Error::new(ErrorKind::TooLarge, message), Operation::Write).into());
        }
        Ok(value)
    }

    /// Returns whether the condition held. If so, the session was written.
    async fn write(
        &self,
        place: &Place<'_>,
        value: Bytes,
        session: &Session<'_>,
        condition: Condition,
    ) -> Result<bool, Failure> {
        // Computed for each attempt: the session expires at its date, however long the attempts take.
        let options = WriteOptions::new().expiry(session.expiry()).condition(condition);
        let written = held(self.store.write_with(&place.key, value, &options).await)?;
        let held = written.is_some();
        self.seen.set(&place.key, written.and_then(|written| written.version));
        Ok(held)
    }

    async fn delete(&self, place: &Place<'_>) -> Result<(), Failure> {
        self.seen.set(&place.key, None);
        self.store.delete_with(&place.key, &DeleteOptions::new()).await?;
        Ok(())
    }

    /// Returns the session in this place.
    async fn session(&self, place: &Place<'_>) -> Result<Option<Session<'static>>, Failure> {
        Ok(self.read(place).await?.and_then(|(stored, _)| stored.into_session()))
    }

    /// Returns the kind of the value in this place.
    async fn look(&self, place: &Place<'_>) -> Result<Option<(Stored<IgnoredAny>, Version)>, Failure> {
        self.read(place).await
    }

    async fn read<T: DeserializeOwned>(
        &self,
        place: &Place<'_>,
    ) -> Result<Option<(Stored<T>, Version)>, Failure> {
        let Some(entry) = self.store.read_with(&place.key, &ReadOptions::new()).await? else {
            return Ok(None);
        };
        let stored = stored::decode(&entry.value, place.id)
            .map_err(|error| self.store.name_entry(self.name(error, Operation::Read), &place.key))?;
        let version = self.known(entry.version)?;
        if let Stored::Session(..) = stored {
            self.seen.set(&place.key, Some(version.clone()));
        }
        Ok(Some((stored, version)))
    }

    /// Returns the version. A storage with compare-and-swap returns one for each entry.
    fn known(&self, version: Option<Version>) -> Result<Version> {
        version.ok_or_else(|| self.name(Error::unsupported(), Operation::Write))
    }

    fn gone(&self) -> Failure {
        self.conflict("the session is gone: it was deleted or has expired, and nothing was saved")
    }

    fn conflict(&self, message: &'static str) -> Failure {
        self.name(Error::new(ErrorKind::Conflict, message), Operation::Write).into()
    }

    fn name(&self, error: Error, operation: Operation) -> Error {
        error.with_adapter(self.store.info().name).with_operation(operation)
    }
}

/// Returns the result of a change, or `None` if its condition did not hold.
fn held<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Err(error) if error.kind() == ErrorKind::Conflict => Ok(None),
        result => result.map(Some),
    }
}
