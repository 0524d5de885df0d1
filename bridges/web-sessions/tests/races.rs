//! The index of owners, in random orders of concurrent operations, and with processes that end at any step.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test fails by panicking.

mod support;

use std::cell::Cell;

use futures_util::TryStreamExt;
use larder_bridge_tests::{Steps, Task, finish, in_random_orders, interrupted};
use larder_core::{Expiry, Key, ListOptions, Record, Store, Versions};
use larder_web_sessions::{Session, Sessions, handle};
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
    storage: Store,
    processes: [Sessions<Visit>; 2],
    next: Cell<usize>,
}

impl Before {
    fn new((versions, moves): (Versions, bool)) -> Self {
        let steps = Steps::with_versions(versions);
        let (storage, store) = (steps.storage(), Store::new(steps));
        let own = || if moves { sessions(&store).migrating_plain_ids() } else { sessions(&store) };
        let processes = [own(), own()];
        let first = if moves { sessions(&store).with_plain_ids() } else { processes[0].clone() };
        finish(Box::pin(async move {
            assert!(first.insert(IDS[0], &Visit::of("ann", 0), in_an_hour).await.unwrap());
        }));
        Self { storage, processes, next: Cell::new(0) }
    }

    fn process(&self) -> Sessions<Visit> {
        let next = self.next.replace(self.next.get() + 1);
        self.processes[next % 2].clone()
    }

    /// Saves ann's session, with another time to live, so that the index is written too.
    fn save(&self, hours: u32) -> Task {
        self.give("ann", hours)
    }

    /// Saves ann's session as one of `owner`.
    fn give(&self, owner: &'static str, hours: u32) -> Task {
        let sessions = self.process();
        Box::pin(async move {
            let expiry = || Expiry::After(hours * HOUR);
            sessions.replace(IDS[0], &Visit::of(owner, hours.into()), expiry).await.unwrap();
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

    /// Checks that the index names each session for its owner, for at least as long as it lives, and that `IDS[0]` does
    /// not exist if it was `revoked`.
    fn check(&self, revoked: bool) -> Task {
        let (storage, sessions) = (self.storage.clone(), self.process());
        Box::pin(async move {
            for id in IDS {
                let found: Option<Visit> = sessions.find(id).await.unwrap();
                let Some(owner) = found.and_then(|visit| visit.owner) else { continue };
                assert!(!(revoked && id == IDS[0]), "a revoked session has returned");
                let listed = sessions.sessions_of::<Visit>(&owner).await.unwrap();
                let times = listed.iter().filter(|session| session.handle() == handle(id)).count();
                assert_eq!(times, 1, "a session of {owner}");
            }
            let options = ListOptions::new();
            let entries: Vec<_> = storage
                .list(options)
                .map_ok(|entry| (entry.key, entry.record.unwrap()))
                .try_collect()
                .await
                .unwrap();
            for (key, record) in entries.iter().filter(|(key, _)| key.as_str().starts_with("session:")) {
                // The announcement of a move is not a session.
                let Ok(Visit { owner: Some(owner), .. }) = Visit::decode(&record.value, None) else {
                    continue;
                };
                let (owner, name) = (format!(":{owner}:"), format!("{:?}", key.as_str()));
                let notes = |(bucket, record): &&(Key, Record)| {
                    bucket.as_str().contains(&owner)
                        && std::str::from_utf8(&record.value).unwrap().contains(&name)
                };
                let (bucket, _) = entries.iter().find(notes).expect("the session is noted");
                let ttl = async |key: &Key| storage.ttl(key).await.unwrap().unwrap();
                assert!(
                    ttl(bucket).await.as_millis() >= ttl(key).await.as_millis(),
                    "a session outlives its entry"
                );
            }
        })
    }
}

#[test]
fn a_revoked_session_does_not_return() {
    for setting in SETTINGS {
        in_random_orders(1_000, || {
            let before = Before::new(setting);
            let tasks = vec![before.save(1), before.save(9), before.touch(100), before.revoke()];
            (tasks, before.check(true))
        });
    }
}

#[test]
fn an_interrupted_save_does_not_restore_a_revoked_session() {
    for (polls, setting) in (0..12).flat_map(|polls| SETTINGS.map(|setting| (polls, setting))) {
        in_random_orders(150, || {
            let before = Before::new(setting);
            let tasks = vec![interrupted(before.save(9), polls), before.save(1), before.revoke()];
            (tasks, before.check(true))
        });
    }
}

#[test]
fn simultaneous_sign_ins_leave_the_maximum_number_of_sessions() {
    for setting in SETTINGS {
        in_random_orders(1_000, || {
            let before = Before::new(setting);
            let sign_in = |number: usize| -> Task {
                let sessions = before.process().with_max_per_owner(2);
                Box::pin(async move {
                    let id = format!("{number:022}");
                    assert!(sessions.insert(&id, &Visit::of("ann", 1), in_an_hour).await.unwrap());
                })
            };
            let sessions = before.process();
            let check = async move {
                assert_eq!(sessions.sessions_of::<Visit>("ann").await.unwrap().len(), 2);
            };
            ((0..3).map(sign_in).collect(), Box::pin(check))
        });
    }
}

#[test]
fn every_session_is_in_the_index_of_its_owner() {
    for setting in SETTINGS {
        in_random_orders(1_000, || {
            let before = Before::new(setting);
            let tasks = vec![before.sign_in("ann"), before.sign_in("bob"), before.save(9), before.log_out()];
            (tasks, before.check(false))
        });
        in_random_orders(1_000, || {
            let before = Before::new(setting);
            (vec![before.sign_in("ann"), before.sign_in("ann"), before.revoke()], before.check(true))
        });
    }
}

#[test]
fn a_session_does_not_outlive_its_entry_when_its_owner_changes() {
    for setting in SETTINGS {
        in_random_orders(1_000, || {
            let before = Before::new(setting);
            (vec![before.touch(100), before.give("bob", 1), before.save(9)], before.check(false))
        });
    }
}

#[test]
fn after_an_interruption_every_session_is_in_the_index_of_its_owner() {
    for (polls, setting) in (0..12).flat_map(|polls| SETTINGS.map(|setting| (polls, setting))) {
        in_random_orders(150, || {
            let before = Before::new(setting);
            let tasks = vec![
                interrupted(before.sign_in("bob"), polls),
                interrupted(before.touch(99), polls),
                before.save(9),
            ];
            (tasks, before.check(false))
        });
    }
}
