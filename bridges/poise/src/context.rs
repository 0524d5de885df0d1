//! The session of a command, from its context.

use std::sync::Arc;

use poise::{ApplicationContext, Context, PrefixContext};

use crate::{CommandSession, CommandSessions, SessionKind};

/// Bot data that select the sessions of `ctx.session()`. Other sessions of the bot are used by their names:
/// `ctx.data().guilds.of(ctx)`.
///
/// Implemented for [`CommandSessions`], if the bot has no other data, and for an `Arc` of any implementation.
///
/// ```
/// use larder_poise::{CommandSessions, HasSessions, KvSessions, Sessions};
///
/// struct Data {
///     users: CommandSessions,
///     guilds: CommandSessions<Sessions<u64>>,
/// }
///
/// impl HasSessions for Data {
///     type Kind = KvSessions;
///
///     fn sessions(&self) -> &CommandSessions {
///         &self.users
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` (the bot's data) does not select the sessions of its commands",
    note = "implement `larder_poise::HasSessions` for it"
)]
pub trait HasSessions {
    /// The kind of the sessions: `KvSessions`, or `Sessions<T>`.
    type Kind: SessionKind;

    /// Returns the sessions.
    fn sessions(&self) -> &CommandSessions<Self::Kind>;
}

impl<S: SessionKind> HasSessions for CommandSessions<S> {
    type Kind = S;

    fn sessions(&self) -> &Self {
        self
    }
}

impl<D: HasSessions + ?Sized> HasSessions for Arc<D> {
    type Kind = D::Kind;

    fn sessions(&self) -> &CommandSessions<D::Kind> {
        (**self).sessions()
    }
}

/// Adds `session` to [`poise::Context`], if the bot's data [have sessions](HasSessions).
///
/// ```
/// use larder_poise::{CommandSessions, SessionExt};
///
/// // The sessions are the bot's only data.
/// type Context<'a> = poise::Context<'a, CommandSessions, larder_poise::Error>;
///
/// async fn ponged(ctx: Context<'_>) -> larder_poise::Result<Option<u64>> {
///     ctx.session().get("ponged").await
/// }
/// ```
pub trait SessionExt<'a> {
    /// The kind of the session.
    type Kind: SessionKind;

    /// Returns the session of the running command, without reading it. If awaited, it opens the session.
    ///
    /// ```
    /// # use larder_poise::{CommandSessions, Open, Result, SessionExt};
    /// # type Context<'a> = poise::Context<'a, CommandSessions, larder_poise::Error>;
    /// # async fn example(ctx: Context<'_>) -> Result<()> {
    /// let mut session = ctx.session().await?;
    /// session.set("language", "de")?;
    /// Open::save(session).await
    /// # }
    /// ```
    fn session(self) -> CommandSession<'a, Self::Kind>;
}

macro_rules! session_of {
    ($($context:ident),+) => {$(
        impl<'a, U: HasSessions, E> SessionExt<'a> for $context<'a, U, E> {
            type Kind = U::Kind;

            fn session(self) -> CommandSession<'a, U::Kind> {
                self.data().sessions().of(self)
            }
        }
    )+};
}

session_of!(Context, ApplicationContext, PrefixContext);
