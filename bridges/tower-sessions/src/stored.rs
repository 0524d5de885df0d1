//! The stored form of a session.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use larder_core::{Bytes, Codec, Error, ErrorKind, Expiry, Json, Result};
use serde::{Deserialize, Serialize, de::IgnoredAny};
use serde_json::Value;
use time::{OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339};

/// The maximal nesting of a value: serde_json reads 127 levels, and the stored form uses two.
const DEEPEST: usize = 125;

/// A session, without its id.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Session<'a> {
    pub(crate) data: Cow<'a, HashMap<String, Value>>,
    pub(crate) expires: OffsetDateTime,
}

impl Session<'_> {
    /// Returns the time from now until the session expires, or zero if it has expired.
    pub(crate) fn expiry(&self) -> Expiry {
        Expiry::After(Duration::try_from(self.expires - OffsetDateTime::now_utc()).unwrap_or_default())
    }
}

#[derive(Serialize)]
struct Written<'a> {
    id: &'a str,
    expires: String,
    // Sorted by name, so that equal sessions are equal bytes.
    data: BTreeMap<&'a str, &'a Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored<T> {
    id: String,
    expires: String,
    data: HashMap<String, T>,
}

pub(crate) fn encode(id: &str, session: &Session<'_>) -> Result<Bytes> {
    if !session.data.values().all(|value| fits(value, DEEPEST)) {
        return Err(Error::new(
            ErrorKind::Codec,
            "a value of the session has more than 125 levels of nesting and could not be read back",
        ));
    }
    let expires = session
        .expires
        .checked_to_offset(UtcOffset::UTC)
        .and_then(|date| date.format(&Rfc3339).ok())
        .ok_or_else(|| {
            Error::new(ErrorKind::Codec, "the year of the expiry date must be between 0 and 9999")
        })?;
    let data = session.data.iter().map(|(name, value)| (name.as_str(), value)).collect();
    Json.encode(&Written { id, expires, data })
}

pub(crate) fn decode(bytes: &[u8], id: &str) -> Result<Session<'static>> {
    let stored: Stored<Value> = Json.decode(bytes)?;
    let expires = stored.check(id)?;
    Ok(Session { data: Cow::Owned(stored.data), expires })
}

/// Checks that the bytes are the session called `id`.
pub(crate) fn check(bytes: &[u8], id: &str) -> Result<()> {
    let stored: Stored<IgnoredAny> = Json.decode(bytes)?;
    stored.check(id).map(drop)
}

impl<T> Stored<T> {
    fn check(&self, id: &str) -> Result<OffsetDateTime> {
        if self.id != id {
            return Err(Error::new(ErrorKind::Codec, "the stored session has another id"));
        }
        OffsetDateTime::parse(&self.expires, &Rfc3339)
            .map_err(|_| Error::new(ErrorKind::Codec, "the stored session has no valid expiry date"))
    }
}

fn fits(value: &Value, levels: usize) -> bool {
    match value {
        Value::Array(values) => levels > 0 && values.iter().all(|value| fits(value, levels - 1)),
        Value::Object(members) => levels > 0 && members.values().all(|value| fits(value, levels - 1)),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ID: &str = "BwAAAAAAAAAAAAAAAAAAAA";

    fn session(data: Value) -> Session<'static> {
        let data = HashMap::from([("value".to_owned(), data)]);
        let expires = OffsetDateTime::UNIX_EPOCH + Duration::new(1_935_403_200, 250_000_000);
        Session { data: Cow::Owned(data), expires }
    }

    /// Returns `levels` nested arrays.
    fn nested(levels: usize) -> Value {
        (0..levels).fold(json!(1), |inner, _| json!([inner]))
    }

    #[test]
    fn a_stored_session_is_readable_json() {
        let bytes = encode(ID, &session(json!([1, "two"]))).unwrap();
        let expected = r#"{"id":"BwAAAAAAAAAAAAAAAAAAAA","expires":"2031-05-01T12:00:00.25Z","data":{"value":[1,"two"]}}"#;
        assert_eq!(bytes, expected.as_bytes());
        assert_eq!(decode(&bytes, ID).unwrap(), session(json!([1, "two"])));
    }

    #[test]
    fn accepted_values_can_be_read_back() {
        let deepest = session(nested(DEEPEST));
        let bytes = encode(ID, &deepest).unwrap();
        assert_eq!(decode(&bytes, ID).unwrap(), deepest);
        check(&bytes, ID).unwrap();
        assert_eq!(encode(ID, &session(nested(DEEPEST + 1))).unwrap_err().kind(), ErrorKind::Codec);
    }

    #[test]
    fn numbers_round_trip_exactly() {
        let numbers = json!([
            139.390_000_000_000_01,
            -120.654_873_651_235_05,
            5e-324,
            f64::MAX,
            -0.0,
            u64::MAX,
            i64::MIN
        ]);
        let decoded = decode(&encode(ID, &session(numbers.clone())).unwrap(), ID).unwrap();
        // Compared as text, because `-0.0` equals `0.0`.
        assert_eq!(decoded.data["value"].to_string(), numbers.to_string());
    }

    #[test]
    fn the_ttl_is_never_negative() {
        let expiry = |expires| Session { expires, ..session(json!(1)) }.expiry();
        assert!(expiry(OffsetDateTime::UNIX_EPOCH).is_elapsed());
        assert!(expiry(OffsetDateTime::now_utc() + Duration::from_secs(9)).as_millis() > Some(8_000));
    }
}
