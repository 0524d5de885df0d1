//! Sessions of named values, like those of discord.js-mvc.

use std::{
    collections::BTreeMap,
    fmt,
    future::ready,
    ops::{Deref, DerefMut},
    sync::Arc,
};

use larder_core::{Codec, Error, ErrorKind, IntoStore, Json, Result, Store};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::{
    builder::SessionsBuilder,
    key::IntoSessionKey,
    outcome::{HandlerFuture, Outcome},
    session::Session,
    sessions::Sessions,
};

/// Sessions of named values, each with its own type.
///
/// ```
/// use larder_session::KvSessions;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> larder_session::Result<()> {
/// let sessions = KvSessions::builder().initial("pings", 0)?.build()?;
/// let guild = "guild:81384788765712384";
/// sessions.try_modify(guild, |session| {
///     let pings: u32 = session.get("pings")?.unwrap_or_default();
///     session.set("pings", pings + 1)
/// }).await?;
/// assert_eq!(sessions.get::<u32>(guild, "pings").await?, Some(1));
/// # Ok(())
/// # }
/// ```
///
/// Each session is stored as one object. An initial value applies whenever its name is absent. If a name with
/// an initial value is deleted, it stays deleted: it is stored as `null`. A session without names is not
/// stored.
#[derive(Clone)]
pub struct KvSessions {
    sessions: Sessions<Names>,
    initial: Arc<BTreeMap<String, Value>>,
}

/// The stored type. JSON's own map keeps every name, whatever its value.
type Names = Map<String, Value>;

/// The builder of [`KvSessions`].
#[derive(Debug)]
#[must_use = "a builder does nothing before `build`"]
pub struct KvBuilder {
    sessions: SessionsBuilder<Names>,
    initial: BTreeMap<String, Value>,
}

impl KvBuilder {
    /// Sets the value of `name` in sessions without that name.
    ///
    /// # Errors
    ///
    /// Those of [`KvSession::set`].
    pub fn initial(mut self, name: impl Into<String>, value: impl Serialize) -> Result<Self> {
        self.initial.insert(name.into(), to_value(&value)?);
        Ok(self)
    }

    /// Sets the options that all sessions have: storage, prefix, lifetime, conflicts ...
    pub fn with(mut self, set_up: impl FnOnce(SessionsBuilder<Names>) -> SessionsBuilder<Names>) -> Self {
        self.sessions = set_up(self.sessions);
        self
    }

    /// Sets the storage; see [`SessionsBuilder::storage`].
    pub fn storage(self, storage: impl IntoStore) -> Self {
        self.with(|sessions| sessions.storage(storage))
    }

    /// Sets the prefix of all keys; see [`SessionsBuilder::prefix`].
    pub fn prefix(self, prefix: impl Into<String>) -> Self {
        self.with(|sessions| sessions.prefix(prefix))
    }

    /// Checks the options.
    ///
    /// # Errors
    ///
    /// Those of [`SessionsBuilder::build`].
    pub fn build(self) -> Result<KvSessions> {
        Ok(KvSessions { sessions: self.sessions.build()?, initial: self.initial.into() })
    }
}

impl KvSessions {
    /// Returns a builder.
    pub fn builder() -> KvBuilder {
        KvBuilder { sessions: Sessions::builder().initial_does_not_count(), initial: BTreeMap::new() }
    }

    /// Runs an asynchronous `handler` on the session under `key` and saves its changes; see
    /// [`Sessions::update`].
    ///
    /// # Errors
    ///
    /// Those of [`Sessions::update`].
    pub async fn update<O, F>(
        &self,
        key: impl IntoSessionKey,
        mut handler: impl FnMut(KvSession) -> F,
    ) -> Result<O::Value, O::Error>
    where
        O: Outcome,
        F: HandlerFuture<Output = O>,
    {
        self.sessions.update(key, |session| handler(self.session(session))).await
    }

    /// Like [`update`](Self::update), with a handler that never runs twice; see [`Sessions::update_once`].
    ///
    /// # Errors
    ///
    /// Those of [`Sessions::update_once`].
    pub async fn update_once<O, F>(
        &self,
        key: impl IntoSessionKey,
        handler: impl FnOnce(KvSession) -> F,
    ) -> Result<O::Value, O::Error>
    where
        O: Outcome,
        F: HandlerFuture<Output = O>,
    {
        self.sessions.update_once(key, |session| handler(self.session(session))).await
    }

    /// Changes the session under `key` with a synchronous closure, and saves it. Most closures use `?` and
    /// need [`try_modify`](Self::try_modify).
    ///
    /// # Errors
    ///
    /// Those of [`Sessions::update`].
    pub async fn modify<R>(
        &self,
        key: impl IntoSessionKey,
        mut change: impl FnMut(&mut KvSession) -> R,
    ) -> Result<R> {
        self.try_modify(key, |session| Ok(change(session))).await
    }

    /// Like [`modify`](Self::modify), with a closure that can fail. Its `Err` is returned, and nothing is
    /// saved.
    ///
    /// # Errors
    ///
    /// The closure's; otherwise those of [`Sessions::update`].
    pub async fn try_modify<R, E: From<Error>>(
        &self,
        key: impl IntoSessionKey,
        mut change: impl FnMut(&mut KvSession) -> Result<R, E>,
    ) -> Result<R, E> {
        self.update(key, |mut session| ready(change(&mut session))).await
    }

    /// Reads the session under `key`. The caller changes it and [saves](OpenKvSession::save) it; see
    /// [`Sessions::open`].
    ///
    /// # Errors
    ///
    /// Those of [`Sessions::open`].
    pub async fn open(&self, key: impl IntoSessionKey) -> Result<OpenKvSession> {
        let open = self.sessions.open(key).await?;
        Ok(OpenKvSession(self.session(open.into_session())))
    }

    fn session(&self, session: Session<Names>) -> KvSession {
        KvSession { session, initial: Arc::clone(&self.initial) }
    }

    /// Returns the value of `name` in the session under `key`, or `None` without a value.
    ///
    /// # Errors
    ///
    /// Those of [`Sessions::get`]; [`ErrorKind::Codec`] if it is not a valid `V`.
    pub async fn get<V: DeserializeOwned>(&self, key: impl IntoSessionKey, name: &str) -> Result<Option<V>> {
        let names = self.sessions.get(key).await?.unwrap_or_default();
        look_up(&names, &self.initial, name)
    }

    /// Sets `name` in the session under `key`.
    ///
    /// # Errors
    ///
    /// Those of [`KvSession::set`] and [`Sessions::update`].
    pub async fn set(&self, key: impl IntoSessionKey, name: &str, value: impl Serialize) -> Result<()> {
        let value = to_value(&value)?;
        self.try_modify(key, |session| session.set(name, &value)).await
    }

    /// Deletes `name` from the session under `key`. Returns whether it had a value.
    ///
    /// # Errors
    ///
    /// Those of [`Sessions::update`].
    pub async fn delete(&self, key: impl IntoSessionKey, name: &str) -> Result<bool> {
        self.modify(key, |session| session.delete(name)).await
    }

    /// Returns all names of the session under `key`, with their values.
    ///
    /// # Errors
    ///
    /// Those of [`Sessions::get`].
    pub async fn all(&self, key: impl IntoSessionKey) -> Result<BTreeMap<String, Value>> {
        Ok(all(&self.sessions.get(key).await?.unwrap_or_default(), &self.initial))
    }

    /// Returns the storage.
    #[must_use]
    pub fn storage(&self) -> &Store {
        self.sessions.storage()
    }

    /// Returns the sessions as [`Sessions`] of one map each: to delete, list or move them, or for their TTL.
    #[must_use]
    pub const fn sessions(&self) -> &Sessions<Map<String, Value>> {
        &self.sessions
    }
}

/// A session of named values during an update.
pub struct KvSession {
    session: Session<Names>,
    initial: Arc<BTreeMap<String, Value>>,
}

impl KvSession {
    /// Returns the value of `name`, or `None` without a value.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Codec`] if it is not a valid `V`.
    pub fn get<V: DeserializeOwned>(&self, name: &str) -> Result<Option<V>> {
        look_up(&self.session, &self.initial, name)
    }

    /// Sets `name`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Codec`] if JSON cannot represent the value, or if it contains an integer of more than 64
    /// bits.
    pub fn set(&mut self, name: impl Into<String>, value: impl Serialize) -> Result<()> {
        let value = to_value(&value)?;
        self.session.insert(name.into(), value);
        Ok(())
    }

    /// Deletes `name`. Returns whether it had a value.
    pub fn delete(&mut self, name: &str) -> bool {
        let had = value(&self.session, &self.initial, name).is_some();
        if self.initial.contains_key(name) {
            // If it were absent, it would have its initial value again.
            self.session.insert(name.to_owned(), Value::Null);
        } else if had {
            self.session.remove(name);
        }
        had
    }

    /// Returns all names with their values.
    #[must_use]
    pub fn all(&self) -> BTreeMap<String, Value> {
        all(&self.session, &self.initial)
    }

    /// Deletes the whole session.
    pub fn clear(&mut self) {
        Session::clear(&mut self.session);
    }

    /// Abandons the update without an error: nothing of it is saved; see [`Session::discard`].
    pub fn discard(&mut self) {
        Session::discard(&mut self.session);
    }
}

/// Prints no value.
impl fmt::Debug for KvSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.session.fmt(f)
    }
}

impl fmt::Debug for KvSessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.sessions.fmt(f)
    }
}

/// A session of named values opened by [`KvSessions::open`], which [`save`](Self::save) saves. Dropping it
/// with unsaved changes logs a warning.
#[derive(Debug)]
#[must_use = "nothing is saved without `save`"]
pub struct OpenKvSession(KvSession);

impl OpenKvSession {
    /// Saves the changes; see [`OpenSession::save`](crate::OpenSession::save).
    ///
    /// # Errors
    ///
    /// Those of [`OpenSession::save`](crate::OpenSession::save).
    pub async fn save(mut self) -> Result<()> {
        Session::save(&mut self.0.session).await
    }

    /// Drops the session without its changes and without a warning.
    pub fn discard(mut self) {
        self.0.discard();
    }
}

impl Deref for OpenKvSession {
    type Target = KvSession;

    fn deref(&self) -> &KvSession {
        &self.0
    }
}

impl DerefMut for OpenKvSession {
    fn deref_mut(&mut self) -> &mut KvSession {
        &mut self.0
    }
}

/// A name with `null` has no value.
fn value<'v>(names: &'v Names, initial: &'v BTreeMap<String, Value>, name: &str) -> Option<&'v Value> {
    names.get(name).or_else(|| initial.get(name)).filter(|value| !value.is_null())
}

fn look_up<V: DeserializeOwned>(
    names: &Names,
    initial: &BTreeMap<String, Value>,
    name: &str,
) -> Result<Option<V>> {
    let value = value(names, initial, name).map(V::deserialize).transpose();
    // serde_json's message may quote the value.
    value.map_err(|_| Error::new(ErrorKind::Codec, "the named value does not match the type"))
}

fn all(names: &Names, initial: &BTreeMap<String, Value>) -> BTreeMap<String, Value> {
    let mut all = initial.clone();
    all.extend(names.iter().map(|(name, value)| (name.clone(), value.clone())));
    all.retain(|_, value| !value.is_null());
    all
}

/// [`Json`] rejects NaN, which `serde_json::to_value` converts to `null`, a name without a value.
/// `serde_json::to_value` rejects an integer of more than 64 bits, which would be read as a float.
fn to_value(value: &impl Serialize) -> Result<Value> {
    Json.encode(value)?;
    serde_json::to_value(value).map_err(|_| {
        Error::new(
            ErrorKind::Codec,
            "the named value cannot be stored as JSON: it contains an integer of more than 64 bits (store it as \
             text), or a map whose keys are not strings",
        )
    })
}
