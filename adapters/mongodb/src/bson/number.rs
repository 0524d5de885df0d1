//! Converts JSON numbers, as text, to BSON numbers that represent them exactly, and back.

use std::fmt;

use mongodb::bson::{Bson, Decimal128, RawBsonRef};

/// A rule for converting integers and doubles.
pub(crate) trait Numbers: fmt::Debug + Sync {
    /// Returns the BSON number for `text`, which is a number by JSON's grammar; `None` if no BSON number represents it
    /// exactly.
    fn parse(&self, text: &str) -> Option<Bson>;

    /// Returns the text of a number; `None` if `value` is not a JSON number, or if [`parse`](Self::parse) would convert
    /// the text to another type.
    fn spell(&self, value: RawBsonRef<'_>) -> Option<String>;
}

/// Doubles and integers remain distinct: a double without a fraction is written `1.0`. An integer is stored as int32 if
/// it fits, otherwise as int64, even if it was an int64 before.
#[derive(Debug)]
pub(crate) struct AsStored;

impl Numbers for AsStored {
    /// Integers become the smallest of int32, int64 and decimal128 (34 digits) that represents all digits. Other
    /// numbers become a double if reading it back returns the same decimal number, otherwise a decimal128.
    fn parse(&self, text: &str) -> Option<Bson> {
        if !text.contains(['.', 'e', 'E']) && text != "-0" {
            if let Ok(number) = text.parse() {
                return Some(Bson::Int32(number));
            }
            if let Ok(long) = text.parse() {
                return Some(Bson::Int64(long));
            }
            // A decimal128 with an exponent would be read as a double.
            if let Some(decimal) = decimal(text).filter(|decimal| !decimal.to_string().contains('E')) {
                return Some(decimal);
            }
        }
        double(text).map(Bson::Double).or_else(|| decimal(text))
    }

    fn spell(&self, value: RawBsonRef<'_>) -> Option<String> {
        match value {
            RawBsonRef::Int32(integer) => Some(integer.to_string()),
            RawBsonRef::Int64(long) => Some(long.to_string()),
            // The shortest text that is read as this double, with a decimal point or an exponent.
            RawBsonRef::Double(double) if double.is_finite() => Some(format!("{double:?}")),
            // Only if the text is not read as a double.
            RawBsonRef::Decimal128(decimal) => {
                let text = decimal.to_string();
                (self.parse(&text) == Some(Bson::Decimal128(decimal))).then_some(text)
            }
            _ => None,
        }
    }
}

/// A double without a fraction is written `1`, because 1.0 and 1 are the same number in JavaScript. Numbers are stored
/// as its driver stores them, whether they were int32, int64 or double: a number that a double represents is an int32
/// if it is an integer of 32 bits, otherwise a double. (The driver returns an int64 beyond the safe integers, and a
/// decimal128, as an object instead of a number.)
#[derive(Debug)]
pub(crate) struct JavaScript;

impl JavaScript {
    /// The largest integer that JavaScript distinguishes from its neighbors: `Number.MAX_SAFE_INTEGER`.
    const MAX_SAFE: u64 = (1 << 53) - 1;
}

impl Numbers for JavaScript {
    fn parse(&self, text: &str) -> Option<Bson> {
        let stored = AsStored.parse(text)?;
        let double = match stored {
            Bson::Int32(_) => None,
            Bson::Double(double) => Some(double),
            _ => double(text),
        };
        let short = |double: f64| if is_whole(double) { double.to_string().parse().ok() } else { None };
        Some(double.map_or(stored, |double| short(double).map_or(Bson::Double(double), Bson::Int32)))
    }

    fn spell(&self, value: RawBsonRef<'_>) -> Option<String> {
        match value {
            // As in JSON.stringify: integers below 10^21 with all digits and no decimal point.
            RawBsonRef::Double(double) if is_whole(double) => Some(double.to_string()),
            RawBsonRef::Int64(long) if long.unsigned_abs() <= Self::MAX_SAFE => Some(long.to_string()),
            // The driver returns other int64, and decimal128, as objects: they must not become doubles.
            RawBsonRef::Int64(_) | RawBsonRef::Decimal128(_) => {
                AsStored.spell(value).filter(|text| self.parse(text) == Bson::try_from(value).ok())
            }
            _ => AsStored.spell(value),
        }
    }
}

/// Returns whether the number is an integer that JavaScript writes without an exponent.
fn is_whole(double: f64) -> bool {
    let negative_zero = double == 0.0 && double.is_sign_negative();
    double.fract() == 0.0 && double.abs() < 1e21 && !negative_zero
}

fn double(text: &str) -> Option<f64> {
    let double: f64 = text.parse().ok()?;
    // Compares with the shortest text of this double, which a reader would write again.
    (double.is_finite() && same(text, &format!("{double:e}"))).then_some(double)
}

fn decimal(text: &str) -> Option<Bson> {
    let decimal: Decimal128 = text.parse().ok()?;
    same(text, &decimal.to_string()).then_some(Bson::Decimal128(decimal))
}

fn same(one: &str, other: &str) -> bool {
    let one = parts(one);
    one.is_some() && one == parts(other)
}

/// Returns the canonical form of a decimal number: its sign, its digits without zeros at either end, and the exponent
/// of the last digit. Zero has no digits, and keeps its sign.
fn parts(text: &str) -> Option<(bool, String, i64)> {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = [whole.strip_prefix('-').unwrap_or(whole), fraction].concat();
    if !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None; // `NaN`, `inf`
    }
    let digits = digits.trim_start_matches('0');
    let significant = digits.trim_end_matches('0');
    let zeros = i64::try_from(digits.len() - significant.len()).ok()?;
    let exponent = exponent.parse::<i64>().ok()?.checked_sub(i64::try_from(fraction.len()).ok()?)?;
    let exponent = if significant.is_empty() { 0 } else { exponent.checked_add(zeros)? };
    Some((whole.starts_with('-'), significant.to_owned(), exponent))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<Bson> {
        AsStored.parse(text)
    }

    #[test]
    fn large_integers_become_doubles_for_javascript() {
        let parse = |text: &str| JavaScript.parse(text);
        for (text, double) in [
            ("1000000000000000000", 1e18),
            ("-1000000000000000000", -1e18),
            ("100000000000000000000", 1e20),
            ("9007199254740992", 9_007_199_254_740_992.0),
            ("9007199254740991", 9_007_199_254_740_991.0),
            ("-2147483649", -2_147_483_649.0),
        ] {
            assert_eq!(parse(text), Some(Bson::Double(double)));
            assert!(!matches!(AsStored.parse(text), Some(Bson::Double(_))), "{text}");
        }
        for text in ["5", "5.0", "0.5e1"] {
            assert_eq!(parse(text), Some(Bson::Int32(5)));
        }
        assert_eq!(parse("0.5"), Some(Bson::Double(0.5)));
        assert!(matches!(parse("-0"), Some(Bson::Double(zero)) if zero.is_sign_negative()));
        // Unchanged if a double would change it.
        for number in [9_007_199_254_740_993, i64::MAX, i64::MIN + 1] {
            assert_eq!(parse(&number.to_string()), Some(Bson::Int64(number)));
        }
        assert!(matches!(parse("9223372036854775808"), Some(Bson::Decimal128(_))));
        assert_eq!(parse(&"1".repeat(35)), None);
    }

    #[test]
    fn each_number_has_the_smallest_exact_type() {
        assert_eq!(parse("5"), Some(Bson::Int32(5)));
        assert_eq!(parse("2147483648"), Some(Bson::Int64(2_147_483_648)));
        for double in ["0.1", "1.0", "1e2", "-0", "-0.0", "1E+2", "0.10", "3e-7", "1.5e300"] {
            assert!(matches!(parse(double), Some(Bson::Double(_))), "{double}");
        }
        for decimal in ["9223372036854775808", "1e400", "0.1000000000000000055", "1e-400"] {
            assert!(matches!(parse(decimal), Some(Bson::Decimal128(_))), "{decimal}");
        }
        let zeros = |count| format!("1{}", "0".repeat(count));
        assert!(matches!(parse(&zeros(33)), Some(Bson::Decimal128(_))));
        // Written with all digits, as PostgreSQL's `jsonb` does.
        for (count, double) in [(34, 1e34), (40, 1e40), (308, 1e308)] {
            assert_eq!(parse(&zeros(count)), Some(Bson::Double(double)));
        }
        let digits = "1".repeat(35);
        for none in [digits.as_str(), "1e99999", "1e999999999999999999999"] {
            assert_eq!(parse(none), None, "{none}");
        }
    }
}
