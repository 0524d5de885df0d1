//! The session of an update.

use std::{fmt, sync::Arc};

use larder_session::{
    SessionKey,
    key::{per_chat, per_user, per_user_and_chat},
};
use teloxide::types::{Update, UserId};

/// Selects the session of an update by its key.
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
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum By {
    /// One session per chat. The key is the chat's id in decimal. The session follows a group that becomes a
    /// supergroup.
    Chat,
    /// One session per user, in all chats. The key is the user's id; in a private chat it equals the chat's
    /// id. Anonymous admins and channels are not users.
    User,
    /// One session per user and chat. The key is `user/chat`. If a group becomes a supergroup, these sessions
    /// start again.
    UserAndChat,
    /// A custom key; see [`By::key`].
    Key(KeyOf),
}

/// A function from an update to its key, created by [`By::key`].
#[derive(Clone)]
pub struct KeyOf(Arc<dyn Fn(&Update) -> SessionKey + Send + Sync>);

impl fmt::Debug for KeyOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyOf(..)")
    }
}

impl By {
    /// Uses the key that `key_of` returns. An update for which it returns `None` has no session.
    pub fn key(key_of: impl Fn(&Update) -> Option<SessionKey> + Send + Sync + 'static) -> Self {
        Self::Key(KeyOf(Arc::new(move |update| key_of(update).into())))
    }

    /// Returns the key of `update`, for example for [`Sessions::modify`](larder_session::Sessions::modify).
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
        let user = || update.from().map(|user| user.id).filter(|user| is_real_user(*user));
        match self {
            Self::Chat => per_chat(chat()),
            Self::User => per_user(user()),
            Self::UserAndChat => per_user_and_chat(user(), chat()),
            Self::Key(KeyOf(key_of)) => key_of(update),
        }
    }
}

/// Returns whether the id belongs to one user. Some ids of Telegram stand for anonymous admins, channels, and
/// Telegram itself.
fn is_real_user(user: UserId) -> bool {
    !(user.is_anonymous() || user.is_channel() || user.is_telegram())
}
