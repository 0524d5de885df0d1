//! The sessions of a bot.

use std::{fmt, sync::Arc};

use larder_session::{KvSessions, SessionKey};

use crate::{CommandSession, Origin, Scope, SessionKind};

type KeyOf = dyn Fn(&Origin) -> SessionKey + Send + Sync;

/// The sessions of a bot's commands in one scope: of named values, or of your own type `T` as
/// `CommandSessions<Sessions<T>>`.
///
/// Build it once; it is cheap to clone. A bot that needs several scopes has several of these in its data.
/// Each type of session needs its own prefix.
///
/// ```
/// use larder_poise::{CommandSessions, KvSessions, Origin, Scope, Sessions};
/// # use larder_memory::MemoryStorage;
/// use poise::serenity_prelude::{ChannelId, GuildId, UserId};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> larder_poise::Result<()> {
/// # let storage = MemoryStorage::new();
/// struct Data {
///     users: CommandSessions,
///     coins: CommandSessions<Sessions<u64>>,
/// }
///
/// let users = KvSessions::builder().storage(storage.clone()).prefix("discord:").build()?;
/// let coins = Sessions::<u64>::builder().storage(storage).prefix("coins:").build()?;
/// let data = Data {
///     users: CommandSessions::new(users, Scope::User),
///     coins: CommandSessions::new(coins, Scope::UserInGuild),
/// };
///
/// // In a command: `ctx`. In an event handler: the interaction or the message.
/// let origin = Origin::new(UserId::new(7), ChannelId::new(42), GuildId::new(1));
/// data.coins.of(origin).modify(|coins| *coins += 10).await?;
/// assert_eq!(data.coins.of(origin).get().await?, Some(10));
/// # Ok(())
/// # }
/// ```
pub struct CommandSessions<S = KvSessions>(Arc<Inner<S>>);

struct Inner<S> {
    sessions: S,
    key: Box<KeyOf>,
}

impl<S> Clone for CommandSessions<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: SessionKind> CommandSessions<S> {
    /// Creates sessions with this scope.
    ///
    /// ```
    /// use larder_poise::{CommandSessions, KvSessions, Scope};
    /// # let storage = larder_memory::MemoryStorage::new();
    ///
    /// let sessions = KvSessions::builder().storage(storage).prefix("discord:").build()?;
    /// let sessions = CommandSessions::new(sessions, Scope::User);
    /// # Ok::<(), larder_poise::Error>(())
    /// ```
    pub fn new(sessions: S, scope: Scope) -> Self {
        Self::with_key(sessions, move |origin| scope.key(origin))
    }

    /// Creates sessions with your own keys. Return [`SessionKey::missing`] with a reason if there is no
    /// session.
    ///
    /// ```
    /// use larder_poise::{CommandSessions, KvSessions, Origin, Scope};
    /// use poise::serenity_prelude::{GuildId, UserId};
    /// # let storage = larder_memory::MemoryStorage::new();
    ///
    /// // Per guild, and in direct messages per user.
    /// let sessions = CommandSessions::with_key(
    ///     KvSessions::builder().storage(storage).build()?,
    ///     |origin: &Origin| match origin.guild() {
    ///         Some(_) => Scope::Guild.key(origin),
    ///         None => Scope::User.key(origin),
    ///     },
    /// );
    /// let direct_message = Origin::new(UserId::new(7), None, None);
    /// assert_eq!(sessions.of(direct_message).key().as_str(), Some("user:7"));
    /// let elsewhere = Origin::new(UserId::new(7), None, GuildId::new(1));
    /// assert_eq!(sessions.of(elsewhere).key().as_str(), Some("guild:1"));
    /// # Ok::<(), larder_poise::Error>(())
    /// ```
    pub fn with_key(sessions: S, key: impl Fn(&Origin) -> SessionKey + Send + Sync + 'static) -> Self {
        Self(Arc::new(Inner { sessions, key: Box::new(key) }))
    }

    /// Returns the session of a command (from its context), of an interaction, of a message, or of another
    /// [`Origin`], without reading it.
    ///
    /// ```
    /// use larder_poise::{CommandSessions, Result};
    /// use poise::serenity_prelude::ComponentInteraction;
    ///
    /// async fn pressed(sessions: &CommandSessions, button: &ComponentInteraction) -> Result<()> {
    ///     sessions.of(button).try_modify(|session| session.set("pressed", true)).await
    /// }
    /// ```
    pub fn of(&self, origin: impl Into<Origin>) -> CommandSession<'_, S> {
        let Inner { sessions, key } = &*self.0;
        let origin = origin.into();
        let key = key(&origin);
        CommandSession::new(sessions, origin, key)
    }

    /// Returns the sessions themselves, for example to list them or to close their storage at the end.
    ///
    /// ```
    /// # use larder_poise::{CommandSessions, Result};
    /// # async fn example(sessions: &CommandSessions) -> Result<()> {
    /// sessions.sessions().storage().close().await
    /// # }
    /// ```
    #[must_use]
    pub fn sessions(&self) -> &S {
        &self.0.sessions
    }
}

impl<S: fmt::Debug> fmt::Debug for CommandSessions<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommandSessions").field("sessions", &self.0.sessions).finish_non_exhaustive()
    }
}
