//! Listings of all sessions.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

mod common;

use std::collections::BTreeMap;

use futures_util::{FutureExt, StreamExt, TryStreamExt};
use larder_session::{ConflictPolicy, ErrorKind, Sessions};

use common::{Counting, Minimal, kind};

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
    let builder = Sessions::<u32>::builder().storage(Minimal).conflicts(ConflictPolicy::LastWriteWins);
    let sessions = builder.build().unwrap();
    assert_eq!(kind(sessions.keys().try_collect::<Vec<_>>().await), ErrorKind::Unsupported);
    assert_eq!(kind(sessions.all().try_collect::<Vec<_>>().await), ErrorKind::Unsupported);
    assert_eq!(kind(sessions.delete_all().await), ErrorKind::Unsupported);
}
