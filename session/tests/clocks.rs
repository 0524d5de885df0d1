//! Processes with different clocks. The end in a stored session comes from the clock of its writer. If the
//! entry has an expiry, the store decides.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

mod common;

use std::time::Duration;

use futures_util::{FutureExt, TryStreamExt};
use larder_core::{Expiry, clock::unix_millis};
use larder_session::{Lifetime, Session, Sessions};

use common::{Call, Counting, LONG};

const MINUTE: Duration = Duration::from_secs(60);

/// Stores 41 with an end 30 s ago by this process's clock, and a minute left by the store's clock.
async fn put_session_of_a_clock_behind(storage: &Counting, key: &str) -> i64 {
    let end = unix_millis() - 30_000;
    let stored = format!(r#"{{"__d":41,"e":{end}}}"#);
    storage.behind().write(key, stored).expires_in(MINUTE).await.unwrap();
    end
}

async fn left(storage: &Counting, key: &str) -> Duration {
    match storage.behind().ttl(key).await.unwrap() {
        Some(Expiry::After(left)) => left,
        other => panic!("it ends by itself, but not like this: {other:?}"),
    }
}

fn living(storage: &Counting, lifetime: Lifetime) -> Sessions<u32> {
    Sessions::builder().storage(storage.clone()).envelope().lifetime(lifetime).build().unwrap()
}

#[tokio::test]
async fn the_stored_end_does_not_expire_an_entry_with_a_ttl() {
    let lifetimes = [
        Lifetime::forever(),
        Lifetime::after_write(LONG),
        Lifetime::sliding(LONG),
        Lifetime::absolute(LONG),
        Lifetime::sliding(LONG).at_most(2 * LONG),
    ];
    for lifetime in lifetimes {
        let storage = Counting::new();
        put_session_of_a_clock_behind(&storage, "1").await;
        let sessions = living(&storage, lifetime);
        assert_eq!(sessions.keys().try_collect::<Vec<_>>().await.unwrap(), ["1"], "{lifetime:?}");
        assert_eq!(sessions.all().try_collect::<Vec<_>>().await.unwrap(), [("1".to_owned(), 41)]);
        assert!(matches!(sessions.ttl(1).await.unwrap(), Some(Expiry::After(left)) if left <= MINUTE));
        assert_eq!(sessions.get(1).await.unwrap(), Some(41), "{lifetime:?}");
        sessions
            .update(1, async |mut session| {
                assert!(!Session::is_new(&session));
                *session += 1;
            })
            .await
            .unwrap();
        assert_eq!(sessions.get(1).await.unwrap(), Some(42), "{lifetime:?}");
        sessions.update_lazy(1, async |session| session.modify(|number| *number += 1).await).await.unwrap();
        assert_eq!(sessions.get(1).await.unwrap(), Some(43), "{lifetime:?}");
    }
}

/// A marker does not expire, so its TTL does not say that the session has.
#[tokio::test]
async fn a_session_that_moves_while_its_ttl_is_read_has_not_expired() {
    for back in [false, true] {
        let storage = Counting::new();
        put_session_of_a_clock_behind(&storage, "1").await;
        let sessions = living(&storage, Lifetime::absolute(LONG));
        let gate = storage.gate_reads();
        let reading = tokio::spawn({
            let sessions = sessions.clone();
            async move { sessions.get(1).await }
        });
        gate.arrived(1).await;
        gate.let_through(1);
        gate.arrived(2).await;
        let others = Sessions::<u32>::builder().storage(storage.behind()).envelope();
        let others = others.lifetime(Lifetime::absolute(LONG)).build().unwrap();
        others.move_key(1, 2).await.unwrap();
        if back {
            // The first step of a move back.
            let marker = r#"{"__larder":{"expecting":{"from":"2","id":"3","own":null}}}"#;
            storage.behind().write("1", marker).await.unwrap();
        }
        gate.let_through(9);
        assert_eq!(reading.await.unwrap().unwrap(), Some(41), "back: {back}");
    }
}

#[tokio::test]
async fn a_write_keeps_the_absolute_end_of_the_store() {
    let storage = Counting::new();
    let end = put_session_of_a_clock_behind(&storage, "1").await;
    let sessions = living(&storage, Lifetime::absolute(LONG));
    sessions.update(1, async |mut session| *session += 1).await.unwrap();
    assert_eq!(storage.json("1").await.unwrap(), serde_json::json!({ "__d": 42, "e": end }));
    assert!(left(&storage, "1").await <= MINUTE);

    let sessions = living(&storage, Lifetime::sliding(LONG).touch_every(Duration::ZERO).at_most(LONG));
    assert_eq!(sessions.get(1).await.unwrap(), Some(42));
    assert!(left(&storage, "1").await <= MINUTE, "a touch moves it no further");
}

#[tokio::test]
async fn the_ttl_is_read_only_after_the_stored_end() {
    let storage = Counting::new();
    let sessions = living(&storage, Lifetime::forever());
    storage.put("1", format!(r#"{{"__d":41,"e":{}}}"#, unix_millis() + 3_600_000)).await;
    sessions.get(1).await.unwrap();
    sessions.update(1, async |mut session| *session += 1).await.unwrap();
    assert_eq!((storage.count(Call::Ttl), storage.reads(), storage.writes()), (0, 2, 1));
}

#[tokio::test]
async fn the_stored_end_applies_to_an_entry_without_a_ttl() {
    let without_expiry = Counting::new().without_expiry();
    for storage in [Counting::new(), without_expiry] {
        storage.put("1", format!(r#"{{"__d":41,"e":{}}}"#, unix_millis() - 1)).await;
        let sessions = living(&storage, Lifetime::forever());
        assert_eq!(sessions.get(1).await.unwrap(), None);
        assert!(sessions.keys().try_collect::<Vec<_>>().await.unwrap().is_empty());
        sessions.update(1, async |mut session| *session += 1).await.unwrap();
        assert_eq!(sessions.get(1).await.unwrap(), Some(1));
    }
}

/// Stores a session that expires after `left`, moves it from "old" to "new", and kills the moving process
/// before write number `step + 1`.
async fn die_while_moving(storage: &Counting, left: Duration, step: usize) -> Sessions<u32> {
    let sessions: Sessions<u32> = Sessions::builder().storage(storage.clone()).build().unwrap();
    storage.behind().write("old", "41").expires_in(left).await.unwrap();
    let gate = storage.gate_writes();
    gate.let_through(step);
    let mut moving = Box::pin(sessions.move_key("old", "new"));
    if moving.as_mut().now_or_never().is_none() {
        gate.arrived(step + 1).await;
    }
    drop(moving);
    gate.let_through(1_000);
    sessions
}

/// Subtracts two hours from the end in each marker. Returns the number of markers with an end.
async fn set_recorded_ends_back(storage: &Counting) -> usize {
    let mut changed = 0;
    for key in ["old", "new"] {
        if let Some(mut text) = storage.text(key).await
            && let Some(at) = text.find(r#""until":1"#)
        {
            let digits = at + r#""until":"#.len();
            let end = text[digits..].find(|letter: char| !letter.is_ascii_digit()).unwrap() + digits;
            let until: i64 = text[digits..end].parse().unwrap();
            text.replace_range(digits..end, &(until - 7_200_000).to_string());
            storage.put(key, text).await;
            changed += 1;
        }
    }
    changed
}

/// As after a copy of the sessions alone.
async fn lose_timers(storage: &Counting) -> u64 {
    storage.behind().clear("larder:move:").await.unwrap()
}

async fn either(sessions: &Sessions<u32>) -> Option<u32> {
    sessions.get("new").await.unwrap().or(sessions.get("old").await.unwrap())
}

#[tokio::test]
async fn a_moving_session_does_not_expire_by_the_clock_of_the_moving_process() {
    let mut recorded = 0;
    for step in 1..=5 {
        let storage = Counting::new();
        let sessions = die_while_moving(&storage, MINUTE, step).await;
        // Its clock was two hours behind.
        recorded += set_recorded_ends_back(&storage).await;
        assert_eq!(sessions.keys().try_collect::<Vec<_>>().await.unwrap().len(), 1, "before step {step}");
        assert_eq!(either(&sessions).await, Some(41));
        sessions.move_key("old", "new").await.unwrap();
        assert_eq!(sessions.get("old").await.unwrap(), Some(41), "step {step}");
        assert!(left(&storage, "new").await <= MINUTE, "step {step}");
    }
    assert!(recorded > 0, "no redirect has recorded an end");
}

#[tokio::test]
async fn a_moving_session_survives_the_loss_of_its_timer() {
    let mut lost = 0;
    for step in 1..=5 {
        let storage = Counting::new();
        let sessions = die_while_moving(&storage, MINUTE, step).await;
        lost += lose_timers(&storage).await;
        assert_eq!(sessions.keys().try_collect::<Vec<_>>().await.unwrap().len(), 1, "before step {step}");
        assert_eq!(either(&sessions).await, Some(41), "before step {step}");
        sessions.move_key("old", "new").await.unwrap();
        assert_eq!(sessions.get("old").await.unwrap(), Some(41), "before step {step}");
        assert!(left(&storage, "new").await <= MINUTE, "before step {step}");
    }
    assert!(lost > 0, "the timer must exist");
}

#[tokio::test]
async fn a_moving_session_without_a_timer_expires_at_its_recorded_end() {
    let mut over = 0;
    for step in 1..=5 {
        let storage = Counting::new();
        let sessions = die_while_moving(&storage, MINUTE, step).await;
        let on_its_way = set_recorded_ends_back(&storage).await > 0;
        lose_timers(&storage).await;
        assert_eq!(either(&sessions).await.is_none(), on_its_way, "before step {step}");
        over += usize::from(on_its_way);
    }
    assert!(over > 0, "no redirect has recorded an end");
}

#[tokio::test]
async fn a_moving_session_stays_in_a_store_without_expiry() {
    for step in 1..=5 {
        let storage = Counting::new();
        die_while_moving(&storage, MINUTE, step).await;
        lose_timers(&storage).await;
        let storage = storage.without_expiry();
        let sessions: Sessions<u32> = Sessions::builder().storage(storage.clone()).build().unwrap();
        assert_eq!(sessions.keys().try_collect::<Vec<_>>().await.unwrap().len(), 1, "before step {step}");
        assert_eq!(either(&sessions).await, Some(41), "before step {step}");
        sessions.move_key("old", "new").await.unwrap();
        assert_eq!(sessions.get("old").await.unwrap(), Some(41), "before step {step}");
    }
}

#[tokio::test]
async fn a_session_that_expires_during_a_move_stays_expired() {
    let storage = Counting::new();
    let sessions: Sessions<u32> = Sessions::builder().storage(storage.clone()).build().unwrap();
    let short = Expiry::After(Duration::from_millis(50));
    storage.behind().write("old", "41").expiry(short).await.unwrap();
    let gate = storage.gate_writes();
    let mut moving = Box::pin(sessions.move_key("old", "new"));
    // The session departs, and the process dies.
    while storage.text("old").await.is_some_and(|text| text == "41") {
        gate.let_through(1);
        assert!(moving.as_mut().now_or_never().is_none());
    }
    drop(moving);
    gate.let_through(1_000);
    common::until("it ends", async || sessions.get("new").await.unwrap().is_none()).await;
    assert_eq!(sessions.get("old").await.unwrap(), None);
    sessions.update("old", async |session| assert!(Session::is_new(&session))).await.unwrap();
}
