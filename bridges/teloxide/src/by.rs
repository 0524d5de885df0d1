//! Whose session an update belongs to.

use std::{fmt, sync::Arc};

use larder_session::{
    SessionKey,
    key::{per_chat, per_user, per_user_and_chat},
};
use teloxide::types::{Update, UserId};

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
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum By {
    /// One session per chat, under its id in decimal. It follows a group that becomes a supergroup.
    Chat,
    /// One session per user, under the user's id, wherever the user writes. In a private chat that is the
    /// chat's id too. Admins who write anonymously, and channels, are no users.
    User,
    /// One session per user and chat, as `user/chat`. In a group that becomes a supergroup they begin anew.
    UserAndChat,
    /// Something else; see [`By::key`].
    Key(KeyOf),
}

/// A function from an update to its key; made by [`By::key`].
#[derive(Clone)]
pub struct KeyOf(Arc<dyn Fn(&Update) -> SessionKey + Send + Sync>);

impl fmt::Debug for KeyOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyOf(..)")
    }
}

impl By {
    /// The key that `key_of` returns; an update for which that is `None` has no session.
    pub fn key(key_of: impl Fn(&Update) -> Option<SessionKey> + Send + Sync + 'static) -> Self {
        Self::Key(KeyOf(Arc::new(move |update| key_of(update).into())))
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
        let user = || update.from().map(|user| user.id).filter(|user| is_somebody(*user));
        match self {
            Self::Chat => per_chat(chat()),
            Self::User => per_user(user()),
            Self::UserAndChat => per_user_and_chat(user(), chat()),
            Self::Key(KeyOf(key_of)) => key_of(update),
        }
    }
}

/// Whether it is one user's id: Telegram has some that stand for anonymous admins, for channels, and for itself.
fn is_somebody(user: UserId) -> bool {
    !(user.is_anonymous() || user.is_channel() || user.is_telegram())
}
