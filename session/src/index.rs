//! The index from owners to sessions.
//!
//! One entry per session, `larder:owner:<prefix>:<owner>:<key>`. It expires soon after the session and never
//! before it. One entry per owner would be rewritten for each of the owner's sessions.

use std::time::Duration;

use larder_core::{Bytes, Expiry, Key, Result, Store};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::key::RESERVED;

/// The characters that would end the prefix or the owner.
const SEPARATORS: &AsciiSet = &CONTROLS.add(b':').add(b'%');

/// How much longer an index entry lives than its session. The entry is written first, and the write of the
/// session can be slow: a session that outlives its entry could not be revoked.
const LONGER: Duration = Duration::from_secs(60);

/// Returns the prefix of the entries of `owner`'s sessions.
pub(crate) fn begin(prefix: &str, owner: &str) -> String {
    let encode = |text| utf8_percent_encode(text, SEPARATORS);
    format!("{RESERVED}owner:{}:{}:", encode(prefix), encode(owner))
}

pub(crate) fn entry(prefix: &str, owner: &str, key: &Key) -> Result<Key> {
    Key::new(begin(prefix, owner) + key.as_str())
}

/// Writes the entry for the session at `key` of `owner`. Call it before the session is written or touched.
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
