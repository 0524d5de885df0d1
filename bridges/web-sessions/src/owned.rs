//! The sessions of one owner.

use std::{collections::HashSet, fmt, marker::PhantomData, time::SystemTime};

use larder_core::{Error, ErrorKind, Key, ReadOptions, Record, Result};
use larder_owners::{Entry, Found, Lookup, Owners};

use crate::{
    announcement,
    place::{Ids, Keys},
    sessions::{Session, Sessions},
};

/// A session of an owner.
#[derive(Clone)]
pub struct OwnedSession {
    handle: String,
    entry: Entry,
}

impl OwnedSession {
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

    /// Returns the time of the last use that the index has noted. The last use is later by at most an eighth of the
    /// session's time to live, or 17 hours if that is less (or a minute).
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

impl Keys {
    /// Returns the sessions of `owner`, in the order of their sign-ins. `lookup` decodes sessions.
    ///
    /// # Errors
    ///
    /// Those of [`Owners::sessions`].
    pub async fn sessions_of(
        &self,
        owners: &Owners,
        owner: &str,
        lookup: &impl Lookup,
    ) -> Result<Vec<OwnedSession>> {
        let sessions = owners.sessions(owner, lookup).await?.into_iter();
        let owned = |(key, entry)| OwnedSession { handle: self.handle(&key).into_owned(), entry };
        // An interrupted move can leave a session in both of its places.
        let mut handles = HashSet::new();
        Ok(sessions.map(owned).filter(|session| handles.insert(session.handle.clone())).collect())
    }

    /// Deletes the sessions of `owner` whose handle `which` accepts. Returns their number. `lookup` decodes sessions,
    /// and counts an [announcement](crate::announcement) as the session.
    ///
    /// # Errors
    ///
    /// The first error, after the other sessions were deleted.
    pub async fn delete_of(
        &self,
        owners: &Owners,
        owner: &str,
        which: impl Fn(&str) -> bool,
        lookup: &impl Lookup,
    ) -> Result<u64> {
        let mut plain = Ok(0);
        if self.ids == Ids::Migrating {
            // The order matters: see `announcement`.
            let old = |key: &Key| self.plain_id(key).is_some() && which(&self.handle(key));
            plain = owners.delete(owner, old, lookup).await;
        }
        let rest = owners.delete(owner, |key| which(&self.handle(key)), lookup).await;
        Ok(plain? + rest?)
    }
}

impl<D> Sessions<D> {
    /// Returns the sessions of `owner`, in the order of their sign-ins. One batch of 16 reads, and one batch that reads
    /// the sessions.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](ErrorKind::Unsupported) without [`with_owner`](Self::with_owner); those of reading;
    /// [`Codec`](ErrorKind::Codec) if another program has stored something under a key of the index.
    pub async fn sessions_of<S: Session<Data = D>>(&self, owner: &str) -> Result<Vec<OwnedSession>> {
        self.check_owners()?;
        self.keys.sessions_of(&self.owners, owner, &self.finder::<S>()).await
    }

    /// Deletes the sessions of `owner` whose handle `which` accepts. Returns their number. (A session that moves at the
    /// same time can count twice.)
    ///
    /// # Errors
    ///
    /// Those of [`sessions_of`](Self::sessions_of): the first one, after the other sessions were deleted. A second call
    /// continues.
    pub async fn delete_of<S: Session<Data = D>>(
        &self,
        owner: &str,
        which: impl Fn(&str) -> bool,
    ) -> Result<u64> {
        self.check_owners()?;
        let finder = Finder { moving: true, ..self.finder::<S>() };
        self.keys.delete_of(&self.owners, owner, which, &finder).await
    }

    /// Without an index, a revocation must not seem to succeed.
    fn check_owners(&self) -> Result<()> {
        if self.have_owners() {
            return Ok(());
        }
        let message = "the sessions have no owners: set `with_owner`";
        Err(Error::new(ErrorKind::Unsupported, message).with_adapter(self.store.info().name))
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
