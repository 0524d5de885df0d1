//! The store under the group commit: a map in memory with versions, conditions and expiry. It fails as the seed
//! decides, and logs its actions.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use fastrand::Rng;
use futures_util::future::join_all;
use larder_core::{
    Action, Applied, Bytes, Change, Condition, DeleteOptions, Error, ErrorKind, Expiry, Info, Key,
    ReadOptions, Record, Result, Storage, TouchOptions, Version, Versions, WriteOptions, Written,
    async_trait,
};

use crate::{
    group_commit::{
        clock::Clock,
        log::{Act, Answer, Asked, BatchId, Call, CallId, CallKind, ChangeId, Event, Log},
        options::{Counts, Fault, Options},
    },
    turns::step_aside,
};

/// The milliseconds after which a call times out.
const TIMEOUT: u64 = 10;

/// The keys, with two prefixes.
const KEYS: [&str; 8] = ["a:0", "b:1", "a:2", "b:3", "a:4", "b:5", "a:6", "b:7"];
/// The prefixes of clears.
const PREFIXES: [&str; 3] = ["", "a:", "b:"];

/// The state of a run, for callers, store and checker.
pub(crate) struct World {
    pub(crate) clock: Clock,
    /// The number of existing stores.
    stores: AtomicUsize,
    state: Mutex<State>,
}

pub(crate) struct State {
    pub(crate) log: Log,
    pub(crate) counts: Counts,
    pub(crate) options: Options,
    pub(crate) rng: Rng,
    /// Whether faults have ended.
    pub(crate) calm: bool,
    /// Whether no new calls begin: a caller has closed the storage, or its handles are being dropped.
    pub(crate) closing: bool,
    /// Whether the run is over: a call that is dropped now was not answered in time.
    pub(crate) over: bool,
    /// Whether a runtime is ending, with its batches.
    pub(crate) ending: bool,
    pub(crate) closed: bool,
    entries: BTreeMap<usize, Entry>,
    versions: u64,
    batches: BatchId,
    open: HashSet<BatchId>,
    /// The changes by the address of the text of their keys. A clone of a key shares its text, so the address
    /// identifies the change that the group commit sends.
    by_address: HashMap<usize, ChangeId>,
    /// Keeps the keys alive, so that their addresses are not used again.
    keys: Vec<Key>,
    /// Whether each value still exists.
    values: HashMap<ChangeId, Arc<AtomicBool>>,
    /// Calls whose callers are gone.
    gone: HashSet<CallId>,
    /// The changes that the store has received.
    sent: HashSet<ChangeId>,
}

struct Entry {
    writer: ChangeId,
    version: Version,
    deadline: Option<u64>,
}

/// A value that clears a flag when it is dropped.
struct Value(Vec<u8>, Arc<AtomicBool>);

impl AsRef<[u8]> for Value {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        self.1.store(false, Ordering::Relaxed);
    }
}

impl World {
    pub(crate) fn new(options: Options, rng: Rng) -> Arc<Self> {
        let state = State {
            log: Log::default(),
            counts: Counts::default(),
            options,
            rng,
            calm: false,
            closing: false,
            over: false,
            ending: false,
            closed: false,
            entries: BTreeMap::new(),
            versions: 0,
            batches: 0,
            open: HashSet::new(),
            by_address: HashMap::new(),
            keys: Vec::new(),
            values: HashMap::new(),
            gone: HashSet::new(),
            sent: HashSet::new(),
        };
        Arc::new(Self { clock: Clock::default(), stores: AtomicUsize::new(0), state: Mutex::new(state) })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a store still exists.
    pub(crate) fn is_held(&self) -> bool {
        self.stores.load(Ordering::Relaxed) > 0
    }

    async fn pause(&self, (millis, turns): (u64, usize)) {
        step_aside(turns).await;
        if millis > 0 {
            self.clock.sleep(millis).await;
        }
    }
}

impl State {
    /// The key with a number. Callers use the first ones; the puts at the end of a run use all of them.
    pub(crate) fn key(number: usize) -> Key {
        match Key::new(KEYS[number % KEYS.len()]) {
            Ok(key) => key,
            Err(error) => unreachable!("{error}"),
        }
    }

    pub(crate) fn new_call(&mut self, kind: CallKind) -> CallId {
        self.log.calls.push(Call { kind, changes: Vec::new() });
        self.log.calls.len() - 1
    }

    /// Records a change of `call`, and returns it.
    pub(crate) fn new_change(
        &mut self,
        call: CallId,
        number: usize,
        act: Act,
        condition: Condition,
    ) -> Change {
        let id = self.log.changes.len();
        let key = Self::key(number);
        self.by_address.insert(key.as_str().as_ptr() as usize, id);
        self.keys.push(key.clone());
        let change = match act {
            Act::Put(expiry) => {
                let exists = Arc::new(AtomicBool::new(true));
                self.values.insert(id, Arc::clone(&exists));
                let text = format!("{id:<width$}", width = id % 7);
                Change::put(key, Bytes::from_owner(Value(text.into_bytes(), exists)), expiry)
            }
            Act::Delete => Change::delete(key),
            Act::Touch(expiry) | Act::Read(expiry) => Change::touch(key, expiry),
        };
        let change = change.on(condition.clone());
        let place = self.log.calls[call].changes.len();
        self.log.calls[call].changes.push(id);
        self.log.changes.push(Asked { call, place, key: number, act, condition, size: change.size() });
        change
    }

    pub(crate) fn dropped(&mut self, call: CallId) {
        if self.over {
            return;
        }
        self.gone.insert(call);
        let open = self.log.calls[call].changes.iter().any(|change| self.sent.contains(change));
        if open {
            self.counts.count(Fault::DroppedInBatch);
        }
        self.log.push(Event::Dropped(call));
    }

    /// Logs the values that still exist although their callers are gone and the store has not received them.
    pub(crate) fn check_values(&mut self) {
        for (change, exists) in &self.values {
            let gone = self.gone.contains(&self.log.changes[*change].call);
            if gone && !self.sent.contains(change) && exists.load(Ordering::Relaxed) {
                self.log.events.push(Event::Kept(*change));
            }
        }
    }

    /// Whether a batch is under way.
    pub(crate) fn is_serving(&self) -> bool {
        !self.open.is_empty()
    }

    /// Checks the answers to the puts at the end of a run.
    pub(crate) fn check_last(&mut self, answers: &[Vec<Answer>]) {
        let expected = |answer: &Answer| match answer {
            Answer::Put(_) => !self.closed,
            other => self.closed && *other == Answer::from(&Error::closed()),
        };
        if answers.len() != KEYS.len() || !answers.iter().flatten().all(expected) {
            let violation = format!("after the faults, the puts have wrong answers: {answers:?}");
            self.log.push(Event::Broken(violation));
        }
    }

    fn fault(&mut self, fault: Fault) {
        self.counts.count(fault);
    }

    fn begin(&mut self, sent: &[Sent]) -> (BatchId, Plan) {
        let changes: Vec<_> = sent.iter().map(|sent| sent.id).collect();
        let batch = self.batches;
        self.batches += 1;
        self.open.insert(batch);
        self.sent.extend(&changes);
        self.log.push(Event::Begun(batch, changes));
        (batch, self.plan(sent.len()))
    }

    fn plan(&mut self, changes: usize) -> Plan {
        let (before, after) = (self.delay(), self.delay());
        let failing = !self.calm && self.rng.u32(0..100) < self.options.failing;
        let failures = &self.options.failures;
        let fault = (failing && !failures.is_empty()).then(|| failures[self.rng.usize(0..failures.len())]);
        let fault = fault.filter(|fault| *fault != Fault::PartlyApplied || changes > 1);
        if let Some(fault) = fault {
            self.fault(fault);
        }
        let chosen = self.rng.usize(0..changes.max(1));
        Plan { before, after, fault, chosen }
    }

    fn delay(&mut self) -> (u64, usize) {
        if self.calm {
            return (0, 0);
        }
        let delay = (self.rng.u64(0..=self.options.latency), self.rng.usize(0..=self.options.turns));
        if delay.0 > 0 {
            self.fault(Fault::Latency);
        }
        delay
    }

    /// Makes a change, if its condition holds.
    fn make(&mut self, batch: BatchId, sent: Sent, now: u64) -> Result<Applied> {
        let Sent { id, act, condition } = sent;
        let key = self.log.changes[id].key;
        self.entries.retain(|_, entry| entry.deadline.is_none_or(|deadline| deadline > now));
        let current = self.entries.get(&key).map(|entry| entry.version.clone());
        let deadline = |expiry: Expiry| expiry.as_millis().map(|millis| now + millis);
        let result = condition.check(current.as_ref()).map(|()| match act {
            Act::Put(expiry) => {
                self.versions += 1;
                let version = Version::from_token(self.versions);
                let entry = Entry { writer: id, version: version.clone(), deadline: deadline(expiry) };
                self.entries.insert(key, entry);
                Applied::Put(Written::at(version))
            }
            Act::Delete => Applied::Deleted(self.entries.remove(&key).is_some()),
            Act::Touch(expiry) | Act::Read(expiry) => {
                let entry = self.entries.get_mut(&key);
                Applied::Touched(entry.map(|entry| entry.deadline = deadline(expiry)).is_some())
            }
        });
        let did = match act {
            Act::Read(_) => Answer::Read(current),
            _ => Answer::from(&result),
        };
        if result.is_err() {
            self.fault(Fault::Conflicted);
        }
        self.log.push(Event::Made { batch, change: id, now, did });
        result
    }

    fn record(&self, key: usize) -> Option<Record> {
        let entry = self.entries.get(&key)?;
        Some(Record::at(Bytes::from(entry.writer.to_string()), entry.version.clone()))
    }
}

/// The plan of the store for a batch.
struct Plan {
    before: (u64, usize),
    after: (u64, usize),
    fault: Option<Fault>,
    /// The change that is refused, or at which the failure begins.
    chosen: usize,
}

/// A change as the store has received it.
struct Sent {
    id: ChangeId,
    act: Act,
    condition: Condition,
}

/// The store. Its state is in the [`World`].
pub(crate) struct Model(Arc<World>);

impl Drop for Model {
    fn drop(&mut self) {
        self.0.stores.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A batch under way. The store may serve a sent request although its future was dropped.
struct Serving<'a> {
    world: &'a World,
    batch: BatchId,
    rest: std::vec::IntoIter<Sent>,
    done: bool,
}

impl Serving<'_> {
    fn make(&mut self, sent: Sent) -> Result<Applied> {
        let now = self.world.clock.now();
        self.world.lock().make(self.batch, sent, now)
    }

    fn end(mut self, results: Vec<Result<Applied>>) -> Vec<Result<Applied>> {
        self.done = true;
        let answers = results.iter().map(Answer::from).collect();
        let mut state = self.world.lock();
        state.open.remove(&self.batch);
        state.log.push(Event::Ended(self.batch, Some(answers)));
        drop(state);
        results
    }
}

impl Drop for Serving<'_> {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let now = self.world.clock.now();
        let mut state = self.world.lock();
        if state.rng.bool() && self.rest.len() > 0 {
            state.fault(Fault::DroppedInStore);
            for sent in self.rest.by_ref() {
                let _ = state.make(self.batch, sent, now);
            }
        }
        if !state.ending && !std::thread::panicking() {
            let violation = format!("batch {} was dropped although its runtime continues", self.batch);
            state.log.push(Event::Broken(violation));
        }
        state.open.remove(&self.batch);
        state.log.push(Event::Ended(self.batch, None));
    }
}

impl Model {
    pub(crate) fn new(world: &Arc<World>) -> Self {
        world.stores.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(world))
    }

    /// Finds the requested changes, and logs a violation if the store got a different one.
    fn identify(&self, changes: &[Change]) -> Vec<Sent> {
        let mut state = self.0.lock();
        let mut sent = Vec::with_capacity(changes.len());
        for change in changes {
            let Some(id) = state.by_address.get(&(change.key.as_str().as_ptr() as usize)).copied() else {
                state
                    .log
                    .push(Event::Broken("the store got a change that no caller has requested".to_owned()));
                continue;
            };
            let asked = &state.log.changes[id];
            let value = match &change.action {
                Action::Put(value, _) => {
                    std::str::from_utf8(value).ok().and_then(|text| text.trim_end().parse().ok()) == Some(id)
                }
                _ => true,
            };
            let act = Act::of(&change.action);
            if !value || act != asked.act || change.condition != asked.condition {
                state.log.push(Event::Broken(format!(
                    "the store got change {id} as {act:?}, which differs from the request"
                )));
            }
            sent.push(Sent { id, act, condition: change.condition.clone() });
        }
        sent
    }

    fn identify_read(&self, key: &Key, expiry: Expiry) -> Option<Sent> {
        let mut state = self.0.lock();
        let id = state.by_address.get(&(key.as_str().as_ptr() as usize)).copied();
        if id.is_none_or(|id| state.log.changes[id].act != Act::Read(expiry)) {
            state.log.push(Event::Broken(format!("the store got a touching read of {id:?}")));
        }
        Some(Sent { id: id?, act: Act::Read(expiry), condition: Condition::Any })
    }

    async fn serve(&self, sent: Vec<Sent>) -> Vec<Result<Applied>> {
        let world = &*self.0;
        let (batch, plan) = world.lock().begin(&sent);
        let changes = sent.len();
        let mut serving = Serving { world, batch, rest: sent.into_iter(), done: false };
        let error = |kind| Error::new(kind, "injected");
        let unknown = |kind| (0..changes).map(|_| Err(error(kind))).collect::<Vec<_>>();
        if world.lock().closed {
            world.lock().fault(Fault::FoundClosed);
            let results = (0..changes).map(|_| Err(Error::closed())).collect();
            return serving.end(results);
        }
        match plan.fault {
            Some(Fault::NotSent) => {
                world.pause(plan.before).await;
                let results =
                    (0..changes).map(|_| Err(error(ErrorKind::Unavailable).not_applied())).collect();
                return serving.end(results);
            }
            Some(Fault::FailedBefore) => {
                world.pause(plan.before).await;
                return serving.end(unknown(ErrorKind::Unavailable));
            }
            Some(Fault::Panicked) => {
                world.pause(plan.before).await;
                // Does not print the message of a panic.
                std::panic::resume_unwind(Box::new("injected"));
            }
            Some(Fault::RequestLost) => {
                world.clock.sleep(TIMEOUT).await;
                return serving.end(unknown(ErrorKind::Timeout));
            }
            _ => world.pause(plan.before).await,
        }
        let mut results = Vec::with_capacity(changes);
        while let Some(sent) = serving.rest.next() {
            let place = results.len();
            match plan.fault {
                Some(Fault::Refused) if place == plan.chosen => {
                    results.push(Err(error(ErrorKind::StorageFull).not_applied()));
                    continue;
                }
                Some(Fault::PartlyApplied) if place == plan.chosen => {
                    if world.lock().rng.bool() {
                        let _ = serving.make(sent);
                    }
                    let failed = error(ErrorKind::Unavailable);
                    results.push(Err(failed.clone()));
                    results.extend(serving.rest.by_ref().map(|_| Err(failed.clone().not_applied())));
                    break;
                }
                _ => {}
            }
            results.push(serving.make(sent));
            let turns = {
                let mut state = world.lock();
                if state.options.turns > 1 && state.rng.u32(0..4) == 0 { 1 } else { 0 }
            };
            step_aside(turns).await;
        }
        if plan.fault == Some(Fault::ReplyLost) {
            world.clock.sleep(TIMEOUT).await;
            return serving.end(unknown(ErrorKind::Timeout));
        }
        world.pause(plan.after).await;
        if plan.fault == Some(Fault::FailedAfter) {
            return serving.end(unknown(ErrorKind::Unavailable));
        }
        serving.end(results)
    }

    async fn serve_one(&self, change: Change) -> Result<Applied> {
        let sent = self.identify(std::slice::from_ref(&change));
        drop(change);
        self.serve(sent)
            .await
            .pop()
            .unwrap_or_else(|| Err(Error::new(ErrorKind::Other, "the store has no result")))
    }

    /// Runs a clear, flush or close.
    async fn enter(&self, kind: CallKind, act: impl FnOnce(&mut State) + Send) -> Result<()> {
        struct Left<'a>(&'a World, CallKind);
        impl Drop for Left<'_> {
            fn drop(&mut self) {
                self.0.lock().log.push(Event::Left(self.1.clone()));
            }
        }
        let world = &*self.0;
        let plan = {
            let mut state = world.lock();
            state.log.push(Event::Entered(kind.clone()));
            state.plan(1)
        };
        let _left = Left(world, kind);
        world.pause(plan.before).await;
        match plan.fault {
            Some(Fault::NotSent | Fault::Refused) => {
                return Err(Error::new(ErrorKind::Unavailable, "injected").not_applied());
            }
            Some(Fault::FailedBefore | Fault::RequestLost) => {
                return Err(Error::new(ErrorKind::Unavailable, "injected"));
            }
            _ => {}
        }
        {
            let mut state = world.lock();
            if state.closed {
                return Err(Error::closed());
            }
            act(&mut state);
        }
        world.pause(plan.after).await;
        if matches!(plan.fault, Some(Fault::FailedAfter | Fault::ReplyLost)) {
            return Err(Error::new(ErrorKind::Unavailable, "injected"));
        }
        Ok(())
    }
}

#[async_trait]
impl Storage for Model {
    fn info(&self) -> Info {
        Info::minimal("model").with_expiry().with_versions(Versions::Unique)
    }

    async fn read(&self, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
        let number = KEYS.iter().position(|name| *name == key.as_str()).unwrap_or(0);
        let Some(expiry) = options.touch else {
            return Ok(self.0.lock().record(number));
        };
        let Some(sent) = self.identify_read(key, expiry) else { return Ok(None) };
        let id = sent.id;
        let made = self.serve(vec![sent]).await.pop().unwrap_or(Ok(Applied::Touched(false)))?;
        Ok(if made.existed() { self.0.lock().read_by(id) } else { None })
    }

    async fn read_many(&self, keys: &[Key], options: &ReadOptions) -> Vec<Result<Option<Record>>> {
        let Some(expiry) = options.touch else {
            return join_all(keys.iter().map(|key| self.read(key, options))).await;
        };
        let sent: Vec<_> = keys.iter().filter_map(|key| self.identify_read(key, expiry)).collect();
        let ids: Vec<_> = sent.iter().map(|sent| sent.id).collect();
        let made = self.serve(sent).await;
        let state = self.0.lock();
        let records = made
            .into_iter()
            .zip(ids)
            .map(|(made, id)| made.map(|made| if made.existed() { state.read_by(id) } else { None }));
        records.collect()
    }

    async fn write(&self, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        let change = Change::put(key.clone(), value, options.expiry).on(options.condition.clone());
        self.serve_one(change).await.map(Applied::written)
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<bool> {
        let change = Change::delete(key.clone()).on(options.condition.clone());
        self.serve_one(change).await.map(|applied| applied.existed())
    }

    async fn touch(&self, key: &Key, expiry: Expiry, options: &TouchOptions) -> Result<bool> {
        let change = Change::touch(key.clone(), expiry).on(options.condition.clone());
        self.serve_one(change).await.map(|applied| applied.existed())
    }

    async fn apply(&self, changes: Vec<Change>) -> Vec<Result<Applied>> {
        let sent = self.identify(&changes);
        drop(changes);
        self.serve(sent).await
    }

    async fn clear(self: Arc<Self>, prefix: &str) -> Result<u64> {
        let prefix = PREFIXES.into_iter().find(|known| *known == prefix).unwrap_or("");
        let mut removed = 0;
        self.enter(CallKind::Clear(prefix), |state| {
            let before = state.entries.len();
            state.entries.retain(|key, _| !KEYS[*key].starts_with(prefix));
            removed = before - state.entries.len();
            state.log.push(Event::Cleared(prefix));
        })
        .await?;
        Ok(removed as u64)
    }

    async fn flush(&self) -> Result<()> {
        self.enter(CallKind::Flush, |_| ()).await
    }

    async fn close(&self) -> Result<()> {
        self.enter(CallKind::Close, |state| state.closed = true).await
    }
}

impl State {
    /// The record that the read `id` has found, from the log.
    fn read_by(&self, id: ChangeId) -> Option<Record> {
        self.log.events.iter().rev().find_map(|event| match event {
            Event::Made { change, did: Answer::Read(version), .. } if *change == id => {
                version.clone().map(|version| Record::at(Bytes::new(), version))
            }
            _ => None,
        })
    }

    /// One of the prefixes of clears.
    pub(crate) fn prefix(number: usize) -> &'static str {
        PREFIXES[number % PREFIXES.len()]
    }

    pub(crate) fn has_prefix(key: usize, prefix: &str) -> bool {
        KEYS[key].starts_with(prefix)
    }

    pub(crate) const KEYS: usize = KEYS.len();
}
