//! Reads and writes sessions in the store.

use std::time::Duration;

use actix_session::storage::{SessionKey, generate_session_key};
use larder_core::{Bytes, Error, ErrorKind, Expiry, Key, Operation, Result, Store, Version};

use crate::{
    keys::{Form, Keys, Place},
    stored::{self, State, Stored},
    versions::Versions,
};

/// The maximal number of keys to try for a new session. A random key is practically always free; a storage
/// where this many are taken is broken.
const DRAWS: usize = 8;
/// The time to live of an announcement: much longer than a move takes.
const ANNOUNCED_FOR: Duration = Duration::from_secs(60);

/// The sessions of a store.
#[derive(Clone, Debug)]
pub(crate) struct Sessions {
    pub(crate) store: Store,
    pub(crate) keys: Keys,
    /// The maximal size of a stored session, in bytes.
    pub(crate) max_size: usize,
    versions: Versions,
}

impl Sessions {
    pub(crate) fn new(store: Store) -> Result<Self> {
        let keys = Keys::new("session:", Form::Hashed)?;
        Ok(Self { store, keys, max_size: 1 << 20, versions: Versions::new() })
    }

    /// Returns the session if it exists.
    pub(crate) async fn load(&self, place: &Place) -> Result<Option<State>> {
        for key in place.keys() {
            if let Some((Stored::Session(state), version)) = self.read(key).await? {
                if *key == place.key {
                    self.versions.remember(key, version);
                }
                return Ok(Some(state));
            }
        }
        Ok(None)
    }

    /// Saves a new session under a free key.
    pub(crate) async fn create(&self, state: &State, expiry: Expiry) -> Result<SessionKey> {
        let value = self.encode(state)?;
        let mut drawn = 1;
        loop {
            let session = generate_session_key();
            let key = self.keys.place(&session)?.key;
            match self.store.write(key, value.clone()).expiry(expiry).if_absent().await {
                Err(error) if error.kind() == ErrorKind::Conflict && drawn < DRAWS => drawn += 1,
                outcome => return outcome.map(|_| session),
            }
        }
    }

    /// Replaces a session. Returns `false` if it no longer exists.
    pub(crate) async fn replace(&self, place: &Place, state: &State, expiry: Expiry) -> Result<bool> {
        let value = self.encode(state)?;
        let mut known = self.versions.take(&place.key);
        // If an attempt fails, another request has changed the entry.
        loop {
            let (version, old) = match known.take() {
                Some(version) => (version, None),
                None => match (self.read(&place.key).await?, &place.plain) {
                    (Some((Stored::Session(_), version)), _) => (version, None),
                    (_, None) => return Ok(false),
                    (Some((Stored::Moving, version)), Some(plain)) => (version, Some(plain)),
                    (None, Some(plain)) => match self.announce(&place.key).await? {
                        Some(version) => (version, Some(plain)),
                        None => continue,
                    },
                },
            };
            if let Some(plain) = old
                && self.read(plain).await?.is_none()
            {
                match held(self.store.delete(&place.key).if_at(version).await)? {
                    Some(_) => return Ok(false),
                    None => continue,
                }
            }
            let write = self.store.write(&place.key, value.clone()).expiry(expiry).if_at(version);
            if held(write.await)?.is_some() {
                if let Some(plain) = old {
                    self.store.delete(plain).await?;
                }
                return Ok(true);
            }
        }
    }

    /// Announces under the hashed key that a session is moving there, unless the key is taken. Returns the version
    /// of the announcement.
    ///
    /// A move has four steps: write the announcement, check that the session is still under its plain key, replace
    /// the announcement with the session, and delete the plain key. A logout deletes the plain key first and the
    /// hashed one last. So if the second step finds the session, no logout had ended before the announcement, and
    /// one that ends later also removes the announcement. Then the third step fails, and the session does not
    /// return. After any of the steps the session is under at least one of its keys, so a crash does not lose it.
    async fn announce(&self, key: &Key) -> Result<Option<Version>> {
        let write = self.store.write(key, stored::announcement()?).expires_in(ANNOUNCED_FOR).if_absent();
        match held(write.await)? {
            Some(written) => self.known(written.version).map(Some),
            None => Ok(None),
        }
    }

    /// Gives the session a new expiry, if it exists.
    pub(crate) async fn touch(&self, place: &Place, expiry: Expiry) -> Result<()> {
        // Both keys: an announcement or an outdated session may be under the other one.
        for key in place.plain.iter().chain([&place.key]) {
            self.store.touch(key, expiry).await?;
        }
        Ok(())
    }

    /// Deletes the values under the keys of the session. The order matters: see [`announce`](Self::announce).
    pub(crate) async fn delete(&self, place: &Place) -> Result<()> {
        for key in place.plain.iter().chain([&place.key]) {
            self.store.delete(key).await?;
        }
        Ok(())
    }

    /// Returns the value under `key`. A value that is not a session is an error: if it counted as missing, it would
    /// be overwritten, and its visitor logged out.
    async fn read(&self, key: &Key) -> Result<Option<(Stored, Version)>> {
        let Some(record) = self.store.read(key).await? else { return Ok(None) };
        let stored = stored::decode(&record.value)
            .map_err(|error| self.named(error, Operation::Read).with_key(key))?;
        Ok(Some((stored, self.known(record.version)?)))
    }

    /// Returns the version. A storage with compare-and-swap returns one for each entry.
    fn known(&self, version: Option<Version>) -> Result<Version> {
        version.ok_or_else(|| self.named(Error::unsupported(), Operation::Write))
    }

    /// Encodes a session that is not too large.
    fn encode(&self, state: &State) -> Result<Bytes> {
        let value = stored::encode(state)?;
        if value.len() > self.max_size {
            let message = format!(
                "the session has {} bytes; at most {} are allowed: store less in it, or set another `with_max_size`",
                value.len(),
                self.max_size
            );
            return Err(self.named(Error::new(ErrorKind::TooLarge, message), Operation::Write));
        }
        Ok(value)
    }

    /// Returns the error for a session that is gone and must not be created again.
    pub(crate) fn gone(&self) -> Error {
        let message = "the session is gone: it was deleted or has expired, and nothing was saved";
        self.named(Error::new(ErrorKind::Conflict, message), Operation::Write)
    }

    fn named(&self, error: Error, operation: Operation) -> Error {
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

/// A TTL of zero or less means that the session has expired.
pub(crate) fn expiry(ttl: &time::Duration) -> Expiry {
    Expiry::After(Duration::try_from(*ttl).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ttl_is_never_negative() {
        assert!(expiry(&time::Duration::seconds(-1)).is_elapsed());
        assert_eq!(expiry(&time::Duration::microseconds(1_001)).as_millis(), Some(2));
    }
}
