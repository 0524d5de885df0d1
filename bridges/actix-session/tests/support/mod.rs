//! The storage's keys of sessions.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use larder_core::Key;
use sha2::{Digest, Sha256};

/// Returns the storage's key of a session.
pub(crate) fn hashed(session: impl AsRef<str>) -> Key {
    let hash = Sha256::digest(session.as_ref());
    Key::new(format!("session:#{}", URL_SAFE_NO_PAD.encode(hash))).unwrap()
}

/// Returns the storage's key of a session if session keys are not hashed.
pub(crate) fn plain(session: impl AsRef<str>) -> Key {
    Key::new(format!("session:{}", session.as_ref())).unwrap()
}
