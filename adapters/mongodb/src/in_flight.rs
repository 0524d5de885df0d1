//! Writes that continue after their callers have gone.
//!
//! A driver call continues when its caller drops the future or stops waiting. A later write of the same key must not
//! overtake it on another connection, or the older value would remain. Therefore it waits until the abandoned write has
//! ended. Without abandoned writes, this costs one look at an empty list.

use std::sync::{Mutex, MutexGuard, PoisonError};

use larder_core::Key;
use tokio::sync::watch;

/// Held by a running write, and dropped when the write ends.
pub(crate) type Running = watch::Sender<()>;

/// The abandoned writes.
#[derive(Default)]
pub(crate) struct InFlight(Mutex<Vec<Write>>);

#[derive(Clone)]
struct Write {
    keys: Vec<Key>,
    /// Closed when the write has ended.
    running: watch::Receiver<()>,
}

impl InFlight {
    /// Waits until no abandoned write changes these keys.
    pub(crate) async fn wait(&self, concerns: impl Fn(&Key) -> bool) {
        let found: Vec<Write> = {
            let writes = self.unfinished();
            writes.iter().filter(|write| write.keys.iter().any(&concerns)).cloned().collect()
        };
        for mut write in found {
            // No message is ever sent: an error means that the write has ended.
            while write.running.changed().await.is_ok() {}
        }
    }

    /// Makes a guard for a write of `keys`. If the guard is dropped before the write's `Running`, the write is
    /// abandoned.
    pub(crate) fn guard<'a>(&'a self, keys: &'a [Key]) -> (Running, Guard<'a>) {
        let (running, receiver) = watch::channel(());
        (running, Guard { in_flight: self, keys, running: receiver })
    }

    fn unfinished(&self) -> MutexGuard<'_, Vec<Write>> {
        let mut writes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        writes.retain(|write| write.running.has_changed().is_ok());
        writes
    }
}

/// See [`InFlight::guard`].
pub(crate) struct Guard<'a> {
    in_flight: &'a InFlight,
    keys: &'a [Key],
    running: watch::Receiver<()>,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if !self.keys.is_empty() && self.running.has_changed().is_ok() {
            let write = Write { keys: self.keys.to_vec(), running: self.running.clone() };
            self.in_flight.unfinished().push(write);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{task::Poll, time::Duration};

    use super::*;

    #[tokio::test]
    async fn a_write_waits_only_for_abandoned_writes_of_its_key() {
        let in_flight = InFlight::default();
        let one = [Key::new("one").unwrap()];
        in_flight.wait(|key| one.contains(key)).await;
        let (running, guard) = in_flight.guard(&one);
        drop(guard);
        in_flight.wait(|key| key.as_str() == "other").await;
        in_flight.wait(|key| key.as_str().starts_with("ot")).await;
        let mut wait = Box::pin(in_flight.wait(|key| one.contains(key)));
        let mut wait_under = Box::pin(in_flight.wait(|key| key.as_str().starts_with("on")));
        assert_eq!(futures_util::poll!(&mut wait), Poll::Pending);
        assert_eq!(futures_util::poll!(&mut wait_under), Poll::Pending);
        drop(running);
        tokio::time::timeout(Duration::from_secs(5), wait).await.unwrap();
        tokio::time::timeout(Duration::from_secs(5), wait_under).await.unwrap();
        assert!(in_flight.unfinished().is_empty());
    }

    #[tokio::test]
    async fn a_finished_write_is_not_abandoned() {
        let in_flight = InFlight::default();
        let keys = [Key::new("one").unwrap()];
        let (running, guard) = in_flight.guard(&keys);
        drop(running);
        drop(guard);
        assert!(in_flight.0.lock().unwrap().is_empty());
        in_flight.wait(|key| keys.contains(key)).await;
    }
}
