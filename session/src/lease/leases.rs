//! Where leases come from.

use std::{sync::Arc, time::Duration};

use larder_core::{Error, ErrorKind, Expiry, Key, Result, Store};
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

/// Hands out leases of keys: at any time at most one per key, whoever asks.
///
/// It works on every storage with compare-and-swap and expiry, in as many processes as share the
/// store. All who ask for the same keys use the same prefix; the time to live may differ. Cloning is
/// cheap.
///
/// ```
/// use std::time::Duration;
/// use larder_session::{Key, Leases, Result, Store};
///
/// async fn settle(store: &Store) -> Result<()> {
///     let leases = Leases::new(store).with_ttl(Duration::from_secs(10));
///     let lease = leases.lock(&Key::new("invoice:2024-17")?).await?;
///     // Nobody else is here with the same key.
///     lease.release().await
/// }
/// ```
///
/// # Guarantees
///
/// - **One at a time.** The store's clock decides when a lease ends; its holder is told before, see
///   [`Lease`].
/// - **Tokens grow.** Each [`Lease::token`] is greater than all that were handed out for the key
///   before, also across releases, expiry and restarts.
/// - **No queue.** Who waits in [`lock`](Leases::lock) asks again and again, with growing and
///   random pauses. There is no order among them.
/// - **Cancellation.** Every future may be dropped at any point. What an acquisition has then
///   written is removed in the background where there is a tokio runtime; at the latest it is gone
///   after the time to live. A failed acquisition does the same.
///
/// # What it rests on
///
/// The two entries that a key has (`<prefix>held:<key>` and `<prefix>token:<key>`) are as safe as
/// the store. One that forgets acknowledged writes (a Redis replica that takes over, a cache that
/// evicts) can hand out a lease twice; one that forgets the counter, or whose counters are cleared,
/// begins again with token 1. The counters stay for ever, one for each key that was ever leased.
///
/// Acquiring takes four round trips, renewing and releasing take one each.
#[derive(Clone, Debug)]
pub struct Leases {
    store: Store,
    prefix: Arc<str>,
    ttl: Duration,
    renews: bool,
    wait_limit: Option<Duration>,
}

impl Leases {
    /// The time to live unless another one is set: 30 seconds.
    pub const DEFAULT_TTL: Duration = Duration::from_secs(30);

    /// The shortest time to live: 10 milliseconds.
    pub const MIN_TTL: Duration = Duration::from_millis(10);

    /// The prefix of the entries unless another one is set.
    pub const DEFAULT_PREFIX: &str = "lease:";

    /// Leases that are kept in `storage`: for 30 seconds, renewed, with the prefix `lease:`, and
    /// waited for without a limit.
    #[must_use]
    pub fn new(storage: impl Into<Store>) -> Self {
        Self {
            store: storage.into(),
            prefix: Self::DEFAULT_PREFIX.into(),
            ttl: Self::DEFAULT_TTL,
            renews: true,
            wait_limit: None,
        }
    }

    /// How long a lease lasts after it was acquired or last renewed: from 10 milliseconds to
    /// [`Expiry::MAX`]. This is how long others wait should its holder die, and how long the store
    /// may be out of reach before a holder loses it. Many times the store's usual answer is sensible.
    ///
    /// A value that is out of range is refused when a lease is asked for.
    #[must_use]
    pub const fn with_ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Whether a tokio task renews each lease, every third of its time to live; it does unless this
    /// says otherwise. Without, a lease ends with its time to live unless [`Lease::renew`] is called.
    #[must_use]
    pub const fn with_renewal(mut self, renews: bool) -> Self {
        self.renews = renews;
        self
    }

    /// What the keys of the entries begin with; `lease:` unless this says otherwise. No other entry
    /// of the store may begin with it, and of two prefixes in one store neither with the other.
    #[must_use]
    pub fn with_prefix(mut self, prefix: impl AsRef<str>) -> Self {
        self.prefix = prefix.as_ref().into();
        self
    }

    /// How long [`lock`](Leases::lock) waits for somebody else's lease to end; for ever unless this
    /// says otherwise. With zero it tries once.
    #[must_use]
    pub const fn with_wait_limit(mut self, limit: Duration) -> Self {
        self.wait_limit = Some(limit);
        self
    }

    /// Leases `key`, unless somebody else has it: then this is `None`, at once. (So it is, with a
    /// warning, if the store is so slow that the lease expired before it was complete.)
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Unsupported`] if the storage has no compare-and-swap or no expiry.
    /// - [`ErrorKind::InvalidConfig`] if the time to live is out of range, or the lease is to be
    ///   renewed and there is no tokio runtime here.
    /// - [`ErrorKind::InvalidKey`] if the key is too long with the prefix, or the store refuses it.
    /// - [`ErrorKind::Codec`] if the counter's entry is not one.
    /// - Otherwise as [`Store::read_with`] and [`Store::write_with`].
    pub async fn try_lock(&self, key: &Key) -> Result<Option<Lease>> {
        self.check_storage()?;
        self.check_ttl()?;
        let runtime = Handle::try_current().ok();
        if self.renews && runtime.is_none() {
            let message = "a lease is renewed by a tokio task and there is no tokio runtime here: ask \
                           for it within one, or turn renewal off";
            return Err(Error::new(ErrorKind::InvalidConfig, message));
        }
        let names = Names::new(&self.prefix, key)?;
        let hold = acquire(Claim::new(self.store.clone(), names, self.ttl)).await?;
        Ok(hold.map(|hold| Lease::new(key.clone(), hold, runtime, self.renews)))
    }

    /// Leases `key`, and waits as long as somebody else has it. Needs a tokio runtime with timers.
    ///
    /// It asks the store again after pauses that grow from about 10 milliseconds to a second, or to
    /// a third of the time to live should that be shorter.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Timeout`] once the [limit](Leases::with_wait_limit) has passed and somebody else
    /// still has it; a call to the store that is under way then is waited for. Otherwise as
    /// [`try_lock`](Leases::try_lock), at the first error.
    pub async fn lock(&self, key: &Key) -> Result<Lease> {
        // A limit too far away to be a moment is none.
        let limit = self.wait_limit.and_then(|limit| Instant::now().checked_add(limit));
        let mut delays = delays(self.ttl);
        loop {
            // Before the try: the last one begins once the limit has come.
            let over = limit.is_some_and(|limit| Instant::now() >= limit);
            if let Some(lease) = self.try_lock(key).await? {
                return Ok(lease);
            }
            if over {
                let message = "somebody else held the lease for as long as `lock` waits; try again \
                               later, or raise the limit";
                return Err(Error::new(ErrorKind::Timeout, message).with_adapter(self.store.info().name));
            }
            let next = Instant::now() + delays.next().unwrap_or_default();
            sleep_until(limit.map_or(next, |limit| next.min(limit))).await;
        }
    }

    /// Checks the `token` of a lease of `key`: refuses it once a newer one has been handed out.
    ///
    /// For work that reaches its resource by another way than the lease, such as a job queue. It is
    /// a read: a newer token may be handed out right after it. A resource that can compare tokens
    /// itself, in the same write, is safer.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Conflict`] if a newer token has been handed out, or this one never was. Once
    ///   its lease has ended, a token may be refused as soon as somebody else tries to acquire it.
    /// - [`ErrorKind::Unsupported`], [`ErrorKind::InvalidKey`] and [`ErrorKind::Codec`] as
    ///   [`try_lock`](Leases::try_lock); otherwise as [`Store::read_with`].
    pub async fn check(&self, key: &Key, token: u64) -> Result<()> {
        self.check_storage()?;
        let names = Names::new(&self.prefix, key)?;
        // The holder's own token comes first: the counter may be ahead of it, by one that somebody
        // drew too late and never got. Where nobody holds the lease the counter is all there is.
        let newest = match self.store.read_as::<Held>(&names.held).await?.and_then(|held| held.token) {
            Some(token) => Some(token),
            None => self.store.read_as::<Counter>(&names.counter).await?.map(|counter| counter.token),
        };
        if newest == Some(token) {
            return Ok(());
        }
        let message = "this fencing token is no longer the newest of its key: somebody else has been \
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
