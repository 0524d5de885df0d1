//! Reads and writes sessions in the store.

use std::time::Duration;

use larder_core::{
    Condition, Error, ErrorKind, Expiry, Key, Operation, ReadOptions, Record, Result, Store, Version,
    WriteOptions,
};
use serde_json::value::RawValue;

use crate::{
    changes::Changes,
    fields::{Fields, Raw},
    names,
};

/// How many times a save is tried while other requests save first.
const ATTEMPTS: u32 = 64;
/// The longest pause between two attempts, in milliseconds.
const LONGEST_PAUSE: u64 = 32;

/// The store of the sessions, and their lifetime.
#[derive(Debug)]
pub(crate) struct SessionStore {
    pub(crate) store: Store,
    pub(crate) prefix: String,
    pub(crate) max_age: Duration,
    /// Extends a session to `max_age` if at most this much time is left. Zero: never.
    pub(crate) cover_time: Duration,
    /// How long version 2 remembers a user.
    pub(crate) remember_users: Expiry,
}

/// A session that was read.
pub(crate) struct Loaded {
    pub(crate) fields: Fields,
    version: Version,
    /// At most `cover_time` is left.
    due: bool,
}

impl SessionStore {
    /// Returns the key of the session called `id`, as mp-session-koa2 names it.
    pub(crate) fn key(&self, id: &str) -> Result<Key> {
        Key::new(format!("{}{id}", self.prefix))
    }

    pub(crate) async fn load(&self, key: &Key, id: &str) -> Result<Option<Loaded>> {
        let mut options = ReadOptions::new();
        options.ttl = !self.cover_time.is_zero();
        let record = self.store.read_with(key, &options).await?;
        record.map(|record| self.loaded(key, record, id)).transpose()
    }

    fn loaded(&self, key: &Key, record: Record, id: &str) -> Result<Loaded> {
        let name = self.store.info().name;
        let named = |error: Error| error.with_adapter(name).with_operation(Operation::Read).with_key(key);
        let version = record
            .version
            .ok_or_else(|| Error::unsupported().with_adapter(name).with_operation(Operation::Write))?;
        let fields = Fields::parse(&record.value, id).map_err(named)?;
        let due = match record.expiry {
            Some(Expiry::After(left)) => left <= self.cover_time,
            // An entry without expiry does not come from this layer, and gets an expiry.
            Some(Expiry::Never) => true,
            None => false,
        };
        Ok(Loaded { fields, version, due })
    }

    /// Returns the time until the session expires, or `None` if it no longer exists.
    pub(crate) async fn remaining(&self, key: &Key) -> Result<Option<Expiry>> {
        self.store.ttl(key).await
    }

    /// Saves `changes` field by field: changes that other requests have saved are kept. Does not bring back a
    /// session that another request has destroyed.
    pub(crate) async fn save(&self, key: &Key, id: &str, loaded: &Loaded, changes: &Changes) -> Result<()> {
        let mut seen = loaded.fields.clone();
        let mut version = loaded.version.clone();
        for attempt in 0..ATTEMPTS {
            let changed = changes.apply(seen.clone())?;
            if changed.same(&seen) {
                self.cover(key, loaded.due, version).await;
                return Ok(());
            }
            match self.write(key, &changed, Condition::At(version)).await {
                Err(error) if error.kind() == ErrorKind::Conflict => pause(attempt).await,
                result => return result,
            }
            match self.load(key, id).await? {
                Some(now) => (seen, version) = (now.fields, now.version),
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
    pub(crate) async fn create(&self, key: &Key, fresh: &Fields, changes: &Changes) -> Result<()> {
        self.write(key, &changes.apply(fresh.clone())?, Condition::Absent).await
    }

    /// Writes the session of a login. If it already exists (in version 2 a user may get the same skey again),
    /// keeps its custom fields.
    pub(crate) async fn establish(
        &self,
        key: &Key,
        id: &str,
        fresh: &Fields,
        changes: &Changes,
    ) -> Result<()> {
        let mut there = None;
        for attempt in 0..ATTEMPTS {
            let (fields, condition) = match there {
                None => (fresh.clone(), Condition::Absent),
                Some(Loaded { fields, version, .. }) => (fresh.clone().or(fields), Condition::At(version)),
            };
            match self.write(key, &changes.apply(fields)?, condition).await {
                Err(error) if error.kind() == ErrorKind::Conflict => pause(attempt).await,
                result => return result,
            }
            there = self.load(key, id).await?;
        }
        Err(overtaken())
    }

    async fn write(&self, key: &Key, fields: &Fields, condition: Condition) -> Result<()> {
        let options = WriteOptions::new().expiry(self.max_age).condition(condition);
        self.store.write_with(key, fields.encode()?, &options).await.map(drop)
    }

    /// Extends a session whose time is running out. A conflict is not an error: the request that saved the
    /// session has extended it too. Other failures lose nothing: the next request tries again.
    async fn cover(&self, key: &Key, due: bool, version: Version) {
        if due
            && let Err(error) = self.store.touch(key, self.max_age).if_at(version).await
            && error.kind() != ErrorKind::Conflict
        {
            tracing::warn!(%error, "a session could not be extended");
        }
    }

    /// Deletes the session, also if other requests have changed it; but only if it is still a session.
    pub(crate) async fn destroy(&self, key: &Key, id: &str, loaded: &Loaded) -> Result<()> {
        let mut version = loaded.version.clone();
        for attempt in 0..ATTEMPTS {
            match self.store.delete(key).if_at(version).await {
                Err(error) if error.kind() == ErrorKind::Conflict => pause(attempt).await,
                result => return result.map(drop),
            }
            match self.load(key, id).await? {
                Some(now) => version = now.version,
                None => return Ok(()),
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
        self.key(&format!("user:{open_id}"))
    }
}

fn user_info(record: &Record) -> Result<Raw> {
    Fields::parse_user(&record.value)
}

/// Waits for a random time, so that two requests in conflict do not collide again.
async fn pause(attempt: u32) {
    let longest = 1_u64.checked_shl(attempt).unwrap_or(LONGEST_PAUSE).min(LONGEST_PAUSE);
    tokio::time::sleep(Duration::from_millis(fastrand::u64(0..=longest))).await;
}

fn overtaken() -> Error {
    Error::new(ErrorKind::Conflict, "other requests keep changing the session; try again later")
}
