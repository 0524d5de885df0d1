//! Where sessions are in the store.

use larder_core::{Key, Result};
use larder_web_sessions::Keys;

/// Where one session is.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) id: String,
    /// The key under which the session is saved.
    pub(crate) key: Key,
    /// The plain key, if the session may still be under it.
    pub(crate) plain: Option<Key>,
}

impl Place {
    /// Returns the place of the session called `id`.
    pub(crate) fn new(keys: &Keys, id: &str) -> Result<Self> {
        Ok(Self { id: id.to_owned(), key: keys.key(id)?, plain: keys.old_key(id)? })
    }

    /// Returns all keys under which the session may be, the plain one first.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.plain.iter().chain([&self.key])
    }
}
