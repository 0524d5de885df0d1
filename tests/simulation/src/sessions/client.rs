//! The callers of a process. Compiled twice: with the sessions of production, and with those that have planted bugs.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{Arc, Weak},
    task::Poll,
    time::Duration,
};

use fastrand::Rng;
use futures_util::future::{BoxFuture, Either, FutureExt, select};
use larder_core::{Key, Result, Store};

use super::session::{Lease, Leases, Lifetime, OpenSession, Session, Sessions, ok};
use crate::sessions::{
    check::{CallId, Kind, OWNERS, Told},
    options::{Fault, Life, Options},
    run::{Probe, Probes, Program},
    stored::{Chat, NAMES, PREFIX},
    world::{Model, ProcessId, World},
};

pub(crate) const PROGRAM: Program = Program { callers, finish };

/// What the callers of a process share.
#[derive(Clone)]
struct Handles {
    world: Arc<World>,
    process: ProcessId,
    options: Options,
    sessions: Sessions<Chat>,
    leases: Leases,
    probes: Probes,
}

struct Caller {
    handles: Handles,
    rng: Rng,
}

fn handles(world: &Arc<World>, process: ProcessId, probes: &Probes) -> Result<Handles> {
    let options = world.lock().options.clone();
    let store = Store::new(Model { world: Arc::clone(world), process });
    let life = match options.life {
        Life::Forever => Lifetime::forever(),
        Life::AfterWrite(life) => Lifetime::after_write(options.duration(life)),
        Life::Sliding(life) => Lifetime::sliding(options.duration(life)),
        Life::Both(life, most) => Lifetime::sliding(options.duration(life)).at_most(options.duration(most)),
    };
    let mut builder = Sessions::builder().storage(&store).prefix(PREFIX).lifetime(life);
    if options.merge {
        builder = builder.merge(Chat::merged);
    }
    if options.owners {
        builder = builder.owner(|chat: &Chat| chat.owner.clone());
    }
    if let Some(most) = options.most {
        builder = builder.max_per_owner(most);
    }
    let ttl = Duration::from_millis(options.ttl);
    let leases = Leases::new(&store).with_ttl(ttl).with_wait_limit(4 * ttl);
    Ok(Handles {
        world: Arc::clone(world),
        process,
        options,
        sessions: builder.build()?,
        leases,
        probes: Arc::clone(probes),
    })
}

/// The callers of a process.
fn callers(
    world: &Arc<World>,
    process: ProcessId,
    probes: &Probes,
    rng: &mut Rng,
) -> Vec<BoxFuture<'static, ()>> {
    let handles = match handles(world, process, probes) {
        Ok(handles) => handles,
        Err(error) => {
            world.lock().broken(format!("the sessions cannot be built: {error}"));
            return Vec::new();
        }
    };
    let caller = |_| Caller { handles: handles.clone(), rng: rng.fork() }.run().boxed();
    (0..handles.options.callers).map(caller).collect()
}

/// After the faults: reads every key, signs in, and acquires every lease.
fn finish(world: &Arc<World>, process: ProcessId, probes: &Probes) -> BoxFuture<'static, ()> {
    let (world, probes) = (Arc::clone(world), Arc::clone(probes));
    async move {
        if let Err(error) = finish_all(&world, process, &probes).await {
            world.lock().broken(format!("after the faults, a call failed: {error}"));
        }
    }
    .boxed()
}

async fn finish_all(world: &Arc<World>, process: ProcessId, probes: &Probes) -> Result<()> {
    let handles = handles(world, process, probes)?;
    let Handles { options, sessions, leases, .. } = &handles;
    for (key, name) in NAMES.iter().enumerate().take(options.keys) {
        let call = world.lock().call(process, Kind::Get { key });
        let chat = sessions.get(*name).await?;
        world.lock().got(call, chat.as_ref());
    }
    for _ in 0..options.keys {
        let waiting = world.lock().waiting_moves();
        for (from, to) in waiting {
            let call = world.lock().call(process, Kind::Move { from, to });
            sessions.move_key(NAMES[from], NAMES[to]).await?;
            world.lock().told(call, Told::Done);
        }
    }
    world.lock().check_moves();
    if options.owners {
        let owner = OWNERS[0];
        let call = world.lock().call(process, Kind::Delete { key: 0 });
        sessions.delete(NAMES[0]).await?;
        world.lock().told(call, Told::Done);
        let call = world.lock().call(process, Kind::Set { key: 0, owner: Some(owner) });
        sessions.set(NAMES[0], Chat { owner: Some(owner.to_owned()), updates: vec![call as u64] }).await?;
        world.lock().told(call, Told::Done);
        world.lock().check_limit(owner);
        let call = world.lock().call(process, Kind::Revoke { owner, except: None });
        sessions.delete_by_owner(owner).await?;
        world.lock().told(call, Told::Done);
    }
    if options.leases == 0 {
        return Ok(());
    }
    for number in 0..options.keys {
        let key = Key::new(number.to_string())?;
        // Longer than any lease of before.
        let lease = leases.clone().with_wait_limit(8 * Duration::from_millis(options.ttl)).lock(&key).await?;
        let token = lease.token();
        world.lock().acquired(process, number, token);
        world.sleep(3 * 1_000 * options.ttl).await;
        if !lease.is_held() {
            world.lock().broken(format!("lease {number} was lost although nothing failed"));
        }
        leases.check(&key, token).await?;
        lease.release().await?;
        world.lock().ended(process, number, token, false);
    }
    Ok(())
}

impl Caller {
    async fn run(mut self) {
        for _ in 0..self.handles.options.calls {
            let think = self.handles.options.units(self.handles.options.think);
            let think = self.rng.u64(0..=think);
            self.handles.world.sleep(think).await;
            self.call().await;
        }
    }

    fn key(&mut self) -> usize {
        self.rng.usize(0..self.handles.options.keys)
    }

    fn owner(&mut self) -> &'static str {
        OWNERS[self.rng.usize(0..OWNERS.len())]
    }

    async fn call(&mut self) {
        let options = &self.handles.options;
        let weights = [
            options.updates,
            options.sets,
            20,
            options.deletes,
            options.moves,
            options.leases,
            options.revokes,
            if options.owners { 8 } else { 0 },
        ];
        let mut drawn = self.rng.u32(0..weights.iter().sum());
        let place = weights.iter().position(|weight| {
            let here = drawn < *weight;
            drawn = drawn.saturating_sub(*weight);
            here
        });
        match place {
            Some(1) => self.set().await,
            Some(2) => self.get().await,
            Some(3) => self.delete().await,
            Some(4) => self.move_key().await,
            Some(5) => self.lease().await,
            Some(6) => self.revoke().await,
            Some(7) => self.sessions_of().await,
            _ => self.update().await,
        }
    }

    fn start(&self, kind: Kind) -> CallId {
        self.handles.world.lock().call(self.handles.process, kind)
    }

    fn told(&self, call: CallId, answer: Option<Result<()>>) {
        let mut state = self.handles.world.lock();
        match answer {
            Some(Ok(())) => state.told(call, Told::Done),
            Some(Err(error)) => state.failed(call, &error),
            None => state.told(call, Told::Unknown),
        }
    }

    async fn update(&mut self) {
        let key = self.key();
        let owner = self.new_owner();
        let call = self.start(Kind::Update { key, owner });
        let Handles { world, sessions, options, .. } = self.handles.clone();
        let nap = if self.rng.bool() { self.rng.u64(0..=options.units(5)) } else { 0 };
        let key = NAMES[key];
        let world = &world;
        let change = move |chat: &mut Chat| {
            world.lock().runs(call);
            chat.updates.push(call as u64);
            if let Some(owner) = owner {
                chat.owner = owner.map(str::to_owned);
            }
        };
        let form = self.rng.u32(0..6);
        let sessions = &sessions;
        let work: BoxFuture<'_, Result<()>> = match form {
            0 => sessions.modify(key, change).boxed(),
            1 => sessions
                .update(key, move |mut session: Session<Chat>| async move {
                    change(&mut session);
                    world.sleep(nap).await;
                    drop(session);
                    ok(())
                })
                .boxed(),
            2 => sessions
                .update_once(key, move |mut session: Session<Chat>| async move {
                    change(&mut session);
                    world.sleep(nap).await;
                    drop(session);
                    ok(())
                })
                .boxed(),
            3 => sessions
                .update_lazy(key, move |session| async move {
                    world.sleep(nap).await;
                    session.modify(change).await
                })
                .boxed(),
            4 => async {
                let mut session = sessions.open(key).await?;
                change(&mut session);
                world.sleep(nap).await;
                OpenSession::save(session).await
            }
            .boxed(),
            _ => async {
                let session = sessions.open_lazy(key);
                session.modify(change).await?;
                world.sleep(nap).await;
                session.save().await
            }
            .boxed(),
        };
        let answer = cut(world, &options, &mut self.rng, work).await;
        self.told(call, answer);
    }

    /// The owner that an update sets, if it does.
    fn new_owner(&mut self) -> Option<Option<&'static str>> {
        if !self.handles.options.owners || self.rng.bool() {
            return None;
        }
        Some((self.rng.u32(0..5) > 0).then(|| self.owner()))
    }

    async fn set(&mut self) {
        let key = self.key();
        let owner = self.new_owner().flatten();
        let call = self.start(Kind::Set { key, owner });
        let Handles { world, sessions, options, .. } = self.handles.clone();
        let chat = Chat { owner: owner.map(str::to_owned), updates: vec![call as u64] };
        let work = sessions.set(NAMES[key], chat);
        let answer = cut(&world, &options, &mut self.rng, work).await;
        self.told(call, answer);
    }

    async fn get(&mut self) {
        let key = self.key();
        let call = self.start(Kind::Get { key });
        let Handles { world, sessions, options, .. } = self.handles.clone();
        match cut(&world, &options, &mut self.rng, sessions.get(NAMES[key])).await {
            Some(Ok(chat)) => world.lock().got(call, chat.as_ref()),
            other => self.told(call, other.map(|answer| answer.map(drop))),
        }
    }

    async fn delete(&mut self) {
        let key = self.key();
        let call = self.start(Kind::Delete { key });
        let Handles { world, sessions, options, .. } = self.handles.clone();
        let key = NAMES[key];
        let work: BoxFuture<'_, Result<()>> = if self.rng.bool() {
            sessions.delete(key).map(|deleted| deleted.map(drop)).boxed()
        } else {
            sessions
                .update(key, |mut session: Session<Chat>| async move {
                    Session::clear(&mut session);
                    drop(session);
                    ok(())
                })
                .boxed()
        };
        let answer = cut(&world, &options, &mut self.rng, work).await;
        self.told(call, answer);
    }

    async fn move_key(&mut self) {
        let (from, to) = (self.key(), self.key());
        if from == to {
            return;
        }
        let call = self.start(Kind::Move { from, to });
        let Handles { world, sessions, options, .. } = self.handles.clone();
        let work = sessions.move_key(NAMES[from], NAMES[to]);
        let answer = cut(&world, &options, &mut self.rng, work).await;
        self.told(call, answer);
    }

    async fn revoke(&mut self) {
        let owner = self.owner();
        let except = self.rng.bool().then(|| self.key());
        let call = self.start(Kind::Revoke { owner, except });
        let Handles { world, sessions, options, .. } = self.handles.clone();
        let work: BoxFuture<'_, Result<u64>> = match except {
            None => sessions.delete_by_owner(owner).boxed(),
            Some(key) => sessions.delete_others_by_owner(owner, NAMES[key]).boxed(),
        };
        let answer = cut(&world, &options, &mut self.rng, work).await;
        self.told(call, answer.map(|answer| answer.map(drop)));
    }

    async fn sessions_of(&mut self) {
        let owner = self.owner();
        let call = self.start(Kind::SessionsOf { owner });
        let Handles { world, sessions, options, .. } = self.handles.clone();
        match cut(&world, &options, &mut self.rng, sessions.keys_by_owner(owner)).await {
            Some(Ok(keys)) => world.lock().listed(call, &keys),
            other => self.told(call, other.map(|answer| answer.map(drop))),
        }
    }

    /// Acquires a lease, holds it for a while, and releases or drops it.
    async fn lease(&mut self) {
        let number = self.key();
        let Ok(key) = Key::new(number.to_string()) else { return };
        let call = self.start(Kind::Lease);
        let Handles { world, leases, options, process, .. } = self.handles.clone();
        let renews = self.rng.bool();
        let leases = leases.with_renewal(renews);
        let acquired = if self.rng.bool() {
            cut(&world, &options, &mut self.rng, leases.lock(&key).map(|lease| lease.map(Some))).await
        } else {
            cut(&world, &options, &mut self.rng, leases.try_lock(&key)).await
        };
        if let Some(Ok(Some(lease))) = acquired {
            let token = lease.token();
            world.lock().acquired(process, number, token);
            let lease = Arc::new(lease);
            lock(&self.handles.probes).push(probe(&world, process, number, Arc::downgrade(&lease)));
            for _ in 0..self.rng.u32(0..4) {
                let nap = self.rng.u64(0..=1_000 * options.ttl);
                world.sleep(nap).await;
                self.use_lease(&leases, number, &key, &lease).await;
            }
            self.end_lease(number, lease).await;
        }
        self.told(call, Some(Ok(())));
    }

    async fn use_lease(&mut self, leases: &Leases, number: usize, key: &Key, lease: &Lease) {
        let Handles { world, options, .. } = self.handles.clone();
        match self.rng.u32(0..3) {
            0 => {
                if let Some(Ok(())) = cut(&world, &options, &mut self.rng, lease.renew()).await {
                    world.lock().count(Fault::Renewed);
                }
            }
            1 => {
                let newest = world.lock().newest_token(number);
                let token = lease.token();
                if let Some(Ok(())) = cut(&world, &options, &mut self.rng, leases.check(key, token)).await {
                    world.lock().verified(number, token, newest);
                }
            }
            _ => {
                let nap = pin!(world.sleep(1_000 * options.ttl));
                if let Either::Left(_) = select(pin!(lease.lost()), nap).await
                    && lease.is_held()
                {
                    world.lock().broken(format!("lease {number} is held although it was lost"));
                }
            }
        }
    }

    async fn end_lease(&mut self, number: usize, lease: Arc<Lease>) {
        let Handles { world, options, process, .. } = self.handles.clone();
        let (token, lost) = (lease.token(), !lease.is_held());
        world.lock().ended(process, number, token, lost);
        if let (Ok(lease), true) = (Arc::try_unwrap(lease), self.rng.bool()) {
            let _ = cut(&world, &options, &mut self.rng, lease.release()).await;
        }
    }
}

/// Checks a lease each time its process has run, until it is dropped.
fn probe(world: &Arc<World>, process: ProcessId, number: usize, lease: Weak<Lease>) -> Probe {
    let world = Arc::clone(world);
    let mut lost = false;
    Box::new(move || {
        let Some(lease) = lease.upgrade() else { return false };
        if lease.is_held() {
            let mut state = world.lock();
            if lost {
                state.broken(format!("lease {number} is held again"));
            }
            state.holds(process, number, lease.token());
        } else {
            lost = true;
        }
        true
    })
}

/// Runs a call to its end, or drops it before. Returns `None` if it was dropped.
async fn cut<F: Future>(world: &World, options: &Options, rng: &mut Rng, call: F) -> Option<F::Output> {
    if world.lock().calm || rng.u32(0..100) >= options.dropping {
        return Some(call.await);
    }
    let mut call = pin!(call);
    if rng.bool() {
        let mut left = rng.u32(0..8);
        let polls = poll_fn(|context| {
            if left == 0 {
                return Poll::Ready(None);
            }
            left -= 1;
            call.as_mut().poll(context).map(Some)
        });
        let answer = polls.await;
        if answer.is_none() {
            world.lock().count(Fault::DroppedAfterPolls);
        }
        return answer;
    }
    let time = rng.u64(0..=options.units(20));
    match select(call, pin!(world.sleep(time))).await {
        Either::Left((answer, _)) => Some(answer),
        Either::Right(_) => {
            world.lock().count(Fault::DroppedAtTime);
            None
        }
    }
}

fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
