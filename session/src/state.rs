//! A session between its read and its save.

use std::{future::ready, sync::Arc};

use larder_core::{
    Bytes, Condition, DeleteOptions, Error, ErrorKind, Expiry, Key, Operation, Record, Result, Version,
    WriteOptions, clock::unix_millis,
};

use crate::{
    conflicts::Conflicts,
    content::{Decoded, Marks},
    lifetime::End,
    moves::Found,
    queue::{Identity, Nesting, Turn, is_nested, note_write},
    shared::Shared,
};

/// More lost races in a row than this, of writes that overwrite whatever there is, are not bad luck.
const MAX_TURNS: usize = 256;

/// A session in memory, what was read of it, and what has to hold for it to be saved.
pub(crate) struct State<T> {
    shared: Arc<Shared<T>>,
    turn: Turn,
    nesting: Nesting,
    origin: Origin,
    pub(crate) place: Place,
    value: T,
    change: Change,
    /// Whether its initial value counts as written.
    initial_counts: bool,
    cleared: bool,
    /// It has been written or deleted since it was read.
    saved: bool,
}

/// What was read.
struct Origin {
    /// `None` if there was no session, or only one whose deadline had passed.
    bytes: Option<Bytes>,
    marks: Marks,
    migrated: bool,
    owner: Option<String>,
}

/// Where the session is stored, and in which state it is there as far as we know.
pub(crate) struct Place {
    pub(crate) key: Key,
    stored: Stored,
}

#[derive(Clone)]
enum Stored {
    Absent,
    At(Option<Version>),
}

/// What a session may be written over that has changed since it was read.
#[derive(Clone, Copy)]
enum Over {
    /// Another such session. What is none, or is of a newer program, stays.
    Sessions,
    Anything,
}

/// Whether the value has changed.
enum Change {
    /// Nobody has had it to change.
    None,
    /// Somebody has; it was encoded like this before. `None`: it is to be saved in any case.
    Perhaps(Option<Bytes>),
}

/// What there is to save.
enum Plan {
    Keep,
    Delete,
    Write(Bytes, Expiry),
}

impl<T> State<T> {
    /// Reads the session whose turn this is, wherever it has moved.
    pub(crate) async fn load(shared: &Arc<Shared<T>>, mut turn: Turn, nesting: Nesting) -> Result<Self> {
        let found = loop {
            let found = shared.resolver.find(turn.key()).await?;
            if found.key == *turn.key() || nesting.waits_for_no_more() {
                break found;
            }
            // It is elsewhere: its turns are taken there.
            drop(turn);
            turn = shared.queue.enter(&found.key, &nesting).await?;
        };
        Self::read(shared, turn, nesting, found).await
    }

    async fn read(shared: &Arc<Shared<T>>, turn: Turn, nesting: Nesting, found: Found) -> Result<Self> {
        let stored = match &found.record {
            None => Stored::Absent,
            Some(record) => Stored::At(record.version.clone()),
        };
        let place = Place { key: found.key, stored };
        let bytes = found.record.map(|record| record.value);
        let left = shared.resolver.left(&place.key);
        let (origin, value) = shared
            .interpret(bytes, left)
            .await
            .map_err(|error| shared.store().name_entry(error, &place.key))?;
        Ok(Self {
            shared: Arc::clone(shared),
            turn,
            nesting,
            origin,
            place,
            value,
            change: Change::None,
            initial_counts: shared.initial_counts,
            cleared: false,
            saved: false,
        })
    }

    /// It has been read in case somebody wants it: where there is none, that makes none.
    pub(crate) const fn only_if_changed(&mut self) {
        self.initial_counts = false;
    }

    /// Reads the session again, without giving up the turn if it is where it was.
    pub(crate) async fn reload(self) -> Result<Self> {
        Self::load(&self.shared, self.turn, self.nesting).await
    }

    /// The session as it was read, although it has been saved since: the next save replaces that.
    pub(crate) async fn restart(&mut self) -> Result<()> {
        // It was not over when it was read.
        let left = ready(Ok(Some(Expiry::After(Expiry::MAX))));
        let (origin, value) = self.shared.interpret(self.origin.bytes.clone(), left).await?;
        self.origin = Origin { marks: self.origin.marks, ..origin };
        self.value = value;
        self.change = Change::Perhaps(None);
        self.cleared = false;
        Ok(())
    }

    /// Undoes what has been saved, if nobody has changed it since.
    pub(crate) async fn undo(&mut self) -> Result<()> {
        if !self.saved {
            return Ok(());
        }
        self.restart().await?;
        if self.is_new() {
            self.clear();
        }
        self.save().await
    }

    /// Which session it is, among all.
    pub(crate) fn identity(&self) -> Identity {
        self.shared.queue.identity(&self.place.key)
    }

    pub(crate) const fn value(&self) -> &T {
        &self.value
    }

    /// The value, to change.
    pub(crate) fn value_mut(&mut self) -> &mut T {
        if matches!(self.change, Change::None) {
            // Encoded now, since it cannot be compared with itself later. A new session is written in any
            // case.
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

    /// Whether there was no session yet.
    pub(crate) const fn is_new(&self) -> bool {
        self.origin.bytes.is_none()
    }

    /// An initial value counts as written.
    const fn is_written_as_new(&self) -> bool {
        self.is_new() && self.initial_counts && !self.cleared
    }

    /// A new session is written although nothing changes, and a migrated one is if so asked. So is one
    /// that was stored with an end which would cut a sliding lifetime short: a touch cannot move it.
    fn is_saved_anyway(&self) -> bool {
        if self.cleared {
            return false;
        }
        let ends_early = self.origin.marks.end.is_some() && self.shared.content.lifetime.only_slides();
        self.is_written_as_new() || (self.origin.migrated && self.shared.write_back) || ends_early
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
        // A session made after clearing is new, with an end of its own. A write ends when this
        // program says, and the stored end stays where it says nothing and changes nothing.
        if self.cleared || !(unchanged || self.shared.content.lifetime.is_absolute()) {
            marks.end = None;
        }
        Ok(match self.shared.content.encode(&self.value, bare, marks)? {
            Some((bytes, expiry)) => Plan::Write(bytes, expiry),
            None => Plan::Delete,
        })
    }

    /// Writes the session if it has changed, deletes it if it was cleared, extends it if that is due.
    pub(crate) async fn save(&mut self) -> Result<()> {
        let owner = self.shared.owner_of(&self.value);
        match self.plan().map_err(|error| self.shared.store().name_entry(error, &self.place.key))? {
            // New, and nobody has made anything of it.
            Plan::Keep if self.is_new() => Ok(()),
            Plan::Keep => {
                let (key, version) = (&self.place.key, self.place.version());
                self.shared.extend(key, version, self.origin.marks.end, self.origin.owner.as_deref()).await
            }
            Plan::Delete => {
                self.place.replace(&self.shared, None).await?;
                self.saved = true;
                self.shared.forget_owner(self.origin.owner.as_deref(), &self.place.key).await;
                Ok(())
            }
            Plan::Write(bytes, expiry) => {
                // First the index: a session that it does not name could not be revoked.
                self.shared.note_owner(owner.as_deref(), &self.place.key, expiry).await?;
                self.place.replace(&self.shared, Some((bytes, expiry))).await?;
                self.saved = true;
                self.shared.note_use(&self.place.key);
                if self.origin.owner != owner {
                    self.shared.forget_owner(self.origin.owner.as_deref(), &self.place.key).await;
                }
                Ok(())
            }
        }
    }
}

impl Place {
    /// Where nothing is known of what is stored.
    pub(crate) const fn unknown(key: Key) -> Self {
        Self { key, stored: Stored::Absent }
    }

    /// Writes or deletes, if what is stored is still as it was read. With `LastWriteWins` it is done
    /// in any case, but never over a marker.
    async fn replace<T>(&mut self, shared: &Shared<T>, value: Option<(Bytes, Expiry)>) -> Result<()> {
        if shared.conflicts == Conflicts::LastWriteWins {
            return self.overwrite_with(shared, value, Over::Sessions).await;
        }
        self.replace_once(shared, value).await
    }

    /// Writes or deletes, whatever is stored, wherever the session has moved.
    pub(crate) async fn overwrite<T>(
        &mut self,
        shared: &Shared<T>,
        value: Option<(Bytes, Expiry)>,
    ) -> Result<()> {
        self.overwrite_with(shared, value, Over::Anything).await
    }

    async fn overwrite_with<T>(
        &mut self,
        shared: &Shared<T>,
        value: Option<(Bytes, Expiry)>,
        over: Over,
    ) -> Result<()> {
        for _ in 0..MAX_TURNS {
            match self.replace_once(shared, value.clone()).await {
                Err(error) if error.kind() == ErrorKind::Conflict => {
                    let record = self.look(shared).await?;
                    if let (Over::Sessions, Some(value)) = (over, record) {
                        shared.decode(&self.key, &value).await?;
                    }
                }
                outcome => return outcome,
            }
        }
        Err(Error::conflict().with_adapter(shared.store().info().name).with_operation(Operation::Write))
    }

    /// Finds out what is stored now.
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
        // What has no time left is not there.
        self.stored = if expiry.is_elapsed() { Stored::Absent } else { Stored::At(written.version) };
        Ok(())
    }

    /// The version that is stored, as far as we know.
    fn version(&self) -> Option<Version> {
        match &self.stored {
            Stored::Absent => None,
            Stored::At(version) => version.clone(),
        }
    }
}

impl<T> Shared<T> {
    /// The session that the stored bytes are; the initial one where there is none.
    async fn interpret(
        &self,
        bytes: Option<Bytes>,
        left: impl Future<Output = Result<Option<Expiry>>>,
    ) -> Result<(Origin, T)> {
        if let Some(bytes) = bytes
            && let Some(Decoded { value, migrated, marks }) = self.content.decode(&bytes, left).await?
        {
            let owner = self.owner_of(&value);
            return Ok((Origin { bytes: Some(bytes), marks, migrated, owner }, value));
        }
        let origin = Origin { bytes: None, marks: Marks::default(), migrated: false, owner: None };
        Ok((origin, (self.initial)()))
    }

    /// Touches a sliding session that was used, if that is due, at the version that was read.
    ///
    /// A read that touches would save a round trip, but would also touch a marker of a move, or a session
    /// that is over by the end that is stored with it, before anybody knows that it is one.
    pub(crate) async fn extend(
        &self,
        key: &Key,
        version: Option<Version>,
        deadline: Option<End>,
        owner: Option<&str>,
    ) -> Result<()> {
        let lifetime = &self.content.lifetime;
        if lifetime.interval().is_some_and(|interval| self.touches.is_due(key, interval)) {
            let expiry = lifetime.expiry(deadline.filter(|_| lifetime.is_absolute()), unix_millis());
            // First the index: a session that outlives its entry could not be revoked.
            self.note_owner(owner, key, expiry).await?;
            if self.resolver.touch(key, version, expiry).await? {
                self.note_use(key);
            }
        }
        Ok(())
    }
}
