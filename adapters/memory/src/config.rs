//! The options.

use larder_core::{Error, ErrorKind, Key, Result};
use larder_kit::{Interval, StoreUrl};

/// The number of bytes that an entry adds to `max_bytes` in addition to its key and value: about the memory that the
/// map, the two allocations and the order of use take.
pub const ENTRY_OVERHEAD: u64 = 192;

/// The minimum of `max_bytes`: enough for one entry with the longest key.
const MIN_BYTES: u64 = 1024;

larder_kit::choices! {
    /// The behavior of a write that does not fit.
    pub enum WhenFull {
        /// The write fails with [`ErrorKind::StorageFull`]. No entry is lost.
        #[default]
        "refuse" => Refuse,
        /// The write evicts the least recently used entries. They are lost.
        "evict" => Evict,
    }
}

larder_kit::config! {
    /// The configuration of a store in memory.
    ///
    /// ```
    /// # async fn example() -> larder_core::Result<()> {
    /// use larder_memory::{Config, WhenFull};
    ///
    /// let cache = Config::new().max_bytes(64 << 20).when_full(WhenFull::Evict).connect().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[derive(Clone, Debug)]
    pub struct Config for "memory" {}

    options {
        /// The maximum number of entries, including expired entries that have not been removed yet.
        max_entries: Option<u64>, unset "no limit",
            if |entries| *entries != Some(0) => "a whole number from 1; omit it for no limit";
        /// The maximum size in bytes: keys, values, and 192 bytes per entry. At least 1024.
        max_bytes: Option<u64>, unset "no limit",
            if |bytes| !matches!(bytes, Some(..MIN_BYTES)) => "a whole number from 1024; omit it for no limit";
        /// The behavior of a write that does not fit: `refuse` rejects it, `evict` evicts the least recently used
        /// entries.
        when_full: WhenFull = "refuse";
        /// The time between two removals of expired entries; `off` disables them.
        sweep: Interval = "1m";
    }
}

impl Config {
    fn locate(&mut self, url: &mut StoreUrl) -> Result<()> {
        let message = match (url.scheme(), url.rest()) {
            ("memory", "" | "//") => return Ok(()),
            ("memory", _) => {
                "a memory storage has no name or path: write `memory:`, followed by options if needed"
            }
            _ => "the URL of a memory storage must begin with `memory:`",
        };
        Err(Error::new(ErrorKind::InvalidConfig, message))
    }

    pub(crate) const fn is_bounded(&self) -> bool {
        self.max_entries.is_some() || self.max_bytes.is_some()
    }

    /// Returns whether entries are evicted. If so, their use must be recorded.
    pub(crate) fn evicts(&self) -> bool {
        self.is_bounded() && self.when_full == WhenFull::Evict
    }

    pub(crate) fn allows(&self, entries: u64, bytes: u64) -> bool {
        self.max_entries.is_none_or(|max| entries <= max) && self.max_bytes.is_none_or(|max| bytes <= max)
    }

    /// The size of the largest value that fits under the longest key.
    pub(crate) fn max_value(&self) -> Option<u64> {
        self.max_bytes.map(|max| max.saturating_sub(ENTRY_OVERHEAD + Key::MAX_BYTES as u64))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use larder_kit::Configure;

    use super::*;

    #[test]
    fn a_url_sets_the_options() {
        let config = Config::from_url("memory:").unwrap();
        assert_eq!((config.max_entries, config.max_bytes), (None, None));
        assert_eq!(config.sweep, Interval::every(Duration::from_secs(60)));

        let url = "memory://?max_entries=7&max_bytes=4096&when_full=evict&sweep=off";
        let config = Config::from_url(url).unwrap();
        assert_eq!((config.max_entries, config.max_bytes), (Some(7), Some(4096)));
        assert_eq!((config.when_full, config.sweep), (WhenFull::Evict, Interval::OFF));
        let config = Config::from_url("memory:?sweep=250ms").unwrap();
        assert_eq!(config.sweep, Interval::every(Duration::from_millis(250)));
    }

    #[test]
    fn errors_for_invalid_urls_suggest_a_correction() {
        for (url, says) in [
            ("file:x", "memory:"),
            ("memory:name", "no name"),
            ("memory:?max=1", "max_entries"),
            ("memory:?max_entries=-1", "whole number"),
            ("memory:?when_full=drop", "evict"),
            ("memory:?sweep=5", "unit"),
        ] {
            let error = Config::from_url(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{url}");
            assert!(error.to_string().contains(says), "{url}: {error}");
        }
    }

    #[test]
    fn limits_too_low_for_one_entry_are_rejected() {
        let config = Config::new();
        for config in
            [config.clone().max_entries(0), config.clone().max_bytes(1023), config.sweep(Duration::ZERO)]
        {
            assert_eq!(config.check_options().unwrap_err().kind(), ErrorKind::InvalidConfig);
        }
    }
}
