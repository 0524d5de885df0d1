//! Whether two places are one store.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context;
use futures_util::StreamExt;
use larder::{ErrorKind, Expiry, Key, Outcome, Store, unique};
use larder::{StoreUrl, transfer::Nesting};
use tokio::time::sleep;

use super::{
    args::Copy,
    interrupt::{Signal, Signals},
    output::say,
    store::{StoreArg, configuration},
};

/// How long a probe stays if it cannot be deleted.
const PROBE_TTL: Expiry = Expiry::after_secs(60);

/// How long the source is given to show what the target has.
const PATIENCE: Duration = Duration::from_secs(2);
const PATIENCE_TO_DELETE: Duration = Duration::from_secs(10);

/// The time between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// Refuses to copy a store in files to itself. It is called before the target is opened.
pub(super) fn refuse_same_files(source: &StoreArg, target: &StoreArg) -> anyhow::Result<()> {
    let (Some(from), Some(to)) = (source.path(), target.path()) else { return Ok(()) };
    let table = |place: &StoreArg| {
        let mut location = StoreUrl::parse(&place.url).ok()?;
        let table = (location.scheme() == "sqlite").then(|| location.take("table"))?.ok()?;
        // SQLite compares names of tables so.
        Some(table.unwrap_or_else(|| "larder".to_owned()).to_ascii_lowercase())
    };
    if is_one_file(&from, &to) && table(source) == table(target) {
        return Err(same().into());
    }
    Ok(())
}

fn is_one_file(one: &Path, other: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;

        let identity = |path: &Path| fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
        identity(one).is_some_and(|one| identity(other) == Some(one))
    }
    #[cfg(not(unix))]
    {
        let identity = |path: &Path| fs::canonicalize(path).ok();
        identity(one).is_some_and(|one| identity(other) == Some(one))
    }
}

/// How the two stores share one key space. Refuses to copy a store to itself.
///
/// A URL does not say which server it leads to: it may name a host, its address, a node of a cluster or
/// a Sentinel. So the target is given an entry for a moment, and the source is looked at for it.
pub(super) async fn nesting(
    signals: &mut Signals,
    arguments: &Copy,
    (source, from): (&StoreArg, &Store),
    (target, to): (&StoreArg, &Store),
) -> anyhow::Result<Result<Option<Nesting>, Signal>> {
    let (Some(one), Some(other)) = (Space::of(source), Space::of(target)) else { return Ok(Ok(None)) };
    let Some((nesting, start)) = one.around(&other) else { return Ok(Ok(None)) };
    let is_same = if arguments.dry_run {
        one.server == other.server
    } else {
        // Between two stores with the same keys, an entry that the source does not see yet is deleted.
        let patience = if arguments.delete && nesting.is_none() { PATIENCE_TO_DELETE } else { PATIENCE };
        let seen = sees(signals, from, to, &start, patience).await.with_context(|| {
            format!("cannot find out whether {} and {} are the same store", source.name, target.name)
        })?;
        match seen {
            Ok(is_seen) => is_seen,
            Err(signal) => return Ok(Err(signal)),
        }
    };
    match nesting {
        Some(Nesting::SourceInTarget(start)) if !is_same && arguments.delete => {
            match signals.or_until(refuse_unclear_delete(to, &arguments.prefix, &start)).await {
                Ok(refused) => refused.map(|()| Ok(None)),
                Err(signal) => Ok(Err(signal)),
            }
        }
        _ if !is_same => Ok(Ok(None)),
        None => Err(same().into()),
        nesting => Ok(Ok(nesting)),
    }
}

/// Refuses to delete what the target has under `start` and `prefix`. If it is the source's database
/// after all, these are the entries of the source: a replica may take longer than anyone waits.
async fn refuse_unclear_delete(to: &Store, prefix: &str, start: &str) -> anyhow::Result<()> {
    if !prefix.starts_with(start) && !start.starts_with(prefix) {
        return Ok(());
    }
    match to.keys(if prefix.len() > start.len() { prefix } else { start }).next().await {
        None => Ok(()),
        Some(Err(error)) if !error.concerns_one_entry() => Err(error.into()),
        Some(_) => Err(configuration(format!(
            "the target has keys that begin with `{start}`: they may be the entries of the source, so \
             nothing is copied or deleted; if they are not, delete them first with `larder rm --prefix`, or \
             copy without --delete"
        ))
        .into()),
    }
}

fn same() -> larder::Error {
    configuration("source and target are the same store; name another target")
}

/// A key space on a server.
struct Space {
    /// The adapter.
    kind: &'static str,
    /// The URL without its options; for a store without key spaces of its own, with them.
    server: String,
    /// Stands before every key, on Redis.
    start: String,
}

impl Space {
    /// `None` for stores that are in files or in this process.
    fn of(place: &StoreArg) -> Option<Self> {
        let mut location = StoreUrl::parse(&place.url).ok()?;
        let scheme = larder::SCHEMES.iter().find(|scheme| scheme.name == location.scheme())?;
        let (server, start) = match scheme.feature {
            "memory" | "file" | "sqlite" => return None,
            "redis" => {
                let is_grammy = location.take("layout").ok()?.as_deref() == Some("grammy");
                let prefix = location.take("prefix").ok()?.unwrap_or_else(|| "larder".to_owned());
                let start = match prefix.replace('%', "%25").replace(':', "%3A") {
                    prefix if is_grammy || prefix.is_empty() => String::new(),
                    prefix => prefix + ":",
                };
                (location.rest().to_owned(), start)
            }
            _ => (location.to_url(), String::new()),
        };
        Some(Self { kind: scheme.feature, server, start })
    }

    /// How the two spaces overlap if both are on one server, and how the source spells a key of the
    /// target. `None` if they share no keys.
    fn around(&self, other: &Self) -> Option<(Option<Nesting>, Start)> {
        match (self.start.as_str(), other.start.as_str()) {
            _ if self.kind != other.kind => None,
            (one, other) if one == other => Some((None, Start::Same)),
            ("", start) => {
                Some((Some(Nesting::TargetInSource(start.to_owned())), Start::Longer(start.to_owned())))
            }
            (start, "") => {
                Some((Some(Nesting::SourceInTarget(start.to_owned())), Start::Shorter(start.to_owned())))
            }
            _ => None,
        }
    }
}

/// How the source spells a key of the target.
enum Start {
    Same,
    /// With this text before it.
    Longer(String),
    /// Without this text, with which it then begins.
    Shorter(String),
}

/// Whether `from` sees what `to` writes, within `patience`.
///
/// Nothing is left in the target, also after a failure or a signal. If it has to be left, it is named.
async fn sees(
    signals: &mut Signals,
    from: &Store,
    to: &Store,
    start: &Start,
    patience: Duration,
) -> anyhow::Result<Result<bool, Signal>> {
    let probe = format!("larder-copy-probe-{:016x}", unique::id64());
    let (written, seen) = match start {
        Start::Same => (probe.clone(), probe),
        Start::Longer(start) => (probe.clone(), format!("{start}{probe}")),
        Start::Shorter(start) => (format!("{start}{probe}"), probe),
    };
    let (written, seen) = (Key::new(written)?, Key::new(seen)?);
    let expiry = if to.info().expiry { PROBE_TTL } else { Expiry::Never };
    let mut may_be_there = true;
    let looked = signals
        .or_until(async {
            if let Err(error) = to.write(&written, "{}").expiry(expiry).await {
                may_be_there = error.outcome() == Outcome::Unknown;
                return Err(error);
            }
            look(from, &seen, patience).await
        })
        .await;
    let deleted = match &looked {
        _ if !may_be_there => Ok(Ok(false)),
        // A signal that comes now waits.
        Ok(_) => Ok(to.delete(&written).await),
        Err(_) => signals.or_until(to.delete(&written)).await,
    };
    let left = format!("the entry `{written}` may be left in the target: delete it");
    match (looked, deleted) {
        (Ok(looked), Ok(Ok(_))) => Ok(Ok(looked?)),
        (Ok(looked), Ok(Err(error))) => Err(looked.err().unwrap_or(error)).context(left),
        (Ok(_), Err(signal)) => Ok(Err(signal)),
        (Err(signal), deleted) => {
            if !matches!(deleted, Ok(Ok(_))) {
                say(left);
            }
            Ok(Err(signal))
        }
    }
}

/// Whether `from` has `key` now or soon: a replica, or a secondary of MongoDB, follows at a distance.
async fn look(from: &Store, key: &Key, patience: Duration) -> larder::Result<bool> {
    let end = Instant::now() + patience;
    loop {
        // Not `contains`: a user who may read entries may not be allowed to run EXISTS.
        match from.read(key).await {
            Ok(None) if Instant::now() < end => sleep(PAUSE).await,
            Ok(record) => return Ok(record.is_some()),
            // It is there, in a form that the source does not have.
            Err(error) if error.kind() == ErrorKind::Corrupt => return Ok(true),
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use larder::memory::MemoryStorage;
    use larder::{
        Bytes, DeleteOptions, EntryStream, Error, Info, ListOptions, ReadOptions, Record, Result, Storage,
        WriteOptions, Written, async_trait,
    };

    use super::*;

    /// A store as its replica shows it, with its own text before every key. It has no new entry until
    /// the look after `lag` others.
    #[derive(Debug)]
    struct Replica {
        store: MemoryStorage,
        start: &'static str,
        lag: u32,
        looks: AtomicU32,
        fails: bool,
    }

    impl Replica {
        fn of(store: &MemoryStorage, start: &'static str, lag: u32) -> Self {
            Self { store: store.clone(), start, lag, looks: AtomicU32::new(0), fails: false }
        }
    }

    #[async_trait]
    impl Storage for Replica {
        async fn read(&self, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
            if !options.value {
                return Err(Error::new(ErrorKind::PermissionDenied, "this user may not run EXISTS"));
            }
            if self.fails {
                return Err(Error::new(ErrorKind::Unavailable, "the source is gone"));
            }
            if self.looks.fetch_add(1, Ordering::Relaxed) < self.lag {
                return Ok(None);
            }
            self.store.read(&Key::new(format!("{}{key}", self.start))?, options).await
        }

        async fn write(&self, _: &Key, _: Bytes, _: &WriteOptions) -> Result<Written> {
            Err(Error::new(ErrorKind::PermissionDenied, "a replica is read only"))
        }

        async fn delete(&self, _: &Key, _: &DeleteOptions) -> Result<bool> {
            Err(Error::new(ErrorKind::PermissionDenied, "a replica is read only"))
        }
    }

    /// A store with no expiry that fails where it is told to.
    #[derive(Debug, Default)]
    struct Target {
        store: MemoryStorage,
        /// Writes are done, and their answer is lost.
        loses_answers: bool,
        keeps_everything: bool,
    }

    impl Target {
        fn of(store: &MemoryStorage) -> Self {
            Self { store: store.clone(), ..Self::default() }
        }
    }

    #[async_trait]
    impl Storage for Target {
        async fn read(&self, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
            self.store.read(key, options).await
        }

        async fn write(&self, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
            let written = self.store.write(key, value, options).await;
            if self.loses_answers { Err(Error::new(ErrorKind::Timeout, "no answer came")) } else { written }
        }

        async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<bool> {
            if self.keeps_everything {
                return Err(Error::new(ErrorKind::PermissionDenied, "this user may not run DEL"));
            }
            self.store.delete(key, options).await
        }

        fn info(&self) -> Info {
            Info::minimal("target").with_listing()
        }

        fn list(self: Arc<Self>, options: ListOptions) -> EntryStream {
            Arc::new(self.store.clone()).list(options)
        }
    }

    fn copy(delete: bool) -> Copy {
        Copy {
            from: String::new(),
            to: String::new(),
            prefix: String::new(),
            resume: false,
            delete,
            dry_run: false,
            verify: false,
            drop_ttl: false,
            json: false,
        }
    }

    /// [`nesting`] for two places that are on two servers by their URLs.
    async fn nesting_of(
        arguments: &Copy,
        (options, from): (&str, Replica),
        (target_options, to): (&str, Target),
    ) -> anyhow::Result<Option<Nesting>> {
        let source = StoreArg::new(&format!("redis://replica/0?{options}")).unwrap();
        let target = StoreArg::new(&format!("redis://primary/0?{target_options}")).unwrap();
        let mut signals = Signals::new().unwrap();
        nesting(&mut signals, arguments, (&source, &from.into()), (&target, &to.into()))
            .await
            .map(std::result::Result::unwrap)
    }

    async fn put(store: &MemoryStorage, key: &str) {
        Store::from(store.clone()).write(key, "1").await.unwrap();
    }

    #[tokio::test]
    async fn replica_that_lags_behind_is_still_the_same_store() {
        let store = MemoryStorage::new();
        let refused =
            nesting_of(&copy(false), ("", Replica::of(&store, "", 5)), ("", Target::of(&store))).await;
        assert_eq!(refused.unwrap_err().to_string(), same().to_string());

        put(&store, "bot:1").await;
        let found = nesting_of(
            &copy(true),
            ("prefix=bot", Replica::of(&store, "bot:", 5)),
            ("layout=grammy", Target::of(&store)),
        )
        .await;
        assert_eq!(found.unwrap(), Some(Nesting::SourceInTarget("bot:".to_owned())));
        assert_eq!(store.len(), 1, "the probe is still there");
    }

    #[tokio::test]
    async fn delete_is_refused_where_extra_entries_may_be_those_of_the_source() {
        let (store, other) = (MemoryStorage::new(), MemoryStorage::new());
        put(&store, "bot:1").await;
        let ask = async |arguments: Copy| {
            let (source, target) = (Replica::of(&other, "bot:", 0), Target::of(&store));
            nesting_of(&arguments, ("prefix=bot", source), ("layout=grammy", target)).await
        };
        let refused = ask(copy(true)).await.unwrap_err().to_string();
        assert!(refused.contains("begin with `bot:`"), "{refused}");
        // A copy that deletes nothing, or nothing there, is allowed.
        assert_eq!(ask(copy(false)).await.unwrap(), None);
        assert_eq!(ask(Copy { prefix: "chat".to_owned(), ..copy(true) }).await.unwrap(), None);
    }

    #[tokio::test]
    async fn probe_is_deleted_after_a_failure() {
        let store = MemoryStorage::new();
        let source = Replica::of(&store, "", 0);
        let target = Target { loses_answers: true, ..Target::of(&store) };
        let failed = nesting_of(&copy(false), ("", source), ("", target)).await.unwrap_err();
        assert!(format!("{failed:#}").contains("no answer came"), "{failed:#}");
        assert!(store.is_empty(), "the probe is still there after a write whose answer was lost");

        let source = Replica { fails: true, ..Replica::of(&store, "", 0) };
        let failed = nesting_of(&copy(false), ("", source), ("", Target::of(&store))).await.unwrap_err();
        assert!(format!("{failed:#}").contains("the source is gone"), "{failed:#}");
        assert!(store.is_empty(), "the probe is still there after a look that failed");
    }

    #[tokio::test]
    async fn probe_that_cannot_be_deleted_is_named() {
        for loses_answers in [false, true] {
            let store = MemoryStorage::new();
            let target = Target { keeps_everything: true, loses_answers, ..Target::of(&store) };
            let source = Replica::of(&store, "", 0);
            let failed = nesting_of(&copy(false), ("", source), ("", target)).await.unwrap_err();
            let said = format!("{failed:#}");
            let probe = said.split('`').nth(1).expect(&said);
            assert!(Store::from(store).contains(probe).await.unwrap(), "{said}");
        }
    }
}
