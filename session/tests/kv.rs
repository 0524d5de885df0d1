//! Sessions of named values: the behavior of discord.js-mvc's sessions, without their faults.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

mod common;

use std::collections::BTreeMap;

use futures_util::FutureExt;
use larder_session::{ConflictPolicy, Error, ErrorKind, KvSessions, Lifetime};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use common::{Counting, HandlerError, LONG, kind, soon};

const GUILD: &str = "guild:81384788765712384";

fn sessions(storage: &Counting) -> KvSessions {
    KvSessions::builder().storage(storage.clone()).build().unwrap()
}

/// Returns sessions with two initial values, as a bot uses them.
fn with_initial(storage: &Counting) -> KvSessions {
    let builder = KvSessions::builder().initial("pings", 1).unwrap().initial("language", "en").unwrap();
    builder.storage(storage.clone()).build().unwrap()
}

fn all(values: Value) -> BTreeMap<String, Value> {
    serde_json::from_value(values).unwrap()
}

// Common behavior

#[tokio::test]
async fn set_values_exist_and_deleted_values_do_not() {
    let storage = Counting::new();
    let sessions = sessions(&storage);
    assert_eq!(sessions.get::<u32>(GUILD, "pings").await.unwrap(), None);
    sessions.set(GUILD, "pings", 5).await.unwrap();
    sessions.set(GUILD, "names", ["Rex", "Míša"]).await.unwrap();
    assert_eq!(sessions.get(GUILD, "pings").await.unwrap(), Some(5));
    assert_eq!(sessions.get(GUILD, "names").await.unwrap(), Some(vec!["Rex".to_owned(), "Míša".to_owned()]));
    assert_eq!(sessions.all(GUILD).await.unwrap(), all(json!({ "pings": 5, "names": ["Rex", "Míša"] })));
    assert_eq!(storage.json(GUILD).await.unwrap(), json!({ "pings": 5, "names": ["Rex", "Míša"] }));

    assert!(sessions.delete(GUILD, "pings").await.unwrap());
    assert!(!sessions.delete(GUILD, "pings").await.unwrap());
    assert_eq!(sessions.all(GUILD).await.unwrap(), all(json!({ "names": ["Rex", "Míša"] })));
}

#[tokio::test]
async fn sessions_of_different_keys_are_separate() {
    let sessions = sessions(&Counting::new());
    sessions.set(1, "a", 1).await.unwrap();
    sessions.set(2, "a", 2).await.unwrap();
    assert_eq!(sessions.get(1, "a").await.unwrap(), Some(1));
    assert_eq!(sessions.get(2, "a").await.unwrap(), Some(2));
}

#[tokio::test]
async fn each_name_has_a_type_of_its_own() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Cart {
        items: Vec<u32>,
    }
    let sessions = sessions(&Counting::new());
    sessions.set(1, "cart", Cart { items: vec![1, 2] }).await.unwrap();
    sessions.set(1, "open", true).await.unwrap();
    assert_eq!(sessions.get(1, "cart").await.unwrap(), Some(Cart { items: vec![1, 2] }));
    // Another type is an error that contains no value.
    sessions.set(1, "secret", "hunter2").await.unwrap();
    let error = sessions.get::<u32>(1, "secret").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Codec);
    assert!(!format!("{error} {error:?}").contains("hunter2"));
    // The session is unaffected.
    assert_eq!(sessions.get(1, "open").await.unwrap(), Some(true));
}

#[tokio::test]
async fn one_update_is_one_read_and_one_write_however_many_names_it_changes() {
    let storage = Counting::new();
    let sessions = sessions(&storage);
    sessions
        .update(GUILD, async |mut session| {
            session.set("a", 1)?;
            session.set("b", 2)?;
            session.set("c", 3)?;
            assert!(session.delete("c"));
            assert!(!session.delete("c"));
            assert_eq!(session.get("a")?, Some(1));
            assert_eq!(session.all(), all(json!({ "a": 1, "b": 2 })));
            Ok::<_, Error>(())
        })
        .await
        .unwrap();
    assert_eq!((storage.reads(), storage.writes(), storage.calls()), (1, 1, 2));
    assert_eq!(storage.json(GUILD).await.unwrap(), json!({ "a": 1, "b": 2 }));
}

#[tokio::test]
async fn nothing_is_written_if_nothing_changes() {
    let storage = Counting::new();
    let sessions = with_initial(&storage);
    // Not even a new session: initial values are not stored.
    sessions.update(GUILD, async |session| session.get::<u32>("pings").map(drop)).await.unwrap();
    assert_eq!(sessions.get(GUILD, "pings").await.unwrap(), Some(1));
    assert!(!sessions.delete(GUILD, "unknown").await.unwrap());
    assert_eq!(storage.writes(), 0);
    sessions.set(GUILD, "pings", 2).await.unwrap();
    sessions.set(GUILD, "pings", 2).await.unwrap();
    assert_eq!(storage.writes(), 1);
}

#[tokio::test]
async fn clear_deletes_the_session_and_restores_the_initial_values() {
    let storage = Counting::new();
    let sessions = with_initial(&storage);
    sessions.set(GUILD, "pings", 5).await.unwrap();
    sessions.delete(GUILD, "language").await.unwrap();
    sessions
        .update(GUILD, async |mut session| {
            session.clear();
            assert_eq!(session.all(), all(json!({ "pings": 1, "language": "en" })));
        })
        .await
        .unwrap();
    assert_eq!(storage.record(GUILD).await, None);
    assert_eq!(sessions.all(GUILD).await.unwrap(), all(json!({ "pings": 1, "language": "en" })));
}

// Faults of the original

#[tokio::test]
async fn every_initial_value_applies_not_only_the_first() {
    let storage = Counting::new();
    let sessions = with_initial(&storage);
    assert_eq!(sessions.get(GUILD, "pings").await.unwrap(), Some(1));
    assert_eq!(sessions.get(GUILD, "language").await.unwrap(), Some("en".to_owned()));
    // Setting one name keeps the others.
    sessions.set(GUILD, "pings", 5).await.unwrap();
    assert_eq!(sessions.all(GUILD).await.unwrap(), all(json!({ "pings": 5, "language": "en" })));
    assert_eq!(storage.json(GUILD).await.unwrap(), json!({ "pings": 5 }));
}

#[tokio::test]
async fn an_initial_value_that_a_newer_program_adds_applies_to_sessions_that_there_are() {
    let storage = Counting::new();
    sessions(&storage).set(GUILD, "pings", 5).await.unwrap();
    let newer = with_initial(&storage);
    assert_eq!(newer.all(GUILD).await.unwrap(), all(json!({ "pings": 5, "language": "en" })));
    newer
        .update(GUILD, async |session| {
            assert_eq!(session.get("language")?, Some("en".to_owned()));
            Ok::<_, Error>(())
        })
        .await
        .unwrap();
}

#[tokio::test]
async fn a_deleted_name_stays_deleted_also_if_it_has_an_initial_value() {
    let storage = Counting::new();
    let sessions = with_initial(&storage);
    assert!(sessions.delete(GUILD, "language").await.unwrap());
    assert!(!sessions.delete(GUILD, "language").await.unwrap());
    // Also after a restart, and after other names have been set.
    let restarted = with_initial(&storage);
    restarted.set(GUILD, "pings", 2).await.unwrap();
    assert_eq!(restarted.get::<String>(GUILD, "language").await.unwrap(), None);
    assert_eq!(restarted.all(GUILD).await.unwrap(), all(json!({ "pings": 2 })));
    // Until it is set again.
    restarted.set(GUILD, "language", "cs").await.unwrap();
    assert_eq!(restarted.get(GUILD, "language").await.unwrap(), Some("cs".to_owned()));
}

#[tokio::test]
async fn deleting_the_last_name_does_not_bring_the_session_back() {
    let storage = Counting::new();
    let sessions = sessions(&storage);
    sessions.set(GUILD, "a", 1).await.unwrap();
    assert!(sessions.delete(GUILD, "a").await.unwrap());
    assert_eq!(sessions.all(GUILD).await.unwrap(), BTreeMap::new());
    assert_eq!(sessions.get::<u32>(GUILD, "a").await.unwrap(), None);
    assert_eq!(storage.record(GUILD).await, None, "nor does it leave anything behind");
}

#[tokio::test]
async fn corrupt_data_is_an_error_and_is_not_overwritten() {
    let storage = Counting::new();
    let sessions = with_initial(&storage);
    for corrupt in ["{\"pings\":", "[1,2]", "7"] {
        storage.put(GUILD, corrupt).await;
        assert_eq!(kind(sessions.get::<u32>(GUILD, "pings").await), ErrorKind::Codec);
        assert_eq!(kind(sessions.set(GUILD, "pings", 5).await), ErrorKind::Codec);
        assert_eq!(kind(sessions.delete(GUILD, "pings").await), ErrorKind::Codec);
        assert_eq!(kind(sessions.all(GUILD).await), ErrorKind::Codec);
        assert_eq!(storage.text(GUILD).await.unwrap(), corrupt);
    }
    assert_eq!(storage.writes(), 0);
    // It can still be deleted.
    assert!(sessions.sessions().delete(GUILD).await.unwrap());
    sessions.set(GUILD, "pings", 5).await.unwrap();
}

#[tokio::test]
async fn a_store_that_is_down_is_an_error_and_not_an_empty_session() {
    let storage = Counting::new();
    let sessions = with_initial(&storage);
    sessions.set(GUILD, "pings", 5).await.unwrap();
    storage.fail_read(ErrorKind::Unavailable);
    assert_eq!(kind(sessions.get::<u32>(GUILD, "pings").await), ErrorKind::Unavailable);
    storage.fail_read(ErrorKind::Unavailable);
    assert_eq!(kind(sessions.set(GUILD, "language", "cs").await), ErrorKind::Unavailable);
    assert_eq!(storage.json(GUILD).await.unwrap(), json!({ "pings": 5 }));
}

#[tokio::test]
async fn names_that_are_set_at_the_same_time_are_all_kept() {
    let storage = Counting::new();
    let (one, other) = (sessions(&storage), sessions(&storage));
    let setting = (0..32).map(|number| {
        let sessions = if number % 2 == 0 { &one } else { &other };
        async move { sessions.set(GUILD, &format!("name {number}"), number).await }
    });
    for outcome in soon(futures_util::future::join_all(setting)).await {
        outcome.unwrap();
    }
    assert_eq!(one.all(GUILD).await.unwrap().len(), 32);
}

// Names

#[tokio::test]
async fn every_name_except_the_reserved_one_is_valid() {
    let storage = Counting::new();
    let sessions = sessions(&storage);
    let names = ["", "__d", "v", "__proto__", "a.b", "$where", "名前", "constructor", " ", "larder", "\0"];
    for name in names {
        sessions.set(GUILD, name, name).await.unwrap();
    }
    for name in names {
        assert_eq!(sessions.get(GUILD, name).await.unwrap(), Some(name.to_owned()), "{name:?}");
    }
    assert_eq!(sessions.all(GUILD).await.unwrap().len(), names.len());
}

#[tokio::test]
async fn a_null_is_a_name_without_a_value() {
    let storage = Counting::new();
    let sessions = with_initial(&storage);
    sessions.set(GUILD, "a", None::<u32>).await.unwrap();
    sessions.set(GUILD, "language", Value::Null).await.unwrap();
    assert_eq!(sessions.get::<u32>(GUILD, "a").await.unwrap(), None);
    assert_eq!(sessions.all(GUILD).await.unwrap(), all(json!({ "pings": 1 })));
    assert!(!sessions.delete(GUILD, "a").await.unwrap());
}

#[tokio::test]
async fn a_value_that_json_cannot_represent_is_refused() {
    let storage = Counting::new();
    let sessions = sessions(&storage);
    let odd = std::collections::HashMap::from([(vec![1], 2)]);
    assert_eq!(kind(sessions.set(GUILD, "odd", &odd).await), ErrorKind::Codec);
    assert_eq!(kind(KvSessions::builder().initial("odd", &odd)), ErrorKind::Codec);
    assert_eq!(storage.calls(), 0);
}

#[tokio::test]
async fn number_that_json_cannot_hold_is_refused_and_every_other_comes_back() {
    let storage = Counting::new();
    let sessions = sessions(&storage);
    sessions.set(GUILD, "n", u64::MAX).await.unwrap();
    for refused in [u128::MAX, u128::from(u64::MAX) + 1] {
        assert_eq!(kind(sessions.set(GUILD, "n", refused).await), ErrorKind::Codec, "{refused}");
        assert_eq!(kind(KvSessions::builder().initial("n", Some(refused))), ErrorKind::Codec);
    }
    for refused in [i128::MIN, i128::from(i64::MIN) - 1] {
        assert_eq!(kind(sessions.set(GUILD, "n", [refused]).await), ErrorKind::Codec, "{refused}");
    }
    for refused in [f64::NAN, f64::INFINITY] {
        assert_eq!(kind(sessions.set(GUILD, "n", Some(refused)).await), ErrorKind::Codec, "{refused}");
    }
    assert_eq!(sessions.get(GUILD, "n").await.unwrap(), Some(u64::MAX));
    assert_eq!(sessions.get(GUILD, "n").await.unwrap(), Some(u128::from(u64::MAX)));

    sessions.set(GUILD, "n", i128::from(i64::MIN)).await.unwrap();
    assert_eq!(sessions.get(GUILD, "n").await.unwrap(), Some(i64::MIN));
    sessions.set(GUILD, "n", 0.1_f32).await.unwrap();
    assert_eq!(sessions.get(GUILD, "n").await.unwrap(), Some(0.1_f32));
}

// Features of all sessions

#[tokio::test]
async fn a_handler_that_fails_writes_nothing() {
    let storage = Counting::new();
    let sessions = sessions(&storage);
    let failed = sessions.update(GUILD, async |mut session| {
        session.set("a", 1)?;
        Err::<(), _>(HandlerError::Refused)
    });
    assert!(matches!(failed.await, Err(HandlerError::Refused)));
    assert_eq!(storage.writes(), 0);
}

#[tokio::test]
async fn concurrent_changes_by_another_process_are_kept() {
    let storage = Counting::new();
    storage.overtake(GUILD, json!({ "theirs": 1 }));
    sessions(&storage).set(GUILD, "ours", 2).await.unwrap();
    assert_eq!(storage.json(GUILD).await.unwrap(), json!({ "theirs": 1, "ours": 2 }));
}

#[tokio::test]
async fn an_empty_key_is_an_error() {
    let storage = Counting::new();
    let sessions = sessions(&storage);
    assert_eq!(kind(sessions.get::<u32>("", "a").await), ErrorKind::InvalidKey);
    assert_eq!(kind(sessions.set(None::<i64>, "a", 1).await), ErrorKind::InvalidKey);
    assert_eq!(storage.calls(), 0);
}

#[tokio::test]
async fn everything_that_other_sessions_have_can_be_set_up() {
    let storage = Counting::new();
    let sessions = KvSessions::builder()
        .storage(storage.clone())
        .prefix("guild:")
        .with(|sessions| {
            sessions.lifetime(Lifetime::after_write(LONG)).conflicts(ConflictPolicy::Fail).envelope()
        })
        .build()
        .unwrap();
    sessions.set(1, "a", 1).await.unwrap();
    assert_eq!(storage.json("guild:1").await.unwrap()["__d"], json!({ "a": 1 }));
    assert_eq!(storage.expiries(), [larder_core::Expiry::After(LONG)]);
    storage.overtake("guild:1", json!({ "a": 2 }));
    assert_eq!(kind(sessions.set(1, "a", 3).await), ErrorKind::Conflict);
}

#[tokio::test]
async fn a_session_can_be_opened_and_saved_by_hand() {
    let storage = Counting::new();
    let sessions = with_initial(&storage);
    let mut open = sessions.open(GUILD).await.unwrap();
    open.set("a", 1).unwrap();
    assert_eq!(open.get("pings").unwrap(), Some(1));
    let mut waiting = Box::pin(sessions.set(GUILD, "b", 2));
    assert!(waiting.as_mut().now_or_never().is_none());
    open.save().await.unwrap();
    soon(waiting).await.unwrap();
    assert_eq!(storage.json(GUILD).await.unwrap(), json!({ "a": 1, "b": 2 }));
    let mut dropped = sessions.open(GUILD).await.unwrap();
    dropped.clear();
    drop(dropped);
    assert_eq!(storage.json(GUILD).await.unwrap(), json!({ "a": 1, "b": 2 }));
}

#[tokio::test]
async fn debug_output_shows_no_value() {
    let sessions = sessions(&Counting::new());
    sessions.set(GUILD, "secret", "hunter2").await.unwrap();
    let open = sessions.open(GUILD).await.unwrap();
    assert!(!format!("{sessions:?} {open:?}").contains("hunter2"));
}
