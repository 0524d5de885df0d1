//! Converts JSON values to BSON and back, so that MongoDB's own tools can read and query them.

mod decode;
mod encode;
mod number;
mod types;

pub(crate) use self::{
    decode::to_json,
    encode::from_json,
    number::{AsStored, JavaScript, Numbers},
};

#[cfg(test)]
mod tests {
    use mongodb::bson::{
        Binary, Bson, DateTime, Decimal128, JavaScriptCodeWithScope, RawDocumentBuf, Timestamp, doc,
        oid::ObjectId,
    };
    use serde_json::json;

    use super::*;

    const BOTH: [&dyn Numbers; 2] = [&AsStored, &JavaScript];

    fn raw(value: Bson) -> RawDocumentBuf {
        RawDocumentBuf::try_from(&doc! { "v": value }).unwrap()
    }

    fn through(text: &str, numbers: &dyn Numbers) -> String {
        read(from_json(text.as_bytes(), numbers).unwrap(), numbers)
    }

    fn read(value: Bson, numbers: &dyn Numbers) -> String {
        let stored = raw(value);
        String::from_utf8(to_json(stored.get("v").unwrap().unwrap(), numbers).unwrap()).unwrap()
    }

    #[test]
    fn json_is_read_back_as_an_equal_value() {
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
            let found: serde_json::Value = serde_json::from_str(&through(text, &AsStored)).unwrap();
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn numbers_beyond_a_double_keep_every_digit() {
        for text in ["18446744073709551616", "0.1000000000000000055", "123456789012345678901234567890"] {
            assert_eq!(through(text, &AsStored), text);
        }
        assert!(through("1e400", &AsStored).eq_ignore_ascii_case("1e+400"));
        // More than 34 digits, which end with zeros.
        assert_eq!(through(&format!("12345{}", "0".repeat(36)), &AsStored), "1.2345e40");
    }

    #[test]
    fn whole_javascript_numbers_have_no_decimal_point() {
        assert_eq!(through("[1.0,9007199254740991.0,2.5]", &JavaScript), "[1,9007199254740991,2.5]");
        for text in
            ["1000000000000000000", "-100000000000000000000", "9007199254740993", "18446744073709551615"]
        {
            assert_eq!(through(text, &JavaScript), text);
        }
        assert_eq!(through("[1.0,2.5]", &AsStored), "[1.0,2.5]");
    }

    #[test]
    fn members_keep_their_order() {
        let text = r#"{"z":1,"a":2,"m":{"y":1,"b":2}}"#;
        assert_eq!(through(text, &AsStored), text);
    }

    #[test]
    fn types_are_read_as_relaxed_extended_json() {
        let id = ObjectId::parse_str("507f1f77bcf86cd799439011").unwrap();
        let value = doc! {
            "id": id, "at": DateTime::from_millis(1_600_000_000_123), "old": DateTime::MIN,
            "nan": f64::NAN, "price": "1.50".parse::<Decimal128>().unwrap(),
        };
        let found: serde_json::Value = serde_json::from_str(&read(value.into(), &JavaScript)).unwrap();
        assert_eq!(found["id"]["$oid"], "507f1f77bcf86cd799439011");
        assert_eq!(found["at"]["$date"], "2020-09-13T12:26:40.123Z");
        assert_eq!(found["old"]["$date"]["$numberLong"], i64::MIN.to_string());
        assert_eq!(found["nan"]["$numberDouble"], "NaN");
        assert_eq!(found["price"]["$numberDecimal"], "1.50");
    }

    /// Made from JSON, because the types of its fields differ between the driver's features `bson-2` and `bson-3`.
    fn regex(pattern: &str, options: &str) -> Bson {
        let object = json!({ "$regularExpression": { "pattern": pattern, "options": options } });
        serde_json::from_value(object).unwrap()
    }

    /// Returns values of every type, and of documents that look like them.
    fn values() -> Vec<Bson> {
        let binary =
            |subtype: u8| Bson::Binary(Binary { subtype: subtype.into(), bytes: b"\0\xff bytes".to_vec() });
        let decimal = |text: &str| Bson::Decimal128(text.parse().unwrap());
        let timestamp = |time, increment| Bson::Timestamp(Timestamp { time, increment });
        let date = |millis| Bson::DateTime(DateTime::from_millis(millis));
        let scope = doc! { "at": DateTime::MAX, "n": 1 };
        let mut values = vec![
            Bson::ObjectId(ObjectId::parse_str("507f1f77bcf86cd799439011").unwrap()),
            Bson::Symbol("$s".to_owned()),
            Bson::JavaScriptCode("function () {}".to_owned()),
            Bson::JavaScriptCodeWithScope(JavaScriptCodeWithScope { code: "x".to_owned(), scope }),
            serde_json::from_str(
                r#"{"$dbPointer":{"$ref":"d.c","$id":{"$oid":"507f1f77bcf86cd799439011"}}}"#,
            )
            .unwrap(),
            Bson::Undefined,
            Bson::MinKey,
            Bson::MaxKey,
            timestamp(u32::MAX, 7),
            timestamp(1, u32::MAX),
            regex("^a\"\\d+$", "imx"),
            regex("", ""),
            Bson::Double(f64::NAN),
            Bson::Double(f64::INFINITY),
            Bson::Double(f64::NEG_INFINITY),
        ];
        values.extend([0, 2, 3, 4, 5, 9, 128, 255].map(binary));
        values.extend(
            [
                "1.50",
                "5",
                "0",
                "-0",
                "0E+3",
                "1E+3",
                "1E-6176",
                "9.999999999999999999999999999999999E+6144",
                "NaN",
                "Infinity",
                "-Infinity",
                "18446744073709551615",
                "0.1000000000000000055",
            ]
            .map(decimal),
        );
        values.extend(
            [
                0,
                1,
                -1,
                1_600_000_000_000,
                1_600_000_000_100,
                1_600_000_000_123,
                253_402_300_799_999,
                253_402_300_800_000,
                i64::MAX,
                i64::MIN,
                1_000_000_000_000_000_000,
            ]
            .map(date),
        );
        values.extend(
            [f64::MAX, f64::MIN, 5e-324, -0.0, 0.1, 1e21, 1e22, 2_147_483_648.0, -1e18, 2f64.powi(63)]
                .map(Bson::Double),
        );
        values.extend([i64::MAX, i64::MIN + 1, 9_007_199_254_740_993].map(Bson::Int64));
        values.extend([i32::MAX, i32::MIN, 0].map(Bson::Int32));
        values
    }

    /// Returns the document that looks like the object that represents a value.
    fn lookalike(value: &Bson, numbers: &dyn Numbers) -> Option<Bson> {
        // Among other members, these do not represent a type.
        let text = read(value.clone(), numbers);
        let text = text.strip_prefix('{').filter(|members| !members.starts_with('}'))?;
        let Ok(Bson::Document(mut members)) =
            from_json(format!(r#"{{"plain":0,"more":0,{text}"#).as_bytes(), numbers)
        else {
            panic!("not a document")
        };
        members.remove("plain");
        members.remove("more");
        Some(Bson::Document(members))
    }

    #[track_caller]
    fn survives(value: &Bson, numbers: &dyn Numbers) {
        let text = read(value.clone(), numbers);
        let written = from_json(text.as_bytes(), numbers).unwrap();
        // Compares bytes, because `==` distinguishes two NaN, and does not distinguish -0.0 from 0.0.
        assert_eq!(raw(written).as_bytes(), raw(value.clone()).as_bytes(), "{numbers:?} {text}");
    }

    #[test]
    fn every_type_survives_a_read_and_a_write() {
        for numbers in BOTH {
            for value in values() {
                survives(&value, numbers);
                survives(&doc! { "a": [{ "$set": value.clone() }, value.clone()] }.into(), numbers);
            }
        }
        // An int64 beyond JavaScript's safe integers does not become a double.
        survives(&Bson::Int64(1_000_000_000_000_000_000), &JavaScript);
        survives(&Bson::Int64(i64::MIN), &JavaScript);
    }

    #[test]
    fn a_document_that_looks_like_a_type_remains_a_document() {
        for numbers in BOTH {
            let mut texts = std::collections::HashSet::new();
            for value in values() {
                let mut value = Some(value);
                while let Some(next) =
                    value.filter(|value| texts.len() < 100_000 && texts.insert(read(value.clone(), numbers)))
                {
                    survives(&next, numbers);
                    for nested in [
                        doc! { "$literal": next.clone() },
                        doc! { "$literal": { "$literal": next.clone() } },
                        doc! { "$date": next.clone() },
                        doc! { "$code": "x", "$scope": next.clone() },
                    ] {
                        survives(&nested.clone().into(), numbers);
                        if let Some(lookalike) = lookalike(&nested.into(), numbers) {
                            survives(&lookalike, numbers);
                        }
                    }
                    let deep = read(next.clone(), numbers).matches("$literal").count() > 3;
                    value = if deep {
                        None
                    } else {
                        lookalike(&next, numbers).filter(|lookalike| *lookalike != next)
                    };
                }
            }
        }
    }

    #[test]
    fn text_that_looks_like_a_type_is_read_back_equal() {
        // All objects of up to three levels of these names and values, with members in either order.
        let leaves = [
            r#""507f1f77bcf86cd799439011""#,
            r#""507F1F77BCF86CD799439011""#,
            r#""2020-09-13T12:26:40.123Z""#,
            r#""2020-09-13T12:26:40+02:00""#,
            r#""NaN""#,
            r#""5""#,
            r#""1.50""#,
            r#""00""#,
            "1",
            "1.0",
            "true",
            "{}",
            r#"{"base64":"AA==","subType":"00"}"#,
            r#"{"subType":"0","base64":"AA=="}"#,
            r#"{"subType":"05","base64":"AA=="}"#,
            r#"{"base64":"AB==","subType":"00"}"#,
            r#"{"t":1,"i":2}"#,
            r#"{"i":0.0,"t":4294967295}"#,
            r#"{"t":-1,"i":2}"#,
            r#"{"options":"im","pattern":"a"}"#,
            r#"{"pattern":"a","options":"mi"}"#,
            r#"{"pattern":"a\u0000","options":""}"#,
            r#"{"$numberLong":"5"}"#,
            r#"{"$numberLong":"1000000000000000000"}"#,
            r#"{"$numberLong":"-9223372036854775808"}"#,
        ];
        let names = [
            "$oid",
            "$date",
            "$binary",
            "$numberDouble",
            "$numberDecimal",
            "$numberLong",
            "$regularExpression",
            "$timestamp",
            "$symbol",
            "$code",
            "$scope",
            "$undefined",
            "$minKey",
            "$maxKey",
            "$literal",
            "$dbPointer",
            "a",
        ];
        let object = |name: &str, value: &str| format!(r#"{{"{name}":{value}}}"#);
        let one: Vec<String> =
            names.iter().flat_map(|name| leaves.iter().map(|leaf| object(name, leaf))).collect();
        let outer = ["$literal", "$date", "$scope", "a"];
        let two: Vec<String> =
            outer.iter().flat_map(|name| one.iter().map(|inner| object(name, inner))).collect();
        let three: Vec<String> =
            outer.iter().flat_map(|name| two.iter().map(|inner| object(name, inner))).collect();
        let scoped = one.iter().chain(&two).flat_map(|scope| {
            [format!(r#"{{"$code":"x","$scope":{scope}}}"#), format!(r#"{{"$scope":{scope},"$code":"x"}}"#)]
        });
        let all: Vec<String> = scoped.chain(one.iter().chain(&two).chain(&three).cloned()).collect();
        for (numbers, one_type) in [(BOTH[0], false), (BOTH[1], true)] {
            for text in &all {
                let parsed = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
                let (mut found, mut expected) = (parsed(&through(text, numbers)), parsed(text));
                if one_type {
                    whole_numbers(&mut found);
                    whole_numbers(&mut expected);
                }
                assert_eq!(found, expected, "{numbers:?}");
            }
        }
    }

    /// Converts numbers to doubles, because 1.0 and 1 are the same number in JavaScript.
    fn whole_numbers(value: &mut serde_json::Value) {
        match value {
            serde_json::Value::Object(members) => members.values_mut().for_each(whole_numbers),
            serde_json::Value::Array(items) => items.iter_mut().for_each(whole_numbers),
            serde_json::Value::Number(number) => {
                if let Some(double) = number.as_f64() {
                    *value = double.into();
                }
            }
            _ => {}
        }
    }

    #[test]
    fn sorted_members_still_represent_their_type() {
        let regex = regex("a", "i");
        let text = r#"{"$regularExpression":{"options":"i","pattern":"a"}}"#;
        assert_eq!(from_json(text.as_bytes(), &JavaScript).unwrap(), regex);
    }
}
