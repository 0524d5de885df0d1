//! The factory of leases.

use std::{sync::Arc, time::Duration};

use larder_core::{Error, ErrorKind, Expiry, IntoStore, Key, Result, Store};
use tokio::{
    runtime::Handle,
    time::{Instant, sleep_until},
};

use super::{
    acquire::acquire,
    backoff::delays,
    claim::Claim,
    entry::{Counter, Held, Names},
    guard::Lease,
};

/// Hands out leases of keys: at most one per key at any time, over all processes.
///
/// Works on every storage with compare-and-swap and expiry, in all processes that share the store. They must
/// use the same prefix for the same keys; the times to live can differ. Clones are cheap.
///
/// ```
/// use std::time::Duration;
/// use larder_session::{Key, Leases, Result, Store};
///
/// async fn settle(store: &Store) -> Result<()> {
///     let leases = Leases::new(store).with_ttl(Duration::from_secs(10));
///     let lease = leases.lock(&Key::new("invoice:2024-17")?).await?;
///     // No other process holds a lease of this key.
///     lease.release().await
/// }
/// ```
///
/// # Guarantees
///
/// - **Mutual exclusion.** The store's clock decides when a lease ends; for its holder it ends earlier, see
///   [`Lease`]. In DynamoDB the clients' clocks decide, so their difference must be much smaller than the time to
///   live.
/// - **Growing tokens.** Each [`Lease::token`] is greater than all earlier tokens of the key, also across
///   releases, expiry and restarts.
/// - **No queue.** [`lock`](Leases::lock) polls with growing random delays. Waiting processes have no order.
/// - **Cancellation.** Every future can be dropped at any point. The entry of an unfinished or failed
///   acquisition is deleted in the background if there is a tokio runtime, and otherwise expires after the
///   time to live.
///
/// # Requirements
///
/// The two entries of a key (`<prefix>held:<key>` and `<prefix>token:<key>`) are as durable as the store. A
/// store that loses acknowledged writes (a Redis failover, a cache with eviction) can hand out a lease twice.
/// If the counter is lost or cleared, tokens start again at 1. The counters are permanent, one for each key
/// that was ever leased.
///
/// Acquiring takes four round trips, renewing and releasing one each.
#[derive(Clone, Debug)]
pub struct Leases {
    store: Store,
    prefix: Arc<str>,
    ttl: Duration,
    renews: bool,
    wait_limit: Option<Duration>,
}

impl Leases {
    /// The default time to live: 30 seconds.
    pub const DEFAULT_TTL: Duration = Duration::from_secs(30);

    /// The shortest time to live: 10 milliseconds.
    pub const MIN_TTL: Duration = Duration::from_millis(10);

    /// The default prefix of the entries.
    pub const DEFAULT_PREFIX: &str = "lease:";

    /// Returns leases in `storage`, with a time to live of 30 seconds, renewal, the prefix `lease:`, and no
    /// limit for waiting.
    #[must_use]
    pub fn new(storage: impl IntoStore) -> Self {
        Self {
            store: storage.into(),
            prefix: Self::DEFAULT_PREFIX.into(),
            ttl: Self::DEFAULT_TTL,
            renews: true,
            wait_limit: None,
        }
    }

    /// Sets the time to live of a lease after it was acquired or last renewed: from 10 milliseconds to
    /// [`Expiry::MAX`]. Other processes wait this long if the holder dies, and the holder loses the lease if
    /// the store is unreachable for this long. Choose many times the store's usual response time.
    ///
    /// A value out of range is an error when a lease is acquired.
    #[must_use]
    pub const fn with_ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Sets whether a tokio task renews each lease, every third of its time to live. Default: on. Without
    /// renewal, a lease ends after its time to live unless [`Lease::renew`] is called.
    #[must_use]
    pub const fn with_renewal(mut self, renews: bool) -> Self {
        self.renews = renews;
        self
    }

    /// Sets the prefix of the entries' keys. Default: `lease:`. No other key of the store may start with it,
    /// and of two prefixes in one store, neither may start with the other.
    #[must_use]
    pub fn with_prefix(mut self, prefix: impl AsRef<str>) -> Self {
        self.prefix = prefix.as_ref().into();
        self
    }

    /// Sets how long [`lock`](Leases::lock) waits for another holder's lease to end. Default: no limit. With
    /// zero it tries once.
    #[must_use]
    pub const fn with_wait_limit(mut self, limit: Duration) -> Self {
        self.wait_limit = Some(limit);
        self
    }

    /// Acquires the lease of `key`. Returns `None` immediately if another holder has it. (Also returns
    /// `None`, with a warning, if the store is so slow that the lease expired before it was complete.)
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Unsupported`] if the storage has no compare-and-swap or no expiry.
    /// - [`ErrorKind::InvalidConfig`] if the time to live is out of range, or if renewal is on and there is
    ///   no tokio runtime.
    /// - [`ErrorKind::InvalidKey`] if the key is too long with the prefix, or the store rejects it.
    /// - [`ErrorKind::Codec`] if the counter's entry is not valid.
    /// - Otherwise those of [`Store::read_with`] and [`Store::write_with`].
    pub async fn try_lock(&self, key: &Key) -> Result<Option<Lease>> {
        self.check_storage()?;
        self.check_ttl()?;
        let runtime = Handle::try_current().ok();
        if self.renews && runtime.is_none() {
            let message = "a tokio task renews the lease, and there is no tokio runtime: acquire it within one, \
                           or turn renewal off";
            return Err(Error::new(ErrorKind::InvalidConfig, message));
        }
        let names = Names::new(&self.prefix, key)?;
        let hold = acquire(Claim::new(self.store.clone(), names, self.ttl)).await?;
        Ok(hold.map(|hold| Lease::new(key.clone(), hold, runtime, self.renews)))
    }

    /// Acquires the lease of `key`, and waits while another holder has it. Needs a tokio runtime with timers.
    ///
    /// It tries again after delays that grow from about 10 milliseconds to a second, or to a third of the
    /// time to live if that is shorter.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Timeout`] if another holder still has the lease after the
    /// [limit](Leases::with_wait_limit); a request in progress is completed first. Otherwise those of
    /// [`try_lock`](Leases::try_lock), at the first error.
    pub async fn lock(&self, key: &Key) -> Result<Lease> {
        // A limit beyond the range of `Instant` counts as no limit.
        let limit = self.wait_limit.and_then(|limit| Instant::now().checked_add(limit));
        let mut delays = delays(self.ttl);
        loop {
            // Before the attempt: the last attempt starts after the limit has passed.
            let over = limit.is_some_and(|limit| Instant::now() >= limit);
            if let Some(lease) = self.try_lock(key).await? {
                return Ok(lease);
            }
            if over {
                let message = "another holder kept the lease for as long as `lock` waits; try again \
                               later, or raise the limit";
                return Err(Error::new(ErrorKind::Timeout, message).with_adapter(self.store.info().name));
            }
            let next = Instant::now() + delays.next().unwrap_or_default();
            sleep_until(limit.map_or(next, |limit| next.min(limit))).await;
        }
    }

    /// Checks the `token` of a lease of `key`, and rejects it if a newer one has been handed out.
    ///
    /// For work that reaches its resource without the lease, through a job queue for example. This is a read:
    /// a newer token can be handed out right after it. A resource that compares tokens itself, in the same
    /// write, is safer.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Conflict`] if a newer token has been handed out, or this one never was. After its lease
    ///   has ended, a token can be rejected as soon as another process tries to acquire the lease.
    /// - [`ErrorKind::Unsupported`], [`ErrorKind::InvalidKey`] and [`ErrorKind::Codec`] as
    ///   for [`try_lock`](Leases::try_lock); otherwise those of [`Store::read_with`].
    pub async fn check(&self, key: &Key, token: u64) -> Result<()> {
        self.check_storage()?;
        let names = Names::new(&self.prefix, key)?;
        // The holder's own token comes first: the counter can be ahead of it, by a token that was drawn too
        // late and never handed out. Without a holder, only the counter is left.
        let newest = match self.store.read_as::<Held>(&names.held).await?.and_then(|held| held.token) {
            Some(token) => Some(token),
            None => self.store.read_as::<Counter>(&names.counter).await?.map(|counter| counter.token),
        };
        if newest == Some(token) {
            return Ok(());
        }
        let message = "this fencing token is not the newest of its key: another holder has been \
                       granted the lease since; stop the work that it protects";
        Err(Error::new(ErrorKind::Conflict, message).with_adapter(self.store.info().name))
    }

    fn check_storage(&self) -> Result<()> {
        let info = self.store.info();
        let lacks = match (info.conditions(), info.expiry) {
            (true, true) => return Ok(()),
            (false, _) => "compare-and-swap",
            (true, false) => "expiry",
        };
        let message = format!(
            "leases need compare-and-swap and expiry, and this storage, as configured, has no {lacks}: \
             keep them in one that has both, such as Redis, Postgres or, for one process, memory"
        );
        Err(Error::new(ErrorKind::Unsupported, message).with_adapter(info.name))
    }

    fn check_ttl(&self) -> Result<()> {
        if (Self::MIN_TTL..=Expiry::MAX).contains(&self.ttl) {
            return Ok(());
        }
        let message = "the time to live of a lease is at least 10 milliseconds and at most a thousand years";
        Err(Error::new(ErrorKind::InvalidConfig, message))
    }
}
