//! The log of the calls that change the disk.

use std::{collections::BTreeSet, ffi::OsString, fmt};

use crate::image::{Content, Image, Ino};

/// The bytes that a disk writes completely or not at all.
pub(crate) const SECTOR: usize = 512;

/// A call that has changed a file or a directory, or has synced one.
#[derive(Clone)]
pub(crate) enum Op {
    /// Creates a file or a directory.
    Create { directory: Ino, name: OsString, ino: Ino },
    /// Renames `ino`. `replaces` is set if the new name was that of another file.
    Rename { from: (Ino, OsString), to: (Ino, OsString), ino: Ino, replaces: bool },
    /// Removes a name.
    Remove { directory: Ino, name: OsString },
    /// Changes a file.
    Change { ino: Ino, change: Change },
    /// Syncs the content of a file.
    Sync { ino: Ino },
    /// Syncs the names in a directory.
    SyncNames { directory: Ino },
    /// A call that a planted bug omits.
    Omitted,
}

/// A change of a file.
#[derive(Clone)]
pub(crate) enum Change {
    Write { at: usize, bytes: Content },
    SetLen(usize),
}

impl Change {
    pub(crate) fn apply(&self, content: &[u8]) -> Vec<u8> {
        let mut changed = content.to_vec();
        match self {
            Self::Write { at, bytes } => {
                let end = at + bytes.len();
                changed.resize(changed.len().max(end), 0);
                changed[*at..end].copy_from_slice(bytes);
            }
            Self::SetLen(length) => changed.resize(*length, 0),
        }
        changed
    }

    /// Returns the parts of a write that are in different sectors.
    pub(crate) fn by_sector(&self) -> Vec<Self> {
        let Self::Write { at, bytes } = self else { return Vec::new() };
        let part = |sector: usize| {
            let from = (sector * SECTOR).max(*at);
            let to = ((sector + 1) * SECTOR).min(at + bytes.len());
            Self::Write { at: from, bytes: bytes[from - at..to - at].into() }
        };
        (at / SECTOR..(at + bytes.len()).div_ceil(SECTOR)).map(part).collect()
    }

    /// Returns whether the change overwrites content, and does not change the length.
    pub(crate) fn is_in_place(&self, length: usize) -> bool {
        matches!(self, Self::Write { at, bytes } if at + bytes.len() <= length)
    }
}

/// A change of a name: the directory, the name, and its new inode.
pub(crate) type Name<'a> = (Ino, &'a OsString, Option<Ino>);

impl Op {
    /// Returns the names that this changes.
    pub(crate) fn names(&self) -> Vec<Name<'_>> {
        match self {
            Self::Create { directory, name, ino } => vec![(*directory, name, Some(*ino))],
            Self::Rename { from, to, ino, .. } => {
                vec![(to.0, &to.1, Some(*ino)), (from.0, &from.1, None)]
            }
            Self::Remove { directory, name } => vec![(*directory, name, None)],
            _ => Vec::new(),
        }
    }

    pub(crate) fn apply(&self, image: &mut Image) {
        for (directory, name, value) in self.names() {
            image.set_name(directory, name, value);
        }
        if let Self::Change { ino, change } = self {
            let content = change.apply(&image.content(*ino));
            image.contents.insert(*ino, content.into());
        }
    }
}

impl fmt::Debug for Op {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slot = |(directory, name): &(Ino, OsString)| format!("{}/{}", directory.0, name.display());
        match self {
            Self::Create { directory, name, ino } => {
                write!(out, "create {}/{} as {}", directory.0, name.display(), ino.0)
            }
            Self::Rename { from, to, ino, replaces } => {
                let replaces = if *replaces { ", replacing a file" } else { "" };
                write!(out, "rename {} to {} (inode {}{replaces})", slot(from), slot(to), ino.0)
            }
            Self::Remove { directory, name } => write!(out, "remove {}/{}", directory.0, name.display()),
            Self::Change { ino, change: Change::Write { at, bytes } } => {
                write!(out, "write {} bytes at {at} of {}", bytes.len(), ino.0)
            }
            Self::Change { ino, change: Change::SetLen(length) } => {
                write!(out, "set the length of {} to {length}", ino.0)
            }
            Self::Sync { ino } => write!(out, "sync {}", ino.0),
            Self::SyncNames { directory } => write!(out, "sync the names in {}", directory.0),
            Self::Omitted => write!(out, "omitted"),
        }
    }
}

/// The state of the disk at the start of a record, and the calls since then.
#[derive(Clone, Default)]
pub struct Log {
    pub(crate) initial: Image,
    pub(crate) ops: Vec<Op>,
}

impl Log {
    /// Returns the number of calls. A cut may happen before each of them and after the last.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Returns whether no call was recorded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Returns the position of the last sync of a directory, if there is one.
    #[must_use]
    pub fn last_sync(&self) -> Option<usize> {
        self.ops.iter().rposition(|op| matches!(op, Op::SyncNames { .. }))
    }

    /// Returns the log of a program with `bug`. It has the same length.
    #[must_use]
    pub fn with_bug(&self, bug: Bug) -> Self {
        let mut log = self.clone();
        // The files that were created and not synced since.
        let mut new = BTreeSet::new();
        for (place, op) in self.ops.iter().enumerate() {
            let omitted = match op {
                Op::Create { ino, .. } => {
                    new.insert(*ino);
                    false
                }
                Op::Sync { ino } if new.remove(ino) => bug == Bug::NoFileSync,
                Op::Sync { .. } => bug == Bug::NoSyncInPlace,
                Op::SyncNames { .. } => bug == Bug::NoDirectorySync,
                Op::Rename { ino, .. } if bug == Bug::EarlyRename => {
                    let created = |op: &Op| matches!(op, Op::Create { ino: created, .. } if created == ino);
                    if let Some(at) = log.ops[..place].iter().position(created) {
                        log.ops[at + 1..=place].rotate_right(1);
                    }
                    false
                }
                _ => false,
            };
            if omitted {
                log.ops[place] = Op::Omitted;
            }
        }
        log
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "at the start:\n{:?}", self.initial.tree())?;
        self.ops.iter().enumerate().try_for_each(|(place, op)| writeln!(out, "{place}: {op:?}"))
    }
}

/// A bug of a program that must survive power cuts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Does not sync directories.
    NoDirectorySync,
    /// Does not sync a new file before it is renamed.
    NoFileSync,
    /// Does not sync a file after it was changed in place.
    NoSyncInPlace,
    /// Renames a new file before it is written.
    EarlyRename,
}
