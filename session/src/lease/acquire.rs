//! How a lease is acquired.

use std::sync::Arc;

use larder_core::{Condition, ErrorKind, Outcome, Result};
use tokio::{runtime::Handle, time::Instant};

use super::{claim::Claim, hold::Hold};

/// Acquires the lease; `None` if somebody else holds it, or if it was lost again before it was
/// complete.
///
/// Three steps, and their order is what makes the fencing tokens grow:
///
/// 1. Write the entry on the condition that there is none. Of all who try one goes on.
/// 2. Draw a token from the counter, which never expires and so survives every lease.
/// 3. Write the token into the entry, on the condition that it is still as the first step wrote it.
///    Only then is the token handed out.
///
/// A token that was drawn before the first step would be too small: others may be granted, and be
/// handed larger ones, before it is our turn. One that was handed out without the third step might
/// be too large: if we were held up after the first step for longer than the time to live, somebody
/// else has the lease now, with a smaller token than we have just drawn, and ours would fence off
/// the rightful holder. With both, a token that is handed out was drawn while its holder had the
/// lease without a break. Such times never overlap and the counter only grows, so each token is
/// greater than all that were handed out before. One that was drawn too late is never used.
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
        // Written, but the answer took so long that it may be somebody else's by now.
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

/// An acquisition under way. Unless it is settled, what it leaves behind in the store is removed in
/// the background: its future may be dropped, and a write that failed may have happened.
struct Attempt {
    claim: Arc<Claim>,
    /// Nothing is left behind, or it has an owner.
    settled: bool,
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        if let Ok(runtime) = Handle::try_current() {
            let claim = Arc::clone(&self.claim);
            // Should it fail, or a write still be on its way, then the time to live ends the lease.
            runtime.spawn(async move { claim.withdraw().await });
        }
    }
}
