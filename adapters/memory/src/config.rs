//! The builder, and the options of a URL.

use std::time::Duration;

use larder_core::{Error, ErrorKind, Operation, Result};
use larder_kit::StoreUrl;

use crate::{MemoryStorage, storage::NAME};

/// The options that a `memory:` URL takes.
pub const OPTIONS: &[&str] = &["max_entries", "max_bytes", "when_full", "sweep"];

/// The least for [`MemoryBuilder::max_bytes`]: room for one entry with the longest key.
const LEAST_BYTES: u64 = 1024;

/// What happens to a write that finds no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum WhenFull {
    /// It fails with [`ErrorKind::StorageFull`]; nothing is lost.
    #[default]
    Refuse,
    /// It takes the place of the entries that were read or written the longest time ago. Those are
    /// lost, without a word.
    Evict,
}

/// Makes a [`MemoryStorage`].
///
/// ```
/// use larder_memory::{MemoryStorage, WhenFull};
///
/// let cache = MemoryStorage::builder().max_bytes(64 << 20).when_full(WhenFull::Evict).build()?;
/// # Ok::<(), larder_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct MemoryBuilder {
    pub(crate) max_entries: Option<u64>,
    pub(crate) max_bytes: Option<u64>,
    pub(crate) when_full: WhenFull,
    pub(crate) sweep: Option<Duration>,
}

impl MemoryBuilder {
    /// No bounds, swept every 60 seconds.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            max_entries: None,
            max_bytes: None,
            when_full: WhenFull::Refuse,
            sweep: Some(Duration::from_secs(60)),
        }
    }

    /// At most so many entries; at least 1. Expired ones count until they are removed, which a
    /// write that would be refused does first.
    #[must_use]
    pub const fn max_entries(mut self, entries: u64) -> Self {
        self.max_entries = Some(entries);
        self
    }

    /// At most so many bytes of keys, values and [overhead](crate::ENTRY_OVERHEAD); at least 1024.
    #[must_use]
    pub const fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = Some(bytes);
        self
    }

    /// What happens to a write that finds no room; it is refused unless said otherwise.
    #[must_use]
    pub const fn when_full(mut self, when_full: WhenFull) -> Self {
        self.when_full = when_full;
        self
    }

    /// How often expired entries are removed; `None`: only when somebody calls
    /// [`purge_expired`](larder_core::Storage::purge_expired). The sweeper is a tokio task, started
    /// by the first write with a time to live that happens in a tokio runtime.
    #[must_use]
    pub const fn sweep_every(mut self, interval: Option<Duration>) -> Self {
        self.sweep = interval;
        self
    }

    /// Makes the storage, empty.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`] if a bound is so low that nothing fits.
    pub fn build(self) -> Result<MemoryStorage> {
        if self.max_entries == Some(0) {
            return Err(configuration("`max_entries` is at least 1; leave it out for no bound"));
        }
        if self.max_bytes.is_some_and(|bytes| bytes < LEAST_BYTES) {
            return Err(configuration("`max_bytes` is at least 1024; leave it out for no bound"));
        }
        Ok(MemoryStorage::with(self))
    }

    /// The builder that a URL asks for.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`] if it is not a `memory:` URL, names a place, or has an option
    /// that does not exist or does not parse.
    pub fn from_url(url: &str) -> Result<Self> {
        Self::parse(url).map_err(|error| error.with_adapter(NAME).with_operation(Operation::Connect))
    }

    fn parse(url: &str) -> Result<Self> {
        let mut location = StoreUrl::parse(url)?;
        if location.scheme() != NAME {
            return Err(configuration("the URL of a memory storage begins with `memory:`"));
        }
        if !matches!(location.rest(), "" | "//") {
            return Err(configuration(
                "a memory storage has no name or path: the URL is `memory:` and options, if any",
            ));
        }
        let number = "a whole number";
        let mut builder = Self::new();
        builder.max_entries = location.take_parsed("max_entries", number)?;
        builder.max_bytes = location.take_parsed("max_bytes", number)?;
        let choices = [("refuse", WhenFull::Refuse), ("evict", WhenFull::Evict)];
        builder.when_full = location.take_choice("when_full", &choices)?.unwrap_or_default();
        let interval = "off, or a duration with a unit, such as 500ms, 60s or 5m";
        let sweep = location.take_with("sweep", interval, |text| match text {
            "off" => Some(None),
            text => humantime::parse_duration(text).ok().map(Some),
        })?;
        builder.sweep = sweep.unwrap_or(builder.sweep);
        location.finish(OPTIONS)?;
        Ok(builder)
    }
}

impl Default for MemoryBuilder {
    fn default() -> Self {
        Self::new()
    }
}

fn configuration(message: &'static str) -> Error {
    Error::new(ErrorKind::InvalidConfig, message).with_adapter(NAME).with_operation(Operation::Connect)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let builder = MemoryBuilder::from_url("memory:").unwrap();
        assert_eq!((builder.max_entries, builder.max_bytes), (None, None));
        assert_eq!(builder.sweep, Some(Duration::from_secs(60)));

        let url = "memory://?max_entries=7&max_bytes=4096&when_full=evict&sweep=off";
        let builder = MemoryBuilder::from_url(url).unwrap();
        assert_eq!((builder.max_entries, builder.max_bytes), (Some(7), Some(4096)));
        assert_eq!((builder.when_full, builder.sweep), (WhenFull::Evict, None));
        let builder = MemoryBuilder::from_url("memory:?sweep=250ms").unwrap();
        assert_eq!(builder.sweep, Some(Duration::from_millis(250)));
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
        for builder in [MemoryBuilder::new().max_entries(0), MemoryBuilder::new().max_bytes(1023)] {
            assert_eq!(builder.build().unwrap_err().kind(), ErrorKind::InvalidConfig);
        }
    }
}
