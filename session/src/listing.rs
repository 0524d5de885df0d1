//! Looking through all sessions.

use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream::BoxStream};
use larder_core::{Entry, Key, Result};

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
        self.entries().map_ok(|(key, _)| self.without_prefix(&key)).boxed()
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
            .try_filter_map(move |(key, value)| async move {
                let decoded = self.shared.content.decode(&value).await?;
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

    /// The storage's keys of all sessions, and what is stored.
    fn entries(&self) -> BoxStream<'_, Result<(Key, larder_core::Bytes)>> {
        let shared: &Arc<Shared<T>> = &self.shared;
        let entries = shared.road.storage.entries(&shared.prefix);
        entries.try_filter_map(|entry| async move { session_of(entry) }).boxed()
    }

    fn without_prefix(&self, key: &Key) -> String {
        key.as_str().get(self.shared.prefix.len()..).unwrap_or_default().to_owned()
    }
}

/// The session in an entry, and the key that it belongs to.
fn session_of(entry: Entry) -> Result<Option<(Key, larder_core::Bytes)>> {
    if entry.key.as_str().starts_with(RESERVED) {
        return Ok(None);
    }
    Ok(match Signpost::parse(&entry.record.value)? {
        None => Some((entry.key, entry.record.value)),
        // On its way, it is here and nowhere else.
        Some(Signpost::InTransit { to, data: Some(data), .. }) => Some((signpost::key(&to)?, data.bytes()?)),
        Some(_) => None,
    })
}
