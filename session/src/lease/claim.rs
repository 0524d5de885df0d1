//! What one acquisition does to the two entries of its key.

use std::{sync::Arc, time::Duration};

use larder_core::{Codec, Condition, Error, ErrorKind, Expiry, Json, Result, Storage, StorageExt, Version};
use tokio::time::Instant;

use super::entry::{Counter, Held, Names};
use crate::signpost;

/// How much earlier than the store we count a lease as over. Stores count whole milliseconds, and
/// some cut their clock's fraction off; our own timers fire up to a millisecond late.
const MARGIN: Duration = Duration::from_millis(2);

/// One acquisition, from its first write to its release.
pub(super) struct Claim {
    storage: Arc<dyn Storage>,
    names: Names,
    holder: String,
    ttl: Duration,
}

impl Claim {
    pub(super) fn new(storage: Arc<dyn Storage>, names: Names, ttl: Duration) -> Self {
        Self { storage, names, holder: signpost::new_id(), ttl }
    }

    pub(super) fn adapter(&self) -> &'static str {
        self.storage.name()
    }

    pub(super) fn ttl(&self) -> Duration {
        self.ttl
    }

    /// Writes the entry, to live for the time to live from now. Returns its version, and the moment
    /// until which it is ours whatever the store's answer took: counted from before the write was
    /// sent, it is never later than the one that the store counts to.
    pub(super) async fn write(
        &self,
        renewal: u64,
        token: Option<u64>,
        condition: Condition,
    ) -> Result<(Version, Instant)> {
        let value = Json.encode(&Held { holder: self.holder.clone(), renewal, token })?;
        let expiry = Expiry::After(self.ttl);
        let sent = Instant::now();
        let version = self.storage.write_if(&self.names.held, value, expiry, condition).await?;
        Ok((version, sent + (self.ttl - MARGIN)))
    }

    /// Draws the next token.
    pub(super) async fn draw_token(&self) -> Result<u64> {
        let next = |seen: Option<Counter>| {
            let token = seen.map_or(0, |seen| seen.token).saturating_add(1);
            Some(Counter { token })
        };
        let drawn = self.storage.update_as(&self.names.counter, Expiry::Never, next).await?;
        // An update that keeps a value returns it.
        drawn.map(|counter| counter.token).ok_or_else(|| self.lost())
    }

    /// The version of the entry, if it is this claim's.
    ///
    /// Only writes of this claim have its holder in them, and the first one needs an absent entry,
    /// all others the one before. So if it is there now, it has been there all the time.
    pub(super) async fn find(&self) -> Result<Option<Version>> {
        let Some(record) = self.storage.read(&self.names.held).await? else {
            return Ok(None);
        };
        // What does not decode was not written by us.
        let ours = Json.decode::<Held>(&record.value).is_ok_and(|held| held.holder == self.holder);
        Ok(record.version.filter(|_| ours))
    }

    /// Deletes the entry, which we last knew at `version`, unless it is somebody else's.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Conflict`] if it is no longer ours.
    pub(super) async fn delete(&self, version: &Version) -> Result<()> {
        match self.storage.delete_if(&self.names.held, version).await {
            Err(error) if error.kind() == ErrorKind::Conflict => {}
            deleted => return deleted,
        }
        // A write of ours whose answer never came may have happened after all.
        let Some(version) = self.find().await? else {
            return Err(self.lost());
        };
        self.storage.delete_if(&self.names.held, &version).await
    }

    /// Deletes the entry if a write of ours, whose outcome is not known, has left one.
    pub(super) async fn withdraw(&self) -> Result<()> {
        match self.find().await? {
            Some(version) => self.storage.delete_if(&self.names.held, &version).await,
            None => Ok(()),
        }
    }

    /// The error of whoever no longer holds the lease.
    pub(super) fn lost(&self) -> Error {
        let message = "the lease is lost: it was not renewed within its time to live, or its entry was \
                       taken away; stop the work that it protects";
        Error::new(ErrorKind::Conflict, message).with_adapter(self.adapter())
    }
}
