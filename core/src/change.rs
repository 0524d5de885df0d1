//! Changes and their conditions.

use std::fmt;

use bytes::Bytes;

use crate::{Error, Expiry, Key, Result, Version};

/// What must hold for a change to happen. If it does not hold, nothing changes and the result is a
/// [`Conflict`](crate::ErrorKind::Conflict) error.
///
/// `Any` works on every storage. The others need [versions](crate::Info::versions).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Condition {
    /// Always holds.
    #[default]
    Any,
    /// There is no entry under the key. An expired entry does not count.
    Absent,
    /// There is an entry under the key.
    Present,
    /// There is an entry under the key, and it is still at this version.
    At(Version),
}

impl Condition {
    /// The condition "as it was read": at the version, or absent if nothing was read.
    #[must_use]
    pub fn unchanged(seen: Option<Version>) -> Self {
        seen.map_or(Self::Absent, Self::At)
    }

    /// Whether the condition holds for an entry at `current`; `None` means that there is no entry.
    #[must_use]
    pub fn holds(&self, current: Option<&Version>) -> bool {
        match self {
            Self::Any => true,
            Self::Absent => current.is_none(),
            Self::Present => current.is_some(),
            Self::At(version) => current == Some(version),
        }
    }

    /// Checks the condition before a change.
    ///
    /// # Errors
    ///
    /// [`Conflict`](crate::ErrorKind::Conflict) unless it [holds](Self::holds).
    pub fn check(&self, current: Option<&Version>) -> Result<()> {
        if self.holds(current) { Ok(()) } else { Err(Error::conflict()) }
    }

    /// Whether a change was made, given whether the store has changed an entry on this condition.
    ///
    /// # Errors
    ///
    /// [`Conflict`](crate::ErrorKind::Conflict) if it has not, unless the condition is [`Any`](Self::Any).
    pub fn met(&self, changed: bool) -> Result<bool> {
        if changed || *self == Self::Any { Ok(changed) } else { Err(Error::conflict()) }
    }
}

/// One change of a batch; see [`Storage::apply`](crate::Storage::apply).
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
#[non_exhaustive]
pub struct Change {
    /// The key of the entry to change.
    pub key: Key,
    /// What to do.
    pub action: Action,
    /// What must hold for it to happen.
    pub condition: Condition,
}

/// What a [`Change`] does.
///
/// `Debug` prints the value's length, never the value.
#[derive(Clone, PartialEq, Eq)]
pub enum Action {
    /// Writes the value, with this expiry.
    Put(Bytes, Expiry),
    /// Deletes the entry.
    Delete,
    /// Gives the entry this expiry, counted from now.
    Touch(Expiry),
}

impl Change {
    /// Writes `value` under `key`.
    pub fn put(key: Key, value: impl Into<Bytes>, expiry: Expiry) -> Self {
        Self { key, action: Action::Put(value.into(), expiry), condition: Condition::Any }
    }

    /// Deletes the entry under `key`.
    pub const fn delete(key: Key) -> Self {
        Self { key, action: Action::Delete, condition: Condition::Any }
    }

    /// Gives the entry under `key` a new expiry.
    pub const fn touch(key: Key, expiry: Expiry) -> Self {
        Self { key, action: Action::Touch(expiry), condition: Condition::Any }
    }

    /// The same change, if `condition` holds.
    pub fn on(mut self, condition: Condition) -> Self {
        self.condition = condition;
        self
    }

    /// The result of the change, given whether the store has changed an entry, and the version of a put.
    ///
    /// # Errors
    ///
    /// As [`Condition::met`].
    pub fn applied(&self, changed: bool, version: Option<Version>) -> Result<Applied> {
        let changed = self.condition.met(changed)?;
        Ok(match self.action {
            Action::Put(..) => Applied::Put(Written { version }),
            Action::Delete => Applied::Deleted(changed),
            Action::Touch(_) => Applied::Touched(changed),
        })
    }

    /// How many bytes the change carries: its key, its value, and a version that is a content.
    #[must_use]
    pub fn size(&self) -> usize {
        let value = match &self.action {
            Action::Put(value, _) => value.len(),
            Action::Delete | Action::Touch(_) => 0,
        };
        let seen = match &self.condition {
            Condition::At(version) => version.as_content().map_or(0, Bytes::len),
            Condition::Any | Condition::Absent | Condition::Present => 0,
        };
        self.key.as_bytes().len() + value + seen
    }
}

impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put(value, expiry) => write!(f, "Put({} bytes, {expiry:?})", value.len()),
            Self::Delete => f.write_str("Delete"),
            Self::Touch(expiry) => write!(f, "Touch({expiry:?})"),
        }
    }
}

/// What a [`Change`] did. The variant is that of the [`Action`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// The value was written.
    Put(Written),
    /// Whether there was an entry to delete.
    Deleted(bool),
    /// Whether there was an entry to touch.
    Touched(bool),
}

impl Applied {
    /// The result of a write that made this change.
    #[must_use]
    pub fn written(self) -> Written {
        match self {
            Self::Put(written) => written,
            Self::Deleted(_) | Self::Touched(_) => Written::default(),
        }
    }

    /// Whether there was an entry, which this deleted or touched.
    #[must_use]
    pub const fn existed(&self) -> bool {
        matches!(self, Self::Deleted(true) | Self::Touched(true))
    }
}

/// What a write did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Written {
    /// The new version; `None` where the storage has no versions, or if the entry has expired at once
    /// (a time to live of zero).
    pub version: Option<Version>,
}

impl Written {
    /// The entry is now at `version`.
    #[must_use]
    pub const fn at(version: Version) -> Self {
        Self { version: Some(version) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions() {
        let (one, other) = (Version::from_token(1), Version::from_token(2));
        let holds =
            |condition: &Condition| [None, Some(&one), Some(&other)].map(|current| condition.holds(current));
        assert_eq!(holds(&Condition::Any), [true, true, true]);
        assert_eq!(holds(&Condition::Absent), [true, false, false]);
        assert_eq!(holds(&Condition::Present), [false, true, true]);
        assert_eq!(holds(&Condition::At(one.clone())), [false, true, false]);
        assert_eq!(Condition::unchanged(None), Condition::Absent);
        assert_eq!(Condition::unchanged(Some(one.clone())), Condition::At(one.clone()));
    }

    #[test]
    fn debug_prints_no_value() {
        let change = Change::put(Key::new("secret").unwrap(), "hunter2", Expiry::Never);
        assert!(!format!("{change:?}").contains("hunter2"));
        assert_eq!(change.size(), 13);
        let seen = Version::from_content(Bytes::from_static(b"before"));
        assert_eq!(change.on(Condition::At(seen)).size(), 19);
    }
}
