//! The operations on sessions.

use larder_core::{
    Bytes, Condition, DeleteOptions, Error, ErrorKind, Expiry, Operation, ReadOptions, Result, Version,
    WriteOptions,
};
use larder_owners::{Deadline, Indexed};

use crate::{
    announcement,
    place::Place,
    seen::Live,
    sessions::{Session, Sessions},
};

/// A value in the place of a session.
enum Stored<S> {
    Session(S, Live),
    /// The announcement that a session is moving to this place.
    Moving(Version),
}

impl<D> Sessions<D> {
    /// Writes a new session. Returns whether the id was free; if not, nothing was written. `expiry` is called when the
    /// session is written.
    ///
    /// # Errors
    ///
    /// [`TooLarge`](ErrorKind::TooLarge) for a session above the maximum size; those of [`Session::encode`], and of
    /// the store.
    pub async fn insert<S: Session<Data = D>>(
        &self,
        id: &str,
        session: &S,
        expiry: impl Fn() -> Expiry,
    ) -> Result<bool> {
        let place = self.keys.place(id)?;
        let value = self.encode(session, place.id)?;
        let will = self.indexed(session.data(), expiry());
        let saving = self.owners.before_save(&place.key, &Indexed::NONE, &will).await?;
        if !self.write(&place, value, expiry(), Condition::Absent, will).await? {
            return Ok(false);
        }
        self.owners.after_save(saving, &self.finder::<S>()).await;
        Ok(true)
    }

    /// Replaces a session. Returns whether it existed; if not, nothing was written. `expiry` is called for each
    /// attempt.
    ///
    /// # Errors
    ///
    /// Those of [`insert`](Self::insert), and of [`Session::decode`] if another process has changed the entry.
    pub async fn replace<S: Session<Data = D>>(
        &self,
        id: &str,
        session: &S,
        expiry: impl Fn() -> Expiry,
    ) -> Result<bool> {
        let (place, old_place) = (self.keys.place(id)?, self.keys.old_place(id)?);
        let value = self.encode(session, place.id)?;
        // Most often, the entry is as this process has seen it last.
        let mut known = self.seen.get(&place.key);
        // If an attempt fails, another request has changed the entry.
        loop {
            let (live, old) = match known.take() {
                Some(live) => (live, None),
                None => match (self.read::<S>(&place).await?, &old_place) {
                    (Some(Stored::Session(_, live)), _) => (live, None),
                    (_, None) => return Ok(false),
                    (Some(Stored::Moving(version)), Some(old)) => (Live::announced(version), Some(old)),
                    (None, Some(old)) => match self.announce(&place).await? {
                        Some(version) => (Live::announced(version), Some(old)),
                        None => continue,
                    },
                },
            };
            let will = self.indexed(session.data(), expiry());
            let saving = self.owners.before_save(&place.key, &live.indexed, &will).await?;
            if let Some(old) = old
                && self.read::<S>(old).await?.is_none()
            {
                if self.withdraw(&place, live.version).await? {
                    return Ok(false);
                }
                continue;
            }
            if self.write(&place, value.clone(), expiry(), Condition::At(live.version), will).await? {
                if let Some(old) = old {
                    self.delete::<S>(old).await?;
                }
                self.owners.after_save(saving, &self.finder::<S>()).await;
                return Ok(true);
            }
        }
    }

    /// Returns a session.
    ///
    /// # Errors
    ///
    /// Those of the store, and of [`Session::decode`].
    pub async fn find<S: Session<Data = D>>(&self, id: &str) -> Result<Option<S>> {
        let place = self.keys.place(id)?;
        let found = self.session(&place).await?;
        let Some(old) = self.keys.old_place(id)?.filter(|_| found.is_none()) else { return Ok(found) };
        match self.session(&old).await? {
            // Another request may have moved the session between the two reads.
            None => self.session(&place).await,
            found => Ok(found),
        }
    }

    /// Sets the time to live of a session, if it exists.
    ///
    /// # Errors
    ///
    /// Those of the store; with owners also of [`Session::decode`].
    pub async fn touch<S: Session<Data = D>>(&self, id: &str, expiry: Expiry) -> Result<()> {
        // Both places: an announcement or an outdated session may be in the other one.
        for place in self.places(id)? {
            if self.have_owners() {
                self.touch_indexed::<S>(&place, expiry).await?;
            } else {
                self.store.touch(&place.key, expiry).await?;
            }
        }
        Ok(())
    }

    /// Deletes any value in the places of a session.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn remove<S: Session<Data = D>>(&self, id: &str) -> Result<()> {
        for place in self.places(id)? {
            self.delete::<S>(&place).await?;
        }
        Ok(())
    }

    /// Deletes the expired sessions, in stores that do not do it by themselves.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn purge(&self) -> Result<()> {
        self.store.purge_expired().await.map(drop)
    }

    /// Announces in its new place that a session is moving there, unless the place is taken. Returns the version of
    /// the announcement. See [`announcement`].
    async fn announce(&self, place: &Place<'_>) -> Result<Option<Version>> {
        let write = self.store.write(&place.key, announcement::new()?).expires_in(announcement::TIME_TO_LIVE);
        match held(write.if_absent().await)? {
            Some(written) => self.known(written.version).map(Some),
            None => Ok(None),
        }
    }

    /// Deletes the announcement of a move. Returns whether it was still there.
    async fn withdraw(&self, place: &Place<'_>, announced: Version) -> Result<bool> {
        Ok(held(self.store.delete(&place.key).if_at(announced).await)?.is_some())
    }

    /// Returns whether the condition held. If so, the session was written.
    async fn write(
        &self,
        place: &Place<'_>,
        value: Bytes,
        expiry: Expiry,
        condition: Condition,
        indexed: Indexed,
    ) -> Result<bool> {
        let options = WriteOptions::new().expiry(expiry).condition(condition);
        let written = held(self.store.write_with(&place.key, value, &options).await)?;
        let held = written.is_some();
        let version = written.and_then(|written| written.version);
        self.seen.set(&place.key, version.map(|version| Live { version, indexed }));
        Ok(held)
    }

    async fn touch_indexed<S: Session<Data = D>>(&self, place: &Place<'_>, expiry: Expiry) -> Result<()> {
        let mut known = self.seen.get(&place.key);
        loop {
            let mut live = match known.take() {
                Some(live) => live,
                None => match self.read::<S>(place).await? {
                    Some(Stored::Session(_, live)) => live,
                    Some(Stored::Moving(_)) | None => return Ok(()),
                },
            };
            let to = Deadline::after(expiry);
            self.owners.before_touch(&place.key, &live.indexed, to).await?;
            let touch = self.store.touch(&place.key, expiry).if_at(live.version.clone());
            // If the condition does not hold, another request has changed the session.
            if held(touch.await)?.is_some() {
                live.indexed.deadline = to;
                self.seen.set(&place.key, Some(live));
                return Ok(());
            }
        }
    }

    async fn delete<S: Session<Data = D>>(&self, place: &Place<'_>) -> Result<()> {
        let saving = if self.have_owners() {
            let live = match self.seen.get(&place.key) {
                Some(live) => Some(live),
                None => match self.read::<S>(place).await {
                    Ok(Some(Stored::Session(_, live))) => Some(live),
                    // A deletion is final, also of data that are not a session.
                    Ok(Some(Stored::Moving(_)) | None) | Err(_) => None,
                },
            };
            let was = live.map_or(Indexed::NONE, |live| live.indexed);
            self.owners.before_save(&place.key, &was, &Indexed::NONE).await?
        } else {
            Default::default()
        };
        self.seen.set(&place.key, None);
        self.store.delete_with(&place.key, &DeleteOptions::new()).await?;
        self.owners.after_save(saving, &self.finder::<S>()).await;
        Ok(())
    }

    /// Returns the places of a session in the order in which they are deleted: see [`announcement`].
    fn places<'a>(&self, id: &'a str) -> Result<impl Iterator<Item = Place<'a>> + use<'a, D>> {
        let place = self.keys.place(id)?;
        Ok(self.keys.old_place(id)?.into_iter().chain([place]))
    }

    /// Returns the session in this place.
    async fn session<S: Session<Data = D>>(&self, place: &Place<'_>) -> Result<Option<S>> {
        Ok(match self.read(place).await? {
            Some(Stored::Session(session, _)) => Some(session),
            Some(Stored::Moving(_)) | None => None,
        })
    }

    /// Reads a place. A value that is not a session is an error: if it counted as missing, it would be overwritten,
    /// and its visitor logged out.
    async fn read<S: Session<Data = D>>(&self, place: &Place<'_>) -> Result<Option<Stored<S>>> {
        let mut options = ReadOptions::new();
        // For the index.
        options.ttl = self.have_owners();
        let Some(record) = self.store.read_with(&place.key, &options).await? else {
            self.seen.set(&place.key, None);
            return Ok(None);
        };
        let version = self.known(record.version)?;
        if place.id.is_none() && announcement::is(&record.value) {
            return Ok(Some(Stored::Moving(version)));
        }
        let session = S::decode(&record.value, place.id)
            .map_err(|error| self.store.name_entry(self.name(error, Operation::Read), &place.key))?;
        let indexed = self.indexed(session.data(), record.expiry.unwrap_or_default());
        let live = Live { version, indexed };
        self.seen.set(&place.key, Some(live.clone()));
        Ok(Some(Stored::Session(session, live)))
    }

    /// Returns the version. A store with compare-and-swap returns one for each entry.
    fn known(&self, version: Option<Version>) -> Result<Version> {
        version.ok_or_else(|| self.name(Error::unsupported(), Operation::Write))
    }
}

impl Live {
    fn announced(version: Version) -> Self {
        Self { version, indexed: Indexed::NONE }
    }
}

/// Returns the result of a change, or `None` if its condition did not hold.
fn held<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Err(error) if error.kind() == ErrorKind::Conflict => Ok(None),
        result => result.map(Some),
    }
}
