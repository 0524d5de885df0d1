//! Entries in a directory: the file system calls, each to be made on a thread that may block.

use std::{collections::BTreeMap, fs, io, path::PathBuf, time::Duration};

use bytes::Bytes;
use larder_core::{
    Condition, Error, ErrorKind, Expiry, Failure, Key, Operation, Result, Version, Write, clock::unix_millis,
};

use crate::{
    atomic,
    error::{self, NAME},
    form::{Form, Place, State, Stored},
    home::Home,
    lock::{Held, Locks, Turn},
};

/// A directory of entries.
#[derive(Debug)]
pub(crate) struct Directory {
    pub(crate) home: Home,
    pub(crate) form: Form,
    pub(crate) locks: Locks,
    /// Whether a change is acknowledged only once it is on the disk.
    sync: bool,
}

/// Whether an entry with that deadline is still there.
pub(crate) fn is_alive(deadline: Option<i64>, now: i64) -> bool {
    Expiry::until(deadline, now).is_some()
}

impl Directory {
    pub(crate) fn new(home: Home, form: Form, sync: bool, lock_timeout: Duration) -> Self {
        Self { locks: Locks::new(home.clone(), lock_timeout), home, form, sync }
    }

    pub(crate) fn path(&self, place: &Place) -> PathBuf {
        let mut path = self.home.root().join(&place.shard);
        path.push(&place.file);
        path
    }

    /// Looks at a file with `look`, with no lock. Should it look damaged, it may be that a touch is
    /// changing it at this moment: then once more, when all that was begun is complete.
    pub(crate) fn settled<T>(&self, lock: usize, look: impl Fn() -> Result<T>) -> Result<T> {
        match look() {
            Err(error) if error.kind() == ErrorKind::Corrupt && self.form == Form::Binary => {
                let _visit = self.locks.visit(lock)?;
                look()
            }
            seen => seen,
        }
    }

    /// The entry under `key`, unless it has expired.
    pub(crate) fn read(&self, key: &Key) -> Result<Option<Stored>> {
        let place = self.form.place(key)?;
        let path = self.path(&place);
        let Some(stored) = self.settled(place.lock, || self.form.load(&path, key))? else {
            self.home.check()?;
            return Ok(None);
        };
        Ok(is_alive(stored.deadline, unix_millis()).then_some(stored))
    }

    /// The time that the entry under `key` has left.
    pub(crate) fn remaining(&self, key: &Key) -> Result<Option<Expiry>> {
        let place = self.form.place(key)?;
        let path = self.path(&place);
        let Some(state) = self.settled(place.lock, || self.form.state(&path, key))? else {
            self.home.check()?;
            return Ok(None);
        };
        Ok(Expiry::until(state.deadline, unix_millis()))
    }

    /// The state of the entry at `place` for the holder of its lock.
    fn current(&self, key: &Key, place: &Place) -> Result<Option<State>> {
        let state = self.form.state(&self.path(place), key)?;
        Ok(state.filter(|state| is_alive(state.deadline, unix_millis())))
    }

    /// Takes the lock for a change. The answers of changes are acknowledged, and they follow from what changes
    /// find. So what earlier changes left is put on the disk first: a process may have been killed
    /// before it did so.
    pub(crate) fn begin<'t>(&self, turn: &'t mut Turn) -> Result<Held<'t>> {
        let held = turn.exclusive()?;
        if self.sync && !held.is_settled() {
            self.home.sync().map_err(error::io)?;
            for shard in self.shards()?.0 {
                if Form::lock(&shard) == held.index() {
                    self.sync_contents(&shard)?;
                    self.sync_shard(&shard)?;
                }
            }
            held.settle();
        }
        Ok(held)
    }

    /// Writes an entry. It is on the disk once the directory `place.shard` has been synced.
    fn put(
        &self,
        held: &Held<'_>,
        place: &Place,
        key: &Key,
        value: &Bytes,
        expiry: Expiry,
    ) -> Result<Version> {
        let encoded = self.form.encode(key, expiry.deadline(unix_millis()), value)?;
        if expiry.is_elapsed() {
            self.remove(held, place)?;
            return Ok(encoded.version);
        }
        held.unsettle()?;
        let target = self.path(place);
        let replace = || {
            let temp = self.home.temporary_file(place.lock);
            atomic::replace(&temp, &target, self.home.permissions, &encoded.head, &encoded.body, self.sync)
        };
        match replace() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.create_shard(place)?;
                replace().map_err(error::io)?;
            }
            replaced => replaced.map_err(error::io)?,
        }
        Ok(encoded.version)
    }

    fn create_shard(&self, place: &Place) -> Result<()> {
        self.home.check()?;
        self.home.create_hidden()?;
        let shard = self.home.root().join(&place.shard);
        let created = self.home.permissions.create_directory(&shard).map_err(error::io)?;
        if created && self.sync {
            atomic::sync_directory(self.home.root()).map_err(error::io)?;
        }
        Ok(())
    }

    /// Removes the file at `place`; says whether there was one.
    fn remove(&self, held: &Held<'_>, place: &Place) -> Result<bool> {
        held.unsettle()?;
        match fs::remove_file(self.path(place)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.home.check()?;
                Ok(false)
            }
            Err(error) => Err(error::io(error)),
        }
    }

    /// Puts the changes under the lock, all in one shard, on the disk, if so chosen.
    pub(crate) fn settle(&self, held: &Held<'_>, shard: &str) -> Result<()> {
        if self.sync && !held.is_settled() {
            self.sync_shard(shard)?;
            held.settle();
        }
        Ok(())
    }

    fn sync_shard(&self, shard: &str) -> Result<()> {
        match atomic::sync_directory(&self.home.root().join(shard)) {
            // Nothing has ever been written there.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done.map_err(error::io),
        }
    }

    pub(crate) fn write(&self, turn: &mut Turn, key: &Key, value: &Bytes, expiry: Expiry) -> Result<()> {
        let place = self.form.place(key)?;
        let held = self.begin(turn)?;
        self.put(&held, &place, key, value, expiry)?;
        self.settle(&held, &place.shard)
    }

    pub(crate) fn write_if(
        &self,
        turn: &mut Turn,
        key: &Key,
        value: &Bytes,
        expiry: Expiry,
        condition: &Condition,
    ) -> Result<Version> {
        let place = self.form.place(key)?;
        let held = self.begin(turn)?;
        let current = self.current(key, &place)?.map(|state| state.version);
        if Condition::from(current) != *condition {
            return Err(Error::conflict().with_adapter(NAME).with_operation(Operation::WriteIf));
        }
        let version = self.put(&held, &place, key, value, expiry)?;
        self.settle(&held, &place.shard)?;
        Ok(version)
    }

    /// Deletes the entry at `place`; says whether there was one. A damaged one counts: it is there,
    /// and this is how to be rid of it.
    pub(crate) fn delete_at(&self, held: &Held<'_>, place: &Place) -> Result<bool> {
        let alive = match self.form.glance(&self.path(place)) {
            Ok(Some(glance)) => is_alive(glance.deadline, unix_millis()),
            Ok(None) => {
                self.home.check()?;
                return Ok(false);
            }
            Err(error) if error.kind() == ErrorKind::Corrupt => true,
            Err(error) => return Err(error),
        };
        Ok(self.remove(held, place)? && alive)
    }

    pub(crate) fn delete(&self, turn: &mut Turn, key: &Key) -> Result<bool> {
        let place = self.form.place(key)?;
        let held = self.begin(turn)?;
        let existed = self.delete_at(&held, &place)?;
        self.settle(&held, &place.shard)?;
        Ok(existed)
    }

    pub(crate) fn delete_if(&self, turn: &mut Turn, key: &Key, version: &Version) -> Result<()> {
        let place = self.form.place(key)?;
        let held = self.begin(turn)?;
        if self.current(key, &place)?.is_none_or(|state| state.version != *version) {
            return Err(Error::conflict().with_adapter(NAME).with_operation(Operation::DeleteIf));
        }
        self.remove(&held, &place)?;
        self.settle(&held, &place.shard)
    }

    pub(crate) fn touch(&self, turn: &mut Turn, key: &Key, expiry: Expiry) -> Result<bool> {
        let place = self.form.place(key)?;
        let held = self.begin(turn)?;
        if self.current(key, &place)?.is_none() {
            self.home.check()?;
            return Ok(false);
        }
        if expiry.is_elapsed() {
            self.remove(&held, &place)?;
            self.settle(&held, &place.shard)?;
            return Ok(true);
        }
        let path = self.path(&place);
        let deadline = expiry.deadline(unix_millis());
        if self.form == Form::Binary {
            held.unsettle()?;
            crate::binary::touch(&path, deadline, self.sync)?;
            // The file has been synced; no name has changed.
            if self.sync {
                held.settle();
            }
            return Ok(true);
        }
        let text = fs::read(&path).map_err(error::io)?;
        let text = crate::envelope::with_deadline(&text, key, deadline)?;
        let temp = self.home.temporary_file(place.lock);
        held.unsettle()?;
        atomic::replace(&temp, &path, self.home.permissions, &text, b"", self.sync).map_err(error::io)?;
        self.settle(&held, &place.shard)?;
        Ok(true)
    }

    /// Writes the entries of a batch that share a lock; `writes` are their places in the batch.
    pub(crate) fn write_group(&self, turn: &mut Turn, writes: &[(usize, Place, Write)]) -> Vec<Failure> {
        self.group(
            turn,
            writes.iter().map(|(index, place, write)| (*index, place, write)),
            |held, place, write| self.put(held, place, &write.key, &write.value, write.expiry).map(drop),
        )
    }

    /// Deletes the entries of a batch that share a lock; returns how many there were.
    pub(crate) fn delete_group(&self, turn: &mut Turn, places: &[(usize, Place)]) -> (u64, Vec<Failure>) {
        let mut deleted = 0;
        let failures =
            self.group(turn, places.iter().map(|(index, place)| (*index, place, &())), |held, place, ()| {
                deleted += u64::from(self.delete_at(held, place)?);
                Ok(())
            });
        (deleted, failures)
    }

    fn group<'a, T: 'a>(
        &self,
        turn: &mut Turn,
        items: impl Iterator<Item = (usize, &'a Place, &'a T)>,
        mut change: impl FnMut(&Held<'_>, &Place, &T) -> Result<()>,
    ) -> Vec<Failure> {
        let held = match self.begin(turn) {
            Ok(held) => held,
            Err(error) => return items.map(|(index, ..)| Failure::new(index, error.duplicate())).collect(),
        };
        let mut failures = Vec::new();
        let mut shards: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (index, place, item) in items {
            match change(&held, place, item) {
                Ok(()) => shards.entry(&place.shard).or_default().push(index),
                Err(error) => failures.push(Failure::new(index, error)),
            }
        }
        if self.sync && !held.is_settled() {
            for (shard, indices) in shards {
                if let Err(error) = self.sync_shard(shard) {
                    failures.extend(indices.into_iter().map(|index| Failure::new(index, error.duplicate())));
                }
            }
            if failures.is_empty() {
                held.settle();
            }
        }
        failures
    }
}
