//! How an operation is to be done.

use std::num::NonZeroUsize;

use crate::{Condition, Expiry, Key};

/// How to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
#[non_exhaustive]
pub struct ReadOptions {
    /// Whether to return the value and its version. Without it the record's value is empty and its
    /// version may be absent. Default: `true`.
    pub value: bool,
    /// Whether to return the time that the entry has left, as of the same moment as the value.
    /// Default: `false`.
    pub ttl: bool,
    /// Gives the entry this expiry in the same step; the record's TTL, if asked for, is the new one.
    /// The version stays. Never [elapsed](Expiry::is_elapsed). Default: `None`.
    pub touch: Option<Expiry>,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self { value: true, ttl: false, touch: None }
    }
}

impl ReadOptions {
    /// The value and its version only.
    pub fn new() -> Self {
        Self::default()
    }

    /// With the time that the entry has left.
    pub const fn with_ttl(mut self) -> Self {
        self.ttl = true;
        self
    }

    /// Gives the entry a new expiry in the same step.
    pub const fn with_touch(mut self, expiry: Expiry) -> Self {
        self.touch = Some(expiry);
        self
    }

    /// Without the value.
    pub const fn without_value(mut self) -> Self {
        self.value = false;
        self
    }
}

/// How to write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
#[non_exhaustive]
pub struct WriteOptions {
    /// How long the entry lives. Never [elapsed](Expiry::is_elapsed) when it reaches an adapter.
    /// Default: [`Expiry::Never`].
    pub expiry: Expiry,
    /// What must hold for the write to happen. Default: [`Condition::Any`].
    pub condition: Condition,
}

impl WriteOptions {
    /// Writes without a condition an entry that does not expire.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how long the entry lives.
    pub fn expiry(mut self, expiry: impl Into<Expiry>) -> Self {
        self.expiry = expiry.into();
        self
    }

    /// Sets what must hold for the write to happen.
    pub fn condition(mut self, condition: Condition) -> Self {
        self.condition = condition;
        self
    }
}

/// How to delete.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
#[non_exhaustive]
pub struct DeleteOptions {
    /// What must hold for the deletion to happen. Never [`Condition::Absent`] when it reaches an
    /// adapter. Default: [`Condition::Any`].
    pub condition: Condition,
}

impl DeleteOptions {
    /// Deletes without a condition.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets what must hold for the deletion to happen.
    pub fn condition(mut self, condition: Condition) -> Self {
        self.condition = condition;
        self
    }
}

/// How to touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
#[non_exhaustive]
pub struct TouchOptions {
    /// What must hold for the touch to happen. Never [`Condition::Absent`] when it reaches an adapter.
    /// Default: [`Condition::Any`].
    pub condition: Condition,
}

impl TouchOptions {
    /// Touches without a condition.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets what must hold for the touch to happen.
    pub fn condition(mut self, condition: Condition) -> Self {
        self.condition = condition;
        self
    }
}

/// What to list.
///
/// `Debug` prints neither the prefix nor the key: they may be secrets.
#[derive(Clone, PartialEq, Eq)]
#[must_use]
#[non_exhaustive]
pub struct ListOptions {
    /// Lists the keys that begin with this text, byte for byte. Default: the empty prefix, which is
    /// all of them.
    pub prefix: String,
    /// Lists only keys after this one, in the order of their bytes. Needs
    /// [ordered listings](crate::Info::ordered). Default: `None`.
    pub start_after: Option<Key>,
    /// Ends the listing after as many entries. [`Store`](crate::Store) does that. An adapter may use it to
    /// read no more at once, but goes on when it is asked to. Default: `None`.
    pub limit: Option<NonZeroUsize>,
    /// Whether to return the records: values, versions and the time that they have left. Default:
    /// `true`.
    pub values: bool,
}

impl Default for ListOptions {
    fn default() -> Self {
        Self { prefix: String::new(), start_after: None, limit: None, values: true }
    }
}

impl ListOptions {
    /// All entries.
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

    /// Ends the listing after `entries`.
    pub const fn limit(mut self, entries: NonZeroUsize) -> Self {
        self.limit = Some(entries);
        self
    }

    /// Without values.
    pub const fn keys_only(mut self) -> Self {
        self.values = false;
        self
    }

    /// How many entries to read at once: `most`, or fewer if the listing ends before.
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
