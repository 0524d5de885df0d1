//! A simple model of sessions, and its comparison with real sessions on any storage.

use std::collections::BTreeMap;

use futures_util::{TryStreamExt, future::join_all};
use larder_core::{Error, ErrorKind, Key, Store};
use larder_session::{KvSession, KvSessions, OpenSession, Session, Sessions};
use proptest::prelude::*;

/// The value of a session: the items that the operations have added, in order. All items differ.
type Items = Vec<u32>;

const KEYS: [&str; 3] = ["a", "b", "c"];
const NAMES: [&str; 2] = ["pings", "pongs"];
/// The initial value of the first name.
const PINGS: u32 = 1_000_000;

/// The index of a key or a name.
type Number = usize;

/// An operation of a program, or an event in the store.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    Add(Number),
    Modify(Number),
    UpdateOnce(Number),
    /// An update that is abandoned after a change.
    Discard(Number),
    /// An update without a change, which creates a session that does not exist.
    Look(Number),
    Fail(Number),
    Clear(Number),
    ClearAndAdd(Number),
    LazyUntouched(Number),
    LazyLook(Number),
    LazyAdd(Number),
    LazySet(Number),
    LazyClear(Number),
    OpenAndAdd(Number),
    OpenAndDiscard(Number),
    Set(Number),
    Delete(Number),
    /// The store expires the session.
    Expire(Number),
    /// The store expires the redirect, if it exists.
    ExpireRedirect(Number),
    Move(Number, Number),
    KvSet(Number, Number),
    KvDelete(Number, Number),
    KvClear(Number),
    KvMove(Number, Number),
}

pub(crate) fn ops(most: usize) -> impl Strategy<Value = Vec<Op>> {
    use Op::*;
    let key = || 0..KEYS.len();
    let name = || 0..NAMES.len();
    let op = prop_oneof![
        4 => key().prop_map(Add),
        4 => key().prop_map(Modify),
        1 => key().prop_map(UpdateOnce),
        1 => key().prop_map(Discard),
        1 => key().prop_map(Look),
        1 => key().prop_map(Fail),
        1 => key().prop_map(Clear),
        1 => key().prop_map(ClearAndAdd),
        1 => key().prop_map(LazyUntouched),
        1 => key().prop_map(LazyLook),
        2 => key().prop_map(LazyAdd),
        1 => key().prop_map(LazySet),
        1 => key().prop_map(LazyClear),
        1 => key().prop_map(OpenAndAdd),
        1 => key().prop_map(OpenAndDiscard),
        1 => key().prop_map(Set),
        1 => key().prop_map(Delete),
        1 => key().prop_map(Expire),
        1 => key().prop_map(ExpireRedirect),
        4 => (key(), key()).prop_map(|(old, new)| Move(old, new)),
        2 => (key(), name()).prop_map(|(key, name)| KvSet(key, name)),
        1 => (key(), name()).prop_map(|(key, name)| KvDelete(key, name)),
        1 => key().prop_map(KvClear),
        1 => (key(), key()).prop_map(|(old, new)| KvMove(old, new)),
    ];
    prop::collection::vec(op, 1..most)
}

/// The operations of concurrent tasks: additions and moves.
pub(crate) fn batches(most_tasks: usize, most_ops: usize) -> impl Strategy<Value = Vec<Vec<Op>>> {
    let key = || 0..KEYS.len();
    let op = prop_oneof![
        3 => key().prop_map(Op::Add),
        3 => key().prop_map(Op::Modify),
        2 => key().prop_map(Op::LazyAdd),
        1 => (key(), key()).prop_map(|(old, new)| Op::Move(old, new)),
    ];
    prop::collection::vec(prop::collection::vec(op, 1..most_ops), 2..most_tasks)
}

/// The redirects, and the sessions at their ends.
#[derive(Clone, Debug)]
struct Model<V> {
    leads: [Option<Number>; KEYS.len()],
    sessions: [Option<V>; KEYS.len()],
}

impl<V: Clone> Model<V> {
    fn new() -> Self {
        Self { leads: [None; KEYS.len()], sessions: [const { None }; KEYS.len()] }
    }

    /// Returns the current key of the session under `key`.
    fn place(&self, key: Number) -> Number {
        self.leads[key].map_or(key, |to| self.place(to))
    }

    fn at(&mut self, key: Number) -> &mut Option<V> {
        &mut self.sessions[self.place(key)]
    }

    fn see(&self, key: Number) -> Option<&V> {
        self.sessions[self.place(key)].as_ref()
    }

    fn passes(&self, key: Number, by: Number) -> bool {
        key == by || self.leads[key].is_some_and(|to| self.passes(to, by))
    }

    fn move_key(&mut self, old: Number, new: Number, merge: impl Fn(V, V) -> V) {
        if self.passes(old, new) {
            return;
        }
        let from = self.place(old);
        // Back to an earlier key, or to the session that is there now.
        let to = if self.place(new) == from { new } else { self.place(new) };
        let merged = match (self.sessions[from].take(), self.sessions[to].take()) {
            (Some(moving), Some(own)) => Some(merge(moving, own)),
            (one, other) => one.or(other),
        };
        self.leads[from] = Some(to);
        self.leads[to] = None;
        self.sessions[to] = merged;
    }

    fn expire_redirect(&mut self, key: Number) {
        self.leads[key] = None;
    }
}

fn merge_items(moving: Items, own: Items) -> Items {
    [moving, own].concat()
}

fn sessions(storage: &Store, prefix: &str) -> Sessions<Items> {
    let builder = Sessions::builder().storage(storage).prefix(prefix);
    builder.merge(merge_items).build().unwrap()
}

/// Typed sessions and named values, each with a prefix.
struct Subject {
    storage: Store,
    prefix: String,
    sessions: Sessions<Items>,
    kv: KvSessions,
}

type Names = BTreeMap<&'static str, Option<u32>>;

/// Runs the operations one after another, and compares all sessions after each.
pub(crate) async fn compare(storage: impl Into<Store>, prefix: &str, ops: &[Op]) {
    let storage = storage.into();
    let kv = KvSessions::builder().initial(NAMES[0], PINGS).unwrap().storage(&storage);
    let kv = kv.prefix(format!("{prefix}kv:")).with(|sessions| {
        sessions.merge(|moving, mut own| {
            own.extend(moving);
            own
        })
    });
    let prefix = format!("{prefix}items:");
    let sessions = sessions(&storage, &prefix);
    let subject = Subject { storage, prefix, sessions, kv: kv.build().unwrap() };
    let (mut items, mut names) = (Model::new(), Model::new());
    for (item, op) in (0..).zip(ops) {
        subject.run(*op, item, &mut items, &mut names).await;
        subject.compare(&items, &names).await;
    }
    subject.sessions.delete_all().await.unwrap();
    subject.kv.sessions().delete_all().await.unwrap();
}

impl Subject {
    fn key(&self, key: Number) -> Key {
        Key::new(format!("{}{}", self.prefix, KEYS[key])).unwrap()
    }

    async fn run(&self, op: Op, item: u32, items: &mut Model<Items>, names: &mut Model<Names>) {
        let sessions = &self.sessions;
        match op {
            Op::Add(key) => {
                let add = sessions.update(KEYS[key], async |mut session| {
                    session.push(item);
                    Ok::<_, Error>((Session::is_new(&session), Session::storage_key(&session).clone()))
                });
                let place = self.key(items.place(key));
                assert_eq!(add.await.unwrap(), (items.see(key).is_none(), place));
                items.at(key).get_or_insert_default().push(item);
            }
            Op::Modify(key) => {
                let change = |session: &mut Items| {
                    session.push(item);
                    session.len()
                };
                let length = sessions.modify(KEYS[key], change).await.unwrap();
                let model = items.at(key).get_or_insert_default();
                model.push(item);
                assert_eq!(length, model.len());
            }
            Op::UpdateOnce(key) => {
                sessions.update_once(KEYS[key], async |mut session| session.push(item)).await.unwrap();
                items.at(key).get_or_insert_default().push(item);
            }
            Op::Discard(key) => {
                let discard = sessions.update(KEYS[key], async |mut session| {
                    session.push(item);
                    Session::discard(&mut session);
                });
                discard.await.unwrap();
            }
            Op::Look(key) => {
                let seen = sessions.update(KEYS[key], async |session| Ok::<_, Error>(session.clone()));
                assert_eq!(seen.await.unwrap(), *items.at(key).get_or_insert_default());
            }
            Op::Fail(key) => {
                let error = || Error::new(ErrorKind::Other, "the handler fails");
                let failed = sessions.update(KEYS[key], async |mut session| {
                    session.push(item);
                    Err::<(), _>(error())
                });
                assert_eq!(failed.await.unwrap_err().kind(), ErrorKind::Other);
                let failed = sessions.try_modify(KEYS[key], |session| {
                    session.push(item);
                    Err::<(), _>(error())
                });
                assert_eq!(failed.await.unwrap_err().kind(), ErrorKind::Other);
            }
            Op::Clear(key) => {
                sessions.update(KEYS[key], async |mut session| Session::clear(&mut session)).await.unwrap();
                *items.at(key) = None;
            }
            Op::ClearAndAdd(key) => {
                let add = sessions.update(KEYS[key], async |mut session| {
                    Session::clear(&mut session);
                    session.push(item);
                });
                add.await.unwrap();
                *items.at(key) = Some(vec![item]);
            }
            Op::LazyUntouched(key) => sessions.update_lazy(KEYS[key], async |_| ()).await.unwrap(),
            Op::LazyLook(key) => {
                let seen =
                    sessions.update_lazy(KEYS[key], async |session| session.get().await).await.unwrap();
                assert_eq!(seen, *items.at(key).get_or_insert_default());
            }
            Op::LazyAdd(key) => {
                let add = sessions.update_lazy(KEYS[key], async |session| {
                    session.modify(|session| session.push(item)).await
                });
                add.await.unwrap();
                items.at(key).get_or_insert_default().push(item);
            }
            Op::LazySet(key) => {
                sessions.update_lazy(KEYS[key], async |session| session.set(vec![item])).await.unwrap();
                *items.at(key) = Some(vec![item]);
            }
            Op::LazyClear(key) => {
                sessions.update_lazy(KEYS[key], async |session| session.clear()).await.unwrap();
                *items.at(key) = None;
            }
            Op::OpenAndAdd(key) => {
                let mut open = sessions.open(KEYS[key]).await.unwrap();
                open.push(item);
                OpenSession::save(open).await.unwrap();
                items.at(key).get_or_insert_default().push(item);
            }
            Op::OpenAndDiscard(key) => {
                let mut open = sessions.open(KEYS[key]).await.unwrap();
                open.push(item);
                OpenSession::discard(open);
            }
            Op::Set(key) => {
                sessions.set(KEYS[key], vec![item]).await.unwrap();
                *items.at(key) = Some(vec![item]);
            }
            Op::Delete(key) => {
                assert_eq!(sessions.delete(KEYS[key]).await.unwrap(), items.at(key).take().is_some());
            }
            Op::Expire(key) => {
                let place = self.key(items.place(key));
                assert_eq!(self.storage.delete(&place).await.unwrap(), items.at(key).take().is_some());
            }
            Op::ExpireRedirect(key) => {
                if items.leads[key].is_some() {
                    assert!(self.storage.delete(self.key(key)).await.unwrap());
                    items.expire_redirect(key);
                }
            }
            Op::Move(old, new) => {
                sessions.move_key(KEYS[old], KEYS[new]).await.unwrap();
                items.move_key(old, new, merge_items);
            }
            Op::KvSet(key, name) => {
                self.kv.set(KEYS[key], NAMES[name], item).await.unwrap();
                names.at(key).get_or_insert_default().insert(NAMES[name], Some(item));
            }
            Op::KvDelete(key, name) => {
                let value = look_up(names.see(key), NAMES[name]);
                assert_eq!(self.kv.delete(KEYS[key], NAMES[name]).await.unwrap(), value.is_some());
                names.at(key).get_or_insert_default().insert(NAMES[name], None);
            }
            Op::KvClear(key) => {
                self.kv.modify(KEYS[key], KvSession::clear).await.unwrap();
                *names.at(key) = None;
            }
            Op::KvMove(old, new) => {
                self.kv.sessions().move_key(KEYS[old], KEYS[new]).await.unwrap();
                names.move_key(old, new, |moving, mut own| {
                    // A deleted name is stored only if it has an initial value.
                    own.extend(
                        moving.into_iter().filter(|(name, value)| value.is_some() || *name == NAMES[0]),
                    );
                    own
                });
            }
        }
    }

    async fn compare(&self, items: &Model<Items>, names: &Model<Names>) {
        for (number, key) in KEYS.into_iter().enumerate() {
            assert_eq!(self.sessions.get(key).await.unwrap().as_ref(), items.see(number), "{key}");
            let length = self.sessions.with(key, Vec::len).await.unwrap();
            assert_eq!(length, items.see(number).map_or(0, Vec::len), "{key}");
            let all = self.kv.all(key).await.unwrap();
            for name in NAMES {
                let value = all.get(name).map(|value| serde_json::from_value::<u32>(value.clone()).unwrap());
                assert_eq!(value, look_up(names.see(number), name), "{name} of {key}");
            }
        }
        if self.storage.info().listing {
            let listed = self.sessions.all().try_collect::<BTreeMap<_, _>>().await.unwrap();
            let expected = KEYS.iter().zip(&items.sessions);
            let expected = expected.filter_map(|(key, session)| Some(((*key).to_owned(), session.clone()?)));
            assert_eq!(listed, expected.collect::<BTreeMap<_, _>>());
        }
    }
}

fn look_up(names: Option<&Names>, name: &str) -> Option<u32> {
    let initial = (name == NAMES[0]).then_some(PINGS);
    names.and_then(|names| names.get(name)).copied().unwrap_or(initial)
}

/// Runs the batches concurrently, each as a separate process. Checks that no addition is lost or duplicated,
/// and that moved keys lead to one session.
pub(crate) async fn race(storage: impl Into<Store>, prefix: &str, batches: &[Vec<Op>]) {
    let storage = storage.into();
    let tasks = (0..).zip(batches).map(|(task, batch)| {
        let sessions = sessions(&storage, prefix);
        async move {
            for (number, op) in (0..).zip(batch) {
                let item = task * 1_000 + number;
                match *op {
                    Op::Move(old, new) => sessions.move_key(KEYS[old], KEYS[new]).await.unwrap(),
                    Op::LazyAdd(key) => {
                        let add = sessions.update_lazy(KEYS[key], async |session| {
                            session.modify(|session| session.push(item)).await
                        });
                        add.await.unwrap();
                    }
                    Op::Modify(key) => {
                        sessions.modify(KEYS[key], |session| session.push(item)).await.unwrap();
                    }
                    Op::Add(key) => {
                        sessions.update(KEYS[key], async |mut session| session.push(item)).await.unwrap();
                    }
                    other => unreachable!("{other:?} is not among them"),
                }
            }
        }
    });
    join_all(tasks).await;

    let sessions = sessions(&storage, prefix);
    let mut places = BTreeMap::new();
    let mut place = Vec::new();
    for key in KEYS {
        let open = sessions.open(key).await.unwrap();
        place.push(OpenSession::storage_key(&open).clone());
        places.insert(OpenSession::storage_key(&open).clone(), open.clone());
    }
    let mut stored: Vec<_> = places.into_values().flatten().collect();
    stored.sort_unstable();
    let mut added = Vec::new();
    for (task, batch) in (0..).zip(batches) {
        for (number, op) in (0..).zip(batch) {
            match *op {
                Op::Move(old, new) => assert_eq!(place[old], place[new]),
                _ => added.push(task * 1_000 + number),
            }
        }
    }
    assert_eq!(stored, added);
    sessions.delete_all().await.unwrap();
}
