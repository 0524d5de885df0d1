//! The stored form of a session.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use larder_core::{Bytes, Codec, Error, ErrorKind, Expiry, Json, Result, unique};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
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

/// A value in the place of a session.
#[cfg_attr(test, derive(Debug))]
pub(crate) enum Stored<T> {
    /// A session: its data and its expiry date.
    Session(HashMap<String, T>, OffsetDateTime),
    /// The announcement that a session is moving to this place.
    Moving,
}

impl Stored<Value> {
    pub(crate) fn into_session(self) -> Option<Session<'static>> {
        match self {
            Self::Session(data, expires) => Some(Session { data: Cow::Owned(data), expires }),
            Self::Moving => None,
        }
    }
}

/// The time to live of an announcement: much longer than a move takes.
pub(crate) const ANNOUNCED_FOR: Duration = Duration::from_secs(60);

/// `{"moving":"..."}`
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Announcement {
    /// Unique, so that two announcements have different versions in every storage.
    Moving(String),
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
struct Read<T> {
    id: Option<String>,
    expires: String,
    data: HashMap<String, T>,
}

/// Encodes a session. With a plain id as its key, the value contains the id too.
pub(crate) fn encode(id: Option<&str>, session: &Session<'_>) -> Result<Bytes> {
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

/// Decodes a value that was read from the place of a session.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8], id: Option<&str>) -> Result<Stored<T>> {
    let read: Read<T> = match Json.decode(bytes) {
        Ok(read) => read,
        Err(_) if id.is_none() && Json.decode::<Announcement>(bytes).is_ok() => return Ok(Stored::Moving),
        Err(error) => return Err(error),
    };
    if read.id.as_deref() != id {
        return Err(Error::new(ErrorKind::Codec, "the stored session has another id"));
    }
    let expires = OffsetDateTime::parse(&read.expires, &Rfc3339)
        .map_err(|_| Error::new(ErrorKind::Codec, "the stored session has no valid expiry date"))?;
    Ok(Stored::Session(read.data, expires))
}

/// Encodes an announcement.
pub(crate) fn announcement() -> Result<Bytes> {
    Json.encode(&Announcement::Moving(format!("{:016x}", unique::id64())))
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
    use serde::de::IgnoredAny;
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
        decode(bytes, id).unwrap().into_session().unwrap()
    }

    #[test]
    fn a_stored_session_is_readable_json() {
        let bytes = encode(None, &session(json!([1, "two"]))).unwrap();
        let expected = r#"{"expires":"2031-05-01T12:00:00.25Z","data":{"value":[1,"two"]}}"#;
        assert_eq!(bytes, expected.as_bytes());
        assert_eq!(decoded(&bytes, None), session(json!([1, "two"])));
        let bytes = encode(Some(ID), &session(json!("two"))).unwrap();
        let expected =
            r#"{"id":"BwAAAAAAAAAAAAAAAAAAAA","expires":"2031-05-01T12:00:00.25Z","data":{"value":"two"}}"#;
        assert_eq!(bytes, expected.as_bytes());
        assert_eq!(decoded(&bytes, Some(ID)), session(json!("two")));
    }

    #[test]
    fn the_forms_are_not_mistaken_for_each_other() {
        let session = session(json!(1));
        let (hashed, plain) = (encode(None, &session).unwrap(), encode(Some(ID), &session).unwrap());
        let announcement = announcement().unwrap();
        for (bytes, id) in
            [(&hashed, Some(ID)), (&plain, None), (&plain, Some("id")), (&announcement, Some(ID))]
        {
            assert_eq!(decode::<Value>(bytes, id).unwrap_err().kind(), ErrorKind::Codec);
        }
        assert_eq!(decode::<Value>(&announcement, None).unwrap().into_session(), None);
    }

    #[test]
    fn accepted_values_can_be_read_back() {
        let deepest = session(nested(DEEPEST));
        let bytes = encode(None, &deepest).unwrap();
        assert_eq!(decoded(&bytes, None), deepest);
        assert!(matches!(decode::<IgnoredAny>(&bytes, None).unwrap(), Stored::Session(..)));
        assert_eq!(encode(None, &session(nested(DEEPEST + 1))).unwrap_err().kind(), ErrorKind::Codec);
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
        let decoded = decoded(&encode(None, &session(numbers.clone())).unwrap(), None);
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
