//! What all clones of one `Sessions` share.

use std::sync::Arc;

use larder_core::{Expiry, Key, Result, Store};

use crate::{
    conflicts::Conflicts,
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
    /// Whether the initial value of a session counts as written.
    pub(crate) initial_counts: bool,
    pub(crate) content: Arc<Content<T>>,
    pub(crate) write_back: bool,
    pub(crate) conflicts: Conflicts,
    pub(crate) queue: Arc<Queue>,
    pub(crate) touches: Touches,
    pub(crate) owner: Option<OwnerOf<T>>,
}

impl<T> Shared<T> {
    pub(crate) const fn store(&self) -> &Store {
        &self.resolver.store
    }

    /// Whose session it is, if there is an index of owners.
    pub(crate) fn owner_of(&self, value: &T) -> Option<String> {
        self.owner.as_ref().and_then(|owner| owner(value))
    }

    /// The session at `key` has just been touched or written. Where its use does not extend it, that makes no
    /// difference.
    pub(crate) fn note_use(&self, key: &Key) {
        if self.content.lifetime.interval().is_some() {
            self.touches.note(key);
        }
    }

    /// The session that is stored at `key`; `None` if it is over.
    pub(crate) async fn decode(&self, key: &Key, bytes: &[u8]) -> Result<Option<Decoded<T>>> {
        let decoded = self.content.decode(bytes, self.resolver.left(key)).await;
        decoded.map_err(|error| self.store().name_entry(error, key))
    }

    /// The index says that the session at `key` is `owner`'s, for as long as the session lives. To be
    /// called before the session is written or touched.
    pub(crate) async fn note_owner(&self, owner: Option<&str>, key: &Key, expiry: Expiry) -> Result<()> {
        index::note(self.store(), &self.prefix, owner, key, expiry).await
    }

    /// The session at `key` is no longer `owner`'s. An entry too many does no harm, and what has been
    /// saved must not look as if it had failed.
    pub(crate) async fn forget_owner(&self, owner: Option<&str>, key: &Key) {
        let Some(entry) = owner.and_then(|owner| index::entry(&self.prefix, owner, key).ok()) else {
            return;
        };
        if let Err(error) = self.store().delete(&entry).await {
            tracing::warn!(kind = %error.kind(), %error, "an entry of the index of owners could not be deleted");
        }
    }
}
