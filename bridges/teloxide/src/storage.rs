//! The storage of dialogues.

use std::{fmt, sync::Arc};

use larder_core::{Error, ErrorKind, IntoStore, Result, Store};
use larder_session::{OpenSession, Sessions};
use serde::{Serialize, de::DeserializeOwned};
use teloxide::{dispatching::dialogue, types::ChatId};

use crate::{DialogueError, LarderStorageBuilder, Undecodable};

/// The type that teloxide's storages return.
type BoxFuture<T> = std::pin::Pin<Box<dyn Future<Output = Result<T, DialogueError>> + Send>>;

/// Keeps the dialogues of a teloxide bot in a Larder storage.
///
/// It replaces teloxide's own `InMemStorage`, `RedisStorage` or `SqliteStorage`: in an `Arc`, as a dependency
/// of the dispatcher. [The crate's page](crate) describes the behaviour and the stored data.
///
/// ```
/// use larder_memory::MemoryStorage;
/// use larder_teloxide::LarderStorage;
/// use teloxide::prelude::*;
///
/// #[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
/// enum State {
///     #[default]
///     Start,
///     ReceiveFullName,
/// }
///
/// # fn main() -> larder_teloxide::Result<()> {
/// let dialogues = LarderStorage::<State>::new(MemoryStorage::new())?;
/// let dependencies = dptree::deps![dialogues];
/// # Ok(())
/// # }
/// ```
pub struct LarderStorage<D> {
    dialogues: Sessions<D>,
    undecodable: Undecodable,
}

impl<D> LarderStorage<D>
where
    D: Default + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    /// Creates a storage of dialogues in `storage`, with keys that begin with `dialogue:`, and without
    /// expiry. `storage` is a [`Store`], such as `larder::open` and the adapters return, or a storage that
    /// converts to one.
    ///
    /// # Errors
    ///
    /// Same as [`LarderStorageBuilder::build`].
    pub fn new(storage: impl IntoStore) -> Result<Arc<Self>> {
        Self::builder(storage).build()
    }

    /// Returns a builder for dialogues in `storage`, with options such as the prefix, the lifetime, and the
    /// policy for a state that no longer decodes.
    ///
    /// ```
    /// use std::time::Duration;
    /// use larder_memory::MemoryStorage;
    /// use larder_teloxide::{LarderStorage, Lifetime, Undecodable};
    ///
    /// const WEEK: Duration = Duration::from_secs(7 * 24 * 60 * 60);
    /// # #[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
    /// # struct State;
    /// let dialogues = LarderStorage::<State>::builder(MemoryStorage::new())
    ///     .prefix("shop:dialogue:")
    ///     .lifetime(Lifetime::after_write(WEEK))
    ///     .undecodable(Undecodable::Reset)
    ///     .build()?;
    /// # Ok::<(), larder_teloxide::Error>(())
    /// ```
    pub fn builder(storage: impl IntoStore) -> LarderStorageBuilder<D> {
        LarderStorageBuilder::new(storage)
    }
}

impl<D> LarderStorage<D> {
    pub(crate) const fn from_sessions(dialogues: Sessions<D>, undecodable: Undecodable) -> Self {
        Self { dialogues, undecodable }
    }

    /// Returns the storage, for example to close it when the bot ends.
    #[must_use]
    pub fn storage(&self) -> &Store {
        self.dialogues.storage()
    }

    /// Returns the dialogues as sessions by the chat's id, for example to list them or to get the TTL of one.
    ///
    /// ```
    /// # async fn example(dialogues: std::sync::Arc<larder_teloxide::LarderStorage<()>>) -> larder_teloxide::Result<()> {
    /// let left = dialogues.sessions().ttl(42).await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub const fn sessions(&self) -> &Sessions<D> {
        &self.dialogues
    }
}

impl<D: Send + Sync + 'static> LarderStorage<D> {
    /// Moves the dialogue of a group to the supergroup that it has become. Updates that still arrive with the
    /// old id use the moved dialogue. [`enter_dialogue`](crate::enter_dialogue) calls this itself.
    ///
    /// # Errors
    ///
    /// Same as [`Sessions::move_key`].
    pub async fn move_chat(&self, group: ChatId, supergroup: ChatId) -> Result<()> {
        self.dialogues.move_key(group.0, supergroup.0).await
    }

    /// Returns the state. If it does not exist, stores and returns the default. One turn in the queue covers
    /// the read and the write, so that it never replaces a dialogue that another update has begun.
    pub(crate) async fn begin(&self, ChatId(chat): ChatId) -> Result<D>
    where
        D: Default + Clone,
    {
        match self.dialogues.open(chat).await {
            Ok(dialogue) => {
                let state = D::clone(&dialogue);
                OpenSession::save(dialogue).await?;
                Ok(state)
            }
            Err(error) if self.resets(&error) => {
                self.dialogues.set(chat, D::default()).await?;
                Ok(D::default())
            }
            Err(error) => Err(error),
        }
    }

    async fn get(&self, ChatId(chat): ChatId) -> Result<Option<D>> {
        match self.dialogues.get(chat).await {
            Err(error) if self.resets(&error) => Ok(None),
            outcome => outcome,
        }
    }

    async fn update(&self, ChatId(chat): ChatId, state: D) -> Result<()> {
        // Reads first, so that it never overwrites a value that is not a state of this dialogue.
        match self.dialogues.open(chat).await {
            Ok(mut dialogue) => {
                *dialogue = state;
                OpenSession::save(dialogue).await
            }
            Err(error) if self.resets(&error) => self.dialogues.set(chat, state).await,
            Err(error) => Err(error),
        }
    }

    async fn remove(&self, ChatId(chat): ChatId) -> Result<(), DialogueError> {
        if self.dialogues.delete(chat).await? { Ok(()) } else { Err(DialogueError::NotFound) }
    }

    /// Returns whether the dialogue starts again because of this error; if so, logs a warning.
    fn resets(&self, error: &Error) -> bool {
        let resets = self.undecodable == Undecodable::Reset && error.kind() == ErrorKind::Codec;
        if resets {
            tracing::warn!(%error, "a dialogue starts again: its stored state does not decode");
        }
        resets
    }
}

impl<D: Send + Sync + 'static> dialogue::Storage<D> for LarderStorage<D> {
    type Error = DialogueError;

    fn remove_dialogue(self: Arc<Self>, chat_id: ChatId) -> BoxFuture<()> {
        Box::pin(async move { self.remove(chat_id).await })
    }

    fn update_dialogue(self: Arc<Self>, chat_id: ChatId, dialogue: D) -> BoxFuture<()> {
        Box::pin(async move { Ok(self.update(chat_id, dialogue).await?) })
    }

    fn get_dialogue(self: Arc<Self>, chat_id: ChatId) -> BoxFuture<Option<D>> {
        Box::pin(async move { Ok(self.get(chat_id).await?) })
    }
}

/// Prints no state.
impl<D> fmt::Debug for LarderStorage<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LarderStorage")
            .field("dialogues", &self.dialogues)
            .field("undecodable", &self.undecodable)
            .finish()
    }
}
