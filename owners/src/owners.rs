//! The index.

use std::{collections::BTreeMap, fmt};

use larder_core::{
    Change, Codec, Condition, Error, ErrorKind, IntoStore, Json, Key, Operation, ReadOptions, Record, Result,
    Store, clock::unix_millis,
};

use crate::{
    bucket::{Bucket, Note},
    deadline::Deadline,
    entry::Entry,
    name::Name,
    saving::Owner,
};

/// An index from owners to their sessions, in a store. Cloning is cheap.
///
/// See the [crate's documentation](crate) for an example and the order of the calls.
///
/// # Errors
///
/// Besides those of the store, every method that reads the index fails with [`Codec`](ErrorKind::Codec) if
/// another program has stored something under a key of the index. That value stays unchanged.
#[derive(Clone)]
pub struct Owners {
    pub(crate) store: Store,
    namespace: String,
    /// The maximum number of sessions per owner.
    pub(crate) most: Option<usize>,
}

impl Owners {
    /// Returns the index of the sessions in `store` that belong together: those of one kind, whose keys have the
    /// prefix `namespace`, for example. Every namespace has its own owners. Nothing is read or written.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](ErrorKind::Unsupported) if the store has no compare-and-swap.
    pub fn new(store: impl IntoStore, namespace: impl Into<String>) -> Result<Self> {
        let store = store.into();
        let info = store.info();
        if !info.conditions() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "the storage `{}` has no compare-and-swap, which an index of owners needs: use another storage",
                    info.name
                ),
            ));
        }
        Ok(Self { store, namespace: namespace.into(), most: None })
    }

    /// Sets another namespace.
    #[must_use]
    pub fn with_namespace(self, namespace: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), ..self }
    }

    /// Limits the number of sessions per owner, to at least one: after a sign-in, the oldest ones are deleted. Default:
    /// no limit. A sign-in reads the index once more, and the sessions only if it names more than `most`.
    ///
    /// A process that ends during a sign-in can leave too many. The next sign-in deletes them.
    #[must_use]
    pub fn with_max_per_owner(self, most: usize) -> Self {
        Self { most: Some(most), ..self }
    }

    /// Notes that the session at `key` is `owner`'s. Call it before a session is written that was not read. For a
    /// session that was, use [`before_save`](Self::before_save), which costs less.
    ///
    /// # Errors
    ///
    /// Those of reading and writing. After an error, do not write the session.
    pub async fn add(&self, owner: &Owner, key: &Key, deadline: Deadline) -> Result<()> {
        self.note(owner, key, deadline, true).await
    }

    /// Notes that the session at `key` of `owner` lives until `to`, if its entry could end before. `from` is its
    /// deadline as it was read.
    pub(crate) async fn touch(&self, owner: &Owner, key: &Key, from: Deadline, to: Deadline) -> Result<()> {
        if from.is_passed_by(to, unix_millis()) { self.note(owner, key, to, false).await } else { Ok(()) }
    }

    /// Returns the entries of `owner`, in no order: one batch of 16 reads. [`sessions`](Self::sessions) returns
    /// only those whose session exists.
    ///
    /// # Errors
    ///
    /// Those of reading.
    pub async fn entries(&self, owner: &str) -> Result<Vec<Entry>> {
        let (entries, outcome) = self.readable(owner).await?;
        outcome.map(|()| entries)
    }

    /// Returns the entries of `owner` in the buckets that can be read, and the first error of the others.
    pub(crate) async fn readable(&self, owner: &str) -> Result<(Vec<Entry>, Result<()>)> {
        let keys = self.name(owner).buckets()?;
        let now = unix_millis();
        let (mut entries, mut outcome) = (Vec::new(), Ok(()));
        for (key, record) in keys.iter().zip(self.store.read_many(&keys, &ReadOptions::new()).await) {
            match record.and_then(|record| record.map(|record| self.decode(key, &record)).transpose()) {
                Ok(bucket) => {
                    let mut bucket = bucket.unwrap_or_default();
                    bucket.prune(now);
                    entries.extend(bucket.sessions.into_iter().map(Entry));
                }
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        Ok((entries, outcome))
    }

    /// Returns the entry of `owner` for the session at `key`. Read it before the session is deleted or gets
    /// another owner, to [remove](Self::remove) it afterwards.
    pub(crate) async fn entry(&self, owner: &str, key: &Key) -> Result<Option<Entry>> {
        let bucket = self.name(owner).bucket(key)?;
        let Some(record) = self.store.read_with(&bucket, &ReadOptions::new()).await? else {
            return Ok(None);
        };
        let noted = self.decode(&bucket, &record)?.sessions;
        Ok(noted.into_iter().find(|noted| noted.key == *key).map(Entry))
    }

    /// Removes entries of `owner` that were read before their sessions were deleted or got another owner.
    ///
    /// An entry stays if its session was noted again since it was read. It also stays if two processes have
    /// noted the session as new less than ten minutes ago: if one of the two sessions was deleted, the other
    /// process may still be about to write its own.
    pub(crate) async fn remove(&self, owner: &str, entries: &[Entry]) -> Result<()> {
        let name = self.name(owner);
        let mut removed: BTreeMap<Key, Vec<&Entry>> = BTreeMap::new();
        for entry in entries {
            removed.entry(name.bucket(entry.key())?).or_default().push(entry);
        }
        self.change(removed.keys().cloned().collect(), |key, bucket, now| {
            let entries = removed.get(key).into_iter().flatten();
            entries.fold(false, |changed, entry| bucket.remove(&entry.0, now) | changed)
        })
        .await
    }

    async fn note(&self, owner: &Owner, key: &Key, deadline: Deadline, new: bool) -> Result<()> {
        let name = self.name(&owner.id);
        let own = name.bucket(key)?;
        // For a limit, a new session is later than all others, whatever the clocks of their processes show.
        let mut keys = if new && self.most.is_some() { name.buckets()? } else { Vec::new() };
        keys.retain(|key| *key != own);
        keys.push(own.clone());
        let mut latest = i64::MIN;
        self.change(keys, |at, bucket, now| {
            latest = bucket.latest().max(latest);
            if *at != own {
                return false;
            }
            let created = new.then(|| now.max(latest.saturating_add(1)));
            bucket.note(Note { key, deadline, device: owner.device.as_deref(), created }, now);
            true
        })
        .await
    }

    /// Changes buckets, without losing concurrent changes. `change` returns whether it has changed the bucket. It
    /// runs again after a conflict. Each conflict is the success of another process.
    async fn change(
        &self,
        mut keys: Vec<Key>,
        mut change: impl FnMut(&Key, &mut Bucket, i64) -> bool,
    ) -> Result<()> {
        while !keys.is_empty() {
            let read = self.store.read_many(&keys, &ReadOptions::new()).await;
            let now = unix_millis();
            let mut changes = Vec::new();
            for (key, record) in keys.into_iter().zip(read) {
                let record = record?;
                let mut bucket = match &record {
                    Some(record) => self.decode(&key, record)?,
                    None => Bucket::default(),
                };
                bucket.prune(now);
                if change(&key, &mut bucket, now) {
                    changes.extend(self.replace(key, record, &bucket, now)?);
                }
            }
            keys = changes.iter().map(|change| change.key.clone()).collect();
            let applied = self.store.apply(changes).await;
            let mut failed = Ok(());
            let mut applied = applied.into_iter();
            keys.retain(|_| match applied.next() {
                Some(Err(error)) if error.kind() == ErrorKind::Conflict => true,
                Some(Err(error)) => {
                    failed = Err(error);
                    false
                }
                Some(Ok(_)) | None => false,
            });
            failed?;
        }
        Ok(())
    }

    /// Returns the change that replaces what was read with `bucket`. The bucket expires with its last session.
    fn replace(&self, key: Key, record: Option<Record>, bucket: &Bucket, now: i64) -> Result<Option<Change>> {
        let condition = match record {
            None => Condition::Absent,
            Some(record) => Condition::At(record.version.ok_or_else(no_version)?),
        };
        let Some(expiry) = bucket.expiry(now) else {
            return Ok((condition != Condition::Absent).then(|| Change::delete(key).on(condition)));
        };
        let expiry = if self.store.info().expiry { expiry } else { larder_core::Expiry::Never };
        let bytes = Json.encode(bucket).map_err(|error| self.store.name_entry(error, &key))?;
        Ok(Some(Change::put(key, bytes, expiry).on(condition)))
    }

    fn decode(&self, key: &Key, record: &Record) -> Result<Bucket> {
        Json.decode(&record.value).map_err(|error| {
            let message = "the index of owners has an entry of another program, or of a newer version";
            let error = Error::new(ErrorKind::Codec, message).with_source(error);
            let error = error.with_adapter(self.store.info().name).with_operation(Operation::Read);
            self.store.name_entry(error, key)
        })
    }

    fn name(&self, owner: &str) -> Name {
        Name::new(&self.namespace, owner, Key::MAX_BYTES.saturating_sub(self.store.prefix().len()))
    }
}

fn no_version() -> Error {
    Error::new(ErrorKind::Other, "the adapter returned an entry without a version")
}

/// Prints no namespace: it can be the beginning of a secret key.
impl fmt::Debug for Owners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Owners").field("store", &self.store).finish_non_exhaustive()
    }
}
