//! A command that waits for itself.

use std::{collections::HashSet, sync::Arc};

use larder_session::{Error, ErrorKind, Result, SessionKey};
use parking_lot::Mutex;

use crate::{Origin, origin::Event};

/// What is held open by whom: a session's key by a run of a command.
type Claim = (Event, String);

/// The sessions that are open. A command that opens its session once more would wait until its patience
/// ends, long after Discord's; so it is told at once.
#[derive(Clone, Default)]
pub(crate) struct Held(Arc<Mutex<HashSet<Claim>>>);

impl Held {
    /// Refuses who holds the session already.
    pub(crate) fn check(&self, origin: &Origin, key: &SessionKey) -> Result<()> {
        match claim(origin, key) {
            Some(claim) if self.0.lock().contains(&claim) => Err(refused()),
            _ => Ok(()),
        }
    }

    /// Holds the session, or waits for it, until the hold is dropped.
    pub(crate) fn hold(&self, origin: &Origin, key: &SessionKey) -> Result<Hold> {
        let claim = claim(origin, key);
        if let Some(claim) = &claim
            && !self.0.lock().insert(claim.clone())
        {
            return Err(refused());
        }
        Ok(Hold { held: self.clone(), claim })
    }
}

/// One session that is held.
pub(crate) struct Hold {
    held: Held,
    claim: Option<Claim>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(claim) = &self.claim {
            self.held.0.lock().remove(claim);
        }
    }
}

/// What is neither an interaction nor a message cannot be told from another such.
fn claim(origin: &Origin, key: &SessionKey) -> Option<Claim> {
    Some((origin.event?, key.as_str()?.to_owned()))
}

fn refused() -> Error {
    Error::new(
        ErrorKind::Unsupported,
        "this command has the session open already and would wait for itself: use that one, or save it first",
    )
}
