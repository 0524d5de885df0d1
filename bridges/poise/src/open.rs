//! An open session.

use std::{
    fmt,
    ops::{Deref, DerefMut},
};

use larder_session::{KvSessions, Result};

use crate::{SessionKind, claims::Hold};

/// An open session, which you change and then [save](Open::save). It dereferences to the value: a
/// [`KvSession`](crate::KvSession), or the `T` of [`Sessions<T>`](crate::Sessions).
///
/// `save` and `discard` are associated functions, so that they do not hide methods of the value.
///
/// Other commands wait for this session until it is saved or dropped; it is also dropped when the command
/// fails or panics. So save it before you send the answer. Dropping it with unsaved changes logs a warning.
///
/// The session may be moved to another task and saved there. Until then, the command that has opened it still
/// cannot open it again.
///
/// ```
/// # use larder_poise::{CommandSessions, Open, Origin, Result};
/// # async fn example(sessions: &CommandSessions, origin: Origin) -> Result<()> {
/// let mut session = sessions.of(origin).open().await?;
/// let ponged: u64 = session.get("ponged")?.unwrap_or_default();
/// session.set("ponged", ponged + 1)?;
/// Open::save(session).await?;
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing is saved without `Open::save`"]
pub struct Open<S: SessionKind = KvSessions> {
    // Dropped before `hold`, so that the next command in the queue can continue first.
    session: S::Opened,
    hold: Hold,
}

impl<S: SessionKind> Open<S> {
    pub(crate) const fn new(session: S::Opened, hold: Hold) -> Self {
        Self { session, hold }
    }

    /// Saves the changes, and lets the next command in the queue continue. Without `save`, the stored session
    /// is unchanged. A typed session that did not exist is always written, with its initial value.
    ///
    /// # Errors
    ///
    /// - [`Conflict`](crate::ErrorKind::Conflict): another process has changed the session since it was read.
    ///   ([`update`](crate::CommandSession::update) would run its handler again.)
    /// - All errors of a write.
    ///
    /// ```
    /// # use larder_poise::{CommandSessions, Open, Origin, Result};
    /// # async fn example(sessions: &CommandSessions, origin: Origin) -> Result<()> {
    /// let mut session = sessions.of(origin).open().await?;
    /// session.set("language", "de")?;
    /// Open::save(session).await
    /// # }
    /// ```
    pub async fn save(open: Self) -> Result<()> {
        let Self { session, hold: _hold } = open;
        S::save(session).await
    }

    /// Drops the session without its changes and without a warning.
    ///
    /// ```
    /// # use larder_poise::{CommandSessions, Open, Origin, Result};
    /// # async fn example(sessions: &CommandSessions, origin: Origin) -> Result<()> {
    /// let mut session = sessions.of(origin).open().await?;
    /// session.set("language", "de")?;
    /// Open::discard(session);
    /// # Ok(())
    /// # }
    /// ```
    pub fn discard(open: Self) {
        S::discard(open.session);
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
