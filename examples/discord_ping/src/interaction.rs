//! The fields of Discord's interactions that this bot uses.

use larder_session::{SessionKey, key::per_user_and_chat};
use serde::Deserialize;

/// The `type` of the interaction with which Discord checks that a bot responds.
const PING: u8 = 1;

#[derive(Deserialize)]
pub(crate) struct Interaction {
    #[serde(rename = "type")]
    kind: u8,
    data: Option<Data>,
    channel_id: Option<String>,
    /// The user, in a guild.
    member: Option<Member>,
    /// The user, in a direct message.
    user: Option<User>,
}

#[derive(Deserialize)]
struct Data {
    /// The name of the command. Missing for components and modals.
    name: Option<String>,
}

#[derive(Deserialize)]
struct Member {
    user: User,
}

#[derive(Deserialize)]
struct User {
    id: String,
    username: String,
}

impl Interaction {
    pub(crate) const fn is_health_check(&self) -> bool {
        self.kind == PING
    }

    pub(crate) fn command(&self) -> Option<&str> {
        self.data.as_ref()?.name.as_deref()
    }

    fn user(&self) -> Option<&User> {
        self.member.as_ref().map(|member| &member.user).or(self.user.as_ref())
    }

    /// Returns the key of a session per user and channel. If one of them is missing, using the key is an
    /// error.
    pub(crate) fn session_key(&self) -> SessionKey {
        per_user_and_chat(self.user().map(|user| &user.id), self.channel_id.as_ref())
    }

    /// Returns the user and the channel, to print them.
    pub(crate) fn place(&self) -> String {
        match (self.user(), &self.channel_id) {
            (Some(user), Some(channel)) => format!("{} in {channel}", user.username),
            (Some(user), None) => user.username.clone(),
            (None, _) => "Discord".to_owned(),
        }
    }
}
