//! The options, in code and in a URL.

use std::time::Duration;

use larder_core::{Error, ErrorKind, Key, Operation, Result};
use larder_kit::{Interval, StoreUrl};

pub(crate) const NAME: &str = "memory";

/// What an entry counts towards `max_bytes` besides the bytes of its key and value: about what the map,
/// the two allocations and the order of use take.
pub const ENTRY_OVERHEAD: u64 = 192;

/// The least for [`MemoryBuilder::max_bytes`]: room for one entry with the longest key.
const MIN_BYTES: u64 = 1024;

larder_kit::choices! {
    /// What happens to a write that finds no room.
    pub enum WhenFull {
        /// It fails with [`ErrorKind::StorageFull`]. Nothing is lost.
        #[default]
        "refuse" => Refuse,
        /// It takes the place of the entries that were read or written the longest time ago. Those are lost.
        "evict" => Evict,
    }
}

larder_kit::options! {
    /// Builds a store in memory.
    ///
    /// ```
    /// use larder_memory::{MemoryStorage, WhenFull};
    ///
    /// let cache = MemoryStorage::builder().max_bytes(64 << 20).when_full(WhenFull::Evict).build()?;
    /// # Ok::<(), larder_core::Error>(())
    /// ```
    #[derive(Clone, Debug)]
    pub struct MemoryBuilder {}

    /// The options of a `memory:` URL.
    OPTIONS {
        /// Holds at most so many entries, at least 1. Expired entries count until they are removed, which a
        /// write that would be refused does first. Default: no bound.
        "max_entries" => max_entries: Option<u64> = None,
            if |entries| *entries != Some(0) => "a whole number from 1; leave it out for no bound";
        /// Holds at most so many bytes of keys, values and [overhead](ENTRY_OVERHEAD), at least 1024.
        /// Default: no bound.
        "max_bytes" => max_bytes: Option<u64> = None,
            if |bytes| !matches!(bytes, Some(..MIN_BYTES)) => "a whole number from 1024; leave it out for no bound";
        /// What happens to a write that finds no room. Default: [`WhenFull::Refuse`].
        "when_full" => when_full: WhenFull = WhenFull::Refuse;
        /// How often expired entries are removed, by a tokio task that starts with the first operation
        /// within a tokio runtime. `None` leaves it to [`purge_expired`](larder_core::Store::purge_expired).
        /// Default: 60 seconds.
        "sweep" => sweep: Interval = Interval::every(Duration::from_secs(60));
    }
}

impl MemoryBuilder {
    /// No bounds, and expired entries are removed every 60 seconds.
    #[must_use]
    pub fn new() -> Self {
        Self::with_defaults()
    }

    /// The options that a URL asks for.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`] if it is not a `memory:` URL, names a place, or has an option that
    /// does not exist or does not parse.
    pub fn from_url(url: &str) -> Result<Self> {
        Self::parse(url).map_err(named)
    }

    fn parse(url: &str) -> Result<Self> {
        let mut url = StoreUrl::parse(url)?;
        if url.scheme() != NAME {
            return Err(invalid("the URL of a memory storage begins with `memory:`"));
        }
        if !matches!(url.rest(), "" | "//") {
            return Err(invalid(
                "a memory storage has no name or path; write `memory:`, followed by options if needed",
            ));
        }
        let mut builder = Self::new();
        builder.take_options(&mut url)?;
        url.finish(OPTIONS)?;
        Ok(builder)
    }

    pub(crate) const fn is_bounded(&self) -> bool {
        self.max_entries.is_some() || self.max_bytes.is_some()
    }

    /// Whether entries are evicted, so that their use has to be recorded.
    pub(crate) fn evicts(&self) -> bool {
        self.is_bounded() && self.when_full == WhenFull::Evict
    }

    pub(crate) fn allows(&self, entries: u64, bytes: u64) -> bool {
        self.max_entries.is_none_or(|max| entries <= max) && self.max_bytes.is_none_or(|max| bytes <= max)
    }

    /// The largest value that fits even under the longest key.
    pub(crate) fn max_value(&self) -> Option<u64> {
        self.max_bytes.map(|max| max.saturating_sub(ENTRY_OVERHEAD + Key::MAX_BYTES as u64))
    }
}

impl Default for MemoryBuilder {
    fn default() -> Self {
        Self::new()
    }
}

fn invalid(message: &'static str) -> Error {
    Error::new(ErrorKind::InvalidConfig, message)
}

/// There is no [`Store`](larder_core::Store) yet that would name them.
pub(crate) fn named(error: Error) -> Error {
    error.with_adapter(NAME).with_operation(Operation::Connect)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let builder = MemoryBuilder::from_url("memory:").unwrap();
        assert_eq!((builder.max_entries, builder.max_bytes), (None, None));
        assert_eq!(builder.sweep, Interval::every(Duration::from_secs(60)));

        let url = "memory://?max_entries=7&max_bytes=4096&when_full=evict&sweep=off";
        let builder = MemoryBuilder::from_url(url).unwrap();
        assert_eq!((builder.max_entries, builder.max_bytes), (Some(7), Some(4096)));
        assert_eq!((builder.when_full, builder.sweep), (WhenFull::Evict, Interval::OFF));
        let builder = MemoryBuilder::from_url("memory:?sweep=250ms").unwrap();
        assert_eq!(builder.sweep, Interval::every(Duration::from_millis(250)));
    }

    #[test]
    fn wrong_urls_say_what_is_right() {
        for (url, says) in [
            ("file:x", "memory:"),
            ("memory:name", "no name"),
            ("memory:?max=1", "max_entries"),
            ("memory:?max_entries=-1", "whole number"),
            ("memory:?when_full=drop", "evict"),
            ("memory:?sweep=5", "unit"),
        ] {
            let error = MemoryBuilder::from_url(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{url}");
            assert!(error.to_string().contains(says), "{url}: {error}");
        }
    }

    #[test]
    fn bounds_that_hold_nothing_are_refused() {
        let builder = MemoryBuilder::new();
        for builder in [
            builder.clone().max_entries(0),
            builder.clone().max_bytes(1023),
            builder.sweep(Some(Duration::ZERO)),
        ] {
            assert_eq!(builder.check_options().unwrap_err().kind(), ErrorKind::InvalidConfig);
        }
    }
}
