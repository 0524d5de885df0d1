//! Where entries are.

/// Where a storage keeps its entries, however it was addressed.
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

/// How the entries of one [`Location`] relate to those of another one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overlap {
    /// The two have no entry in common.
    Disjoint,
    /// The two have the same entries, under the same keys.
    Same,
    /// The entries of the other one are those whose keys begin with this prefix here. The other one leaves
    /// the prefix out.
    Contains(String),
    /// The entries here are those whose keys begin with this prefix in the other one.
    Within(String),
}

impl Location {
    /// The place that `id` names. The id begins with the name of the adapter, and two ids are equal if and only
    /// if the places are the same, whatever the URLs were.
    pub fn new(id: impl Into<String>) -> Self {
        Self { id: id.into(), prefix: String::new() }
    }

    /// Only the entries there whose keys begin with `prefix`, which the storage leaves out. Prefixes add up.
    #[must_use]
    pub fn with_prefix(mut self, prefix: &str) -> Self {
        self.prefix.push_str(prefix);
        self
    }

    /// How the entries here relate to those of `other`.
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
