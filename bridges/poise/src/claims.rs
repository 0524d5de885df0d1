//! Detects a command that would wait for itself.

use std::{collections::HashSet, sync::LazyLock};

use larder_session::{Error, ErrorKind, Result, SessionKey};
use parking_lot::Mutex;

use crate::{Origin, SessionKind, origin::Event};

/// An open session (of certain sessions, with a certain key) and the run of a command that has opened it.
///
/// The event alone does not identify the run: serenity passes it to each event handler and to the framework
/// in separate tasks, which can wait for each other.
type Claim = (usize, Event, Option<tokio::task::Id>, String);

/// The open sessions. A command that opens its session again would wait until the queue timeout ends, long
/// after Discord's timeout; so it gets an error at once.
///
/// One set for all, because the sessions of several [`CommandSessions`](crate::CommandSessions) can be the
/// same, and then share one queue.
static CLAIMS: LazyLock<Mutex<HashSet<Claim>>> = LazyLock::new(Mutex::default);

/// Returns an error if this run has already opened the session.
pub(crate) fn check<S: SessionKind>(sessions: &S, origin: &Origin, key: &SessionKey) -> Result<()> {
    match claim(sessions, origin, key) {
        Some(claim) if CLAIMS.lock().contains(&claim) => Err(refused()),
        _ => Ok(()),
    }
}

/// Claims the session until the hold is dropped, also while waiting for it.
pub(crate) fn hold<S: SessionKind>(sessions: &S, origin: &Origin, key: &SessionKey) -> Result<Hold> {
    let claim = claim(sessions, origin, key);
    if let Some(claim) = &claim
        && !CLAIMS.lock().insert(claim.clone())
    {
        return Err(refused());
    }
    Ok(Hold(claim))
}

/// A claim on one session. It stores the claim, because the hold may be dropped in another task.
pub(crate) struct Hold(Option<Claim>);

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(claim) = &self.0 {
            CLAIMS.lock().remove(claim);
        }
    }
}

/// Returns `None` for an event that is neither an interaction nor a message, because it has no identity.
fn claim<S: SessionKind>(sessions: &S, origin: &Origin, key: &SessionKey) -> Option<Claim> {
    Some((sessions.identity(), origin.event?, tokio::task::try_id(), key.as_str()?.to_owned()))
}

fn refused() -> Error {
    Error::new(
        ErrorKind::Unsupported,
        "this command already has the session open and would wait for itself: use the open session, or save it first",
    )
}
