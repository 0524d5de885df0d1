//! The index of owners, in random orders of concurrent operations, and with processes that end at any step.

#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

mod support;

use std::cell::Cell;

use larder_bridge_tests::{Steps, Task, finish, in_random_orders, interrupted};
use larder_core::{Expiry, Store, Versions};
use larder_web_sessions::{Sessions, handle};
use support::{HOUR, Visit, in_an_hour, sessions};

/// The versions of the storage, and whether the sessions move from plain ids.
const SETTINGS: [(Versions, bool); 4] = [
    (Versions::Unique, false),
    (Versions::Content, false),
    (Versions::Unique, true),
    (Versions::Content, true),
];

const IDS: [&str; 2] = ["BwAAAAAAAAAAAAAAAAAAAA", "CAAAAAAAAAAAAAAAAAAAAA"];

/// Two processes. `IDS[0]` is a session of ann.
struct Before {
    processes: [Sessions<Visit>; 2],
    next: Cell<usize>,
}

impl Before {
    fn new((versions, moves): (Versions, bool)) -> Self {
        let store = Store::new(Steps::with_versions(versions));
        let own = || if moves { sessions(&store).migrating_plain_ids() } else { sessions(&store) };
        let processes = [own(), own()];
        let first = if moves { sessions(&store).with_plain_ids() } else { processes[0].clone() };
        finish(Box::pin(async move {
            assert!(first.insert(IDS[0], &Visit::of("ann", 0), in_an_hour).await.unwrap());
        }));
        Self { processes, next: Cell::new(0) }
    }

    fn process(&self) -> Sessions<Visit> {
        let next = self.next.replace(self.next.get() + 1);
        self.processes[next % 2].clone()
    }

    /// Saves ann's session, with another time to live, so that the index is written too.
    fn save(&self, hours: u32) -> Task {
        let sessions = self.process();
        Box::pin(async move {
            let expiry = || Expiry::After(hours * HOUR);
            sessions.replace(IDS[0], &Visit::of("ann", hours.into()), expiry).await.unwrap();
        })
    }

    fn touch(&self, hours: u32) -> Task {
        let sessions = self.process();
        Box::pin(async move { sessions.touch::<Visit>(IDS[0], Expiry::After(hours * HOUR)).await.unwrap() })
    }

    fn log_out(&self) -> Task {
        let sessions = self.process();
        Box::pin(async move { sessions.remove::<Visit>(IDS[0]).await.unwrap() })
    }

    /// Creates the session `IDS[1]` for `owner`, or gives it to this owner if it exists.
    fn sign_in(&self, owner: &'static str) -> Task {
        let sessions = self.process();
        Box::pin(async move {
            let visit = Visit::of(owner, 1);
            if !sessions.insert(IDS[1], &visit, in_an_hour).await.unwrap() {
                sessions.replace(IDS[1], &visit, in_an_hour).await.unwrap();
            }
        })
    }

    fn revoke(&self) -> Task {
        let sessions = self.process();
        Box::pin(async move {
            sessions.delete_of::<Visit>("ann", |_| true).await.unwrap();
        })
    }

    /// Checks that each session is in the index of its owner, and that `IDS[0]` does not exist if it was `revoked`.
    fn check(&self, revoked: bool) -> Task {
        let sessions = self.process();
        Box::pin(async move {
            for id in IDS {
                let found: Option<Visit> = sessions.find(id).await.unwrap();
                let Some(owner) = found.and_then(|visit| visit.owner) else { continue };
                assert!(!(revoked && id == IDS[0]), "a revoked session has returned");
                let listed = sessions.sessions_of::<Visit>(&owner).await.unwrap();
                let times = listed.iter().filter(|session| session.handle() == handle(id)).count();
                assert_eq!(times, 1, "a session of {owner}");
            }
        })
    }
}

#[test]
fn a_revoked_session_does_not_return() {
    for setting in SETTINGS {
        in_random_orders(|| {
            let before = Before::new(setting);
            let tasks = vec![before.save(1), before.save(9), before.touch(100), before.revoke()];
            (tasks, before.check(true))
        });
    }
}

#[test]
fn an_interrupted_save_does_not_restore_a_revoked_session() {
    for (polls, setting) in (0..12).flat_map(|polls| SETTINGS.map(|setting| (polls, setting))) {
        in_random_orders(|| {
            let before = Before::new(setting);
            let tasks = vec![interrupted(before.save(9), polls), before.save(1), before.revoke()];
            (tasks, before.check(true))
        });
    }
}

#[test]
fn every_session_is_in_the_index_of_its_owner() {
    for setting in SETTINGS {
        in_random_orders(|| {
            let before = Before::new(setting);
            let tasks = vec![before.sign_in("ann"), before.sign_in("bob"), before.save(9), before.log_out()];
            (tasks, before.check(false))
        });
        in_random_orders(|| {
            let before = Before::new(setting);
            (vec![before.sign_in("ann"), before.sign_in("ann"), before.revoke()], before.check(true))
        });
    }
}

#[test]
fn after_an_interruption_every_session_is_in_the_index_of_its_owner() {
    for (polls, setting) in (0..12).flat_map(|polls| SETTINGS.map(|setting| (polls, setting))) {
        in_random_orders(|| {
            let before = Before::new(setting);
            let tasks = vec![
                interrupted(before.sign_in("bob"), polls),
                before.sign_in("ann"),
                interrupted(before.touch(9), polls),
            ];
            (tasks, before.check(false))
        });
    }
}
