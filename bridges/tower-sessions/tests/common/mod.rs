//! Shared code of the tests.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use larder_core::Key;
use sha2::{Digest as _, Sha256};

/// Returns the key of a session whose id is hashed.
pub(crate) fn hashed(prefix: &str, id: &str) -> Key {
    Key::new(format!("{prefix}#{}", URL_SAFE_NO_PAD.encode(Sha256::digest(id)))).unwrap()
}
