//! The index with a simple kind of session: a session is the name of its owner.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

use std::{sync::Mutex, time::Duration};

use futures_util::{TryStreamExt, future::join_all};
use larder_core::{ErrorKind, Expiry, Key, ListOptions, ReadOptions, Record, Result, Store};
use larder_memory::MemoryStorage;
use larder_owners::{Deadline, Found, Indexed, Lookup, Owner, Owners};

const HOUR: Expiry = Expiry::After(Duration::from_secs(3600));

#[derive(Clone)]
struct Visits {
    store: Store,
    owners: Owners,
}

impl Lookup for Visits {
    async fn find(&self, owner: &str, keys: &[Key]) -> Vec<Result<Option<Found>>> {
        let records = self.store.read_many(keys, &ReadOptions::new()).await;
        let found = |(key, record): (&Key, Result<Option<Record>>)| {
            let theirs = record?.filter(|record| record.value == owner);
            Ok(theirs.map(|record| Found { key: key.clone(), version: record.version }))
        };
        keys.iter().zip(records).map(found).collect()
    }
}

impl Visits {
    fn new() -> Self {
        let store = Store::new(MemoryStorage::new());
        Self { owners: Owners::new(&store, "visit:").unwrap(), store }
    }

    async fn add(&self, key: &Key, owner: &str) {
        self.owners.add(&owned(owner, None), key, Deadline::after(HOUR)).await.unwrap();
    }

    async fn write(&self, key: &Key, owner: &str) {
        self.store.write(key, owner.to_owned()).expiry(HOUR).if_absent().await.unwrap();
    }

    async fn log_in(&self, key: &Key, owner: &str) {
        self.add(key, owner).await;
        self.write(key, owner).await;
    }

    /// Like [`log_in`](Self::log_in), with the limit.
    async fn sign_in(&self, owners: &Owners, key: &Key, owner: &str) {
        let sign_in = owners.before_save(key, &Indexed::NONE, &state(owner, None, HOUR)).await.unwrap();
        self.write(key, owner).await;
        owners.after_save(sign_in, self).await;
    }

    async fn revoke(&self, owner: &str) -> u64 {
        self.owners.delete(owner, |_| true, self).await.unwrap()
    }

    async fn found(&self, owner: &str) -> Vec<Key> {
        let sessions = self.owners.sessions(owner, self).await.unwrap();
        sessions.into_iter().map(|(key, _)| key).collect()
    }

    async fn stored(&self) -> Vec<Key> {
        self.store.keys("").try_collect().await.unwrap()
    }
}

fn owned(id: &str, device: Option<&str>) -> Owner {
    Owner { id: id.to_owned(), device: device.map(str::to_owned) }
}

fn state(id: &str, device: Option<&str>, expiry: Expiry) -> Indexed {
    Indexed { owner: Some(owned(id, device)), deadline: Deadline::after(expiry) }
}

fn key(text: impl std::fmt::Display) -> Key {
    Key::new(format!("visit:{text}")).unwrap()
}

#[tokio::test]
async fn a_session_that_is_noted_but_not_written_is_not_found_and_stays_noted() {
    let visits = Visits::new();
    visits.add(&key(1), "ann").await;
    assert!(visits.found("ann").await.is_empty());
    assert_eq!(visits.revoke("ann").await, 0);
    visits.write(&key(1), "ann").await;
    assert_eq!(visits.found("ann").await, [key(1)]);
    assert_eq!(visits.revoke("ann").await, 1);
    assert!(visits.stored().await.is_empty());
}

/// Two processes find no session and create it. One of the two is revoked before the other is written.
#[tokio::test]
async fn a_session_that_two_processes_create_is_found_after_one_was_revoked() {
    for second_first in [false, true] {
        let visits = Visits::new();
        visits.add(&key(1), "ann").await;
        if second_first {
            visits.add(&key(1), "ann").await;
        }
        visits.write(&key(1), "ann").await;
        if !second_first {
            visits.add(&key(1), "ann").await;
        }
        assert_eq!(visits.revoke("ann").await, 1);
        visits.write(&key(1), "ann").await;
        assert_eq!(visits.found("ann").await, [key(1)]);
        assert_eq!(visits.revoke("ann").await, 1);
    }
}

#[tokio::test]
async fn the_entry_of_a_deleted_session_is_removed_unless_it_was_noted_again() {
    let visits = Visits::new();
    visits.log_in(&key(1), "ann").await;
    let was = state("ann", Some("phone"), Expiry::after_millis(1));
    let deletion = visits.owners.before_save(&key(1), &was, &Indexed::NONE).await.unwrap();
    visits.owners.before_touch(&key(1), &was, Deadline::after(HOUR)).await.unwrap();
    visits.owners.after_save(deletion, &visits).await;
    assert_eq!(visits.owners.entries("ann").await.unwrap()[0].device(), Some("phone"));
    let deletion = visits.owners.before_save(&key(1), &was, &Indexed::NONE).await.unwrap();
    visits.owners.after_save(deletion, &visits).await;
    assert!(visits.owners.entries("ann").await.unwrap().is_empty());
}

#[tokio::test]
async fn a_session_that_gets_another_owner_is_noted_for_that_one_only() {
    let visits = Visits::new();
    visits.log_in(&key(1), "ann").await;
    let (was, will) = (state("ann", None, HOUR), state("bob", Some("phone"), HOUR));
    let save = visits.owners.before_save(&key(1), &was, &will).await.unwrap();
    visits.store.write(key(1), "bob").await.unwrap();
    visits.owners.after_save(save, &visits).await;
    assert!(visits.owners.entries("ann").await.unwrap().is_empty());
    assert_eq!(visits.owners.entries("bob").await.unwrap()[0].device(), Some("phone"));
}

#[tokio::test]
async fn a_session_of_another_owner_is_neither_found_nor_deleted() {
    let visits = Visits::new();
    visits.log_in(&key(1), "ann").await;
    visits.add(&key(1), "bob").await;
    assert!(visits.found("bob").await.is_empty());
    assert_eq!(visits.revoke("bob").await, 0);
    assert_eq!(visits.found("ann").await, [key(1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_sessions_of_one_owner_are_found_and_deleted() {
    let visits = Visits::new();
    for number in (0..4_000).step_by(200) {
        let some = (number..number + 200).map(|number| {
            let visits = visits.clone();
            tokio::spawn(async move { visits.log_in(&key(number), "ann").await })
        });
        for task in join_all(some).await {
            task.unwrap();
        }
    }
    assert_eq!(visits.found("ann").await.len(), 4_000);
    let owners = visits.owners.clone().with_max_per_owner(3_000);
    let newest = key(4_000);
    visits.sign_in(&owners, &newest, "ann").await;
    let found = visits.found("ann").await;
    assert!(found.len() == 3_000 && found.contains(&newest) && found.contains(&key(3_999)));
    assert_eq!(visits.revoke("ann").await, 3_000);
    assert!(visits.stored().await.is_empty());
}

/// Several sign-ins in one millisecond, as if the clock stood still.
#[tokio::test]
async fn the_latest_session_stays_at_sign_ins_in_one_millisecond() {
    for most in [0, 1, 2] {
        let visits = Visits::new();
        let owners = visits.owners.clone().with_max_per_owner(most);
        for number in (1_000..2_000).rev() {
            visits.sign_in(&owners, &key(number), "ann").await;
            let found = visits.found("ann").await;
            assert!(found.last() == Some(&key(number)) && found.len() <= most.max(1));
        }
        assert_eq!(visits.found("ann").await.len(), most.max(1));
    }
}

#[tokio::test]
async fn namespaces_have_their_own_owners() {
    let visits = Visits::new();
    visits.log_in(&key(1), "ann").await;
    let others = Owners::new(&visits.store, "visit").unwrap();
    assert!(others.entries("ann").await.unwrap().is_empty());
    let part = Visits {
        store: visits.store.namespace("part:").unwrap(),
        owners: Owners::new(visits.store.namespace("part:").unwrap(), "visit:").unwrap(),
    };
    let long = "ann".repeat(200);
    part.log_in(&key(1), &long).await;
    assert_eq!(part.revoke(&long).await, 1);
    assert_eq!(visits.found("ann").await, [key(1)]);
}

#[tokio::test]
async fn an_error_of_a_session_does_not_keep_the_others() {
    struct Failing(Visits);

    impl Lookup for Failing {
        async fn find(&self, owner: &str, keys: &[Key]) -> Vec<Result<Option<Found>>> {
            let found = self.0.find(owner, keys).await.into_iter().zip(keys);
            let failed = || Err(larder_core::Error::new(ErrorKind::VersionTooNew, "too new"));
            found.map(|(found, at)| if *at == key(1) { failed() } else { found }).collect()
        }
    }

    let visits = Visits::new();
    for number in 0..3 {
        visits.log_in(&key(number), "ann").await;
    }
    let failing = Failing(visits.clone());
    let outcome = visits.owners.delete("ann", |_| true, &failing).await;
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::VersionTooNew);
    assert_eq!(visits.found("ann").await, [key(1)]);
}

#[tokio::test]
async fn an_unreadable_part_of_the_index_does_not_keep_the_other_sessions() {
    let visits = Visits::new();
    for number in 0..40 {
        visits.log_in(&key(number), "ann").await;
    }
    let bucket = visits.store.list(ListOptions::new().prefix("larder:")).try_next().await.unwrap().unwrap();
    let noted = String::from_utf8(bucket.record.unwrap().value.to_vec()).unwrap();
    let kept = noted.matches("visit:").count();
    visits.store.write(bucket.key, "zoe").await.unwrap();
    let outcome = visits.owners.delete("ann", |_| true, &visits).await;
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Codec);
    let sessions: Vec<Key> = visits.store.keys("visit:").try_collect().await.unwrap();
    assert!(kept < 40 && sessions.len() == kept, "{} of {kept}", sessions.len());
}

#[tokio::test]
async fn a_session_that_gets_another_owner_before_its_deletion_stays() {
    /// Just after the first read, another process writes the session.
    struct Overtaken(Visits, Mutex<Option<&'static str>>);

    impl Lookup for Overtaken {
        async fn find(&self, owner: &str, keys: &[Key]) -> Vec<Result<Option<Found>>> {
            let found = self.0.find(owner, keys).await;
            let next = self.1.lock().unwrap().take();
            if let Some(next) = next {
                self.0.store.write(&keys[0], next).await.unwrap();
            }
            found
        }
    }

    for (next, deleted) in [("bob", 0), ("ann", 1)] {
        let visits = Visits::new();
        visits.log_in(&key(1), "ann").await;
        let lookup = Overtaken(visits.clone(), Mutex::new(Some(next)));
        assert_eq!(visits.owners.delete("ann", |_| true, &lookup).await.unwrap(), deleted);
        assert_eq!(visits.store.contains(key(1)).await.unwrap(), deleted == 0);
    }
}

#[tokio::test]
async fn debug_prints_no_key_and_no_device() {
    let visits = Visits::new();
    let ann = owned("ann", Some("secret"));
    visits.owners.add(&ann, &key("secret"), Deadline::NEVER).await.unwrap();
    let entries = visits.owners.entries("ann").await.unwrap();
    let printed = format!("{:?} {ann:?} {entries:?}", visits.owners);
    assert!(entries.len() == 1 && !printed.contains("secret") && !printed.contains("visit:"), "{printed}");
}
