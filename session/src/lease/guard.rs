//! The lease in its holder's hands.

use std::{fmt, sync::Arc};

use larder_core::{Key, Result};
use tokio::{runtime::Handle, task::JoinHandle};

use super::{hold::Hold, renewal::renew_until_ended};

/// An exclusive lease of a key, acquired with [`Leases`](crate::Leases).
///
/// It lasts until it is [released](Lease::release) or dropped. Unless renewal is off, a tokio task
/// renews it every third of its time to live.
///
/// # When it is lost
///
/// A holder that is delayed for longer than the time to live (a suspended machine, an unreachable store)
/// loses the lease, and another process can acquire it. Work that must not overlap has two ways to detect
/// this:
///
/// - **[`lost`](Lease::lost)**: run the work beside it, and stop when it completes. It uses this machine's
///   monotonic clock, starting before the last successful write was sent, so it completes no later than the
///   store's deadline. It does not help a process that is not running, nor on a system whose monotonic clock
///   stops while the machine sleeps.
/// - **[`token`](Lease::token)**: pass it to the resource that the work changes, and let the resource reject
///   a token smaller than one it has seen. This does not depend on clocks.
///
/// ```
/// use larder_core::{Key, Result};
/// use larder_session::Leases;
///
/// # async fn pay(order: &Key, token: u64) {}
/// async fn handle(leases: &Leases, order: &Key) -> Result<()> {
///     let Some(lease) = leases.try_lock(order).await? else {
///         return Ok(()); // Another process handles it.
///     };
///     pay(order, lease.token()).await;
///     lease.release().await
/// }
/// ```
///
/// # Dropping
///
/// Dropping ends the renewal, and deletes the entry in the background if there is a tokio runtime (the
/// current one, or the one on which the lease was acquired). Without one, the time to live ends the lease.
/// Only this lease's own entry is deleted. [`release`](Lease::release) does the same and waits until it is
/// done.
///
/// `Debug` prints the key's length, never the key.
#[must_use = "the lease ends when it is dropped"]
pub struct Lease {
    key: Key,
    hold: Arc<Hold>,
    renewal: Option<JoinHandle<()>>,
    /// The runtime that releases it if it is dropped outside of a runtime.
    runtime: Option<Handle>,
    /// Dropping has nothing to do.
    released: bool,
}

impl Lease {
    /// Returns the lease of `key`, renewed by a task on `runtime` if `renews`.
    pub(super) fn new(key: Key, hold: Hold, runtime: Option<Handle>, renews: bool) -> Self {
        let hold = Arc::new(hold);
        let renewal = runtime
            .as_ref()
            .filter(|_| renews)
            .map(|runtime| runtime.spawn(renew_until_ended(Arc::clone(&hold))));
        Self { key, hold, renewal, runtime, released: false }
    }

    /// Returns the fencing token: at least 1, and greater than the token of every earlier lease of this key,
    /// including released and expired ones.
    #[must_use]
    pub fn token(&self) -> u64 {
        self.hold.token()
    }

    /// Returns the leased key, without the prefix.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Returns whether the lease is certainly still held, without a request to the store.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.hold.is_held()
    }

    /// Completes when the lease is lost: a renewal found that its entry is gone or belongs to another holder,
    /// or the time to live has passed without a renewal. Never completes while the lease is held. It can be
    /// awaited any number of times, and dropped at any point.
    ///
    /// With renewal off and without calls of [`renew`](Lease::renew), it completes after the time to live.
    ///
    /// ```
    /// use larder_session::Lease;
    ///
    /// # async fn work() {}
    /// /// Returns whether the work was done.
    /// async fn guarded(lease: &Lease) -> bool {
    ///     tokio::select! {
    ///         () = work() => true,
    ///         () = lease.lost() => false,
    ///     }
    /// }
    /// ```
    pub async fn lost(&self) {
        self.hold.lost().await;
    }

    /// Renews the lease now, for its full time to live. Only needed with renewal off, or to verify that the
    /// lease is still held.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Conflict`](larder_core::ErrorKind::Conflict) if it has been lost, which is final.
    /// Otherwise those of [`Store::touch_with`](larder_core::Store::touch_with). After a retryable error, or
    /// a call that was dropped, the lease is held until the time to live since the last success has passed,
    /// and can be renewed until then.
    pub async fn renew(&self) -> Result<()> {
        self.hold.renew().await
    }

    /// Ends the renewal and releases the key. Waits for a renewal in progress.
    ///
    /// If the future is dropped early, the lease is released in the background, as if it were dropped.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Conflict`](larder_core::ErrorKind::Conflict) if the lease was already lost: the work
    /// may have overlapped with another holder's. Otherwise those of
    /// [`Store::delete_with`](larder_core::Store::delete_with); the time to live then ends the lease.
    pub async fn release(mut self) -> Result<()> {
        let released = self.hold.release().await;
        self.released = true;
        // It was told to end and writes nothing more. On another runtime it may never be polled, so waiting
        // for it could take forever.
        let runtime = self.runtime.as_ref().map(Handle::id);
        if let Some(renewal) = self.renewal.take()
            && Handle::try_current().is_ok_and(|here| Some(here.id()) == runtime)
        {
            let _ = renewal.await;
        }
        released
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Here, not in the task below, so that no renewal starts after this.
        self.hold.end();
        if self.released {
            return;
        }
        let Some(runtime) = Handle::try_current().ok().or_else(|| self.runtime.take()) else {
            return;
        };
        let hold = Arc::clone(&self.hold);
        runtime.spawn(async move {
            if let Err(error) = hold.release().await {
                let adapter = hold.claim().adapter();
                tracing::debug!(adapter, kind = %error.kind(), %error, "could not release a lease");
            }
        });
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("key", &self.key)
            .field("token", &self.token())
            .field("held", &self.is_held())
            .finish_non_exhaustive()
    }
}
