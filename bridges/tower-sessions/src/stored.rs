//! The stored form of a session.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use larder_core::{Bytes, Codec, Error, ErrorKind, Expiry, Json, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::{OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339};

/// The maximal nesting of a value: serde_json reads 127 levels, and the stored form uses two.
const DEEPEST: usize = 125;

/// A session, without its id.
#[cfg_attr(test, derive(Debug, PartialEq))]
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
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    expires: String,
    // Sorted by name, so that equal sessions are equal bytes.
    data: BTreeMap<&'a str, &'a Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Read {
    id: Option<String>,
    expires: String,
    data: HashMap<String, Value>,
}

impl larder_web_sessions::Session for Session<'_> {
    type Data = HashMap<String, Value>;

    fn data(&self) -> &HashMap<String, Value> {
        &self.data
    }

    fn encode(&self, id: Option<&str>) -> Result<Bytes> {
        if !self.data.values().all(|value| fits(value, DEEPEST)) {
            return Err(Error::new(
                ErrorKind::Codec,
                "a value of the session has more than 125 levels of nesting and could not be read back",
            ));
        }
        let expires = self
            .expires
            .checked_to_offset(UtcOffset::UTC)
            .and_then(|date| date.format(&Rfc3339).ok())
            .ok_or_else(|| {
                Error::new(ErrorKind::Codec, "the year of the expiry date must be between 0 and 9999")
            })?;
        let data = self.data.iter().map(|(name, value)| (name.as_str(), value)).collect();
        Json.encode(&Written { id, expires, data })
    }

    fn decode(value: &[u8], id: Option<&str>) -> Result<Self> {
        let read: Read = Json.decode(value)?;
        if read.id.as_deref() != id {
            return Err(Error::new(ErrorKind::Codec, "the stored session has another id"));
        }
        let expires = OffsetDateTime::parse(&read.expires, &Rfc3339)
            .map_err(|_| Error::new(ErrorKind::Codec, "the stored session has no valid expiry date"))?;
        Ok(Self { data: Cow::Owned(read.data), expires })
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
    use larder_web_sessions::Session as _;
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

    fn decoded(bytes: &[u8], id: Option<&str>) -> Session<'static> {
        Session::decode(bytes, id).unwrap()
    }

    #[test]
    fn a_stored_session_is_readable_json() {
        let bytes = session(json!([1, "two"])).encode(None).unwrap();
        let expected = r#"{"expires":"2031-05-01T12:00:00.25Z","data":{"value":[1,"two"]}}"#;
        assert_eq!(bytes, expected.as_bytes());
        assert_eq!(decoded(&bytes, None), session(json!([1, "two"])));
        let bytes = session(json!("two")).encode(Some(ID)).unwrap();
        let expected =
            r#"{"id":"BwAAAAAAAAAAAAAAAAAAAA","expires":"2031-05-01T12:00:00.25Z","data":{"value":"two"}}"#;
        assert_eq!(bytes, expected.as_bytes());
        assert_eq!(decoded(&bytes, Some(ID)), session(json!("two")));
    }

    #[test]
    fn the_forms_are_not_mistaken_for_each_other() {
        let session = session(json!(1));
        let (hashed, plain) = (session.encode(None).unwrap(), session.encode(Some(ID)).unwrap());
        for (bytes, id) in [(&hashed, Some(ID)), (&plain, None), (&plain, Some("id"))] {
            assert_eq!(Session::decode(bytes, id).unwrap_err().kind(), ErrorKind::Codec);
        }
    }

    #[test]
    fn accepted_values_can_be_read_back() {
        let deepest = session(nested(DEEPEST));
        assert_eq!(decoded(&deepest.encode(None).unwrap(), None), deepest);
        let deeper = session(nested(DEEPEST + 1));
        assert_eq!(deeper.encode(None).unwrap_err().kind(), ErrorKind::Codec);
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
        let decoded = decoded(&session(numbers.clone()).encode(None).unwrap(), None);
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
