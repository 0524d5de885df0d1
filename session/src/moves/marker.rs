//! Markers: the entries at the keys between which a session moves.
//!
//! A marker is JSON with every codec, so that every layout of every store can hold it. It is an object with a
//! single member, whose name is reserved for Larder. [`is_marker`] distinguishes markers from sessions, for
//! reading and for writing: a session is never stored as bytes that look like a marker.

use base64::{Engine, engine::general_purpose::STANDARD};
use larder_core::{Bytes, Error, ErrorKind, Expiry, Key, Result, Store, clock::unix_millis};
use serde::{Deserialize, Serialize};

use crate::{id::new_id, key::RESERVED, members, plain::is_plain};

/// The only member of a marker.
const NAME: &str = "__larder";

#[derive(Debug, Serialize, Deserialize)]
struct Wrapped<M> {
    #[serde(rename = "__larder")]
    marker: M,
}

/// A step of a move. Each marker contains a unique id, so that a store that uses the value as the version
/// distinguishes them too.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Marker {
    /// The session is now at `to`. Remains after the move.
    #[serde(rename = "moved")]
    Redirect { to: String, id: String },
    /// At the new key: a session is about to move here and still at `from`. `own` is the session that was
    /// here before, to be merged with it, or to stay if `from` has no session.
    #[serde(rename = "expecting")]
    Incoming { from: String, id: String, own: Option<Payload> },
    /// The session is moving, with this content (`None`: without a session). At the old key, `from`: it has
    /// departed, and may have arrived. At the new key, `to`: it has arrived, and the marker at the old key
    /// may be gone. `id` is that of the *incoming*, `trip` that of this departure.
    #[serde(rename = "in_transit")]
    Moving { from: String, to: String, id: String, trip: String, data: Option<Payload> },
}

impl Marker {
    /// Parses a marker. Returns `None` if `value` is not one.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Corrupt`] for a damaged marker, or one of a newer kind.
    pub(crate) fn parse(value: &[u8]) -> Result<Option<Self>> {
        if !is_marker(value) {
            return Ok(None);
        }
        let wrapped = serde_json::from_slice::<Wrapped<Self>>(value).map_err(|_| {
            Error::new(ErrorKind::Corrupt, "the marker of a moved session is damaged, or has a newer version")
        })?;
        Ok(Some(wrapped.marker))
    }

    pub(crate) fn encode(&self) -> Result<Bytes> {
        serde_json::to_vec(&Wrapped { marker: self })
            .map(Bytes::from)
            .map_err(|_| Error::new(ErrorKind::Codec, "the marker cannot be written as JSON"))
    }
}

/// Parses a key in a marker.
pub(crate) fn marked_key(text: &str) -> Result<Key> {
    Key::new(text).map_err(|_| {
        Error::new(ErrorKind::Corrupt, "the marker of a moved session does not name a valid key")
    })
}

/// Whether `value` is a marker: a JSON object in which all members have the reserved name. Stores can
/// reformat JSON, reorder members and drop duplicates; the result is the same.
pub(crate) fn is_marker(value: &[u8]) -> bool {
    let contains = |part: &[u8]| memchr::memmem::find(value, part).is_some();
    // The name can be written with escapes.
    if value.trim_ascii_start().first() != Some(&b'{')
        || is_plain(value)
        || !(contains(NAME.as_bytes()) || contains(b"\\u00"))
    {
        return false;
    }
    let mut found = false;
    members::all(value, |name| {
        found = name == NAME;
        found
    }) && found
}

/// A session in a marker. The markers of an unfinished move do not expire, because their absence has a
/// meaning. Another entry, the timer, expires with the session, by the store's clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Payload {
    /// Base64.
    data: String,
    /// The key of the timer; `None` if the session does not expire.
    timer: Option<String>,
    /// The time at which the session expires, by the clock of the moving process, in Unix milliseconds.
    /// Counts only without a timer: the session may have been copied without it.
    until: Option<i64>,
}

impl Payload {
    /// Wraps a session with the TTL `left`, and starts its timer.
    pub(crate) async fn new(store: &Store, value: &[u8], left: Expiry) -> Result<Self> {
        // Before the timer starts: with equal clocks, it has passed when the timer is gone.
        let until = left.deadline(unix_millis());
        let timer = match left {
            Expiry::Never => None,
            Expiry::After(_) => {
                let timer = Key::new(format!("{RESERVED}move:{}", new_id()))?;
                store.write(&timer, Bytes::from_static(b"true")).expiry(left).await?;
                Some(timer.as_str().to_owned())
            }
        };
        Ok(Self { data: STANDARD.encode(value), timer, until })
    }

    pub(crate) fn bytes(&self) -> Result<Bytes> {
        STANDARD
            .decode(&self.data)
            .map(Bytes::from)
            .map_err(|_| Error::new(ErrorKind::Corrupt, "the session in the marker of a move is damaged"))
    }

    /// Returns its TTL, or `None` if it has expired. The timer decides. Without a timer, a session can live
    /// longer by the difference of the clocks, which is better than losing it.
    pub(crate) async fn left(&self, store: &Store) -> Result<Option<Expiry>> {
        if !store.info().expiry {
            return Ok(Some(Expiry::Never));
        }
        let timer = match &self.timer {
            Some(timer) => store.ttl(marked_key(timer)?).await?,
            None => None,
        };
        Ok(timer.or_else(|| Expiry::until(self.until, unix_millis())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_is_told_from_a_session() {
        let timer = Some("larder:move:1".to_owned());
        let data =
            Some(Payload { data: STANDARD.encode(b"\xff\0{}"), timer, until: Some(1_795_310_512_273) });
        let (from, to) = ("a".to_owned(), "b".to_owned());
        let marker = Marker::Moving { from, to, id: new_id(), trip: new_id(), data };
        let bytes = marker.encode().unwrap();
        assert_eq!(Marker::parse(&bytes).unwrap(), Some(marker));
        // As jsonb formats it, and with spaces.
        let spelled = br#" { "__larder" : {"moved": {"id": "1", "to": "b"}}}"#;
        assert!(matches!(Marker::parse(spelled).unwrap(), Some(Marker::Redirect { .. })));
        for session in [
            &b"{}"[..],
            b"",
            br#"{"__larders":1}"#,
            br#"["__larder"]"#,
            br#"{"__larder":{"moved":{"to":"b","id":"1"}},"a":1}"#,
            br#"{"a":1,"__larder":{"moved":{"to":"b","id":"1"}}}"#,
            br#"{"__larder":{"moved":{"to":"b","id":"1"}}} x"#,
            br#"{"__larder":{"moved":{"#,
            b"\x81\xa8__larder\xc0",
        ] {
            assert_eq!(Marker::parse(session).unwrap(), None);
        }
        let deep = format!(r#"{{"__larder":{}{}}}"#, "[".repeat(1_000), "]".repeat(1_000));
        for strange in
            [br#"{"\u005f_larder":{"moved":7}}"#, deep.as_bytes(), br#"{"__larder":1,"__larder":2}"#]
        {
            assert_eq!(Marker::parse(strange).unwrap_err().kind(), ErrorKind::Corrupt);
        }
    }
}
