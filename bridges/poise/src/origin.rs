//! Where something has happened.

use std::fmt;

use poise::{ApplicationContext, Context, PrefixContext};
use serenity::model::{
    Timestamp,
    application::{CommandInteraction, ComponentInteraction, ModalInteraction},
    channel::Message,
    id::{ChannelId, GuildId, UserId},
    user::User,
};

/// Whose doing something was, and where: what the [key](crate::Scope) of a session is made of.
///
/// It is made of a command's context, of an interaction (command, button or other component, modal) or
/// of a message, so that all of them find the same session; and of three ids for any other event. Give
/// the interaction itself, not its `message`: that is the bot's own, and does not know its guild.
///
/// Two origins are equal if their three ids are, whatever has happened there.
///
/// ```
/// use larder_poise::{Origin, Scope};
/// use poise::serenity_prelude::{ChannelId, GuildId, UserId};
///
/// // A reaction, say.
/// let origin = Origin::new(UserId::new(7), ChannelId::new(42), GuildId::new(1));
/// assert_eq!(Scope::UserInGuild.key(&origin).as_str(), Some("user:7/guild:1"));
/// ```
#[derive(Clone, Copy, Default)]
pub struct Origin {
    user: Option<UserId>,
    channel: Option<ChannelId>,
    guild: Option<GuildId>,
    pub(crate) event: Option<Event>,
}

/// What commands and other handlers run for: an interaction, or a message as it was edited last.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Event {
    id: u64,
    edited: Option<Timestamp>,
}

impl Origin {
    /// That of an event that is no interaction and no message. An id, or an `Option` of one, for each.
    ///
    /// ```
    /// use larder_poise::Origin;
    /// use poise::serenity_prelude::{ChannelId, UserId};
    ///
    /// let direct_message = Origin::new(UserId::new(7), ChannelId::new(43), None);
    /// assert_eq!(direct_message.guild(), None);
    /// ```
    #[must_use]
    pub fn new(
        user: impl Into<Option<UserId>>,
        channel: impl Into<Option<ChannelId>>,
        guild: impl Into<Option<GuildId>>,
    ) -> Self {
        Self { user: user.into(), channel: channel.into(), guild: guild.into(), event: None }
    }

    /// Who it was; `None` if it was no user.
    #[must_use]
    pub const fn user(&self) -> Option<UserId> {
        self.user
    }

    /// The channel. A thread is one of its own.
    #[must_use]
    pub const fn channel(&self) -> Option<ChannelId> {
        self.channel
    }

    /// The guild (server); `None` in direct and group messages.
    #[must_use]
    pub const fn guild(&self) -> Option<GuildId> {
        self.guild
    }

    fn interaction(id: u64, user: &User, channel: ChannelId, guild: Option<GuildId>) -> Self {
        let event = Event { id, edited: None };
        Self { user: known(user), channel: Some(channel), guild, event: Some(event) }
    }
}

/// Where Discord names no user, serenity fills in one with the id 1: all of them would share a session.
fn known(user: &User) -> Option<UserId> {
    (user.id != UserId::default()).then_some(user.id)
}

impl From<&CommandInteraction> for Origin {
    fn from(command: &CommandInteraction) -> Self {
        Self::interaction(command.id.get(), &command.user, command.channel_id, command.guild_id)
    }
}

impl From<&ComponentInteraction> for Origin {
    fn from(component: &ComponentInteraction) -> Self {
        Self::interaction(component.id.get(), &component.user, component.channel_id, component.guild_id)
    }
}

impl From<&ModalInteraction> for Origin {
    fn from(modal: &ModalInteraction) -> Self {
        Self::interaction(modal.id.get(), &modal.user, modal.channel_id, modal.guild_id)
    }
}

/// Only messages from the gateway know their guild. For one that was fetched, or that a context menu names,
/// use the command's context, whose user is who runs the command; or, for who has written the message,
/// `Origin::new(msg.author.id, msg.channel_id, ctx.guild_id())`.
///
/// A webhook's message has no user. A bot's answer to an interaction is one.
impl From<&Message> for Origin {
    fn from(message: &Message) -> Self {
        Self {
            // The author of a webhook's message is the webhook.
            user: known(&message.author).filter(|_| message.webhook_id.is_none()),
            channel: Some(message.channel_id),
            guild: message.guild_id,
            event: Some(Event { id: message.id.get(), edited: message.edited_timestamp }),
        }
    }
}

impl<U, E> From<ApplicationContext<'_, U, E>> for Origin {
    fn from(context: ApplicationContext<'_, U, E>) -> Self {
        context.interaction.into()
    }
}

impl<U, E> From<PrefixContext<'_, U, E>> for Origin {
    fn from(context: PrefixContext<'_, U, E>) -> Self {
        context.msg.into()
    }
}

impl<U, E> From<Context<'_, U, E>> for Origin {
    fn from(context: Context<'_, U, E>) -> Self {
        match context {
            Context::Application(context) => context.into(),
            Context::Prefix(context) => context.into(),
        }
    }
}

impl Origin {
    const fn ids(&self) -> (Option<UserId>, Option<ChannelId>, Option<GuildId>) {
        (self.user, self.channel, self.guild)
    }
}

/// By the ids: which event it was says nothing of where.
impl PartialEq for Origin {
    fn eq(&self, other: &Self) -> bool {
        self.ids() == other.ids()
    }
}

impl Eq for Origin {}

/// Prints no id.
impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { user, channel, guild, event: _ } = self;
        write!(f, "Origin(user: {}, channel: {}, ", user.is_some(), channel.is_some())?;
        write!(f, "guild: {})", guild.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_named_by_nobody_is_no_user() {
        // serenity's default is the user with the id 1.
        assert_eq!(Origin::from(&Message::default()).user(), None);
    }

    #[test]
    fn what_has_happened_makes_no_other_origin() {
        let mut message = Message::default();
        let first = Origin::from(&message);
        message.id = 101.into();
        let second = Origin::from(&message);
        assert!(first.event != second.event, "they are two events");
        assert_eq!(first, second);
        let (user, channel, guild) = (UserId::new(7), ChannelId::new(42), GuildId::new(1));
        let origin = Origin::new(user, channel, guild);
        for other in [
            Origin::new(UserId::new(8), channel, guild),
            Origin::new(user, ChannelId::new(43), guild),
            Origin::new(user, channel, None),
        ] {
            assert_ne!(origin, other);
        }
    }
}
