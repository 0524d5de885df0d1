//! A command that waits for itself.

use std::{collections::HashSet, sync::LazyLock};

use larder_session::{Error, ErrorKind, Result, SessionKey};
use parking_lot::Mutex;

use crate::{Origin, SessionKind, origin::Event};

/// What is held open by whom: a session (of these sessions, by its key) by a run of a command.
///
/// The event alone is no run: serenity hands it to each event handler and to the framework in tasks of
/// their own, which can wait for each other.
type Claim = (usize, Event, Option<tokio::task::Id>, String);

/// The sessions that are open. A command that opens its session once more would wait until its patience
/// ends, long after Discord's; so it is told at once.
///
/// One set for all, since the sessions of several [`CommandSessions`](crate::CommandSessions) can be the
/// same, and then share their turns.
static HELD: LazyLock<Mutex<HashSet<Claim>>> = LazyLock::new(Mutex::default);

/// Refuses who holds the session already.
pub(crate) fn check<S: SessionKind>(sessions: &S, origin: &Origin, key: &SessionKey) -> Result<()> {
    match claim(sessions, origin, key) {
        Some(claim) if HELD.lock().contains(&claim) => Err(refused()),
        _ => Ok(()),
    }
}

/// Holds the session, or waits for it, until the hold is dropped.
pub(crate) fn hold<S: SessionKind>(sessions: &S, origin: &Origin, key: &SessionKey) -> Result<Hold> {
    let claim = claim(sessions, origin, key);
    if let Some(claim) = &claim
        && !HELD.lock().insert(claim.clone())
    {
        return Err(refused());
    }
    Ok(Hold(claim))
}

/// One session that is held: the claim as it was taken, since the hold may end in another task.
pub(crate) struct Hold(Option<Claim>);

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(claim) = &self.0 {
            HELD.lock().remove(claim);
        }
    }
}

/// What is neither an interaction nor a message cannot be told from another such.
fn claim<S: SessionKind>(sessions: &S, origin: &Origin, key: &SessionKey) -> Option<Claim> {
    Some((sessions.identity(), origin.event?, tokio::task::try_id(), key.as_str()?.to_owned()))
}

fn refused() -> Error {
    Error::new(
        ErrorKind::Unsupported,
        "this command has the session open already and would wait for itself: use that one, or save it first",
    )
}
