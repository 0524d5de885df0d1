//! Changes and their conditions.

use std::fmt;

use bytes::Bytes;

use crate::{Error, Expiry, Key, Result, Version};

/// The condition of a change. If it does not hold, nothing changes and the result is a
/// [`Conflict`](crate::ErrorKind::Conflict) error.
///
/// `Any` works on every storage. The others need [versions](crate::Info::versions).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Condition {
    /// Always holds.
    #[default]
    Any,
    /// The entry does not exist, or has expired.
    Absent,
    /// The entry exists.
    Present,
    /// The entry exists and still has this version.
    At(Version),
}

impl Condition {
    /// Returns the condition that the entry has not changed since a read: [`At`](Self::At) the version that
    /// the read returned, or [`Absent`](Self::Absent) if the entry did not exist.
    #[must_use]
    pub fn unchanged(seen: Option<Version>) -> Self {
        seen.map_or(Self::Absent, Self::At)
    }

    /// Returns whether the condition holds for an entry with the version `current`. `None` means that the entry
    /// does not exist.
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

    /// Evaluates the result of a change with this condition: `changed` says whether the store has changed an
    /// entry. Returns `changed`.
    ///
    /// # Errors
    ///
    /// [`Conflict`](crate::ErrorKind::Conflict) if `changed` is `false`, unless the condition is
    /// [`Any`](Self::Any).
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
    /// The action.
    pub action: Action,
    /// The condition of the change.
    pub condition: Condition,
}

/// The action of a [`Change`].
///
/// `Debug` prints the length of the value, never the value.
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
    /// Creates a change that writes `value` under `key`.
    pub fn put(key: Key, value: impl Into<Bytes>, expiry: Expiry) -> Self {
        Self { key, action: Action::Put(value.into(), expiry), condition: Condition::Any }
    }

    /// Creates a change that deletes the entry under `key`.
    pub const fn delete(key: Key) -> Self {
        Self { key, action: Action::Delete, condition: Condition::Any }
    }

    /// Creates a change that gives the entry under `key` a new expiry.
    pub const fn touch(key: Key, expiry: Expiry) -> Self {
        Self { key, action: Action::Touch(expiry), condition: Condition::Any }
    }

    /// Sets the condition of the change.
    pub fn on(mut self, condition: Condition) -> Self {
        self.condition = condition;
        self
    }

    /// Returns the result of the change. `changed` says whether the store has changed an entry; `version` is
    /// the new version, if this is a put.
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

    /// Returns the size of the change in bytes: its key, its value, and the content of a condition's version.
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

/// The result of a [`Change`]. Its variant corresponds to the [`Action`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// The value was written.
    Put(Written),
    /// Whether the deleted entry existed.
    Deleted(bool),
    /// Whether the touched entry existed.
    Touched(bool),
}

impl Applied {
    /// Converts the result into the result of a write.
    #[must_use]
    pub fn written(self) -> Written {
        match self {
            Self::Put(written) => written,
            Self::Deleted(_) | Self::Touched(_) => Written::default(),
        }
    }

    /// Returns whether this is the deletion or touch of an entry that existed.
    #[must_use]
    pub const fn existed(&self) -> bool {
        matches!(self, Self::Deleted(true) | Self::Touched(true))
    }
}

/// The result of a write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Written {
    /// The new version. `None` if the storage has no versions, or if the time to live was zero: such an entry
    /// has already expired.
    pub version: Option<Version>,
}

impl Written {
    /// Creates the result of a write that gave the entry this version.
    #[must_use]
    pub const fn at(version: Version) -> Self {
        Self { version: Some(version) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_hold_only_in_their_states() {
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
