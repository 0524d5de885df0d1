//! Runs operations on a recorded directory, and checks what power cuts may leave of it.

use std::{
    collections::{BTreeMap, HashSet},
    fmt, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use futures_util::StreamExt;
use larder_core::{
    Change, Condition, DeleteOptions, Error, ErrorKind, Expiry, Key, ListOptions, ReadOptions, Result, Store,
    TouchOptions, Version, WriteOptions,
};
use larder_power_cuts::{Bounds, Bug, Counts, Fault, Log, Model, Recorder, Tree};

use super::model::{Do, Entries, Entry, Expected, If, State, is_answer, is_one_of};
use crate::{Config, Layout, SnapshotConfig, ValueFormat};

/// The keys: two that share a lock, a third, and one whose file has a digest as its name.
pub(super) const KEYS: [&str; 4] = [A, B, C, LONG];
pub(super) const A: &str = "c";
pub(super) const B: &str = "k3";
pub(super) const C: &str = "chat7";
pub(super) const LONG: &str = concat!(
    "0123456789012345678901234567890123456789012345678901234567890123456789",
    "0123456789012345678901234567890123456789012345678901234567890123456789",
);

fn key(name: &str) -> Key {
    Key::new(name).unwrap()
}

/// A kind of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Files {
    Bytes,
    Json,
    Grammy,
    Snapshot,
}

impl Files {
    pub(super) const DIRECTORIES: [Self; 3] = [Self::Bytes, Self::Json, Self::Grammy];

    async fn open(self, root: &Path, sync: bool, existing: bool) -> Result<Store> {
        // Two missing directories, one above the other, if nothing exists.
        let root = root.join("above");
        if self == Self::Snapshot {
            let config = SnapshotConfig::new().file(root.join("sessions.json"));
            return config.interval(Duration::from_secs(3600)).connect().await;
        }
        let config = Config::new().directory(root.join("sessions")).sync(sync).sweep(None);
        let config = if existing { config.existing() } else { config };
        match self {
            Self::Grammy => config.layout(Layout::Grammy),
            Self::Json => config.values(ValueFormat::Json),
            _ => config,
        }
        .connect()
        .await
    }
}

/// A step of a scenario. The number is that of the process: a storage of its own.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Open(usize),
    Do(usize, Do),
    Flush(usize),
    Close(usize),
    /// Drops the storage without a close.
    Drop(usize),
}

/// The result of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Answered,
    Failed,
    /// The process has ended.
    Died,
}

/// A state of the disk that breaks a promise.
pub(super) struct Violation {
    model: Model,
    cut: usize,
    reason: String,
    state: Tree,
    log: Log,
}

impl Violation {
    pub(super) fn model(&self) -> Model {
        self.model
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { model, cut, reason, state, log } = self;
        write!(out, "{reason}\nafter a cut before call {cut} ({model:?}), with this disk:\n{state:?}{log:?}")
    }
}

/// What was covered.
#[derive(Default)]
pub(super) struct Coverage {
    pub(super) runs: usize,
    pub(super) cuts: usize,
    /// The number of states, and of cuts with more combinations than were tried.
    pub(super) states: BTreeMap<Model, (usize, usize)>,
    /// The states that were opened: those of several models or cuts with the same expectation only once.
    pub(super) opened: usize,
    pub(super) counts: Counts,
}

impl fmt::Display for Coverage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} runs, {} cuts, {} states opened;", self.runs, self.cuts, self.opened)?;
        for (model, (states, bounded)) in &self.states {
            write!(out, " {model:?}: {states} states, {bounded} cuts bounded;")?;
        }
        writeln!(out)?;
        writeln!(out, "  calls: {:?}", self.counts.calls)?;
        write!(out, "  faults: {:?}", self.counts.faults)
    }
}

/// A directory whose calls are recorded, and the processes that use it.
pub(super) struct Run {
    files: Files,
    sync: bool,
    stores: Vec<Option<Store>>,
    pub(super) recorder: Recorder,
    expected: Expected,
    /// What may be on the disk from each position in the log on.
    history: Vec<(usize, Expected)>,
    /// Whether a change counts as acknowledged before its last sync: a planted bug.
    early: bool,
    /// Whether a close has failed.
    closing: bool,
    scratch: Scratch,
    live: PathBuf,
}

/// Directories for the states, in memory if possible.
struct Scratch {
    states: PathBuf,
    /// Only to avoid real syncs.
    _quiet: Recorder,
    base: tempfile::TempDir,
}

impl Scratch {
    fn new() -> Self {
        let base = larder_power_cuts::scratch().unwrap();
        let states = base.path().join("states");
        fs::create_dir(&states).unwrap();
        let quiet = Recorder::start(&states).unwrap();
        quiet.pause();
        Self { states, _quiet: quiet, base }
    }
}

impl Run {
    pub(super) fn new(files: Files, sync: bool) -> Self {
        let scratch = Scratch::new();
        let live = scratch.base.path().join("live");
        fs::create_dir(&live).unwrap();
        let expected = match files {
            Files::Snapshot => Expected::Whole(vec![Entries::new()]),
            _ => Expected::Each(KEYS.iter().map(|name| (key(name), vec![None])).collect()),
        };
        let history = vec![(0, expected.clone())];
        let recorder = Recorder::start(&live).unwrap();
        let stores = Vec::new();
        Self { files, sync, stores, recorder, expected, history, early: false, closing: false, scratch, live }
    }

    pub(super) fn early(mut self) -> Self {
        self.early = true;
        self
    }

    /// Runs the steps, which must succeed, and then starts the record.
    pub(super) async fn set_up(&mut self, steps: &[Step]) {
        self.steps(steps).await;
        self.recorder.restart().unwrap();
        self.history = vec![(0, self.expected.clone())];
    }

    /// Runs the steps, which must be answered.
    pub(super) async fn steps(&mut self, steps: &[Step]) {
        for step in steps {
            assert_eq!(self.step(step).await, End::Answered, "{:?}: {step:?}", self.files);
        }
    }

    pub(super) async fn step(&mut self, step: &Step) -> End {
        let end = match step {
            Step::Open(process) => match self.files.open(&self.live, self.sync, false).await {
                Ok(store) => {
                    self.stores.resize((*process + 1).max(self.stores.len()), None);
                    self.stores[*process] = Some(store);
                    End::Answered
                }
                Err(_) => End::Failed,
            },
            Step::Do(_, operation) if self.files == Files::Grammy && operation.expires() => End::Answered,
            Step::Do(process, operation) => match self.stores.get(*process).cloned().flatten() {
                Some(store) => self.operate(&store, operation).await,
                None => End::Failed,
            },
            Step::Flush(process) | Step::Close(process) | Step::Drop(process) => {
                match self.stores.get(*process).cloned().flatten() {
                    Some(store) => self.release(store, step).await,
                    None => End::Failed,
                }
            }
        };
        if self.recorder.is_dead() {
            // Locks are released when the handles are closed.
            self.stores.clear();
            return End::Died;
        }
        end
    }

    /// Ends all processes, and starts again.
    pub(super) fn kill(&mut self) {
        self.recorder.fail(0, Fault::Kill);
        self.stores.clear();
        self.recorder.revive();
    }

    /// Flushes, closes or drops the storage, which saves a snapshot.
    async fn release(&mut self, store: Store, step: &Step) -> End {
        let mut saved = None;
        if let Expected::Whole(old) = &self.expected {
            // After a close that failed, only another close is possible. The last entries are those it has to save.
            let new = match list(&store).await {
                Err(_) if self.closing => old[old.len() - 1].clone(),
                entries => entries.unwrap(),
            };
            let new = vec![new];
            let either = [&old[..], &new].concat();
            self.expect(1, Expected::Whole(either.clone()));
            saved = Some((new, either));
        }
        let done = match step {
            Step::Flush(_) => store.flush().await,
            Step::Close(_) => store.close().await,
            _ => Ok(()),
        };
        self.closing = matches!(step, Step::Close(_)) && done.is_err();
        if let (Step::Close(process), true) | (Step::Drop(process), _) = (step, done.is_ok()) {
            self.stores[*process] = None;
        }
        drop(store);
        if let Some((new, either)) = saved {
            let acknowledged = done.is_ok() && !matches!(step, Step::Drop(_)) && !self.recorder.is_dead();
            self.acknowledge(Expected::Whole(if acknowledged { new } else { either }), acknowledged);
        }
        if done.is_ok() { End::Answered } else { End::Failed }
    }

    async fn operate(&mut self, store: &Store, operation: &Do) -> End {
        let Expected::Each(keys) = self.expected.clone() else {
            let done = perform(store, operation, &BTreeMap::new()).await;
            return if done.iter().all(Result::is_ok) { End::Answered } else { End::Failed };
        };
        let before = self.live().await;
        let mut running = keys.clone();
        running.iter_mut().for_each(|(key, states)| operation.begin(key, states));
        self.expect(1, Expected::Each(running.clone()));
        let results = perform(store, operation, &before).await;
        let live = self.live().await;
        let mut after = if self.recorder.is_dead() { running } else { keys };
        for (key, states) in &mut after {
            let mut known = false;
            if !self.recorder.is_dead() {
                known = operation.end(key, states, &results);
            }
            let found: State = live.get(key).cloned();
            assert!(
                is_one_of(&found, states),
                "{:?}: {operation:?} returned {results:?}, but {} is {found:?} instead of {states:?}",
                self.files,
                key.as_str(),
            );
            if known {
                *states = vec![found];
            }
        }
        let answered = results.iter().all(is_answer);
        self.acknowledge(Expected::Each(after), answered);
        if answered { End::Answered } else { End::Failed }
    }

    /// Returns the entries that another process reads now.
    async fn live(&self) -> Entries {
        self.recorder.pause();
        let live = match self.files.open(&self.live, true, true).await {
            Ok(store) => list(&store).await.unwrap(),
            // The directory does not exist yet.
            Err(error) if error.kind() == ErrorKind::InvalidConfig => Entries::new(),
            Err(error) => panic!("{:?}: the files cannot be opened: {error:?}", self.files),
        };
        self.recorder.resume();
        live
    }

    /// Sets what may be on the disk after `calls` more calls.
    fn expect(&mut self, calls: usize, expected: Expected) {
        self.history.push((self.recorder.len() + calls, expected.clone()));
        self.expected = expected;
    }

    fn acknowledge(&mut self, expected: Expected, answered: bool) {
        self.expect(0, expected);
        if let Some((at, _)) = self.history.last_mut().filter(|_| self.early && answered) {
            *at = self.recorder.log().last_sync().unwrap_or(*at);
        }
    }

    /// Creates and opens the states of all cuts from the call `from` on. Returns the first violation per model.
    pub(super) async fn violations(
        &self,
        from: usize,
        bug: Option<Bug>,
        models: &[Model],
        how: &How,
        coverage: &mut Coverage,
    ) -> Vec<Violation> {
        self.recorder.check().unwrap();
        let mut log = self.recorder.log();
        if let Some(bug) = bug {
            log = log.with_bug(bug);
        }
        let mut violations: Vec<Violation> = Vec::new();
        // With the place of the expectation.
        let mut seen: HashSet<(Tree, usize)> = HashSet::new();
        coverage.runs += 1;
        coverage.counts.add(&self.recorder.counts());
        for cut in from..=log.len() {
            let expected = self.history.iter().rposition(|(at, _)| *at <= cut).unwrap_or(0);
            coverage.cuts += 1;
            for model in models {
                if violations.iter().any(|violation| violation.model == *model) {
                    continue;
                }
                let states = log.states(*model, cut, &how.bounds);
                let covered = coverage.states.entry(*model).or_default();
                covered.0 += states.trees.len();
                covered.1 += usize::from(!states.complete);
                for state in states.trees {
                    let state = state.without(how.hidden);
                    if !seen.insert((state.clone(), expected)) {
                        continue;
                    }
                    coverage.opened += 1;
                    if let Err(reason) = self.check(&state, &self.history[expected].1).await {
                        let log = log.clone();
                        violations.push(Violation { model: *model, cut, reason, state, log });
                        break;
                    }
                }
            }
        }
        violations
    }

    /// Opens a state of the disk, and checks that it has the expected entries and is usable.
    async fn check(&self, state: &Tree, expected: &Expected) -> Result<(), String> {
        let root = self.scratch.states.join("state");
        fs::create_dir(&root).unwrap();
        state.create(&root).unwrap();
        let checked = self.check_files(&root, expected).await;
        fs::remove_dir_all(&root).unwrap();
        checked
    }

    async fn check_files(&self, root: &Path, expected: &Expected) -> Result<(), String> {
        let store = self.files.open(root, true, false).await;
        let store = store.map_err(|error| format!("the storage cannot be opened: {error:?}"))?;
        let found = list(&store).await?;
        if !expected.allows(&found) {
            return Err(format!("the entries are {found:#?}, expected {expected:#?}"));
        }
        let is_usable = async {
            let mut keys: Vec<_> = found.keys().cloned().collect();
            keys.extend((!found.contains_key(A)).then(|| key(A)));
            let put = |key: &Key| {
                let version = found.get(key).and_then(|entry| entry.version().cloned());
                Change::put(key.clone(), "[77]", Expiry::Never).on(Condition::unchanged(version))
            };
            for written in store.apply(keys.iter().map(put).collect()).await {
                written?;
            }
            for read in store.read_many(&keys, &ReadOptions::new()).await {
                assert_eq!(read?.unwrap().value, "[77]");
            }
            for deleted in store
                .apply(keys.iter().filter(|key| key.as_str() != A).cloned().map(Change::delete).collect())
                .await
            {
                assert!(deleted?.existed());
            }
            store.close().await
        };
        is_usable.await.map_err(|error: Error| format!("an operation fails: {error:?}"))?;
        let store =
            self.files.open(root, true, false).await.map_err(|error| format!("reopened: {error:?}"))?;
        let names: Vec<_> = list(&store).await?.into_keys().collect();
        if names == [key(A)] { Ok(()) } else { Err(format!("after a write and a close: {names:?}")) }
    }
}

/// How states are chosen and checked.
pub(super) struct How {
    pub(super) bounds: Bounds,
    /// Directories whose content does not matter.
    pub(super) hidden: &'static [&'static str],
}

/// Returns the entries, after checking that a listing and reads agree.
async fn list(store: &Store) -> Result<Entries, String> {
    let mut entries = Entries::new();
    let mut listing = store.list(ListOptions::new());
    while let Some(entry) = listing.next().await {
        let entry = entry.map_err(|error| format!("the listing has an error: {error:?}"))?;
        entries.insert(entry.key, Entry::new(entry.record.unwrap()));
    }
    if let Some(key) = entries.keys().find(|key| !KEYS.contains(&key.as_str())) {
        return Err(format!("the listing has another key: {}", key.as_str()));
    }
    let keys = KEYS.map(key);
    let options = if store.info().expiry { ReadOptions::new().with_ttl() } else { ReadOptions::new() };
    let read = store.read_many(&keys, &options).await;
    for (key, record) in keys.iter().zip(read) {
        let record = record.map_err(|error| format!("{} cannot be read: {error:?}", key.as_str()))?;
        let listed = entries.get(key);
        let state = record.map(Entry::new);
        if !is_one_of(&state, &[listed.cloned()]) {
            return Err(format!("{} is listed as {listed:?}, but read as {state:?}", key.as_str()));
        }
    }
    Ok(entries)
}

/// Makes the operation. Returns one result per part.
async fn perform(store: &Store, operation: &Do, before: &Entries) -> Vec<Result<()>> {
    let expiry = |ttl: &Option<u64>| ttl.map_or(Expiry::Never, Expiry::after_secs);
    let condition = |name: &str, condition: &If| match condition {
        If::Any => Condition::Any,
        If::Absent => Condition::Absent,
        If::Present => Condition::Present,
        If::Unchanged => {
            let version = before.get(name).and_then(|entry| entry.version().cloned());
            Condition::At(version.unwrap_or_else(Version::unique))
        }
    };
    let change = |part: &Do| match part {
        Do::Put(name, value, ttl, on) => {
            Change::put(key(name), value.clone(), expiry(ttl)).on(condition(name, on))
        }
        Do::Delete(name, on) => Change::delete(key(name)).on(condition(name, on)),
        Do::Touch(name, ttl, on) => Change::touch(key(name), expiry(ttl)).on(condition(name, on)),
        other => unreachable!("{other:?} in a batch"),
    };
    match operation {
        Do::Put(name, value, ttl, on) => {
            let options = WriteOptions::new().expiry(expiry(ttl)).condition(condition(name, on));
            vec![store.write_with(&key(name), value.clone().into(), &options).await.map(drop)]
        }
        Do::Delete(name, on) => {
            let options = DeleteOptions::new().condition(condition(name, on));
            vec![store.delete_with(&key(name), &options).await.map(drop)]
        }
        Do::Touch(name, ttl, on) => {
            let options = TouchOptions::new().condition(condition(name, on));
            vec![store.touch_with(&key(name), expiry(ttl), &options).await.map(drop)]
        }
        Do::Read(name, ttl) => {
            let options = ReadOptions::new().with_touch(expiry(ttl));
            vec![store.read_with(&key(name), &options).await.map(drop)]
        }
        Do::Apply(parts) => {
            let applied = store.apply(parts.iter().map(change).collect()).await;
            applied.into_iter().map(|applied| applied.map(drop)).collect()
        }
        Do::Clear => vec![store.clear("").await.map(drop)],
        Do::Purge => vec![store.purge_expired().await.map(drop)],
    }
}
