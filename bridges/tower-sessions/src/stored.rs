//! The stored form of a session.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use larder_core::{Bytes, Codec, Error, ErrorKind, Expiry, Json, Result};
use serde::{Deserialize, Serialize, de::IgnoredAny};
use serde_json::Value;
use time::{OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339};
use tower_sessions_core::session::{Id, Record};

/// The maximal nesting of a value: serde_json reads 127 levels, and the stored form uses two.
const DEEPEST: usize = 125;

#[derive(Serialize)]
struct Written<'a> {
    id: String,
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

pub(crate) fn encode(record: &Record) -> Result<Bytes> {
    if !record.data.values().all(|value| fits(value, DEEPEST)) {
        return Err(Error::new(
            ErrorKind::Codec,
            "a value of the session has more than 125 levels of nesting and could not be read back",
        ));
    }
    let expires = record
        .expiry_date
        .checked_to_offset(UtcOffset::UTC)
        .and_then(|date| date.format(&Rfc3339).ok())
        .ok_or_else(|| {
            Error::new(ErrorKind::Codec, "the year of the expiry date must be between 0 and 9999")
        })?;
    let data = record.data.iter().map(|(name, value)| (name.as_str(), value)).collect();
    Json.encode(&Written { id: record.id.to_string(), expires, data })
}

pub(crate) fn decode(bytes: &[u8], id: &Id) -> Result<Record> {
    let stored: Stored<Value> = Json.decode(bytes)?;
    let expiry_date = stored.check(id)?;
    Ok(Record { id: *id, data: stored.data, expiry_date })
}

/// Checks that the bytes are the session called `id`.
pub(crate) fn check(bytes: &[u8], id: &Id) -> Result<()> {
    let stored: Stored<IgnoredAny> = Json.decode(bytes)?;
    stored.check(id).map(drop)
}

/// Returns the time from now until `date`, or zero if `date` has passed.
pub(crate) fn expiry(date: OffsetDateTime) -> Expiry {
    Expiry::After(Duration::try_from(date - OffsetDateTime::now_utc()).unwrap_or_default())
}

impl<T> Stored<T> {
    fn check(&self, id: &Id) -> Result<OffsetDateTime> {
        if self.id != id.to_string() {
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

    fn record(data: Value) -> Record {
        let data = HashMap::from([("value".to_owned(), data)]);
        Record {
            id: Id(7),
            data,
            expiry_date: OffsetDateTime::UNIX_EPOCH + Duration::new(1_935_403_200, 250_000_000),
        }
    }

    /// Returns `levels` nested arrays.
    fn nested(levels: usize) -> Value {
        (0..levels).fold(json!(1), |inner, _| json!([inner]))
    }

    #[test]
    fn a_stored_session_is_readable_json() {
        let bytes = encode(&record(json!([1, "two"]))).unwrap();
        let expected = r#"{"id":"BwAAAAAAAAAAAAAAAAAAAA","expires":"2031-05-01T12:00:00.25Z","data":{"value":[1,"two"]}}"#;
        assert_eq!(bytes, expected.as_bytes());
        assert_eq!(decode(&bytes, &Id(7)).unwrap(), record(json!([1, "two"])));
    }

    #[test]
    fn accepted_values_can_be_read_back() {
        let deepest = record(nested(DEEPEST));
        let bytes = encode(&deepest).unwrap();
        assert_eq!(decode(&bytes, &Id(7)).unwrap(), deepest);
        check(&bytes, &Id(7)).unwrap();
        assert_eq!(encode(&record(nested(DEEPEST + 1))).unwrap_err().kind(), ErrorKind::Codec);
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
        let decoded = decode(&encode(&record(numbers.clone())).unwrap(), &Id(7)).unwrap();
        // Compared as text, because `-0.0` equals `0.0`.
        assert_eq!(decoded.data["value"].to_string(), numbers.to_string());
    }

    #[test]
    fn the_ttl_is_never_negative() {
        assert!(expiry(OffsetDateTime::UNIX_EPOCH).is_elapsed());
        assert!(expiry(OffsetDateTime::now_utc() + Duration::from_secs(9)).as_millis() > Some(8_000));
    }
}
