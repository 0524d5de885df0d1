//! The scopes of sessions.

use larder_session::SessionKey;

use crate::Origin;

const NO_USER: SessionKey = SessionKey::missing("this event has no user");
const NO_CHANNEL: SessionKey = SessionKey::missing("this event has no channel");
const NO_GUILD: SessionKey = SessionKey::missing(
    "this event has no guild (it is a direct message, or a fetched message), but the sessions are per guild: make \
     the command `guild_only`, or keep its sessions per user or channel",
);

/// The scope of a session: which users and places share it.
///
/// The key of a session names the scope, because ids can be equal: an old guild has a channel with the
/// guild's own id. The prefix of the [`KvSessions`](crate::KvSessions) precedes the key.
///
/// If an id is missing (such as the guild of a direct message), the session has no key: nothing is read or
/// written, and opening the session is an [`InvalidKey`](crate::ErrorKind::InvalidKey) error with the reason.
///
/// ```
/// use larder_poise::{Origin, Scope};
/// use poise::serenity_prelude::{ChannelId, GuildId, UserId};
///
/// let origin = Origin::new(UserId::new(7), ChannelId::new(42), GuildId::new(1));
/// assert_eq!(Scope::User.key(&origin).as_str(), Some("user:7"));
/// assert_eq!(Scope::UserInChannel.key(&origin).as_str(), Some("user:7/channel:42"));
///
/// let direct_message = Origin::new(UserId::new(7), ChannelId::new(43), None);
/// assert_eq!(Scope::Guild.key(&direct_message).as_str(), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scope {
    /// A session per user, the same in all guilds and in direct messages: `user:ID`.
    User,
    /// A session per channel, shared by all its users; a thread is a channel too: `channel:ID`.
    Channel,
    /// A session per guild, shared by all its members: `guild:ID`.
    Guild,
    /// A session per user in each channel: `user:ID/channel:ID`.
    UserInChannel,
    /// A session per user in each guild: `user:ID/guild:ID`.
    UserInGuild,
}

impl Scope {
    /// Returns the key of the session, or the reason why it is missing.
    ///
    /// ```
    /// use larder_poise::{Origin, Scope};
    /// use poise::serenity_prelude::GuildId;
    ///
    /// let origin = Origin::new(None, None, GuildId::new(1));
    /// assert_eq!(Scope::Guild.key(&origin).as_str(), Some("guild:1"));
    /// ```
    #[must_use]
    pub fn key(self, origin: &Origin) -> SessionKey {
        let user = origin.user().map(|id| format!("user:{id}")).ok_or(NO_USER);
        let channel = || origin.channel().map(|id| format!("channel:{id}")).ok_or(NO_CHANNEL);
        let guild = || origin.guild().map(|id| format!("guild:{id}")).ok_or(NO_GUILD);
        let key = match self {
            Self::User => user,
            Self::Channel => channel(),
            Self::Guild => guild(),
            Self::UserInChannel => both(user, channel()),
            Self::UserInGuild => both(user, guild()),
        };
        key.map_or_else(|missing| missing, SessionKey::from)
    }
}

type Part = Result<String, SessionKey>;

fn both(user: Part, place: Part) -> Part {
    Ok([user?, place?].join("/"))
}

#[cfg(test)]
mod tests {
    use serenity::model::id::{ChannelId, GuildId, UserId};

    use super::*;

    const SCOPES: [Scope; 5] =
        [Scope::User, Scope::Channel, Scope::Guild, Scope::UserInChannel, Scope::UserInGuild];

    #[test]
    fn every_key_names_its_scope() {
        // An old guild: its first channel has the guild's id. Here the user has the same id.
        let origin = Origin::new(UserId::new(7), ChannelId::new(7), GuildId::new(7));
        let keys = SCOPES.map(|scope| scope.key(&origin));
        let expected = ["user:7", "channel:7", "guild:7", "user:7/channel:7", "user:7/guild:7"];
        assert_eq!(keys.each_ref().map(|key| key.as_str().unwrap()), expected);
    }

    #[test]
    fn the_largest_ids_are_written_in_full() {
        let largest = Origin::new(UserId::new(u64::MAX), ChannelId::new(u64::MAX), None);
        let key = Scope::UserInChannel.key(&largest);
        assert_eq!(key.as_str(), Some("user:18446744073709551615/channel:18446744073709551615"));
    }

    #[test]
    fn a_missing_id_is_a_missing_key_with_a_reason() {
        let nowhere = Origin::default();
        let direct_message = Origin::new(UserId::new(7), ChannelId::new(43), None);
        for (scope, origin, why) in [
            (Scope::User, nowhere, "no user"),
            (Scope::Channel, nowhere, "no channel"),
            (Scope::Guild, nowhere, "direct message"),
            (Scope::UserInChannel, Origin::new(None, ChannelId::new(42), None), "no user"),
            (Scope::UserInChannel, Origin::new(UserId::new(7), None, None), "no channel"),
            (Scope::UserInGuild, Origin::new(None, None, GuildId::new(1)), "no user"),
            (Scope::Guild, direct_message, "`guild_only`"),
            (Scope::UserInGuild, direct_message, "per user or channel"),
        ] {
            let key = scope.key(&origin);
            assert_eq!(key.as_str(), None);
            assert!(format!("{key:?}").contains(why), "{scope:?}: {key:?}");
        }
    }
}
