//! Listings of all sessions.

use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, future::ready, stream::BoxStream};
use larder_core::{Bytes, Expiry, Key, Record, Result, Store};

use crate::{
    key::RESERVED,
    moves::{Marker, marked_key},
    sessions::Sessions,
    shared::Shared,
};

impl<T: Send + Sync + 'static> Sessions<T> {
    /// Lists the keys of all sessions, without the prefix, in no order. Redirects of moved sessions are
    /// skipped, so the values are read too, in constant memory. A store can list a key twice unless it
    /// [`lists_once`](larder_core::Info::lists_once).
    ///
    /// If one prefix starts with another (`chat-old:` and `chat`), the shorter one lists both: end prefixes
    /// with a character that no key starts with.
    ///
    /// # Errors
    ///
    /// In the stream, those of [`Store::entries`](larder_core::Store::entries).
    pub fn keys(&self) -> BoxStream<'static, Result<String>> {
        let shared = Arc::clone(&self.shared);
        let key = move |(key, value, left): (Key, Bytes, Expiry)| {
            let lives = !shared.content.is_over(&value, left);
            ready(Ok(lives.then(|| shared.without_prefix(&key))))
        };
        self.entries().try_filter_map(key).boxed()
    }

    /// Lists all sessions with their keys; otherwise like [`keys`](Self::keys). An unreadable session is an
    /// `Err` in the stream, which continues after it.
    ///
    /// # Errors
    ///
    /// In the stream, those of [`Store::entries`](larder_core::Store::entries), and
    /// [`Codec`](larder_core::ErrorKind::Codec) for a session that is not a valid `T`.
    pub fn all(&self) -> BoxStream<'static, Result<(String, T)>> {
        let shared = Arc::clone(&self.shared);
        let session = move |(key, value, left): (Key, Bytes, Expiry)| {
            let shared = Arc::clone(&shared);
            async move {
                let decoded = shared.content.decode(&value, ready(Ok(Some(left)))).await;
                let decoded = decoded.map_err(|error| shared.store().name_entry(error, &key))?;
                Ok(decoded.map(|decoded| (shared.without_prefix(&key), decoded.value)))
            }
        };
        self.entries().try_filter_map(session).boxed()
    }

    /// Deletes all entries under the prefix, including redirects. Returns their number. Without a prefix,
    /// deletes everything in the storage.
    ///
    /// # Errors
    ///
    /// Those of [`Store::clear`](larder_core::Store::clear).
    pub async fn delete_all(&self) -> Result<u64> {
        self.storage().clear(&self.shared.prefix).await
    }

    /// Lists the storage keys of all sessions, with their values and expiries.
    fn entries(&self) -> BoxStream<'static, Result<(Key, Bytes, Expiry)>> {
        let store = self.storage().clone();
        let entries = store.entries(&self.shared.prefix);
        let session = move |(key, record)| {
            let store = store.clone();
            async move { session_of(&store, key, record).await }
        };
        entries.try_filter_map(session).boxed()
    }
}

impl<T> Shared<T> {
    pub(crate) fn without_prefix(&self, key: &Key) -> String {
        key.as_str().get(self.prefix.len()..).unwrap_or_default().to_owned()
    }
}

/// Returns the session in an entry, its key, and its expiry.
async fn session_of(store: &Store, key: Key, record: Record) -> Result<Option<(Key, Bytes, Expiry)>> {
    if key.as_str().starts_with(RESERVED) {
        return Ok(None);
    }
    let marker = Marker::parse(&record.value).map_err(|error| store.name_entry(error, &key))?;
    let (place, payload) = match marker {
        None => return Ok(Some((key, record.value, record.expiry.unwrap_or_default()))),
        Some(Marker::Moving { to, id, trip, data: Some(data), .. }) => {
            let to = marked_key(&to)?;
            // After its arrival it is listed there.
            let place = if to == key {
                Some(to)
            } else {
                departed(store, key, &record.value, to, &id, &trip).await?
            };
            (place, data)
        }
        // Until the other session has arrived, this one is separate.
        Some(Marker::Incoming { own: Some(own), .. }) => (Some(key), own),
        Some(_) => return Ok(None),
    };
    match (place, payload.left(store).await?) {
        (Some(key), Some(left)) => Ok(Some((key, payload.bytes()?, left))),
        _ => Ok(None),
    }
}

/// Returns the key of a session that has departed from `key`, whose marker was read there. `None` if it has
/// arrived.
async fn departed(
    store: &Store,
    key: Key,
    marker: &Bytes,
    to: Key,
    id: &str,
    trip: &str,
) -> Result<Option<Key>> {
    let there = store.read(&to).await?.map(|record| Marker::parse(&record.value)).transpose()?.flatten();
    Ok(match there {
        Some(Marker::Moving { trip: arrived, .. }) if arrived == trip => None,
        Some(Marker::Incoming { id: expected, own: None, .. }) if expected == id => Some(to),
        // Two sessions until they are merged, or the move will be reverted. Check that it is still there.
        _ => {
            let now = store.read(&key).await?.map(|record| record.value);
            (now.as_ref() == Some(marker)).then_some(key)
        }
    })
}
