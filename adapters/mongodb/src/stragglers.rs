//! Writes whose callers have gone.
//!
//! A driver call runs on when its caller drops the future or stops waiting. A later write of the same
//! key must not overtake it on another connection, or the older value would stay: it waits until the
//! straggler is through. The common case, no straggler at all, costs one look at an empty map.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use larder_core::Key;
use tokio::{runtime::Handle, sync::watch};

/// Says that a write is through by being dropped.
pub(crate) type Running = watch::Sender<()>;
type Waiting = watch::Receiver<()>;
type ByKey = Mutex<HashMap<Key, Vec<Waiting>>>;

/// The writes that run on without a caller, by key.
#[derive(Debug, Default)]
pub(crate) struct Stragglers(Arc<ByKey>);

impl Stragglers {
    /// Waits until no straggler writes any of `keys`.
    pub(crate) async fn wait(&self, keys: &[Key]) {
        let mut found = Vec::new();
        {
            let by_key = lock(&self.0);
            if by_key.is_empty() {
                return;
            }
            for key in keys {
                found.extend(by_key.get(key).into_iter().flatten().cloned());
            }
        }
        all_through(found).await;
    }

    /// Waits until no straggler writes a key that begins with `prefix`.
    pub(crate) async fn wait_under(&self, prefix: &str) {
        let found = {
            let by_key = lock(&self.0);
            let under = by_key.iter().filter(|(key, _)| key.as_str().starts_with(prefix));
            under.flat_map(|(_, waiting)| waiting).cloned().collect()
        };
        all_through(found).await;
    }

    /// Watches over a write of `keys`: if the guard is dropped before [`Guard::finish`], the write
    /// becomes a straggler until its `Running` is dropped.
    pub(crate) fn guard<'a>(&self, keys: &'a [Key], runtime: &'a Handle) -> (Running, Guard<'a>) {
        let (running, waiting) = watch::channel(());
        let waiting = (!keys.is_empty()).then_some(waiting);
        let guard = Guard { by_key: Arc::downgrade(&self.0), keys, runtime, waiting };
        (running, guard)
    }
}

async fn all_through(found: Vec<Waiting>) {
    for mut waiting in found {
        // Nothing is ever sent: an error says that the write is through.
        while waiting.changed().await.is_ok() {}
    }
}

/// See [`Stragglers::guard`].
#[derive(Debug)]
pub(crate) struct Guard<'a> {
    by_key: Weak<ByKey>,
    keys: &'a [Key],
    runtime: &'a Handle,
    waiting: Option<Waiting>,
}

impl Guard<'_> {
    /// The write's outcome is known.
    pub(crate) fn finish(mut self) {
        self.waiting = None;
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        let (Some(waiting), Some(shared)) = (self.waiting.take(), self.by_key.upgrade()) else {
            return;
        };
        {
            let mut by_key = lock(&shared);
            for key in self.keys {
                by_key.entry(key.clone()).or_default().push(waiting.clone());
            }
        }
        let (by_key, keys) = (Weak::clone(&self.by_key), self.keys.to_vec());
        let mut waiting = waiting;
        self.runtime.spawn(async move {
            while waiting.changed().await.is_ok() {}
            if let Some(by_key) = by_key.upgrade() {
                forget(&mut lock(&by_key), &keys);
            }
        });
    }
}

/// Takes out what is through.
fn forget(by_key: &mut HashMap<Key, Vec<Waiting>>, keys: &[Key]) {
    for key in keys {
        if let Some(waiting) = by_key.get_mut(key) {
            waiting.retain(|waiting| waiting.has_changed().is_ok());
            if waiting.is_empty() {
                by_key.remove(key);
            }
        }
    }
}

fn lock(by_key: &ByKey) -> std::sync::MutexGuard<'_, HashMap<Key, Vec<Waiting>>> {
    by_key.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::{task::Poll, time::Duration};

    use super::*;

    #[tokio::test]
    async fn a_write_waits_for_the_straggler_on_its_own_key_only() {
        let stragglers = Stragglers::default();
        let runtime = Handle::current();
        let (one, other) = ([Key::new("one").unwrap()], [Key::new("other").unwrap()]);
        stragglers.wait(&one).await;
        let (running, guard) = stragglers.guard(&one, &runtime);
        drop(guard);
        stragglers.wait(&other).await;
        stragglers.wait_under("ot").await;
        let mut wait = Box::pin(stragglers.wait(&one));
        let mut wait_under = Box::pin(stragglers.wait_under("on"));
        assert_eq!(futures_util::poll!(&mut wait), Poll::Pending);
        assert_eq!(futures_util::poll!(&mut wait_under), Poll::Pending);
        drop(running);
        tokio::time::timeout(Duration::from_secs(5), wait).await.unwrap();
        tokio::time::timeout(Duration::from_secs(5), wait_under).await.unwrap();
        while !lock(&stragglers.0).is_empty() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_finished_write_is_none() {
        let stragglers = Stragglers::default();
        let runtime = Handle::current();
        let keys = [Key::new("one").unwrap()];
        let (_running, guard) = stragglers.guard(&keys, &runtime);
        guard.finish();
        stragglers.wait(&keys).await;
    }
}
