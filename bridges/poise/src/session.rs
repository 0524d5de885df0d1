//! The session of one command.

use std::{collections::BTreeMap, fmt, pin::Pin};

use larder_session::{KvSession, KvSessions, Outcome, Result, Session, SessionKey, Sessions};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{Open, Origin, SessionKind, held};

/// The session of one command, button or message, of which nothing has been read yet.
///
/// Awaited, it [opens](Self::open): `ctx.session().await?.get::<u64>("ponged")?`.
///
/// ```
/// # use larder_poise::{CommandSessions, Result, SessionExt};
/// # type Context<'a> = poise::Context<'a, CommandSessions, larder_poise::Error>;
/// # async fn example(ctx: Context<'_>) -> Result<()> {
/// let session = ctx.session(); // or sessions.of(&interaction)
/// session.update(async |mut session| session.set("language", "de")).await
/// # }
/// ```
#[must_use = "nothing is read before it is awaited"]
pub struct CommandSession<'s, S = KvSessions> {
    sessions: &'s S,
    origin: Origin,
    key: SessionKey,
}

impl<'s, S: SessionKind> CommandSession<'s, S> {
    pub(crate) const fn new(sessions: &'s S, origin: Origin, key: SessionKey) -> Self {
        Self { sessions, origin, key }
    }

    /// Its key, without the sessions' prefix, or why there is none: for what there is no method here,
    /// with [`CommandSessions::sessions`](crate::CommandSessions::sessions).
    ///
    /// ```
    /// # use larder_poise::{CommandSessions, Origin};
    /// # fn example(sessions: &CommandSessions, origin: Origin) {
    /// if sessions.of(origin).key().as_str().is_none() {
    ///     println!("There is no session here.");
    /// }
    /// # }
    /// ```
    #[must_use]
    pub const fn key(&self) -> &SessionKey {
        &self.key
    }

    /// Opens it, to be changed and [saved](Open::save) by hand. Others who want it wait meanwhile.
    /// Prefer [`update`](Self::update) where the code between can be a handler: where several processes
    /// serve the bot, [`save`](Open::save) can be a [`Conflict`](crate::ErrorKind::Conflict).
    ///
    /// Who has it open already, and would wait for itself, is refused: the same event in the same tokio
    /// task. So `join!` of two that want one session is refused as well, and an event handler that serenity
    /// has given the same message is not: it waits for its turn. A command that has its session open and
    /// awaits a task that it has spawned, which wants the same session, waits until the patience of the
    /// sessions ends. So do two commands that each want what the other has: open several sessions in one
    /// order everywhere, or use [`Multi`](crate::Multi).
    ///
    /// ```
    /// # use larder_poise::{CommandSessions, Origin, Result};
    /// # async fn example(sessions: &CommandSessions, origin: Origin) -> Result<()> {
    /// let mut session = sessions.of(origin).open().await?;
    /// session.set("language", "de")?;
    /// session.save().await
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`update`](Self::update), but for the handler's.
    pub async fn open(self) -> Result<Open<S>> {
        let hold = held::hold(self.sessions, &self.origin, &self.key)?;
        Ok(Open::new(self.sessions.open(self.key).await?, hold))
    }

    /// Deletes it, whatever is stored there; says whether there was one.
    ///
    /// ```
    /// # use larder_poise::{CommandSessions, Origin, Result};
    /// # async fn example(sessions: &CommandSessions, origin: Origin) -> Result<()> {
    /// if sessions.of(origin).delete().await? {
    ///     println!("forgotten");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`update`](Self::update), but for the handler's; what is stored may be anything.
    pub async fn delete(self) -> Result<bool> {
        held::check(self.sessions, &self.origin, &self.key)?;
        self.sessions.delete(self.key).await
    }
}

impl CommandSession<'_, KvSessions> {
    /// Runs `handler` on it and saves what it changes: one read, the handler, one write. No update is
    /// lost: those of one session take turns, and where another process was faster the handler runs
    /// again.
    ///
    /// Nothing is written if nothing has changed, or if the handler returns an `Err`. Send answers
    /// after it, not in it: others wait meanwhile, and the handler may run twice.
    ///
    /// ```
    /// # use larder_poise::{CommandSessions, Origin, Result};
    /// # async fn example(sessions: &CommandSessions, origin: Origin) -> Result<()> {
    /// let ponged = sessions.of(origin).update(async |mut session| {
    ///     let ponged = session.get("ponged")?.unwrap_or(0_u64) + 1;
    ///     session.set("ponged", ponged)?;
    ///     larder_poise::ok(ponged)
    /// }).await?;
    /// # let _ = ponged;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The handler's own; [`InvalidKey`](crate::ErrorKind::InvalidKey) if there is no key;
    /// [`Unsupported`](crate::ErrorKind::Unsupported) if the same command has the session
    /// [open](Self::open), or is within an update of it; otherwise those of [`Sessions::update`].
    pub async fn update<O: Outcome, F: Future<Output = O>>(
        self,
        handler: impl FnMut(KvSession) -> F,
    ) -> Result<O::Value, O::Error> {
        held::check(self.sessions, &self.origin, &self.key)?;
        self.sessions.update(self.key, handler).await
    }

    /// Reads the value of `name`; `None` if there is none. Waits for nobody.
    ///
    /// ```
    /// # use larder_poise::{CommandSessions, Origin, Result};
    /// # async fn example(sessions: &CommandSessions, origin: Origin) -> Result<()> {
    /// let ponged: Option<u64> = sessions.of(origin).get("ponged").await?;
    /// # let _ = ponged;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`KvSessions::get`].
    pub async fn get<V: DeserializeOwned>(self, name: &str) -> Result<Option<V>> {
        self.sessions.get(self.key, name).await
    }

    /// Reads all values, by their names. Waits for nobody.
    ///
    /// ```
    /// # use larder_poise::{CommandSessions, Origin, Result};
    /// # async fn example(sessions: &CommandSessions, origin: Origin) -> Result<()> {
    /// for (name, value) in sessions.of(origin).all().await? {
    ///     println!("{name}: {value}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`KvSessions::all`].
    pub async fn all(self) -> Result<BTreeMap<String, Value>> {
        self.sessions.all(self.key).await
    }
}

impl<T: Send + Sync + 'static> CommandSession<'_, Sessions<T>> {
    /// Runs `handler` on it and saves what it changes, as it is for named values. But a session that did
    /// not exist is written even if nothing has changed, with its initial value.
    ///
    /// ```
    /// # use larder_poise::{CommandSessions, Origin, Result, Sessions};
    /// # async fn example(coins: &CommandSessions<Sessions<u64>>, origin: Origin) -> Result<()> {
    /// coins.of(origin).update(async |mut coins| *coins += 10).await
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As for named values.
    pub async fn update<O: Outcome, F: Future<Output = O>>(
        self,
        handler: impl FnMut(Session<T>) -> F,
    ) -> Result<O::Value, O::Error> {
        held::check(self.sessions, &self.origin, &self.key)?;
        self.sessions.update(self.key, handler).await
    }

    /// Reads it; `None` if there is none. Waits for nobody.
    ///
    /// ```
    /// # use larder_poise::{CommandSessions, Origin, Result, Sessions};
    /// # async fn example(coins: &CommandSessions<Sessions<u64>>, origin: Origin) -> Result<()> {
    /// let coins = coins.of(origin).get().await?.unwrap_or_default();
    /// # let _ = coins;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Sessions::get`].
    pub async fn get(self) -> Result<Option<T>> {
        self.sessions.get(self.key).await
    }
}

impl<'s, S: SessionKind> IntoFuture for CommandSession<'s, S> {
    type Output = Result<Open<S>>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 's>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.open())
    }
}

/// Prints no id.
impl<S> fmt::Debug for CommandSession<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommandSession").field("key", &self.key).finish_non_exhaustive()
    }
}
