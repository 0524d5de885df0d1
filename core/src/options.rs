//! The options of operations.

use std::num::NonZeroUsize;

use crate::{Condition, Expiry, Key};

/// Options for reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
#[non_exhaustive]
pub struct ReadOptions {
    /// Whether to return the value and its version. If `false`, the record's value is empty and its
    /// version may be `None`. Default: `true`.
    pub value: bool,
    /// Whether to return the time until the entry expires, of the same moment as the value.
    /// Default: `false`.
    pub ttl: bool,
    /// A new expiry for the entry, set in the same step. A requested TTL is then the new one.
    /// The version does not change. Never [elapsed](Expiry::is_elapsed). Default: `None`.
    pub touch: Option<Expiry>,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self { value: true, ttl: false, touch: None }
    }
}

impl ReadOptions {
    /// Reads the value and its version only.
    pub fn new() -> Self {
        Self::default()
    }

    /// Also returns the time until the entry expires.
    pub const fn with_ttl(mut self) -> Self {
        self.ttl = true;
        self
    }

    /// Also gives the entry a new expiry, in the same step.
    pub const fn with_touch(mut self, expiry: Expiry) -> Self {
        self.touch = Some(expiry);
        self
    }

    /// Does not return the value.
    pub const fn without_value(mut self) -> Self {
        self.value = false;
        self
    }
}

/// Options for writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
#[non_exhaustive]
pub struct WriteOptions {
    /// The time until the entry expires. Never [elapsed](Expiry::is_elapsed) when it reaches an adapter.
    /// Default: [`Expiry::Never`].
    pub expiry: Expiry,
    /// The condition of the write. Default: [`Condition::Any`].
    pub condition: Condition,
}

impl WriteOptions {
    /// Writes an entry that does not expire, without a condition.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the time until the entry expires.
    pub fn expiry(mut self, expiry: impl Into<Expiry>) -> Self {
        self.expiry = expiry.into();
        self
    }

    /// Sets the condition of the write.
    pub fn condition(mut self, condition: Condition) -> Self {
        self.condition = condition;
        self
    }
}

/// Options for deletions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
#[non_exhaustive]
pub struct DeleteOptions {
    /// The condition of the deletion. Never [`Condition::Absent`] when it reaches an adapter.
    /// Default: [`Condition::Any`].
    pub condition: Condition,
}

impl DeleteOptions {
    /// Deletes without a condition.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the condition of the deletion.
    pub fn condition(mut self, condition: Condition) -> Self {
        self.condition = condition;
        self
    }
}

/// Options for touches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
#[non_exhaustive]
pub struct TouchOptions {
    /// The condition of the touch. Never [`Condition::Absent`] when it reaches an adapter.
    /// Default: [`Condition::Any`].
    pub condition: Condition,
}

impl TouchOptions {
    /// Touches without a condition.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the condition of the touch.
    pub fn condition(mut self, condition: Condition) -> Self {
        self.condition = condition;
        self
    }
}

/// Options for listings.
///
/// `Debug` prints neither the prefix nor the key: they may be secrets.
#[derive(Clone, PartialEq, Eq)]
#[must_use]
#[non_exhaustive]
pub struct ListOptions {
    /// The beginning of the keys to list, compared byte for byte. Default: the empty prefix, which lists
    /// all keys.
    pub prefix: String,
    /// The key after which the listing starts, in the order of the keys' bytes. Needs
    /// [ordered listings](crate::Info::ordered). Default: `None`.
    pub start_after: Option<Key>,
    /// The maximum number of entries. [`Store`](crate::Store) applies it. An adapter may use the limit as its
    /// page size, but must continue the listing if it is polled again. Default: `None`.
    pub limit: Option<NonZeroUsize>,
    /// Whether to return the records: values, versions and the time until each entry expires. Default:
    /// `true`.
    pub values: bool,
}

impl Default for ListOptions {
    fn default() -> Self {
        Self { prefix: String::new(), start_after: None, limit: None, values: true }
    }
}

impl ListOptions {
    /// Lists all entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lists the keys that begin with `prefix`.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Lists only keys after `key`.
    pub fn start_after(mut self, key: Key) -> Self {
        self.start_after = Some(key);
        self
    }

    /// Ends the listing after this number of entries.
    pub const fn limit(mut self, entries: NonZeroUsize) -> Self {
        self.limit = Some(entries);
        self
    }

    /// Lists only keys, without values.
    pub const fn keys_only(mut self) -> Self {
        self.values = false;
        self
    }

    /// Returns the number of entries to read at once: the lower of `most` and the limit.
    #[must_use]
    pub fn page(&self, most: usize) -> usize {
        self.limit.map_or(most, |limit| limit.get().min(most))
    }
}

impl std::fmt::Debug for ListOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ListOptions")
            .field("prefix", &format_args!("{} bytes", self.prefix.len()))
            .field("start_after", &self.start_after)
            .field("limit", &self.limit)
            .field("values", &self.values)
            .finish()
    }
}
