//! The storage's keys of a session.

use std::sync::Arc;

use actix_session::storage::SessionKey;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use larder_core::{Key, Result};
use sha2::{Digest, Sha256};

/// The length of actix-session's keys.
const LENGTH: usize = 64;

/// How the storage's key depends on the session key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Hashed,
    Plain,
    /// Sessions are saved under the hashed key, and also found under the plain key.
    Migrating,
}

/// The storage's keys that begin with a prefix. After it, a hashed key has a `#` and a plain key only letters and
/// digits, so other characters are free for other kinds of entries.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    prefix: Arc<str>,
    pub(crate) form: Form,
}

/// Where one session is.
#[derive(Debug)]
pub(crate) struct Place {
    /// The key under which the session is saved.
    pub(crate) key: Key,
    /// The plain key, if the session may still be under it.
    pub(crate) plain: Option<Key>,
}

impl Place {
    /// Returns the keys under which to look for the session. It may move from the second to the first between two
    /// reads, so the first is also the last.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &Key> {
        let plain = self.plain.iter().flat_map(|plain| [plain, &self.key]);
        std::iter::once(&self.key).chain(plain)
    }
}

impl Keys {
    pub(crate) fn new(prefix: &str, form: Form) -> Result<Self> {
        // A plain key is longer than a hashed one.
        plain(prefix, &"k".repeat(LENGTH))?;
        Ok(Self { prefix: Arc::from(prefix), form })
    }

    /// Returns the place of a session.
    pub(crate) fn place(&self, session: &SessionKey) -> Result<Place> {
        let plain = || plain(&self.prefix, session.as_ref());
        let hashed = || hashed(&self.prefix, session.as_ref());
        Ok(match self.form {
            Form::Hashed => Place { key: hashed()?, plain: None },
            Form::Plain => Place { key: plain()?, plain: None },
            Form::Migrating => Place { key: hashed()?, plain: Some(plain()?) },
        })
    }

    /// Returns the place of a session, or `None` if actix-session cannot have generated the session key.
    pub(crate) fn accept(&self, session: &SessionKey) -> Option<Place> {
        let text = session.as_ref();
        let generated = text.len() == LENGTH && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        // `new` has checked that the prefix leaves room for the keys.
        if generated { self.place(session).ok() } else { None }
    }
}

fn plain(prefix: &str, session: &str) -> Result<Key> {
    Key::new(format!("{prefix}{session}"))
}

/// A session key has 380 random bits, so its hash needs no salt and no slow function.
fn hashed(prefix: &str, session: &str) -> Result<Key> {
    Key::new(format!("{prefix}#{}", URL_SAFE_NO_PAD.encode(Sha256::digest(session))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashed_keys_are_stable() {
        let session = SessionKey::try_from("k".repeat(LENGTH)).unwrap();
        let place = |form| Keys::new("shop:", form).unwrap().place(&session).unwrap();
        // printf 'k%.0s' {1..64} | openssl dgst -sha256 -binary | basenc --base64url
        let hashed = "shop:#JRm0m89p_qwnCsPIYxU56MrtTH5qYsbMVREiimF4B0U";
        assert_eq!(place(Form::Hashed).key.as_str(), hashed);
        assert_eq!(place(Form::Hashed).plain, None);
        assert_eq!(place(Form::Plain).key.as_str(), format!("shop:{}", session.as_ref()));
        assert_eq!(place(Form::Plain).plain, None);
        assert_eq!(place(Form::Migrating).key.as_str(), hashed);
        assert_eq!(place(Form::Migrating).plain, Some(place(Form::Plain).key));
    }
}
