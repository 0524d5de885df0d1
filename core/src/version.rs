//! What compare-and-swap compares.

use std::fmt;

use bytes::Bytes;

use crate::unique;

/// Which state of an entry a read saw. Opaque: compare it, or make a
/// [`Condition::At`](crate::Condition::At) of it.
///
/// Each adapter makes versions the way that is cheapest for it, and says which way in
/// [`Info::versions`](crate::Info::versions): a token that every write draws anew,
/// or the content itself. `Debug` prints neither.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Version(Repr);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Repr {
    Token(u64),
    Content(Bytes),
}

impl Version {
    /// A version from a number that the store keeps beside the value.
    #[must_use]
    pub const fn from_token(token: u64) -> Self {
        Self(Repr::Token(token))
    }

    /// A version that is the content (or a digest of it). Handing over the value's own `Bytes`
    /// costs a reference count; the adapter digests it only if it is ever compared.
    #[must_use]
    pub const fn from_content(content: Bytes) -> Self {
        Self(Repr::Content(content))
    }

    /// A token that no other write has, in this process or another: an [`id64`](unique::id64).
    #[must_use]
    pub fn unique() -> Self {
        Self::from_token(unique::id64())
    }

    /// As many tokens that no other write has, for the changes of a batch.
    #[must_use]
    pub fn unique_many(count: usize) -> Vec<Self> {
        unique::id64s(count).into_iter().map(Self::from_token).collect()
    }

    /// The number, if this version is one. Adapters only.
    #[must_use]
    pub const fn as_token(&self) -> Option<u64> {
        match &self.0 {
            Repr::Token(token) => Some(*token),
            Repr::Content(_) => None,
        }
    }

    /// The content, if this version is made of it. Adapters only.
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
