//! Equality of values and times to live.

use std::{collections::BTreeMap, time::Duration};

use larder_core::{Expiry, Store, Values};
use serde_json::value::RawValue;

/// The depth to which JSON is compared. Deeper values count as different.
const MAX_DEPTH: usize = 128;

/// The default for the greatest difference between two times to live that count as equal.
pub(super) const TOLERANCE: Duration = Duration::from_secs(5);

/// The way to compare the values of two stores.
#[derive(Clone, Copy, Debug)]
pub(super) enum Comparison {
    /// Both stores keep the bytes of a value unchanged.
    Bytes,
    /// One of the stores changes the text of JSON, so values are equal if they are equal as JSON.
    Json,
}

impl Comparison {
    pub(super) fn between(one: &Store, other: &Store) -> Self {
        let exact = |store: &Store| store.info().values == Values::Bytes;
        if exact(one) && exact(other) { Self::Bytes } else { Self::Json }
    }

    pub(super) fn equal(self, one: &[u8], other: &[u8]) -> bool {
        one == other
            || match self {
                Self::Bytes => false,
                Self::Json => {
                    let parse = |bytes| serde_json::from_slice::<&RawValue>(bytes).ok();
                    matches!((parse(one), parse(other)), (Some(one), Some(other)) if same(one, other, MAX_DEPTH))
                }
            }
    }
}

/// Whether two times to live differ by at most `tolerance`. `None`: the entry has expired.
pub(super) fn close(here: Option<Expiry>, there: Option<Expiry>, tolerance: Duration) -> bool {
    let gone = Expiry::After(Duration::ZERO);
    match (here.unwrap_or(gone), there.unwrap_or(gone)) {
        (Expiry::After(here), Expiry::After(there)) => here.abs_diff(there) <= tolerance,
        (here, there) => here == there,
    }
}

type Object<'a> = BTreeMap<String, &'a RawValue>;

/// Whether two JSON values are equal. Numbers are compared by their decimal digits, because two different large
/// numbers can be the same `f64`.
fn same(one: &RawValue, other: &RawValue, depth: usize) -> bool {
    let (one, other) = (one.get(), other.get());
    let Some(depth) = depth.checked_sub(1) else {
        return false;
    };
    match (one.as_bytes().first(), other.as_bytes().first()) {
        (Some(b'{'), Some(b'{')) => match (parse::<Object<'_>>(one), parse::<Object<'_>>(other)) {
            (Some(one), Some(other)) => {
                one.len() == other.len()
                    && one.iter().zip(&other).all(|((name, one), (other_name, other))| {
                        name == other_name && same(one, other, depth)
                    })
            }
            _ => false,
        },
        (Some(b'['), Some(b'[')) => match (parse::<Vec<&RawValue>>(one), parse::<Vec<&RawValue>>(other)) {
            (Some(one), Some(other)) => {
                one.len() == other.len() && one.iter().zip(&other).all(|(one, other)| same(one, other, depth))
            }
            _ => false,
        },
        (Some(b'"'), Some(b'"')) => {
            matches!((parse::<String>(one), parse::<String>(other)), (Some(one), Some(other)) if one == other)
        }
        (Some(b'-' | b'0'..=b'9'), Some(b'-' | b'0'..=b'9')) => {
            matches!((Decimal::parse(one), Decimal::parse(other)), (Some(one), Some(other)) if one == other)
        }
        // true, false, null
        _ => one == other,
    }
}

fn parse<'a, T: serde::Deserialize<'a>>(json: &'a str) -> Option<T> {
    serde_json::from_str(json).ok()
}

/// A JSON number: its digits without zeros at either end, and the power of ten of the last digit.
#[derive(PartialEq, Eq)]
struct Decimal {
    negative: bool,
    digits: String,
    exponent: i64,
}

impl Decimal {
    fn parse(number: &str) -> Option<Self> {
        let (negative, number) = number.strip_prefix('-').map_or((false, number), |number| (true, number));
        let (number, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let digits = format!("{whole}{fraction}");
        let exponent = exponent.parse::<i64>().ok()?.checked_sub(i64::try_from(fraction.len()).ok()?)?;
        let significant = digits.trim_end_matches('0');
        let exponent = exponent.checked_add(i64::try_from(digits.len() - significant.len()).ok()?)?;
        let digits = significant.trim_start_matches('0').to_owned();
        if digits.is_empty() {
            return Some(Self { negative: false, digits, exponent: 0 });
        }
        Some(Self { negative, digits, exponent })
    }
}

#[cfg(test)]
mod tests {
    use super::Comparison;

    #[test]
    fn json_is_compared_as_json_and_bytes_as_bytes() {
        let (spaced, compact) = (br#"{ "a": 1, "b": [2.50] }"#, br#"{"b":[2.5],"a":1}"#);
        assert!(Comparison::Json.equal(spaced, compact));
        assert!(!Comparison::Bytes.equal(spaced, compact));
        assert!(!Comparison::Json.equal(b"1", b"2"));
        assert!(!Comparison::Json.equal(b"{\"a\":1}", b"{\"b\":1}"));
        assert!(!Comparison::Json.equal(b"[1]", b"[1,1]"));
        assert!(Comparison::Json.equal(br#""\u0041""#, br#""A""#));
        assert!(Comparison::Json.equal(b"not json", b"not json"));
        assert!(!Comparison::Json.equal(b"not json", b"nor this"));
    }

    #[test]
    fn numbers_are_compared_digit_by_digit() {
        for (one, other) in [("1e16", "10000000000000000"), ("2.50", "25e-1"), ("-0", "0.0"), ("100", "1E+2")]
        {
            assert!(Comparison::Json.equal(one.as_bytes(), other.as_bytes()), "{one} {other}");
        }
        for (one, other) in
            [("36893488147419103233", "36893488147419103234"), ("1", "-1"), ("1", "10"), ("1", "true")]
        {
            assert!(!Comparison::Json.equal(one.as_bytes(), other.as_bytes()), "{one} {other}");
        }
    }

    #[test]
    fn types_of_extended_json_are_compared() {
        // Values of MongoDB as its adapter reads them: a date, and a document that looks like a date.
        let (date, document) =
            (br#"{"$date":"2027-01-01T00:00:00Z"}"#, br#"{"$literal":{"$date":"2027-01-01T00:00:00Z"}}"#);
        assert!(!Comparison::Json.equal(date, document));
        assert!(!Comparison::Json.equal(br#"{"$numberDecimal":"1.50"}"#, b"1.50"));
        // JSON has one type of number.
        assert!(Comparison::Json.equal(b"5", b"5.0"));
    }

    #[test]
    fn deeply_nested_values_count_as_different_and_do_not_crash() {
        let deep = |space: &str| "[".repeat(20_000) + space + &"]".repeat(20_000);
        assert!(!Comparison::Json.equal(deep("").as_bytes(), deep(" ").as_bytes()));
        let deep = |space: &str| "[".repeat(100) + space + &"]".repeat(100);
        assert!(Comparison::Json.equal(deep("").as_bytes(), deep(" ").as_bytes()));
    }
}
