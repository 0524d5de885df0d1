//! The state shared by all clones of one `Sessions`.

use std::sync::Arc;

use larder_core::{Expiry, Key, Result, Store};

use crate::{
    conflicts::ConflictPolicy,
    content::{Content, Decoded},
    index,
    lifetime::Touches,
    moves::Resolver,
    queue::Queue,
};

pub(crate) type Initial<T> = Arc<dyn Fn() -> T + Send + Sync>;
pub(crate) type OwnerOf<T> = Arc<dyn Fn(&T) -> Option<String> + Send + Sync>;

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
    pub(crate) owner: Option<OwnerOf<T>>,
}

impl<T> Shared<T> {
    pub(crate) const fn store(&self) -> &Store {
        &self.resolver.store
    }

    /// Returns the owner of the session, if there is an index of owners.
    pub(crate) fn owner_of(&self, value: &T) -> Option<String> {
        self.owner.as_ref().and_then(|owner| owner(value))
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

    /// Writes the index entry for the session at `key` of `owner`. Call it before the session is written or
    /// touched.
    pub(crate) async fn note_owner(&self, owner: Option<&str>, key: &Key, expiry: Expiry) -> Result<()> {
        index::note(self.store(), &self.prefix, owner, key, expiry).await
    }

    /// Deletes the index entry for the session at `key` of `owner`. Only logs errors: a superfluous entry is
    /// harmless, and the session is already saved.
    pub(crate) async fn forget_owner(&self, owner: Option<&str>, key: &Key) {
        let Some(entry) = owner.and_then(|owner| index::entry(&self.prefix, owner, key).ok()) else {
            return;
        };
        if let Err(error) = self.store().delete(&entry).await {
            tracing::warn!(kind = %error.kind(), %error, "an entry of the index of owners could not be deleted");
        }
    }
}
