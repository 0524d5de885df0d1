//! The origin of an event.

use std::fmt;

use poise::{ApplicationContext, Context, PrefixContext};
use serenity::model::{
    Timestamp,
    application::{CommandInteraction, ComponentInteraction, ModalInteraction},
    channel::Message,
    id::{ChannelId, GuildId, UserId},
    user::User,
};

/// The user, channel, and guild of an event, from which the [key](crate::Scope) of the session is made.
///
/// It is made from a command's context, an interaction (command, button or other component, modal), or a
/// message, so that all of them find the same session; for any other event, from three ids. Pass the
/// interaction itself, not its `message`: the message is the bot's own, and has no guild.
///
/// Two origins are equal if their three ids are equal, even for different events.
///
/// ```
/// use larder_poise::{Origin, Scope};
/// use poise::serenity_prelude::{ChannelId, GuildId, UserId};
///
/// // For example, a reaction.
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

/// The event for which commands and other handlers run: an interaction, or a message with its last edit.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Event {
    id: u64,
    edited: Option<Timestamp>,
}

impl Origin {
    /// Creates the origin of an event that is neither an interaction nor a message. Each argument is an id,
    /// or an `Option` of one.
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

    /// Returns the user, or `None` if the event has no user.
    #[must_use]
    pub const fn user(&self) -> Option<UserId> {
        self.user
    }

    /// Returns the channel. A thread is a channel too.
    #[must_use]
    pub const fn channel(&self) -> Option<ChannelId> {
        self.channel
    }

    /// Returns the guild (server), or `None` for direct and group messages.
    #[must_use]
    pub const fn guild(&self) -> Option<GuildId> {
        self.guild
    }

    fn interaction(id: u64, user: &User, channel: ChannelId, guild: Option<GuildId>) -> Self {
        let event = Event { id, edited: None };
        Self { user: known(user), channel: Some(channel), guild, event: Some(event) }
    }
}

/// If Discord names no user, serenity fills in a user with the id 1. All such events would share a session.
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

/// Only messages from the gateway contain their guild. For a fetched message, or a message of a context menu,
/// use the command's context (its user is the user who runs the command), or
/// `Origin::new(msg.author.id, msg.channel_id, ctx.guild_id())` for the author.
///
/// A webhook's message has no user. A bot's answer to an interaction is a webhook's message.
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

/// Compares only the ids: different events can have the same origin.
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
    fn serenitys_default_user_does_not_count() {
        // serenity's default is the user with the id 1.
        assert_eq!(Origin::from(&Message::default()).user(), None);
    }

    #[test]
    fn equality_ignores_the_event() {
        let mut message = Message::default();
        let first = Origin::from(&message);
        message.id = 101.into();
        let second = Origin::from(&message);
        assert!(first.event != second.event, "the events differ");
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
