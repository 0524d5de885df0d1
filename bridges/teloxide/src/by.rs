//! Whose session an update belongs to.

use std::{fmt, sync::Arc};

use larder_session::{
    SessionKey,
    key::{per_chat, per_user, per_user_and_chat},
};
use teloxide::types::Update;

type KeyOf = dyn Fn(&Update) -> SessionKey + Send + Sync;

/// Under which key the session of an update is kept.
///
/// ```
/// use larder_teloxide::By;
/// use teloxide::types::Update;
///
/// // One per topic of a forum.
/// let by_topic = By::key(|update: &Update| {
///     let topic = match &update.kind {
///         teloxide::types::UpdateKind::Message(message) => message.thread_id,
///         _ => None,
///     };
///     Some(format!("{}/{}", update.chat()?.id, topic?.0.0).into())
/// });
/// # let _ = by_topic;
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub enum By {
    /// One session per chat, under its id in decimal. It follows a group that becomes a supergroup.
    Chat,
    /// One session per user, under the user's id, wherever the user writes.
    User,
    /// One session per user and chat, as `user/chat`. In a group that becomes a supergroup they begin anew.
    UserAndChat,
    /// Something else; see [`By::key`].
    Key(Arc<KeyOf>),
}

impl By {
    /// The key that `key_of` returns; an update for which that is `None` has no session.
    pub fn key(key_of: impl Fn(&Update) -> Option<SessionKey> + Send + Sync + 'static) -> Self {
        Self::Key(Arc::new(move |update| key_of(update).into()))
    }

    /// The key of `update`: for [`Sessions::update`](larder_session::Sessions::update) and the like.
    ///
    /// ```
    /// # use larder_teloxide::{By, Sessions};
    /// # async fn example(sessions: Sessions<u64>, update: teloxide::types::Update) -> larder_teloxide::Result<()> {
    /// let count = sessions.get(By::Chat.of(&update)).await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn of(&self, update: &Update) -> SessionKey {
        let chat = || update.chat().map(|chat| chat.id);
        let user = || update.from().map(|user| user.id);
        match self {
            Self::Chat => per_chat(chat()),
            Self::User => per_user(user()),
            Self::UserAndChat => per_user_and_chat(user(), chat()),
            Self::Key(key_of) => key_of(update),
        }
    }
}

impl fmt::Debug for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Chat => "Chat",
            Self::User => "User",
            Self::UserAndChat => "UserAndChat",
            Self::Key(_) => "Key",
        })
    }
}
