//! A JSON number's text -> the BSON number that holds it exactly.

use mongodb::bson::{Bson, Decimal128};

use super::Numbers;

/// The largest integer that JavaScript tells from its neighbours: `Number.MAX_SAFE_INTEGER`.
pub(super) const MAX_SAFE: u64 = (1 << 53) - 1;

/// The BSON number for `text`, which is a number by JSON's grammar; `None` if no BSON number holds
/// it exactly.
///
/// Integers become the smallest of int32, int64 and decimal128 (34 digits) that holds all their digits.
/// Others become a double if reading it back gives the same decimal number, else a decimal128.
///
/// For JavaScript numbers are stored as its driver stores them: what a double holds is an int32 if it
/// is an integer of 32 bits, else a double. (The driver hands out an int64 beyond the safe integers, and
/// a decimal128, as an object instead of a number.)
pub(super) fn parse(text: &str, numbers: Numbers) -> Option<Bson> {
    let integer = !text.contains(['.', 'e', 'E']) && text != "-0";
    if integer && let Ok(number) = text.parse() {
        return Some(Bson::Int32(number));
    }
    if numbers == Numbers::JavaScript
        && let Some(double) = double(text)
    {
        let negative_zero = double == 0.0 && double.is_sign_negative();
        let short = (!negative_zero).then(|| double.to_string().parse().ok()).flatten();
        return Some(short.map_or(Bson::Double(double), Bson::Int32));
    }
    if integer {
        if let Ok(long) = text.parse() {
            return Some(Bson::Int64(long));
        }
        // One that needs an exponent would be taken for a double when it is read.
        if let Some(decimal) = decimal(text).filter(|decimal| !decimal.to_string().contains('E')) {
            return Some(decimal);
        }
    }
    double(text).map(Bson::Double).or_else(|| decimal(text))
}

fn double(text: &str) -> Option<f64> {
    let double: f64 = text.parse().ok()?;
    // The shortest text that names this double: what a reader of it will write again.
    (double.is_finite() && same(text, &format!("{double:e}"))).then_some(double)
}

fn decimal(text: &str) -> Option<Bson> {
    let decimal: Decimal128 = text.parse().ok()?;
    same(text, &decimal.to_string()).then_some(Bson::Decimal128(decimal))
}

fn same(one: &str, other: &str) -> bool {
    let one = Decimal::parse(one);
    one.is_some() && one == Decimal::parse(other)
}

/// A decimal number in a form that has one spelling: 0.digits * 10^exponent, the digits with no zero
/// at either end. Zero has no digits, and keeps its sign.
#[derive(PartialEq)]
struct Decimal {
    negative: bool,
    digits: Vec<u8>,
    exponent: i64,
}

impl Decimal {
    fn parse(text: &str) -> Option<Self> {
        let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let mut digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
        if !digits.iter().all(u8::is_ascii_digit) {
            return None; // `NaN`, `inf`
        }
        let mut exponent: i64 = exponent.parse().ok()?;
        exponent = exponent.checked_add(i64::try_from(whole.len()).ok()?)?;
        let zeros = digits.iter().take_while(|&&digit| digit == b'0').count();
        digits.drain(..zeros);
        exponent = exponent.checked_sub(i64::try_from(zeros).ok()?)?;
        while digits.last() == Some(&b'0') {
            digits.pop();
        }
        if digits.is_empty() {
            exponent = 0;
        }
        Some(Self { negative, digits, exponent })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<Bson> {
        super::parse(text, Numbers::AsStored)
    }

    #[test]
    fn javascript_gets_large_integers_as_its_own_numbers() {
        let parse = |text: &str| super::parse(text, Numbers::JavaScript);
        for (text, double) in [
            ("1000000000000000000", 1e18),
            ("-1000000000000000000", -1e18),
            ("100000000000000000000", 1e20),
            ("9007199254740992", 9_007_199_254_740_992.0),
            ("9007199254740991", 9_007_199_254_740_991.0),
            ("-2147483649", -2_147_483_649.0),
        ] {
            assert_eq!(parse(text), Some(Bson::Double(double)));
            assert!(!matches!(super::parse(text, Numbers::AsStored), Some(Bson::Double(_))), "{text}");
        }
        for text in ["5", "5.0", "0.5e1"] {
            assert_eq!(parse(text), Some(Bson::Int32(5)));
        }
        assert_eq!(parse("0.5"), Some(Bson::Double(0.5)));
        assert!(matches!(parse("-0"), Some(Bson::Double(zero)) if zero.is_sign_negative()));
        // Kept as it is if a double would change it.
        for number in [9_007_199_254_740_993, i64::MAX, i64::MIN + 1] {
            assert_eq!(parse(&number.to_string()), Some(Bson::Int64(number)));
        }
        assert!(matches!(parse("9223372036854775808"), Some(Bson::Decimal128(_))));
        assert_eq!(parse(&"1".repeat(35)), None);
    }

    #[test]
    fn each_number_gets_the_type_that_holds_it() {
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
        // In all its digits, as PostgreSQL's `jsonb` spells it.
        for (count, double) in [(34, 1e34), (40, 1e40), (308, 1e308)] {
            assert_eq!(parse(&zeros(count)), Some(Bson::Double(double)));
        }
        let digits = "1".repeat(35);
        for none in [digits.as_str(), "1e99999", "1e999999999999999999999"] {
            assert_eq!(parse(none), None, "{none}");
        }
    }
}
