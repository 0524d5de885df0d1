//! Keys, which are checked when they are created.

use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

use crate::{Error, ErrorKind, Result};

/// The name of an entry: 1 to 512 bytes of UTF-8 without control characters.
///
/// A key is checked when it is created, so every `Key` is valid. Keys are data: `../../x`, `a'b`, `a*b?[c]`,
/// `$where` and `%` are ordinary keys on every adapter and never collide. Two keys are equal only if their bytes
/// are equal: upper and lower case differ, and so do Unicode normalisation forms.
///
/// Cloning is cheap (a reference count). `Display` prints the key. `Debug` prints only its length,
/// because a key may be a secret, such as the id in a session cookie.
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
    /// The maximum length of a key, in bytes.
    pub const MAX_BYTES: usize = 512;

    /// Creates a key from `text`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidKey`] if `text` is empty, longer than [`Key::MAX_BYTES`], or contains a
    /// control character (Unicode category Cc, which includes NUL).
    pub fn new(text: impl AsRef<str>) -> Result<Self> {
        let text = text.as_ref();
        let invalid = |message: String| Err(Error::new(ErrorKind::InvalidKey, message));
        if text.is_empty() {
            return invalid("the key is empty; a key has at least one byte".to_owned());
        }
        let (bytes, most) = (text.len(), Self::MAX_BYTES);
        if bytes > most {
            return invalid(format!("the key has {bytes} bytes; a key has at most {most}"));
        }
        if let Some(at) = text.find(char::is_control) {
            return invalid(format!("the key contains a control character at byte {at}; remove it"));
        }
        Ok(Self(Arc::from(text)))
    }

    /// Returns the key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the key as UTF-8 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Returns a short name for the key that does not reveal it: 8 hexadecimal digits.
    ///
    /// Errors and logs can print the fingerprint of a key that may be a secret. Equal keys have equal
    /// fingerprints, in every process and in every version of this crate. Different keys rarely have the same
    /// fingerprint. A fingerprint has 32 bits, so a long random key cannot be computed from it. It can
    /// confirm a guess of a key that is easy to guess, such as a small number.
    ///
    /// ```
    /// use larder_core::Key;
    ///
    /// assert_eq!(Key::new("chat:42")?.fingerprint(), "1b1e1c23");
    /// # Ok::<(), larder_core::Error>(())
    /// ```
    #[must_use]
    pub fn fingerprint(&self) -> String {
        // FNV-1a, with its two halves combined into one.
        let hash = self.as_bytes().iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        format!("{:08x}", (hash >> 32) ^ (hash & 0xffff_ffff))
    }
}

impl Error {
    /// Adds the [fingerprint](Key::fingerprint) of the entry's key, unless the error has one already.
    /// The key itself may be a secret, so the error does not contain it.
    #[must_use]
    pub fn with_key(self, key: &Key) -> Self {
        self.with_fingerprint(|| key.fingerprint())
    }
}

/// The types that [`Store`](crate::Store) accepts as a key: a [`Key`], or a text that becomes a key.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not the key of an entry",
    label = "expected a text or a `Key`",
    note = "a key is a `&str`, a `String` or a `Key`; for a number, write `format!(\"chat:{{id}}\")`"
)]
pub trait IntoKey {
    /// Converts the value into a key.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidKey`], as [`Key::new`].
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
    fn control_characters_are_rejected_without_printing_the_key() {
        for refused in ["secret\0", "secret\n", "secret\u{7f}", "secret\u{85}"] {
            let error = Key::new(refused).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidKey);
            assert!(!format!("{error} {error:?}").contains("secret"));
        }
    }

    #[test]
    fn fingerprints_are_stable_short_and_different() {
        let fingerprints: std::collections::HashSet<_> =
            (0..1_000).map(|number| Key::new(format!("chat:{number}")).unwrap().fingerprint()).collect();
        assert_eq!(fingerprints.len(), 1_000);
        assert!(fingerprints.iter().all(|fingerprint| fingerprint.len() == 8));
        assert_eq!(Key::new("名前").unwrap().fingerprint(), "39d19cf9");
    }

    #[test]
    fn other_characters_are_data() {
        for key in ["../../x", "a'b", "a*b?[c]", "$where", "%", " ", ".", "CON", "a/b", "名前", "e\u{301}"]
        {
            assert_eq!(Key::new(key).unwrap().as_str(), key);
        }
    }
}
