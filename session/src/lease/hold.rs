//! A lease while it is held: how long, at which version, and its end.

use std::sync::Arc;

use larder_core::{Condition, ErrorKind, Result, Version};
use tokio::{
    sync::{Mutex, watch},
    time::{Instant, timeout_at},
};

use super::claim::Claim;

/// What the holder and its renewal share.
pub(super) struct Hold {
    claim: Arc<Claim>,
    token: u64,
    /// Held during every write to the entry, so that each knows the version the one before it left:
    /// a release waits for the renewal under way and deletes what that has written.
    position: Mutex<Position>,
    /// Until when the lease is ours for certain; `None` once it is over, which is for good.
    until: watch::Sender<Option<Instant>>,
}

/// Where the entry stands.
struct Position {
    version: Version,
    renewal: u64,
}

impl Hold {
    /// A lease that has just been acquired, with the second write of its entry.
    pub(super) fn new(claim: Arc<Claim>, token: u64, version: Version, deadline: Instant) -> Self {
        Self {
            claim,
            token,
            position: Mutex::new(Position { version, renewal: 1 }),
            until: watch::Sender::new(Some(deadline)),
        }
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
    ///
    /// The condition of the write is the version that we wrote last. A `touch`, which has no
    /// condition, would extend the lease of whoever came after us.
    pub(super) async fn renew(&self) -> Result<()> {
        let mut position = self.position.lock().await;
        // A local deadline that has passed is final, even if the entry should still be there: `lost`
        // has said so, and the work has been stopped.
        while self.is_held() {
            // Counted first: this number is used up even if we never hear what became of the write.
            position.renewal += 1;
            let condition = Condition::At(position.version.clone());
            match self.claim.write(position.renewal, Some(self.token), condition).await {
                Ok((version, deadline)) => {
                    position.version = version;
                    return self.extend(&position, deadline).await;
                }
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
            // Perhaps an earlier renewal, whose answer never came, has moved the entry on.
            match self.claim.find().await? {
                Some(version) => position.version = version,
                None => self.end(),
            }
        }
        Err(self.claim.lost())
    }

    /// Moves the deadline on, after a write that succeeded.
    async fn extend(&self, position: &Position, deadline: Instant) -> Result<()> {
        let extended = self.until.send_if_modified(|until| {
            let in_time = is_ahead(*until);
            if in_time {
                *until = Some(deadline);
            }
            in_time
        });
        if extended {
            return Ok(());
        }
        // Released meanwhile: the release waits for us, and deletes what we have just written. Or the
        // answer came after the deadline: nobody counts on the lease any more, so it must not keep
        // others waiting for another time to live.
        if self.until.send_replace(None).is_some()
            && let Err(error) = self.claim.delete(&position.version).await
        {
            tracing::debug!(adapter = self.claim.adapter(), %error, "could not remove a lease that is lost");
        }
        Err(self.claim.lost())
    }

    /// Ends the lease and gives the key free.
    pub(super) async fn release(&self) -> Result<()> {
        // Before the lock is awaited, so that only a renewal that is under way comes first.
        self.end();
        let position = self.position.lock().await;
        self.claim.delete(&position.version).await
    }
}

fn is_ahead(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| Instant::now() < deadline)
}
