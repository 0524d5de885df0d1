//! The values of a load, which say which write they are of.

use fastrand::Rng;
use larder::{Expiry, Record};

use crate::history::Content;

const DAY: u64 = 24 * 60 * 60;

/// Returns the value of a write: a JSON string, which every store returns byte by byte.
pub(crate) fn value(key: &str, serial: u64, size: usize) -> String {
    let mut rng = Rng::with_seed(serial);
    let noise: String = (0..size).map(|_| rng.alphanumeric()).collect();
    format!("\"{key} {serial} {noise}\"")
}

/// Returns the content that an entry was written with.
///
/// # Errors
///
/// If the value is not one that [`value`] returns for the key.
pub(crate) fn content(key: &str, record: &Record) -> Result<Content, String> {
    let damaged = || format!("the value of {key} is damaged");
    let text = std::str::from_utf8(&record.value).map_err(|_| damaged())?;
    let mut words = text.trim_matches('"').splitn(3, ' ').skip(1);
    let serial = words.next().and_then(|serial| serial.parse().ok()).ok_or_else(damaged)?;
    let size = words.next().ok_or_else(damaged)?.len();
    if text != value(key, serial, size) {
        return Err(damaged());
    }
    let days = match record.expiry {
        Some(Expiry::After(rest)) => rest.as_secs() / DAY + 1,
        Some(Expiry::Never) | None => 0,
    };
    Ok(Content { serial, size, days })
}

/// The time to live of a [`Content`]. It is so long that the load ends before it has elapsed by a day.
pub(crate) fn expiry(days: u64) -> Expiry {
    if days == 0 { Expiry::Never } else { Expiry::after_secs(days * DAY - 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_recognised_and_a_damaged_one_is_not() {
        let text = value("k", 7, 5000);
        let record = Record::new(text.clone().into()).expires(expiry(2));
        assert_eq!(content("k", &record), Ok(Content { serial: 7, size: 5000, days: 2 }));
        assert_eq!(content("k", &Record::new(text.clone().into())).unwrap().days, 0);
        content("other", &record).unwrap_err();
        for damage in [&text[1..], "", "\"k 7\"", "\"k 7 a\"", &text.replace("7 ", "8 ")] {
            content("k", &Record::new(damage.to_owned().into())).unwrap_err();
        }
        let mut torn = text.into_bytes();
        torn[4096..].fill(0);
        content("k", &Record::new(torn.into())).unwrap_err();
    }
}
