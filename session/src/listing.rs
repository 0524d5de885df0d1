//! Looking through all sessions.

use std::{future::ready, sync::Arc};

use futures_util::{StreamExt, TryStreamExt, stream::BoxStream};
use larder_core::{Bytes, Entry, Expiry, Key, Result, Storage};

use crate::{
    Sessions,
    key::RESERVED,
    shared::Shared,
    signpost::{self, Signpost},
};

impl<T: Send + Sync + 'static> Sessions<T> {
    /// The keys of all sessions, without the prefix, in no order. Signposts of moved sessions are left
    /// out, so the values are read too, in constant memory. A store may list a key twice where its
    /// [`lists_once`](larder_core::Capabilities::lists_once) says so.
    ///
    /// A prefix that another begins with (`chat` and `chat-old:`) has the other's too: end prefixes with
    /// a character that no key begins with.
    ///
    /// # Errors
    ///
    /// In the stream, those of [`Storage::entries`](larder_core::Storage::entries).
    pub fn keys(&self) -> BoxStream<'_, Result<String>> {
        self.entries()
            .try_filter_map(move |(key, value, left)| async move {
                let lives = !self.shared.content.is_over(&value, left);
                Ok(lives.then(|| self.without_prefix(&key)))
            })
            .boxed()
    }

    /// All sessions with their keys; otherwise as [`keys`](Self::keys). One that cannot be read is an
    /// `Err` in the stream, which goes on after it.
    ///
    /// # Errors
    ///
    /// In the stream, those of [`Storage::entries`](larder_core::Storage::entries), and
    /// [`Codec`](larder_core::ErrorKind::Codec) for a session that is no `T`.
    pub fn all(&self) -> BoxStream<'_, Result<(String, T)>> {
        self.entries()
            .try_filter_map(move |(key, value, left)| async move {
                let decoded = self.shared.content.decode(&value, ready(Ok(Some(left)))).await;
                let decoded = decoded.map_err(|error| error.with_key(&key))?;
                Ok(decoded.map(|decoded| (self.without_prefix(&key), decoded.value)))
            })
            .boxed()
    }

    /// Deletes everything under the prefix, signposts included; says how many entries there were. With
    /// no prefix that is everything in the storage.
    ///
    /// # Errors
    ///
    /// Those of [`Storage::clear`](larder_core::Storage::clear).
    pub async fn delete_all(&self) -> Result<u64> {
        self.storage().clear(&self.shared.prefix).await
    }

    /// The storage's keys of all sessions, what is stored, and how long it lives.
    fn entries(&self) -> BoxStream<'_, Result<(Key, Bytes, Expiry)>> {
        let shared: &Arc<Shared<T>> = &self.shared;
        let entries = shared.road.storage.entries(&shared.prefix);
        entries.try_filter_map(|entry| session_of(&*shared.road.storage, entry)).boxed()
    }

    fn without_prefix(&self, key: &Key) -> String {
        key.as_str().get(self.shared.prefix.len()..).unwrap_or_default().to_owned()
    }
}

/// The session in an entry, the key that it belongs to, and how long it lives.
async fn session_of(storage: &dyn Storage, entry: Entry) -> Result<Option<(Key, Bytes, Expiry)>> {
    if entry.key.as_str().starts_with(RESERVED) {
        return Ok(None);
    }
    let signpost = Signpost::parse(&entry.record.value).map_err(|error| error.with_key(&entry.key))?;
    let (place, kept) = match signpost {
        None => return Ok(Some((entry.key, entry.record.value, entry.expiry))),
        Some(Signpost::InTransit { to, id, trip, data: Some(data), .. }) => {
            let to = signpost::key(&to)?;
            // Where it has arrived it is listed there.
            let place =
                if to == entry.key { Some(to) } else { departed(storage, entry, to, &id, &trip).await? };
            (place, data)
        }
        // Until the other has arrived, it is a session of its own.
        Some(Signpost::Expecting { own: Some(own), .. }) => (Some(entry.key), own),
        Some(_) => return Ok(None),
    };
    match (place, kept.left(storage).await?) {
        (Some(key), Some(left)) => Ok(Some((key, kept.bytes()?, left))),
        _ => Ok(None),
    }
}

/// To which key a session belongs that has departed from the entry's; `None` if it has arrived.
async fn departed(storage: &dyn Storage, entry: Entry, to: Key, id: &str, trip: &str) -> Result<Option<Key>> {
    let there = storage.read(&to).await?.map(|record| Signpost::parse(&record.value)).transpose()?.flatten();
    Ok(match there {
        Some(Signpost::InTransit { trip: arrived, .. }) if arrived == trip => None,
        Some(Signpost::Expecting { id: expected, own: None, .. }) if expected == id => Some(to),
        // Two sessions until they have met, or it will be turned back. If it is still there.
        _ => {
            let now = storage.read(&entry.key).await?.map(|record| record.value);
            (now.as_ref() == Some(&entry.record.value)).then_some(entry.key)
        }
    })
}
