//! Versions, for compare-and-swap.

use std::fmt;

use bytes::Bytes;

use crate::unique;

/// Identifies one state of an entry. Opaque: compare it, or use it in
/// [`Condition::At`](crate::Condition::At).
///
/// A version is either a token that is new for every write, or the content itself. Each adapter uses the
/// cheaper of the two and names it in [`Info::versions`](crate::Info::versions). `Debug` prints neither.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Version(Repr);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Repr {
    Token(u64),
    Content(Bytes),
}

impl Version {
    /// Creates a version from a number that is stored beside the value.
    #[must_use]
    pub const fn from_token(token: u64) -> Self {
        Self(Repr::Token(token))
    }

    /// Creates a version from the content, or from a digest of it. Passing the value's own `Bytes`
    /// costs only a reference count; the adapter computes a digest only if the version is compared.
    #[must_use]
    pub const fn from_content(content: Bytes) -> Self {
        Self(Repr::Content(content))
    }

    /// Creates a token that no other write has, in this process or another: an [`id64`](unique::id64).
    #[must_use]
    pub fn unique() -> Self {
        Self::from_token(unique::id64())
    }

    /// Creates `count` tokens that no other write has, for the changes of a batch.
    #[must_use]
    pub fn unique_many(count: usize) -> Vec<Self> {
        unique::id64s(count).into_iter().map(Self::from_token).collect()
    }

    /// Returns the token, if this version is a token. For adapters.
    #[must_use]
    pub const fn as_token(&self) -> Option<u64> {
        match &self.0 {
            Repr::Token(token) => Some(*token),
            Repr::Content(_) => None,
        }
    }

    /// Returns the content, if this version is a content. For adapters.
    #[must_use]
    pub const fn as_content(&self) -> Option<&Bytes> {
        match &self.0 {
            Repr::Token(_) => None,
            Repr::Content(content) => Some(content),
        }
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Version(..)")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn unique_versions_differ() {
        let one_by_one = (0..10_000).map(|_| Version::unique());
        let versions: HashSet<_> = one_by_one.chain(Version::unique_many(10_000)).collect();
        assert_eq!(versions.len(), 20_000);
    }

    #[test]
    fn debug_prints_no_content() {
        let version = Version::from_content(Bytes::from_static(b"secret"));
        assert_eq!(format!("{version:?}"), "Version(..)");
    }
}
