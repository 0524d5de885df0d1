//! The move of a session from its plain id to its hashed id, in every order of concurrent operations.

#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

mod common;

use std::cell::Cell;

use common::steps::{Steps, Task, finish, in_every_order, in_random_orders, interrupted};
use larder_core::Versions;
use larder_tower_sessions::LarderStore;
use tower_sessions::{
    SessionStore,
    cookie::time::{Duration, OffsetDateTime},
    session::{Id, Record},
    session_store::Error,
};

/// The number of processes, and the versions of the storage.
const SETTINGS: [(usize, Versions); 4] =
    [(1, Versions::Unique), (2, Versions::Unique), (1, Versions::Content), (2, Versions::Content)];

/// A session with a plain id, and stores that move it.
struct Before {
    stores: Vec<LarderStore>,
    next: Cell<usize>,
    id: Id,
}

impl Before {
    /// Each of the `processes` has a store of its own, which remembers what only this process has seen.
    fn new((processes, versions): (usize, Versions)) -> Self {
        let (steps, mut record) = (Steps::with_versions(versions), record(Id(7), 0));
        let plain = LarderStore::new(steps.clone()).unwrap().with_plain_ids();
        finish(Box::pin(async move { plain.create(&mut record).await.unwrap() }));
        let store = || LarderStore::new(steps.clone()).unwrap().migrating_plain_ids();
        Self { stores: (0..processes).map(|_| store()).collect(), next: Cell::new(0), id: Id(7) }
    }

    fn store(&self) -> LarderStore {
        let next = self.next.replace(self.next.get() + 1);
        self.stores[next % self.stores.len()].clone()
    }

    /// Saves the session. It may be gone only `if_deleted`.
    fn save(&self, count: u64, if_deleted: bool) -> Task {
        let (store, record) = (self.store(), record(self.id, count));
        Box::pin(async move {
            match store.save(&record).await {
                Ok(()) => {}
                Err(Error::Backend(text)) if if_deleted && text.contains("the session is gone") => {}
                Err(error) => panic!("{error}"),
            }
        })
    }

    fn delete(&self) -> Task {
        let (store, id) = (self.store(), self.id);
        Box::pin(async move { store.delete(&id).await.unwrap() })
    }

    /// Checks that the session is one of the saved sessions, or does not exist if `counts` is empty.
    fn loads(&self, counts: &'static [u64]) -> Task {
        let (store, id) = (self.store(), self.id);
        Box::pin(async move {
            let loaded = store.load(&id).await.unwrap();
            let count = loaded.map(|record| record.data["count"].as_u64().unwrap());
            match count {
                Some(count) => assert!(counts.contains(&count), "{count} is not in {counts:?}"),
                None => assert!(counts.is_empty(), "the session was lost"),
            }
        })
    }
}

fn record(id: Id, count: u64) -> Record {
    let expiry_date = OffsetDateTime::now_utc() + Duration::hours(1);
    Record { id, data: [("count".to_owned(), count.into())].into(), expiry_date }
}

#[test]
fn a_moving_session_is_never_lost() {
    for setting in SETTINGS {
        let orders = in_every_order(|| {
            let before = Before::new(setting);
            (vec![before.save(1, false), before.loads(&[0, 1])], before.loads(&[1]))
        });
        assert!(orders > 50, "{orders}");
        in_random_orders(|| {
            let before = Before::new(setting);
            (
                vec![before.save(1, false), before.save(2, false), before.loads(&[0, 1, 2])],
                before.loads(&[1, 2]),
            )
        });
    }
}

#[test]
fn a_deleted_session_does_not_return_by_a_move() {
    for setting in SETTINGS {
        in_every_order(|| {
            let before = Before::new(setting);
            (vec![before.save(1, true), before.delete()], before.loads(&[]))
        });
        in_random_orders(|| {
            let before = Before::new(setting);
            (vec![before.save(1, true), before.save(2, true), before.delete()], before.loads(&[]))
        });
    }
}

/// The process ends after each number of steps.
#[test]
fn an_interrupted_move_loses_nothing_and_can_be_repeated_or_deleted() {
    for (polls, setting) in (0..8).flat_map(|polls| SETTINGS.map(|setting| (polls, setting))) {
        let before = Before::new(setting);
        finish(interrupted(before.save(1, false), polls));
        finish(before.loads(&[0, 1]));
        finish(before.save(2, false));
        finish(before.loads(&[2]));
        finish(before.delete());
        finish(before.loads(&[]));
    }
}

#[test]
fn an_interrupted_move_does_not_restore_a_deleted_session() {
    for (polls, setting) in (0..8).flat_map(|polls| SETTINGS.map(|setting| (polls, setting))) {
        in_random_orders(|| {
            let before = Before::new(setting);
            let interrupted = interrupted(before.save(1, true), polls);
            (vec![interrupted, before.save(2, true), before.delete()], before.loads(&[]))
        });
    }
}
