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
pub(crate) enum Ids {
    Hashed,
    /// Hashed, and plain for sessions that have not moved yet.
    Migrating,
    Plain,
}

/// The keys with one prefix.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    pub(crate) prefix: Arc<str>,
    pub(crate) ids: Ids,
}

/// A place for a session in the store.
pub(crate) struct Place<'a> {
    pub(crate) key: Key,
    /// The id, if the key contains it.
    pub(crate) id: Option<&'a str>,
}

impl Keys {
    /// Returns the place in which the session is written.
    pub(crate) fn place<'a>(&self, id: &'a str) -> Result<Place<'a>> {
        if self.ids == Ids::Plain {
            return self.plain(id);
        }
        let key = Key::new(format!("{}{HASHED}{}", self.prefix, handle(id)))?;
        Ok(Place { key, id: None })
    }

    /// Returns the place in which the session may still be.
    pub(crate) fn old_place<'a>(&self, id: &'a str) -> Result<Option<Place<'a>>> {
        if self.ids == Ids::Migrating { self.plain(id).map(Some) } else { Ok(None) }
    }

    fn plain<'a>(&self, id: &'a str) -> Result<Place<'a>> {
        Ok(Place { key: Key::new(format!("{}{id}", self.prefix))?, id: Some(id) })
    }

    /// Returns the id in a plain key.
    pub(crate) fn plain_id<'a>(&self, key: &'a Key) -> Option<&'a str> {
        key.as_str().strip_prefix(&*self.prefix).filter(|rest| !rest.starts_with(HASHED))
    }

    /// Returns the handle of the session at this key.
    pub(crate) fn handle<'a>(&self, key: &'a Key) -> Cow<'a, str> {
        let rest = key.as_str().strip_prefix(&*self.prefix).unwrap_or_default();
        match rest.strip_prefix(HASHED) {
            Some(handle) => Cow::Borrowed(handle),
            None => Cow::Owned(handle(rest)),
        }
    }
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
        let (of_hashed, of_plain) =
            (keys(Ids::Hashed).place(&id).unwrap(), keys(Ids::Plain).place(&id).unwrap());
        assert_eq!((of_hashed.key.as_str(), of_hashed.id), (hashed, None));
        assert_eq!((of_plain.key.as_str(), of_plain.id), (format!("shop:{id}").as_str(), Some(id.as_str())));
        for ids in [Ids::Hashed, Ids::Plain] {
            assert!(keys(ids).old_place(&id).unwrap().is_none());
        }
        let migrating = keys(Ids::Migrating);
        assert_eq!(migrating.place(&id).unwrap().key, of_hashed.key);
        assert_eq!(migrating.old_place(&id).unwrap().unwrap().key, of_plain.key);
        for key in [&of_hashed.key, &of_plain.key] {
            assert_eq!(migrating.handle(key), handle(&id));
        }
        assert_eq!(migrating.plain_id(&of_plain.key), Some(id.as_str()));
        assert_eq!(migrating.plain_id(&of_hashed.key), None);
    }
}
