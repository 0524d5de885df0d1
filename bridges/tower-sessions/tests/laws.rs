//! Laws of the session store on every storage.

#![allow(clippy::panic, clippy::unwrap_used, clippy::expect_used)] // A case fails by panicking.

mod common;

use std::{collections::HashMap, time::Duration};

use larder_bridge_tests::Stores;
use larder_core::{Expiry, Key};
use larder_testkit::{Factory, Handle, Lifetime, Must, Runner, Suite, Target, race, until};
use larder_tower_sessions::LarderStore;
use tower_sessions::{
    ExpiredDeletion, SessionStore,
    cookie::time::OffsetDateTime,
    session::{Id, Record},
    session_store::Error,
};

const HOUR: Duration = Duration::from_secs(3600);
const SOON: Duration = Duration::from_millis(400);
/// The timeout for an expected event.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() {
    Runner::new()
        .suite(cases(Suite::new("memory", Stores::memory())))
        .suite(cases(Suite::connect("sqlite", Stores::sqlite)))
        .suite(cases(Suite::connect("redis", Stores::redis)))
        .suite(cases(Suite::connect("postgres", Stores::postgres)))
        .suite(cases(Suite::connect("mysql", Stores::mysql)))
        .suite(cases(Suite::connect("dynamodb", Stores::dynamodb)))
        .main()
}

fn cases<F: Factory>(suite: Suite<F>) -> Suite<F> {
    suite
        .without_laws()
        .case("a_created_session_loads_unchanged", |context| created(context.target))
        .case("a_taken_id_is_not_used_again", |context| taken(context.target))
        .case("concurrent_creates_of_one_id_get_different_ids", |context| racing_creates(context.target))
        .case("a_save_replaces_the_session_and_its_expiry", |context| saved(context.target))
        .case("a_save_does_not_restore_a_deleted_session", |context| saved_after_delete(context.target))
        .case("a_save_does_not_restore_an_expired_session", |context| saved_after_expiry(context.target))
        .case("concurrent_saves_all_succeed", |context| racing_saves(context.target))
        .case("concurrent_saves_do_not_undo_a_delete", |context| saves_and_delete(context.target))
        .case("a_deleted_session_is_gone", |context| deleted(context.target))
        .case("a_session_expires_in_time", |context| expires(context.target))
        .case("a_session_with_a_past_expiry_does_not_exist", |context| ended(context.target))
        .case("foreign_data_are_an_error_and_unchanged_until_deleted", |context| foreign(context.target))
        .case("a_session_above_the_maximum_size_is_not_written", |context| large(context.target))
        .case("expired_sessions_are_purged", |context| swept(context.target))
        .case("plain_ids_work_and_are_not_found_without_the_setting", |context| plain(context.target))
        .case("a_plain_session_moves_to_its_hashed_id_when_it_is_saved", |context| moves(context.target))
        .case("concurrent_saves_move_a_session_once", |context| racing_moves(context.target))
        .case("a_delete_during_moves_is_final", |context| moves_and_delete(context.target))
}

async fn open(target: &Target) -> (Handle, LarderStore) {
    let handle = target.open().await;
    let store = LarderStore::new((*handle).clone()).must("make the store");
    (handle, store)
}

fn record(count: u64, lives: Duration) -> Record {
    Record {
        id: Id::default(),
        data: HashMap::from([("count".to_owned(), count.into())]),
        expiry_date: OffsetDateTime::now_utc() + lives,
    }
}

fn key(id: &Id) -> Key {
    common::hashed("session:", &id.to_string())
}

fn plain_key(id: &Id) -> Key {
    Key::new(format!("session:{id}")).unwrap()
}

async fn loaded(store: &LarderStore, id: &Id) -> Option<Record> {
    store.load(id).await.must("load")
}

/// Returns whether it is the error of a session that no longer exists.
fn gone(outcome: &Result<(), Error>) -> bool {
    matches!(outcome, Err(Error::Backend(text)) if text.contains("gone") && text.contains("(conflict)"))
}

async fn created(target: Target) {
    let (_, store) = open(&target).await;
    let mut record = record(1, HOUR);
    let id = record.id;
    let values =
        r#"{"text":"名前 \u0000 \"\\","many":[1,-2,0.5,1e300,18446744073709551615],"none":null,"":{"a":{}}}"#;
    record.data.extend(serde_json::from_str::<HashMap<_, _>>(values).unwrap());
    let numbers =
        [139.390_000_000_000_01, -120.654_873_651_235_05, 5e-324, f64::MAX].map(serde_json::Value::from);
    record.data.insert("numbers".to_owned(), numbers.to_vec().into());
    assert_eq!(loaded(&store, &id).await, None);
    store.create(&mut record).await.must("create");
    assert_eq!(record.id, id, "the id was free");
    assert_eq!(loaded(&store, &id).await, Some(record));
}

async fn taken(target: Target) {
    let (_, store) = open(&target).await;
    let mut first = record(1, HOUR);
    store.create(&mut first).await.must("create");
    let mut second = Record { id: first.id, ..record(2, HOUR) };
    store.create(&mut second).await.must("create");
    assert_ne!(second.id, first.id);
    assert_eq!(loaded(&store, &first.id).await, Some(first));
    assert_eq!(loaded(&store, &second.id).await, Some(second));
}

async fn racing_creates(target: Target) {
    let (_, store) = open(&target).await;
    let id = Id::default();
    let created = race(8, |count| {
        let store = store.clone();
        async move {
            let mut record = Record { id, ..record(count as u64, HOUR) };
            store.create(&mut record).await.must("create");
            record
        }
    })
    .await;
    assert_eq!(created.iter().filter(|record| record.id == id).count(), 1, "exactly one got the id");
    for record in created {
        assert_eq!(loaded(&store, &record.id).await, Some(record));
    }
}

async fn saved(target: Target) {
    let (handle, store) = open(&target).await;
    let mut first = record(1, Duration::from_secs(120));
    store.create(&mut first).await.must("create");
    let second = Record { id: first.id, ..record(2, HOUR) };
    store.save(&second).await.must("save");
    assert_eq!(loaded(&store, &first.id).await, Some(second));
    let left = handle.ttl(&key(&first.id)).await.must("ttl");
    assert!(
        matches!(left, Some(Expiry::After(left)) if left > HOUR / 2),
        "the lifetime was extended: {left:?}"
    );
}

async fn saved_after_delete(target: Target) {
    let (handle, store) = open(&target).await;
    let mut record = record(1, HOUR);
    store.create(&mut record).await.must("create");
    store.delete(&record.id).await.must("delete");
    assert!(gone(&store.save(&record).await));
    handle.lacks(&key(&record.id), "after a save of a deleted session").await;
}

async fn saved_after_expiry(target: Target) {
    let (handle, store) = open(&target).await;
    let mut record = record(1, SOON);
    store.create(&mut record).await.must("create");
    until("the session expires", PATIENCE, || async { loaded(&store, &record.id).await.is_none() }).await;
    record.expiry_date = OffsetDateTime::now_utc() + HOUR;
    assert!(gone(&store.save(&record).await));
    handle.lacks(&key(&record.id), "after a save of an expired session").await;
}

async fn racing_saves(target: Target) {
    let (_, store) = open(&target).await;
    let mut first = record(0, HOUR);
    store.create(&mut first).await.must("create");
    let id = first.id;
    let saved = race(8, |count| {
        let store = store.clone();
        async move {
            let record = Record { id, ..record(count as u64 + 1, HOUR) };
            store.save(&record).await.must("save");
            record
        }
    })
    .await;
    let last = loaded(&store, &id).await.must("load a live session");
    assert!(saved.contains(&last), "the stored record is one of the saved records");
}

/// Deletes the session in one task while six others each save it this many times.
async fn race_deletion(store: &LarderStore, id: Id, saves: u64) {
    race(7, |task| {
        let store = store.clone();
        async move {
            if task == 3 {
                return store.delete(&id).await.must("delete");
            }
            for count in 0..saves {
                let outcome = store.save(&Record { id, ..record(count, HOUR) }).await;
                assert!(outcome.is_ok() || gone(&outcome), "{outcome:?}");
            }
        }
    })
    .await;
}

async fn saves_and_delete(target: Target) {
    let (handle, store) = open(&target).await;
    let mut first = record(0, HOUR);
    store.create(&mut first).await.must("create");
    let id = first.id;
    race_deletion(&store, id, 20).await;
    handle.lacks(&key(&id), "after it was deleted among saves").await;
}

async fn deleted(target: Target) {
    let (handle, store) = open(&target).await;
    let mut record = record(1, HOUR);
    store.create(&mut record).await.must("create");
    for _ in 0..2 {
        store.delete(&record.id).await.must("delete");
        assert_eq!(loaded(&store, &record.id).await, None);
    }
    handle.lacks(&key(&record.id), "after delete").await;
}

async fn expires(target: Target) {
    let (handle, store) = open(&target).await;
    let lifetime = Lifetime::begin(SOON);
    let mut record = record(1, SOON);
    store.create(&mut record).await.must("create");
    lifetime.written().expires(&handle, &key(&record.id), "a session").await;
    assert_eq!(loaded(&store, &record.id).await, None);
}

async fn ended(target: Target) {
    let (handle, store) = open(&target).await;
    let mut past = record(1, Duration::ZERO);
    store.create(&mut past).await.must("create");
    assert_eq!(loaded(&store, &past.id).await, None);
    // A live session that is saved with a past expiry date has expired.
    let mut record = record(1, HOUR);
    store.create(&mut record).await.must("create");
    record.expiry_date = OffsetDateTime::now_utc() - HOUR;
    store.save(&record).await.must("save");
    handle.lacks(&key(&record.id), "after a save with a past expiry date").await;
}

async fn foreign(target: Target) {
    let (handle, store) = open(&target).await;
    let mut record = record(1, HOUR);
    let id = record.id.to_string();
    let date = r#""expires":"2031-05-01T12:00:00Z""#;
    for text in [
        r#"{"user":"zoe"}"#.to_owned(),
        r#"["zoe"]"#.to_owned(),
        r#"{"moving":"now","user":"zoe"}"#.to_owned(),
        format!(r#"{{"id":"{id}",{date},"data":{{}}}}"#),
        format!(r#"{{{date},"data":{{}},"version":2}}"#),
        r#"{"expires":"zoe","data":{}}"#.to_owned(),
        format!(r#"{{{date},"data":["zoe"]}}"#),
        format!("{{{date}}}"),
    ] {
        let value = text.into_bytes().into();
        // The store has seen a session there before.
        store.create(&mut record).await.must("create");
        handle.put(&key(&record.id), &value).await;
        for outcome in [store.load(&record.id).await.map(drop), store.save(&record).await] {
            let Err(Error::Decode(text)) = outcome else { panic!("{outcome:?}") };
            assert!(text.contains("(codec)") && !text.contains("zoe") && !text.contains(&id), "{text}");
            assert!(text.contains(&key(&record.id).fingerprint()), "{text}");
        }
        let mut another = record.clone();
        store.create(&mut another).await.must("create");
        assert_ne!(another.id, record.id);
        handle.holds(&key(&record.id), &value, "foreign data").await;
        store.delete(&record.id).await.must("delete");
        handle.lacks(&key(&record.id), "after a logout").await;
    }
}

async fn large(target: Target) {
    let (handle, store) = open(&target).await;
    let sized = |bytes: usize| {
        let mut sized = record(1, HOUR);
        sized.data.insert("value".to_owned(), "x".repeat(bytes).into());
        sized
    };
    let refused = |outcome: Result<(), Error>| {
        let Err(Error::Encode(text)) = outcome else { panic!("{outcome:?}") };
        let limit =
            ["the maximum is", "this storage accepts at most"].iter().any(|limit| text.contains(limit));
        assert!(limit && text.contains("(too large)") && !text.contains("xx"), "{text}");
    };
    // The store may accept less.
    let max = handle.info().max_value.map_or(1 << 20, |max| max.min(1 << 20)) as usize;
    let mut too_large = sized(max);
    refused(store.create(&mut too_large).await);
    handle.lacks(&key(&too_large.id), "after a create of a large session").await;

    let mut session = sized(max - 200);
    store.create(&mut session).await.must("create");
    too_large.id = session.id;
    refused(store.save(&too_large).await);
    assert_eq!(loaded(&store, &session.id).await, Some(session.clone()));

    let size = handle.read(key(&session.id)).await.must("read").must("a session").value.len();
    store.clone().with_max_size(size).save(&session).await.must("save a session of the maximum size");
    refused(store.clone().with_max_size(size - 1).save(&session).await);
}

async fn swept(target: Target) {
    let (_, store) = open(&target).await;
    let (mut short, mut long) = (record(1, SOON), record(2, HOUR));
    store.create(&mut short).await.must("create");
    store.create(&mut long).await.must("create");
    until("the session expires", PATIENCE, || async { loaded(&store, &short.id).await.is_none() }).await;
    store.delete_expired().await.must("delete expired sessions");
    assert_eq!(store.storage().purge_expired().await.must("purge"), 0, "no expired session remains");
    assert_eq!(loaded(&store, &long.id).await, Some(long));
}

async fn plain(target: Target) {
    let (handle, store) = open(&target).await;
    let plain = store.clone().with_plain_ids();
    let mut first = record(1, HOUR);
    plain.create(&mut first).await.must("create");
    let mut taken = Record { id: first.id, ..record(2, HOUR) };
    plain.create(&mut taken).await.must("create");
    assert_ne!(taken.id, first.id);
    let second = Record { id: first.id, ..record(3, HOUR) };
    plain.save(&second).await.must("save");
    assert_eq!(loaded(&plain, &first.id).await, Some(second.clone()));
    // The setting decides, not the cookie.
    assert_eq!(loaded(&store, &first.id).await, None);
    assert!(gone(&store.save(&second).await));
    store.delete(&first.id).await.must("delete");
    assert_eq!(loaded(&plain, &first.id).await, Some(second));

    let other = Id::default();
    let value = handle.read(plain_key(&first.id)).await.must("read").must("a session").value;
    handle.put(&plain_key(&other), &value).await;
    assert!(matches!(plain.load(&other).await, Err(Error::Decode(_))), "a session of another id");
    plain.delete(&first.id).await.must("delete");
    assert!(gone(&plain.save(&first).await));
}

/// Creates a session with a plain id. Returns it and a store that migrates.
async fn before_migration(target: &Target) -> (Handle, LarderStore, Record) {
    let (handle, store) = open(target).await;
    let mut record = record(0, HOUR);
    store.clone().with_plain_ids().create(&mut record).await.must("create");
    (handle, store.migrating_plain_ids(), record)
}

async fn moves(target: Target) {
    let (handle, store, mut record) = before_migration(&target).await;
    let (hashed, plain) = (key(&record.id), plain_key(&record.id));
    assert_eq!(loaded(&store, &record.id).await, Some(record.clone()));
    handle.lacks(&hashed, "after a load").await;

    record.data.insert("count".to_owned(), 1.into());
    store.save(&record).await.must("save");
    handle.lacks(&plain, "after the move").await;
    assert!(handle.contains(&hashed).await.must("look"));
    assert_eq!(loaded(&store, &record.id).await, Some(record.clone()));
    record.data.insert("count".to_owned(), 2.into());
    store.save(&record).await.must("save");
    assert_eq!(loaded(&store, &record.id).await, Some(record.clone()));

    // A session that is in both places, because its move was interrupted, is deleted from both.
    store.clone().with_plain_ids().create(&mut record).await.must("create");
    store.delete(&record.id).await.must("delete");
    for key in [hashed, plain] {
        handle.lacks(&key, "after a logout").await;
    }
    assert!(gone(&store.save(&record).await));
    assert_eq!(loaded(&store, &record.id).await, None);
    assert_eq!(handle.clear("").await.must("clear"), 0, "no announcement remains");
}

async fn racing_moves(target: Target) {
    let (handle, store, first) = before_migration(&target).await;
    let id = first.id;
    let saved = race(8, |count| {
        let store = store.clone();
        async move {
            let record = Record { id, ..record(count as u64 + 1, HOUR) };
            assert!(loaded(&store, &id).await.is_some(), "the session is never lost");
            store.save(&record).await.must("save");
            assert!(loaded(&store, &id).await.is_some(), "the session is never lost");
            record
        }
    })
    .await;
    assert!(saved.contains(&loaded(&store, &id).await.must("load a live session")));
    handle.lacks(&plain_key(&id), "after the move").await;
}

async fn moves_and_delete(target: Target) {
    let (handle, store, first) = before_migration(&target).await;
    let id = first.id;
    race_deletion(&store, id, 5).await;
    assert_eq!(loaded(&store, &id).await, None);
    handle.lacks(&key(&id), "after it was deleted among saves").await;
    handle.lacks(&plain_key(&id), "after it was deleted among saves").await;
}
