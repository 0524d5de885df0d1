//! The sessions of one owner.

use std::{collections::HashSet, fmt, marker::PhantomData, time::SystemTime};

use larder_core::{ErrorKind, Key, ReadOptions, Record, Result};
use larder_owners::{Entry, Found, Lookup};

use crate::{
    announcement,
    place::Ids,
    sessions::{Session, Sessions},
};

/// A session of an owner.
#[derive(Clone)]
pub struct OwnedSession {
    handle: String,
    entry: Entry,
}

impl OwnedSession {
    /// Returns the session with this [handle](crate::handle) and this entry in the index.
    #[must_use]
    pub const fn new(handle: String, entry: Entry) -> Self {
        Self { handle, entry }
    }

    /// Returns the [handle](crate::handle) of the session. It names the session on a page, but logs nobody in.
    #[must_use]
    pub fn handle(&self) -> &str {
        &self.handle
    }

    /// Returns the time at which the session got this owner: the sign-in.
    #[must_use]
    pub fn created(&self) -> SystemTime {
        self.entry.created()
    }

    /// Returns the time of the last save that the index has noted. The last save is later by at most an eighth of the
    /// session's time to live.
    #[must_use]
    pub fn used(&self) -> SystemTime {
        self.entry.used()
    }

    /// Returns the name of the device.
    #[must_use]
    pub fn device(&self) -> Option<&str> {
        self.entry.device()
    }
}

/// Prints no handle and no device.
impl fmt::Debug for OwnedSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnedSession")
            .field("created", &self.created())
            .field("used", &self.used())
            .finish_non_exhaustive()
    }
}

impl<D> Sessions<D> {
    /// Returns the sessions of `owner`, in the order of their sign-ins. One batch of 16 reads, and one batch that reads
    /// the sessions.
    ///
    /// # Errors
    ///
    /// Those of reading; [`Codec`](ErrorKind::Codec) if another program has stored something under a key of the index.
    pub async fn sessions_of<S: Session<Data = D>>(&self, owner: &str) -> Result<Vec<OwnedSession>> {
        let sessions = self.owners.sessions(owner, &self.finder::<S>()).await?;
        let mut handles = HashSet::new();
        let sessions = sessions
            .into_iter()
            .map(|(key, entry)| OwnedSession::new(self.keys.handle(&key).into_owned(), entry));
        // An interrupted move can leave a session in both of its places.
        Ok(sessions.filter(|session| handles.insert(session.handle.clone())).collect())
    }

    /// Deletes the sessions of `owner` whose handle `which` accepts. Returns their number.
    ///
    /// # Errors
    ///
    /// The first error, after the other sessions were deleted. A second call continues.
    pub async fn delete_of<S: Session<Data = D>>(
        &self,
        owner: &str,
        which: impl Fn(&str) -> bool,
    ) -> Result<u64> {
        let finder = Finder { moving: true, ..self.finder::<S>() };
        let mut plain = Ok(0);
        if self.keys.ids == Ids::Migrating {
            // The order matters: see `announce`.
            let old = |key: &Key| self.keys.plain_id(key).is_some() && which(&self.keys.handle(key));
            plain = self.owners.delete(owner, old, &finder).await;
        }
        let all = |key: &Key| which(&self.keys.handle(key));
        let rest = self.owners.delete(owner, all, &finder).await;
        Ok(plain? + rest?)
    }

    pub(crate) const fn finder<S>(&self) -> Finder<'_, D, S> {
        Finder { sessions: self, moving: false, session: PhantomData }
    }

    fn is_of<S: Session<Data = D>>(&self, owner: &str, key: &Key, value: &[u8]) -> Result<bool> {
        match S::decode(value, self.keys.plain_id(key)) {
            Ok(session) => {
                let own = self.owner.as_ref().and_then(|of| of(session.data()));
                Ok(own.is_some_and(|own| own == owner))
            }
            // Its owner cannot be read, but was noted.
            Err(error) if matches!(error.kind(), ErrorKind::Codec | ErrorKind::Corrupt) => Ok(true),
            Err(error) => Err(self.store.name_entry(error, key)),
        }
    }
}

/// Finds the sessions that the index names.
pub(crate) struct Finder<'a, D, S> {
    sessions: &'a Sessions<D>,
    /// Whether the announcement of a move counts as the session.
    moving: bool,
    session: PhantomData<fn() -> S>,
}

impl<D, S: Session<Data = D>> Lookup for Finder<'_, D, S> {
    async fn find(&self, owner: &str, keys: &[Key]) -> Vec<Result<Option<Found>>> {
        let records = self.sessions.store.read_many(keys, &ReadOptions::new()).await;
        let found = |(key, record): (&Key, Result<Option<Record>>)| {
            let Some(record) = record? else { return Ok(None) };
            let theirs = if self.sessions.keys.plain_id(key).is_none() && announcement::is(&record.value) {
                self.moving
            } else {
                self.sessions.is_of::<S>(owner, key, &record.value)?
            };
            Ok(theirs.then(|| Found { key: key.clone(), version: record.version }))
        };
        keys.iter().zip(records).map(found).collect()
    }
}
