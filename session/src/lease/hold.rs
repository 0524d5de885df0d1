//! The state of a held lease: its deadline and its end.

use std::sync::Arc;

use larder_core::{ErrorKind, Result, Version};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use super::claim::Claim;

/// The state that the holder and the renewal task share.
pub(super) struct Hold {
    claim: Arc<Claim>,
    token: u64,
    /// The version of the last write of the entry. A renewal keeps it.
    version: Version,
    /// The time until which the lease is certainly held; `None` after its end, which is final.
    until: watch::Sender<Option<Instant>>,
}

impl Hold {
    /// Returns a lease that was just acquired, with the second write of its entry.
    pub(super) fn new(claim: Arc<Claim>, token: u64, version: Version, deadline: Instant) -> Self {
        Self { claim, token, version, until: watch::Sender::new(Some(deadline)) }
    }

    pub(super) fn claim(&self) -> &Claim {
        &self.claim
    }

    pub(super) fn token(&self) -> u64 {
        self.token
    }

    /// Returns whether the lease is certainly still held.
    pub(super) fn is_held(&self) -> bool {
        is_ahead(*self.until.borrow())
    }

    /// Ends the lease in this process: no renewal starts after this.
    pub(super) fn end(&self) {
        self.until.send_replace(None);
    }

    /// Completes after a call of [`end`](Hold::end).
    pub(super) async fn ended(&self) {
        // It fails only without a sender, and `self` is one.
        let _ = self.until.subscribe().wait_for(Option::is_none).await;
    }

    /// Completes when the lease is not certainly held any more.
    pub(super) async fn lost(&self) {
        let mut until = self.until.subscribe();
        loop {
            let seen = *until.borrow_and_update();
            let Some(deadline) = seen.filter(|_| is_ahead(seen)) else {
                return;
            };
            // The deadline has passed, or there is a new one: check again.
            let _ = timeout_at(deadline, until.changed()).await;
        }
    }

    /// Extends the lease by the time to live.
    pub(super) async fn renew(&self) -> Result<()> {
        // A local deadline that has passed is final, even if the entry still exists: `lost` has completed,
        // and the work has stopped.
        if !self.is_held() {
            return Err(self.claim.lost());
        }
        let deadline = match self.claim.extend(&self.version).await {
            Err(error) if error.kind() == ErrorKind::Conflict => {
                self.end();
                return Err(error);
            }
            extended => extended?,
        };
        let in_time = self.until.send_if_modified(|until| {
            let in_time = is_ahead(*until);
            if in_time {
                // Of two concurrent renewals the later one counts, as in the store.
                *until = (*until).max(Some(deadline));
            }
            in_time
        });
        if in_time {
            return Ok(());
        }
        // If the response arrived after the deadline, the holder has stopped, and the entry must not block
        // other processes for another time to live. A release deletes it anyway.
        if self.until.send_replace(None).is_some()
            && let Err(error) = self.claim.delete(&self.version).await
        {
            tracing::debug!(adapter = self.claim.adapter(), %error, "could not delete the entry of a lost lease");
        }
        Err(self.claim.lost())
    }

    /// Ends the lease and releases the key.
    pub(super) async fn release(&self) -> Result<()> {
        self.end();
        self.claim.delete(&self.version).await
    }
}

fn is_ahead(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| Instant::now() < deadline)
}
