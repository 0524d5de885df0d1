//! A session that was opened.

use std::{
    fmt,
    ops::{Deref, DerefMut},
};

use larder_session::{KvSessions, Result};

use crate::{SessionKind, held::Hold};

/// A session that was opened, to be changed and [saved](Self::save) by hand. It dereferences to what
/// the handler of an update is given: [`KvSession`](crate::KvSession) or [`Session<T>`](crate::Session).
///
/// Everybody else who wants this session waits until it is saved or dropped, which it also is when the
/// command fails or panics. So save it before the answer is sent, not after it.
///
/// It may move to another task and be saved there. Until then, the command that has opened it is refused
/// a second one all the same.
///
/// ```
/// # use larder_poise::{CommandSessions, Origin, Result};
/// # async fn example(sessions: &CommandSessions, origin: Origin) -> Result<()> {
/// let mut session = sessions.of(origin).open().await?;
/// let ponged: u64 = session.get("ponged")?.unwrap_or_default();
/// session.set("ponged", ponged + 1)?;
/// session.save().await?;
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing is saved without `save`"]
pub struct Open<S: SessionKind = KvSessions> {
    // Dropped before the hold: the turn is given up first.
    session: S::Opened,
    hold: Hold,
}

impl<S: SessionKind> Open<S> {
    pub(crate) const fn new(session: S::Opened, hold: Hold) -> Self {
        Self { session, hold }
    }

    /// Saves what has changed, and lets the next one go on. A typed session that did not exist is written
    /// in any case, with its initial value. A session that is dropped without it stays as it was.
    ///
    /// # Errors
    ///
    /// [`Conflict`](crate::ErrorKind::Conflict) if another process has changed the session meanwhile:
    /// there is no handler to run again, which [`update`](crate::CommandSession::update) has. Those of
    /// writing.
    ///
    /// ```
    /// # use larder_poise::{CommandSessions, Origin, Result};
    /// # async fn example(sessions: &CommandSessions, origin: Origin) -> Result<()> {
    /// let mut session = sessions.of(origin).open().await?;
    /// session.set("language", "de")?;
    /// session.save().await
    /// # }
    /// ```
    pub async fn save(self) -> Result<()> {
        let Self { session, hold: _hold } = self;
        S::save(session).await
    }
}

impl<S: SessionKind> Deref for Open<S> {
    type Target = S::Session;

    fn deref(&self) -> &S::Session {
        &self.session
    }
}

impl<S: SessionKind> DerefMut for Open<S> {
    fn deref_mut(&mut self) -> &mut S::Session {
        &mut self.session
    }
}

/// Prints no value and no id.
impl<S: SessionKind> fmt::Debug for Open<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Open").finish_non_exhaustive()
    }
}
