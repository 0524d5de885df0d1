//! Keys: checked once, trusted afterwards.

use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

use crate::{Error, ErrorKind, Result};

/// The name of an entry: 1 to 512 bytes of UTF-8 without control characters.
///
/// A key is checked when it is made, so an adapter can trust every `Key` it is given. Keys are
/// data: `../../x`, `a'b`, `a*b?[c]`, `$where` and `%` are ordinary keys on every adapter and never
/// collide. Two keys are equal only if their bytes are: case counts, and so does the Unicode
/// normalisation form.
///
/// Cloning is cheap (a reference count). `Display` prints the key; `Debug` prints only its length,
/// since a key may itself be a secret, such as the id in a session cookie.
///
/// ```
/// use larder_core::Key;
///
/// let key = Key::new("chat:-1001234567890")?;
/// assert_eq!(key.as_str(), "chat:-1001234567890");
/// assert_eq!(format!("{key:?}"), "Key(19 bytes)");
/// assert!(Key::new("").is_err());
/// assert!(Key::new("line\nbreak").is_err());
/// # Ok::<(), larder_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<str>);

impl Key {
    /// The longest key, in bytes.
    pub const MAX_BYTES: usize = 512;

    /// Checks `text` and makes it a key.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidKey`] if `text` is empty, longer than [`Key::MAX_BYTES`], or contains a
    /// control character (Unicode category Cc, of which NUL is one).
    pub fn new(text: impl AsRef<str>) -> Result<Self> {
        let text = text.as_ref();
        let invalid = |message: String| Err(Error::new(ErrorKind::InvalidKey, message));
        if text.is_empty() {
            return invalid("a key has at least one byte; this one is empty".to_owned());
        }
        let (bytes, most) = (text.len(), Self::MAX_BYTES);
        if bytes > most {
            return invalid(format!("a key has at most {most} bytes; this one has {bytes}"));
        }
        if let Some(at) = text.find(char::is_control) {
            return invalid(format!("a key has no control characters; this one has one at byte {at}"));
        }
        Ok(Self(Arc::from(text)))
    }

    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The key as bytes of UTF-8.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// A short name for the key that does not reveal it: 8 hexadecimal digits.
    ///
    /// Errors and logs can print it where a key may be a secret. Equal keys have equal fingerprints, in
    /// every process and in every version of this crate. Different keys rarely share one. A fingerprint
    /// has 32 bits, so it cannot be turned back into a long random key. It can confirm a guess of a key
    /// that is easy to guess, such as a small number.
    ///
    /// ```
    /// use larder_core::Key;
    ///
    /// assert_eq!(Key::new("chat:42")?.fingerprint(), "1b1e1c23");
    /// # Ok::<(), larder_core::Error>(())
    /// ```
    #[must_use]
    pub fn fingerprint(&self) -> String {
        // FNV-1a, its two halves folded into one.
        let hash = self.as_bytes().iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        format!("{:08x}", (hash >> 32) ^ (hash & 0xffff_ffff))
    }
}

impl Error {
    /// Names the entry by the [fingerprint](Key::fingerprint) of its key, unless one is named already.
    /// The key itself may be a secret and is not kept.
    #[must_use]
    pub fn with_key(self, key: &Key) -> Self {
        self.with_fingerprint(|| key.fingerprint())
    }
}

/// What the methods of [`Store`](crate::Store) take as a key: a [`Key`], or a text that is checked.
pub trait IntoKey {
    /// The key.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidKey`] as [`Key::new`].
    fn into_key(self) -> Result<Key>;
}

impl IntoKey for Key {
    fn into_key(self) -> Result<Key> {
        Ok(self)
    }
}

impl IntoKey for &Key {
    fn into_key(self) -> Result<Key> {
        Ok(self.clone())
    }
}

impl IntoKey for &str {
    fn into_key(self) -> Result<Key> {
        Key::new(self)
    }
}

impl IntoKey for String {
    fn into_key(self) -> Result<Key> {
        Key::new(self)
    }
}

impl IntoKey for &String {
    fn into_key(self) -> Result<Key> {
        Key::new(self)
    }
}

impl FromStr for Key {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::new(text)
    }
}

impl AsRef<str> for Key {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_limits_are_in_bytes() {
        assert!(Key::new("k").is_ok());
        assert!(Key::new("k".repeat(512)).is_ok());
        assert!(Key::new("é".repeat(256)).is_ok());
        for refused in [String::new(), "k".repeat(513), "é".repeat(257)] {
            assert_eq!(Key::new(&refused).unwrap_err().kind(), ErrorKind::InvalidKey);
            assert_eq!(refused.parse::<Key>().unwrap_err().kind(), ErrorKind::InvalidKey);
        }
    }

    #[test]
    fn control_characters_are_refused_without_printing_the_key() {
        for refused in ["secret\0", "secret\n", "secret\u{7f}", "secret\u{85}"] {
            let error = Key::new(refused).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidKey);
            assert!(!format!("{error} {error:?}").contains("secret"));
        }
    }

    #[test]
    fn fingerprint_is_stable_short_and_different_for_different_keys() {
        let fingerprints: std::collections::HashSet<_> =
            (0..1_000).map(|number| Key::new(format!("chat:{number}")).unwrap().fingerprint()).collect();
        assert_eq!(fingerprints.len(), 1_000);
        assert!(fingerprints.iter().all(|fingerprint| fingerprint.len() == 8));
        assert_eq!(Key::new("名前").unwrap().fingerprint(), "39d19cf9");
    }

    #[test]
    fn everything_else_is_data() {
        for key in ["../../x", "a'b", "a*b?[c]", "$where", "%", " ", ".", "CON", "a/b", "名前", "e\u{301}"]
        {
            assert_eq!(Key::new(key).unwrap().as_str(), key);
        }
    }
}
