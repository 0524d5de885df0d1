//! Interactions as Discord sends them, as far as this bot cares.

use larder_session::{SessionKey, key::per_user_and_chat};
use serde::Deserialize;

/// The `type` of the interaction with which Discord checks that a bot answers at all.
const PING: u8 = 1;

#[derive(Deserialize)]
pub(crate) struct Interaction {
    #[serde(rename = "type")]
    kind: u8,
    data: Option<Data>,
    channel_id: Option<String>,
    /// Who it was, in a guild.
    member: Option<Member>,
    /// Who it was, in a direct message.
    user: Option<User>,
}

#[derive(Deserialize)]
struct Data {
    /// The command; components and modals have none.
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

    /// A session per user and channel. Without one of them there is no session, and an error says so
    /// where somebody wants to use it.
    pub(crate) fn session_key(&self) -> SessionKey {
        per_user_and_chat(self.user().map(|user| &user.id), self.channel_id.as_ref())
    }

    /// Where it came from, to be shown.
    pub(crate) fn place(&self) -> String {
        match (self.user(), &self.channel_id) {
            (Some(user), Some(channel)) => format!("{} in {channel}", user.username),
            (Some(user), None) => user.username.clone(),
            (None, _) => "Discord".to_owned(),
        }
    }
}
