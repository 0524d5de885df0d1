//! The index of owners: the sessions of one user.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

mod common;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use futures_util::{FutureExt, TryStreamExt, future::join_all};
use larder_core::{Expiry, Key, clock::unix_millis};
use larder_session::{ConflictPolicy, ErrorKind, Lifetime, Session, Sessions, SessionsBuilder};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use common::{Call, Counting, LONG, kind, soon, until};

async fn keys<T: Send + Sync + 'static>(sessions: &Sessions<T>) -> Vec<String> {
    let mut keys: Vec<_> = sessions.keys().try_collect().await.unwrap();
    keys.sort_unstable();
    keys
}

/// Returns all keys in the storage.
async fn stored(storage: &Counting) -> Vec<String> {
    let keys = storage.behind().keys("");
    let mut keys: Vec<_> = keys.map_ok(|key| key.as_str().to_owned()).try_collect().await.unwrap();
    keys.sort_unstable();
    keys
}

/// Returns the buckets of the index with their keys.
async fn buckets(storage: &Counting) -> Vec<(String, Value)> {
    let mut buckets = Vec::new();
    for key in stored(storage).await.into_iter().filter(|key| key.starts_with("larder:owner:")) {
        let bucket = storage.json(&key).await.unwrap();
        buckets.push((key, bucket));
    }
    buckets
}

/// Returns the keys of all sessions in the index, of all owners.
async fn noted(storage: &Counting) -> Vec<String> {
    let mut keys = Vec::new();
    for (_, bucket) in buckets(storage).await {
        for session in bucket["sessions"].as_array().unwrap() {
            keys.push(session["key"].as_str().unwrap().to_owned());
        }
    }
    keys.sort_unstable();
    keys
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Visit {
    user: Option<String>,
    pages: u32,
}

impl Visit {
    fn of(user: &str) -> Self {
        Self { user: Some(user.to_owned()), pages: 0 }
    }
}

fn owned(storage: &Counting) -> Sessions<Visit> {
    owned_for(storage, Lifetime::forever())
}

fn owned_for(storage: &Counting, lifetime: Lifetime) -> Sessions<Visit> {
    builder(storage).lifetime(lifetime).build().unwrap()
}

fn builder(storage: &Counting) -> SessionsBuilder<Visit> {
    let builder = Sessions::builder().storage(storage.clone()).prefix("visit:");
    builder.owner(|visit: &Visit| visit.user.clone())
}

async fn log_in(visits: &Sessions<Visit>, key: &str, user: &str) {
    visits.update(key, async |mut visit| visit.user = Some(user.to_owned())).await.unwrap();
}

#[tokio::test]
async fn the_sessions_of_a_user_are_found() {
    let storage = Counting::new();
    let visits = owned(&storage);
    visits.update("anonymous", async |mut visit| visit.pages += 1).await.unwrap();
    log_in(&visits, "laptop", "ann").await;
    log_in(&visits, "phone", "ann").await;
    log_in(&visits, "desk", "bob").await;
    // A session that was not read before it was set.
    visits.set("tablet", Visit::of("ann")).await.unwrap();
    let mut found = visits.keys_by_owner("ann").await.unwrap();
    found.sort_unstable();
    assert_eq!(found, ["laptop", "phone", "tablet"]);
    assert_eq!(visits.keys_by_owner("bob").await.unwrap(), ["desk"]);
    assert!(visits.keys_by_owner("nobody").await.unwrap().is_empty());
    assert_eq!(keys(&visits).await, ["anonymous", "desk", "laptop", "phone", "tablet"]);
}

#[tokio::test]
async fn the_sessions_of_a_user_are_deleted_and_those_of_others_stay() {
    let storage = Counting::new();
    let visits = owned(&storage);
    for (key, user) in [("laptop", "ann"), ("phone", "ann"), ("desk", "bob")] {
        log_in(&visits, key, user).await;
    }
    assert_eq!(visits.delete_by_owner("ann").await.unwrap(), 2);
    assert_eq!(keys(&visits).await, ["desk"]);
    assert!(visits.keys_by_owner("ann").await.unwrap().is_empty());
    assert_eq!(visits.delete_by_owner("ann").await.unwrap(), 0);
    assert_eq!(visits.keys_by_owner("bob").await.unwrap(), ["desk"]);
    assert_eq!(stored(&storage).await.len(), 2, "nothing is left in the index");
}

#[tokio::test]
async fn similar_owner_names_are_distinguished() {
    let storage = Counting::new();
    let visits = owned(&storage);
    let users = ["a", "a:", "a:b", "a%3Ab", "a%", ":", "ann", "an", "名前"];
    for (number, user) in users.iter().enumerate() {
        log_in(&visits, &format!("b:{number}"), user).await;
    }
    for (number, user) in users.iter().enumerate() {
        assert_eq!(visits.keys_by_owner(user).await.unwrap(), [format!("b:{number}")], "{user}");
    }
    for user in users {
        assert_eq!(visits.delete_by_owner(user).await.unwrap(), 1, "{user}");
    }
}

#[tokio::test]
async fn kinds_of_session_have_separate_indices() {
    let storage = Counting::new();
    let visits = owned(&storage);
    let carts: Sessions<Visit> = Sessions::builder()
        .storage(storage.clone())
        .prefix("visit:cart:")
        .owner(|visit: &Visit| visit.user.clone())
        .build()
        .unwrap();
    log_in(&visits, "laptop", "ann").await;
    log_in(&carts, "1", "ann").await;
    assert_eq!(visits.keys_by_owner("ann").await.unwrap(), ["laptop"]);
    assert_eq!(carts.delete_by_owner("ann").await.unwrap(), 1);
    assert_eq!(visits.keys_by_owner("ann").await.unwrap(), ["laptop"]);
}

#[tokio::test]
async fn a_session_with_a_new_owner_belongs_to_the_new_owner() {
    let storage = Counting::new();
    let visits = owned(&storage);
    log_in(&visits, "kiosk", "ann").await;
    log_in(&visits, "kiosk", "bob").await;
    assert!(visits.keys_by_owner("ann").await.unwrap().is_empty());
    assert_eq!(visits.delete_by_owner("ann").await.unwrap(), 0);
    assert_eq!(visits.keys_by_owner("bob").await.unwrap(), ["kiosk"]);
    // After the log-out it has no owner.
    visits.update("kiosk", async |mut visit| visit.user = None).await.unwrap();
    assert!(visits.keys_by_owner("bob").await.unwrap().is_empty());
    assert_eq!(keys(&visits).await, ["kiosk"]);
}

#[tokio::test]
async fn a_session_set_without_a_read_belongs_to_the_new_owner_only() {
    let storage = Counting::new();
    let visits = owned(&storage);
    log_in(&visits, "kiosk", "ann").await;
    visits.set("kiosk", Visit::of("bob")).await.unwrap();
    assert!(visits.keys_by_owner("ann").await.unwrap().is_empty());
    assert_eq!(visits.delete_by_owner("ann").await.unwrap(), 0);
    assert_eq!(visits.get("kiosk").await.unwrap(), Some(Visit::of("bob")));
    visits.update_lazy("kiosk", async |visit| visit.set(Visit::of("eve"))).await.unwrap();
    assert_eq!(visits.delete_by_owner("bob").await.unwrap(), 0);
    assert_eq!(visits.delete_by_owner("eve").await.unwrap(), 1);
}

#[tokio::test]
async fn a_deleted_session_has_no_owner() {
    let storage = Counting::new();
    let visits = owned(&storage);
    for key in ["cleared", "deleted", "lazily", "all", "behind"] {
        log_in(&visits, key, "ann").await;
    }
    let remaining = async || {
        let mut keys = visits.keys_by_owner("ann").await.unwrap();
        keys.sort_unstable();
        keys
    };
    visits.update("cleared", async |mut visit| Session::clear(&mut visit)).await.unwrap();
    assert_eq!(remaining().await, ["all", "behind", "deleted", "lazily"]);
    assert!(visits.delete("deleted").await.unwrap());
    assert_eq!(remaining().await, ["all", "behind", "lazily"]);
    visits.update_lazy("lazily", async |visit| visit.clear()).await.unwrap();
    assert_eq!(remaining().await, ["all", "behind"]);
    storage.behind().delete(Key::new("visit:behind").unwrap()).await.unwrap();
    assert_eq!(remaining().await, ["all"]);
    visits.delete_all().await.unwrap();
    assert!(remaining().await.is_empty());
    // The next owner of the key is not logged out with her.
    log_in(&visits, "deleted", "bob").await;
    assert_eq!(visits.delete_by_owner("ann").await.unwrap(), 0);
    assert_eq!(keys(&visits).await, ["deleted"]);
}

#[tokio::test]
async fn a_session_that_cannot_be_read_is_deleted_with_the_others_of_its_owner() {
    let storage = Counting::new();
    let visits = owned(&storage);
    log_in(&visits, "laptop", "ann").await;
    log_in(&visits, "phone", "ann").await;
    storage.put("visit:laptop", "not json").await;
    assert_eq!(visits.delete_by_owner("ann").await.unwrap(), 2);
    assert!(keys(&visits).await.is_empty());
}

#[tokio::test]
async fn a_user_is_logged_out_under_the_key_that_a_session_has_moved_to() {
    let storage = Counting::new();
    let visits = owned(&storage);
    log_in(&visits, "old", "ann").await;
    visits.move_key("old", "new").await.unwrap();
    assert!(!visits.keys_by_owner("ann").await.unwrap().is_empty());
    visits.update("old", async |mut visit| visit.pages += 1).await.unwrap();
    assert_eq!(visits.delete_by_owner("ann").await.unwrap(), 1);
    assert!(keys(&visits).await.is_empty());
    assert!(visits.keys_by_owner("ann").await.unwrap().is_empty());
}

#[tokio::test]
async fn an_index_that_cannot_be_written_fails_the_update() {
    let storage = Counting::new();
    let visits = owned(&storage);
    storage.fail_write(ErrorKind::Unavailable);
    let failed = visits.update("laptop", async |mut visit| visit.user = Some("ann".to_owned())).await;
    assert_eq!(kind(failed), ErrorKind::Unavailable);
    assert!(keys(&visits).await.is_empty(), "a session that the index does not name could not be revoked");
}

#[tokio::test]
async fn a_session_with_no_owner_costs_no_more() {
    let storage = Counting::new();
    let visits = owned(&storage);
    visits.update("anonymous", async |mut visit| visit.pages += 1).await.unwrap();
    assert_eq!((storage.reads(), storage.writes()), (1, 1));
    let builder = Sessions::<u32>::builder().storage(storage.clone()).prefix("plain:");
    let plain = builder.build().unwrap();
    plain.set(1, 7).await.unwrap();
    // A revocation that finds no index must not seem to succeed.
    assert_eq!(kind(plain.keys_by_owner("ann").await), ErrorKind::Unsupported);
    assert_eq!(kind(plain.delete_by_owner("ann").await), ErrorKind::Unsupported);
    assert_eq!(kind(plain.delete_others_by_owner("ann", 1).await), ErrorKind::Unsupported);
    assert_eq!(storage.json("plain:1").await.unwrap(), json!(7));
}

// The cost

#[tokio::test]
async fn the_sessions_of_a_user_are_found_in_two_batches_without_a_listing() {
    let storage = Counting::new();
    let visits = owned(&storage);
    for number in 0..100 {
        log_in(&visits, &number.to_string(), if number % 2 == 0 { "ann" } else { "bob" }).await;
    }
    storage.forget_counts();
    assert_eq!(visits.keys_by_owner("ann").await.unwrap().len(), 50);
    assert_eq!((storage.count(Call::ReadMany), storage.calls()), (2, 2));
    storage.forget_counts();
    assert_eq!(visits.delete_by_owner("ann").await.unwrap(), 50);
    // Both batches, and one that reads the buckets again; the sessions, and the buckets.
    assert_eq!((storage.count(Call::ReadMany), storage.count(Call::Apply), storage.calls()), (3, 2, 5));
}

/// A lifetime whose end is now in the middle of a step, of 1,024 minutes.
fn month() -> Duration {
    let step = Duration::from_secs(1_024 * 60);
    let end = SystemTime::UNIX_EPOCH.elapsed().unwrap() + Duration::from_secs(30 * 24 * 3600);
    let in_step = Duration::from_millis((end.as_millis() % step.as_millis()) as u64);
    Duration::from_secs(30 * 24 * 3600) + step + step / 2 - in_step
}

#[tokio::test]
async fn a_save_writes_the_index_only_for_a_new_session_or_owner() {
    let storage = Counting::new();
    let visits = owned_for(&storage, Lifetime::sliding(month()).touch_every(Duration::ZERO));
    log_in(&visits, "laptop", "ann").await;
    assert_eq!((storage.count(Call::ReadMany), storage.count(Call::Apply)), (1, 1));
    assert_eq!((storage.reads(), storage.writes()), (1, 2));
    storage.forget_counts();
    for _ in 0..20 {
        visits.update("laptop", async |mut visit| visit.pages += 1).await.unwrap();
        visits.get("laptop").await.unwrap();
    }
    assert_eq!((storage.reads(), storage.count(Call::WriteIf), storage.count(Call::Touch)), (40, 20, 20));
    assert_eq!(storage.calls(), 80, "neither a read nor a write of the index");
    almost_ends(&storage, "visit:laptop", 3600).await;
    visits.get("laptop").await.unwrap();
    assert_eq!((storage.count(Call::ReadMany), storage.count(Call::Apply)), (1, 1));
    storage.forget_counts();
    log_in(&visits, "laptop", "bob").await;
    // Of the new owner: a read and a write. Of the former one: two reads and a write.
    assert_eq!((storage.reads(), storage.count(Call::ReadMany), storage.count(Call::Apply)), (2, 2, 2));
}

#[tokio::test]
async fn a_session_without_an_end_is_noted_once() {
    let storage = Counting::new();
    let visits = owned(&storage);
    log_in(&visits, "laptop", "ann").await;
    storage.forget_counts();
    for _ in 0..20 {
        visits.update("laptop", async |mut visit| visit.pages += 1).await.unwrap();
    }
    assert_eq!((storage.reads(), storage.writes(), storage.calls()), (20, 20, 40));
}

// The lifetime

/// Checks that every entry of the storage expires, and returns the TTLs of the last bucket and of the session.
async fn index_and_session(storage: &Counting) -> (Duration, Duration) {
    let mut left = Vec::new();
    for key in stored(storage).await {
        match storage.behind().ttl(&Key::new(&key).unwrap()).await.unwrap() {
            Some(Expiry::After(time)) => left.push(time),
            other => panic!("it ends by itself, but not like this: {other:?}"),
        }
    }
    // "larder:..." comes before "visit:...".
    (left[0], left[1])
}

/// Sets the remaining time of a session, as if the rest had passed.
async fn almost_ends(storage: &Counting, session: &str, seconds: u64) {
    storage.behind().touch(Key::new(session).unwrap(), Expiry::after_secs(seconds)).await.unwrap();
}

#[tokio::test]
async fn the_index_ends_soon_after_the_session() {
    let storage = Counting::new();
    let visits = owned_for(&storage, Lifetime::sliding(LONG).touch_every(Duration::ZERO));
    log_in(&visits, "laptop", "ann").await;
    for _ in 0..2 {
        let (index, session) = index_and_session(&storage).await;
        // Steps of four minutes.
        let longer = Duration::from_secs(11 * 60)..Duration::from_secs(17 * 60);
        assert!(longer.contains(&(index - session)), "{index:?} {session:?}");
        almost_ends(&storage, "visit:laptop", 60).await;
        visits.get("laptop").await.unwrap();
    }
    assert_eq!(storage.count(Call::Touch), 2);
}

#[tokio::test]
async fn sessions_do_not_outlive_their_index_entries() {
    let storage = Counting::new();
    let visits = owned_for(&storage, Lifetime::sliding(LONG).touch_every(Duration::ZERO));
    log_in(&visits, "laptop", "ann").await;
    almost_ends(&storage, "visit:laptop", 60).await;
    storage.fail_write(ErrorKind::Unavailable);
    assert_eq!(kind(visits.get("laptop").await), ErrorKind::Unavailable);
    let (_, session) = index_and_session(&storage).await;
    assert!(
        session <= Duration::from_secs(60),
        "a session that the index does not name could not be revoked"
    );
    visits.get("laptop").await.unwrap();
    let (index, session) = index_and_session(&storage).await;
    assert!(session > Duration::from_secs(60) && session <= index, "{index:?} {session:?}");
}

#[tokio::test]
async fn a_session_that_stays_without_end_is_noted_without_end() {
    let storage = Counting::new();
    let short = owned_for(&storage, Lifetime::after_write(LONG));
    log_in(&short, "laptop", "ann").await;
    // A new release of the program.
    let long = owned(&storage);
    long.update("laptop", async |mut visit| visit.pages += 1).await.unwrap();
    let [(key, bucket)] = &buckets(&storage).await[..] else { panic!("one bucket") };
    assert_eq!(bucket["sessions"][0]["until"], Value::Null);
    assert_eq!(storage.behind().ttl(Key::new(key).unwrap()).await.unwrap(), Some(Expiry::Never));
}

#[tokio::test]
async fn a_process_killed_between_index_and_session_leaves_only_entries_that_expire() {
    let storage = Counting::new();
    let visits = owned_for(&storage, Lifetime::sliding(LONG));
    let gate = storage.gate_writes();
    gate.let_through(1);
    let mut signing_in = Box::pin(log_in(&visits, "laptop", "ann"));
    assert!(signing_in.as_mut().now_or_never().is_none());
    gate.arrived(2).await;
    drop(signing_in);
    gate.let_through(100);
    let [key] = &stored(&storage).await[..] else { panic!("the index only") };
    let left = storage.behind().ttl(Key::new(key).unwrap()).await.unwrap();
    assert!(matches!(left, Some(Expiry::After(left)) if left < 2 * LONG), "{left:?}");
    assert!(visits.keys_by_owner("ann").await.unwrap().is_empty());
    // The session may be about to be written.
    assert_eq!(visits.delete_by_owner("ann").await.unwrap(), 0);
    assert_eq!(noted(&storage).await, ["visit:laptop"]);
}

#[tokio::test]
async fn an_old_entry_without_a_session_is_removed() {
    let storage = Counting::new();
    let visits = owned(&storage);
    log_in(&visits, "laptop", "ann").await;
    storage.behind().delete(Key::new("visit:laptop").unwrap()).await.unwrap();
    let (key, mut bucket) = buckets(&storage).await.remove(0);
    let used = bucket["sessions"][0]["used"].as_i64().unwrap();
    for (minutes, remaining) in [(9, 1), (11, 0)] {
        bucket["sessions"][0]["used"] = json!(used - minutes * 60_000);
        storage.put_json(&key, bucket.clone()).await;
        assert_eq!(visits.delete_by_owner("ann").await.unwrap(), 0);
        assert_eq!(stored(&storage).await.len(), remaining, "after {minutes} minutes");
    }
}

// Devices and limits

fn is_recent(time: SystemTime) -> bool {
    time <= SystemTime::now() && time.elapsed().unwrap() < common::LIMIT
}

#[tokio::test]
async fn the_sessions_of_a_user_have_times_and_devices() {
    let storage = Counting::new();
    let visits = builder(&storage).device(|visit| Some(format!("device {}", visit.pages))).build().unwrap();
    for (pages, key) in ["laptop", "phone"].into_iter().enumerate() {
        visits.set(key, Visit { pages: pages as u32, ..Visit::of("ann") }).await.unwrap();
    }
    let sessions = visits.sessions_of("ann").await.unwrap();
    let devices: Vec<_> = sessions.iter().map(|session| (session.key(), session.device().unwrap())).collect();
    assert_eq!(devices, [("laptop", "device 0"), ("phone", "device 1")]);
    for session in &sessions {
        assert!(is_recent(session.created()) && is_recent(session.used()));
        assert!(!format!("{session:?}").contains("device 0"));
        assert!(!format!("{session:?}").contains("laptop"));
    }
}

#[tokio::test]
async fn the_other_sessions_of_a_user_are_deleted() {
    let storage = Counting::new();
    let visits = owned(&storage);
    for (key, user) in [("laptop", "ann"), ("phone", "ann"), ("tablet", "ann"), ("desk", "bob")] {
        log_in(&visits, key, user).await;
    }
    // In a handler of the session that stays, too.
    let others = visits.update("phone", async |mut visit| {
        visit.pages += 1;
        visits.delete_others_by_owner("ann", "phone").await
    });
    assert_eq!(others.await.unwrap(), 2);
    assert_eq!(keys(&visits).await, ["desk", "phone"]);
    assert_eq!(noted(&storage).await, ["visit:desk", "visit:phone"]);
    // Under its former key, too.
    visits.move_key("phone", "telephone").await.unwrap();
    assert_eq!(visits.delete_others_by_owner("ann", "phone").await.unwrap(), 0);
    assert_eq!(visits.delete_others_by_owner("ann", "another").await.unwrap(), 1);
}

#[tokio::test]
async fn a_user_has_at_most_the_maximum_number_of_sessions() {
    let storage = Counting::new();
    let visits = builder(&storage).max_per_owner(2).build().unwrap();
    for (number, key) in ["first", "second", "third", "fourth"].into_iter().enumerate() {
        log_in(&visits, key, "ann").await;
        let found = visits.keys_by_owner("ann").await.unwrap();
        assert_eq!(found.len(), (number + 1).min(2));
        assert!(found.contains(&key.to_owned()), "the new session stays");
        log_in(&visits, &format!("desk{number}"), "bob").await;
        let created = unix_millis();
        until("the next session is newer", async || unix_millis() > created).await;
    }
    let mut found = visits.keys_by_owner("ann").await.unwrap();
    found.sort_unstable();
    assert_eq!(found, ["fourth", "third"]);
    // A session that exists does not count twice.
    visits.update("third", async |mut visit| visit.pages += 1).await.unwrap();
    visits.set("third", Visit::of("ann")).await.unwrap();
    assert_eq!(visits.keys_by_owner("ann").await.unwrap().len(), 2);
    assert_eq!(visits.keys_by_owner("bob").await.unwrap(), ["desk2", "desk3"]);
}

#[tokio::test]
async fn a_limit_that_cannot_be_enforced_does_not_fail_the_save() {
    let storage = Counting::new();
    let visits = builder(&storage).max_per_owner(1).build().unwrap();
    log_in(&visits, "first", "ann").await;
    let gate = storage.gate_writes();
    let second = async {
        // The index, the session, and the deletion of the first session, which fails.
        gate.let_through(2);
        gate.arrived(3).await;
        storage.fail_write(ErrorKind::Unavailable);
        gate.let_through(100);
    };
    soon(futures_util::future::join(log_in(&visits, "second", "ann"), second)).await;
    assert_eq!(visits.keys_by_owner("ann").await.unwrap().len(), 2);
    log_in(&visits, "third", "ann").await;
    assert_eq!(visits.keys_by_owner("ann").await.unwrap(), ["third"]);
}

#[test]
fn options_of_the_index_are_checked() {
    let storage = Counting::new();
    let plain = || Sessions::<Visit>::builder().storage(storage.clone());
    assert_eq!(kind(plain().max_per_owner(1).build()), ErrorKind::InvalidConfig);
    assert_eq!(kind(plain().device(|_| None).build()), ErrorKind::InvalidConfig);
    assert_eq!(kind(builder(&storage).max_per_owner(0).build()), ErrorKind::InvalidConfig);
    let storage = storage.clone().without_compare_and_swap();
    let last = builder(&storage).conflicts(ConflictPolicy::LastWriteWins);
    assert_eq!(kind(last.build()), ErrorKind::Unsupported);
}

// Foreign data

#[tokio::test]
async fn data_of_another_program_in_the_index_is_an_error_and_stays() {
    let storage = Counting::new();
    let visits = owned(&storage);
    log_in(&visits, "laptop", "ann").await;
    let (key, bucket) = buckets(&storage).await.remove(0);
    let mut newer = bucket.clone();
    newer["sessions"][0]["place"] = json!("Paris");
    for foreign in [json!({ "owner": ["another program"] }), json!(7), newer] {
        storage.put_json(&key, foreign.clone()).await;
        let pages = async |mut visit: Session<Visit>| visit.user = None;
        visits.update("laptop", pages).await.unwrap();
        let again = visits.update("laptop", async |mut visit| visit.user = Some("ann".to_owned())).await;
        assert_eq!(kind(again), ErrorKind::Codec);
        assert_eq!(kind(visits.keys_by_owner("ann").await), ErrorKind::Codec);
        assert_eq!(kind(visits.delete_by_owner("ann").await), ErrorKind::Codec);
        assert_eq!(storage.json(&key).await, Some(foreign));
        assert_eq!(visits.get("laptop").await.unwrap().unwrap().user, None);
        storage.put_json(&key, bucket.clone()).await;
        log_in(&visits, "laptop", "ann").await;
    }
}

#[tokio::test]
async fn a_long_owner_has_an_index_too() {
    let storage = Counting::new();
    let visits = owned(&storage);
    let users = ["名".repeat(600), "名".repeat(601)];
    for user in &users {
        log_in(&visits, &user.len().to_string(), user).await;
    }
    for user in &users {
        assert_eq!(visits.delete_by_owner(user).await.unwrap(), 1);
    }
    assert!(stored(&storage).await.is_empty());
}

// Races

#[tokio::test]
async fn a_write_without_a_condition_is_noted_again_after_a_revocation() {
    for conflicts in [ConflictPolicy::default(), ConflictPolicy::LastWriteWins] {
        let storage = Counting::new();
        let lifetime = Lifetime::after_write(LONG);
        let visits = builder(&storage).lifetime(lifetime).conflicts(conflicts).build().unwrap();
        let other = Sessions::<Visit>::builder().storage(storage.behind()).prefix("visit:");
        let other = other.owner(|visit| visit.user.clone()).build().unwrap();
        log_in(&visits, "laptop", "ann").await;
        almost_ends(&storage, "visit:laptop", 60).await;
        let gate = storage.gate_writes();
        let save = async {
            if conflicts == ConflictPolicy::LastWriteWins {
                visits.update("laptop", async |mut visit| visit.pages += 1).await.unwrap();
            } else {
                visits.set("laptop", Visit::of("ann")).await.unwrap();
            }
        };
        let revoke = async {
            // The session is noted and about to be written.
            gate.let_through(1);
            gate.arrived(2).await;
            assert_eq!(other.delete_by_owner("ann").await.unwrap(), 1);
            assert!(noted(&storage).await.is_empty());
            gate.let_through(100);
        };
        soon(futures_util::future::join(save, revoke)).await;
        assert_eq!(keys(&visits).await, ["laptop"]);
        assert_eq!(visits.delete_by_owner("ann").await.unwrap(), 1);
        assert!(stored(&storage).await.is_empty());
    }
}

#[tokio::test]
async fn a_save_that_a_revocation_overtakes_begins_again() {
    let storage = Counting::new();
    let visits = owned_for(&storage, Lifetime::after_write(LONG));
    log_in(&visits, "laptop", "ann").await;
    log_in(&visits, "phone", "ann").await;
    let gate = storage.gate_writes();
    let other = Sessions::<Visit>::builder().storage(storage.behind()).prefix("visit:");
    let other = other.owner(|visit| visit.user.clone()).build().unwrap();
    let save = visits.update("laptop", async |mut visit| visit.pages += 1);
    let once = visits.update_once("phone", async |mut visit| visit.pages += 1);
    let revoke = async {
        gate.arrived(2).await;
        assert_eq!(other.delete_by_owner("ann").await.unwrap(), 2);
        gate.let_through(100);
    };
    let (saved, saved_once, ()) = soon(futures_util::future::join3(save, once, revoke)).await;
    saved.unwrap();
    assert_eq!(kind(saved_once), ErrorKind::Conflict);
    assert_eq!(visits.get("laptop").await.unwrap(), Some(Visit { user: None, pages: 1 }));
    assert_eq!(visits.get("phone").await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn simultaneous_sign_ins_of_one_user_are_all_found() {
    let storage = Counting::new();
    let visits = owned(&storage);
    let sign_ins = (0..200).map(|number| {
        let visits = visits.clone();
        tokio::spawn(async move { log_in(&visits, &number.to_string(), "ann").await })
    });
    for signed_in in soon(join_all(sign_ins)).await {
        signed_in.unwrap();
    }
    assert_eq!(visits.keys_by_owner("ann").await.unwrap().len(), 200);
    assert_eq!(visits.delete_by_owner("ann").await.unwrap(), 200);
    assert!(stored(&storage).await.is_empty());
}

/// Saves of all kinds, in two processes, while the user is logged out again and again.
async fn race(storage: &Counting, conflicts: ConflictPolicy) {
    let process = || {
        let lifetime = Lifetime::sliding(Duration::from_secs(600)).touch_every(Duration::ZERO);
        builder(storage).lifetime(lifetime).conflicts(conflicts).build().unwrap()
    };
    let processes = [process(), process()];
    let done = Arc::new(AtomicBool::new(false));
    let saving = (0..50).map(|task| {
        // Two tasks in two processes save one session.
        let (visits, key, done) = (processes[task % 2].clone(), (task / 2).to_string(), Arc::clone(&done));
        tokio::spawn(async move {
            let mut number = task;
            while !done.load(Ordering::Relaxed) {
                number += 1;
                match number % 5 {
                    0 => visits.set(&key, Visit::of("ann")).await,
                    1 => visits.get(&key).await.map(drop),
                    2 => visits.delete(&key).await.map(drop),
                    3 => visits.update(&key, async |mut visit| visit.user = None).await,
                    _ => visits.update(&key, async |mut visit| *visit = Visit::of("ann")).await,
                }
                .unwrap();
                tokio::task::yield_now().await;
            }
        })
    });
    let saving: Vec<_> = saving.collect();
    let mut deleted = 0;
    while deleted < 300 {
        deleted += processes[deleted as usize % 2].delete_by_owner("ann").await.unwrap();
        tokio::task::yield_now().await;
    }
    done.store(true, Ordering::Relaxed);
    for task in join_all(saving).await {
        task.unwrap();
    }
    let [visits, _] = processes;
    let all: Vec<_> = visits.all().try_collect().await.unwrap();
    let hers = all.into_iter().filter(|(_, visit)| visit.user.is_some());
    let mut hers: Vec<_> = hers.map(|(key, _)| key).collect();
    hers.sort_unstable();
    let mut found = visits.keys_by_owner("ann").await.unwrap();
    found.sort_unstable();
    assert_eq!(found, hers, "no session lives outside of the index");
    assert_eq!(visits.delete_by_owner("ann").await.unwrap(), hers.len() as u64);
    assert!(visits.all().try_all(async |(_, visit)| visit.user.is_none()).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_session_lives_outside_of_the_index_after_a_revocation() {
    for conflicts in [ConflictPolicy::default(), ConflictPolicy::LastWriteWins] {
        soon(race(&Counting::new(), conflicts)).await;
    }
}
