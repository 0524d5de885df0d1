//! Reads and writes sessions in the store.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use actix_session::storage::{SessionKey, generate_session_key};
use larder_core::{Bytes, Codec, Error, ErrorKind, Expiry, Json, Key, Operation, Result, Store, Version};

/// The maximal number of keys to try for a new session. A random key is practically always free; a storage
/// where this many are taken is broken.
const DRAWS: usize = 8;
/// The length of actix-session's keys.
const LENGTH: usize = 64;

pub(crate) type State = HashMap<String, String>;

/// The sessions of a store.
#[derive(Clone, Debug)]
pub(crate) struct Sessions {
    pub(crate) store: Store,
    prefix: Arc<str>,
}

impl Sessions {
    /// The sessions under keys that begin with `prefix`.
    pub(crate) fn new(store: Store, prefix: &str) -> Result<Self> {
        key(prefix, &"k".repeat(LENGTH))?;
        Ok(Self { store, prefix: Arc::from(prefix) })
    }

    /// Returns the storage's key for a session, or `None` if actix-session cannot have generated the
    /// session's key.
    pub(crate) fn key(&self, session: &SessionKey) -> Option<Key> {
        let session = session.as_ref();
        let drawn = session.len() == LENGTH && session.bytes().all(|byte| byte.is_ascii_alphanumeric());
        // `new` has checked that the prefix leaves room for the key.
        if drawn { key(&self.prefix, session).ok() } else { None }
    }

    /// Returns the session if it exists. A value that is not a session is an error: if it counted as missing,
    /// it would be overwritten, and its visitor logged out.
    pub(crate) async fn find(&self, key: &Key) -> Result<Option<(State, Version)>> {
        let name = self.store.info().name;
        let Some(record) = self.store.read(key).await? else { return Ok(None) };
        let version = record
            .version
            .ok_or_else(|| Error::unsupported().with_adapter(name).with_operation(Operation::Write))?;
        let state = Json.decode(&record.value).map_err(|error| {
            Error::new(
                error.kind(),
                "the value under this session key is not a session; it was left unchanged",
            )
            .with_adapter(name)
            .with_operation(Operation::Read)
            .with_key(key)
            .with_source(error)
        })?;
        Ok(Some((state, version)))
    }

    /// Saves a new session under a free key.
    pub(crate) async fn create(&self, state: &State, expiry: Expiry) -> Result<SessionKey> {
        let value = encode(state)?;
        let mut drawn = 1;
        loop {
            let session = generate_session_key();
            let key = key(&self.prefix, session.as_ref())?;
            match self.store.write(key, value.clone()).expiry(expiry).if_absent().await {
                Err(error) if error.kind() == ErrorKind::Conflict && drawn < DRAWS => drawn += 1,
                outcome => return outcome.map(|_| session),
            }
        }
    }

    /// Replaces a session. Returns `false` if it no longer exists.
    pub(crate) async fn replace(&self, key: &Key, state: &State, expiry: Expiry) -> Result<bool> {
        let value = encode(state)?;
        // If an attempt fails, another update has succeeded, or the session is gone.
        loop {
            let Some((_, version)) = self.find(key).await? else { return Ok(false) };
            match self.store.write(key, value.clone()).expiry(expiry).if_at(version).await {
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                outcome => return outcome.map(|_| true),
            }
        }
    }

    /// Returns the error for a session that is gone and must not be created again.
    pub(crate) fn gone(&self) -> Error {
        Error::new(
            ErrorKind::Conflict,
            "the session is gone: it was deleted or has expired, and nothing was saved",
        )
        .with_adapter(self.store.info().name)
        .with_operation(Operation::Write)
    }
}

fn key(prefix: &str, session: &str) -> Result<Key> {
    Key::new(format!("{prefix}{session}"))
}

/// A TTL of zero or less means that the session has expired.
pub(crate) fn expiry(ttl: &time::Duration) -> Expiry {
    Expiry::After(Duration::try_from(*ttl).unwrap_or_default())
}

fn encode(state: &State) -> Result<Bytes> {
    // Sorted by name, so that equal sessions are equal bytes.
    Json.encode(&state.iter().collect::<BTreeMap<_, _>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_matches_actix_sessions_own_stores() {
        let state =
            State::from([("name".to_owned(), r#""ann""#.to_owned()), ("count".to_owned(), "2".to_owned())]);
        assert_eq!(encode(&state).unwrap(), r#"{"count":"2","name":"\"ann\""}"#);
    }

    #[test]
    fn the_ttl_is_never_negative() {
        assert!(expiry(&time::Duration::seconds(-1)).is_elapsed());
        assert_eq!(expiry(&time::Duration::microseconds(1_001)).as_millis(), Some(2));
    }
}
