//! The state shared by all clones of one `Sessions`.

use std::sync::Arc;

use larder_core::{Key, Result, Store};

use crate::{
    conflicts::ConflictPolicy,
    content::{Content, Decoded},
    index::Index,
    lifetime::Touches,
    moves::Resolver,
    queue::Queue,
};

pub(crate) type Initial<T> = Arc<dyn Fn() -> T + Send + Sync>;

pub(crate) struct Shared<T> {
    pub(crate) resolver: Resolver,
    pub(crate) prefix: String,
    pub(crate) initial: Initial<T>,
    /// Whether a new session is saved without a change.
    pub(crate) initial_counts: bool,
    pub(crate) content: Arc<Content<T>>,
    pub(crate) persist_migrated: bool,
    pub(crate) conflicts: ConflictPolicy,
    pub(crate) queue: Arc<Queue>,
    pub(crate) touches: Touches,
    /// The index of owners.
    pub(crate) index: Option<Arc<Index<T>>>,
}

impl<T> Shared<T> {
    pub(crate) const fn store(&self) -> &Store {
        &self.resolver.store
    }

    /// Records that the session at `key` was just touched or written. Only needed for sliding lifetimes.
    pub(crate) fn note_use(&self, key: &Key) {
        if self.content.lifetime.interval().is_some() {
            self.touches.note(key);
        }
    }

    /// Decodes the stored session at `key`. Returns `None` if it has expired.
    pub(crate) async fn decode(&self, key: &Key, bytes: &[u8]) -> Result<Option<Decoded<T>>> {
        let decoded = self.content.decode(bytes, self.resolver.left(key)).await;
        decoded.map_err(|error| self.store().name_entry(error, key))
    }
}
