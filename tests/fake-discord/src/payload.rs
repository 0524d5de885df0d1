//! Interactions and messages with the fields that Discord documents.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::APPLICATION;

/// A user.
#[derive(Clone, Debug)]
pub struct Person {
    /// The user's id.
    pub id: u64,
    /// The user's name.
    pub name: String,
}

/// The place of an interaction or a message.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    /// A text channel of a guild.
    Guild {
        /// The guild's id.
        guild: u64,
        /// The channel's id.
        channel: u64,
    },
    /// A thread in a channel of a guild.
    Thread {
        /// The guild's id.
        guild: u64,
        /// The id of the channel that has the thread.
        parent: u64,
        /// The thread's id.
        thread: u64,
    },
    /// Direct messages with the bot.
    Direct {
        /// The channel's id.
        channel: u64,
    },
    /// Direct messages between users, one of whom has installed the bot.
    Private {
        /// The channel's id.
        channel: u64,
    },
}

/// Returns the interaction of a user who runs a command.
#[must_use]
pub fn command(person: &Person, place: Place, name: &str) -> Value {
    interaction(2, person, place, json!({"id": "866818195033292850", "name": name, "type": 1}))
}

/// Returns the interaction of a user who presses a button of the bot's last message.
#[must_use]
pub fn button(person: &Person, place: Place, custom_id: &str) -> Value {
    let data = json!({"custom_id": custom_id, "component_type": 2, "id": 2});
    let mut interaction = interaction(3, person, place, data);
    let channel = place.channel().to_string();
    interaction["message"] = response("786008729719406643", &channel, "pong (1 times)");
    interaction
}

/// Returns the interaction of a user who submits a modal.
#[must_use]
pub fn modal(person: &Person, place: Place, custom_id: &str) -> Value {
    let input = json!({"type": 4, "id": 2, "custom_id": "text", "value": "some text"});
    let row = json!({"type": 1, "id": 1, "components": [input]});
    interaction(5, person, place, json!({"custom_id": custom_id, "components": [row]}))
}

/// Returns the message of a user.
#[must_use]
pub fn message(person: &Person, place: Place, content: &str) -> Value {
    let mut message = plain("786008729719406644", &place.channel().to_string(), user(person), content);
    if let Some(guild) = place.guild() {
        message["guild_id"] = json!(guild.to_string());
    }
    message
}

fn interaction(kind: u8, person: &Person, place: Place, data: Value) -> Value {
    let mut interaction = json!({
        "id": "786008729719406642",
        "application_id": APPLICATION,
        "type": kind,
        "token": "A_UNIQUE_TOKEN",
        "version": 1,
        "data": data,
        "channel_id": place.channel().to_string(),
        "channel": place.describe(),
        "app_permissions": "562949953601536",
        "locale": "en-GB",
        "entitlements": [],
        "authorizing_integration_owners": place.installed_for(person),
        "context": place.context(),
        "attachment_size_limit": 10_485_760,
    });
    match place.guild() {
        Some(guild) => {
            interaction["guild_id"] = json!(guild.to_string());
            interaction["guild"] = json!({"id": guild.to_string(), "locale": "en-US", "features": []});
            interaction["guild_locale"] = json!("en-US");
            interaction["member"] = member(person);
        }
        None => interaction["user"] = user(person),
    }
    interaction
}

impl Place {
    /// Returns the id of the channel or thread.
    #[must_use]
    pub const fn channel(self) -> u64 {
        match self {
            Self::Guild { channel, .. } | Self::Direct { channel } | Self::Private { channel } => channel,
            Self::Thread { thread, .. } => thread,
        }
    }

    const fn guild(self) -> Option<u64> {
        match self {
            Self::Guild { guild, .. } | Self::Thread { guild, .. } => Some(guild),
            Self::Direct { .. } | Self::Private { .. } => None,
        }
    }

    /// <https://discord.com/developers/docs/interactions/receiving-and-responding#interaction-object-interaction-context-types>
    const fn context(self) -> u8 {
        match self {
            Self::Guild { .. } | Self::Thread { .. } => 0,
            Self::Direct { .. } => 1,
            Self::Private { .. } => 2,
        }
    }

    fn installed_for(self, person: &Person) -> Value {
        match self {
            Self::Guild { guild, .. } | Self::Thread { guild, .. } => json!({"0": guild.to_string()}),
            Self::Direct { .. } => json!({"0": "0"}),
            Self::Private { .. } => json!({"1": person.id.to_string()}),
        }
    }

    fn describe(self) -> Value {
        let id = self.channel().to_string();
        match self {
            Self::Guild { guild, .. } => json!({
                "id": id, "type": 0, "guild_id": guild.to_string(), "name": "general", "position": 6,
                "permissions": "562949953601536", "parent_id": null, "nsfw": false, "topic": null,
                "last_message_id": null, "rate_limit_per_user": 0, "flags": 0,
            }),
            Self::Thread { guild, parent, .. } => json!({
                "id": id, "type": 11, "guild_id": guild.to_string(), "name": "a thread",
                "permissions": "562949953601536", "parent_id": parent.to_string(), "flags": 0,
                "last_message_id": null, "rate_limit_per_user": 0,
                "thread_metadata": {
                    "archived": false, "auto_archive_duration": 4320, "locked": false,
                    "archive_timestamp": "2026-01-12T23:40:14.855793+00:00",
                    "create_timestamp": "2026-01-12T23:40:14.855793+00:00",
                },
            }),
            Self::Direct { .. } => json!({"id": id, "type": 1, "last_message_id": null, "flags": 0}),
            Self::Private { .. } => json!({
                "id": id, "type": 3, "name": "a group", "icon": null, "owner_id": "53908232506183680",
                "last_message_id": null, "flags": 0,
            }),
        }
    }
}

fn user(person: &Person) -> Value {
    json!({
        "id": person.id.to_string(),
        "username": person.name,
        "discriminator": "0",
        "global_name": null,
        "avatar": "8342729096ea3675442027381ff50dfe",
        "avatar_decoration_data": null,
        "clan": null,
        "primary_guild": null,
        "public_flags": 64,
    })
}

fn member(person: &Person) -> Value {
    json!({
        "user": user(person),
        "roles": ["539082325061836999"],
        "nick": null,
        "avatar": null,
        "banner": null,
        "joined_at": "2017-03-13T19:19:14.040000+00:00",
        "premium_since": null,
        "permissions": "2147483647",
        "pending": false,
        "deaf": false,
        "mute": false,
        "flags": 0,
        "communication_disabled_until": null,
        "unusual_dm_activity_until": null,
    })
}

pub(crate) fn bot() -> Value {
    json!({
        "id": APPLICATION, "username": "ponger", "discriminator": "0001", "global_name": null, "bot": true,
        "avatar": null, "verified": true, "mfa_enabled": false, "email": null, "flags": 0,
    })
}

pub(crate) fn application() -> Value {
    json!({
        "id": APPLICATION, "name": "ponger", "icon": null, "description": "Counts.", "bot_public": true,
        "bot_require_code_grant": false, "verify_key": "00".repeat(32), "team": null, "flags": 0,
    })
}

/// A message of the bot in answer to an interaction.
pub(crate) fn response(id: &str, channel: &str, content: &str) -> Value {
    let mut message = plain(id, channel, bot(), content);
    message["type"] = json!(20);
    message["application_id"] = json!(APPLICATION);
    message["webhook_id"] = json!(APPLICATION);
    message
}

fn plain(id: &str, channel: &str, author: Value, content: &str) -> Value {
    json!({
        "id": id, "channel_id": channel, "author": author, "content": content, "type": 0,
        "timestamp": "2026-01-12T23:40:14.855000+00:00", "edited_timestamp": null, "tts": false,
        "mention_everyone": false, "mentions": [], "mention_roles": [], "attachments": [], "embeds": [],
        "pinned": false, "flags": 0, "components": [],
    })
}

/// The token of an interaction, which the bot answers with. It is secret, like the token of the bot.
pub(crate) fn interaction_token(id: &str) -> String {
    format!("aW50ZXJhY3Rpb24-{id}")
}

/// A new id. Discord's ids begin with the time.
pub(crate) fn snowflake_now() -> u64 {
    const DISCORD_EPOCH: u64 = 1_420_070_400_000;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    u64::try_from(now).unwrap_or_default().saturating_sub(DISCORD_EPOCH) << 22
}
