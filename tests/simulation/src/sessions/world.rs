//! The state of a run: the time, and the store that all processes share.
//!
//! A request lives in the store, not in its caller: it arrives and has its effect even if the caller is gone. Each
//! effect is atomic, is logged, and is checked at once.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use fastrand::Rng;
use larder_core::{
    Action, Applied, Bytes, Change, Condition, DeleteOptions, Error, ErrorKind, Expiry, Info, Key, Outcome,
    ReadOptions, Record, Result, Storage, TouchOptions, Version, Versions, WriteOptions, Written,
    async_trait,
};

use super::{
    check::Checks,
    log::Log,
    options::{Fault, Options},
    stored::Stored,
};
use crate::Counts;

/// The wall-clock time at the start of a run, in Unix milliseconds.
const EPOCH: i64 = 1_800_000_000_000;

pub(crate) type ProcessId = usize;
pub(crate) type RequestId = usize;

pub(crate) struct World(Mutex<State>);

pub(crate) struct State {
    /// Microseconds since the start of the run.
    pub(crate) now: u64,
    pub(crate) rng: Rng,
    pub(crate) options: Options,
    pub(crate) counts: Counts<Fault>,
    pub(crate) log: Log,
    /// Whether faults have ended.
    pub(crate) calm: bool,
    /// The broken promises.
    pub(crate) violations: Vec<String>,
    pub(crate) entries: BTreeMap<Key, Entry>,
    pub(crate) checks: Checks,
    agenda: BTreeMap<(u64, u64), Due>,
    /// The number of entries that the agenda has ever had.
    due: u64,
    versions: u64,
    requests: Vec<Request>,
    killed: Vec<bool>,
}

pub(crate) struct Entry {
    pub(crate) value: Bytes,
    pub(crate) stored: Stored,
    pub(crate) version: Version,
    /// Milliseconds of the store's clock.
    pub(crate) deadline: Option<u64>,
}

enum Due {
    Arrives(RequestId),
    Replies(RequestId),
    TimesOut(RequestId),
    Wakes(Waker),
}

/// One operation of a request.
enum Op {
    Read(Key, ReadOptions),
    Change(Change),
}

impl Op {
    const fn key(&self) -> &Key {
        match self {
            Self::Read(key, _) | Self::Change(Change { key, .. }) => key,
        }
    }
}

#[derive(Clone)]
enum Done {
    Read(Option<Record>),
    Applied(Applied),
}

struct Request {
    process: ProcessId,
    ops: Vec<Op>,
    fault: Option<Fault>,
    /// The results of the operations that have had their effect.
    results: Vec<Result<Done>>,
    arrived: bool,
    /// The client's connection was closed before the request was sent.
    cancelled: bool,
    /// The client has a result, or is gone.
    settled: bool,
    answer: Option<Vec<Result<Done>>>,
    waker: Option<Waker>,
}

impl World {
    pub(crate) fn new(options: Options, rng: Rng, keeps_log: bool) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            now: 0,
            rng,
            counts: Counts::default(),
            log: Log::new(keeps_log),
            calm: false,
            violations: Vec::new(),
            entries: BTreeMap::new(),
            checks: Checks::new(&options),
            options,
            agenda: BTreeMap::new(),
            due: 0,
            versions: 0,
            requests: Vec::new(),
            killed: Vec::new(),
        })))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps by the simulated clock.
    pub(crate) async fn sleep(&self, micros: u64) {
        let until = self.lock().now + micros;
        let mut due = None;
        std::future::poll_fn(|context| {
            let mut state = self.lock();
            if state.now >= until {
                return Poll::Ready(());
            }
            let waker = Due::Wakes(context.waker().clone());
            match due {
                Some(due) => drop(state.agenda.insert(due, waker)),
                None => due = Some(state.plan(until, waker)),
            }
            Poll::Pending
        })
        .await;
    }
}

impl State {
    pub(crate) const fn millis(&self) -> u64 {
        self.now / 1_000
    }

    /// The true wall-clock time at a moment of the store's clock.
    pub(crate) fn wall(millis: u64) -> i64 {
        EPOCH + i64::try_from(millis).unwrap_or(i64::MAX)
    }

    pub(crate) fn count(&mut self, fault: Fault) {
        self.counts.count(fault);
    }

    pub(crate) fn broken(&mut self, promise: String) {
        self.event(&format!("VIOLATION: {promise}"));
        self.violations.push(promise);
    }

    pub(crate) fn event(&mut self, event: &str) {
        self.log.push(self.now, &event);
    }

    pub(crate) fn new_process(&mut self) -> ProcessId {
        self.killed.push(false);
        self.killed.len() - 1
    }

    pub(crate) fn is_killed(&self, process: ProcessId) -> bool {
        self.killed[process]
    }

    /// Kills a process: nothing that it does has an effect any more, except for requests that are on their way.
    pub(crate) fn kill(&mut self, process: ProcessId) {
        self.killed[process] = true;
        let mut open = false;
        for request in
            self.requests.iter_mut().filter(|request| request.process == process && !request.arrived)
        {
            open = true;
            request.cancelled |= self.rng.bool();
        }
        if open {
            self.count(Fault::KilledDuringRequest);
        }
    }

    /// The time of the next entry of the agenda.
    pub(crate) fn next_due(&self) -> Option<u64> {
        self.agenda.keys().next().map(|(at, _)| *at)
    }

    /// Advances the time, with everything that is due.
    pub(crate) fn advance(&mut self, until: u64) {
        while let Some(due) = self.agenda.first_entry().filter(|due| due.key().0 <= until) {
            let ((at, _), due) = due.remove_entry();
            self.now = self.now.max(at);
            self.expire();
            match due {
                Due::Wakes(waker) => waker.wake(),
                Due::Arrives(request) => self.arrive(request),
                Due::Replies(request) => self.reply(request),
                Due::TimesOut(request) => {
                    let timeout = |_: &Op| Err(Error::new(ErrorKind::Timeout, "the store did not answer"));
                    if !self.requests[request].settled && self.requests[request].fault.is_none() {
                        self.count(Fault::SlowReply);
                    }
                    let answer = self.requests[request].ops.iter().map(timeout).collect();
                    self.settle(request, answer);
                }
            }
        }
        self.now = self.now.max(until);
        self.expire();
    }

    fn plan(&mut self, at: u64, due: Due) -> (u64, u64) {
        self.due += 1;
        self.agenda.insert((at, self.due), due);
        (at, self.due)
    }

    fn expire(&mut self) {
        let now = self.millis();
        let over = |entry: &Entry| entry.deadline.is_some_and(|deadline| deadline <= now);
        let expired: Vec<Key> =
            self.entries.iter().filter(|(_, entry)| over(entry)).map(|(key, _)| key.clone()).collect();
        for key in expired {
            self.event(&format!("{key} expires"));
            let entry = self.entries.remove(&key);
            self.expired(&key, entry);
            self.refresh(None);
        }
        self.refresh(None);
    }

    /// The number of requests that were made.
    pub(crate) const fn made(&self) -> usize {
        self.requests.len()
    }

    fn submit(&mut self, process: ProcessId, ops: Vec<Op>) -> RequestId {
        let id = self.requests.len();
        let dead = self.killed[process];
        let fault = if dead || self.calm { None } else { self.draw_fault(ops.len()) };
        self.requests.push(Request {
            process,
            ops,
            fault,
            results: Vec::new(),
            arrived: false,
            cancelled: dead,
            settled: dead,
            answer: None,
            waker: None,
        });
        if dead {
            return id;
        }
        let latency = if self.calm { 0 } else { self.options.units(1) * self.options.latency / 1_000 };
        let mut delay = || self.rng.u64(0..=latency);
        let (there, back) = (delay(), delay());
        let timeout = self.options.timeout();
        let (arrives, replies) = match fault {
            Some(Fault::NotSent | Fault::FailedBefore) => (None, Some(there + back)),
            Some(Fault::RequestLost) => (None, None),
            Some(Fault::ReplyLost) => (Some(there), None),
            Some(Fault::RequestLate) => (Some(timeout + self.rng.u64(0..=timeout)), None),
            _ => {
                // Sometimes slow, so that a reply comes after the timeout.
                let slow = if !self.calm && self.rng.u32(0..200) == 0 { timeout } else { 0 };
                (Some(there), Some(there + back + slow))
            }
        };
        let now = self.now;
        if let Some(arrives) = arrives {
            self.plan(now + arrives, Due::Arrives(id));
        }
        if let Some(replies) = replies.filter(|replies| *replies < timeout) {
            self.plan(now + replies, Due::Replies(id));
        }
        self.plan(now + timeout, Due::TimesOut(id));
        self.log_request(id);
        id
    }

    fn log_request(&mut self, id: RequestId) {
        let Request { process, ops, .. } = &self.requests[id];
        let mut line = format!("  process {process} request {id}:");
        for op in ops {
            let _ = match op {
                Op::Read(key, _) => write!(line, " read {key}"),
                Op::Change(Change { key, action, condition, .. }) => {
                    let condition = shown(condition);
                    match action {
                        Action::Put(_, expiry) => write!(line, " put {key} {expiry:?} if {condition}"),
                        Action::Delete => write!(line, " delete {key} if {condition}"),
                        Action::Touch(expiry) => write!(line, " touch {key} {expiry:?} if {condition}"),
                    }
                }
            };
        }
        self.event(&line);
    }

    fn draw_fault(&mut self, ops: usize) -> Option<Fault> {
        if self.rng.u32(0..100) >= self.options.failing || self.options.failures.is_empty() {
            return None;
        }
        let fault = self.options.failures[self.rng.usize(0..self.options.failures.len())];
        (fault != Fault::PartlyApplied || ops > 1).then_some(fault)
    }

    /// The request has its effect.
    fn arrive(&mut self, id: RequestId) {
        let request = &mut self.requests[id];
        if request.cancelled {
            return;
        }
        request.arrived = true;
        let (process, mut many) = (request.process, request.ops.len());
        if request.fault == Some(Fault::PartlyApplied) {
            many = self.rng.usize(1..many);
        }
        if self.killed[process] {
            self.count(Fault::RequestOfKilled);
        }
        for place in 0..many {
            let result = self.execute(id, place);
            self.requests[id].results.push(result);
            self.refresh(Some((process, id)));
        }
    }

    fn execute(&mut self, id: RequestId, place: usize) -> Result<Done> {
        let now = self.millis();
        let op = &self.requests[id].ops[place];
        let key = op.key().clone();
        let current = self.entries.get(&key);
        let deadline = |expiry: Expiry| expiry.as_millis().map(|millis| now + millis);
        let left = |entry: &Entry| Expiry::until(entry.deadline.map(State::wall), State::wall(now));
        match op {
            Op::Read(_, options) => {
                let Some(entry) = current else {
                    self.event(&format!("  request {id} found no {key}"));
                    return Ok(Done::Read(None));
                };
                let value = if options.value { entry.value.clone() } else { Bytes::new() };
                let mut record = Record::at(value, entry.version.clone());
                if options.ttl {
                    record = record.expires(left(entry).unwrap_or_default());
                }
                let line = format!("  request {id} read {key} {}", text(&entry.value));
                self.event(&line);
                Ok(Done::Read(Some(record)))
            }
            Op::Change(Change { action, condition, .. }) => {
                if let Err(error) = condition.check(current.map(|entry| &entry.version)) {
                    self.event(&format!("  request {id} conflicts at {key}"));
                    self.count(Fault::Conflicted);
                    return Err(error);
                }
                match action.clone() {
                    Action::Put(value, expiry) => {
                        self.versions += 1;
                        let version = if self.options.content_versions {
                            Version::from_content(value.clone())
                        } else {
                            Version::from_token(self.versions)
                        };
                        self.event(&format!("  request {id} put {key} {expiry:?} {}", text(&value)));
                        let Some(stored) = Stored::parse(key.as_str(), &value) else {
                            self.broken(format!(
                                "{key} has a value that is not as documented: {}",
                                text(&value)
                            ));
                            return Err(Error::new(ErrorKind::Other, "not as documented"));
                        };
                        self.replaced(&key, Some(&stored));
                        let entry =
                            Entry { value, stored, version: version.clone(), deadline: deadline(expiry) };
                        self.entries.insert(key, entry);
                        Ok(Done::Applied(Applied::Put(Written::at(version))))
                    }
                    Action::Delete => {
                        self.event(&format!("  request {id} deleted {key}"));
                        self.replaced(&key, None);
                        Ok(Done::Applied(Applied::Deleted(self.entries.remove(&key).is_some())))
                    }
                    Action::Touch(expiry) => {
                        let existed =
                            self.entries.get_mut(&key).map(|entry| entry.deadline = deadline(expiry));
                        self.event(&format!("  request {id} touched {key} {expiry:?}"));
                        self.touched(&key);
                        Ok(Done::Applied(Applied::Touched(existed.is_some())))
                    }
                }
            }
        }
    }

    fn reply(&mut self, id: RequestId) {
        let request = &self.requests[id];
        let unavailable = || Error::new(ErrorKind::Unavailable, "injected");
        let failed = |error: &dyn Fn() -> Error| request.ops.iter().map(|_| Err(error())).collect();
        let answer = match request.fault {
            Some(Fault::NotSent) => failed(&|| unavailable().not_applied()),
            Some(Fault::FailedBefore | Fault::FailedAfter) => failed(&unavailable),
            _ => {
                let mut answer = request.results.clone();
                // The one that the store may have made is unknown, and the rest was not sent.
                while answer.len() < request.ops.len() {
                    let unknown = answer.len() == request.results.len();
                    answer.push(Err(if unknown { unavailable() } else { unavailable().not_applied() }));
                }
                answer
            }
        };
        self.settle(id, answer);
    }

    fn settle(&mut self, id: RequestId, answer: Vec<Result<Done>>) {
        let request = &mut self.requests[id];
        if std::mem::replace(&mut request.settled, true) || self.killed[request.process] {
            return;
        }
        let error = answer.iter().find_map(|result| result.as_ref().err());
        let line = match error {
            Some(error) => format!("  request {id} answered {} {:?}", error.kind(), error.outcome()),
            None => format!("  request {id} answered"),
        };
        request.answer = Some(answer);
        let (fault, waker) = (request.fault, request.waker.take());
        self.event(&line);
        if let Some(fault) = fault {
            self.count(fault);
        }
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}

fn shown(condition: &Condition) -> String {
    match condition {
        Condition::At(version) => match version.as_token() {
            Some(token) => format!("at {token}"),
            None => "equal".to_owned(),
        },
        other => format!("{other:?}"),
    }
}

/// The connection of one process to the store.
pub(crate) struct Model {
    pub(crate) world: Arc<World>,
    pub(crate) process: ProcessId,
}

/// The answer to a request.
struct Answer<'a> {
    world: &'a World,
    request: RequestId,
}

impl Future for Answer<'_> {
    type Output = Vec<Result<Done>>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.world.lock();
        let request = &mut state.requests[self.request];
        match request.answer.take() {
            Some(answer) => Poll::Ready(answer),
            None => {
                request.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Answer<'_> {
    fn drop(&mut self) {
        let mut state = self.world.lock();
        let request = &mut state.requests[self.request];
        let process = request.process;
        if !std::mem::replace(&mut request.settled, true) && !state.killed[process] {
            state.count(Fault::DroppedDuringRequest);
        }
    }
}

impl Model {
    async fn send(&self, ops: Vec<Op>) -> Vec<Result<Done>> {
        let request = self.world.lock().submit(self.process, ops);
        Answer { world: &self.world, request }.await
    }

    async fn read_all(&self, keys: &[Key], options: &ReadOptions) -> Vec<Result<Option<Record>>> {
        let ops = keys.iter().map(|key| Op::Read(key.clone(), *options)).collect();
        let record = |done| match done {
            Done::Read(record) => record,
            Done::Applied(_) => None,
        };
        self.send(ops).await.into_iter().map(|result| result.map(record)).collect()
    }

    async fn change(&self, change: Change) -> Result<Applied> {
        self.apply(vec![change]).await.pop().unwrap_or_else(|| Err(Error::closed()))
    }
}

#[async_trait]
impl Storage for Model {
    fn info(&self) -> Info {
        let content = self.world.lock().options.content_versions;
        let versions = if content { Versions::Content } else { Versions::Unique };
        Info::minimal("model").with_expiry().with_versions(versions)
    }

    async fn read(&self, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
        let mut records = self.read_all(std::slice::from_ref(key), options).await;
        records.pop().unwrap_or_else(|| Err(Error::closed()))
    }

    async fn write(&self, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        let change = Change::put(key.clone(), value, options.expiry).on(options.condition.clone());
        self.change(change).await.map(Applied::written)
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<bool> {
        let change = Change::delete(key.clone()).on(options.condition.clone());
        self.change(change).await.map(|applied| applied.existed())
    }

    async fn touch(&self, key: &Key, expiry: Expiry, options: &TouchOptions) -> Result<bool> {
        let change = Change::touch(key.clone(), expiry).on(options.condition.clone());
        self.change(change).await.map(|applied| applied.existed())
    }

    async fn read_many(&self, keys: &[Key], options: &ReadOptions) -> Vec<Result<Option<Record>>> {
        self.read_all(keys, options).await
    }

    async fn apply(&self, changes: Vec<Change>) -> Vec<Result<Applied>> {
        if changes.is_empty() {
            return Vec::new();
        }
        let applied = |done| match done {
            Done::Applied(applied) => applied,
            Done::Read(_) => Applied::Deleted(false),
        };
        let ops = changes.into_iter().map(Op::Change).collect();
        self.send(ops).await.into_iter().map(|result| result.map(applied)).collect()
    }
}

/// Whether an error says that nothing was changed.
pub(crate) fn is_not_applied(error: &Error) -> bool {
    error.outcome() == Outcome::NotApplied
}
