//! Where sessions are in the store.

use larder_core::{Key, Result};
use larder_web_sessions::handle;

/// Begins the rest of a hashed key. No id contains it.
const HASHED: char = '#';

/// How the key of a session depends on its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ids {
    /// As with mp-session-koa2: the id itself.
    Plain,
    Hashed,
    /// Sessions are saved under the hashed id, and also found under the plain one.
    Migrating,
}

/// The keys that begin with a prefix.
#[derive(Debug)]
pub(crate) struct Keys {
    pub(crate) prefix: String,
    pub(crate) ids: Ids,
}

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
    /// Returns all keys under which the session may be, the plain one first.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.plain.iter().chain([&self.key])
    }
}

impl Keys {
    pub(crate) fn place(&self, id: &str) -> Result<Place> {
        let plain = || self.key(id);
        let hashed = || self.key(&format!("{HASHED}{}", handle(id)));
        let (key, plain) = match self.ids {
            Ids::Plain => (plain()?, None),
            Ids::Hashed => (hashed()?, None),
            Ids::Migrating => (hashed()?, Some(plain()?)),
        };
        Ok(Place { id: id.to_owned(), key, plain })
    }

    pub(crate) fn key(&self, name: &str) -> Result<Key> {
        Key::new(format!("{}{name}", self.prefix))
    }

    /// Returns the id that a key contains, or `None` if the key is hashed.
    pub(crate) fn plain_id<'a>(&self, key: &'a Key) -> Option<&'a str> {
        Some(self.name(key)).filter(|name| !name.starts_with(HASHED))
    }

    /// Returns the handle of the session at `key`.
    pub(crate) fn handle(&self, key: &Key) -> String {
        let name = self.name(key);
        name.strip_prefix(HASHED).map_or_else(|| handle(name), str::to_owned)
    }

    fn name<'a>(&self, key: &'a Key) -> &'a str {
        key.as_str().strip_prefix(&self.prefix).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_stable_and_name_their_session() {
        let id = "0123456789abcdef".repeat(4);
        let keys = |ids| Keys { prefix: "shop:".to_owned(), ids };
        // printf 0123456789abcdef%.0s {1..4} | openssl dgst -sha256 -binary | basenc --base64url
        let digest = "qK5ubukpq-o6_PxSWMjM1vhSc-DUYm0mxyefMlD3fI4";
        for (ids, key, plain) in [
            (Ids::Plain, &id, None),
            (Ids::Hashed, &format!("#{digest}"), None),
            (Ids::Migrating, &format!("#{digest}"), Some(&id)),
        ] {
            let keys = keys(ids);
            let place = keys.place(&id).unwrap();
            assert_eq!(place.key.as_str(), format!("shop:{key}"));
            assert_eq!(place.plain, plain.map(|plain| keys.key(plain).unwrap()));
            for key in [Some(place.key), place.plain].into_iter().flatten() {
                assert_eq!(keys.handle(&key), digest);
                assert_eq!(keys.plain_id(&key).is_some(), key.as_str() == format!("shop:{id}"));
            }
        }
    }
}
