//! Items, which are entries as DynamoDB stores them, and conditions on items. No I/O.

use std::collections::HashMap;

use aws_sdk_dynamodb::{primitives::Blob, types::AttributeValue};
use larder_core::{Action, Bytes, Change, Condition, Error, ErrorKind, Expiry, Key, Record, Result, Version};

/// The attributes by their names. Expressions need no placeholders, because the names in them are not reserved words.
pub(crate) type Item = HashMap<String, AttributeValue>;

pub(crate) const ID: &str = "id";
pub(crate) const REMOVE_AT: &str = "remove_at";
const VALUE: &str = "value";
const VERSION: &str = "version";
const EXPIRES_AT: &str = "expires_at";

/// The attributes of a read without the value. DynamoDB returns an item only with one of the requested attributes.
pub(crate) const WITHOUT_VALUE: &str = "id, expires_at";

/// The maximum size of a value: DynamoDB's 400 KiB for an item, less the key and the other attributes with their names.
pub(crate) const MAX_VALUE: usize = 400 * 1024 - 1024;

/// The time between the expiry of an entry and its removal by DynamoDB. AWS rejects requests of clients whose clocks
/// are off by more, so the entry has expired by the clock of every client.
const CLOCK_TOLERANCE_SECS: i64 = 5 * 60;

const ABSENT: &str = "attribute_not_exists(id) OR expires_at <= :now";
const PRESENT: &str = "attribute_exists(id) AND (attribute_not_exists(expires_at) OR expires_at > :now)";
const AT: &str = "version = :version AND (attribute_not_exists(expires_at) OR expires_at > :now)";

/// The values of an expression, by their names, which begin with `:`.
type Values = HashMap<String, AttributeValue>;

/// Returns the key of an item.
pub(crate) fn id(key: &Key) -> AttributeValue {
    AttributeValue::S(key.as_str().to_owned())
}

/// Returns the item that a put writes at `now`.
pub(crate) fn item(key: &Key, value: &Bytes, version: &Version, expiry: Expiry, now: i64) -> Item {
    let mut item = Item::from([
        (ID.to_owned(), id(key)),
        (VALUE.to_owned(), AttributeValue::B(Blob::new(value.to_vec()))),
        (VERSION.to_owned(), token(version)),
    ]);
    for (name, time) in deadlines(expiry, now) {
        item.insert(name.to_owned(), time);
    }
    item
}

/// Returns the update of a touch at `now`, and its values.
pub(crate) fn touch(expiry: Expiry, now: i64) -> (String, Values) {
    let values = deadlines(expiry, now).map(|(name, time)| (format!(":{name}"), time)).collect();
    let update = match expiry {
        Expiry::After(_) => "SET expires_at = :expires_at, remove_at = :remove_at",
        Expiry::Never => "REMOVE expires_at, remove_at",
    };
    (update.to_owned(), values)
}

/// Returns the condition of a change at `now`, and its values. A deletion and a touch need an entry that exists.
pub(crate) fn condition(change: &Change, now: i64) -> (Option<String>, Option<Values>) {
    let (test, version) = match &change.condition {
        Condition::Any if matches!(change.action, Action::Put(..)) => return (None, None),
        Condition::Absent => (ABSENT, None),
        Condition::At(version) => (AT, Some((":version".to_owned(), token(version)))),
        _ => (PRESENT, None),
    };
    let values = version.into_iter().chain([(":now".to_owned(), number(now))]).collect();
    (Some(test.to_owned()), Some(values))
}

/// Returns the record of an item that was read at `now`; `None` if it has expired.
pub(crate) fn record(item: &mut Item, value: bool, now: i64) -> Result<Option<Record>> {
    let deadline = match item.get(EXPIRES_AT) {
        None => None,
        Some(time) => Some(parsed(time)?),
    };
    let Some(expiry) = Expiry::until(deadline, now) else { return Ok(None) };
    if !value {
        return Ok(Some(Record::new(Bytes::new()).expires(expiry)));
    }
    let version = item.get(VERSION).ok_or_else(corrupt).and_then(parsed)?;
    let Some(AttributeValue::B(value)) = item.remove(VALUE) else { return Err(corrupt()) };
    Ok(Some(Record::at(value.into_inner().into(), Version::from_token(version)).expires(expiry)))
}

/// Returns the key of an item, as stored.
pub(crate) fn stored_id(item: &mut Item) -> Result<String> {
    match item.remove(ID) {
        Some(AttributeValue::S(id)) => Ok(id),
        _ => Err(corrupt()),
    }
}

/// Returns the attributes with the time of expiry in milliseconds, and the time of removal in seconds.
fn deadlines(expiry: Expiry, now: i64) -> impl Iterator<Item = (&'static str, AttributeValue)> {
    let remove_at = |deadline: i64| deadline / 1000 + 1 + CLOCK_TOLERANCE_SECS;
    let both = |deadline| [(EXPIRES_AT, number(deadline)), (REMOVE_AT, number(remove_at(deadline)))];
    expiry.deadline(now).map(both).into_iter().flatten()
}

fn number(number: i64) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

/// Returns a version as a number. The version of another kind of store is a number that no entry has.
fn token(version: &Version) -> AttributeValue {
    version.as_token().map_or_else(|| number(-1), |token| AttributeValue::N(token.to_string()))
}

fn parsed<T: std::str::FromStr>(value: &AttributeValue) -> Result<T> {
    value.as_n().ok().and_then(|number| number.parse().ok()).ok_or_else(corrupt)
}

fn corrupt() -> Error {
    Error::new(ErrorKind::Corrupt, "the item was not written by this adapter")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: i64 = 1_700_000_000_123;

    fn key() -> Key {
        Key::new("k").unwrap()
    }

    fn put(expiry: Expiry) -> Item {
        item(&key(), &Bytes::from_static(b"value"), &Version::from_token(u64::MAX), expiry, NOW)
    }

    #[test]
    fn an_item_is_read_back_until_it_expires() {
        let item = put(Expiry::after_millis(10));
        let read = |now| record(&mut item.clone(), true, now).unwrap();
        let expected = Record::at(Bytes::from_static(b"value"), Version::from_token(u64::MAX));
        assert_eq!(read(NOW + 3), Some(expected.expires(Expiry::after_millis(7))));
        assert_eq!(read(NOW + 10), None);
        let forever = record(&mut put(Expiry::Never), true, i64::MAX).unwrap().unwrap();
        assert_eq!(forever.expiry, Some(Expiry::Never));
    }

    #[test]
    fn dynamodb_removes_an_entry_only_after_the_tolerance() {
        let AttributeValue::N(removed) = &put(Expiry::after_millis(10))[REMOVE_AT] else { panic!() };
        let since = removed.parse::<i64>().unwrap() * 1000 - (NOW + 10);
        assert!(
            (CLOCK_TOLERANCE_SECS * 1000..=(CLOCK_TOLERANCE_SECS + 1) * 1000).contains(&since),
            "{since}"
        );
        assert!(!put(Expiry::Never).contains_key(REMOVE_AT));
        assert!(put(Expiry::After(Duration::MAX)).contains_key(REMOVE_AT));
    }

    #[test]
    fn items_of_other_programs_are_corrupt() {
        for (name, value) in [
            (EXPIRES_AT, AttributeValue::S("2027-01-01".to_owned())),
            (EXPIRES_AT, AttributeValue::N("1.5".to_owned())),
            (VERSION, AttributeValue::N("-1".to_owned())),
            (VERSION, AttributeValue::Bool(true)),
            (VALUE, AttributeValue::S("value".to_owned())),
        ] {
            let mut item = put(Expiry::Never);
            item.insert(name.to_owned(), value);
            assert_eq!(record(&mut item, true, NOW).unwrap_err().kind(), ErrorKind::Corrupt, "{name}");
        }
        let mut item = put(Expiry::Never);
        item.remove(VALUE);
        assert_eq!(record(&mut item, true, NOW).unwrap_err().kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn the_largest_item_has_400_kib() {
        // Names, and numbers with a byte per two digits and one more: an upper bound of DynamoDB's rule.
        let names = [ID, VALUE, VERSION, EXPIRES_AT, REMOVE_AT].iter().map(|name| name.len()).sum::<usize>();
        assert!(names + Key::MAX_BYTES + 3 * 21 + MAX_VALUE <= 400 * 1024);
    }

    #[test]
    fn the_version_of_another_store_matches_nothing() {
        let content = Version::from_content(Bytes::from_static(b"x"));
        let (_, values) = condition(&Change::delete(key()).on(Condition::At(content)), NOW);
        assert_eq!(values.unwrap()[":version"], number(-1));
    }
}
