//! The callers on the sessions of production.

use larder_session as session;

#[path = "../client.rs"]
pub(super) mod client;
