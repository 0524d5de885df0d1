//! The lifetimes of sessions, on a store that expires them.
//!
//! These tests do not rely on fixed delays. They compare the expiry of a session with the time that has
//! passed: on a slow machine the test can observe it late, but never early.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

mod common;

use std::time::{Duration, Instant};

use larder_core::{Expiry, clock::unix_millis};
use larder_session::{
    ConflictPolicy, ErrorKind, KvSessions, Lifetime, Migrations, OpenSession, Session, Sessions,
};
use serde_json::Value;

use common::{Call, Counting, LIMIT, LONG, Minimal, kind, until};

/// Deadlines are whole milliseconds of the wall clock, which can be adjusted during a test.
const ROUNDING: Duration = Duration::from_millis(20);

fn living(storage: &Counting, lifetime: Lifetime) -> Sessions<u32> {
    Sessions::builder().storage(storage.clone()).lifetime(lifetime).build().unwrap()
}

async fn increment(sessions: &Sessions<u32>) {
    sessions.update(42, async |mut session| *session += 1).await.unwrap();
}

async fn look(sessions: &Sessions<u32>) {
    sessions.update(42, async |_| ()).await.unwrap();
}

async fn a_moment() {
    let start = unix_millis();
    until("the clock goes on", async || unix_millis() > start + 5).await;
}

/// Uses a session until it has expired, at most for this long. Returns the duration, and the time since its
/// last use.
async fn use_until_gone(sessions: &Sessions<u32>, at_most: Duration) -> Option<(Duration, Duration)> {
    let start = Instant::now();
    increment(sessions).await;
    let mut used = start;
    while start.elapsed() < at_most {
        let now = Instant::now();
        if sessions.get(42).await.unwrap().is_none() {
            return Some((start.elapsed(), used.elapsed()));
        }
        used = now;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    None
}

// No expiry

#[tokio::test]
async fn sessions_do_not_expire_by_default() {
    let storage = Counting::new();
    let sessions = Sessions::<u32>::new(storage.clone()).unwrap();
    increment(&sessions).await;
    look(&sessions).await;
    assert_eq!(storage.expiries(), [Expiry::Never]);
    assert_eq!(sessions.ttl(42).await.unwrap(), Some(Expiry::Never));
}

// After the last write

#[tokio::test]
async fn a_session_ends_by_itself_after_its_last_write() {
    let storage = Counting::new();
    let short = Duration::from_millis(100);
    let sessions = living(&storage, Lifetime::after_write(short));
    let start = Instant::now();
    increment(&sessions).await;
    until("it has ended", async || sessions.get(42).await.unwrap().is_none()).await;
    assert!(start.elapsed() >= short);
    // The entry is gone, not only hidden.
    assert_eq!(storage.record("42").await, None);
    // The next session is new.
    increment(&sessions).await;
    assert_eq!(storage.text("42").await.unwrap(), "1");
}

#[tokio::test]
async fn a_write_restarts_the_lifetime_and_a_read_does_not() {
    let storage = Counting::new();
    let sessions = living(&storage, Lifetime::after_write(LONG));
    increment(&sessions).await;
    increment(&sessions).await;
    look(&sessions).await;
    sessions.get(42).await.unwrap();
    sessions.update_lazy(42, async |session| session.get().await).await.unwrap();
    sessions.set(42, 7).await.unwrap();
    // The last one found a session and was repeated.
    assert_eq!(storage.expiries(), [Expiry::After(LONG); 4]);
    assert_eq!(storage.count(Call::Touch), 0);
}

#[tokio::test]
async fn a_read_does_not_extend_an_after_write_session() {
    let storage = Counting::new();
    let short = Duration::from_millis(100);
    let sessions = living(&storage, Lifetime::after_write(short));
    let (lived, _) = use_until_gone(&sessions, LIMIT).await.expect("it ends");
    assert!(lived >= short);
}

// Sliding

#[tokio::test]
async fn a_use_extends_a_sliding_session_without_rewriting_it() {
    let storage = Counting::new();
    let sessions = living(&storage, Lifetime::sliding(LONG).touch_every(Duration::ZERO));
    increment(&sessions).await;
    let before = storage.record("42").await.unwrap();
    storage.forget_counts();

    look(&sessions).await;
    sessions.get(42).await.unwrap();
    sessions.update_lazy(42, async |session| session.get().await).await.unwrap();
    OpenSession::save(sessions.open(42).await.unwrap()).await.unwrap();
    assert_eq!((storage.count(Call::Touch), storage.writes()), (4, 0));
    assert_eq!(storage.expiries(), [Expiry::After(LONG); 4]);
    assert_eq!(storage.record("42").await.unwrap(), before, "value and version are the same");
}

#[tokio::test]
async fn touching_does_not_make_another_process_run_its_handler_again() {
    let storage = Counting::new();
    let lifetime = Lifetime::sliding(LONG).touch_every(Duration::ZERO);
    let (one, other) = (living(&storage, lifetime), living(&storage, lifetime));
    increment(&one).await;
    let mut open = one.open(42).await.unwrap();
    *open += 1;
    look(&other).await;
    OpenSession::save(open).await.unwrap();
    assert_eq!(storage.text("42").await.unwrap(), "2");
}

#[tokio::test]
async fn a_sliding_session_is_touched_at_most_once_per_interval() {
    let storage = Counting::new();
    for lifetime in [Lifetime::sliding(LONG * 10), Lifetime::sliding(2 * LONG).touch_every(LONG)] {
        storage.forget_counts();
        let writer = living(&storage, lifetime);
        increment(&writer).await;
        for _ in 0..10 {
            // A write counts as a touch.
            look(&writer).await;
            writer.get(42).await.unwrap();
        }
        assert_eq!((storage.count(Call::Touch), storage.writes()), (0, 1));
        // A process that has not touched it yet touches it once.
        let reader = living(&storage, lifetime);
        for _ in 0..10 {
            reader.get(42).await.unwrap();
            look(&reader).await;
        }
        assert_eq!((storage.count(Call::Touch), storage.writes()), (1, 1));
    }
}

#[tokio::test]
async fn when_its_interval_is_over_a_sliding_session_is_touched_again() {
    let storage = Counting::new();
    let interval = Duration::from_millis(30);
    let sessions = living(&storage, Lifetime::sliding(LONG).touch_every(interval));
    let start = Instant::now();
    increment(&sessions).await;
    until("three touches", async || {
        look(&sessions).await;
        storage.count(Call::Touch) >= 3
    })
    .await;
    assert!(start.elapsed() >= 3 * interval);
    assert_eq!(storage.writes(), 1);
}

#[tokio::test]
async fn a_sliding_session_lives_while_it_is_used() {
    let storage = Counting::new();
    let idle = Duration::from_millis(400);
    let sessions = living(&storage, Lifetime::sliding(idle).touch_every(Duration::ZERO));
    let start = Instant::now();
    // Repeat it if the machine is too slow.
    while let Some((_, unused)) = use_until_gone(&sessions, 3 * idle).await {
        assert!(unused + ROUNDING >= idle, "gone after {unused:?}");
        assert!(start.elapsed() < LIMIT, "never used in time");
    }
}

#[tokio::test]
async fn a_sliding_session_ends_when_it_is_not_used() {
    let storage = Counting::new();
    let idle = Duration::from_millis(100);
    let sessions = living(&storage, Lifetime::sliding(idle));
    let start = Instant::now();
    increment(&sessions).await;
    // Read past the sessions, which does not count as use.
    until("it has ended", async || storage.record("42").await.is_none()).await;
    assert!(start.elapsed() >= idle);
}

#[tokio::test]
async fn using_an_expired_session_does_not_restore_it() {
    let storage = Counting::new();
    let sessions = KvSessions::builder()
        .storage(storage.clone())
        .with(|sessions| sessions.lifetime(Lifetime::sliding(LONG).touch_every(Duration::ZERO)))
        .build()
        .unwrap();
    sessions.update(42, async |session| assert!(session.all().is_empty())).await.unwrap();
    assert_eq!(storage.record("42").await, None);
}

// Absolute

#[tokio::test]
async fn an_absolute_session_keeps_its_end() {
    let storage = Counting::new();
    let sessions = living(&storage, Lifetime::absolute(LONG));
    let before = unix_millis();
    increment(&sessions).await;
    let end = storage.json("42").await.unwrap()["e"].as_i64().unwrap();
    let long = LONG.as_millis() as i64;
    assert!((before + long..=unix_millis() + long).contains(&end));
    assert_eq!(storage.expiries(), [Expiry::After(LONG)]);

    let mut left = LONG;
    for _ in 0..3 {
        a_moment().await;
        increment(&sessions).await;
        assert_eq!(storage.json("42").await.unwrap()["e"], end);
        let Some(Expiry::After(now)) = storage.expiries().last().copied() else { panic!("it expires") };
        assert!(now < left, "it has less time left with each write");
        left = now;
    }
    look(&sessions).await;
    assert_eq!(storage.count(Call::Touch), 0);
    // A restart of the program does not change it.
    increment(&living(&storage, Lifetime::absolute(LONG))).await;
    assert_eq!(storage.json("42").await.unwrap()["e"], end);
}

#[tokio::test]
async fn an_absolute_session_ends_despite_reads_and_writes() {
    let storage = Counting::new();
    let most = Duration::from_millis(200);
    let sessions = living(&storage, Lifetime::absolute(most));
    let start = Instant::now();
    increment(&sessions).await;
    let mut writes = 1;
    until("it is a new one", async || {
        increment(&sessions).await;
        writes += 1;
        sessions.get(42).await.unwrap().is_some_and(|number| number < writes)
    })
    .await;
    assert!(start.elapsed() + ROUNDING >= most);
}

#[tokio::test]
async fn a_session_that_is_cleared_and_set_has_a_new_end() {
    let storage = Counting::new();
    let sessions = living(&storage, Lifetime::absolute(LONG));
    let end = async || storage.json("42").await.unwrap()["e"].as_i64().unwrap();
    increment(&sessions).await;
    let first = end().await;
    a_moment().await;
    sessions
        .update(42, async |mut session| {
            Session::clear(&mut session);
            *session = 7;
        })
        .await
        .unwrap();
    let second = end().await;
    assert!(second > first);
    a_moment().await;
    sessions.set(42, 8).await.unwrap();
    assert!(end().await > second, "a replacement without a read is a new session, too");
}

// Both

#[tokio::test]
async fn of_two_lifetimes_the_earlier_end_applies() {
    let storage = Counting::new();
    // The idle time is shorter than the remaining life: touches keep the end.
    let sessions = living(&storage, Lifetime::sliding(LONG).touch_every(Duration::ZERO).at_most(10 * LONG));
    increment(&sessions).await;
    let stored = storage.record("42").await.unwrap();
    look(&sessions).await;
    assert_eq!(storage.expiries(), [Expiry::After(LONG); 2]);
    assert_eq!(storage.record("42").await.unwrap(), stored);

    // The idle time is longer: writes and touches use the remaining life.
    let storage = Counting::new();
    let sessions = living(&storage, Lifetime::sliding(10 * LONG).touch_every(Duration::ZERO).at_most(LONG));
    increment(&sessions).await;
    a_moment().await;
    look(&sessions).await;
    a_moment().await;
    increment(&sessions).await;
    let expiries: Vec<_> = storage.expiries().into_iter().map(|expiry| expiry.as_millis().unwrap()).collect();
    assert_eq!(expiries[0], LONG.as_millis() as u64);
    assert!(expiries.is_sorted_by(|before, after| before > after), "{expiries:?}");

    let storage = Counting::new();
    let sessions = living(&storage, Lifetime::after_write(10 * LONG).at_most(LONG));
    increment(&sessions).await;
    assert_eq!(storage.expiries(), [Expiry::After(LONG)]);
}

#[tokio::test]
async fn a_limited_sliding_session_ends_at_its_limit_despite_use() {
    let storage = Counting::new();
    let (idle, most) = (Duration::from_millis(400), Duration::from_millis(800));
    let sessions = living(&storage, Lifetime::sliding(idle).touch_every(Duration::ZERO).at_most(most));
    let (lived, unused) = use_until_gone(&sessions, LIMIT).await.expect("it ends");
    assert!(lived + ROUNDING >= most || unused + ROUNDING >= idle, "gone after {lived:?}, {unused:?}");
}

#[tokio::test]
async fn a_limited_sliding_session_ends_without_use() {
    let storage = Counting::new();
    let idle = Duration::from_millis(100);
    let sessions = living(&storage, Lifetime::sliding(idle).at_most(LONG));
    let start = Instant::now();
    increment(&sessions).await;
    until("it has ended", async || storage.record("42").await.is_none()).await;
    assert!(start.elapsed() >= idle);
}

// TTL

#[tokio::test]
async fn ttl_returns_the_expiry_in_the_store() {
    let storage = Counting::new();
    let sessions = living(&storage, Lifetime::after_write(LONG));
    assert_eq!(sessions.ttl(42).await.unwrap(), None);
    increment(&sessions).await;
    let left = async || match sessions.ttl(42).await.unwrap() {
        Some(Expiry::After(left)) => left,
        other => panic!("{other:?}"),
    };
    let first = left().await;
    assert!(first <= LONG && first > LONG / 2);
    until("time passes", async || left().await < first).await;
    // Under the new key and the old key.
    sessions.move_key(42, 43).await.unwrap();
    for key in [42, 43] {
        let Some(Expiry::After(moved)) = sessions.ttl(key).await.unwrap() else { panic!("it expires") };
        // Each step of the move rounds up to a millisecond.
        assert!(moved <= first + ROUNDING && moved > LONG / 2);
    }
    sessions.delete(42).await.unwrap();
    assert_eq!(sessions.ttl(42).await.unwrap(), None);
}

#[tokio::test]
async fn ttl_includes_the_stored_end() {
    let storage = Counting::new();
    let sessions = living(&storage, Lifetime::after_write(LONG));
    // As grammY stores it, in an entry without an expiry.
    storage.put("42", format!(r#"{{"__d":7,"e":{}}}"#, unix_millis() + 60_000)).await;
    let Some(Expiry::After(left)) = sessions.ttl(42).await.unwrap() else { panic!("it expires") };
    assert!(left <= Duration::from_secs(60));
    storage.put("42", format!(r#"{{"__d":7,"e":{}}}"#, unix_millis() - 1)).await;
    assert_eq!(sessions.ttl(42).await.unwrap(), None);
}

#[tokio::test]
async fn an_end_that_another_program_has_stored_does_not_cut_a_sliding_session_short() {
    let storage = Counting::new();
    storage.put("42", format!(r#"{{"__d":7,"e":{}}}"#, unix_millis() + 60_000)).await;
    let sessions = living(&storage, Lifetime::sliding(LONG));
    look(&sessions).await;
    assert_eq!(storage.text("42").await.unwrap(), "7");
    assert_eq!(sessions.get(42).await.unwrap(), Some(7));
}

#[tokio::test]
async fn update_that_changes_nothing_keeps_the_end_that_another_program_has_stored() {
    let storage = Counting::new();
    let stored = format!(r#"{{"__d":7,"e":{}}}"#, unix_millis() + 60_000);
    storage.put("42", stored.clone()).await;
    for lifetime in [Lifetime::forever(), Lifetime::after_write(LONG), Lifetime::absolute(LONG)] {
        let sessions = living(&storage, lifetime);
        look(&sessions).await;
        sessions.update(42, async |mut session| *session += 0).await.unwrap();
        sessions
            .update_lazy(42, async |session| session.modify(|session| *session += 0).await)
            .await
            .unwrap();
        assert_eq!(storage.text("42").await.unwrap(), stored, "{lifetime:?}");
    }
    assert_eq!(storage.writes(), 0);

    // A migrated session is written without a change.
    let migrations = || Migrations::new().step(1, |old: u32| old);
    for update in [false, true] {
        storage.put("42", stored.clone()).await;
        let sessions: Sessions<u32> = Sessions::builder()
            .storage(storage.clone())
            .migrations(migrations())
            .persist_migrated(true)
            .build()
            .unwrap();
        sessions
            .update(42, async |mut session| {
                if update {
                    *session += 0;
                }
            })
            .await
            .unwrap();
        let (before, after): (Value, Value) =
            (serde_json::from_str(&stored).unwrap(), storage.json("42").await.unwrap());
        assert_eq!((&after["v"], &after["e"]), (&Value::from(1), &before["e"]));
    }
}

// Invalid options

#[tokio::test]
async fn a_lifetime_in_a_storage_with_no_expiry_is_refused() {
    let build = |lifetime| {
        let builder = Sessions::<u32>::builder().storage(Minimal).conflicts(ConflictPolicy::LastWriteWins);
        builder.lifetime(lifetime).build()
    };
    for lifetime in [Lifetime::after_write(LONG), Lifetime::sliding(LONG), Lifetime::absolute(LONG)] {
        assert_eq!(kind(build(lifetime)), ErrorKind::Unsupported);
    }
    let sessions = build(Lifetime::forever()).unwrap();
    assert_eq!(sessions.ttl(42).await.unwrap(), None);
}

#[tokio::test]
async fn a_session_that_was_stored_before_there_was_a_lifetime_gets_one_when_it_is_next_written() {
    let storage = Counting::new();
    storage.put("42", "5").await;
    let sessions = living(&storage, Lifetime::absolute(LONG));
    look(&sessions).await;
    assert_eq!(storage.text("42").await.unwrap(), "5");
    increment(&sessions).await;
    let stored: Value = storage.json("42").await.unwrap();
    assert_eq!(stored["__d"], 6);
    assert!(stored["e"].is_i64());
    assert_eq!(storage.expiries(), [Expiry::After(LONG)]);
    // A sliding session at its next use.
    storage.put("42", "5").await;
    let sessions = living(&storage, Lifetime::sliding(LONG));
    look(&sessions).await;
    assert!(matches!(sessions.ttl(42).await.unwrap(), Some(Expiry::After(_))));
}
