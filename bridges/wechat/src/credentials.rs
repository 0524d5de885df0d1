//! Creates, checks, and compares ids and skeys.

use larder_core::{Error, ErrorKind, Result};
use sha1::{Digest, Sha1};
use subtle::ConstantTimeEq;

/// Hex digits in an id: 32 random bytes.
pub(crate) const ID_LENGTH: usize = 64;
/// Hex digits in an skey: a SHA-1.
pub(crate) const SKEY_LENGTH: usize = 40;

/// Returns a new id, from the operating system's random numbers.
pub(crate) fn new_id() -> Result<String> {
    let mut bytes = [0; ID_LENGTH / 2];
    getrandom::fill(&mut bytes)
        .map_err(|_| Error::new(ErrorKind::Other, "the operating system returned no random numbers"))?;
    Ok(hex(&bytes))
}

/// Returns the SHA-1 of the concatenated parts, in hex.
pub(crate) fn skey(parts: &[&str]) -> String {
    let mut hash = Sha1::new();
    for part in parts {
        hash.update(part);
    }
    hex(&hash.finalize())
}

/// Returns whether two skeys are equal. The time does not depend on the position of a difference.
pub(crate) fn same(one: &str, other: &str) -> bool {
    one.as_bytes().ct_eq(other.as_bytes()).into()
}

/// Returns whether `text` is `length` lower-case hex digits. The layer has never issued other ids, so the
/// store need not be asked for them.
pub(crate) fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |value: u8| char::from(DIGITS[usize::from(value & 15)]);
    bytes.iter().flat_map(|&byte| [digit(byte >> 4), digit(byte)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_skey_matches_the_test_vector() {
        let skey = skey(&["wx4f4bc4dec97d474b", "secret", "tiihtNczf5v6AKRyjwEUhQ=="]);
        assert_eq!(skey, "5979632ece7b73187705aab22951713a29ac031e");
        assert!(same(&skey, "5979632ece7b73187705aab22951713a29ac031e"));
        assert!(!same(&skey, "5979632ece7b73187705aab22951713a29ac031f"));
        assert!(!same(&skey, "5979632ece7b"));
    }

    #[test]
    fn ids_are_hex_and_differ() {
        let (one, other) = (new_id().unwrap(), new_id().unwrap());
        assert!(is_hex(&one, ID_LENGTH) && is_hex(&other, ID_LENGTH));
        assert_ne!(one, other);
    }

    #[test]
    fn malformed_ids_are_rejected() {
        let id = "a".repeat(ID_LENGTH);
        assert!(is_hex(&id, ID_LENGTH));
        for wrong in ["", &id[1..], &format!("{id}a"), &id.to_uppercase(), &"é".repeat(32), &"*".repeat(64)]
        {
            assert!(!is_hex(wrong, ID_LENGTH));
        }
    }
}
