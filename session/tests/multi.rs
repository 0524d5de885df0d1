//! Several sessions in one update: conflicts and moves.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test fails by panicking.

mod common;

use std::time::Duration;

use larder_session::{
    ConflictPolicy, ErrorKind, Fragment, LazySession, Lifetime, Migrations, Multi, Sessions, ok,
};
use parking_lot::Mutex;
use serde_json::json;

use crate::common::{Call, Counting, HandlerError, kind, soon};

fn accounts(storage: &Counting, prefix: &str) -> Sessions<i64> {
    Sessions::builder().storage(storage.clone()).prefix(prefix).build().unwrap()
}

/// A transfer whose second run finds that another process has emptied the other account.
async fn refused_when_run_again(storage: &Counting, before: Option<i64>) -> Option<i64> {
    let (from, to) = (accounts(storage, "from:"), accounts(storage, "to:"));
    if let Some(before) = before {
        from.set(1, before).await.unwrap();
    }
    to.set(1, 5).await.unwrap();
    let multi = Multi::new((Fragment::strict("from", from.clone()), Fragment::strict("to", to)));
    storage.overtake("to:1", json!(-1));
    let outcome = multi
        .update((1, 1), async |(mut from, mut to)| {
            if *to < 0 {
                return Err(HandlerError::Refused);
            }
            *from -= 10;
            *to += 10;
            Ok(())
        })
        .await;
    assert!(matches!(outcome, Err(HandlerError::Refused)));
    from.get(1).await.unwrap()
}

#[tokio::test]
async fn saves_of_the_first_run_are_undone_if_the_second_fails() {
    assert_eq!(refused_when_run_again(&Counting::new(), Some(100)).await, Some(100));
}

#[tokio::test]
async fn a_session_created_by_the_first_run_is_deleted_if_the_second_fails() {
    assert_eq!(refused_when_run_again(&Counting::new(), None).await, None);
}

#[tokio::test]
async fn a_conflict_without_a_retry_undoes_the_saves() {
    let storage = Counting::new();
    let from: Sessions<i64> = Sessions::builder()
        .storage(storage.clone())
        .prefix("from:")
        .conflicts(ConflictPolicy::Fail)
        .build()
        .unwrap();
    let to = accounts(&storage, "to:");
    from.set(1, 100).await.unwrap();
    to.set(1, 5).await.unwrap();
    let multi = Multi::new((Fragment::strict("from", from.clone()), Fragment::lazy("to", to.clone())));
    storage.overtake("to:1", json!(7));
    let transfer = multi.update((1, 1), async |(mut from, to)| {
        *from -= 10;
        to.modify(|to| *to += 10).await
    });
    assert_eq!(kind(transfer.await), ErrorKind::Conflict);
    assert_eq!((from.get(1).await.unwrap(), to.get(1).await.unwrap()), (Some(100), Some(7)));
}

#[tokio::test]
async fn a_conflict_after_a_partial_save_has_an_unknown_outcome() {
    let storage = Counting::new();
    let from = Sessions::<i64>::builder()
        .storage(storage.clone())
        .prefix("from:")
        .conflicts(ConflictPolicy::Fail)
        .build();
    let to = accounts(&storage, "to:");
    to.set(1, 5).await.unwrap();
    let multi = Multi::new((Fragment::strict("from", from.unwrap()), Fragment::lazy("to", to)));
    storage.overtake("to:1", json!(7));
    let transfer = multi.update((1, 1), async |(mut from, to)| {
        *from -= 10;
        to.modify(|to| *to += 10).await
    });
    let error = transfer.await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Conflict, larder_core::Outcome::Unknown));
}

#[tokio::test]
async fn saves_are_undone_if_the_session_of_a_conflict_cannot_be_read_again() {
    let storage = Counting::new();
    let (from, to) = (accounts(&storage, "from:"), accounts(&storage, "to:"));
    from.set(1, 100).await.unwrap();
    to.set(1, 5).await.unwrap();
    let strict = Multi::new((Fragment::strict("from", from.clone()), Fragment::strict("to", to.clone())));
    storage.overtake("to:1", json!(7));
    let transfer = strict.update((1, 1), async |(mut from, mut to)| {
        storage.fail_read(ErrorKind::Unavailable);
        *from -= 10;
        *to += 10;
    });
    let error = transfer.await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, larder_core::Outcome::Unknown));
    assert_eq!((from.get(1).await.unwrap(), to.get(1).await.unwrap()), (Some(100), Some(7)));

    let lazy = Multi::new((Fragment::lazy("to", to.clone()), Fragment::lazy("from", from.clone())));
    storage.overtake("from:1", json!(200));
    let transfer = lazy.update((1, 1), async |(to, from)| {
        from.modify(|from| *from -= 10).await?;
        to.modify(|to| *to += 10).await?;
        storage.fail_read(ErrorKind::Unavailable);
        ok(())
    });
    let error = transfer.await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, larder_core::Outcome::Unknown));
    assert_eq!((from.get(1).await.unwrap(), to.get(1).await.unwrap()), (Some(200), Some(7)));
}

#[tokio::test]
async fn a_conflict_in_one_fragment_writes_no_unchanged_fragment() {
    let storage = Counting::new();
    let migrated: Sessions<i64> = Sessions::builder()
        .storage(storage.clone())
        .prefix("migrated:")
        .migrations(Migrations::new().step(1, |data: i64| data + 1))
        .persist_migrated(false)
        .build()
        .unwrap();
    for key in ["changed:1", "read:1", "migrated:1"] {
        storage.put_json(key, json!(5)).await;
    }
    let multi = Multi::new((
        Fragment::strict("changed", accounts(&storage, "changed:")),
        Fragment::strict("read", accounts(&storage, "read:")),
        Fragment::strict("migrated", migrated),
        Fragment::lazy("loaded", accounts(&storage, "loaded:")),
    ));
    storage.overtake("changed:1", json!(7));
    storage.forget_counts();
    multi
        .update((1, 1, 1, 1), async |(mut changed, read, migrated, loaded)| {
            loaded.load().await?;
            assert_eq!((*read, *migrated), (5, 6));
            *changed += 1;
            ok(())
        })
        .await
        .unwrap();
    assert_eq!(storage.text("changed:1").await.unwrap(), "8");
    // The conflict, and the save of the second run.
    assert_eq!((storage.writes(), storage.count(Call::WriteIf)), (2, 2));
    assert_eq!(storage.record("loaded:1").await, None);
}

#[tokio::test]
async fn a_lazy_session_that_outlives_its_update_is_unusable_and_blocks_no_other() {
    let storage = Counting::new();
    let chats = accounts(&storage, "chat:");
    let multi = Multi::new((
        Fragment::strict("user", accounts(&storage, "user:")),
        Fragment::lazy("chat", chats.clone()),
    ));
    let kept: Mutex<Vec<LazySession<i64>>> = Mutex::default();
    for (is_read, fails) in [(true, false), (false, false), (true, true)] {
        let outcome = multi.update((1, 1), async |(_, chat)| {
            if is_read {
                chat.get().await?;
            }
            kept.lock().push(chat);
            if fails { Err(HandlerError::Refused) } else { Ok(()) }
        });
        let outcome = tokio::time::timeout(Duration::from_secs(5), outcome).await;
        assert_eq!(outcome.expect("it must not wait for the kept handles").is_err(), fails);
    }
    let kept = kept.into_inner();
    for chat in &kept {
        assert_eq!(kind(chat.modify(|chat| *chat += 100).await), ErrorKind::Other);
        assert_eq!(kind(chat.set(100)), ErrorKind::Other);
    }
    let next = tokio::time::timeout(Duration::from_secs(5), chats.modify(1, |chat| *chat += 1));
    next.await.expect("it must not wait for the kept handles").unwrap();
    assert_eq!(chats.get(1).await.unwrap(), Some(1));
}

#[tokio::test]
async fn clearing_all_fragments_fails_if_one_was_discarded_and_skips_one_without_a_key() {
    let storage = Counting::new();
    let multi = Multi::new((
        Fragment::strict("user", accounts(&storage, "user:")),
        Fragment::lazy("chat", accounts(&storage, "chat:")),
    ));
    storage.put_json("user:1", json!(5)).await;
    let discarded = multi.update((1, 1), async |mut both| {
        both.1.discard();
        Multi::clear(&mut both)
    });
    assert_eq!(kind(discarded.await), ErrorKind::Other);
    assert_eq!(storage.text("user:1").await.unwrap(), "5");
    multi.update((1, None::<i64>), async |mut both| Multi::clear(&mut both)).await.unwrap();
    assert_eq!(storage.record("user:1").await, None);
}

#[tokio::test]
async fn updates_under_both_ids_of_a_moved_chat_do_not_wait_for_each_other_in_a_circle() {
    let storage = Counting::new();
    let (users, chats) = (accounts(&storage, "user:"), accounts(&storage, "chat:"));
    chats.set("old", 0).await.unwrap();
    chats.move_key("old", "new").await.unwrap();
    // In both orders, because permits are acquired by the addresses of the queues.
    let one = Multi::new((Fragment::strict("user", users.clone()), Fragment::strict("chat", chats.clone())));
    let other =
        Multi::new((Fragment::strict("chat", chats.clone()), Fragment::strict("user", users.clone())));
    let mut all = Vec::new();
    for number in 0..40 {
        let (chat, one, other) = (if number % 2 == 0 { "old" } else { "new" }, &one, &other);
        all.push(async move {
            let count =
                async |(mut a, mut b): (larder_session::Session<i64>, larder_session::Session<i64>)| {
                    tokio::task::yield_now().await;
                    *a += 1;
                    *b += 1;
                };
            if number % 4 < 2 {
                one.update((1, chat), count).await
            } else {
                other.update((chat, 1), count).await
            }
        });
    }
    for outcome in soon(futures_util::future::join_all(all)).await {
        outcome.unwrap();
    }
    assert_eq!((users.get(1).await.unwrap(), chats.get("old").await.unwrap()), (Some(40), Some(40)));
}

#[tokio::test]
async fn two_keys_that_have_become_one_session_are_refused() {
    let storage = Counting::new();
    let chats = accounts(&storage, "chat:");
    chats.move_key("old", "new").await.unwrap();
    let multi =
        Multi::new((Fragment::strict("one", chats.clone()), Fragment::strict("other", chats.clone())));
    let both = soon(multi.update(("old", "new"), async |_| ())).await;
    assert_eq!(kind(both), ErrorKind::InvalidConfig);
}

#[tokio::test]
async fn a_nested_update_of_a_moved_session_in_a_lazy_one_does_not_hang() {
    let storage = Counting::new();
    let chats = accounts(&storage, "");
    chats.move_key("old", "new").await.unwrap();
    let outcome = soon(chats.update_lazy("old", async |chat| {
        if chat.get().await? == 0 {
            chats.update("new", async |mut chat| *chat += 1).await?;
        }
        chat.modify(|chat| *chat += 10).await
    }))
    .await;
    // The lazy update conflicted with its nested update, and has run again on the new value.
    outcome.unwrap();
    assert_eq!(chats.get("new").await.unwrap(), Some(11));
}

#[tokio::test]
async fn a_promise_that_uses_its_own_session_is_an_error() {
    let storage = Counting::new();
    let chats = accounts(&storage, "");
    let chat = chats.open_lazy(1);
    let itself = chat.clone();
    chat.set_later(async move { Ok(itself.get().await? + 1) }).unwrap();
    assert_eq!(kind(soon(chat.save()).await), ErrorKind::Unsupported);
    assert_eq!(chats.get(1).await.unwrap(), None);
}

#[tokio::test]
async fn a_merge_extends_neither_lifetime() {
    const HOUR: Duration = Duration::from_secs(3600);
    let storage = Counting::new();
    let sessions = |lifetime| -> Sessions<i64> {
        Sessions::builder()
            .storage(storage.clone())
            .lifetime(lifetime)
            .merge(|one, other| one + other)
            .build()
            .unwrap()
    };
    sessions(Lifetime::absolute(HOUR)).set("old", 1).await.unwrap();
    let days = sessions(Lifetime::absolute(100 * HOUR));
    days.set("new", 2).await.unwrap();
    days.move_key("old", "new").await.unwrap();
    assert_eq!(days.get("new").await.unwrap(), Some(3));
    let left = days.ttl("new").await.unwrap().unwrap();
    assert!(left.as_millis().unwrap() <= 3_600_000, "{left:?}");
}

#[tokio::test]
async fn a_session_written_during_delete_by_owner_stays_in_the_index() {
    let storage = Counting::new();
    let sessions: Sessions<String> = Sessions::builder()
        .storage(storage.clone())
        .owner(|owner: &String| (!owner.is_empty()).then(|| owner.clone()))
        .build()
        .unwrap();
    let gate = storage.gate_writes();
    let log_in = sessions.update("id", async |mut owner| owner.push_str("ann"));
    let log_out = async {
        // The index entry exists, the session does not yet.
        gate.let_through(1);
        gate.arrived(2).await;
        assert_eq!(sessions.delete_by_owner("ann").await.unwrap(), 0);
        gate.let_through(100);
    };
    let (logged_in, ()) = soon(futures_util::future::join(log_in, log_out)).await;
    logged_in.unwrap();
    assert_eq!(sessions.keys_by_owner("ann").await.unwrap(), ["id"]);
    assert_eq!(sessions.delete_by_owner("ann").await.unwrap(), 1);
}
