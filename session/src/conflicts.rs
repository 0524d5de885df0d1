//! Conflicts with updates by other processes.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use larder_core::{Error, ErrorKind};

use crate::queue::Nested;

/// How to resolve a conflict: another process, or another [`Sessions`](crate::Sessions) in this process, has
/// changed the session between the read and the save of an update. Updates through clones of one `Sessions`
/// run one after another and do not conflict.
///
/// No policy loses the other update, except `LastWriteWins`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConflictPolicy {
    /// Waits a short time, reads the session and runs the handler again, at most `max` times. Then fails with
    /// [`Conflict`](ErrorKind::Conflict). The default, with 256.
    ///
    /// Side effects of the handler are repeated. If that matters, use
    /// [`update_once`](crate::Sessions::update_once), or hold a [lease](crate::Sessions::lock).
    Retry {
        /// The maximum number of further runs.
        max: usize,
    },
    /// Fails with [`Conflict`](ErrorKind::Conflict); nothing is written.
    Fail,
    /// Overwrites the other update, which is lost. The only policy for a storage without compare-and-swap.
    LastWriteWins,
}

impl Default for ConflictPolicy {
    fn default() -> Self {
        Self::Retry { max: 256 }
    }
}

/// The delays between the runs of one update.
pub(crate) struct Retries(Option<ExponentialBackoff>);

impl Retries {
    pub(crate) fn new(conflicts: ConflictPolicy) -> Self {
        let ConflictPolicy::Retry { max } = conflicts else {
            return Self(None);
        };
        let pauses = ExponentialBuilder::new()
            .with_jitter()
            .with_min_delay(Duration::from_millis(1))
            // The jitter at most doubles it.
            .with_max_delay(Duration::from_millis(25))
            .with_max_times(max);
        Self(Some(pauses.build()))
    }

    /// For a handler that must not run again.
    pub(crate) const fn none() -> Self {
        Self(None)
    }

    /// Waits before the next run. `nested` contains the writes within the failed run.
    ///
    /// # Errors
    ///
    /// `error`, if it is not a conflict or no runs are left; another error if the handler conflicts with its
    /// own nested update.
    pub(crate) async fn next(&mut self, error: Error, nested: Option<&Nested>) -> Result<(), Error> {
        let (ErrorKind::Conflict, Some(pauses)) = (error.kind(), self.0.as_mut()) else {
            return Err(error);
        };
        if let Some(nested) = nested
            && nested.caused_conflict().await
        {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "the handler has updated its own session through another `Sessions` on the same store; the inner \
                 update is saved, and this one is not: change the session that the handler was given",
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
