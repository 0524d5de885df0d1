//! The move of a session from its plain id to its hashed id, in every order of concurrent operations.

#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

mod support;

use std::cell::Cell;

use larder_bridge_tests::{Steps, Task, finish, in_every_order, in_random_orders, interrupted};
use larder_core::{Store, Versions};
use larder_web_sessions::Sessions;
use support::{Visit, in_an_hour};

/// The number of processes, and the versions of the storage.
const SETTINGS: [(usize, Versions); 4] =
    [(1, Versions::Unique), (2, Versions::Unique), (1, Versions::Content), (2, Versions::Content)];

const ID: &str = "BwAAAAAAAAAAAAAAAAAAAA";

/// A session with a plain id, and processes that move it.
struct Before {
    processes: Vec<Sessions<Visit>>,
    next: Cell<usize>,
}

impl Before {
    /// Each of the `processes` remembers only what itself has seen.
    fn new((processes, versions): (usize, Versions)) -> Self {
        let store = Store::new(Steps::with_versions(versions));
        let sessions = |store: &Store| Sessions::new(store).unwrap();
        let plain = sessions(&store).with_plain_ids();
        finish(Box::pin(async move {
            assert!(plain.insert(ID, &Visit::new(0), in_an_hour).await.unwrap());
        }));
        let migrating = || sessions(&store).migrating_plain_ids();
        Self { processes: (0..processes).map(|_| migrating()).collect(), next: Cell::new(0) }
    }

    fn process(&self) -> Sessions<Visit> {
        let next = self.next.replace(self.next.get() + 1);
        self.processes[next % self.processes.len()].clone()
    }

    /// Saves the session. It may be gone only `if_deleted`.
    fn save(&self, count: u64, if_deleted: bool) -> Task {
        let sessions = self.process();
        Box::pin(async move {
            let existed = sessions.replace(ID, &Visit::new(count), in_an_hour).await.unwrap();
            assert!(existed || if_deleted);
        })
    }

    fn delete(&self) -> Task {
        let sessions = self.process();
        Box::pin(async move { sessions.remove::<Visit>(ID).await.unwrap() })
    }

    /// Checks that the session is one of the saved sessions, or does not exist if `counts` is empty.
    fn loads(&self, counts: &'static [u64]) -> Task {
        let sessions = self.process();
        Box::pin(async move {
            match sessions.find::<Visit>(ID).await.unwrap() {
                Some(Visit { count, .. }) => assert!(counts.contains(&count), "{count} is not in {counts:?}"),
                None => assert!(counts.is_empty(), "the session was lost"),
            }
        })
    }
}

#[test]
fn a_moving_session_is_never_lost() {
    for setting in SETTINGS {
        let orders = in_every_order(|| {
            let before = Before::new(setting);
            (vec![before.save(1, false), before.loads(&[0, 1])], before.loads(&[1]))
        });
        assert!(orders > 50, "{orders}");
        in_random_orders(2_000, || {
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
        in_random_orders(2_000, || {
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
        in_random_orders(2_000, || {
            let before = Before::new(setting);
            let interrupted = interrupted(before.save(1, true), polls);
            (vec![interrupted, before.save(2, true), before.delete()], before.loads(&[]))
        });
    }
}
