//! Updates cost one read and one write, and none is lost.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

mod common;

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures_util::FutureExt;
use larder_core::{Storage, Store};
use larder_session::{ConflictPolicy, Error, ErrorKind, LazySession, OpenSession, Result, Session, Sessions};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use common::{Call, Counting, HandlerError, kind, soon};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Chat {
    pizzas: u32,
    name: Option<String>,
}

fn numbers(storage: &Counting) -> Sessions<u32> {
    Sessions::new(storage.clone()).unwrap()
}

fn chats(storage: &Counting) -> Sessions<Chat> {
    Sessions::new(storage.clone()).unwrap()
}

fn with(storage: &Counting, conflicts: ConflictPolicy) -> Sessions<u32> {
    Sessions::builder().storage(storage.clone()).conflicts(conflicts).build().unwrap()
}

/// Numbers that are not changed keep all digits.
#[tokio::test]
async fn untouched_numbers_stay_exact() {
    #[derive(Default, Serialize, Deserialize)]
    struct Trip {
        visits: u64,
        way: Vec<f64>,
        #[serde(flatten)]
        rest: serde_json::Map<String, Value>,
    }
    // The members in the order of their names, as in a `Value`.
    let stored = |visits: u64| {
        format!(
            "{{\"at\":139.39000000000001,\"far\":1.7976931348623157e+308,\"first\":-9223372036854775808,\
             \"last\":18446744073709551615,\"visits\":{visits},\
             \"way\":[139.39000000000001,-120.65487365123505,5e-324]}}"
        )
    };
    let storage = Counting::new();
    storage.put("42", stored(0)).await;
    let dynamic: Sessions<Value> = Sessions::new(storage.clone()).unwrap();
    for visits in 1..=10 {
        dynamic.update(42, async |mut trip| trip["visits"] = json!(visits)).await.unwrap();
        assert_eq!(storage.text("42").await.unwrap(), stored(visits));
    }
    let typed: Sessions<Trip> = Sessions::new(storage.clone()).unwrap();
    let members = stored(20);
    for visits in 11..=20 {
        typed.update(42, async |mut trip| trip.visits = visits).await.unwrap();
    }
    // Now the members have the order of the fields.
    let text = storage.text("42").await.unwrap();
    for member in members.trim_matches(['{', '}']).split(",\"") {
        assert!(text.contains(member), "{member} is not in {text}");
    }
}

// Costs

#[tokio::test]
async fn an_update_that_changes_something_is_one_read_and_one_write() {
    let storage = Counting::new();
    let chats = chats(&storage);
    // The first update creates, the others change; each is one conditional write.
    for update in 1..=3 {
        chats.update(42, async |mut chat| chat.pizzas += 1).await.unwrap();
        assert_eq!(storage.count(Call::Read), update);
        assert_eq!(storage.count(Call::WriteIf), update);
        assert_eq!(storage.calls(), 2 * update);
    }
    assert_eq!(storage.text("42").await.unwrap(), r#"{"pizzas":3,"name":null}"#);
}

#[tokio::test]
async fn an_update_that_changes_nothing_writes_nothing() {
    let storage = Counting::new();
    let chats = chats(&storage);
    chats.set(42, Chat { pizzas: 3, name: None }).await.unwrap();
    storage.forget_counts();

    chats.update(42, async |chat| assert_eq!(chat.pizzas, 3)).await.unwrap();
    // Nor a mutable borrow, a change that is reverted, or an assignment of an equal value.
    chats.update(42, async |mut chat| _ = &mut *chat).await.unwrap();
    chats
        .update(42, async |mut chat| {
            chat.pizzas += 1;
            chat.pizzas -= 1;
        })
        .await
        .unwrap();
    chats.update(42, async |mut chat| *chat = Chat { pizzas: 3, name: None }).await.unwrap();
    assert_eq!((storage.reads(), storage.calls()), (4, 4));
}

#[tokio::test]
async fn a_session_that_is_new_is_written_with_its_initial_value() {
    let storage = Counting::new();
    let sessions = Sessions::builder_with(|| 7_u32).storage(storage.clone()).build().unwrap();
    sessions
        .update(42, async |session| {
            assert!(Session::is_new(&session));
            assert_eq!(*session, 7);
        })
        .await
        .unwrap();
    assert_eq!(storage.text("42").await.unwrap(), "7");
    assert_eq!((storage.reads(), storage.writes()), (1, 1));
    sessions.update(42, async |session| assert!(!Session::is_new(&session))).await.unwrap();
    assert_eq!((storage.reads(), storage.writes()), (2, 1));
}

#[tokio::test]
async fn update_returns_the_result_of_the_handler() {
    let sessions = numbers(&Counting::new());
    let before = sessions
        .update(1, async |mut number| {
            *number += 5;
            Ok::<_, Error>(*number)
        })
        .await;
    assert_eq!(before.unwrap(), 5);
}

// Handlers that fail

#[tokio::test]
async fn a_handler_that_fails_writes_nothing_and_its_own_error_comes_back() {
    let storage = Counting::new();
    let sessions = numbers(&storage);
    sessions.set(1, 5).await.unwrap();
    storage.forget_counts();
    let failed = sessions
        .update(1, async |mut number| {
            *number = 99;
            Err::<(), _>(HandlerError::Refused)
        })
        .await;
    assert!(matches!(failed, Err(HandlerError::Refused)));
    let failed = sessions
        .update(1, async |mut number| {
            Session::clear(&mut number);
            Err::<(), _>(HandlerError::Refused)
        })
        .await;
    assert!(matches!(failed, Err(HandlerError::Refused)));
    assert_eq!((storage.reads(), storage.writes()), (2, 0));
    assert_eq!(sessions.get(1).await.unwrap(), Some(5));
    // Nor is a new session created.
    let failed = sessions.update(2, async |_| Err::<(), _>(HandlerError::Refused)).await;
    assert!(failed.is_err());
    assert_eq!(sessions.get(2).await.unwrap(), None);
}

#[tokio::test]
async fn an_error_of_larder_comes_back_as_the_handlers_kind() {
    let storage = Counting::new();
    let sessions = numbers(&storage);
    storage.fail_read(ErrorKind::Unavailable);
    let failed = sessions.update(1, async |_| Ok::<_, HandlerError>(())).await;
    assert!(matches!(failed, Err(HandlerError::Larder(error)) if error.kind() == ErrorKind::Unavailable));
}

#[tokio::test]
async fn a_handler_that_panics_writes_nothing_and_frees_the_queue() {
    let storage = Counting::new();
    let sessions = numbers(&storage);
    sessions.set(1, 5).await.unwrap();
    storage.forget_counts();
    let task = tokio::spawn({
        let sessions = sessions.clone();
        async move {
            sessions
                .update(1, async |mut number| {
                    *number = 99;
                    assert_eq!(*number, 0, "a panic that the test wants");
                })
                .await
        }
    });
    assert!(task.await.unwrap_err().is_panic());
    assert_eq!(storage.writes(), 0);
    soon(sessions.update(1, async |mut number| *number += 1)).await.unwrap();
    assert_eq!(sessions.get(1).await.unwrap(), Some(6));
}

#[tokio::test]
async fn a_handler_that_keeps_its_session_is_an_error_and_nothing_is_written() {
    let storage = Counting::new();
    let sessions = numbers(&storage);
    sessions.set(1, 5).await.unwrap();
    storage.forget_counts();
    let kept: Mutex<Option<Session<u32>>> = Mutex::default();
    let error = sessions
        .update(1, async |mut number| {
            *number = 99;
            *kept.lock() = Some(number);
        })
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Other);
    assert!(error.message().contains("kept its session"), "{error}");
    assert_eq!(storage.writes(), 0);
    drop(kept.lock().take());
    soon(sessions.update(1, async |mut number| *number += 1)).await.unwrap();
    assert_eq!(sessions.get(1).await.unwrap(), Some(6));
}

#[tokio::test]
async fn an_update_that_is_dropped_while_it_reads_frees_the_key() {
    let storage = Counting::new();
    let sessions = numbers(&storage);
    let gate = storage.gate_reads();
    {
        let mut update = Box::pin(sessions.update(1, async |mut number| *number += 1));
        assert!(update.as_mut().now_or_never().is_none());
        gate.arrived(1).await;
    }
    gate.let_through(10);
    soon(sessions.update(1, async |mut number| *number += 1)).await.unwrap();
    assert_eq!(sessions.get(1).await.unwrap(), Some(1));
}

#[tokio::test]
async fn an_update_that_is_dropped_in_its_handler_or_in_the_queue_frees_the_key() {
    let storage = Counting::new();
    let sessions = numbers(&storage);
    {
        let mut handling = Box::pin(sessions.update(1, async |mut number| {
            *number = 99;
            pending::<()>().await;
        }));
        assert!(handling.as_mut().now_or_never().is_none());
        let mut waiting = Box::pin(sessions.update(1, async |mut number| *number = 98));
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(waiting);
    }
    soon(sessions.update(1, async |mut number| *number += 1)).await.unwrap();
    assert_eq!(sessions.get(1).await.unwrap(), Some(1));
    assert_eq!(storage.writes(), 1);
}

#[tokio::test]
async fn an_update_that_is_dropped_while_it_writes_frees_the_key() {
    let storage = Counting::new();
    let sessions = numbers(&storage);
    let gate = storage.gate_writes();
    {
        let mut update = Box::pin(sessions.update(1, async |mut number| *number = 99));
        assert!(update.as_mut().now_or_never().is_none());
        gate.arrived(1).await;
    }
    gate.let_through(10);
    soon(sessions.update(1, async |mut number| *number += 1)).await.unwrap();
    assert_eq!(sessions.get(1).await.unwrap(), Some(1));
}

// Clearing

#[tokio::test]
async fn clearing_deletes_the_session() {
    let storage = Counting::new();
    let sessions = numbers(&storage);
    sessions.set(1, 5).await.unwrap();
    storage.forget_counts();
    sessions
        .update(1, async |mut number| {
            Session::clear(&mut number);
            assert_eq!(*number, 0, "until then it is the initial value");
        })
        .await
        .unwrap();
    assert_eq!(storage.record("1").await, None);
    assert_eq!((storage.reads(), storage.count(Call::DeleteIf), storage.calls()), (1, 1, 2));
    assert_eq!(sessions.get(1).await.unwrap(), None);
}

#[tokio::test]
async fn clearing_an_absent_session_does_nothing() {
    let storage = Counting::new();
    let sessions = numbers(&storage);
    sessions.update(1, async |mut number| Session::clear(&mut number)).await.unwrap();
    assert_eq!((storage.reads(), storage.calls()), (1, 1));
    assert!(!sessions.delete(1).await.unwrap());
    assert_eq!(storage.writes(), 0);
}

#[tokio::test]
async fn clearing_and_then_setting_makes_a_new_session() {
    let storage = Counting::new();
    let chats = chats(&storage);
    chats.set(1, Chat { pizzas: 5, name: Some("Míša".to_owned()) }).await.unwrap();
    storage.forget_counts();
    chats
        .update(1, async |mut chat| {
            Session::clear(&mut chat);
            chat.pizzas += 1;
        })
        .await
        .unwrap();
    assert_eq!(chats.get(1).await.unwrap(), Some(Chat { pizzas: 1, name: None }));
    assert_eq!(storage.writes(), 1);
    // Also if the new value equals the stored value.
    chats
        .update(1, async |mut chat| {
            Session::clear(&mut chat);
            chat.pizzas = 1;
        })
        .await
        .unwrap();
    assert_eq!(chats.get(1).await.unwrap(), Some(Chat { pizzas: 1, name: None }));
    // A change before clearing is lost.
    chats
        .update(1, async |mut chat| {
            chat.pizzas = 7;
            Session::clear(&mut chat);
        })
        .await
        .unwrap();
    assert_eq!(chats.get(1).await.unwrap(), None);
}

#[tokio::test]
async fn a_value_encoded_as_nothing_is_not_stored() {
    let storage = Counting::new();
    let sessions: Sessions<Option<u32>> = Sessions::new(storage.clone()).unwrap();
    sessions.update(1, async |_| ()).await.unwrap();
    sessions.update(1, async |mut session| *session = None).await.unwrap();
    assert_eq!((storage.reads(), storage.calls()), (2, 2));
    sessions.update(1, async |mut session| *session = Some(5)).await.unwrap();
    assert_eq!(storage.text("1").await.unwrap(), "5");
    sessions.update(1, async |mut session| *session = None).await.unwrap();
    assert_eq!(storage.record("1").await, None);
    sessions.set(1, Some(6)).await.unwrap();
    sessions.set(1, None).await.unwrap();
    assert_eq!(storage.record("1").await, None);
}

// Concurrent updates

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_increment_of_64_tasks_is_lost() {
    let storage = Counting::new();
    let sessions = numbers(&storage);
    let mut tasks = JoinSet::new();
    for task in 0..64 {
        let sessions = sessions.clone();
        tasks.spawn(async move {
            for _ in 0..100 {
                if task % 2 == 0 {
                    sessions.update(1, async |mut number| *number += 1).await.unwrap();
                } else {
                    sessions
                        .update_lazy(1, async |number| number.modify(|number| *number += 1).await)
                        .await
                        .unwrap();
                }
            }
        });
    }
    soon(tasks.join_all()).await;
    assert_eq!(sessions.get(1).await.unwrap(), Some(6400));
    // They ran one after another, without conflicts.
    assert_eq!(storage.count(Call::WriteIf), 6400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_increment_of_several_processes_is_lost() {
    let storage = Counting::new();
    let mut tasks = JoinSet::new();
    for _ in 0..4 {
        // Each with its own queue, like processes.
        let process = with(&storage, ConflictPolicy::Retry { max: usize::MAX });
        for _ in 0..4 {
            let process = process.clone();
            tasks.spawn(async move {
                for _ in 0..25 {
                    process.update(1, async |mut number| *number += 1).await.unwrap();
                }
            });
        }
    }
    soon(tasks.join_all()).await;
    assert_eq!(storage.text("1").await.unwrap(), "400");
}

#[tokio::test]
async fn updates_of_different_keys_do_not_wait_for_each_other() {
    let storage = Counting::new();
    let sessions = numbers(&storage);
    let gate = storage.gate_reads();
    let mut both = Box::pin(futures_util::future::join(
        sessions.update(1, async |mut number| *number += 1),
        sessions.update(2, async |mut number| *number += 1),
    ));
    assert!(both.as_mut().now_or_never().is_none());
    gate.arrived(2).await;
    gate.let_through(2);
    let (one, two) = soon(both).await;
    one.and(two).unwrap();
}

#[tokio::test]
async fn updates_of_one_key_run_in_the_order_of_arrival() {
    let storage = Counting::new();
    let sessions: Sessions<Vec<u32>> = Sessions::new(storage.clone()).unwrap();
    let gate = storage.gate_reads();
    let mut all = Box::pin(futures_util::future::join_all((0..10).map(|number| {
        let sessions = sessions.clone();
        async move { sessions.update(1, async |mut seen| seen.push(number)).await }
    })));
    assert!(all.as_mut().now_or_never().is_none());
    assert_eq!(storage.reads(), 1);
    gate.let_through(100);
    soon(all).await;
    assert_eq!(sessions.get(1).await.unwrap(), Some((0..10).collect()));
}

#[tokio::test]
async fn reading_waits_for_no_update() {
    let storage = Counting::new();
    let sessions = numbers(&storage);
    sessions.set(1, 5).await.unwrap();
    let open = sessions.open(1).await.unwrap();
    assert_eq!(soon(sessions.get(1)).await.unwrap(), Some(5));
    drop(open);
}

#[tokio::test]
async fn updates_above_max_queued_are_refused() {
    let storage = Counting::new();
    let sessions: Sessions<u32> = Sessions::builder().storage(storage.clone()).max_queued(1).build().unwrap();
    let open = sessions.open(1).await.unwrap();
    let mut waiting = Box::pin(sessions.update(1, async |mut number| *number += 1));
    assert!(waiting.as_mut().now_or_never().is_none());
    let refused = sessions.update(1, async |_| ()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    assert!(refused.is_retryable());
    drop(open);
    soon(waiting).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_update_waits_at_most_for_the_queue_timeout() {
    let storage = Counting::new();
    let sessions: Sessions<u32> =
        Sessions::builder().storage(storage.clone()).queue_timeout(common::LIMIT / 2).build().unwrap();
    let _open = sessions.open(1).await.unwrap();
    assert_eq!(kind(soon(sessions.update(1, async |_| ())).await), ErrorKind::Timeout);
}

#[tokio::test]
async fn a_nested_update_of_the_same_session_is_an_error() {
    let storage = Counting::new();
    let sessions = numbers(&storage);
    let nested = async |_| {
        let within = sessions.clone();
        let refused = [
            kind(soon(within.update(1, async |_| ())).await),
            kind(soon(within.update_lazy(1, async |number| number.get().await)).await),
            kind(soon(within.set(1, 5)).await),
            kind(soon(within.delete(1)).await),
            kind(soon(within.open(1)).await),
            kind(soon(within.open_lazy(1).get()).await),
        ];
        assert_eq!(refused, [ErrorKind::Unsupported; 6]);
        // Reading it succeeds, and updating another session too.
        soon(within.get(1)).await.unwrap();
        soon(within.update(2, async |mut number| *number += 1)).await
    };
    sessions.update(1, nested).await.unwrap();
    assert_eq!(sessions.get(2).await.unwrap(), Some(1));
    let nested_in_lazy = async |number: larder_session::LazySession<u32>| {
        number.set(3)?;
        assert_eq!(kind(soon(sessions.update(1, async |_| ())).await), ErrorKind::Unsupported);
        number.modify(|number| *number += 1).await
    };
    soon(sessions.update_lazy(1, nested_in_lazy)).await.unwrap();
    assert_eq!(sessions.get(1).await.unwrap(), Some(4));
}

#[tokio::test]
async fn a_nested_update_of_a_moved_session_is_an_error_under_either_key() {
    let storage = Counting::new();
    let sessions = numbers(&storage);
    sessions.set("old", 5).await.unwrap();
    sessions.move_key("old", "new").await.unwrap();
    for key in ["old", "new"] {
        sessions
            .update(key, async |_| {
                for nested in ["old", "new"] {
                    let refused = tokio::time::timeout(
                        std::time::Duration::from_secs(20),
                        sessions.update(nested, async |_| ()),
                    );
                    assert_eq!(kind(refused.await.expect("no hang")), ErrorKind::Unsupported);
                }
            })
            .await
            .unwrap();
    }
}

// Other processes

/// Increments the number and records the values that the handler sees.
async fn watch(sessions: &Sessions<u32>, seen: &Mutex<Vec<u32>>) -> Result<()> {
    sessions
        .update(1, async |mut number| {
            seen.lock().push(*number);
            *number += 1;
        })
        .await
}

#[tokio::test]
async fn a_handler_runs_again_on_the_new_value_after_a_conflict() {
    let storage = Counting::new();
    let sessions = numbers(&storage);
    let seen = Mutex::default();
    // A conflict on creation, then conflicts on a change.
    storage.overtake("1", json!(10));
    watch(&sessions, &seen).await.unwrap();
    assert_eq!(storage.text("1").await.unwrap(), "11");
    storage.overtake("1", json!(20));
    storage.overtake("1", json!(30));
    watch(&sessions, &seen).await.unwrap();
    assert_eq!(storage.text("1").await.unwrap(), "31");
    assert_eq!(*seen.lock(), [0, 10, 11, 20, 30]);
    // Deleted by another process, it starts with the initial value.
    storage.overtake("1", None);
    watch(&sessions, &seen).await.unwrap();
    assert_eq!(storage.text("1").await.unwrap(), "1");
    assert_eq!(seen.lock()[5..], [31, 0]);
}

#[tokio::test]
async fn clear_does_not_delete_a_concurrent_write() {
    let storage = Counting::new();
    let sessions = numbers(&storage);
    sessions.set(1, 5).await.unwrap();
    storage.overtake("1", json!(6));
    let seen = Mutex::new(Vec::new());
    sessions
        .update(1, async |mut number| {
            seen.lock().push(*number);
            if *number == 5 {
                Session::clear(&mut number);
            }
        })
        .await
        .unwrap();
    assert_eq!(*seen.lock(), [5, 6]);
    assert_eq!(storage.text("1").await.unwrap(), "6");
}

#[tokio::test]
async fn a_lazy_handler_runs_again_on_the_new_value_after_a_conflict() {
    let storage = Counting::new();
    let sessions = numbers(&storage);
    sessions.set(1, 5).await.unwrap();
    storage.overtake("1", json!(10));
    let runs = AtomicUsize::new(0);
    let seen = sessions
        .update_lazy(1, async |number| {
            runs.fetch_add(1, Ordering::Relaxed);
            number.modify(|number| *number += 1).await?;
            number.get().await
        })
        .await
        .unwrap();
    assert_eq!((seen, runs.into_inner()), (11, 2));
    assert_eq!(storage.text("1").await.unwrap(), "11");
}

#[tokio::test]
async fn fail_returns_a_conflict_and_writes_nothing() {
    let storage = Counting::new();
    let sessions = with(&storage, ConflictPolicy::Fail);
    sessions.set(1, 5).await.unwrap();
    let seen = Mutex::default();
    storage.overtake("1", json!(10));
    let error = watch(&sessions, &seen).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(!error.is_retryable());
    assert_eq!(*seen.lock(), [5]);
    assert_eq!(storage.text("1").await.unwrap(), "10");
    // The next update continues from there.
    watch(&sessions, &seen).await.unwrap();
    assert_eq!(storage.text("1").await.unwrap(), "11");
}

#[tokio::test]
async fn last_write_wins_overwrites() {
    let storage = Counting::new();
    let sessions = with(&storage, ConflictPolicy::LastWriteWins);
    let seen = Mutex::default();
    for (other, key_holds) in [(Some(json!(10)), "1"), (Some(json!(20)), "2"), (None, "3")] {
        storage.overtake("1", other);
        watch(&sessions, &seen).await.unwrap();
        assert_eq!(storage.text("1").await.unwrap(), key_holds);
    }
    assert_eq!(*seen.lock(), [0, 1, 2]);
    storage.overtake("1", json!(40));
    sessions.update(1, async |mut number| Session::clear(&mut number)).await.unwrap();
    assert_eq!(storage.record("1").await, None);
}

#[tokio::test]
async fn retries_have_a_limit() {
    for most in [0, 1, 3] {
        let storage = Counting::new();
        let sessions = with(&storage, ConflictPolicy::Retry { max: most });
        for other in 1..=10 {
            storage.overtake("1", json!(other * 10));
        }
        let seen = Mutex::default();
        assert_eq!(kind(watch(&sessions, &seen).await), ErrorKind::Conflict);
        assert_eq!(seen.lock().len(), 1 + most);
        assert_eq!(storage.text("1").await.unwrap(), ((1 + most) * 10).to_string());
    }
}

#[tokio::test]
async fn a_retry_starts_without_the_changes_of_the_previous_run() {
    let storage = Counting::new();
    let sessions = chats(&storage);
    storage.put_json("1", json!({ "pizzas": 1, "name": null })).await;
    storage.overtake("1", json!({ "pizzas": 2, "name": null }));
    sessions
        .update(1, async |mut chat| {
            if chat.pizzas == 1 {
                chat.name = Some("from the first run".to_owned());
            }
            chat.pizzas += 10;
        })
        .await
        .unwrap();
    assert_eq!(sessions.get(1).await.unwrap(), Some(Chat { pizzas: 12, name: None }));
}

#[tokio::test]
async fn a_storage_without_compare_and_swap_needs_last_write_wins() {
    let storage = Counting::new().without_compare_and_swap();
    for conflicts in [ConflictPolicy::default(), ConflictPolicy::Fail] {
        let refused = Sessions::<u32>::builder().storage(storage.clone()).conflicts(conflicts).build();
        assert_eq!(kind(refused), ErrorKind::Unsupported);
    }
    assert_eq!(storage.calls(), 0);
    let sessions = with(&storage, ConflictPolicy::LastWriteWins);
    for _ in 0..3 {
        sessions.update(1, async |mut number| *number += 1).await.unwrap();
    }
    assert_eq!(sessions.get(1).await.unwrap(), Some(3));
    sessions.set(1, 9).await.unwrap();
    sessions.update(1, async |number| assert_eq!(*number, 9)).await.unwrap();
    sessions.update(1, async |mut number| Session::clear(&mut number)).await.unwrap();
    assert_eq!(storage.record("1").await, None);
    sessions.set(1, 9).await.unwrap();
    assert!(sessions.delete(1).await.unwrap());
    assert!(!sessions.delete(1).await.unwrap());
}

#[tokio::test]
async fn last_write_wins_overwrites_only_readable_sessions() {
    for (stored, expected) in
        [(json!("not a number"), ErrorKind::Codec), (json!({"v":3,"__d":1}), ErrorKind::VersionTooNew)]
    {
        let storage = Counting::new();
        let sessions = with(&storage, ConflictPolicy::LastWriteWins);
        storage.overtake("1", stored.clone());
        assert_eq!(kind(sessions.update(1, async |mut number| *number += 1).await), expected);
        assert_eq!(storage.json("1").await.unwrap(), stored);
    }
}

// Handles of lazy sessions

/// For example a handle in a spawned task.
#[tokio::test]
async fn a_lazy_session_that_outlives_its_update_blocks_no_update_and_saves_nothing() {
    let storage = Counting::new();
    let sessions = numbers(&storage);
    let kept = Mutex::new(Vec::new());
    let keep = |session: &LazySession<u32>| kept.lock().push(session.clone());
    sessions
        .update_lazy(1, async |session| {
            keep(&session);
            session.modify(|number| *number += 1).await
        })
        .await
        .unwrap();
    let failed = sessions.update_lazy(1, async |session| -> Result<(), HandlerError> {
        keep(&session);
        session.modify(|number| *number += 10).await?;
        Err(HandlerError::Refused)
    });
    failed.await.unwrap_err();
    {
        let dropped = sessions.update_lazy(1, async |session| {
            keep(&session);
            session.modify(|number| *number += 100).await?;
            pending::<Result<()>>().await
        });
        assert!(dropped.now_or_never().is_none());
    }
    for session in kept.into_inner() {
        assert_eq!(kind(session.modify(|number| *number += 1_000).await), ErrorKind::Other);
        assert_eq!(kind(session.get().await), ErrorKind::Other);
        assert_eq!(kind(session.set(1_000)), ErrorKind::Other);
        assert_eq!(kind(session.save().await), ErrorKind::Other);
        // While the handle exists:
        soon(sessions.update(1, async |mut number| *number += 1)).await.unwrap();
    }
    assert_eq!(sessions.get(1).await.unwrap(), Some(4));
}

#[tokio::test]
async fn a_lazy_session_that_is_loaded_is_saved_only_if_it_changes() {
    let storage = Counting::new();
    let sessions = numbers(&storage);
    for _ in 0..2 {
        sessions.update_lazy(1, async |session| session.load().await).await.unwrap();
    }
    sessions
        .update_lazy(1, async |session| {
            session.load().await?;
            session.modify(|number| *number += 0).await
        })
        .await
        .unwrap();
    assert_eq!((storage.reads(), storage.writes(), storage.record("1").await), (3, 0, None));
    sessions
        .update_lazy(1, async |session| {
            session.load().await?;
            session.modify(|number| *number += 1).await
        })
        .await
        .unwrap();
    assert_eq!((storage.reads(), storage.writes()), (4, 1));
    assert_eq!(storage.text("1").await.unwrap(), "1");
}

#[tokio::test]
async fn a_damaged_session_can_be_deleted() {
    let storage = Counting::new();
    let sessions = numbers(&storage);
    storage.put("1", r#"{"__larder":{"moved":7}}"#).await;
    assert_eq!(kind(sessions.get(1).await), ErrorKind::Corrupt);
    assert!(sessions.delete(1).await.unwrap());
    assert_eq!(storage.record("1").await, None);
}

// Storages that fail

#[tokio::test]
async fn a_store_that_is_down_is_a_retryable_error_and_the_handler_does_not_run() {
    let storage = Counting::new();
    let sessions = numbers(&storage);
    let runs = AtomicUsize::new(0);
    for down in [ErrorKind::Unavailable, ErrorKind::Timeout] {
        storage.fail_read(down);
        let error = sessions
            .update(1, async |_| {
                runs.fetch_add(1, Ordering::Relaxed);
            })
            .await
            .unwrap_err();
        assert_eq!(error.kind(), down);
        assert!(error.is_retryable());
    }
    assert_eq!((runs.into_inner(), storage.writes()), (0, 0));
    soon(sessions.update(1, async |mut number| *number += 1)).await.unwrap();
}

#[tokio::test]
async fn a_failed_write_is_not_retried_and_frees_the_key() {
    let storage = Counting::new();
    let sessions = numbers(&storage);
    storage.fail_write(ErrorKind::Unavailable);
    let runs = AtomicUsize::new(0);
    let failed = sessions
        .update(1, async |mut number| {
            runs.fetch_add(1, Ordering::Relaxed);
            *number += 1;
        })
        .await;
    assert!(failed.unwrap_err().is_retryable());
    assert_eq!((runs.into_inner(), storage.writes()), (1, 1));
    soon(sessions.update(1, async |mut number| *number += 1)).await.unwrap();
    assert_eq!(sessions.get(1).await.unwrap(), Some(1));
}

#[tokio::test]
async fn stored_data_that_cannot_be_read_is_an_error_and_stays_as_it_is() {
    let storage = Counting::new();
    let chats = chats(&storage);
    for stored in ["not json: hunter2", r#"{"pizzas":"hunter2"}"#, "[]"] {
        storage.put("1", stored).await;
        let errors = [
            chats.update(1, async |mut chat| chat.pizzas += 1).await.unwrap_err(),
            chats.update(1, async |mut chat| Session::clear(&mut chat)).await.unwrap_err(),
            chats.update_lazy(1, async |chat| chat.modify(|chat| chat.pizzas += 1).await).await.unwrap_err(),
            chats.get(1).await.unwrap_err(),
            chats.open(1).await.map(drop).unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::Codec);
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        }
        assert_eq!(storage.text("1").await.unwrap(), stored);
    }
    assert_eq!(storage.writes(), 0);
    // It can be deleted, or replaced without a read.
    assert!(chats.delete(1).await.unwrap());
    storage.put("1", "not json").await;
    chats.set(1, Chat::default()).await.unwrap();
    assert_eq!(chats.get(1).await.unwrap(), Some(Chat::default()));
}

// Open sessions

#[tokio::test]
async fn a_session_can_be_opened_and_saved_by_hand() {
    let storage = Counting::new();
    let sessions = numbers(&storage);
    let mut open = sessions.open(1).await.unwrap();
    assert!(OpenSession::is_new(&open));
    assert_eq!(OpenSession::storage_key(&open).as_str(), "1");
    *open += 5;
    let mut waiting = Box::pin(sessions.update(1, async |mut number| *number += 1));
    assert!(waiting.as_mut().now_or_never().is_none(), "updates wait for it");
    OpenSession::save(open).await.unwrap();
    soon(waiting).await.unwrap();
    assert_eq!(storage.text("1").await.unwrap(), "6");

    // Without a save, nothing is written.
    let mut open = sessions.open(1).await.unwrap();
    *open = 99;
    drop(open);
    // Nor without a change.
    let writes = storage.writes();
    OpenSession::save(sessions.open(1).await.unwrap()).await.unwrap();
    assert_eq!((sessions.get(1).await.unwrap(), storage.writes()), (Some(6), writes));

    let mut open = sessions.open(1).await.unwrap();
    OpenSession::clear(&mut open);
    OpenSession::save(open).await.unwrap();
    assert_eq!(storage.record("1").await, None);
}

#[tokio::test]
async fn saving_an_open_session_after_another_change_is_a_conflict() {
    let storage = Counting::new();
    let sessions = numbers(&storage);
    let mut open = sessions.open(1).await.unwrap();
    *open = 5;
    storage.put("1", "10").await;
    assert_eq!(kind(OpenSession::save(open).await), ErrorKind::Conflict);
    assert_eq!(storage.text("1").await.unwrap(), "10");
    // Later reads and updates succeed.
    soon(sessions.update(1, async |mut number| *number += 1)).await.unwrap();
    assert_eq!(storage.text("1").await.unwrap(), "11");
}

#[tokio::test]
async fn set_and_delete_wait_for_earlier_updates() {
    let storage = Counting::new();
    let sessions = numbers(&storage);
    let mut open = sessions.open(1).await.unwrap();
    *open = 5;
    let mut set = Box::pin(sessions.set(1, 7));
    assert!(set.as_mut().now_or_never().is_none());
    let mut delete = Box::pin(sessions.delete(1));
    assert!(delete.as_mut().now_or_never().is_none());
    OpenSession::save(open).await.unwrap();
    soon(set).await.unwrap();
    assert!(soon(delete).await.unwrap());
    assert_eq!(sessions.get(1).await.unwrap(), None);
}

#[tokio::test]
async fn any_type_that_converts_into_a_store_is_accepted() {
    let storage = Counting::new();
    let shared: Arc<dyn Storage> = Arc::new(storage.clone());
    let store = Store::new(Arc::clone(&shared));
    Sessions::<u32>::new(storage).unwrap().set(1, 5).await.unwrap();
    assert_eq!(Sessions::<u32>::new(Arc::clone(&shared)).unwrap().get(1).await.unwrap(), Some(5));
    assert_eq!(Sessions::<u32>::new(&store).unwrap().get(1).await.unwrap(), Some(5));
    let sessions = Sessions::<u32>::new(store).unwrap();
    assert!(Arc::ptr_eq(sessions.storage().storage(), &shared));
}

#[tokio::test]
async fn debug_output_shows_no_key_and_no_value() {
    let storage = Counting::new();
    let sessions: Sessions<String> = Sessions::builder().storage(storage).prefix("chat:").build().unwrap();
    sessions.set("hunter2", "hunter2".to_owned()).await.unwrap();
    let open = sessions.open("hunter2").await.unwrap();
    let lazy = sessions.open_lazy("hunter2");
    let key = larder_session::SessionKey::from("hunter2");
    let printed = format!("{sessions:?} {open:?} {lazy:?} {key:?}");
    assert!(!printed.contains("hunter2"), "{printed}");
}

#[tokio::test]
async fn sessions_with_no_key_do_no_io() {
    let storage = Counting::new();
    let sessions = numbers(&storage);
    let missing = larder_session::key::per_chat(None::<i64>);
    let error: Error = sessions.update(&missing, async |_| ()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidKey);
    assert!(error.message().contains("belongs to no chat"), "{error}");
    assert_eq!(kind(sessions.get(&missing).await), ErrorKind::InvalidKey);
    assert_eq!(kind(sessions.set(&missing, 1).await), ErrorKind::InvalidKey);
    assert_eq!(kind(sessions.delete(&missing).await), ErrorKind::InvalidKey);
    assert_eq!(storage.calls(), 0);
}
