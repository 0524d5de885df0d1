//! The storage's keys of sessions.

use larder_core::Key;
use larder_web_sessions::handle;

/// Returns the storage's key of a session.
pub(crate) fn hashed(session: impl AsRef<str>) -> Key {
    Key::new(format!("session:#{}", handle(session.as_ref()))).unwrap()
}

/// Returns the storage's key of a session if session keys are not hashed.
pub(crate) fn plain(session: impl AsRef<str>) -> Key {
    Key::new(format!("session:{}", session.as_ref())).unwrap()
}
