//! Converts values to BSON, and checks their size. No I/O.

use bytes::Bytes;
use larder_core::{Error, ErrorKind, Result};
use mongodb::bson::{Bson, RawDocumentBuf, Timestamp, doc};

use crate::bson::{self, Numbers};

/// The maximum size of a value: MongoDB's 16 MiB for a document, less space for the other fields.
pub(crate) const MAX_VALUE: usize = 16 * 1024 * 1024 - 1024;
/// The maximum size of a value as BSON, including length and terminator. The key (512 bytes), the version, the expiry
/// and the names of all fields fit into the rest.
const MAX_BSON: usize = 16 * 1024 * 1024 - 640;
/// The maximum ratio of the size of BSON to that of its JSON. The worst case is short numbers in a list: `1,` takes a
/// type, an index of up to seven digits with a terminator, and four bytes.
pub(crate) const MAX_GROWTH: usize = 8;

/// Converts a JSON value to BSON.
///
/// # Errors
///
/// `InvalidValue` if the value is not JSON or BSON cannot represent it; `TooLarge` if its BSON is too large.
pub(crate) fn to_bson(value: &Bytes, numbers: &dyn Numbers) -> Result<Bson> {
    let bson = bson::from_json(value, numbers)?;
    // The server replaces a field that is an empty timestamp by the current time.
    if bson == Bson::Timestamp(Timestamp { time: 0, increment: 0 }) {
        return Err(Error::new(ErrorKind::InvalidValue, "an empty timestamp cannot be the whole value"));
    }
    let fits = || {
        let whole = RawDocumentBuf::try_from(&doc! { "": &bson });
        whole.is_ok_and(|whole| whole.as_bytes().len() <= MAX_BSON)
    };
    if value.len() > MAX_BSON / MAX_GROWTH && !fits() {
        let message = "the value is too large: as BSON it does not fit into MongoDB's 16 MiB for a document";
        return Err(Error::new(ErrorKind::TooLarge, message));
    }
    Ok(bson)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bson::{AsStored, JavaScript};

    const BOTH: [&dyn Numbers; 2] = [&AsStored, &JavaScript];

    #[test]
    fn bson_is_at_most_max_growth_times_as_long_as_its_json() {
        for item in ["1", "-0", "\"\"", "[]", "{}", "1e9", "null", "{\"a\":1}"] {
            for numbers in BOTH {
                let text = format!("[{}]", vec![item; 200_000].join(","));
                let bson = to_bson(&Bytes::from(text.clone()), numbers).unwrap();
                let size = RawDocumentBuf::try_from(&doc! { "": bson }).unwrap().as_bytes().len();
                // The index of an item may have one more digit.
                assert!(size + 200_000 < text.len() * MAX_GROWTH, "{item}");
            }
        }
    }

    #[test]
    fn types_that_json_lacks_are_recognized() {
        let types = r#"{"a":{"$oid":"507f1f77bcf86cd799439011"},"b":{"$date":"2020-09-13T12:26:40Z"},
            "c":{"$binary":{"base64":"AP8=","subType":"02"}},"d":{"$symbol":"s"},"e":{"$undefined":true},
            "f":{"$regularExpression":{"pattern":"a+","options":"im"}},"g":{"$timestamp":{"t":1,"i":2}},
            "h":{"$code":"x"},"i":{"$code":"x","$scope":{"y":{"$minKey":1}}},"j":{"$maxKey":1},
            "k":{"$numberDecimal":"1.50"},"l":{"$numberDouble":"NaN"}}"#;
        let value = to_bson(&Bytes::from_static(types.as_bytes()), &JavaScript).unwrap();
        let Bson::Document(document) = value else { panic!("not a document") };
        assert!(document.values().all(|value| !matches!(value, Bson::Document(_))), "{document}");
    }

    #[test]
    fn whole_values_that_could_not_be_read_back_are_rejected() {
        let empty = r#"{"$timestamp":{"t":0,"i":0}}"#;
        for numbers in BOTH {
            let error = to_bson(&Bytes::from(empty), numbers).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidValue);
            assert!(to_bson(&Bytes::from(format!("[{empty}]")), numbers).is_ok());
        }
        let binary = Bytes::from_static(br#"{"$binary":{"base64":"AP8=","subType":"00"}}"#);
        assert!(matches!(to_bson(&binary, &JavaScript).unwrap(), Bson::Binary(_)));
    }

    #[test]
    fn short_numbers_in_a_list_exceed_the_limit_as_bson() {
        // Each takes an index and four bytes.
        let numbers = format!("[{}1]", "1,".repeat(2_000_000));
        let error = to_bson(&Bytes::from(numbers), &JavaScript).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge);
    }
}
