//! Reads and writes sessions in the store.

use std::time::Duration;

use larder_core::{
    Bytes, Condition, Error, ErrorKind, Expiry, Key, Operation, ReadOptions, Record, Result, Store, Version,
    WriteOptions,
};
use larder_owners::{Deadline, Indexed};
use larder_web_sessions::{Ids, Keys, announcement, check_size};
use serde_json::value::RawValue;

use crate::{
    changes::Changes,
    fields::{Fields, Raw},
    index::{Index, Login},
    names,
    places::Place,
    sealed::{self, Sealed},
};

/// How many times a save is tried while other requests save first.
const ATTEMPTS: u32 = 64;
/// The longest pause between two attempts, in milliseconds.
const LONGEST_PAUSE: u64 = 32;

/// The store of the sessions, and their lifetime.
#[derive(Debug)]
pub(crate) struct SessionStore {
    pub(crate) store: Store,
    pub(crate) keys: Keys,
    /// The maximum size of a stored session, in bytes.
    pub(crate) max_size: usize,
    pub(crate) max_age: Duration,
    /// Extends a session to `max_age` if at most this much time is left. Zero: never.
    pub(crate) cover_time: Duration,
    /// How long version 2 remembers a user.
    pub(crate) remember_users: Expiry,
    pub(crate) index: Option<Index>,
}

/// A session that was read.
pub(crate) struct Loaded {
    pub(crate) fields: Fields,
    /// The time at which the session ends, for the index.
    pub(crate) deadline: Deadline,
    version: Version,
    /// At most `cover_time` is left.
    due: bool,
    /// If the session is still under its plain id: the condition for writing it under the hashed one.
    moves: Option<Condition>,
}

impl Loaded {
    /// Returns whether the session is under its plain id, and moves when it is written.
    pub(crate) fn is_plain(&self) -> bool {
        self.moves.is_some()
    }

    /// Returns the condition for writing the session.
    fn unchanged(&self) -> Condition {
        self.moves.clone().unwrap_or_else(|| Condition::At(self.version.clone()))
    }
}

/// The result of looking for a session.
enum Found {
    Session(Loaded),
    /// No session, and the condition for writing one.
    Vacant(Condition),
}

/// An entry of the store.
struct Entry {
    /// `None` if it announces that a session is moving there.
    fields: Option<Fields>,
    version: Version,
    expiry: Option<Expiry>,
}

impl Entry {
    fn is_session(&self) -> bool {
        self.fields.is_some()
    }
}

impl SessionStore {
    /// Returns the session if it exists.
    pub(crate) async fn load(&self, place: &Place) -> Result<Option<Loaded>> {
        Ok(match self.find(place).await? {
            Found::Session(loaded) => Some(loaded),
            Found::Vacant(_) => None,
        })
    }

    async fn find(&self, place: &Place) -> Result<Found> {
        let mut entry = self.read(place, &place.key).await?;
        let mut moves = None;
        if let Some(plain) = &place.plain
            && !entry.as_ref().is_some_and(Entry::is_session)
        {
            moves = Some(Condition::unchanged(entry.map(|entry| entry.version)));
            entry = self.read(place, plain).await?;
            if entry.is_none() {
                // Another request may have moved the session between the two reads.
                moves = None;
                entry = self.read(place, &place.key).await?;
            }
        }
        Ok(match entry {
            Some(Entry { fields: Some(fields), version, expiry }) => {
                Found::Session(self.loaded(fields, version, expiry, moves))
            }
            entry => Found::Vacant(Condition::unchanged(entry.map(|entry| entry.version))),
        })
    }

    /// Reads one of the keys of a session. Any other value there is an error.
    async fn read(&self, place: &Place, key: &Key) -> Result<Option<Entry>> {
        let mut options = ReadOptions::new();
        options.ttl = !self.cover_time.is_zero() || self.index.is_some();
        let Some(record) = self.store.read_with(key, &options).await? else { return Ok(None) };
        let name = self.store.info().name;
        let named = |error: Error| error.with_adapter(name).with_operation(Operation::Read).with_key(key);
        let version = record
            .version
            .ok_or_else(|| Error::unsupported().with_adapter(name).with_operation(Operation::Write))?;
        let fields = self.decode(place, key, &record.value).map_err(named)?;
        Ok(Some(Entry { fields, version, expiry: record.expiry }))
    }

    fn decode(&self, place: &Place, key: &Key, value: &[u8]) -> Result<Option<Fields>> {
        match self.keys.plain_id(key) {
            Some(id) => Fields::parse(value, id).map(Some),
            None => match Sealed::parse(value)? {
                Sealed::Session(fields) => sealed::open(fields, &place.id).map(Some),
                Sealed::Moving => Ok(None),
            },
        }
    }

    fn encode(&self, place: &Place, fields: &Fields) -> Result<Bytes> {
        let value = match self.keys.ids {
            Ids::Plain => fields.encode(),
            Ids::Hashed | Ids::Migrating => sealed::seal(fields, &place.id),
        }?;
        check_size(&self.store, &value, self.max_size, "max_size")?;
        Ok(value)
    }

    fn loaded(
        &self,
        fields: Fields,
        version: Version,
        expiry: Option<Expiry>,
        moves: Option<Condition>,
    ) -> Loaded {
        let due = match expiry {
            _ if self.cover_time.is_zero() => false,
            Some(Expiry::After(left)) => left <= self.cover_time,
            // An entry without expiry does not come from this layer, and gets an expiry.
            Some(Expiry::Never) => true,
            None => false,
        };
        Loaded { fields, deadline: deadline(expiry), version, due, moves }
    }

    /// Returns the time until the session expires, or `None` if it no longer exists.
    pub(crate) async fn remaining(&self, place: &Place) -> Result<Option<Expiry>> {
        for key in place.keys() {
            if let Some(expiry) = self.store.ttl(key).await? {
                return Ok(Some(expiry));
            }
        }
        Ok(None)
    }

    /// Saves `changes` field by field: changes that other requests have saved are kept. Does not bring back a
    /// session that another request has destroyed.
    pub(crate) async fn save(&self, place: &Place, mut loaded: Loaded, changes: &Changes) -> Result<()> {
        for attempt in 0..ATTEMPTS {
            let changed = changes.apply(loaded.fields.clone())?;
            if changed.same(&loaded.fields) {
                self.cover(place, &loaded).await;
                return Ok(());
            }
            match self.write(place, Some(&loaded), loaded.unchanged(), &changed, None).await {
                Err(error) if error.kind() == ErrorKind::Conflict => pause(attempt).await,
                result => return result,
            }
            match self.load(place).await? {
                Some(now) => loaded = now,
                None => {
                    tracing::debug!(
                        "a session ended while a request of it was served; the changes of the request are dropped"
                    );
                    return Ok(());
                }
            }
        }
        Err(overtaken())
    }

    /// Writes the session of a login, which must not exist yet.
    pub(crate) async fn create(
        &self,
        place: &Place,
        fresh: &Fields,
        changes: &Changes,
        login: &Login,
    ) -> Result<()> {
        let fields = changes.apply(fresh.clone())?;
        self.write(place, None, Condition::Absent, &fields, Some(login)).await
    }

    /// Writes the session of a login. If it already exists (in version 2 a user may get the same skey again),
    /// keeps its custom fields.
    pub(crate) async fn establish(
        &self,
        place: &Place,
        fresh: &Fields,
        changes: &Changes,
        login: &Login,
    ) -> Result<()> {
        // The usual case first, which needs no read.
        let mut found = match place.plain {
            None => Found::Vacant(Condition::Absent),
            Some(_) => self.find(place).await?,
        };
        for attempt in 0..ATTEMPTS {
            let (there, condition, fields) = match &found {
                Found::Vacant(condition) => (None, condition.clone(), fresh.clone()),
                Found::Session(there) => {
                    (Some(there), there.unchanged(), fresh.clone().or(there.fields.clone()))
                }
            };
            let fields = changes.apply(fields)?;
            match self.write(place, there, condition, &fields, Some(login)).await {
                Err(error) if error.kind() == ErrorKind::Conflict => pause(attempt).await,
                result => return result,
            }
            found = self.find(place).await?;
        }
        Err(overtaken())
    }

    /// Writes the session, which was read as `was`. Fails with a conflict if it has changed since.
    async fn write(
        &self,
        place: &Place,
        was: Option<&Loaded>,
        condition: Condition,
        fields: &Fields,
        login: Option<&Login>,
    ) -> Result<()> {
        let value = self.encode(place, fields)?;
        let noted = self.before_save(place, was, fields, login).await?;
        let moving = place.plain.as_ref().zip(was.filter(|was| was.is_plain()));
        let condition = match moving {
            Some((plain, was)) => self.announce(place, plain, &was.version, condition).await?,
            None => condition,
        };
        let options = WriteOptions::new().expiry(self.max_age).condition(condition);
        self.store.write_with(&place.key, value, &options).await?;
        if let Some((plain, _)) = moving {
            self.store.delete(plain).await?;
        }
        self.after_save(noted).await;
        Ok(())
    }

    /// Announces under the hashed id that a session is moving there. Returns the condition for writing it.
    ///
    /// [`announcement`] explains the steps of a move.
    ///
    /// `condition` is that the hashed id is vacant, or the announcement of another move, which this one takes over.
    async fn announce(
        &self,
        place: &Place,
        plain: &Key,
        version: &Version,
        condition: Condition,
    ) -> Result<Condition> {
        let announced = if condition == Condition::Absent {
            let write =
                self.store.write(&place.key, announcement::new()?).expires_in(announcement::TIME_TO_LIVE);
            Condition::unchanged(write.if_absent().await?.version)
        } else {
            condition
        };
        let there = self.store.read(plain).await?;
        if there.is_some_and(|there| there.version.as_ref() == Some(version)) {
            return Ok(announced);
        }
        self.store.delete(&place.key).condition(announced).await?;
        Err(Error::conflict())
    }

    /// Extends a session whose time is running out. A conflict is not an error: the request that saved the
    /// session has extended it too. Other failures lose nothing: the next request tries again.
    async fn cover(&self, place: &Place, loaded: &Loaded) {
        if loaded.due
            && let Err(error) = self.extend(place, loaded).await
            && error.kind() != ErrorKind::Conflict
        {
            tracing::warn!(%error, "a session could not be extended");
        }
    }

    async fn extend(&self, place: &Place, loaded: &Loaded) -> Result<()> {
        if loaded.is_plain() {
            // It moves, so that none remains under its plain id for longer than `max_age`.
            return self.write(place, Some(loaded), loaded.unchanged(), &loaded.fields, None).await;
        }
        self.before_touch(place, loaded).await?;
        self.store.touch(&place.key, self.max_age).condition(loaded.unchanged()).await.map(drop)
    }

    /// Deletes the session, also if other requests have changed it; but only if it is still a session.
    pub(crate) async fn destroy(&self, place: &Place, loaded: Loaded) -> Result<()> {
        // The order matters: see `announcement`.
        for key in place.keys() {
            let is_here = (*key == place.key) != loaded.is_plain();
            let known =
                is_here.then(|| (self.indexed(&loaded.fields, loaded.deadline), loaded.version.clone()));
            self.delete(place, key, known).await?;
        }
        Ok(())
    }

    /// Deletes the value under one of the keys of a session. `known` is the session there, if it was read.
    async fn delete(&self, place: &Place, key: &Key, mut known: Option<(Indexed, Version)>) -> Result<()> {
        for attempt in 0..ATTEMPTS {
            let (was, version) = match known.take() {
                Some(known) => known,
                None => match self.read(place, key).await? {
                    Some(Entry { fields: Some(fields), version, expiry }) => {
                        (self.indexed(&fields, deadline(expiry)), version)
                    }
                    Some(announcement) => (Indexed::NONE, announcement.version),
                    None => return Ok(()),
                },
            };
            let saving = self.before_delete(key, &was).await?;
            match self.store.delete(key).if_at(version).await {
                Err(error) if error.kind() == ErrorKind::Conflict => pause(attempt).await,
                result => {
                    result?;
                    self.after_change(saving).await;
                    return Ok(());
                }
            }
        }
        Err(overtaken())
    }

    /// Returns the remembered data of a user (version 2).
    pub(crate) async fn user(&self, open_id: &str) -> Result<Option<Raw>> {
        let key = self.user_key(open_id)?;
        self.store.read(key).await?.map(|record| user_info(&record)).transpose()
    }

    /// Remembers the data that a user has sent.
    pub(crate) async fn remember(&self, open_id: &str, info: &RawValue) -> Result<()> {
        let key = self.user_key(open_id)?;
        let there = self.store.read(&key).await?;
        if let Some(record) = &there {
            user_info(record)?;
        }
        let mut user = Fields::default();
        user.set(names::FIELD_USER_INFO, info.to_owned());
        let condition = Condition::unchanged(there.and_then(|record| record.version));
        let options = WriteOptions::new().expiry(self.remember_users).condition(condition);
        match self.store.write_with(&key, user.encode()?, &options).await {
            // Another login of the same user won.
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(()),
            result => result.map(drop),
        }
    }

    fn user_key(&self, open_id: &str) -> Result<Key> {
        Key::new(format!("{}user:{open_id}", self.keys.prefix))
    }
}

fn user_info(record: &Record) -> Result<Raw> {
    Fields::parse_user(&record.value)
}

/// Returns the time at which a session ends. If the store was not asked, that is now at the earliest.
fn deadline(expiry: Option<Expiry>) -> Deadline {
    Deadline::after(expiry.unwrap_or(Expiry::after_millis(0)))
}

/// Waits for a random time, so that two requests in conflict do not collide again.
async fn pause(attempt: u32) {
    let longest = 1_u64.checked_shl(attempt).unwrap_or(LONGEST_PAUSE).min(LONGEST_PAUSE);
    tokio::time::sleep(Duration::from_millis(fastrand::u64(0..=longest))).await;
}

fn overtaken() -> Error {
    Error::new(ErrorKind::Conflict, "other requests keep changing the session; try again later")
}
