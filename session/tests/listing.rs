//! Listings of all sessions, and of the sessions of one user.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

mod common;

use std::{collections::BTreeMap, time::Duration};

use futures_util::{FutureExt, StreamExt, TryStreamExt};
use larder_core::{Expiry, Key};
use larder_session::{ConflictPolicy, ErrorKind, Lifetime, Session, Sessions};
use serde::{Deserialize, Serialize};
use serde_json::json;

use common::{Call, Counting, LONG, kind, until};

fn prefixed(storage: &Counting, prefix: &str) -> Sessions<u32> {
    Sessions::builder().storage(storage.clone()).prefix(prefix).build().unwrap()
}

async fn keys<T: Send + Sync + 'static>(sessions: &Sessions<T>) -> Vec<String> {
    let mut keys: Vec<_> = sessions.keys().try_collect().await.unwrap();
    keys.sort_unstable();
    keys
}

async fn all(sessions: &Sessions<u32>) -> BTreeMap<String, u32> {
    sessions.all().try_collect().await.unwrap()
}

/// Returns all keys in the storage.
async fn stored(storage: &Counting) -> Vec<String> {
    let keys = storage.behind().keys("");
    let mut keys: Vec<_> = keys.map_ok(|key| key.as_str().to_owned()).try_collect().await.unwrap();
    keys.sort_unstable();
    keys
}

#[tokio::test]
async fn keys_are_those_under_the_prefix_without_it() {
    let storage = Counting::new();
    let (chats, users) = (prefixed(&storage, "chat:"), prefixed(&storage, "user:"));
    assert!(keys(&chats).await.is_empty());
    for key in ["1", "-42", "名前", "chat:1", "a/b"] {
        chats.set(key, 1).await.unwrap();
    }
    users.set(7, 1).await.unwrap();
    storage.put("chat", "1").await;
    assert_eq!(keys(&chats).await, ["-42", "1", "a/b", "chat:1", "名前"]);
    assert_eq!(keys(&users).await, ["7"]);
}

#[tokio::test]
async fn all_lists_the_sessions_with_their_keys() {
    let storage = Counting::new();
    let (chats, users) = (prefixed(&storage, "chat:"), prefixed(&storage, "user:"));
    for number in 0..100 {
        chats.set(number, number as u32).await.unwrap();
    }
    users.set(7, 7).await.unwrap();
    let expected: BTreeMap<_, _> = (0..100_u32).map(|number| (number.to_string(), number)).collect();
    assert_eq!(all(&chats).await, expected);
    assert_eq!(all(&users).await, BTreeMap::from([("7".to_owned(), 7)]));
}

#[tokio::test]
async fn a_session_that_cannot_be_read_is_an_error_and_the_listing_goes_on() {
    let storage = Counting::new();
    let chats = prefixed(&storage, "chat:");
    for key in [1, 2, 3] {
        chats.set(key, 7).await.unwrap();
    }
    storage.put("chat:2", "not a number").await;
    storage.put("chat:4", r#"{"__larder":{"moved":7}}"#).await;
    let (sessions, errors): (Vec<_>, Vec<_>) =
        chats.all().collect::<Vec<_>>().await.into_iter().partition(Result::is_ok);
    assert_eq!(sessions.len(), 2);
    let mut kinds: Vec<_> = errors.into_iter().map(|error| format!("{:?}", kind(error))).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["Codec", "Corrupt"]);
}

#[tokio::test]
async fn expired_sessions_are_not_listed() {
    let storage = Counting::new();
    let chats = prefixed(&storage, "chat:");
    chats.set(1, 7).await.unwrap();
    // As grammY stores it, in an entry without an expiry.
    storage.put("chat:2", r#"{"__d":7,"e":1}"#).await;
    storage.put("chat:3", r#"{"__d":8,"e":3372111949463}"#).await;
    assert_eq!(all(&chats).await, BTreeMap::from([("1".to_owned(), 7), ("3".to_owned(), 8)]));
}

#[tokio::test]
async fn delete_all_deletes_all_keys_with_the_prefix() {
    let storage = Counting::new();
    let (chats, users) = (prefixed(&storage, "chat:"), prefixed(&storage, "user:"));
    for key in 0..1000 {
        chats.set(key, 1).await.unwrap();
    }
    users.set(7, 7).await.unwrap();
    chats.move_key(1, 2000).await.unwrap();
    // Redirects are entries, too.
    assert_eq!(chats.delete_all().await.unwrap(), 1001);
    assert_eq!(stored(&storage).await, ["user:7"]);
    assert_eq!(chats.delete_all().await.unwrap(), 0);
}

#[tokio::test]
async fn reserved_keys_are_not_sessions() {
    let storage = Counting::new();
    let sessions = Sessions::<u32>::builder()
        .storage(storage.clone())
        .owner(|number| Some(number.to_string()))
        .build()
        .unwrap();
    sessions.set(1, 7).await.unwrap();
    let _lease = sessions.lock(1).await.unwrap();
    storage.put("larder:something", "1").await;
    assert!(stored(&storage).await.len() > 3);
    assert_eq!(keys(&sessions).await, ["1"]);
    assert_eq!(all(&sessions).await, BTreeMap::from([("1".to_owned(), 7)]));
    // Nor can a session be stored there.
    for key in ["larder:something", "larder:lease:held:1", "larder:"] {
        assert_eq!(kind(sessions.get(key).await), ErrorKind::InvalidKey);
        assert_eq!(kind(sessions.set(key, 1).await), ErrorKind::InvalidKey);
        assert_eq!(kind(sessions.delete(key).await), ErrorKind::InvalidKey);
        assert_eq!(kind(sessions.update(key, async |_| ()).await), ErrorKind::InvalidKey);
        assert_eq!(kind(sessions.move_key(1, key).await), ErrorKind::InvalidKey);
    }
    assert_eq!(kind(prefixed(&storage, "lard").set("er:something", 1).await), ErrorKind::InvalidKey);
    // A similar prefix is valid.
    sessions.set("larder", 1).await.unwrap();
    assert_eq!(storage.text("larder:something").await.unwrap(), "1");
}

#[tokio::test]
async fn moved_sessions_are_listed_once_under_their_new_key() {
    let storage = Counting::new();
    let chats = prefixed(&storage, "chat:");
    chats.set("old", 7).await.unwrap();
    chats.set("other", 8).await.unwrap();
    chats.move_key("old", "new").await.unwrap();
    assert_eq!(stored(&storage).await, ["chat:new", "chat:old", "chat:other"]);
    assert_eq!(keys(&chats).await, ["new", "other"]);
    assert_eq!(all(&chats).await, BTreeMap::from([("new".to_owned(), 7), ("other".to_owned(), 8)]));
}

/// The number of writes of a move.
const STEPS: usize = 5;

/// Starts to move `old` to `new`, and dies before this step.
async fn die_before(step: usize, storage: &Counting, chats: &Sessions<u32>) {
    let before = storage.writes();
    let gate = storage.gate_writes();
    gate.let_through(step - 1);
    let mut moving = Box::pin(chats.move_key("old", "new"));
    assert!(moving.as_mut().now_or_never().is_none());
    gate.arrived(step).await;
    drop(moving);
    assert_eq!(storage.writes() - before, step);
}

#[tokio::test]
async fn a_moving_session_is_listed_once() {
    for step in 1..=STEPS {
        let storage = Counting::new();
        let chats = prefixed(&storage, "chat:");
        chats.set("old", 7).await.unwrap();
        die_before(step, &storage, &chats).await;
        // After its departure it is listed under the new key.
        let key = if step <= 2 { "old" } else { "new" };
        assert_eq!(keys(&chats).await, [key], "before step {step}");
        assert_eq!(all(&chats).await, BTreeMap::from([(key.to_owned(), 7)]), "before step {step}");
    }
}

#[tokio::test]
async fn two_sessions_are_listed_until_they_are_merged() {
    for step in 1..=STEPS {
        let storage = Counting::new();
        let builder = Sessions::<u32>::builder().storage(storage.clone()).prefix("chat:");
        let chats = builder.merge(|moving, own| moving + own).build().unwrap();
        chats.set("old", 7).await.unwrap();
        chats.set("new", 8).await.unwrap();
        die_before(step, &storage, &chats).await;
        let mut expected = BTreeMap::from([("old".to_owned(), 7), ("new".to_owned(), 8)]);
        if step > 3 {
            expected = BTreeMap::from([("new".to_owned(), 15)]);
        }
        assert_eq!(all(&chats).await, expected, "before step {step}");
        assert_eq!(keys(&chats).await.len(), expected.len(), "before step {step}");
    }
}

#[tokio::test]
async fn a_storage_without_listing_returns_unsupported() {
    use larder_core::{
        Bytes, DeleteOptions, ReadOptions, Record, Result, Storage, WriteOptions, Written, async_trait,
    };

    #[derive(Debug)]
    struct Unlisted;

    #[async_trait]
    impl Storage for Unlisted {
        async fn read(&self, _: &Key, _: &ReadOptions) -> Result<Option<Record>> {
            Ok(None)
        }
        async fn write(&self, _: &Key, _: Bytes, _: &WriteOptions) -> Result<Written> {
            Ok(Written::default())
        }
        async fn delete(&self, _: &Key, _: &DeleteOptions) -> Result<bool> {
            Ok(false)
        }
    }

    let builder = Sessions::<u32>::builder().storage(Unlisted).conflicts(ConflictPolicy::LastWriteWins);
    let sessions = builder.build().unwrap();
    assert_eq!(kind(sessions.keys().try_collect::<Vec<_>>().await), ErrorKind::Unsupported);
    assert_eq!(kind(sessions.all().try_collect::<Vec<_>>().await), ErrorKind::Unsupported);
    assert_eq!(kind(sessions.delete_all().await), ErrorKind::Unsupported);
    assert_eq!(kind(sessions.keys_by_owner("ann").await), ErrorKind::Unsupported);
}

// The index of owners

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
    Sessions::builder()
        .storage(storage.clone())
        .prefix("visit:")
        .owner(|visit: &Visit| visit.user.clone())
        .lifetime(lifetime)
        .build()
        .unwrap()
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
    assert_eq!(visits.keys_by_owner("ann").await.unwrap(), ["laptop", "phone", "tablet"]);
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
async fn a_key_of_another_program_hides_no_session_of_a_user() {
    let storage = Counting::new();
    let visits = owned(&storage);
    log_in(&visits, "laptop", "ann").await;
    storage.fail_key(ErrorKind::InvalidKey);
    assert_eq!(visits.keys_by_owner("ann").await.unwrap(), ["laptop"]);
    storage.fail_key(ErrorKind::Unavailable);
    assert_eq!(kind(visits.delete_by_owner("ann").await), ErrorKind::Unavailable);
    storage.fail_key(ErrorKind::InvalidKey);
    assert_eq!(visits.delete_by_owner("ann").await.unwrap(), 1);
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
    let remaining = async || visits.keys_by_owner("ann").await.unwrap();
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

/// Returns the TTLs of the index entry and of the session.
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

#[tokio::test]
async fn the_index_ends_soon_after_the_session() {
    let storage = Counting::new();
    let visits = owned_for(&storage, Lifetime::sliding(LONG).touch_every(Duration::ZERO));
    log_in(&visits, "laptop", "ann").await;
    for _ in 0..2 {
        let (index, session) = index_and_session(&storage).await;
        assert!(index >= session && index <= session + Duration::from_secs(120), "{index:?} {session:?}");
        visits.get("laptop").await.unwrap();
    }
    assert_eq!(storage.count(Call::Touch), 2);
}

#[tokio::test]
async fn a_merged_session_is_in_the_index() {
    let storage = Counting::new();
    let visits: Sessions<Visit> = Sessions::builder()
        .storage(storage.clone())
        .prefix("visit:")
        .owner(|visit: &Visit| visit.user.clone())
        .lifetime(Lifetime::after_write(LONG))
        .merge(|moving: Visit, own: Visit| Visit { pages: moving.pages + own.pages, ..moving })
        .build()
        .unwrap();
    log_in(&visits, "old", "ann").await;
    visits.update("new", async |mut visit| visit.pages = 1).await.unwrap();
    visits.move_key("old", "new").await.unwrap();
    // The entry of a moved session expires with its TTL.
    for key in stored(&storage).await {
        if key.starts_with("larder:owner:") && key.ends_with(":visit:old") {
            storage.behind().delete(Key::new(&key).unwrap()).await.unwrap();
        }
    }
    assert_eq!(visits.delete_by_owner("ann").await.unwrap(), 1);
    assert_eq!(visits.get("old").await.unwrap(), None);
}

#[tokio::test]
async fn sessions_do_not_outlive_their_index_entries() {
    let storage = Counting::new();
    let visits = owned_for(&storage, Lifetime::sliding(LONG).touch_every(Duration::ZERO));
    log_in(&visits, "laptop", "ann").await;
    // Almost expired, and used again.
    for (key, left) in stored(&storage).await.iter().zip([61, 60]) {
        storage.behind().touch(Key::new(key).unwrap(), Expiry::after_secs(left)).await.unwrap();
    }
    storage.fail_write(ErrorKind::Unavailable);
    assert_eq!(kind(visits.get("laptop").await), ErrorKind::Unavailable);
    let (index, session) = index_and_session(&storage).await;
    assert!(session <= index, "a session that the index does not name could not be revoked");

    // A session written long after its entry.
    let gate = storage.gate_writes();
    let mut update = Box::pin(visits.update("laptop", async |mut visit| visit.pages += 1));
    assert!((&mut update).now_or_never().is_none());
    gate.let_through(1);
    assert!((&mut update).now_or_never().is_none());
    gate.arrived(2).await;
    let start = std::time::Instant::now();
    until("time passes", async || start.elapsed() > Duration::from_millis(100)).await;
    gate.let_through(1);
    update.await.unwrap();
    let (index, session) = index_and_session(&storage).await;
    assert!(session <= index, "{index:?} {session:?}");
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
    let plain: Sessions<u32> = prefixed(&storage, "plain:");
    plain.set(1, 7).await.unwrap();
    assert!(plain.keys_by_owner("ann").await.unwrap().is_empty());
    assert_eq!(plain.delete_by_owner("ann").await.unwrap(), 0);
    assert_eq!(storage.json("plain:1").await.unwrap(), json!(7));
}
