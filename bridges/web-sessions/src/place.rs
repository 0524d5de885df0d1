//! The keys of sessions.

use std::{borrow::Cow, sync::Arc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use larder_core::{Key, Result};
use sha2::{Digest as _, Sha256};

/// The beginning of a hashed key, after the prefix. No id contains it.
const HASHED: char = '#';

/// Returns the handle of the session with this id: the SHA-256 of the id, in base64 (URL-safe, without padding).
///
/// It names the session where the id must not be known: in the key, and on a page that lists sessions. The id cannot
/// be computed from it. It needs no salt and no slow function, because an id has at least 128 random bits.
///
/// ```
/// let handle = larder_web_sessions::handle("BwAAAAAAAAAAAAAAAAAAAA");
/// assert_eq!(handle, "SxTQl3IniAXTrA4Aug1jh0Mj-6Dp4Hb5UtYRaG0-h2s");
/// ```
#[must_use]
pub fn handle(id: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(id))
}

/// How the key of a session depends on its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ids {
    /// `<prefix>#<handle>`
    Hashed,
    /// Hashed. Sessions that have not moved yet are found under their plain ids.
    Migrating,
    /// `<prefix><id>`
    Plain,
}

/// The keys of sessions with one prefix.
#[derive(Clone, Debug)]
pub struct Keys {
    /// The beginning of all keys.
    pub prefix: Arc<str>,
    /// The rest of the keys.
    pub ids: Ids,
}

impl Keys {
    /// Returns the key under which a session is written.
    ///
    /// # Errors
    ///
    /// [`InvalidKey`](larder_core::ErrorKind::InvalidKey) if the key is too long.
    pub fn key(&self, id: &str) -> Result<Key> {
        match self.ids {
            Ids::Hashed | Ids::Migrating => Key::new(format!("{}{HASHED}{}", self.prefix, handle(id))),
            Ids::Plain => Key::new(format!("{}{id}", self.prefix)),
        }
    }

    /// Returns the key under which a session may still be.
    ///
    /// # Errors
    ///
    /// Those of [`key`](Self::key).
    pub fn old_key(&self, id: &str) -> Result<Option<Key>> {
        match self.ids {
            Ids::Migrating => Self { ids: Ids::Plain, ..self.clone() }.key(id).map(Some),
            Ids::Hashed | Ids::Plain => Ok(None),
        }
    }

    /// Returns the id in a plain key. `None` if the key is hashed.
    #[must_use]
    pub fn plain_id<'a>(&self, key: &'a Key) -> Option<&'a str> {
        key.as_str().strip_prefix(&*self.prefix).filter(|rest| !rest.starts_with(HASHED))
    }

    /// Returns the [handle](handle()) of the session at this key.
    #[must_use]
    pub fn handle<'a>(&self, key: &'a Key) -> Cow<'a, str> {
        let rest = key.as_str().strip_prefix(&*self.prefix).unwrap_or_default();
        match rest.strip_prefix(HASHED) {
            Some(handle) => Cow::Borrowed(handle),
            None => Cow::Owned(handle(rest)),
        }
    }

    pub(crate) fn place<'a>(&self, id: &'a str) -> Result<Place<'a>> {
        let plain = (self.ids == Ids::Plain).then_some(id);
        Ok(Place { key: self.key(id)?, id: plain })
    }

    pub(crate) fn old_place<'a>(&self, id: &'a str) -> Result<Option<Place<'a>>> {
        Ok(self.old_key(id)?.map(|key| Place { key, id: Some(id) }))
    }
}

/// A place for a session in the store.
pub(crate) struct Place<'a> {
    pub(crate) key: Key,
    /// The id, if the key contains it.
    pub(crate) id: Option<&'a str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_stable() {
        let keys = |ids| Keys { prefix: Arc::from("shop:"), ids };
        let id = "k".repeat(64);
        // printf 'k%.0s' {1..64} | openssl dgst -sha256 -binary | basenc --base64url
        let hashed = "shop:#JRm0m89p_qwnCsPIYxU56MrtTH5qYsbMVREiimF4B0U";
        let (of_hashed, of_plain) = (keys(Ids::Hashed).key(&id).unwrap(), keys(Ids::Plain).key(&id).unwrap());
        assert_eq!((of_hashed.as_str(), of_plain.as_str()), (hashed, &*format!("shop:{id}")));
        for ids in [Ids::Hashed, Ids::Plain] {
            assert_eq!(keys(ids).old_key(&id).unwrap(), None);
        }
        let migrating = keys(Ids::Migrating);
        assert_eq!(migrating.key(&id).unwrap(), of_hashed);
        assert_eq!(migrating.old_key(&id).unwrap().as_ref(), Some(&of_plain));
        for key in [&of_hashed, &of_plain] {
            assert_eq!(migrating.handle(key), handle(&id));
        }
        assert_eq!(migrating.plain_id(&of_plain), Some(id.as_str()));
        assert_eq!(migrating.plain_id(&of_hashed), None);
    }
}
