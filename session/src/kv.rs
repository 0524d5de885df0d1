//! Named values in one session, as discord.js-mvc has them.

use std::{
    collections::BTreeMap,
    fmt,
    ops::{Deref, DerefMut},
    sync::Arc,
};

use larder_core::{Codec, Error, ErrorKind, Json, Result, Store};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::{
    builder::SessionsBuilder,
    key::SessionKey,
    outcome::Outcome,
    session::{OpenSession, Session},
    sessions::Sessions,
};

/// Sessions of named values, each of a type of its own.
///
/// ```
/// use larder_session::KvSessions;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> larder_session::Result<()> {
/// let sessions = KvSessions::builder().initial("pings", 0)?.build()?;
/// let guild = "guild:81384788765712384";
/// sessions.update(guild, async |mut session| {
///     let pings: u32 = session.get("pings")?.unwrap_or_default();
///     session.set("pings", pings + 1)
/// }).await?;
/// assert_eq!(sessions.get::<u32>(guild, "pings").await?, Some(1));
/// # Ok(())
/// # }
/// ```
///
/// Stored as one object per session. The initial values apply to each name by itself, whenever it is
/// absent. One with an initial value that has been deleted stays deleted: it is stored as `null`. A
/// session with no names is not stored.
#[derive(Clone)]
pub struct KvSessions {
    sessions: Sessions<Names>,
    initial: Arc<BTreeMap<String, Value>>,
}

/// What is stored. JSON's own map: no name is lost, whatever its value.
type Names = Map<String, Value>;

/// Sets up [`KvSessions`].
#[derive(Debug)]
#[must_use = "a builder does nothing before `build`"]
pub struct KvBuilder {
    sessions: SessionsBuilder<Names>,
    initial: BTreeMap<String, Value>,
}

impl KvBuilder {
    /// The value of `name` wherever it is absent.
    ///
    /// # Errors
    ///
    /// As [`KvSession::set`].
    pub fn initial(mut self, name: impl Into<String>, value: impl Serialize) -> Result<Self> {
        self.initial.insert(name.into(), to_value(&value)?);
        Ok(self)
    }

    /// Everything that other sessions have too: storage, prefix, lifetime, conflicts ...
    pub fn with(mut self, set_up: impl FnOnce(SessionsBuilder<Names>) -> SessionsBuilder<Names>) -> Self {
        self.sessions = set_up(self.sessions);
        self
    }

    /// Where the sessions are kept; see [`SessionsBuilder::storage`].
    pub fn storage(self, storage: impl Into<Store>) -> Self {
        self.with(|sessions| sessions.storage(storage))
    }

    /// What every key begins with; see [`SessionsBuilder::prefix`].
    pub fn prefix(self, prefix: impl Into<String>) -> Self {
        self.with(|sessions| sessions.prefix(prefix))
    }

    /// Checks it all.
    ///
    /// # Errors
    ///
    /// As [`SessionsBuilder::build`].
    pub fn build(self) -> Result<KvSessions> {
        Ok(KvSessions { sessions: self.sessions.build()?, initial: self.initial.into() })
    }
}

impl KvSessions {
    /// Sets up sessions of named values.
    pub fn builder() -> KvBuilder {
        KvBuilder { sessions: Sessions::builder().initial_does_not_count(), initial: BTreeMap::new() }
    }

    /// Runs `handler` on the session under `key` and saves what it changes; see
    /// [`Sessions::update`].
    ///
    /// # Errors
    ///
    /// As [`Sessions::update`].
    pub async fn update<O, F>(
        &self,
        key: impl Into<SessionKey>,
        mut handler: impl FnMut(KvSession) -> F,
    ) -> Result<O::Value, O::Error>
    where
        O: Outcome,
        F: Future<Output = O>,
    {
        self.sessions.update(key, |session| handler(self.session(session))).await
    }

    /// Opens the session under `key`, to be changed and [saved](OpenKvSession::save) by hand; see
    /// [`Sessions::open`].
    ///
    /// # Errors
    ///
    /// As [`Sessions::open`].
    pub async fn open(&self, key: impl Into<SessionKey>) -> Result<OpenKvSession> {
        let open = self.sessions.open(key).await?;
        Ok(OpenKvSession(self.session(open.into_session())))
    }

    fn session(&self, session: Session<Names>) -> KvSession {
        KvSession { session, initial: Arc::clone(&self.initial) }
    }

    /// The value of `name` in the session under `key`; `None` if there is none.
    ///
    /// # Errors
    ///
    /// As [`Sessions::get`]; [`ErrorKind::Codec`] if it is no `V`.
    pub async fn get<V: DeserializeOwned>(
        &self,
        key: impl Into<SessionKey>,
        name: &str,
    ) -> Result<Option<V>> {
        let names = self.sessions.get(key).await?.unwrap_or_default();
        look_up(&names, &self.initial, name)
    }

    /// Sets `name` in the session under `key`.
    ///
    /// # Errors
    ///
    /// As [`KvSession::set`] and [`Sessions::update`].
    pub async fn set(&self, key: impl Into<SessionKey>, name: &str, value: impl Serialize) -> Result<()> {
        let value = to_value(&value)?;
        self.update(key, async |mut session| session.set(name, &value)).await
    }

    /// Deletes `name` from the session under `key`; says whether it had a value.
    ///
    /// # Errors
    ///
    /// As [`Sessions::update`].
    pub async fn delete(&self, key: impl Into<SessionKey>, name: &str) -> Result<bool> {
        self.update(key, async |mut session| Ok::<_, Error>(session.delete(name))).await
    }

    /// All names of the session under `key`, with their values.
    ///
    /// # Errors
    ///
    /// As [`Sessions::get`].
    pub async fn all(&self, key: impl Into<SessionKey>) -> Result<BTreeMap<String, Value>> {
        Ok(all(&self.sessions.get(key).await?.unwrap_or_default(), &self.initial))
    }

    /// The storage underneath.
    #[must_use]
    pub fn storage(&self) -> &Store {
        self.sessions.storage()
    }

    /// The sessions as those of one value: to delete and list them, for their remaining time, to move
    /// them.
    #[must_use]
    pub const fn sessions(&self) -> &Sessions<Map<String, Value>> {
        &self.sessions
    }
}

/// One session of named values, while it is being updated.
pub struct KvSession {
    session: Session<Names>,
    initial: Arc<BTreeMap<String, Value>>,
}

impl KvSession {
    /// The value of `name`; `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Codec`] if it is no `V`.
    pub fn get<V: DeserializeOwned>(&self, name: &str) -> Result<Option<V>> {
        look_up(&self.session, &self.initial, name)
    }

    /// Sets `name`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Codec`] if JSON cannot hold the value, or if it has an integer of more than 64 bits.
    pub fn set(&mut self, name: impl Into<String>, value: impl Serialize) -> Result<()> {
        let value = to_value(&value)?;
        self.session.insert(name.into(), value);
        Ok(())
    }

    /// Deletes `name`; says whether it had a value.
    pub fn delete(&mut self, name: &str) -> bool {
        let had = value(&self.session, &self.initial, name).is_some();
        if self.initial.contains_key(name) {
            // Absent, it would have its initial value again.
            self.session.insert(name.to_owned(), Value::Null);
        } else if had {
            self.session.remove(name);
        }
        had
    }

    /// All names with their values.
    #[must_use]
    pub fn all(&self) -> BTreeMap<String, Value> {
        all(&self.session, &self.initial)
    }

    /// Deletes the whole session.
    pub fn clear(&mut self) {
        self.session.clear();
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

/// A session of named values that was opened with [`KvSessions::open`], to be saved by hand.
#[derive(Debug)]
#[must_use = "nothing is saved without `save`"]
pub struct OpenKvSession(KvSession);

impl OpenKvSession {
    /// Saves what has changed; see [`OpenSession::save`](crate::OpenSession::save).
    ///
    /// # Errors
    ///
    /// As [`OpenSession::save`](crate::OpenSession::save).
    pub async fn save(self) -> Result<()> {
        OpenSession::from_session(self.0.session).save().await
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

/// A `null` is a name without a value.
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
    value.map_err(|_| Error::new(ErrorKind::Codec, "the named value is not what the type is read from"))
}

fn all(names: &Names, initial: &BTreeMap<String, Value>) -> BTreeMap<String, Value> {
    let mut all = initial.clone();
    all.extend(names.iter().map(|(name, value)| (name.clone(), value.clone())));
    all.retain(|_, value| !value.is_null());
    all
}

/// [`Json`] refuses NaN, which `serde_json::to_value` turns into `null`: that is a name without a value.
/// `serde_json::to_value` refuses an integer of more than 64 bits, which would be read as a float.
fn to_value(value: &impl Serialize) -> Result<Value> {
    Json.encode(value)?;
    serde_json::to_value(value).map_err(|_| {
        Error::new(
            ErrorKind::Codec,
            "the named value cannot be kept as JSON: it has an integer of more than 64 bits, or a map whose keys \
             are no strings; store such a number as text",
        )
    })
}
