//! Makes contenders for every operation from a way to store bytes or sessions.

use std::{any::Any, collections::BTreeMap};

use bytes::Bytes;
use futures_util::{StreamExt, future::BoxFuture, stream};
use larder_core::{Change, Expiry, ReadOptions, Store, WriteOptions};
use larder_session::{Lifetime, Sessions};

use crate::{
    data::{Chat, Data, PREFIX, TTL, key},
    measure::{BATCH, Contender, Kind, Operation},
};

/// A store's own calls, on a row as Larder stores it. A peer that stores bytes may have no version and no deadline.
pub trait Raw: Clone + Send + Sync + 'static {
    /// The state that a write compares with.
    type Seen: Send;

    fn read(&self, number: u64) -> impl Future<Output = (Bytes, Self::Seen)> + Send;

    fn write(&self, number: u64, value: &Bytes) -> impl Future<Output = ()> + Send;

    /// Writes if the entry is still as `seen`; returns whether it was.
    fn swap(&self, number: u64, value: Bytes, seen: Self::Seen) -> impl Future<Output = bool> + Send;
}

/// Another library's store of sessions, with its own type of session.
pub trait Peer: Clone + Send + Sync + 'static {
    type Session: Send;

    fn session(&self, number: u64) -> Self::Session;

    fn change(session: &mut Self::Session);

    fn load(&self, number: u64) -> impl Future<Output = Self::Session> + Send;

    fn save(&self, number: u64, session: Self::Session) -> impl Future<Output = ()> + Send;
}

/// The contenders on one set of data, and the resources that they need.
pub struct Set {
    pub data: Data,
    pub rows: BTreeMap<Operation, Vec<Contender>>,
    /// Runs before each row.
    pub tidy: Option<Box<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>>,
    keep: Vec<Box<dyn Any + Send>>,
}

impl Set {
    pub fn new(data: Data) -> Self {
        Self { data, rows: BTreeMap::new(), tidy: None, keep: Vec::new() }
    }

    /// Keeps a directory or a server until the measurements are done.
    pub fn keep(&mut self, resource: impl Any + Send) {
        self.keep.push(Box::new(resource));
    }

    pub fn push(&mut self, operation: Operation, contender: Contender) {
        self.rows.entry(operation).or_default().push(contender);
    }

    pub fn raw<R: Raw>(&mut self, kind: Kind, name: &str, raw: &R) {
        let value = self.data.value();
        let length = value.len();
        self.push(
            Operation::Read,
            Contender::new(kind, name, raw, move |raw, number| async move {
                assert_eq!(raw.read(number).await.0.len(), length);
            }),
        );
        let state = (raw.clone(), value);
        self.push(
            Operation::Write,
            Contender::new(kind, name, &state, |state, number| async move {
                state.0.write(number, &state.1).await;
            }),
        );
        let update =
            Contender::new(kind, name, raw, |raw, number| async move { update_by_hand(&*raw, number).await });
        self.push(Operation::Update, update);
        // A peer's update of bytes does not compare, so concurrent updates of one key would be lost.
        if kind == Kind::Raw {
            let hot =
                Contender::new(
                    kind,
                    name,
                    raw,
                    |raw, number| async move { update_by_hand(&*raw, number).await },
                );
            self.push(Operation::Hot, hot);
        }
    }

    /// Adds reads and writes of bytes.
    pub fn store(&mut self, kind: Kind, name: &str, store: &Store) {
        let value = self.data.value();
        let length = value.len();
        self.push(
            Operation::Read,
            Contender::new(kind, name, store, move |store, number| async move {
                let record = store.read_with(&key(number), &ReadOptions::new()).await.unwrap().unwrap();
                assert_eq!(record.value.len(), length);
            }),
        );
        let state = (store.clone(), value, WriteOptions::new().expiry(Expiry::After(TTL)));
        self.push(
            Operation::Write,
            Contender::new(kind, name, &state, |state, number| async move {
                let (store, value, options) = &*state;
                store.write_with(&key(number), value.clone(), options).await.unwrap();
            }),
        );
    }

    pub fn larder(&mut self, name: &str, store: &Store) {
        self.store(Kind::Larder, name, store);
        let data = self.data;
        let sessions = Sessions::builder_with(move || data.chat())
            .storage(store)
            .prefix(PREFIX)
            .lifetime(Lifetime::after_write(TTL))
            .build()
            .unwrap();
        for operation in [Operation::Update, Operation::Hot] {
            let update = Contender::new(Kind::Larder, name, &sessions, |sessions, number| async move {
                sessions.modify(number, Chat::change).await.unwrap();
            });
            self.push(operation, update);
        }
    }

    pub fn peer<P: Peer>(&mut self, name: &str, peer: &P) {
        self.push(
            Operation::Read,
            Contender::new(
                Kind::Peer,
                name,
                peer,
                |peer, number| async move { drop(peer.load(number).await) },
            ),
        );
        self.push(
            Operation::Write,
            Contender::new(Kind::Peer, name, peer, |peer, number| async move {
                peer.save(number, peer.session(number)).await;
            }),
        );
        self.push(
            Operation::Update,
            Contender::new(Kind::Peer, name, peer, |peer, number| async move {
                let mut session = peer.load(number).await;
                P::change(&mut session);
                peer.save(number, session).await;
            }),
        );
    }
}

/// A hand-written update of a session: reads, decodes, changes, encodes, and compares and swaps, until it succeeds.
async fn update_by_hand<R: Raw>(raw: &R, number: u64) {
    loop {
        let (value, seen) = raw.read(number).await;
        let mut chat: Chat = serde_json::from_slice(&value).unwrap();
        chat.change();
        if raw.swap(number, serde_json::to_vec(&chat).unwrap().into(), seen).await {
            return;
        }
    }
}

/// Fills the store with `tasks` writes at once. Single writes are slow on a server, and many at once on a file.
pub async fn fill_raw<R: Raw>(raw: &R, data: Data, tasks: usize) {
    let value = &data.value();
    at_once(data, tasks, |number| raw.write(number, value)).await;
}

pub async fn fill_peer<P: Peer>(peer: &P, data: Data, tasks: usize) {
    at_once(data, tasks, |number| peer.save(number, peer.session(number))).await;
}

/// Writes all entries as JSON, so that they can be read as sessions.
pub async fn fill(store: &Store, data: Data) {
    let value = data.value();
    let most = (8 << 20) / data.size as u64;
    let step = most.clamp(1, 1_000);
    for from in (0..data.keys).step_by(step as usize) {
        let numbers = from..data.keys.min(from + step);
        let changes = numbers.map(|number| Change::put(key(number), value.clone(), Expiry::After(TTL)));
        for result in store.apply(changes.collect()).await {
            result.unwrap();
        }
    }
}

async fn at_once<F: Future<Output = ()>>(data: Data, tasks: usize, write: impl Fn(u64) -> F) {
    stream::iter(0..data.keys).for_each_concurrent(tasks, write).await;
}

/// The numbers of the keys of a hand-written batch, without duplicates.
pub fn batch(number: u64, data: Data) -> impl Iterator<Item = u64> {
    let most = BATCH.min(data.keys);
    // Scattered like the keys of Larder's callers, because neighbours would share pages.
    let step = (data.keys / most).max(1);
    (0..most).map(move |at| (number + at * step) % data.keys)
}
