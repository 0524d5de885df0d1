//! What becomes of an update that another process has overtaken.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use larder_core::{Error, ErrorKind};

use crate::queue::Nested;

/// What to do when, between the read and the save of an update, another process (or another
/// [`Sessions`](crate::Sessions) of this one) has changed the session. Updates through clones of one
/// `Sessions` take turns and do not get in each other's way.
///
/// In each case nobody else's update is lost, but for `LastWriteWins`, which says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Conflicts {
    /// Read the session again and run the handler again, after a short pause, at most `most` times;
    /// then it is a [`Conflict`](ErrorKind::Conflict) error. The default, with 256. What the handler
    /// does besides changing the session it does again: where that matters, take `Fail`, or hold a
    /// [lease](crate::Sessions::lock).
    Rerun {
        /// How often at most.
        most: usize,
    },
    /// A [`Conflict`](ErrorKind::Conflict) error; nothing is written.
    Fail,
    /// Save over what the other has written. Its update is lost. The only policy for a storage with
    /// no compare-and-swap.
    LastWriteWins,
}

impl Default for Conflicts {
    fn default() -> Self {
        Self::Rerun { most: 256 }
    }
}

/// Counts the turns of one update.
pub(crate) struct Reruns(Option<ExponentialBackoff>);

impl Reruns {
    pub(crate) fn new(conflicts: Conflicts) -> Self {
        let Conflicts::Rerun { most } = conflicts else {
            return Self(None);
        };
        let pauses = ExponentialBuilder::new()
            .with_jitter()
            .with_min_delay(Duration::from_millis(1))
            // The jitter adds up to as much again.
            .with_max_delay(Duration::from_millis(25))
            .with_max_times(most);
        Self(Some(pauses.build()))
    }

    /// Pauses before another turn. `nested` is what was done within the one that has failed.
    ///
    /// # Errors
    ///
    /// `error` itself, if it is not a conflict or there are no more turns; another one if the handler has
    /// overtaken itself.
    pub(crate) async fn again(&mut self, error: Error, nested: &Nested) -> Result<(), Error> {
        let (ErrorKind::Conflict, Some(pauses)) = (error.kind(), self.0.as_mut()) else {
            return Err(error);
        };
        if nested.has_overtaken().await {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "the handler has changed the session that it was given in an update of its own, through another \
                 `Sessions` on the same store; that one is saved, and this one is not: change the session that \
                 the handler was given",
            ));
        }
        match pauses.next() {
            Some(pause) => {
                tokio::time::sleep(pause).await;
                Ok(())
            }
            None => Err(error),
        }
    }
}
