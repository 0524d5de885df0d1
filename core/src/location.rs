//! The location of entries.

/// The location of a storage's entries. It does not depend on the URL that opened the storage.
///
/// ```
/// use larder_core::{Location, Overlap};
///
/// let database = Location::new("example:server-7/0");
/// let bot = database.clone().with_prefix("bot:");
/// assert_eq!(database.overlap(&bot), Overlap::Contains("bot:".to_owned()));
/// assert_eq!(database.overlap(&Location::new("example:server-8/0")), Overlap::Disjoint);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    id: String,
    prefix: String,
}

/// How the entries of one [`Location`] relate to the entries of another one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overlap {
    /// The locations have no entry in common.
    Disjoint,
    /// The locations have the same entries, with the same keys.
    Same,
    /// This location contains the other one: its entries whose keys begin with this prefix. In the other
    /// location, the keys do not have the prefix.
    Contains(String),
    /// The other location contains this one: its entries whose keys begin with this prefix. In this location,
    /// the keys do not have the prefix.
    Within(String),
}

impl Location {
    /// Creates a location from an id. The id must begin with the adapter's name. Two ids must be equal if and
    /// only if the entries are the same, even if the URLs differ.
    pub fn new(id: impl Into<String>) -> Self {
        Self { id: id.into(), prefix: String::new() }
    }

    /// Limits the location to the entries whose keys begin with `prefix`, for a storage that removes the prefix
    /// from its keys. A second call adds to the prefix.
    #[must_use]
    pub fn with_prefix(mut self, prefix: &str) -> Self {
        self.prefix.push_str(prefix);
        self
    }

    /// Returns how the entries of this location relate to the entries of `other`.
    #[must_use]
    pub fn overlap(&self, other: &Self) -> Overlap {
        if self.id != other.id {
            return Overlap::Disjoint;
        }
        let (here, there) = (&self.prefix, &other.prefix);
        match (there.strip_prefix(here.as_str()), here.strip_prefix(there.as_str())) {
            (Some(""), _) => Overlap::Same,
            (Some(longer), _) => Overlap::Contains(longer.to_owned()),
            (_, Some(longer)) => Overlap::Within(longer.to_owned()),
            (None, None) => Overlap::Disjoint,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_decide_how_locations_overlap() {
        let at = |prefix| Location::new("x").with_prefix(prefix);
        assert_eq!(at("a:").overlap(&at("a:")), Overlap::Same);
        assert_eq!(at("").overlap(&at("a:")), Overlap::Contains("a:".to_owned()));
        assert_eq!(at("a:b:").overlap(&at("a:")), Overlap::Within("b:".to_owned()));
        assert_eq!(at("a:").overlap(&at("b:")), Overlap::Disjoint);
        assert_eq!(at("a:").overlap(&Location::new("y").with_prefix("a:")), Overlap::Disjoint);
        assert_eq!(at("a:").with_prefix("b:"), at("a:b:"));
    }
}
