//! The session of a command by its context.

use std::sync::Arc;

use poise::{ApplicationContext, Context, PrefixContext};

use crate::{CommandSession, CommandSessions, SessionKind};

/// A bot's data that say which sessions `ctx.session()` means. Other sessions that they have are used by
/// their names: `ctx.data().guilds.of(ctx)`.
///
/// [`CommandSessions`] are such data, where a bot has no others, and so is an `Arc` of some.
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
    message = "`{Self}`, the data of the bot, does not say which sessions its commands have",
    note = "implement `larder_poise::HasSessions` for it"
)]
pub trait HasSessions {
    /// What kind of sessions they are: `KvSessions`, or `Sessions<T>`.
    type Kind: SessionKind;

    /// The sessions.
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

/// What is added to [`poise::Context`], if the bot's data [have sessions](HasSessions).
///
/// ```
/// use larder_poise::{CommandSessions, SessionExt};
///
/// // Sessions are all the data that this bot has.
/// type Context<'a> = poise::Context<'a, CommandSessions, larder_poise::Error>;
///
/// async fn ponged(ctx: Context<'_>) -> larder_poise::Result<Option<u64>> {
///     ctx.session().get("ponged").await
/// }
/// ```
pub trait SessionExt<'a> {
    /// What kind of session it is.
    type Kind: SessionKind;

    /// The session of the command that is running. Nothing is read yet; awaited, it opens.
    ///
    /// ```
    /// # use larder_poise::{CommandSessions, Result, SessionExt};
    /// # type Context<'a> = poise::Context<'a, CommandSessions, larder_poise::Error>;
    /// # async fn example(ctx: Context<'_>) -> Result<()> {
    /// let mut session = ctx.session().await?;
    /// session.set("language", "de")?;
    /// session.save().await
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
