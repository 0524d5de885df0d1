//! How a lease is acquired.

use std::sync::Arc;

use larder_core::{Condition, ErrorKind, Outcome, Result};
use tokio::{runtime::Handle, time::Instant};

use super::{claim::Claim, hold::Hold};

/// Acquires the lease. Returns `None` if another holder has it, or if it was lost before it was complete.
///
/// Three steps. Their order makes the fencing tokens grow:
///
/// 1. Write the entry on the condition that it is absent. Of all acquisitions, one succeeds.
/// 2. Draw a token from the counter, which never expires and therefore survives every lease.
/// 3. Write the token into the entry, on the condition that the first step wrote it. Only then is the token
///    handed out.
///
/// A token drawn before the first step could be too small: other holders could get larger tokens before this
/// acquisition writes its entry. A token handed out without the third step could be too large: if this
/// process paused after the first step for longer than the time to live, another holder has the lease now,
/// with a smaller token, and ours would lock out the rightful holder. With both steps, each token is drawn
/// while its holder has the lease without interruption. Such periods never overlap and the counter only
/// grows, so each token is greater than all earlier ones. A token that was drawn too late is never handed
/// out.
pub(super) async fn acquire(claim: Claim) -> Result<Option<Hold>> {
    let mut attempt = Attempt { claim: Arc::new(claim), settled: false };
    let claim = Arc::clone(&attempt.claim);
    let version = match claim.write(None, Condition::Absent).await {
        Ok((version, _)) => version,
        Err(error) => {
            attempt.settled = error.outcome() == Outcome::NotApplied;
            return if error.kind() == ErrorKind::Conflict { Ok(None) } else { Err(error) };
        }
    };
    let token = claim.draw_token().await?;
    match claim.write(Some(token), Condition::At(version)).await {
        Ok((version, deadline)) if Instant::now() < deadline => {
            attempt.settled = true;
            return Ok(Some(Hold::new(claim, token, version, deadline)));
        }
        // Written, but the response took so long that another holder may have the lease now.
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::Conflict => attempt.settled = true,
        Err(error) => return Err(error),
    }
    tracing::warn!(
        adapter = claim.adapter(),
        ttl = ?claim.ttl(),
        "a lease expired while it was being acquired: its time to live is too short for this store"
    );
    Ok(None)
}

/// An acquisition in progress. Unless it is settled, its entry is deleted in the background: the future may
/// be dropped, and a failed write may have been applied.
struct Attempt {
    claim: Arc<Claim>,
    /// The entry is absent or has an owner.
    settled: bool,
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        if let Ok(runtime) = Handle::try_current() {
            let claim = Arc::clone(&self.claim);
            // If this fails, or a write is still in flight, the time to live ends the lease.
            runtime.spawn(async move { claim.withdraw().await });
        }
    }
}
