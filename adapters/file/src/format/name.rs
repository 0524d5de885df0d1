//! Converts keys to file names in Larder's own layout, and back.
//!
//! A name consists of lower-case ASCII letters, digits and a few other characters that are safe in every file system,
//! shell and version of Windows. So two names differ even if the file system ignores case or normalizes Unicode. Every
//! other byte of the key becomes `%` and two hexadecimal digits. If the name would be too long, it is a digest of the
//! key, and the head of the file has the key.

use std::fmt::Write as _;

use larder_core::{Error, ErrorKind, Key, Result};
use sha2::{Digest, Sha256};

/// The maximum length of an encoded key that is used as a name. With the extension it is less than 143 bytes, the limit
/// of an encrypting file system (eCryptfs), which uses the rest of the usual 255.
const MAX_STEM: usize = 128;

/// The first character of a digest. Encoded keys never begin with it.
const DIGEST_MARK: u8 = b'#';

/// The names of devices on Windows, with any extension.
const DEVICES: [&str; 5] = ["con", "prn", "aux", "nul", "clock"];

/// The key that a file name represents.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FileName {
    /// This key.
    Key(Key),
    /// A long key, which is in the head of the file.
    Digest,
}

/// Returns the directory for a key: one of 256, by checksum.
pub(crate) fn shard(key: &Key) -> String {
    // The lowest byte is enough to spread the keys.
    format!("{:02x}", crc32fast::hash(key.as_bytes()).to_le_bytes()[0])
}

/// Returns whether a directory with this name may have entries.
pub(crate) fn is_shard(name: &str) -> bool {
    name.len() == 2 && name.bytes().all(is_digit)
}

fn is_digit(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

/// Returns the file name for a key, without the extension.
pub(crate) fn stem(key: &Key) -> String {
    let encoded = encode(key.as_str());
    if encoded.len() <= MAX_STEM { encoded } else { digest(key) }
}

/// Returns the key that a file name, without its extension, represents; `None` if this module does not produce the
/// name.
///
/// # Errors
///
/// [`ErrorKind::InvalidKey`] if the name represents an invalid key.
pub(crate) fn parse(stem: &[u8]) -> Result<Option<FileName>> {
    match stem {
        // A hidden file, for example of an editor.
        [] | [b'.', ..] => return Ok(None),
        [DIGEST_MARK, digest @ ..] => {
            let is_digest = digest.len() == 64 && digest.iter().copied().all(is_digit);
            return Ok(is_digest.then_some(FileName::Digest));
        }
        _ => {}
    }
    let text = decode(stem).ok_or_else(|| not_a_key("it is not UTF-8"))?;
    let key = Key::new(text).map_err(|error| not_a_key(error.message()))?;
    // Each key has one name: `%61` and `A` represent no key.
    Ok((self::stem(&key).as_bytes() == stem).then_some(FileName::Key(key)))
}

/// Returns the error for a file whose name is not that of a valid key.
pub(crate) fn not_a_key(reason: &str) -> Error {
    Error::new(
        ErrorKind::InvalidKey,
        format!("the name of a file in the directory is not a valid key ({reason}): rename the file"),
    )
}

fn encode(key: &str) -> String {
    let mut name = String::with_capacity(key.len() + 8);
    let escape_first = key.starts_with('.') || is_device(key);
    for (index, byte) in key.bytes().enumerate() {
        let plain = matches!(byte, b'a'..=b'z' | b'0'..=b'9') || b"-_.+=@,".contains(&byte);
        if plain && !(index == 0 && escape_first) {
            name.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(name, "%{byte:02x}");
        }
    }
    name
}

/// Returns whether the name is a device on Windows, which uses the part before the first dot.
fn is_device(key: &str) -> bool {
    let base = key.split('.').next().unwrap_or_default();
    let numbered = |prefix| {
        base.strip_prefix(prefix).is_some_and(|rest| rest.len() == 1 && rest.as_bytes()[0].is_ascii_digit())
    };
    DEVICES.contains(&base) || numbered("com") || numbered("lpt")
}

fn decode(stem: &[u8]) -> Option<String> {
    let mut parts = stem.split(|byte| *byte == b'%');
    let mut bytes = parts.next()?.to_vec();
    for part in parts {
        let (digits, plain) = part.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?);
        bytes.extend_from_slice(plain);
    }
    String::from_utf8(bytes).ok()
}

fn digest(key: &Key) -> String {
    let digits: String = Sha256::digest(key.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}{digits}", char::from(DIGEST_MARK))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;
    use unicode_normalization::UnicodeNormalization;

    use super::*;

    fn key(text: &str) -> Key {
        Key::new(text).unwrap()
    }

    #[test]
    fn common_keys_are_readable_names() {
        assert_eq!(stem(&key("-1001234567890")), "-1001234567890");
        assert_eq!(stem(&key("bot.v2:user_7@eu")), "bot.v2%3auser_7@eu");
        assert_eq!(stem(&key("Ab/é")), "%41b%2f%c3%a9");
    }

    #[test]
    fn unsafe_names_are_escaped() {
        for (text, name) in [
            (".", "%2e"),
            ("..", "%2e."),
            (".hidden", "%2ehidden"),
            ("con", "%63on"),
            ("aux.txt", "%61ux.txt"),
            ("com1", "%63om1"),
            ("com10", "com10"),
            ("lpt9.x.y", "%6cpt9.x.y"),
            ("console", "console"),
            ("NUL", "%4e%55%4c"),
            ("longna~1", "longna%7e1"),
            ("#", "%23"),
            ("a ", "a%20"),
            ("a.", "a."),
        ] {
            assert_eq!(stem(&key(text)), name);
            assert_eq!(parse(name.as_bytes()).unwrap(), Some(FileName::Key(key(text))));
        }
    }

    #[test]
    fn long_keys_have_a_digest_as_name() {
        let longest = "a".repeat(MAX_STEM);
        assert_eq!(stem(&key(&longest)), longest);
        let name = stem(&key(&format!("{longest}a")));
        assert_eq!(name.len(), 65);
        assert_eq!(parse(name.as_bytes()).unwrap(), Some(FileName::Digest));
        // 512 bytes, each of which would need three characters.
        assert_eq!(stem(&key(&"é".repeat(256))).len(), 65);
    }

    #[test]
    fn other_names_are_not_entries() {
        for name in ["%61", "A", "é", "a b", "#12", "con", "#", "..", ".a", "a/b"] {
            assert_eq!(parse(name.as_bytes()).unwrap(), None, "{name}");
        }
        assert_eq!(parse("a".repeat(MAX_STEM + 1).as_bytes()).unwrap(), None);
        let too_long = "a".repeat(Key::MAX_BYTES + 1);
        for name in ["%", "%4", "%zz", "%ff", "%0a", "a%7f", &too_long] {
            assert_eq!(parse(name.as_bytes()).unwrap_err().kind(), ErrorKind::InvalidKey, "{name}");
        }
    }

    /// Returns the name as seen by file systems that ignore case and normalize Unicode.
    fn folded(name: &str) -> [String; 2] {
        let upper = name.to_uppercase().to_lowercase();
        [upper.nfc().collect(), upper.nfd().collect()]
    }

    proptest! {
        #[test]
        fn every_key_has_a_safe_name_that_is_read_back(text in "\\PC{1,128}") {
            prop_assume!(text.len() <= Key::MAX_BYTES);
            let key = key(&text);
            let name = stem(&key);
            prop_assert!(name.len() <= MAX_STEM);
            prop_assert!(name.bytes().all(|byte| byte.is_ascii_graphic() && !byte.is_ascii_uppercase()));
            prop_assert!(!name.contains(['/', '\\', ':', '*', '?', '"', '<', '>', '|', '~']));
            prop_assert!(!name.starts_with('.') && !is_device(&name));
            match parse(name.as_bytes()).unwrap() {
                Some(FileName::Key(found)) => prop_assert_eq!(found, key),
                other => prop_assert!(other == Some(FileName::Digest) && name.starts_with('#')),
            }
        }

        #[test]
        fn names_differ_without_case_and_normalization(
            texts in proptest::collection::vec("[aAeE\u{301}éÉßſKKk%#.~ ıİﬁ1-]{1,5}", 2..40)
        ) {
            let mut seen: HashMap<[String; 2], String> = HashMap::new();
            for text in texts {
                if let Some(before) = seen.insert(folded(&stem(&key(&text))), text.clone()) {
                    prop_assert_eq!(before, text);
                }
            }
        }
    }
}
