//! Versions that are the content, values that are JSON, keys of which some are refused, and
//! listings that repeat themselves: what foreign layouts are like.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use futures_util::{StreamExt, stream};
use larder_core::{
    Bytes, Capabilities, Condition, Error, ErrorKind, Expiry, Key, KeyStream, Operation, Record, Result,
    Storage, Values, Version, Versions, async_trait,
};

const MOST: usize = 1 << 20;

#[derive(Clone, Default)]
pub(crate) struct Content {
    entries: Arc<Mutex<BTreeMap<Key, Bytes>>>,
    closed: Arc<AtomicBool>,
}

impl Content {
    /// Runs `act` on the entries, unless the storage is closed or the key is one of those refused.
    fn with<T>(
        &self,
        operation: Operation,
        key: &Key,
        act: impl FnOnce(&mut BTreeMap<Key, Bytes>) -> Result<T>,
    ) -> Result<T> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::closed().with_adapter("content").with_operation(operation));
        }
        if key.as_str().contains(['/', '\\']) {
            return Err(Error::new(ErrorKind::InvalidKey, "a key has no slashes here"));
        }
        act(&mut self.entries.lock().unwrap())
    }
}

fn json(value: &Bytes, expiry: Expiry) -> Result<Bytes> {
    if expiry != Expiry::Never {
        return Err(Error::unsupported().with_adapter("content").with_operation(Operation::Write));
    }
    if value.len() > MOST {
        return Err(Error::new(ErrorKind::TooLarge, "more than a mebibyte"));
    }
    let parsed: serde_json::Result<serde_json::Value> = serde_json::from_slice(value);
    match parsed {
        Ok(value) => Ok(value.to_string().into()),
        Err(_) => Err(Error::new(ErrorKind::InvalidValue, "not JSON")),
    }
}

fn at(value: &Bytes) -> Version {
    Version::from_content(value.clone())
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Content").field("closed", &self.closed).finish_non_exhaustive()
    }
}

#[async_trait]
impl Storage for Content {
    fn capabilities(&self) -> Capabilities {
        Capabilities::minimal()
            .with_versions(Versions::Content)
            .with_repeating_listing()
            .with_values(Values::Json)
            .with_restricted_keys()
            .with_max_value(MOST as u64)
    }

    async fn read(&self, key: &Key) -> Result<Option<Record>> {
        self.with(Operation::Read, key, |entries| {
            Ok(entries.get(key).map(|value| Record::at(value.clone(), at(value))))
        })
    }

    async fn write(&self, key: &Key, value: Bytes, expiry: Expiry) -> Result<()> {
        self.with(Operation::Write, key, |entries| {
            entries.insert(key.clone(), json(&value, expiry)?);
            Ok(())
        })
    }

    async fn delete(&self, key: &Key) -> Result<bool> {
        self.with(Operation::Delete, key, |entries| Ok(entries.remove(key).is_some()))
    }

    async fn write_if(
        &self,
        key: &Key,
        value: Bytes,
        expiry: Expiry,
        condition: Condition,
    ) -> Result<Version> {
        self.with(Operation::WriteIf, key, |entries| {
            let value = json(&value, expiry)?;
            if Condition::from(entries.get(key).map(at)) != condition {
                return Err(Error::conflict().with_adapter("content").with_operation(Operation::WriteIf));
            }
            entries.insert(key.clone(), value.clone());
            Ok(at(&value))
        })
    }

    async fn delete_if(&self, key: &Key, version: &Version) -> Result<()> {
        self.with(Operation::DeleteIf, key, |entries| {
            if entries.get(key).map(at).as_ref() != Some(version) {
                return Err(Error::conflict().with_adapter("content").with_operation(Operation::DeleteIf));
            }
            entries.remove(key);
            Ok(())
        })
    }

    fn keys<'a>(&'a self, prefix: &'a str) -> KeyStream<'a> {
        if self.closed.load(Ordering::Acquire) {
            return stream::once(async {
                Err(Error::closed().with_adapter("content").with_operation(Operation::Keys))
            })
            .boxed();
        }
        let keys: Vec<Key> = self.entries.lock().unwrap().keys().cloned().collect();
        let found: Vec<Key> = keys.into_iter().filter(|key| key.as_str().starts_with(prefix)).collect();
        // Every third key once more.
        let again: Vec<Key> = found.iter().step_by(3).cloned().collect();
        stream::iter(found.into_iter().chain(again).map(Ok)).boxed()
    }

    async fn purge_expired(&self) -> Result<u64> {
        self.flush().await.map(|()| 0)
    }

    async fn write_many(&self, writes: &[larder_core::Write]) -> Result<()> {
        self.flush().await?;
        let mut failures = Vec::new();
        for (index, write) in writes.iter().enumerate() {
            if let Err(error) = self.write(&write.key, write.value.clone(), write.expiry).await {
                failures.push(larder_core::Failure::new(index, error));
            }
        }
        if failures.is_empty() { Ok(()) } else { Err(Error::partial(failures, writes.len())) }
    }

    async fn delete_many(&self, keys: &[Key]) -> Result<u64> {
        self.flush().await?;
        let mut deleted = 0;
        for key in keys {
            deleted += u64::from(self.delete(key).await?);
        }
        Ok(deleted)
    }

    async fn flush(&self) -> Result<()> {
        let open = !self.closed.load(Ordering::Acquire);
        if open {
            Ok(())
        } else {
            Err(Error::closed().with_adapter("content").with_operation(Operation::Flush))
        }
    }

    async fn close(&self) -> Result<()> {
        self.closed.store(true, Ordering::Release);
        Ok(())
    }
}
