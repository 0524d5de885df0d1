//! The lease, as its holder has it.

use std::{fmt, sync::Arc};

use larder_core::{Key, Result};
use tokio::{runtime::Handle, task::JoinHandle};

use super::{hold::Hold, renewal::renew_until_ended};

/// A key that nobody else has leased at the same time. Made by [`Leases`](crate::Leases).
///
/// It lasts until it is [released](Lease::release) or dropped. Unless renewal is off, a tokio task
/// renews it every third of its time to live.
///
/// # When it is lost
///
/// A holder that is held up for longer than the time to live (a machine that stands still, a store
/// that cannot be reached) loses the lease, and somebody else may be granted it. Work that must not
/// overlap has two ways to know:
///
/// - **[`lost`](Lease::lost)**: run the work beside it, and stop when it completes. It judges by
///   this machine's monotonic clock, counted from before the last successful write was sent, so that
///   its time is over when the store's is, or before. It cannot help a process that does not run,
///   nor on a system whose monotonic clock stands still while the machine sleeps.
/// - **[`token`](Lease::token)**: hand it to whatever the work changes, and let that refuse a
///   token that is smaller than one it has seen. This holds whatever the clocks do.
///
/// ```
/// use larder_core::{Key, Result};
/// use larder_session::Leases;
///
/// # async fn pay(order: &Key, token: u64) {}
/// async fn handle(leases: &Leases, order: &Key) -> Result<()> {
///     let Some(lease) = leases.try_lock(order).await? else {
///         return Ok(()); // Somebody else is at it.
///     };
///     pay(order, lease.token()).await;
///     lease.release().await
/// }
/// ```
///
/// # Dropping
///
/// Dropping ends the renewal, and deletes the entry in the background where there is a tokio runtime
/// (the current one, or else the one that the lease was acquired on). Without one the time to live
/// ends it. Only this lease's own entry is ever deleted. [`release`](Lease::release) does the same
/// and says when it is done.
///
/// `Debug` prints the key's length, never the key.
#[must_use = "the lease ends when it is dropped"]
pub struct Lease {
    key: Key,
    hold: Arc<Hold>,
    renewal: Option<JoinHandle<()>>,
    /// Where to release it, should it be dropped outside of a runtime.
    runtime: Option<Handle>,
    /// There is nothing left to do on drop.
    released: bool,
}

impl Lease {
    /// The lease of `key`; renewed by a task on `runtime` if `renews`.
    pub(super) fn new(key: Key, hold: Hold, runtime: Option<Handle>, renews: bool) -> Self {
        let hold = Arc::new(hold);
        let renewal = runtime
            .as_ref()
            .filter(|_| renews)
            .map(|runtime| runtime.spawn(renew_until_ended(Arc::clone(&hold))));
        Self { key, hold, renewal, runtime, released: false }
    }

    /// The fencing token: at least 1, and greater than the token of every lease of this key that was
    /// handed out before, released and expired ones included.
    #[must_use]
    pub fn token(&self) -> u64 {
        self.hold.token()
    }

    /// The key that is leased, without the prefix.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Whether the lease is still held for certain, as far as is known here. Does not ask the store.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.hold.is_held()
    }

    /// Completes once the lease is lost: a renewal found that its entry is gone or somebody else's,
    /// or its time to live has passed with no renewal. Never completes while it is held. It may be
    /// awaited any number of times, and be dropped at any point.
    ///
    /// With renewal off, and for as long as nobody calls [`renew`](Lease::renew), that is the time to
    /// live.
    ///
    /// ```
    /// use larder_session::Lease;
    ///
    /// # async fn work() {}
    /// /// Says whether the work was done.
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

    /// Renews the lease now: it then lasts its whole time to live again. Only needed with renewal
    /// off, or to know for certain that it is still held.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Conflict`](larder_core::ErrorKind::Conflict) if it has been lost, for good.
    /// Otherwise as [`Store::touch_with`](larder_core::Store::touch_with); after an error that is
    /// retryable it is held until the time to live from the last success has passed, and can be
    /// renewed until then. So it can after a call that was dropped.
    pub async fn renew(&self) -> Result<()> {
        self.hold.renew().await
    }

    /// Ends the renewal and gives the key free, and returns once both have happened. A renewal that
    /// is under way is waited for.
    ///
    /// A future that is dropped before it is ready releases in the background, as dropping the lease
    /// does.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Conflict`](larder_core::ErrorKind::Conflict) if the lease had been lost before:
    /// what was done under it may have overlapped with somebody else's work. Otherwise as
    /// [`Store::delete_with`](larder_core::Store::delete_with): the time to live then ends it.
    pub async fn release(mut self) -> Result<()> {
        let released = self.hold.release().await;
        self.released = true;
        // It has been told to end, and writes nothing any more. On another runtime it may not be
        // driven, and would keep us waiting for ever.
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
        // At once, not in the task below, so that no renewal begins after this.
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
