//! Shared code of the tests.

use larder_core::Key;
use larder_web_sessions::handle;

/// Returns the key of a session whose id is hashed.
pub(crate) fn hashed(prefix: &str, id: &str) -> Key {
    Key::new(format!("{prefix}#{}", handle(id))).unwrap()
}
