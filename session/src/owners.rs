//! The sessions of one owner.

use std::{fmt, time::SystemTime};

use larder_core::{Error, ErrorKind, Result};
use larder_owners::Entry;

use crate::{index::Index, key::IntoSessionKey, sessions::Sessions};

/// A session of an owner, from [`Sessions::sessions_of`].
#[derive(Clone)]
pub struct OwnedSession {
    key: String,
    entry: Entry,
}

impl OwnedSession {
    /// Returns the key of the session, without the prefix.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Returns the time at which the session got this owner: the sign-in.
    #[must_use]
    pub fn created(&self) -> SystemTime {
        self.entry.created()
    }

    /// Returns the time of the last use that the index has noted. The last use is later by at most an eighth of
    /// the session's lifetime. For a session that does not end by itself, this is the time of the sign-in.
    #[must_use]
    pub fn used(&self) -> SystemTime {
        self.entry.used()
    }

    /// Returns the [device](crate::SessionsBuilder::device).
    #[must_use]
    pub fn device(&self) -> Option<&str> {
        self.entry.device()
    }
}

/// Prints no key and no device.
impl fmt::Debug for OwnedSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnedSession")
            .field("created", &self.created())
            .field("used", &self.used())
            .finish_non_exhaustive()
    }
}

impl<T: Send + Sync + 'static> Sessions<T> {
    /// Returns the sessions of `owner`, in the order of their creation. One batch of 16 reads, and one batch that
    /// reads the sessions. An unreadable session counts as that of the owner for whom it was noted.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](larder_core::ErrorKind::Unsupported) unless the builder's
    /// [`owner`](crate::SessionsBuilder::owner) is set; those of reading; [`Codec`](larder_core::ErrorKind::Codec) if another program has stored something under
    /// a key of the index.
    pub async fn sessions_of(&self, owner: &str) -> Result<Vec<OwnedSession>> {
        let sessions = self.index()?.owners.sessions(owner, &*self.shared).await?;
        let owned = |(key, entry)| OwnedSession { key: self.shared.without_prefix(&key), entry };
        Ok(sessions.into_iter().map(owned).collect())
    }

    /// Returns the keys of `owner`'s sessions, without the prefix; otherwise like
    /// [`sessions_of`](Self::sessions_of).
    ///
    /// # Errors
    ///
    /// Those of [`sessions_of`](Self::sessions_of).
    pub async fn keys_by_owner(&self, owner: &str) -> Result<Vec<String>> {
        let sessions = self.sessions_of(owner).await?;
        Ok(sessions.into_iter().map(|session| session.key).collect())
    }

    /// Deletes all sessions of `owner`, to log out a user everywhere. Returns their number. An unreadable session
    /// is deleted too.
    ///
    /// Does not wait for updates. An update at the same time finds that its session was deleted: with the default
    /// [`ConflictPolicy`](crate::ConflictPolicy), its handler runs again on a new session. If the handler logs the
    /// user in again, the new session is in the index. So block the user's login first, if it must not succeed.
    ///
    /// # Errors
    ///
    /// The first error, after the other sessions were deleted. A second call continues.
    pub async fn delete_by_owner(&self, owner: &str) -> Result<u64> {
        self.index()?.owners.delete(owner, |_| true, &*self.shared).await
    }

    /// Deletes all sessions of `owner` except the one under `key`, to log out a user everywhere else; otherwise
    /// like [`delete_by_owner`](Self::delete_by_owner).
    ///
    /// # Errors
    ///
    /// Those of [`delete_by_owner`](Self::delete_by_owner).
    pub async fn delete_others_by_owner(&self, owner: &str, key: impl IntoSessionKey) -> Result<u64> {
        let (key, index) = (self.key(key)?, self.index()?);
        // It may have moved.
        let own = self.shared.resolver.find(&key).await?.key;
        index.owners.delete(owner, |key| *key != own, &*self.shared).await
    }

    /// Without an index, a revocation must not seem to succeed.
    fn index(&self) -> Result<&Index<T>> {
        let message = "the sessions have no owners: set `owner` on the builder";
        self.shared.index.as_deref().ok_or_else(|| Error::new(ErrorKind::Unsupported, message))
    }
}
