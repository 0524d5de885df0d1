//! Entries in Larder's own layout.

use std::ffi::OsStr;

use larder_core::{
    Action, Applied, Change, Condition, Error, ErrorKind, Expiry, Info, Key, ReadOptions, Record, Result,
    Written, clock::unix_millis,
};

use crate::{
    entries::{Entries, Found, PAGE},
    error::corrupt,
    format::{
        EntryFormat, Stored,
        name::{self, FileName},
    },
    lock::ShardGuard,
    tree::{Changes, EntryPath, Tree},
};

/// A directory of entries in Larder's own layout.
pub(crate) struct Directory {
    pub(crate) tree: Tree,
    pub(crate) format: &'static dyn EntryFormat,
}

impl Entries for Directory {
    fn info(&self) -> Info {
        self.format.info()
    }

    fn tree(&self) -> &Tree {
        &self.tree
    }

    fn path(&self, key: &Key) -> Result<EntryPath> {
        Ok(EntryPath::new(name::shard(key), name::stem(key) + self.format.extension()))
    }

    fn found(&self, shard: &OsStr, name: &OsStr, prefix: &str) -> Result<Option<Found>> {
        let bytes = name.as_encoded_bytes();
        let Some(stem) = bytes.strip_suffix(self.format.extension().as_bytes()) else {
            return Ok(None);
        };
        let key = match name::parse(stem).map_err(|error| error.with_stored_name(bytes))? {
            // Reads do not look for a key in another directory.
            Some(FileName::Key(key)) if key.as_str().starts_with(prefix) && *name::shard(&key) == *shard => {
                Some(key)
            }
            Some(FileName::Digest) => None,
            _ => return Ok(None),
        };
        Ok(Some(Found { at: EntryPath::new(shard, name), key }))
    }

    fn key(&self, found: &Found) -> Result<Option<Key>> {
        if found.key.is_some() {
            return Ok(found.key.clone());
        }
        let Some((key, _)) = self.format.peek(&self.tree.path(&found.at))? else {
            return Ok(None);
        };
        if self.path(&key)? != found.at {
            return Err(corrupt("a file in the directory has an entry that belongs in another file"));
        }
        Ok(Some(key))
    }

    fn is_alive(&self, at: &EntryPath) -> Result<bool> {
        match self.format.peek(&self.tree.path(at)) {
            Err(error) if error.kind() == ErrorKind::Corrupt => Ok(true),
            peeked => {
                Ok(peeked?.is_some_and(|(_, deadline)| Expiry::until(deadline, unix_millis()).is_some()))
            }
        }
    }

    fn read(&self, at: &EntryPath, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
        let now = unix_millis();
        Ok(self.current(at, key, options.value, now)?.and_then(|stored| stored.record(options.ttl, now)))
    }

    fn change(&self, changes: &mut Changes<'_>, at: &EntryPath, change: &Change) -> Result<Applied> {
        let Change { key, action, condition, .. } = change;
        let now = unix_millis();
        match (action, condition) {
            (Action::Delete, Condition::Any) => return self.delete(changes, at).map(Applied::Deleted),
            // An unconditional put replaces any entry or file.
            (Action::Put(..), Condition::Any) => {}
            _ => {
                let current = self.current(at, key, false, now).map_err(Error::not_applied)?;
                condition.check(current.as_ref().map(|current| &current.version))?;
                if current.is_none() && matches!(action, Action::Touch(_)) {
                    return Ok(Applied::Touched(false));
                }
            }
        }
        match action {
            Action::Put(value, expiry) => {
                let file = self.format.encode(key, expiry.deadline(now), value)?;
                changes.replace(at, &file.head, &file.body)?;
                Ok(Applied::Put(Written::at(file.version)))
            }
            Action::Delete => changes.remove(at).map(Applied::Deleted),
            Action::Touch(expiry) => {
                self.touch(changes, at, expiry.deadline(now))?;
                Ok(Applied::Touched(true))
            }
        }
    }

    /// Does not sync: an entry that reappears after a power cut is still expired.
    fn purge_shard(&self, guard: &mut ShardGuard, shard: &OsStr) -> Result<u64> {
        let is_expired = |found: &Found| matches!(self.is_alive(&found.at), Ok(false));
        let files = self.files(shard, "")?.into_iter().flatten();
        let expired: Vec<_> = files.filter(is_expired).collect();
        let mut purged = 0;
        for page in expired.chunks(PAGE) {
            let _lock = self.tree.locks.exclusive(guard)?;
            for found in page {
                // Checked again, because the entry may have been written in the meantime.
                purged += u64::from(is_expired(found) && self.tree.remove(&found.at)?);
            }
        }
        Ok(purged)
    }
}

impl Directory {
    /// Reads the entry; `None` if it does not exist or has expired.
    fn current(&self, at: &EntryPath, key: &Key, value: bool, now: i64) -> Result<Option<Stored>> {
        match self.format.read(&self.tree.path(at), value)? {
            Some((found, _)) if found != *key => {
                Err(corrupt("the file of the entry has the entry of another key"))
            }
            Some((_, stored)) if stored.is_alive(now) => Ok(Some(stored)),
            _ => self.tree.dir.check().map(|()| None),
        }
    }

    fn touch(&self, changes: &mut Changes<'_>, at: &EntryPath, deadline: Option<i64>) -> Result<()> {
        let (path, sync) = (self.tree.path(at), self.tree.sync);
        match changes.change(None, || self.format.touch(&path, deadline, sync))? {
            Some(content) => changes.replace(at, &content, b""),
            None => Ok(()),
        }
    }
}
