//! JSON on our side, BSON on the server's: the form that people can query.
//!
//! Written by hand rather than over `serde_json`, because a number's text decides how it is stored:
//! a parser that has already made an `f64` of it has lost what could not be kept.

mod decode;
mod encode;
mod number;

pub(crate) use self::{
    decode::{Numbers, to_json},
    encode::to_bson,
};

#[cfg(test)]
mod tests {
    use mongodb::bson::{Bson, DateTime, RawDocumentBuf, doc, oid::ObjectId};

    use super::*;

    fn raw(value: Bson) -> RawDocumentBuf {
        RawDocumentBuf::try_from(&doc! { "v": value }).unwrap()
    }

    fn through(text: &str, numbers: Numbers) -> String {
        let stored = raw(to_bson(text.as_bytes(), numbers).unwrap());
        let mut json = Vec::new();
        to_json(stored.get("v").unwrap().unwrap(), numbers, &mut json).unwrap();
        String::from_utf8(json).unwrap()
    }

    #[test]
    fn json_comes_back_as_an_equal_value() {
        for text in [
            "null",
            "true",
            "[]",
            "{}",
            r#""""#,
            r#"{"":{"$set":1,"a.b":[{"$date":"x"},null]}}"#,
            "0",
            "-1",
            "2147483648",
            "9223372036854775807",
            "-9223372036854775808",
            "18446744073709551615",
            "0.1",
            "1.0",
            "-0.0",
            "5e-324",
            "1.7976931348623157e308",
            r#""\u0000\u001f\ud83c\udf55 \"quoted\" \\ \/ é""#,
            r#"[1,[2,[3,{"deep":[[[]]]}]]]"#,
        ] {
            let expected: serde_json::Value = serde_json::from_str(text).unwrap();
            let found: serde_json::Value = serde_json::from_str(&through(text, Numbers::AsStored)).unwrap();
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn numbers_that_a_double_cannot_hold_keep_every_digit() {
        for text in ["18446744073709551616", "0.1000000000000000055", "123456789012345678901234567890"] {
            assert_eq!(through(text, Numbers::AsStored), text);
        }
        assert!(through("1e400", Numbers::AsStored).eq_ignore_ascii_case("1e+400"));
    }

    #[test]
    fn javascript_numbers_have_no_spare_point() {
        assert_eq!(through("[1.0,9007199254740991.0,2.5]", Numbers::JavaScript), "[1,9007199254740991,2.5]");
        for text in
            ["1000000000000000000", "-100000000000000000000", "9007199254740993", "18446744073709551615"]
        {
            assert_eq!(through(text, Numbers::JavaScript), text);
        }
        assert_eq!(through("[1.0,2.5]", Numbers::AsStored), "[1.0,2.5]");
    }

    #[test]
    fn members_keep_their_order() {
        let text = r#"{"z":1,"a":2,"m":{"y":1,"b":2}}"#;
        assert_eq!(through(text, Numbers::AsStored), text);
    }

    #[test]
    fn foreign_types_come_as_relaxed_extended_json() {
        let id = ObjectId::parse_str("507f1f77bcf86cd799439011").unwrap();
        let value = doc! { "id": id, "at": DateTime::from_millis(1_600_000_000_123), "old": DateTime::MIN };
        let stored = raw(value.into());
        let mut json = Vec::new();
        to_json(stored.get("v").unwrap().unwrap(), Numbers::JavaScript, &mut json).unwrap();
        let found: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(found["id"]["$oid"], "507f1f77bcf86cd799439011");
        assert_eq!(found["at"]["$date"], "2020-09-13T12:26:40.123Z");
        assert_eq!(found["old"]["$date"]["$numberLong"], i64::MIN.to_string());
    }
}
