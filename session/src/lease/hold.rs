//! A lease while it is held: how long, and its end.

use std::sync::Arc;

use larder_core::{ErrorKind, Result, Version};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use super::claim::Claim;

/// What the holder and its renewal share.
pub(super) struct Hold {
    claim: Arc<Claim>,
    token: u64,
    /// Of the last write of the entry. A renewal keeps it.
    version: Version,
    /// Until when the lease is ours for certain; `None` once it is over, which is for good.
    until: watch::Sender<Option<Instant>>,
}

impl Hold {
    /// A lease that has just been acquired, with the second write of its entry.
    pub(super) fn new(claim: Arc<Claim>, token: u64, version: Version, deadline: Instant) -> Self {
        Self { claim, token, version, until: watch::Sender::new(Some(deadline)) }
    }

    pub(super) fn claim(&self) -> &Claim {
        &self.claim
    }

    pub(super) fn token(&self) -> u64 {
        self.token
    }

    /// Whether the lease is still ours for certain.
    pub(super) fn is_held(&self) -> bool {
        is_ahead(*self.until.borrow())
    }

    /// Ends the lease here: no renewal begins any more.
    pub(super) fn end(&self) {
        self.until.send_replace(None);
    }

    /// Completes once [`end`](Hold::end) has been called.
    pub(super) async fn ended(&self) {
        // It fails only without a sender, which this is.
        let _ = self.until.subscribe().wait_for(Option::is_none).await;
    }

    /// Completes once the lease is no longer ours for certain.
    pub(super) async fn lost(&self) {
        let mut until = self.until.subscribe();
        loop {
            let seen = *until.borrow_and_update();
            let Some(deadline) = seen.filter(|_| is_ahead(seen)) else {
                return;
            };
            // Either the deadline has come or there is another one: look again.
            let _ = timeout_at(deadline, until.changed()).await;
        }
    }

    /// Gives the lease another time to live.
    pub(super) async fn renew(&self) -> Result<()> {
        // A local deadline that has passed is final, even if the entry should still be there: `lost`
        // has completed, and the work has been stopped.
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
                // Of two renewals at the same time the later one counts, as it does for the store.
                *until = (*until).max(Some(deadline));
            }
            in_time
        });
        if in_time {
            return Ok(());
        }
        // If the answer came after the deadline, the holder has given up the lease, and the entry must
        // not keep others waiting for another time to live. A release deletes it by itself.
        if self.until.send_replace(None).is_some()
            && let Err(error) = self.claim.delete(&self.version).await
        {
            tracing::debug!(adapter = self.claim.adapter(), %error, "could not remove a lease that is lost");
        }
        Err(self.claim.lost())
    }

    /// Ends the lease and gives the key free.
    pub(super) async fn release(&self) -> Result<()> {
        self.end();
        self.claim.delete(&self.version).await
    }
}

fn is_ahead(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| Instant::now() < deadline)
}
