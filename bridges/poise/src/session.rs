//! The session of one event.

use std::{collections::BTreeMap, fmt, pin::Pin};

use larder_session::{
    Error, HandlerFuture, KvSession, KvSessions, Outcome, Result, Session, SessionKey, Sessions,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{Open, Origin, SessionKind, claims};

/// The session of one command, button, or message. Nothing has been read yet.
///
/// If awaited, it [opens](Self::open) the session: `ctx.session().await?.get::<u64>("ponged")?`.
///
/// ```
/// # use larder_poise::{CommandSessions, Result, SessionExt};
/// # type Context<'a> = poise::Context<'a, CommandSessions, larder_poise::Error>;
/// # async fn example(ctx: Context<'_>) -> Result<()> {
/// let session = ctx.session(); // or sessions.of(&interaction)
/// session.try_modify(|session| session.set("language", "de")).await
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

    /// Returns the session's key without the sessions' prefix, or the reason why it is missing. Use it with
    /// [`CommandSessions::sessions`](crate::CommandSessions::sessions) for operations that this type lacks.
    ///
    /// ```
    /// # use larder_poise::{CommandSessions, Origin};
    /// # fn example(sessions: &CommandSessions, origin: Origin) {
    /// if sessions.of(origin).key().as_str().is_none() {
    ///     println!("Sessions are not available here.");
    /// }
    /// # }
    /// ```
    #[must_use]
    pub const fn key(&self) -> &SessionKey {
        &self.key
    }

    /// Opens the session, which you change and then [save](Open::save). Other commands that want it wait
    /// until then. Prefer [`update`](Self::update) if the code can be a handler: if several processes serve
    /// the bot, [`save`](Open::save) can return a [`Conflict`](crate::ErrorKind::Conflict).
    ///
    /// Returns an error if the same event in the same tokio task already has the session open, because it
    /// would wait for itself. So `join!` of two futures that want one session is an error too. An event
    /// handler to which serenity passes the same message runs in another task, and waits for its turn. Two
    /// deadlocks are not detected, and end when the queue timeout of the sessions ends:
    ///
    /// - A command has its session open, spawns a task that wants the same session, and awaits that task.
    /// - Two commands each want a session that the other has open. Open several sessions in the same order
    ///   everywhere, or use [`Multi`](crate::Multi).
    ///
    /// ```
    /// # use larder_poise::{CommandSessions, Open, Origin, Result};
    /// # async fn example(sessions: &CommandSessions, origin: Origin) -> Result<()> {
    /// let mut session = sessions.of(origin).open().await?;
    /// session.set("language", "de")?;
    /// Open::save(session).await
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Same as [`update`](Self::update), except the handler's errors.
    pub async fn open(self) -> Result<Open<S>> {
        let hold = claims::hold(self.sessions, &self.origin, &self.key)?;
        Ok(Open::new(self.sessions.open(self.key).await?, hold))
    }

    /// Deletes any value under the session's key. Returns `false` if the key has no value.
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
    /// Same as [`update`](Self::update), except the handler's errors and those of reading the stored value.
    pub async fn delete(self) -> Result<bool> {
        claims::check(self.sessions, &self.origin, &self.key)?;
        self.sessions.delete(self.key).await
    }
}

impl CommandSession<'_, KvSessions> {
    /// Changes it with a synchronous closure, and saves it: one read, one write. Returns the closure's
    /// result. Most closures use `?` and need [`try_modify`](Self::try_modify).
    ///
    /// ```
    /// # use larder_poise::{CommandSessions, Origin, Result};
    /// # async fn example(sessions: &CommandSessions, origin: Origin) -> Result<()> {
    /// let had = sessions.of(origin).modify(|session| session.delete("ponged")).await?;
    /// # let _ = had;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// No change is lost: updates of one session run one after another, and after a change by another process
    /// the closure runs again.
    ///
    /// # Errors
    ///
    /// Those of [`update`](Self::update).
    pub async fn modify<R>(self, change: impl FnMut(&mut KvSession) -> R) -> Result<R> {
        claims::check(self.sessions, &self.origin, &self.key)?;
        self.sessions.modify(self.key, change).await
    }

    /// Like [`modify`](Self::modify), with a closure that can fail. Its `Err` is returned, and nothing is
    /// saved.
    ///
    /// ```
    /// # use larder_poise::{CommandSessions, Error, ErrorKind, Origin, Result};
    /// # async fn example(sessions: &CommandSessions, origin: Origin) -> Result<()> {
    /// let ponged = sessions.of(origin).try_modify(|session| {
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
    /// The closure's; otherwise those of [`update`](Self::update).
    pub async fn try_modify<R, E: From<Error>>(
        self,
        change: impl FnMut(&mut KvSession) -> Result<R, E>,
    ) -> Result<R, E> {
        claims::check(self.sessions, &self.origin, &self.key)?;
        self.sessions.try_modify(self.key, change).await
    }

    /// Runs `handler` on the session and saves its changes: one read, the handler, one write. No update is
    /// lost: the updates of one session take turns, and if another process saved first, the handler runs
    /// again.
    ///
    /// Writes nothing if the handler changes nothing or returns an `Err`. Send answers after the update, not
    /// in the handler: other commands wait for the handler, and it may run more than once.
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
    /// - The handler's own errors.
    /// - [`InvalidKey`](crate::ErrorKind::InvalidKey): the key is missing.
    /// - [`Unsupported`](crate::ErrorKind::Unsupported): the same command has the session [open](Self::open),
    ///   or is inside an update of it.
    /// - All other errors of [`Sessions::update`].
    pub async fn update<O: Outcome, F: HandlerFuture<Output = O>>(
        self,
        handler: impl FnMut(KvSession) -> F,
    ) -> Result<O::Value, O::Error> {
        claims::check(self.sessions, &self.origin, &self.key)?;
        self.sessions.update(self.key, handler).await
    }

    /// Like [`update`](Self::update), with a handler that never runs twice: for one that sends messages, or
    /// that consumes its captures. If another process changes the session while it runs, the update fails
    /// with [`Conflict`](crate::ErrorKind::Conflict); see [`Sessions::update_once`].
    ///
    /// ```
    /// # use larder_poise::{CommandSessions, Origin, Result};
    /// # async fn send(message: String) -> Result<()> { Ok(()) }
    /// # async fn example(sessions: &CommandSessions, origin: Origin) -> Result<()> {
    /// let message = "Welcome!".to_owned();
    /// sessions.of(origin).update_once(async |mut session| {
    ///     session.set("welcomed", true)?;
    ///     send(message).await
    /// }).await
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`update`](Self::update).
    pub async fn update_once<O: Outcome, F: HandlerFuture<Output = O>>(
        self,
        handler: impl FnOnce(KvSession) -> F,
    ) -> Result<O::Value, O::Error> {
        claims::check(self.sessions, &self.origin, &self.key)?;
        self.sessions.update_once(self.key, handler).await
    }

    /// Reads the value of `name`, or `None` if it does not exist. Never waits for other commands.
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
    /// Same as [`KvSessions::get`].
    pub async fn get<V: DeserializeOwned>(self, name: &str) -> Result<Option<V>> {
        self.sessions.get(self.key, name).await
    }

    /// Reads all values with their names. Never waits for other commands.
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
    /// Same as [`KvSessions::all`].
    pub async fn all(self) -> Result<BTreeMap<String, Value>> {
        self.sessions.all(self.key).await
    }
}

impl<T: Send + Sync + 'static> CommandSession<'_, Sessions<T>> {
    /// Changes it with a synchronous closure, and saves it: one read, one write. Returns the closure's
    /// result. A session that did not exist is written even if nothing has changed, with its initial value.
    ///
    /// ```
    /// # use larder_poise::{CommandSessions, Origin, Result, Sessions};
    /// # async fn example(sessions: &CommandSessions<Sessions<u64>>, origin: Origin) -> Result<()> {
    /// sessions.of(origin).modify(|coins| *coins += 10).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// No change is lost: updates of one session run one after another, and after a change by another process
    /// the closure runs again.
    ///
    /// # Errors
    ///
    /// Those of [`update`](Self::update).
    pub async fn modify<R>(self, change: impl FnMut(&mut T) -> R) -> Result<R> {
        claims::check(self.sessions, &self.origin, &self.key)?;
        self.sessions.modify(self.key, change).await
    }

    /// Like [`modify`](Self::modify), with a closure that can fail. Its `Err` is returned, and nothing is
    /// saved.
    ///
    /// ```
    /// # use larder_poise::{CommandSessions, Error, ErrorKind, Origin, Result, Sessions};
    /// # async fn example(sessions: &CommandSessions<Sessions<u64>>, origin: Origin) -> Result<()> {
    /// sessions.of(origin).try_modify(|coins| {
    ///     *coins = coins.checked_sub(10).ok_or_else(|| Error::new(ErrorKind::Other, "too few coins"))?;
    ///     larder_poise::ok(())
    /// }).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The closure's; otherwise those of [`update`](Self::update).
    pub async fn try_modify<R, E: From<Error>>(
        self,
        change: impl FnMut(&mut T) -> Result<R, E>,
    ) -> Result<R, E> {
        claims::check(self.sessions, &self.origin, &self.key)?;
        self.sessions.try_modify(self.key, change).await
    }

    /// Runs `handler` on the session and saves its changes, as for named values, with one difference: a
    /// session that did not exist is written with its initial value even if the handler changes nothing.
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
    /// Same as for named values.
    pub async fn update<O: Outcome, F: HandlerFuture<Output = O>>(
        self,
        handler: impl FnMut(Session<T>) -> F,
    ) -> Result<O::Value, O::Error> {
        claims::check(self.sessions, &self.origin, &self.key)?;
        self.sessions.update(self.key, handler).await
    }

    /// Like [`update`](Self::update), with a handler that never runs twice: for one that sends messages, or
    /// that consumes its captures. If another process changes the session while it runs, the update fails
    /// with [`Conflict`](crate::ErrorKind::Conflict); see [`Sessions::update_once`].
    ///
    /// ```
    /// # use larder_poise::{CommandSessions, Origin, Result, Sessions};
    /// # async fn send(message: String) -> Result<()> { Ok(()) }
    /// # async fn example(sessions: &CommandSessions<Sessions<u64>>, origin: Origin) -> Result<()> {
    /// let message = "Welcome!".to_owned();
    /// sessions.of(origin).update_once(async |mut session| {
    ///     *session += 10;
    ///     send(message).await
    /// }).await
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`update`](Self::update).
    pub async fn update_once<O: Outcome, F: HandlerFuture<Output = O>>(
        self,
        handler: impl FnOnce(Session<T>) -> F,
    ) -> Result<O::Value, O::Error> {
        claims::check(self.sessions, &self.origin, &self.key)?;
        self.sessions.update_once(self.key, handler).await
    }

    /// Reads the session, or returns `None` if it does not exist. Does not wait for other commands and does not
    /// change the value. With a sliding lifetime it extends the session.
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
    /// Same as [`Sessions::get`].
    pub async fn get(self) -> Result<Option<T>> {
        self.sessions.get(self.key).await
    }

    /// Calls `look` with the value, or with the initial value if there is no session. Does not wait for
    /// updates and does not change the value. With a sliding lifetime it extends the session.
    ///
    /// ```
    /// # use larder_poise::{CommandSessions, Origin, Result, Sessions};
    /// # async fn example(coins: &CommandSessions<Sessions<u64>>, origin: Origin) -> Result<()> {
    /// let rich = coins.of(origin).with(|coins| *coins > 1_000).await?;
    /// # let _ = rich;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Sessions::get`].
    pub async fn with<R>(self, look: impl FnOnce(&T) -> R) -> Result<R> {
        self.sessions.with(self.key, look).await
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
