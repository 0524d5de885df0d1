//! The callers on the sessions with planted bugs.

use super::planted::session;

#[path = "../client.rs"]
pub(super) mod client;
