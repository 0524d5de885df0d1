//! A caller, which makes calls one after the other and abandons some of them.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use fastrand::Rng;
use futures_util::future::BoxFuture;
use larder_core::{
    Action, Applied, Change, Condition, DeleteOptions, Expiry, ReadOptions, Result, Storage, TouchOptions,
    Version, WriteOptions,
};
use tokio::runtime::Handle;

use crate::{
    group_commit::{
        log::{Act, Answer, CallId, CallKind, Event},
        model::{State, World},
        options::{Fault, Options},
    },
    turns::step_aside,
};

/// Abandoned calls that the run drops outside every runtime.
pub(crate) type Abandoned = Arc<std::sync::Mutex<Vec<Guarded>>>;

/// The future of a call. Logs its first poll and its drop.
pub(crate) struct Guarded {
    world: Arc<World>,
    call: CallId,
    polled: bool,
    /// The runtime that it is polled within, if not its caller's.
    elsewhere: Option<Handle>,
    /// `None` once it was ready.
    future: Option<BoxFuture<'static, Vec<Answer>>>,
}

impl Guarded {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Vec<Answer>> {
        let first = !std::mem::replace(&mut self.polled, true);
        if first {
            let mut state = self.world.lock();
            state.log.push(Event::Polled(self.call));
            if self.elsewhere.is_some() {
                state.counts.count(Fault::PolledElsewhere);
            }
        }
        let Some(future) = &mut self.future else {
            return Poll::Pending;
        };
        let poll = {
            let _within = self.elsewhere.as_ref().map(Handle::enter);
            future.as_mut().poll(context)
        };
        let Poll::Ready(answers) = poll else {
            if first {
                self.world.lock().log.push(Event::Waits(self.call));
            }
            return Poll::Pending;
        };
        self.world.lock().log.push(Event::Replied(self.call, answers.clone()));
        self.future = None;
        Poll::Ready(answers)
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if self.future.is_some() {
            self.world.lock().dropped(self.call);
        }
    }
}

/// When a caller abandons its call.
#[derive(Clone, Copy)]
enum Abandon {
    Never,
    AfterPolls(u32),
    At(u64),
}

/// A call that its caller may abandon.
struct Abandonable {
    /// `None` once it has ended.
    call: Option<Guarded>,
    when: Abandon,
    /// The list for calls that are dropped outside every runtime, if this one is.
    outside: Option<Abandoned>,
    /// How often it is polled without being woken.
    spurious: u32,
}

impl Abandonable {
    fn abandon(&mut self, fault: Fault) -> Poll<Option<Vec<Answer>>> {
        if let Some(call) = self.call.take() {
            let mut state = call.world.lock();
            state.counts.count(fault);
            if self.outside.is_some() {
                state.counts.count(Fault::DroppedOutside);
            }
            drop(state);
            match &self.outside {
                Some(abandoned) => {
                    abandoned.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(call);
                }
                None => drop(call),
            }
        }
        Poll::Ready(None)
    }
}

impl Future for Abandonable {
    type Output = Option<Vec<Answer>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let when = self.when;
        let Some(call) = &mut self.call else {
            return Poll::Ready(None);
        };
        match when {
            Abandon::AfterPolls(0) => {
                return self.abandon(Fault::DroppedUnpolled);
            }
            Abandon::At(moment) if call.world.clock.now() >= moment => {
                return self.abandon(Fault::DroppedAtTime);
            }
            _ => {}
        }
        if let Poll::Ready(answers) = call.poll(context) {
            self.call = None;
            return Poll::Ready(Some(answers));
        }
        if let Abandon::AfterPolls(left) = when {
            self.when = Abandon::AfterPolls(left - 1);
            if left == 1 {
                return self.abandon(Fault::DroppedAfterPolls);
            }
        }
        if let (Abandon::At(moment), Some(call)) = (when, &self.call) {
            call.world.clock.wake_at(moment, call.call as u64, context.waker());
        }
        if self.spurious > 0 {
            self.spurious -= 1;
            context.waker().wake_by_ref();
            if let Some(call) = &self.call {
                call.world.lock().counts.count(Fault::SpuriousPoll);
            }
        }
        Poll::Pending
    }
}

/// The versions that a caller has seen, by the numbers of their keys.
type Seen = HashMap<usize, Version>;

pub(crate) struct Caller {
    pub(crate) world: Arc<World>,
    pub(crate) commit: Arc<dyn Storage>,
    pub(crate) rng: Rng,
    pub(crate) abandoned: Abandoned,
    /// Whether its last call is a close.
    pub(crate) closes: bool,
    /// The runtime that it polls its calls within, if not its own.
    pub(crate) elsewhere: Option<Handle>,
}

/// The answers, one per result.
fn answers<T>(results: &[Result<T>]) -> Vec<Answer>
where
    for<'a> Answer: From<&'a Result<T>>,
{
    results.iter().map(Answer::from).collect()
}

fn done(result: &Result<()>) -> Vec<Answer> {
    vec![result.as_ref().map_or_else(Answer::from, |()| Answer::Done)]
}

async fn change(commit: &dyn Storage, change: Change) -> Result<Applied> {
    let Change { key, action, condition, .. } = change;
    match action {
        Action::Put(value, expiry) => {
            let options = WriteOptions::new().expiry(expiry).condition(condition);
            commit.write(&key, value, &options).await.map(Applied::Put)
        }
        Action::Delete => {
            commit.delete(&key, &DeleteOptions::new().condition(condition)).await.map(Applied::Deleted)
        }
        Action::Touch(expiry) => {
            commit.touch(&key, expiry, &TouchOptions::new().condition(condition)).await.map(Applied::Touched)
        }
    }
}

impl Caller {
    fn chance(&mut self, of_100: u32) -> bool {
        self.rng.u32(0..100) < of_100
    }

    /// Makes the calls.
    pub(crate) async fn run(mut self) {
        let options = self.world.lock().options.clone();
        let mut seen = Seen::new();
        let calls = self.rng.usize(1..=options.calls);
        for last in (0..calls).rev() {
            self.pause(&options).await;
            if self.world.lock().closing {
                return;
            }
            if self.rng.u32(0..4) == 0 {
                self.look(&options, &mut seen).await;
            }
            let guarded =
                if last == 0 && self.closes { self.close() } else { self.call(&options, &mut seen) };
            let call = guarded.call;
            let is_close = last == 0 && self.closes;
            let answers = self.abandonable(guarded, &options, is_close).await;
            let state = self.world.lock();
            for (change, answer) in state.log.calls[call].changes.iter().zip(answers.iter().flatten()) {
                if let Answer::Put(Some(version)) | Answer::Read(Some(version)) = answer {
                    seen.insert(state.log.changes[*change].key, version.clone());
                }
            }
        }
    }

    async fn pause(&mut self, options: &Options) {
        let (turns, millis) = (self.rng.usize(0..3), self.rng.u64(0..3));
        step_aside(turns).await;
        if options.latency > 0 && millis > 0 && self.rng.bool() {
            let world = Arc::clone(&self.world);
            world.clock.sleep(millis).await;
        }
    }

    /// Reads a version, without a touch.
    async fn look(&mut self, options: &Options, seen: &mut Seen) {
        let number = self.rng.usize(0..options.keys);
        if let Ok(Some(record)) = self.commit.read(&State::key(number), &ReadOptions::new()).await
            && let Some(version) = record.version
        {
            seen.insert(number, version);
        }
    }

    fn abandonable(&mut self, call: Guarded, options: &Options, is_close: bool) -> Abandonable {
        let when = if is_close {
            Abandon::Never
        } else if !self.chance(options.dropping) {
            let goes = options.handle_drops.filter(|_| self.rng.bool());
            goes.map_or(Abandon::Never, Abandon::At)
        } else if self.rng.bool() {
            Abandon::AfterPolls(self.rng.u32(0..5))
        } else {
            Abandon::At(self.world.clock.now() + self.rng.u64(0..6))
        };
        let outside = (self.rng.u32(0..3) == 0).then(|| Arc::clone(&self.abandoned));
        let spurious = if options.spurious { self.rng.u32(0..4) } else { 0 };
        Abandonable { call: Some(call), when, outside, spurious }
    }

    fn guard(&self, call: CallId, future: BoxFuture<'static, Vec<Answer>>) -> Guarded {
        let (world, elsewhere) = (Arc::clone(&self.world), self.elsewhere.clone());
        Guarded { world, call, polled: false, elsewhere, future: Some(future) }
    }

    fn close(&mut self) -> Guarded {
        let mut state = self.world.lock();
        state.closing = true;
        let call = state.new_call(CallKind::Close);
        drop(state);
        let commit = Arc::clone(&self.commit);
        self.guard(call, Box::pin(async move { done(&commit.close().await) }))
    }

    fn call(&mut self, options: &Options, seen: &mut Seen) -> Guarded {
        let commit = Arc::clone(&self.commit);
        if self.chance(options.barriers) {
            let kind = match self.rng.u32(0..4) {
                0 => CallKind::Flush,
                _ => CallKind::Clear(State::prefix(self.rng.usize(0..3))),
            };
            let call = self.world.lock().new_call(kind.clone());
            return self.guard(
                call,
                Box::pin(async move {
                    match kind {
                        CallKind::Clear(prefix) => done(&commit.clear(prefix).await.map(drop)),
                        _ => done(&commit.flush().await),
                    }
                }),
            );
        }
        if self.chance(options.several) {
            let count = self.rng.usize(0..5);
            if self.chance(options.others) && self.rng.bool() {
                return self.read_many(options, count);
            }
            let picked: Vec<_> = (0..count).map(|_| self.pick(options, seen, false)).collect();
            let mut state = self.world.lock();
            let call = state.new_call(CallKind::Change);
            let changes: Vec<_> = picked
                .into_iter()
                .map(|(number, act, condition)| state.new_change(call, number, act, condition))
                .collect();
            drop(state);
            return self.guard(call, Box::pin(async move { answers(&commit.apply(changes).await) }));
        }
        let (number, act, condition) = self.pick(options, seen, true);
        let mut state = self.world.lock();
        let call = state.new_call(CallKind::Change);
        let asked = state.new_change(call, number, act, condition);
        if let Act::Read(expiry) = act {
            let options = ReadOptions::new().with_touch(expiry);
            drop(state);
            let read = async move { answers(&[commit.read(&asked.key, &options).await]) };
            return self.guard(call, Box::pin(read));
        }
        drop(state);
        self.guard(call, Box::pin(async move { answers(&[change(&*commit, asked).await]) }))
    }

    /// Reads and touches `count` entries.
    fn read_many(&mut self, options: &Options, count: usize) -> Guarded {
        let (commit, expiry) = (Arc::clone(&self.commit), self.expiry());
        let mut state = self.world.lock();
        let call = state.new_call(CallKind::Change);
        let mut keys = Vec::with_capacity(count);
        for _ in 0..count {
            let number = self.rng.usize(0..options.keys);
            keys.push(state.new_change(call, number, Act::Read(expiry), Condition::Any).key);
        }
        drop(state);
        let options = ReadOptions::new().with_touch(expiry);
        let read = async move { answers(&commit.read_many(&keys, &options).await) };
        self.guard(call, Box::pin(read))
    }

    fn expiry(&mut self) -> Expiry {
        if self.rng.u32(0..4) == 0 { Expiry::after_millis(self.rng.u64(1..20)) } else { Expiry::Never }
    }

    /// Chooses a change: the number of its key, its action, and its condition.
    fn pick(&mut self, options: &Options, seen: &Seen, reads: bool) -> (usize, Act, Condition) {
        let number = self.rng.usize(0..options.keys);
        let expiry = self.expiry();
        let act = if self.chance(options.others) {
            match self.rng.u32(0..3) {
                0 => Act::Delete,
                1 if reads => return (number, Act::Read(expiry), Condition::Any),
                _ => Act::Touch(expiry),
            }
        } else {
            Act::Put(expiry)
        };
        if !self.chance(options.conditional) {
            return (number, act, Condition::Any);
        }
        let condition = match (self.rng.u32(0..4), seen.get(&number)) {
            (0 | 1, Some(version)) => Condition::At(version.clone()),
            // A deletion or touch never arrives with `Absent`.
            (2, _) if matches!(act, Act::Put(_)) => Condition::Absent,
            _ => Condition::Present,
        };
        (number, act, condition)
    }
}

/// A put at the end of a run, which must succeed.
pub(crate) fn last_put(world: &Arc<World>, commit: &Arc<dyn Storage>, number: usize) -> Guarded {
    let mut state = world.lock();
    let call = state.new_call(CallKind::Change);
    let asked = state.new_change(call, number, Act::Put(Expiry::Never), Condition::Any);
    drop(state);
    let commit = Arc::clone(commit);
    let future: BoxFuture<'static, Vec<Answer>> =
        Box::pin(async move { answers(&[change(&*commit, asked).await]) });
    Guarded { world: Arc::clone(world), call, polled: false, elsewhere: None, future: Some(future) }
}

impl Future for Guarded {
    type Output = Vec<Answer>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Self::poll(&mut self, context)
    }
}
