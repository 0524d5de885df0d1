//! A session between read and save.

use std::{future::ready, sync::Arc};

use larder_core::{
    Bytes, Condition, DeleteOptions, Error, ErrorKind, Expiry, Key, Operation, Record, Result, Version,
    WriteOptions, clock::unix_millis,
};
use larder_owners::{Deadline, Indexed, Owner};

use crate::{
    conflicts::{ConflictPolicy, Retries},
    content::{Decoded, Marks},
    lifetime::End,
    moves::Found,
    queue::{Identity, Nested, Nesting, QueuePermit, is_nested, note_write},
    shared::Shared,
};

/// The maximum number of consecutive conflicts of an unconditional write.
const MAX_ATTEMPTS: usize = 256;

/// A session in memory, with its stored state and the condition for saving it.
pub(crate) struct State<T> {
    shared: Arc<Shared<T>>,
    /// `None` only after a reload has failed.
    permit: Option<QueuePermit>,
    nesting: Nesting,
    origin: Origin,
    pub(crate) slot: Slot,
    /// The session in the index of owners, as it is stored now.
    indexed: Indexed,
    value: T,
    change: Change,
    /// Whether a new session is saved without a change.
    initial_counts: bool,
    cleared: bool,
    /// The changes are not to be saved.
    discarded: bool,
    /// It has been written or deleted since it was read.
    saved: bool,
    /// Whether dropping unsaved changes is a mistake worth a warning.
    pub(crate) warns_of_loss: bool,
}

/// The session as it was read.
struct Origin {
    /// `None` without a session, or if it has expired.
    bytes: Option<Bytes>,
    marks: Marks,
    migrated: bool,
}

/// The key of the stored session, and the last known state of its entry.
pub(crate) struct Slot {
    pub(crate) key: Key,
    stored: Stored,
}

#[derive(Clone)]
enum Stored {
    Absent,
    At(Option<Version>),
}

/// Which entries an unconditional write may replace.
#[derive(Clone, Copy)]
enum Overwrite {
    /// Readable sessions. Other values, and sessions of a newer program, stay.
    Sessions,
    Anything,
}

/// Whether the value has changed.
enum Change {
    /// It was not borrowed mutably.
    None,
    /// It was borrowed mutably; the encoded value from before that. `None`: it is saved in any case.
    Perhaps(Option<Bytes>),
}

/// How to save the session.
enum Plan {
    Keep,
    Delete,
    Write(Bytes, Expiry),
}

impl<T> State<T> {
    /// Reads the session of this permit, following its moves.
    pub(crate) async fn load(
        shared: &Arc<Shared<T>>,
        mut permit: QueuePermit,
        nesting: Nesting,
    ) -> Result<Self> {
        let found = loop {
            let found = shared.resolver.find_with(permit.key(), &shared.reading()).await?;
            if found.key == *permit.key() || nesting.skips_queue_after_move() {
                break found;
            }
            // It has moved: its updates queue at its current key.
            drop(permit);
            permit = shared.queue.enter(&found.key, &nesting).await?;
        };
        Self::read(shared, permit, nesting, found).await
    }

    async fn read(
        shared: &Arc<Shared<T>>,
        permit: QueuePermit,
        nesting: Nesting,
        found: Found,
    ) -> Result<Self> {
        let stored = match &found.record {
            None => Stored::Absent,
            Some(record) => Stored::At(record.version.clone()),
        };
        let slot = Slot { key: found.key, stored };
        let expiry = found.record.as_ref().and_then(|record| record.expiry);
        let deadline = Deadline::after(expiry.unwrap_or_default());
        let bytes = found.record.map(|record| record.value);
        let left = shared.resolver.left(&slot.key);
        let (origin, value) = shared
            .interpret(bytes, left)
            .await
            .map_err(|error| shared.store().name_entry(error, &slot.key))?;
        let owner = origin.bytes.as_ref().and_then(|_| shared.owner_of(&value));
        Ok(Self {
            indexed: Indexed { owner, deadline },
            shared: Arc::clone(shared),
            permit: Some(permit),
            nesting,
            origin,
            slot,
            value,
            change: Change::None,
            initial_counts: shared.initial_counts,
            cleared: false,
            discarded: false,
            saved: false,
            warns_of_loss: false,
        })
    }

    /// Marks a session that was only loaded: it is not created without a change.
    pub(crate) const fn only_if_changed(&mut self) {
        self.initial_counts = false;
    }

    /// Reads the session again. Keeps the permit unless the session has moved.
    pub(crate) async fn reload(&mut self) -> Result<()> {
        let permit = match self.permit.take() {
            Some(permit) => permit,
            None => self.shared.queue.enter(&self.slot.key, &self.nesting).await?,
        };
        *self = Self::load(&self.shared, permit, self.nesting.clone()).await?;
        Ok(())
    }

    /// Restores the session as it was read. If it has been saved since, the next save replaces that.
    pub(crate) async fn restart(&mut self) -> Result<()> {
        // It had not expired when it was read.
        let left = ready(Ok(Some(Expiry::After(Expiry::MAX))));
        let (origin, value) = self.shared.interpret(self.origin.bytes.clone(), left).await?;
        self.origin = Origin { marks: self.origin.marks, ..origin };
        self.value = value;
        self.change = if self.saved { Change::Perhaps(None) } else { Change::None };
        self.cleared = false;
        self.discarded = false;
        Ok(())
    }

    /// Undoes an earlier save, unless another process has changed the session since.
    pub(crate) async fn undo(&mut self) -> Result<()> {
        if !self.saved {
            return Ok(());
        }
        self.restart().await?;
        if self.is_new() {
            self.clear();
        }
        self.save_changes().await
    }

    /// Saves after a run of the handler. After a conflict returns the session as it is now, for the next run.
    /// `nested` contains the writes within the handler.
    pub(crate) async fn save_or_reload(
        mut self,
        retries: &mut Retries,
        nested: Option<&Nested>,
    ) -> Result<Option<Self>> {
        match self.save().await {
            Ok(()) => Ok(None),
            Err(error) => {
                retries.next(error, nested).await?;
                self.reload().await?;
                Ok(Some(self))
            }
        }
    }

    /// Identifies the session among all sessions of all stores.
    pub(crate) fn identity(&self) -> Identity {
        self.shared.queue.identity(&self.slot.key)
    }

    pub(crate) const fn value(&self) -> &T {
        &self.value
    }

    /// Borrows the value mutably.
    pub(crate) fn value_mut(&mut self) -> &mut T {
        if matches!(self.change, Change::None) {
            // Encode it now, to compare it when it is saved. A new session is written in any case.
            let before = if self.is_written_as_new() { None } else { self.bare().ok() };
            self.change = Change::Perhaps(before);
        }
        &mut self.value
    }

    pub(crate) fn clear(&mut self) {
        self.value = (self.shared.initial)();
        self.change = Change::None;
        self.cleared = true;
    }

    pub(crate) const fn discard(&mut self) {
        self.discarded = true;
    }

    /// Whether a save would change the value that is stored, or create a session with another value than the
    /// initial one.
    pub(crate) fn has_changed(&self) -> bool {
        let deletes = self.cleared && !self.is_new();
        let has_changed = || match &self.change {
            Change::None => false,
            Change::Perhaps(before) => {
                let format = &self.shared.content.format;
                let initial = || format.encode_bare(&(self.shared.initial)()).ok();
                before.clone().or_else(initial) != self.bare().ok()
            }
        };
        !self.discarded && (deletes || has_changed())
    }

    /// Whether the session did not exist before.
    pub(crate) const fn is_new(&self) -> bool {
        self.origin.bytes.is_none()
    }

    /// Whether it is written because it is new.
    const fn is_written_as_new(&self) -> bool {
        self.is_new() && self.initial_counts && !self.cleared
    }

    /// Whether an unchanged session is saved: if it is new, if it was migrated and `persist_migrated` is on,
    /// or if its stored end would cut a sliding lifetime short, because a touch cannot move that end.
    fn is_saved_anyway(&self) -> bool {
        if self.cleared {
            return false;
        }
        let ends_early = self.origin.marks.end.is_some() && self.shared.content.lifetime.only_slides();
        self.is_written_as_new() || (self.origin.migrated && self.shared.persist_migrated) || ends_early
    }

    fn bare(&self) -> Result<Bytes> {
        self.shared.content.format.encode_bare(&self.value)
    }

    fn plan(&self) -> Result<Plan> {
        let (bare, unchanged) = match &self.change {
            Change::None => (None, true),
            Change::Perhaps(before) => {
                let bare = self.bare()?;
                let unchanged = before.as_ref() == Some(&bare);
                (Some(bare), unchanged)
            }
        };
        if unchanged && self.cleared {
            return Ok(Plan::Delete);
        }
        if unchanged && !self.is_saved_anyway() {
            return Ok(Plan::Keep);
        }
        let bare = bare.map_or_else(|| self.bare(), Ok)?;
        if !self.shared.initial_counts {
            let nothing = self.shared.content.format.encode_bare(&(self.shared.initial)())?;
            if bare == nothing {
                return Ok(Plan::Delete);
            }
        }
        let mut marks = self.origin.marks;
        // A session set after clearing is new and has its own end. A changed session gets this program's
        // lifetime; an unchanged one keeps its stored end.
        if self.cleared || !(unchanged || self.shared.content.lifetime.is_absolute()) {
            marks.end = None;
        }
        Ok(match self.shared.content.encode(&self.value, bare, marks)? {
            Some((bytes, expiry)) => Plan::Write(bytes, expiry),
            None => Plan::Delete,
        })
    }

    /// Saves the changes, unless they were discarded.
    pub(crate) async fn save(&mut self) -> Result<()> {
        if self.discarded { self.undo().await } else { self.save_changes().await }
    }

    /// Writes the session if it has changed, deletes it if it was cleared, or extends it if that is due.
    async fn save_changes(&mut self) -> Result<()> {
        match self.plan().map_err(|error| self.shared.store().name_entry(error, &self.slot.key))? {
            // New and unchanged.
            Plan::Keep if self.is_new() => Ok(()),
            Plan::Keep => {
                let (key, version) = (&self.slot.key, self.slot.version());
                self.shared.extend(key, version, self.origin.marks.end, &self.indexed).await
            }
            Plan::Delete => self.replace(None, None).await,
            Plan::Write(bytes, expiry) => {
                let owner = self.shared.owner_of(&self.value);
                self.replace(Some((bytes, expiry)), owner).await?;
                self.shared.note_use(&self.slot.key);
                Ok(())
            }
        }
    }

    /// Writes or deletes the session. The index first: a session missing from it could not be revoked.
    async fn replace(&mut self, value: Option<(Bytes, Expiry)>, owner: Option<Owner>) -> Result<()> {
        let expiry = value.as_ref().map_or(Expiry::Never, |(_, expiry)| *expiry);
        let will = Indexed { owner, deadline: Deadline::after(expiry) };
        let saving = self.shared.before_save(&self.slot.key, &self.indexed, &will).await?;
        self.slot.replace(&self.shared, value, will.owner.as_ref()).await?;
        self.saved = true;
        self.indexed = will;
        self.shared.after_save(saving).await;
        Ok(())
    }
}

impl Slot {
    /// Returns the slot of an entry that was not read.
    pub(crate) const fn unknown(key: Key) -> Self {
        Self { key, stored: Stored::Absent }
    }

    /// Writes or deletes on the condition that the entry is unchanged since it was read. With
    /// `LastWriteWins`, writes unconditionally, but never over a marker. `owner` is already in the index.
    async fn replace<T>(
        &mut self,
        shared: &Shared<T>,
        value: Option<(Bytes, Expiry)>,
        owner: Option<&Owner>,
    ) -> Result<()> {
        if shared.conflicts == ConflictPolicy::LastWriteWins {
            return self.overwrite_with(shared, value, owner, Overwrite::Sessions).await;
        }
        self.replace_once(shared, value).await
    }

    /// Writes or deletes unconditionally, at the session's current key. `owner` is already in the index.
    pub(crate) async fn overwrite<T>(
        &mut self,
        shared: &Shared<T>,
        value: Option<(Bytes, Expiry)>,
        owner: Option<&Owner>,
    ) -> Result<()> {
        self.overwrite_with(shared, value, owner, Overwrite::Anything).await
    }

    async fn overwrite_with<T>(
        &mut self,
        shared: &Shared<T>,
        value: Option<(Bytes, Expiry)>,
        owner: Option<&Owner>,
        overwrite: Overwrite,
    ) -> Result<()> {
        for _ in 0..MAX_ATTEMPTS {
            match self.replace_once(shared, value.clone()).await {
                Err(error) if error.kind() == ErrorKind::Conflict => {
                    let record = self.look(shared).await?;
                    if let (Overwrite::Sessions, Some(value)) = (overwrite, record) {
                        shared.decode(&self.key, &value).await?;
                    }
                    if let Some((_, expiry)) = &value {
                        shared.note_again(owner, &self.key, *expiry).await?;
                    }
                }
                outcome => return outcome,
            }
        }
        Err(Error::conflict().with_adapter(shared.store().info().name).with_operation(Operation::Write))
    }

    /// Reads the entry again.
    pub(crate) async fn look<T>(&mut self, shared: &Shared<T>) -> Result<Option<Bytes>> {
        let found = shared.resolver.find(&self.key).await?;
        self.key = found.key;
        let (stored, value) = match found.record {
            None => (Stored::Absent, None),
            Some(record) => (Stored::At(record.version), Some(record.value)),
        };
        self.stored = stored;
        Ok(value)
    }

    async fn replace_once<T>(&mut self, shared: &Shared<T>, value: Option<(Bytes, Expiry)>) -> Result<()> {
        let store = shared.store();
        let condition = match &self.stored {
            _ if !store.info().conditions() => Condition::Any,
            Stored::Absent => Condition::Absent,
            Stored::At(version) => version.clone().map_or(Condition::Any, Condition::At),
        };
        let Some((bytes, expiry)) = value else {
            if !matches!(self.stored, Stored::Absent) {
                store.delete_with(&self.key, &DeleteOptions::new().condition(condition)).await?;
                self.stored = Stored::Absent;
            }
            return Ok(());
        };
        let options = WriteOptions::new().expiry(expiry).condition(condition);
        let noted = is_nested().then(|| bytes.clone());
        let written = store.write_with(&self.key, bytes, &options).await?;
        if let (Some(bytes), Some(version)) = (noted, &written.version) {
            note_write(&self.key, &Record::at(bytes, version.clone()));
        }
        // An entry without time left does not exist.
        self.stored = if expiry.is_elapsed() { Stored::Absent } else { Stored::At(written.version) };
        Ok(())
    }

    /// The last known version of the entry.
    fn version(&self) -> Option<Version> {
        match &self.stored {
            Stored::Absent => None,
            Stored::At(version) => version.clone(),
        }
    }
}

impl<T> Shared<T> {
    /// Decodes the stored session. Without one, returns the initial value.
    async fn interpret(
        &self,
        bytes: Option<Bytes>,
        left: impl Future<Output = Result<Option<Expiry>>>,
    ) -> Result<(Origin, T)> {
        if let Some(bytes) = bytes
            && let Some(Decoded { value, migrated, marks }) = self.content.decode(&bytes, left).await?
        {
            return Ok((Origin { bytes: Some(bytes), marks, migrated }, value));
        }
        let origin = Origin { bytes: None, marks: Marks::default(), migrated: false };
        Ok((origin, (self.initial)()))
    }

    /// Touches a sliding session after its use, if that is due, at the version that was read.
    ///
    /// A read with a touch would save a round trip, but would also extend markers of moves, and sessions that
    /// have expired by their stored end, before they are recognized.
    pub(crate) async fn extend(
        &self,
        key: &Key,
        version: Option<Version>,
        deadline: Option<End>,
        indexed: &Indexed,
    ) -> Result<()> {
        let lifetime = &self.content.lifetime;
        if lifetime.interval().is_some_and(|interval| self.touches.is_due(key, interval)) {
            let expiry = lifetime.expiry(deadline.filter(|_| lifetime.is_absolute()), unix_millis());
            // First the index: a session that outlives its entry could not be revoked.
            self.before_touch(key, indexed, expiry).await?;
            if self.resolver.touch(key, version, expiry).await? {
                self.note_use(key);
            }
        }
        Ok(())
    }
}
