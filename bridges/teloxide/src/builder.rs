//! The builder of a storage of dialogues.

use std::{fmt, sync::Arc};

use larder_core::{IntoStore, Result};
use larder_session::{ConflictPolicy, Lifetime, Migrations, Sessions, SessionsBuilder};
use serde::{Serialize, de::DeserializeOwned};

use crate::{LarderStorage, Undecodable};

/// Builds a [`LarderStorage`]. Created by [`LarderStorage::builder`].
#[must_use = "a builder does nothing before `build`"]
pub struct LarderStorageBuilder<D> {
    dialogues: SessionsBuilder<D>,
    undecodable: Undecodable,
}

impl<D> LarderStorageBuilder<D>
where
    D: Default + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    pub(crate) fn new(storage: impl IntoStore) -> Self {
        let dialogues = Sessions::builder()
            .storage(storage)
            .prefix("dialogue:")
            // An update does not depend on the stored state; it replaces the state.
            .conflicts(ConflictPolicy::LastWriteWins)
            // The supergroup already has a dialogue if an update from it arrived before the message about the
            // move.
            .merge(|moved, _begun| moved);
        Self { dialogues, undecodable: Undecodable::default() }
    }

    /// Sets the prefix of all keys, so that several bots, or several dialogues of one bot, can share a
    /// storage; for example `shop:dialogue:`. Default: `dialogue:`. The chat's id follows, in decimal.
    pub fn prefix(self, prefix: impl Into<String>) -> Self {
        self.with(|dialogues| dialogues.prefix(prefix))
    }

    /// Sets how long an inactive dialogue lives. [`Lifetime::after_write`] counts from the last change of its
    /// state, [`Lifetime::sliding`] from the last message for which it was read. Default: it never expires.
    pub fn lifetime(self, lifetime: Lifetime) -> Self {
        self.with(|dialogues| dialogues.lifetime(lifetime))
    }

    /// Sets the steps that convert states of older versions of the program. With migrations, a state is
    /// stored as `{"v": <last step>, "__d": <state>}`; states that were stored without them can still be
    /// read.
    pub fn migrations(self, migrations: Migrations) -> Self {
        self.with(|dialogues| dialogues.migrations(migrations))
    }

    /// Sets the policy for a state that no longer decodes, even with migrations. Default: an error.
    pub const fn undecodable(mut self, undecodable: Undecodable) -> Self {
        self.undecodable = undecodable;
        self
    }

    /// Sets any other option of the sessions; for example [`merge`](larder_session::SessionsBuilder::merge),
    /// which combines two dialogues when a group becomes a supergroup.
    pub fn with(mut self, set_up: impl FnOnce(SessionsBuilder<D>) -> SessionsBuilder<D>) -> Self {
        self.dialogues = set_up(self.dialogues);
        self
    }

    /// Checks the options and builds the storage, without input or output.
    ///
    /// # Errors
    ///
    /// Same as [`SessionsBuilder::build`](larder_session::SessionsBuilder::build): for example an invalid
    /// prefix, invalid migrations, or a lifetime in a storage without expiry.
    pub fn build(self) -> Result<Arc<LarderStorage<D>>> {
        Ok(Arc::new(LarderStorage::from_sessions(self.dialogues.build()?, self.undecodable)))
    }
}

impl<D> fmt::Debug for LarderStorageBuilder<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LarderStorageBuilder").field("undecodable", &self.undecodable).finish_non_exhaustive()
    }
}
