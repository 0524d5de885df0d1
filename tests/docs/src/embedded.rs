//! An adapter for an embedded store: redb, whose calls block and whose file can be open only once.

use std::{
    ops::Bound,
    path::PathBuf,
    sync::{Arc, RwLock},
};

use larder_core::{
    Action, Applied, Bytes, Change, DeleteOptions, Entry, EntryStream, Error, ErrorKind, Expiry, Info, Key,
    ListOptions, Location, Purge, ReadOptions, Record, Result, Storage, Store, TouchOptions, Version,
    Versions, WriteOptions, Written, async_trait, clock::unix_millis,
};
use larder_kit::{Configure, GroupCommit, Interval, Pager, StoreUrl, Sweeper, pages};
use redb::{
    Database, DatabaseError, ReadableDatabase, ReadableTable, ReadableTableMetadata, Table, TableDefinition,
};

const INFO: Info = Info::minimal(Config::ADAPTER)
    .with_expiry()
    .with_purge(Purge::Sweep)
    .with_versions(Versions::Unique)
    .with_ordered_listing()
    .with_persistence();

/// The deadline in Unix milliseconds (0: never), the version and the value, under the key.
type Row = (u64, u64, &'static [u8]);
const ENTRIES: TableDefinition<'_, &str, Row> = TableDefinition::new("larder");
const PAGE: usize = 256;

/// A storage in a redb file.
pub(crate) struct Redb {
    file: Arc<File>,
    sweeper: Sweeper,
}

/// The open file.
struct File {
    path: PathBuf,
    /// `None` once it is closed. The lock is held for writing only to close it.
    database: RwLock<Option<Database>>,
}

larder_kit::config! {
    /// The configuration of a redb file.
    #[derive(Debug)]
    pub struct Config for "redb" {
        path: PathBuf,
        existing: bool,
    }

    options {
        /// The interval between removals of expired entries, or `off`.
        sweep: Interval = "1m";
    }
}

impl Config {
    fn locate(&mut self, url: &mut StoreUrl) -> Result<()> {
        self.path = PathBuf::from(url.path()?);
        Ok(())
    }

    /// Opens the file only if it exists.
    #[must_use]
    pub fn existing(mut self) -> Self {
        self.existing = true;
        self
    }

    /// Opens the file.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](ErrorKind::Unavailable) if another process has the file open.
    pub async fn connect(self) -> Result<Store> {
        let Self { path, existing, sweep } = self;
        let file = blocking(move || File::open(path, existing)).await.map_err(Self::named)?;
        let purge = |file: Arc<File>| async move { blocking(move || file.purge()).await };
        let sweeper = Sweeper::start(Self::ADAPTER, Arc::downgrade(&file), sweep, purge);
        // Changes that arrive during a commit share the next one.
        Ok(Store::new(GroupCommit::new(Redb { file, sweeper })))
    }
}

/// Opens the file that `url` names: `redb:sessions.redb?sweep=60s` (or `sweep=off`).
///
/// # Errors
///
/// [`InvalidConfig`](ErrorKind::InvalidConfig) for a wrong URL, [`Unavailable`](ErrorKind::Unavailable) if
/// another process has the file open.
pub async fn connect(url: &str) -> Result<Store> {
    Config::from_url(url)?.connect().await
}

/// Opens redb files by URL, for `larder::Registry`.
#[derive(Clone, Copy, Debug)]
pub struct Adapter;

impl larder_kit::Adapter for Adapter {
    const SCHEMES: &'static [&'static str] = &["redb"];
    const URLS: &'static [(&'static str, &'static str)] = &[("redb:FILE", "a redb file")];

    async fn connect(&self, url: &str) -> Result<Store> {
        connect(url).await
    }

    async fn connect_existing(&self, url: &str) -> Result<Store> {
        Config::from_url(url)?.existing().connect().await
    }
}

/// Runs `work` on a thread that may block. It finishes even if the caller's future is dropped.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|_| Err(Error::new(ErrorKind::Other, "the call panicked")))
}

/// An entry that has not expired.
struct Stored {
    record: Record,
    version: Version,
}

fn stored((deadline, token, value): (u64, u64, &[u8])) -> Option<Stored> {
    let deadline = (deadline > 0).then_some(deadline.cast_signed());
    let left = Expiry::until(deadline, unix_millis())?;
    let version = Version::from_token(token);
    Some(Stored { record: Record::at(Bytes::copy_from_slice(value), version.clone()).expires(left), version })
}

fn deadline(expiry: Expiry) -> u64 {
    expiry.deadline(unix_millis()).map_or(0, i64::cast_unsigned)
}

impl File {
    fn open(path: PathBuf, existing: bool) -> Result<Arc<Self>> {
        if existing && !path.exists() {
            return Err(Error::new(ErrorKind::InvalidConfig, "the file does not exist"));
        }
        let database = Database::create(&path).map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => {
                Error::new(ErrorKind::Unavailable, "another process has the file open").not_applied()
            }
            error => failed(error),
        })?;
        let transaction = database.begin_write().map_err(failed)?;
        transaction.open_table(ENTRIES).map_err(failed)?;
        transaction.commit().map_err(failed)?;
        Ok(Arc::new(Self {
            path: path.canonicalize().unwrap_or(path),
            database: RwLock::new(Some(database)),
        }))
    }

    fn read<T>(&self, work: impl FnOnce(&redb::ReadOnlyTable<&'static str, Row>) -> Result<T>) -> Result<T> {
        let database = self.database.read().map_err(|_| poisoned())?;
        let transaction = database.as_ref().ok_or_else(Error::closed)?.begin_read().map_err(failed)?;
        work(&transaction.open_table(ENTRIES).map_err(failed)?)
    }

    /// Runs `work` in one transaction: no other change comes between its reads and writes, and one commit stores all of
    /// it.
    fn write<T>(&self, work: impl FnOnce(&mut Table<'_, &'static str, Row>) -> Result<T>) -> Result<T> {
        let database = self.database.read().map_err(|_| poisoned())?;
        let transaction = database.as_ref().ok_or_else(Error::closed)?.begin_write().map_err(failed)?;
        let done = work(&mut transaction.open_table(ENTRIES).map_err(failed)?)?;
        transaction.commit().map_err(failed)?;
        Ok(done)
    }

    fn apply(&self, changes: &[Change]) -> Result<Vec<Result<Applied>>> {
        self.write(|table| changes.iter().map(|change| conflict_is_a_result(apply(table, change))).collect())
    }

    fn purge(&self) -> Result<u64> {
        let now = unix_millis().cast_unsigned();
        let expired = |deadline: u64| deadline > 0 && deadline <= now;
        self.write(|table| {
            let before = table.len().map_err(failed)?;
            table.retain(|_, (deadline, ..)| !expired(deadline)).map_err(failed)?;
            Ok(before - table.len().map_err(failed)?)
        })
    }
}

fn get(table: &impl ReadableTable<&'static str, Row>, key: &Key) -> Result<Option<Stored>> {
    Ok(table.get(key.as_str()).map_err(failed)?.and_then(|row| stored(row.value())))
}

/// One change, within a transaction.
fn apply(table: &mut Table<'_, &'static str, Row>, change: &Change) -> Result<Applied> {
    let key = change.key.as_str();
    let current = get(table, &change.key)?;
    change.condition.check(current.as_ref().map(|current| &current.version))?;
    match &change.action {
        Action::Put(value, expiry) => {
            let version = Version::unique();
            let token = version.as_token().unwrap_or_default();
            table.insert(key, (deadline(*expiry), token, &**value)).map_err(failed)?;
            Ok(Applied::Put(Written::at(version)))
        }
        Action::Delete => {
            table.remove(key).map_err(failed)?;
            Ok(Applied::Deleted(current.is_some()))
        }
        Action::Touch(expiry) => {
            if let Some(Stored { record, version }) = &current {
                let token = version.as_token().unwrap_or_default();
                table.insert(key, (deadline(*expiry), token, &*record.value)).map_err(failed)?;
            }
            Ok(Applied::Touched(current.is_some()))
        }
    }
}

/// A conflict fails only its own change; any other error ends the transaction.
fn conflict_is_a_result(applied: Result<Applied>) -> Result<Result<Applied>> {
    match applied {
        Err(error) if error.kind() != ErrorKind::Conflict => Err(error),
        applied => Ok(applied),
    }
}

impl Redb {
    async fn change(&self, change: Change) -> Result<Applied> {
        let mut results = self.apply(vec![change]).await;
        results.pop().unwrap_or_else(|| Err(Error::new(ErrorKind::Other, "the batch has no result")))
    }
}

#[async_trait]
impl Storage for Redb {
    fn info(&self) -> Info {
        INFO
    }

    async fn read(&self, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
        let (file, key, touch) = (Arc::clone(&self.file), key.clone(), options.touch);
        blocking(move || {
            let stored = match touch {
                None => file.read(|table| get(table, &key)),
                // One transaction, so that value and time to live belong to the same moment.
                Some(expiry) => file.write(|table| {
                    let found = get(table, &key)?;
                    apply(table, &Change::touch(key.clone(), expiry))?;
                    Ok(found
                        .map(|Stored { record, version }| Stored { record: record.expires(expiry), version }))
                }),
            };
            Ok(stored?.map(|stored| stored.record))
        })
        .await
    }

    async fn write(&self, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        let change = Change::put(key.clone(), value, options.expiry).on(options.condition.clone());
        Ok(self.change(change).await?.written())
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<bool> {
        let change = Change::delete(key.clone()).on(options.condition.clone());
        Ok(self.change(change).await?.existed())
    }

    async fn touch(&self, key: &Key, expiry: Expiry, options: &TouchOptions) -> Result<bool> {
        let change = Change::touch(key.clone(), expiry).on(options.condition.clone());
        Ok(self.change(change).await?.existed())
    }

    async fn apply(&self, changes: Vec<Change>) -> Vec<Result<Applied>> {
        self.sweeper.ensure_running();
        let (file, count) = (Arc::clone(&self.file), changes.len());
        let applied = blocking(move || file.apply(&changes)).await;
        applied.unwrap_or_else(|error| (0..count).map(|_| Err(error.clone())).collect())
    }

    fn list(self: Arc<Self>, options: ListOptions) -> EntryStream {
        let after = options.start_after.clone().map(|key| key.as_str().to_owned());
        pages(Walk { file: Arc::clone(&self.file), options: Arc::new(options), after, done: false })
    }

    async fn purge_expired(&self) -> Result<u64> {
        let file = Arc::clone(&self.file);
        blocking(move || file.purge()).await
    }

    async fn location(&self) -> Result<Option<Location>> {
        Ok(Some(Location::new(format!("redb:{}", self.file.path.display()))))
    }

    async fn close(&self) -> Result<()> {
        self.sweeper.stop();
        let file = Arc::clone(&self.file);
        // Waits for running calls, and then closes the file, so that another process can open it.
        blocking(move || {
            file.database.write().map_err(|_| poisoned()).map(|mut database| drop(database.take()))
        })
        .await
    }
}

/// A listing under way.
struct Walk {
    file: Arc<File>,
    options: Arc<ListOptions>,
    /// The last key of the previous page.
    after: Option<String>,
    done: bool,
}

impl Pager for Walk {
    async fn next_page(&mut self) -> Result<Option<Vec<Result<Entry>>>> {
        if self.done {
            return Ok(None);
        }
        let (file, options, after) = (Arc::clone(&self.file), Arc::clone(&self.options), self.after.take());
        let (page, last) =
            blocking(move || file.read(|table| page(table, &options, after.as_deref()))).await?;
        self.done = last.is_none();
        self.after = last;
        Ok(Some(page))
    }
}

/// The entries after a key, and the last key; `None` if there are no more.
fn page(
    table: &impl ReadableTable<&'static str, Row>,
    options: &ListOptions,
    after: Option<&str>,
) -> Result<(Vec<Result<Entry>>, Option<String>)> {
    let prefix = options.prefix.as_str();
    let from = match after {
        Some(key) if key >= prefix => Bound::Excluded(key),
        _ => Bound::Included(prefix),
    };
    let mut page = Vec::new();
    let mut last = None;
    for row in table.range::<&str>((from, Bound::Unbounded)).map_err(failed)?.take(PAGE) {
        let (key, row) = row.map_err(failed)?;
        let key = key.value();
        if !key.starts_with(prefix) {
            return Ok((page, None));
        }
        last = Some(key.to_owned());
        if let Some(stored) = stored(row.value()) {
            // An invalid key is an error in place of the entry.
            page.push(Key::new(key).map(|key| match options.values {
                true => Entry::new(key, stored.record),
                false => Entry::key(key),
            }));
        }
    }
    Ok((page, last))
}

fn failed(error: impl Into<redb::Error>) -> Error {
    let error = error.into();
    let kind = match &error {
        redb::Error::Io(error) if error.kind() == std::io::ErrorKind::StorageFull => ErrorKind::StorageFull,
        redb::Error::Io(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            ErrorKind::PermissionDenied
        }
        redb::Error::ValueTooLarge(_) => ErrorKind::TooLarge,
        redb::Error::TableTypeMismatch { .. } | redb::Error::TableExists(_) => ErrorKind::InvalidConfig,
        _ => ErrorKind::Other,
    };
    Error::new(kind, "redb failed").with_source(error)
}

fn poisoned() -> Error {
    Error::new(ErrorKind::Other, "an earlier call panicked; open the file again")
}
