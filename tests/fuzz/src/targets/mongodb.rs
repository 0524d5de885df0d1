//! MongoDB: JSON as BSON, and the documents of other programs.

use larder_core::ErrorKind;
use larder_mongodb::fuzzing::{document, value};
use serde_json::Value;

use crate::{Verdict, refused};

pub(super) fn json(input: &[u8]) -> Verdict {
    let mut verdict = Verdict::Refused;
    for grammy in [false, true] {
        let bson = match document(input, grammy) {
            Ok(bson) => bson,
            Err(error) => {
                refused(&error, &[ErrorKind::InvalidValue, ErrorKind::TooLarge]);
                continue;
            }
        };
        verdict = Verdict::Accepted;
        let text = value(bson.clone(), grammy).unwrap();
        if let (false, Ok(expected)) = (grammy, serde_json::from_slice::<Value>(input)) {
            assert_eq!(serde_json::from_slice::<Value>(&text).unwrap(), expected);
        }
        assert_eq!(document(&text, grammy).unwrap(), bson, "{}", text.escape_ascii());
    }
    verdict
}

/// The fields of a document.
pub(super) fn bson(input: &[u8]) -> Verdict {
    let length = u32::try_from(4 + input.len() + 1).unwrap();
    let stored = [&length.to_le_bytes()[..], input, &[0]].concat();
    let mut verdict = Verdict::Refused;
    for grammy in [false, true] {
        let text = match value(stored.clone(), grammy) {
            Ok(text) => text,
            Err(error) => {
                refused(&error, &[ErrorKind::Corrupt]);
                continue;
            }
        };
        verdict = Verdict::Accepted;
        // A document may be too deep, or have a name twice.
        match document(&text, grammy) {
            Ok(again) => assert_eq!(value(again, grammy).unwrap(), text, "{}", text.escape_ascii()),
            Err(error) => drop(refused(&error, &[ErrorKind::InvalidValue])),
        }
    }
    verdict
}
