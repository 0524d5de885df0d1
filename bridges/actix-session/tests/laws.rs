//! Laws of the session store on every storage.

#![allow(clippy::panic, clippy::unwrap_used, clippy::expect_used)] // A case fails by panicking.

mod support;

use std::collections::HashMap;

use actix_session::{
    SessionExt,
    storage::{
        LoadError, RedisSessionStore, SaveError, SessionKey, SessionStore, UpdateError, generate_session_key,
    },
};
use actix_web::{cookie::time::Duration, test::TestRequest};
use larder_actix_session::LarderStore;
use larder_bridge_tests::{OCCUPIED, Probe, Stores};
use larder_core::{Bytes, Error, ErrorKind, Expiry, Key};
use larder_testkit::{Factory, Handle, Lifetime, Must, Runner, Suite, Target, race, until};
use support::{hashed, plain};

const HOUR: Duration = Duration::hours(1);
const SOON: std::time::Duration = std::time::Duration::from_millis(400);
/// The timeout for an expected event.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

type State = HashMap<String, String>;

fn main() {
    Runner::new()
        .suite(
            cases(Suite::new("memory", Stores::memory()))
                .case("taken_keys_are_not_overwritten", |_| taken())
                .case("malformed_keys_do_not_reach_the_storage", |_| no_keys_asked_for()),
        )
        .suite(cases(Suite::connect("sqlite", Stores::sqlite)))
        .suite(
            cases(Suite::connect("redis", Stores::redis))
                .case("shares_sessions_with_redis_session_store", |_| shares()),
        )
        .suite(cases(Suite::connect("postgres", Stores::postgres)))
        .suite(cases(Suite::connect("mysql", Stores::mysql)))
        .main()
}

fn cases<F: Factory>(suite: Suite<F>) -> Suite<F> {
    suite
        .without_laws()
        .case("a_saved_session_loads_unchanged", |context| saved(context.target))
        .case("concurrent_saves_get_different_keys", |context| racing_saves(context.target))
        .case("an_update_replaces_the_session_and_its_expiry", |context| updated(context.target))
        .case("an_update_after_a_delete_creates_a_new_session", |context| {
            updated_after_delete(context.target)
        })
        .case("an_update_after_expiry_creates_a_new_session", |context| updated_after_expiry(context.target))
        .case("without_revival_an_ended_session_does_not_return", |context| without_revival(context.target))
        .case("concurrent_updates_all_succeed", |context| racing_updates(context.target))
        .case("concurrent_updates_do_not_undo_a_delete", |context| updates_and_delete(context.target))
        .case("a_touch_keeps_the_value", |context| touched(context.target))
        .case("concurrent_touches_lose_no_update", |context| touches_and_updates(context.target))
        .case("a_deleted_session_is_gone", |context| deleted(context.target))
        .case("a_session_expires_in_time", |context| expires(context.target))
        .case("a_session_without_time_left_does_not_exist", |context| ended(context.target))
        .case("foreign_data_are_an_error_and_unchanged", |context| foreign(context.target))
        .case("sessions_of_actix_sessions_main_branch_are_read", |context| main_branch(context.target))
        .case("a_session_that_is_too_large_is_not_saved", |context| too_large(context.target))
        .case("the_storage_contains_no_session_key", |context| at_rest(context.target))
        .case("plain_keys_are_found_only_in_a_migration", |context| migrates(context.target))
        .case("in_a_migration_the_hashed_key_is_valid", |context| migrated(context.target))
        .case("in_a_migration_foreign_data_are_an_error_and_unchanged", |context| {
            foreign_in_a_migration(context.target)
        })
        .case("concurrent_moves_keep_the_session", |context| racing_moves(context.target))
        .case("concurrent_moves_do_not_undo_a_delete", |context| moves_and_delete(context.target))
        .case("malformed_keys_identify_no_session", |context| no_keys(context.target))
        .case("the_sessions_of_an_owner_are_listed_and_deleted", |context| owned(context.target))
        .case("a_revoked_session_does_not_return", |context| revoked(context.target))
}

async fn open(target: &Target) -> (Handle, LarderStore) {
    let handle = target.open().await;
    let store = LarderStore::new((*handle).clone()).must("make the store");
    (handle, store)
}

fn state(count: usize) -> State {
    State::from([("count".to_owned(), count.to_string())])
}

/// Returns another handle to the same session.
fn again(session: &SessionKey) -> SessionKey {
    session.as_ref().to_owned().try_into().unwrap()
}

async fn loaded(store: &LarderStore, session: &SessionKey) -> Option<State> {
    store.load(session).await.must("load")
}

fn gone(outcome: Result<SessionKey, UpdateError>) -> bool {
    let Err(UpdateError::Other(error)) = outcome else { return false };
    error.downcast_ref::<Error>().is_some_and(|error| error.kind() == ErrorKind::Conflict)
}

async fn saved(target: Target) {
    let (_, store) = open(&target).await;
    let mut state = state(1);
    state.insert("名前 \0".to_owned(), r#""\u0000 \"\\ 名前""#.to_owned());
    state.insert(String::new(), String::new());
    let session = store.save(state.clone(), &HOUR).await.must("save");
    assert_eq!(session.as_ref().len(), 64);
    assert_eq!(loaded(&store, &session).await, Some(state));
    assert_eq!(loaded(&store, &generate_session_key()).await, None);
}

async fn racing_saves(target: Target) {
    let (_, store) = open(&target).await;
    let saved = race(8, |count| {
        let store = store.clone();
        async move { (count, store.save(state(count), &HOUR).await.must("save")) }
    })
    .await;
    for (count, session) in saved {
        assert_eq!(loaded(&store, &session).await, Some(state(count)));
    }
}

async fn taken() {
    let probe = Probe::new();
    let store = LarderStore::new(probe.clone()).must("make the store");
    probe.occupy(5);
    let session = store.save(state(1), &HOUR).await.must("save");
    let occupied = probe.occupied();
    assert_eq!(occupied.len(), 5);
    for taken in occupied {
        assert_ne!(taken, hashed(&session));
        let record = probe.storage().read(&taken).await.must("read").must("find the entry");
        assert_eq!(record.value, OCCUPIED.as_bytes());
    }
    // An update that must create a new session does not overwrite a taken key either.
    probe.occupy(1);
    let other = store.update(generate_session_key(), state(2), &HOUR).await.must("update");
    assert_eq!(probe.occupied().len(), 6);
    assert_eq!(loaded(&store, &other).await, Some(state(2)));
    probe.occupy(usize::MAX);
    let error = store.save(state(3), &HOUR).await.expect_err("no key is ever free");
    assert!(!format!("{error} {error:?}").contains("count"));
}

async fn updated(target: Target) {
    let (handle, store) = open(&target).await;
    let session = store.save(state(1), &Duration::minutes(2)).await.must("save");
    let same = store.update(again(&session), state(2), &HOUR).await.must("update");
    assert_eq!(same, session);
    assert_eq!(loaded(&store, &session).await, Some(state(2)));
    is_extended(&handle, &session).await;
}

/// Asserts that the session lives for more than half an hour.
async fn is_extended(handle: &Handle, session: &SessionKey) {
    let left = handle.ttl(&hashed(session)).await.must("ttl");
    assert!(
        matches!(left, Some(Expiry::After(left)) if left > HOUR / 2),
        "the lifetime was extended: {left:?}"
    );
}

/// Asserts that the storage has one entry, under `key`.
async fn is_only(handle: &Handle, key: &Key) {
    assert_eq!(handle.listed("").await, [key.as_str().to_owned()].into());
}

async fn updated_after_delete(target: Target) {
    let (handle, store) = open(&target).await;
    let session = store.save(state(1), &HOUR).await.must("save");
    store.delete(&session).await.must("delete");
    let other = store.update(again(&session), state(2), &HOUR).await.must("update");
    assert_ne!(other, session);
    assert_eq!(loaded(&store, &other).await, Some(state(2)));
    handle.lacks(&hashed(&session), "after an update of a deleted session").await;
}

async fn updated_after_expiry(target: Target) {
    let (handle, store) = open(&target).await;
    let session = expired(&store).await;
    let other = store.update(again(&session), state(2), &HOUR).await.must("update");
    assert_ne!(other, session);
    assert_eq!(loaded(&store, &other).await, Some(state(2)));
    handle.lacks(&hashed(&session), "after an update of an expired session").await;
}

/// Creates a session and waits until it has expired.
async fn expired(store: &LarderStore) -> SessionKey {
    let session = store.save(state(1), &SOON.try_into().unwrap()).await.must("save");
    until("the session expires", PATIENCE, || async { loaded(store, &session).await.is_none() }).await;
    session
}

async fn without_revival(target: Target) {
    let (handle, store) = open(&target).await;
    let store = store.without_revival();
    let deleted = store.save(state(1), &HOUR).await.must("save");
    store.delete(&deleted).await.must("delete");
    for session in [deleted, expired(&store).await] {
        assert!(gone(store.update(again(&session), state(2), &HOUR).await));
        handle.lacks(&hashed(&session), "after an update of a session that is gone").await;
    }
    assert!(handle.listed("").await.is_empty(), "no other entry was saved");
}

async fn racing_updates(target: Target) {
    let (_, store) = open(&target).await;
    let session = store.save(state(0), &HOUR).await.must("save");
    race(8, |count| {
        let (store, session) = (store.clone(), again(&session));
        async move {
            let same = store.update(again(&session), state(count + 1), &HOUR).await.must("update");
            assert_eq!(same, session);
        }
    })
    .await;
    let last = loaded(&store, &session).await.must("load a live session");
    assert!((1..=8).any(|count| last == state(count)), "the stored state is one of the saved states");
}

async fn updates_and_delete(target: Target) {
    let (handle, store) = open(&target).await;
    let store = store.without_revival();
    let session = store.save(state(0), &HOUR).await.must("save");
    race(7, |task| {
        let (store, session) = (store.clone(), again(&session));
        async move {
            if task == 3 {
                return store.delete(&session).await.must("delete");
            }
            for count in 0..20 {
                let outcome = store.update(again(&session), state(count), &HOUR).await;
                assert!(outcome.as_ref().is_ok_and(|same| *same == session) || gone(outcome));
            }
        }
    })
    .await;
    handle.lacks(&hashed(&session), "after it was deleted among updates").await;
}

async fn touched(target: Target) {
    let (handle, store) = open(&target).await;
    let session = store.save(state(1), &Duration::minutes(2)).await.must("save");
    let before = handle.read(hashed(&session)).await.must("read");
    store.update_ttl(&session, &HOUR).await.must("update the time to live");
    assert_eq!(handle.read(hashed(&session)).await.must("read"), before, "value and version are unchanged");
    is_extended(&handle, &session).await;
    // A session that is gone stays gone, and that is not an error.
    store.delete(&session).await.must("delete");
    store.update_ttl(&session, &HOUR).await.must("update the time to live");
    handle.lacks(&hashed(&session), "after its time to live was updated").await;
}

async fn touches_and_updates(target: Target) {
    let (_, store) = open(&target).await;
    let session = store.save(state(0), &HOUR).await.must("save");
    race(4, |task| {
        let (store, session) = (store.clone(), again(&session));
        async move {
            for count in 1..=20 {
                if task > 0 {
                    store.update_ttl(&session, &HOUR).await.must("update the time to live");
                } else {
                    store.update(again(&session), state(count), &HOUR).await.must("update");
                    assert_eq!(loaded(&store, &session).await, Some(state(count)));
                }
            }
        }
    })
    .await;
}

async fn deleted(target: Target) {
    let (handle, store) = open(&target).await;
    let session = store.save(state(1), &HOUR).await.must("save");
    for _ in 0..2 {
        store.delete(&session).await.must("delete");
        assert_eq!(loaded(&store, &session).await, None);
    }
    handle.lacks(&hashed(&session), "after delete").await;
}

async fn expires(target: Target) {
    let (handle, store) = open(&target).await;
    let lifetime = Lifetime::begin(SOON);
    let session = store.save(state(1), &SOON.try_into().unwrap()).await.must("save");
    lifetime.written().expires(&handle, &hashed(&session), "a session").await;
    assert_eq!(loaded(&store, &session).await, None);
}

async fn ended(target: Target) {
    let (handle, store) = open(&target).await;
    for ttl in [Duration::ZERO, Duration::seconds(-1)] {
        let past = store.save(state(1), &ttl).await.must("save");
        assert_eq!(loaded(&store, &past).await, None);
        let session = store.save(state(1), &HOUR).await.must("save");
        store.update(again(&session), state(2), &ttl).await.must("update");
        handle.lacks(&hashed(&session), "after an update with no time to live").await;
        let session = store.save(state(1), &HOUR).await.must("save");
        store.update_ttl(&session, &ttl).await.must("update the time to live");
        handle.lacks(&hashed(&session), "after its time to live was ended").await;
    }
}

async fn foreign(target: Target) {
    let (handle, store) = open(&target).await;
    for text in [
        r#"{"user":["zoe"]}"#,
        r#"["zoe"]"#,
        r#"{"count":1}"#,
        r#""zoe""#,
        r#"{"user":"zoe""#,
        r#"{"v":1,"state":{},"user":"zoe"}"#,
    ] {
        let (session, value) = (generate_session_key(), Bytes::copy_from_slice(text.as_bytes()));
        handle.put(&hashed(&session), &value).await;
        let before = handle.read(hashed(&session)).await.must("read");
        // With `LoadError::Deserialization`, actix-session would continue with an empty session.
        let Err(LoadError::Other(error)) = store.load(&session).await else { panic!("another outcome") };
        no_session(&error, &hashed(&session));
        for store in [store.clone(), store.clone().without_revival()] {
            let outcome = store.update(again(&session), state(1), &HOUR).await;
            let Err(UpdateError::Other(error)) = outcome else { panic!("another outcome") };
            no_session(&error, &hashed(&session));
        }
        assert_eq!(
            handle.read(hashed(&session)).await.must("read"),
            before,
            "value and version are unchanged"
        );
        assert_eq!(handle.ttl(&hashed(&session)).await.must("ttl"), Some(Expiry::Never));
        assert_eq!(handle.listed("").await.len(), 1, "no other entry was saved");
        // A logout is final: it deletes any value.
        store.delete(&session).await.must("delete");
        handle.lacks(&hashed(&session), "after delete").await;
    }
}

/// Asserts that the error says the value is not a session, identifies the key by its fingerprint, and
/// contains neither the value nor the key.
fn no_session(error: &anyhow::Error, key: &Key) {
    let ours = error.downcast_ref::<Error>().unwrap();
    assert_eq!(ours.fingerprint(), Some(&*key.fingerprint()));
    assert_eq!((ours.kind(), ours.adapter().is_some()), (ErrorKind::Codec, true));
    let text = format!("{error:#} {ours:?}");
    assert!(!text.contains("zoe") && !text.contains(key.as_str()), "{text}");
}

/// A session in the form of actix-session's main branch, and the state that it has in the released form.
fn versioned() -> (&'static str, State) {
    let state = [("count", "1"), ("name", r#""ann""#), ("v", "2"), ("state", r#"{"a":[null]}"#)];
    let state = state.map(|(name, value)| (name.to_owned(), value.to_owned()));
    (r#"{"v":1,"state":{"count":1,"name":"ann","v":2,"state":{"a":[null]}}}"#, state.into())
}

async fn main_branch(target: Target) {
    let (handle, store) = open(&target).await;
    let (session, (text, state)) = (generate_session_key(), versioned());
    handle.put(&hashed(&session), &Bytes::from(text)).await;
    assert_eq!(compact(loaded(&store, &session).await.must("load")), state);
    // Saved in the released form, also if members have the names of the other form.
    store.update(again(&session), state.clone(), &HOUR).await.must("update");
    assert_eq!(loaded(&store, &session).await, Some(state));
    let record = handle.read(hashed(&session)).await.must("read").must("find the entry");
    let saved = String::from_utf8(record.value.to_vec()).unwrap();
    assert!(saved.contains(r#"\"ann\""#), "the value is JSON in a string: {saved}");
}

/// Removes the white space that some storages add to JSON.
fn compact(state: State) -> State {
    state.into_iter().map(|(name, value)| (name, value.replace(' ', ""))).collect()
}

async fn too_large(target: Target) {
    let (handle, store) = open(&target).await;
    // `{"text":""}` has 11 bytes.
    let of = |size: usize| State::from([("text".to_owned(), "zoe".repeat(size).split_off(2 * size + 11))]);
    for (store, limit) in [(store.clone(), 1 << 20), (store.with_max_size(100), 100)] {
        let session = store.save(of(limit), &HOUR).await.must("save a session of the maximal size");
        let before = handle.read(hashed(&session)).await.must("read");
        let Err(SaveError::Serialization(error)) = store.save(of(limit + 1), &HOUR).await else {
            panic!("another outcome")
        };
        is_too_large(&error, limit);
        let outcome = store.update(again(&session), of(limit + 1), &HOUR).await;
        let Err(UpdateError::Serialization(error)) = outcome else { panic!("another outcome") };
        is_too_large(&error, limit);
        assert_eq!(
            handle.read(hashed(&session)).await.must("read"),
            before,
            "value and version are unchanged"
        );
        assert_eq!(handle.listed("").await.len(), 1, "no other entry was saved");
        store.delete(&session).await.must("delete");
    }
}

fn is_too_large(error: &anyhow::Error, limit: usize) {
    assert_eq!(error.downcast_ref::<Error>().unwrap().kind(), ErrorKind::TooLarge);
    let text = format!("{error:#}");
    assert!(text.contains(&format!("has {} bytes, but the maximum is {limit}", limit + 1)), "{text}");
    assert!(!text.contains("zoe"), "{text}");
}

async fn at_rest(target: Target) {
    let (handle, store) = open(&target).await;
    let session = store.save(state(1), &HOUR).await.must("save");
    store.update(again(&session), state(2), &HOUR).await.must("update");
    is_only(&handle, &hashed(&session)).await;
    let record = handle.read(hashed(&session)).await.must("read").must("find the entry");
    assert!(!String::from_utf8_lossy(&record.value).contains(session.as_ref()));
    // The stored key identifies no session, with and without the prefix and the `#`.
    for form in [store.clone(), store.clone().migrating_plain_ids(), store.clone().with_plain_ids()] {
        let stored = hashed(&session);
        for text in
            [stored.as_str(), &stored.as_str()["session:".len()..], &stored.as_str()["session:#".len()..]]
        {
            assert_eq!(loaded(&form, &text.to_owned().try_into().unwrap()).await, None, "{text}");
        }
    }
}

async fn migrates(target: Target) {
    let (handle, store) = open(&target).await;
    let (old, migrating) = (store.clone().with_plain_ids(), store.clone().migrating_plain_ids());
    for is_loaded in [true, false] {
        let session = old.save(state(1), &Duration::minutes(2)).await.must("save");
        is_only(&handle, &plain(&session)).await;
        assert_eq!(loaded(&store, &session).await, None);
        migrating.update_ttl(&session, &HOUR).await.must("update the time to live");
        let left = handle.ttl(&plain(&session)).await.must("ttl");
        assert!(matches!(left, Some(Expiry::After(left)) if left > HOUR / 2), "{left:?}");
        if is_loaded {
            assert_eq!(loaded(&migrating, &session).await, Some(state(1)));
            is_only(&handle, &plain(&session)).await;
        }
        let same = migrating.update(again(&session), state(2), &HOUR).await.must("update");
        assert_eq!(same, session);
        is_only(&handle, &hashed(&session)).await;
        is_extended(&handle, &session).await;
        for store in [&store, &migrating] {
            assert_eq!(loaded(store, &session).await, Some(state(2)));
        }
        assert_eq!(loaded(&old, &session).await, None);
        migrating.delete(&session).await.must("delete");

        let session = old.save(state(1), &HOUR).await.must("save");
        migrating.update(again(&session), state(2), &Duration::ZERO).await.must("update");
        assert!(handle.listed("").await.is_empty(), "an update without time to live leaves nothing");
    }
    let session = migrating.save(state(1), &HOUR).await.must("save");
    is_only(&handle, &hashed(&session)).await;
}

async fn migrated(target: Target) {
    let (handle, store) = open(&target).await;
    let store = store.migrating_plain_ids();
    let session = store.save(state(2), &Duration::minutes(2)).await.must("save");
    // Left by a process that ended during the move.
    let old = Bytes::from_static(br#"{"count":"1"}"#);
    handle.put(&plain(&session), &old).await;
    assert_eq!(loaded(&store, &session).await, Some(state(2)));
    store.update_ttl(&session, &HOUR).await.must("update the time to live");
    is_extended(&handle, &session).await;
    store.update(again(&session), state(3), &HOUR).await.must("update");
    assert_eq!(loaded(&store, &session).await, Some(state(3)));
    store.delete(&session).await.must("delete");
    assert!(handle.listed("").await.is_empty(), "a logout removes both");
    assert!(gone(store.without_revival().update(session, state(4), &HOUR).await));
}

async fn foreign_in_a_migration(target: Target) {
    let (handle, store) = open(&target).await;
    let (store, session) = (store.migrating_plain_ids(), generate_session_key());
    handle.put(&plain(&session), &Bytes::from_static(br#"{"user":["zoe"]}"#)).await;
    let before = handle.read(plain(&session)).await.must("read");
    let Err(LoadError::Other(error)) = store.load(&session).await else { panic!("another outcome") };
    no_session(&error, &plain(&session));
    let outcome = store.update(again(&session), state(1), &HOUR).await;
    let Err(UpdateError::Other(error)) = outcome else { panic!("another outcome") };
    no_session(&error, &plain(&session));
    assert_eq!(handle.read(plain(&session)).await.must("read"), before, "value and version are unchanged");
    let announced = handle.ttl(&hashed(&session)).await.must("ttl");
    assert!(matches!(announced, Some(Expiry::After(left)) if left.as_secs() <= 60), "{announced:?}");
}

async fn racing_moves(target: Target) {
    let (handle, store) = open(&target).await;
    let (old, store) = (store.clone().with_plain_ids(), store.migrating_plain_ids().without_revival());
    for _ in 0..10 {
        let session = old.save(state(0), &HOUR).await.must("save");
        race(6, |count| {
            let (store, session) = (store.clone(), again(&session));
            async move {
                assert!(loaded(&store, &session).await.is_some(), "the session exists while it moves");
                store.update(again(&session), state(count + 1), &HOUR).await.must("update");
            }
        })
        .await;
        is_only(&handle, &hashed(&session)).await;
        let last = loaded(&store, &session).await.must("load a live session");
        assert!((1..=6).any(|count| last == state(count)), "the stored state is one of the saved states");
        store.delete(&session).await.must("delete");
    }
}

async fn moves_and_delete(target: Target) {
    let (handle, store) = open(&target).await;
    let (old, store) = (store.clone().with_plain_ids(), store.migrating_plain_ids().without_revival());
    for _ in 0..10 {
        let session = old.save(state(0), &HOUR).await.must("save");
        race(6, |task| {
            let (store, session) = (store.clone(), again(&session));
            async move {
                if task == 3 {
                    return store.delete(&session).await.must("delete");
                }
                let outcome = store.update(again(&session), state(task), &HOUR).await;
                assert!(outcome.as_ref().is_ok_and(|same| *same == session) || gone(outcome));
            }
        })
        .await;
        assert!(handle.listed("").await.is_empty(), "a logout among moves is final");
    }
}

/// Each store continues the sessions of the other.
async fn shares() {
    let server = larder_test_servers::redis().await.must("have a server");
    let theirs = RedisSessionStore::new(server.url()).await.must("connect");
    let separator = if server.url().contains('?') { '&' } else { '?' };
    let url = format!("{}{separator}layout=grammy", server.url());
    let ours = LarderStore::new(larder::open(&url).await.must("open the storage"))
        .and_then(|store| store.with_prefix(""))
        .must("make the store")
        .with_plain_ids();

    let session = theirs.save(state(1), &HOUR).await.must("save");
    assert_eq!(loaded(&ours, &session).await, Some(state(1)));
    assert_eq!(ours.update(again(&session), state(2), &HOUR).await.must("update"), session);
    assert_eq!(theirs.load(&session).await.must("load"), Some(state(2)));
    theirs.delete(&session).await.must("delete");
    assert_eq!(loaded(&ours, &session).await, None);

    let session = ours.save(state(3), &HOUR).await.must("save");
    assert_eq!(theirs.load(&session).await.must("load"), Some(state(3)));
    assert_eq!(theirs.update(again(&session), state(4), &HOUR).await.must("update"), session);
    assert_eq!(loaded(&ours, &session).await, Some(state(4)));
    ours.delete(&session).await.must("delete");
    assert_eq!(theirs.load(&session).await.must("load"), None);

    // Without the option, neither finds the other's sessions, unless it migrates.
    let session = theirs.save(state(5), &HOUR).await.must("save");
    let migrating = ours.clone().migrating_plain_ids();
    assert_eq!(loaded(&migrating, &session).await, Some(state(5)));
    migrating.update(again(&session), state(6), &HOUR).await.must("update");
    assert_eq!(loaded(&migrating, &session).await, Some(state(6)));
    assert_eq!(theirs.load(&session).await.must("load"), None);
    migrating.delete(&session).await.must("delete");
    ours.storage().close().await.must("close");
}

/// Returns texts that resemble a session's key but are not valid keys.
fn none(real: &SessionKey) -> impl Iterator<Item = SessionKey> {
    let real = real.as_ref();
    let texts = [
        String::new(),
        real[1..].to_owned(),
        format!("{real}A"),
        format!("{}/", &real[1..]),
        format!("{}é", &real[2..]),
        format!("{}\n", &real[1..]),
        "A".repeat(Key::MAX_BYTES - "session:".len()),
        "A".repeat(4_000),
        r#"{"user":"ann"}"#.to_owned(),
    ];
    texts.into_iter().map(|text| text.try_into().unwrap())
}

async fn no_keys(target: Target) {
    let (handle, store) = open(&target).await;
    let real = store.save(state(1), &HOUR).await.must("save");
    for session in none(&real) {
        assert_eq!(loaded(&store, &session).await, None);
        store.update_ttl(&session, &HOUR).await.must("update the time to live");
        store.delete(&session).await.must("delete");
        let other = store.update(again(&session), state(2), &HOUR).await.must("update");
        assert_eq!(other.as_ref().len(), 64);
        store.delete(&other).await.must("delete");
    }
    assert_eq!(handle.listed("").await.len(), 1, "only the session exists");
}

async fn no_keys_asked_for() {
    let probe = Probe::new();
    let store = LarderStore::new(probe.clone()).must("make the store").without_revival();
    let real = generate_session_key();
    // Any call that reaches the storage would fail.
    probe.set_down(true);
    assert!(store.load(&real).await.is_err());
    for session in none(&real) {
        assert_eq!(loaded(&store, &session).await, None, "{}", session.as_ref());
        store.update_ttl(&session, &HOUR).await.must("update the time to live");
        store.delete(&session).await.must("delete");
        assert!(gone(store.update(again(&session), state(1), &HOUR).await), "{}", session.as_ref());
    }
}

/// Opens a store of sessions with owners.
async fn open_with_owners(target: &Target) -> (Handle, LarderStore) {
    let (handle, store) = open(target).await;
    let text = |state: &State, name| serde_json::from_str::<String>(state.get(name)?).ok();
    let store = store
        .with_owner(move |state| text(state, "user"))
        .with_device(move |state| text(state, "device"))
        .with_max_per_owner(3);
    (handle, store)
}

async fn log_in(store: &LarderStore, user: &str, device: &str) -> SessionKey {
    let text = |text: &str| serde_json::to_string(text).unwrap();
    let state = [("user".to_owned(), text(user)), ("device".to_owned(), text(device))];
    store.save(state.into(), &HOUR).await.must("save")
}

/// Returns the handle that a request finds in its session.
async fn handle_of(store: &LarderStore, session: &SessionKey) -> String {
    let state = loaded(store, session).await.must("load a live session");
    let of_request = TestRequest::default().to_srv_request().get_session();
    for (name, value) in state {
        of_request.insert(name, serde_json::from_str::<serde_json::Value>(&value).unwrap()).unwrap();
    }
    larder_actix_session::handle(&of_request).must("find the handle")
}

async fn owned(target: Target) {
    let (handle, store) = open_with_owners(&target).await;
    let sessions = [
        log_in(&store, "ann", "phone").await,
        log_in(&store, "ann", "phone").await,
        log_in(&store, "bob", "laptop").await,
        log_in(&store, "ann", "phone").await,
    ];
    let [one, two, bob, three] = &sessions;
    let listed = store.sessions_of("ann").await.must("list");
    let mut handles: Vec<_> = listed.iter().map(|session| session.handle().to_owned()).collect();
    let mut expected = Vec::new();
    for session in [one, two, three] {
        expected.push(handle_of(&store, session).await);
    }
    handles.sort();
    expected.sort();
    assert_eq!(handles, expected);
    assert!(listed.iter().all(|session| session.device() == Some("phone")));

    // The handle is not stored.
    let state = loaded(&store, one).await.must("load a live session");
    store.update(again(one), state, &HOUR).await.must("update");
    let record = handle.read(hashed(one)).await.must("read").must("find the entry");
    assert!(!String::from_utf8_lossy(&record.value).contains("larder"));
    assert_eq!(loaded(&open(&target).await.1, one).await.must("load").len(), 2);

    let (of_two, of_three, of_bob) =
        (handle_of(&store, two).await, handle_of(&store, three).await, handle_of(&store, bob).await);
    assert!(!store.delete_session_of("ann", &of_bob).await.must("delete"));
    assert!(store.delete_session_of("ann", &of_two).await.must("delete"));
    assert_eq!(loaded(&store, two).await, None);
    assert_eq!(store.delete_others_by_owner("ann", &of_three).await.must("delete"), 1);
    assert_eq!(loaded(&store, one).await, None);
    assert!(loaded(&store, three).await.is_some() && loaded(&store, bob).await.is_some());
    assert_eq!(store.delete_by_owner("ann").await.must("delete"), 1);
    store.delete(bob).await.must("delete");
    for _ in 0..4 {
        log_in(&store, "cleo", "phone").await;
    }
    assert_eq!(store.sessions_of("cleo").await.must("list").len(), 3, "the maximum");
    assert_eq!(store.delete_by_owner("cleo").await.must("delete"), 3);
    assert!(handle.listed("").await.is_empty(), "nothing remains in the index");
}

async fn revoked(target: Target) {
    let (handle, store) = open_with_owners(&target).await;
    let session = log_in(&store, "ann", "phone").await;
    let state = loaded(&store, &session).await.must("load a live session");
    assert_eq!(store.delete_by_owner("ann").await.must("delete"), 1);
    assert!(gone(store.update(again(&session), state, &HOUR).await));
    store.update_ttl(&session, &HOUR).await.must("update the time to live");
    assert_eq!(loaded(&store, &session).await, None);
    assert!(handle.listed("session:").await.is_empty(), "no other session was saved");
}
