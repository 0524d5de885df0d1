//! The operations of one acquisition on the two entries of its key.

use std::time::Duration;

use larder_core::{
    Codec, Condition, Error, ErrorKind, Expiry, Json, Operation, Result, Store, Version, WriteOptions,
};
use tokio::time::Instant;

use super::entry::{Counter, Held, Names};
use crate::id::new_id;

/// The time by which a lease ends here before it ends in the store. Stores count whole milliseconds, and some
/// truncate their clock; timers here fire up to a millisecond late.
const MARGIN: Duration = Duration::from_millis(2);

/// One acquisition, from its first write to its release.
pub(super) struct Claim {
    store: Store,
    names: Names,
    holder: String,
    ttl: Duration,
}

impl Claim {
    pub(super) fn new(store: Store, names: Names, ttl: Duration) -> Self {
        Self { store, names, holder: new_id(), ttl }
    }

    pub(super) fn adapter(&self) -> &'static str {
        self.store.info().name
    }

    pub(super) fn ttl(&self) -> Duration {
        self.ttl
    }

    /// Writes the entry with the time to live. Returns its version, and the time until which this process
    /// holds it.
    pub(super) async fn write(&self, token: Option<u64>, condition: Condition) -> Result<(Version, Instant)> {
        let value = Json.encode(&Held { holder: self.holder.clone(), token })?;
        let options = WriteOptions::new().expiry(self.ttl).condition(condition);
        let sent = Instant::now();
        let written = self.store.write_with(&self.names.held, value, &options).await?;
        let version = written.version.ok_or_else(|| {
            Error::unsupported().with_adapter(self.adapter()).with_operation(Operation::Write)
        })?;
        Ok((version, self.deadline(sent)))
    }

    /// Extends the entry, which is ours at `version`, by the time to live. Returns the time until which this
    /// process holds it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Conflict`] if it is not ours any more.
    pub(super) async fn extend(&self, version: &Version) -> Result<Instant> {
        let sent = Instant::now();
        match self.store.touch(&self.names.held, self.ttl).if_at(version.clone()).await {
            Err(error) if error.kind() == ErrorKind::Conflict => Err(self.lost()),
            touched => touched.map(|_| self.deadline(sent)),
        }
    }

    /// Returns the time until which this process holds the entry after a request sent at `sent`. Counted from
    /// before the request, it is never later than the store's deadline.
    fn deadline(&self, sent: Instant) -> Instant {
        sent + (self.ttl - MARGIN)
    }

    /// Draws the next token.
    pub(super) async fn draw_token(&self) -> Result<u64> {
        // After the largest token there is no next one, and the counter keeps its value.
        let mut last = false;
        let next = |seen: Option<Counter>| {
            let token = seen.as_ref().map_or(0, |seen| seen.token).checked_add(1);
            last = token.is_none();
            token.map_or(seen, |token| Some(Counter { token }))
        };
        let drawn = self.store.update(&self.names.counter, Expiry::Never, next).await?;
        if last {
            let message = "the counter of fencing tokens is at its maximum, so there is no next token: another program \
                           must have written it";
            return Err(Error::new(ErrorKind::Codec, message).with_adapter(self.adapter()));
        }
        // An update that stores a value returns it.
        drawn.map(|counter| counter.token).ok_or_else(|| self.lost())
    }

    /// Deletes the entry, which is ours at `version`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Conflict`] if it is not ours any more.
    pub(super) async fn delete(&self, version: &Version) -> Result<()> {
        match self.store.delete(&self.names.held).if_at(version.clone()).await {
            Err(error) if error.kind() == ErrorKind::Conflict => Err(self.lost()),
            deleted => deleted.map(drop),
        }
    }

    /// Deletes the entry if an earlier write with an unknown outcome has left one.
    pub(super) async fn withdraw(&self) -> Result<()> {
        let Some(record) = self.store.read(&self.names.held).await? else {
            return Ok(());
        };
        // Only writes of this claim contain its holder. A value that does not decode was not written here.
        let ours = Json.decode::<Held>(&record.value).is_ok_and(|held| held.holder == self.holder);
        match record.version.filter(|_| ours) {
            Some(version) => self.delete(&version).await,
            None => Ok(()),
        }
    }

    /// The error for a holder that has lost the lease.
    pub(super) fn lost(&self) -> Error {
        let message = "the lease is lost: it was not renewed within its time to live, or its entry was \
                       deleted or replaced; stop the work that it protects";
        Error::new(ErrorKind::Conflict, message).with_adapter(self.adapter())
    }
}
