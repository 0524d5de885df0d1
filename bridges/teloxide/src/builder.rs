//! How a storage of dialogues is set up.

use std::{fmt, sync::Arc};

use larder_core::{Result, Store};
use larder_session::{Conflicts, Lifetime, Migrations, Sessions, SessionsBuilder};
use serde::{Serialize, de::DeserializeOwned};

use crate::{LarderStorage, Undecodable};

/// Sets up a [`LarderStorage`]; begun with [`LarderStorage::builder`].
#[must_use = "a builder does nothing before `build`"]
pub struct LarderStorageBuilder<D> {
    dialogues: SessionsBuilder<D>,
    undecodable: Undecodable,
}

impl<D> LarderStorageBuilder<D>
where
    D: Default + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    pub(crate) fn new(storage: impl Into<Store>) -> Self {
        let dialogues = Sessions::builder()
            .storage(storage)
            .prefix("dialogue:")
            // An update of a dialogue does not build on what is stored: it replaces it.
            .conflicts(Conflicts::LastWriteWins)
            // It met what an update has begun in the supergroup before the bot heard where that came from.
            .merge(|moved, _begun| moved);
        Self { dialogues, undecodable: Undecodable::default() }
    }

    /// What every key begins with, so that several bots, or several dialogues of one, can share a
    /// storage: `shop:dialogue:`, say. `dialogue:` by default. The chat's id comes after it, in decimal.
    pub fn prefix(self, prefix: impl Into<String>) -> Self {
        self.with(|dialogues| dialogues.prefix(prefix))
    }

    /// How long a dialogue lives in which nothing happens: for ever by default.
    /// [`Lifetime::after_write`] counts from the last change of its state, [`Lifetime::sliding`] from
    /// the last message that it was looked up for.
    pub fn lifetime(self, lifetime: Lifetime) -> Self {
        self.with(|dialogues| dialogues.lifetime(lifetime))
    }

    /// The steps that bring the states of older versions of the program up to date. With them a state is stored as
    /// `{"v": <last step>, "__d": <state>}`; those that were stored without are read as well.
    pub fn migrations(self, migrations: Migrations) -> Self {
        self.with(|dialogues| dialogues.migrations(migrations))
    }

    /// What becomes of a state that no longer decodes, migrations included. An error by default.
    pub const fn undecodable(mut self, undecodable: Undecodable) -> Self {
        self.undecodable = undecodable;
        self
    }

    /// Everything else that sessions have: what becomes of two dialogues when a group with one becomes a
    /// supergroup with another ([`merge`](larder_session::SessionsBuilder::merge)), say.
    pub fn with(mut self, set_up: impl FnOnce(SessionsBuilder<D>) -> SessionsBuilder<D>) -> Self {
        self.dialogues = set_up(self.dialogues);
        self
    }

    /// Checks it all. Nothing is read or written.
    ///
    /// # Errors
    ///
    /// As [`SessionsBuilder::build`](larder_session::SessionsBuilder::build): a prefix that no key can
    /// begin with, migrations that do not fit, a lifetime in a storage with no expiry.
    pub fn build(self) -> Result<Arc<LarderStorage<D>>> {
        Ok(Arc::new(LarderStorage::from_sessions(self.dialogues.build()?, self.undecodable)))
    }
}

impl<D> fmt::Debug for LarderStorageBuilder<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LarderStorageBuilder").field("undecodable", &self.undecodable).finish_non_exhaustive()
    }
}
