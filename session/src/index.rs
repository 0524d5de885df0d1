//! The index of owners: which sessions are whose.
//!
//! An entry per session, `larder:owner:<prefix>:<owner>:<key>`, that ends soon after the session and
//! never before it: nothing to rewrite when a user has many sessions.

use std::time::Duration;

use larder_core::{Bytes, Expiry, Key, Result, Store};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::key::RESERVED;

/// What would be mistaken for an end of the prefix or the owner.
const SEPARATORS: &AsciiSet = &CONTROLS.add(b':').add(b'%');

/// How much longer an entry of the index lives than its session. It is written first, and the write of
/// the session may take its time: a session that outlives its entry could not be revoked.
const LONGER: Duration = Duration::from_secs(60);

/// What the entries of `owner`'s sessions begin with.
pub(crate) fn begin(prefix: &str, owner: &str) -> String {
    let encode = |text| utf8_percent_encode(text, SEPARATORS);
    format!("{RESERVED}owner:{}:{}:", encode(prefix), encode(owner))
}

pub(crate) fn entry(prefix: &str, owner: &str, key: &Key) -> Result<Key> {
    Key::new(begin(prefix, owner) + key.as_str())
}

/// The index says that the session at `key` is `owner`'s, for as long as the session lives. To be called
/// before the session is written or touched.
pub(crate) async fn note(
    store: &Store,
    prefix: &str,
    owner: Option<&str>,
    key: &Key,
    expiry: Expiry,
) -> Result<()> {
    let Some(owner) = owner else {
        return Ok(());
    };
    let expiry = match expiry {
        Expiry::After(left) => Expiry::After(left.saturating_add(LONGER)),
        Expiry::Never => Expiry::Never,
    };
    let entry = entry(prefix, owner, key)?;
    store.write(entry, Bytes::from_static(b"true")).expiry(expiry).await.map(drop)
}
