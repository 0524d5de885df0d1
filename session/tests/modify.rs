//! `modify`, `with`, `update_once` and `discard`, and the methods of the value in a session.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)] // A test fails by panicking.

mod common;

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicUsize, Ordering},
};

use larder_session::{
    ConflictPolicy, Error, ErrorKind, Fragment, KvSessions, LazySession, Multi, OpenSession, Session,
    Sessions,
};
use parking_lot::Mutex;
use serde_json::json;
use tokio::task::JoinSet;

use common::{Call, Counting, HandlerError, kind, soon};

fn numbers(storage: &Counting) -> Sessions<u32> {
    Sessions::new(storage.clone()).unwrap()
}

fn prefixed(storage: &Counting, prefix: &str) -> Sessions<u32> {
    Sessions::builder().storage(storage.clone()).prefix(prefix).build().unwrap()
}

// modify and try_modify

#[tokio::test]
async fn modify_is_one_read_and_one_write() {
    let storage = Counting::new();
    let sessions = numbers(&storage);
    for update in 1..=3 {
        sessions.modify(42, |number| *number += 1).await.unwrap();
        assert_eq!((storage.count(Call::Read), storage.count(Call::WriteIf)), (update, update));
    }
    sessions.modify(42, |number| assert_eq!(*number, 3)).await.unwrap();
    assert_eq!((storage.reads(), storage.writes(), storage.calls()), (4, 3, 7));
}

#[tokio::test]
async fn modify_returns_the_result_of_its_closure() {
    let sessions: Sessions<Vec<u32>> = Sessions::new(Counting::new()).unwrap();
    assert_eq!(sessions.modify(1, Vec::pop).await.unwrap(), None);
    let sum = sessions.modify(1, |items| {
        items.extend([1, 2, 3]);
        items.iter().sum::<u32>()
    });
    assert_eq!(sum.await.unwrap(), 6);
}

#[tokio::test]
async fn modify_saves_a_new_session_that_it_does_not_change() {
    let storage = Counting::new();
    let sessions = Sessions::builder_with(|| 7_u32).storage(storage.clone()).build().unwrap();
    sessions.modify(1, |_| ()).await.unwrap();
    assert_eq!(storage.text("1").await.unwrap(), "7");
}

#[tokio::test]
async fn an_error_of_the_closure_saves_nothing() {
    let storage = Counting::new();
    let sessions = numbers(&storage);
    for key in [1, 2] {
        let failed = sessions.try_modify(key, |number| {
            *number += 1;
            Err::<(), _>(HandlerError::Refused)
        });
        assert!(matches!(failed.await, Err(HandlerError::Refused)));
    }
    assert_eq!(storage.writes(), 0);
    let missing = larder_session::key::per_chat(None::<i64>);
    let failed = sessions.try_modify(missing, |_| Ok::<_, HandlerError>(())).await;
    assert!(matches!(failed, Err(HandlerError::Larder(error)) if error.kind() == ErrorKind::InvalidKey));
}

#[tokio::test]
async fn modify_runs_again_on_the_new_value_after_a_conflict() {
    let storage = Counting::new();
    let sessions = numbers(&storage);
    let mut seen = Vec::new();
    storage.overtake("1", json!(10));
    storage.overtake("1", json!(20));
    sessions
        .modify(1, |number| {
            seen.push(*number);
            *number += 1;
        })
        .await
        .unwrap();
    assert_eq!(seen, [0, 10, 20]);
    assert_eq!(storage.text("1").await.unwrap(), "21");
}

#[tokio::test]
async fn modify_obeys_the_conflict_policy() {
    for (policy, outcome, stored, runs) in [
        (ConflictPolicy::Fail, Some(ErrorKind::Conflict), "10", 1),
        (ConflictPolicy::Retry { max: 1 }, Some(ErrorKind::Conflict), "20", 2),
        (ConflictPolicy::LastWriteWins, None, "1", 1),
    ] {
        let storage = Counting::new();
        let sessions = Sessions::<u32>::builder().storage(storage.clone()).conflicts(policy).build().unwrap();
        storage.overtake("1", json!(10));
        if policy != ConflictPolicy::LastWriteWins {
            storage.overtake("1", json!(20));
        }
        let mut seen = 0;
        let modified = sessions.modify(1, |number| {
            seen += 1;
            *number += 1;
        });
        assert_eq!(modified.await.err().map(|error| error.kind()), outcome, "{policy:?}");
        assert_eq!((storage.text("1").await.unwrap().as_str(), seen), (stored, runs), "{policy:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_increment_of_64_tasks_that_borrow_is_lost() {
    let storage = Counting::new();
    let processes = [numbers(&storage), numbers(&storage)];
    let mut tasks = JoinSet::new();
    for task in 0..64 {
        let sessions = processes[task % 2].clone();
        tasks.spawn(async move {
            let step = 1;
            for _ in 0..10 {
                let borrowed = &step;
                sessions.modify(1, |number| *number += borrowed).await.unwrap();
            }
        });
    }
    soon(tasks.join_all()).await;
    assert_eq!(storage.text("1").await.unwrap(), "640");
}

#[tokio::test]
async fn modify_within_an_update_of_the_same_session_is_an_error() {
    let sessions = numbers(&Counting::new());
    let nested = async |mut number: Session<u32>| {
        *number += 1;
        assert_eq!(kind(soon(sessions.modify(1, |number| *number += 1)).await), ErrorKind::Unsupported);
        soon(sessions.modify(2, |number| *number += 1)).await
    };
    sessions.update(1, nested).await.unwrap();
    assert_eq!((sessions.get(1).await.unwrap(), sessions.get(2).await.unwrap()), (Some(1), Some(1)));
}

#[tokio::test]
async fn an_update_that_another_handle_modifies_within_it_is_an_error() {
    let storage = Counting::new();
    let (outer, inner) = (numbers(&storage), numbers(&storage));
    let nested = async |mut number: Session<u32>| {
        *number += 1;
        soon(inner.modify(1, |number| *number += 1)).await
    };
    assert_eq!(kind(outer.update(1, nested).await), ErrorKind::Unsupported);
    assert_eq!(outer.get(1).await.unwrap(), Some(1));
}

#[tokio::test]
async fn modify_of_several_sessions_changes_all_or_none() {
    let storage = Counting::new();
    let (from, to) = (prefixed(&storage, "from:"), prefixed(&storage, "to:"));
    from.set(1, 100).await.unwrap();
    let multi = Multi::new((Fragment::strict("from", from.clone()), Fragment::strict("to", to.clone())));
    storage.overtake("to:1", json!(5));
    let moved = multi.modify((1, 1), |(from, to)| {
        *from -= 10;
        *to += 10;
        *to
    });
    assert_eq!(moved.await.unwrap(), 15);
    let failed = multi.try_modify((1, 1), |(from, to)| {
        *to += 1_000;
        *from = from.checked_sub(1_000).ok_or(HandlerError::Refused)?;
        Ok(())
    });
    assert!(matches!(failed.await, Err(HandlerError::Refused)));
    assert_eq!((from.get(1).await.unwrap(), to.get(1).await.unwrap()), (Some(90), Some(15)));
}

#[tokio::test]
async fn modify_takes_lazy_fragments_by_reference() {
    let storage = Counting::new();
    let (strict, lazy) = (prefixed(&storage, "strict:"), prefixed(&storage, "lazy:"));
    let multi =
        Multi::new((Fragment::strict("strict", strict.clone()), Fragment::lazy("lazy", lazy.clone())));
    let set = multi.try_modify((1, 1), |(number, lazy)| {
        *number += 1;
        lazy.set(7)
    });
    set.await.unwrap();
    assert_eq!((strict.get(1).await.unwrap(), lazy.get(1).await.unwrap()), (Some(1), Some(7)));
}

#[tokio::test]
async fn modify_of_named_values() {
    let storage = Counting::new();
    let sessions = KvSessions::builder().storage(storage.clone()).build().unwrap();
    let count = sessions.try_modify(1, |session| {
        let pings = session.get("pings")?.unwrap_or(0) + 1;
        session.set("pings", pings)?;
        larder_session::ok(pings)
    });
    assert_eq!(count.await.unwrap(), 1);
    assert!(sessions.modify(1, |session| session.delete("pings")).await.unwrap());
    assert_eq!(sessions.get::<u32>(1, "pings").await.unwrap(), None);
}

// with

#[tokio::test]
async fn with_sees_the_initial_value_where_there_is_no_session() {
    let storage = Counting::new();
    let sessions = Sessions::builder_with(|| 7_u32).storage(storage.clone()).build().unwrap();
    assert_eq!(sessions.with(1, |number| *number).await.unwrap(), 7);
    sessions.set(1, 8).await.unwrap();
    assert_eq!(sessions.with(1, |number| *number).await.unwrap(), 8);
    assert_eq!((storage.reads(), storage.writes()), (2, 1));
    let missing = larder_session::key::per_chat(None::<i64>);
    assert_eq!(kind(sessions.with(missing, |_| ()).await), ErrorKind::InvalidKey);
}

#[tokio::test]
async fn with_does_not_wait_for_an_update() {
    let sessions = numbers(&Counting::new());
    let open = sessions.open(1).await.unwrap();
    assert_eq!(soon(sessions.with(1, |number| *number)).await.unwrap(), 0);
    OpenSession::discard(open);
}

// update_once

#[tokio::test]
async fn update_once_consumes_captures_and_saves() {
    let sessions: Sessions<Vec<String>> = Sessions::new(Counting::new()).unwrap();
    let line = "hello".to_owned();
    let length = sessions.update_once(1, async |mut lines| {
        lines.push(line);
        larder_session::ok(lines.len())
    });
    assert_eq!(length.await.unwrap(), 1);
    assert_eq!(sessions.get(1).await.unwrap(), Some(vec!["hello".to_owned()]));
}

#[tokio::test]
async fn update_once_fails_on_a_conflict_and_does_not_run_again() {
    let storage = Counting::new();
    let sessions = numbers(&storage);
    let sent = AtomicUsize::new(0);
    storage.overtake("1", json!(10));
    let update = sessions.update_once(1, async |mut number| {
        sent.fetch_add(1, Ordering::Relaxed);
        *number += 1;
    });
    assert_eq!(kind(update.await), ErrorKind::Conflict);
    assert_eq!((sent.into_inner(), storage.text("1").await.unwrap().as_str()), (1, "10"));
    // Nothing is left behind.
    soon(sessions.modify(1, |number| *number += 1)).await.unwrap();
}

#[tokio::test]
async fn update_once_of_several_sessions_undoes_them_on_a_conflict() {
    let storage = Counting::new();
    let (from, to) = (prefixed(&storage, "from:"), prefixed(&storage, "to:"));
    from.set(1, 100).await.unwrap();
    let multi = Multi::new((Fragment::strict("from", from.clone()), Fragment::strict("to", to)));
    storage.overtake("to:1", json!(5));
    let consumed = vec![10];
    let update = multi.update_once((1, 1), async |(mut from, mut to)| {
        for amount in consumed {
            *from -= amount;
            *to += amount;
        }
    });
    assert_eq!(kind(update.await), ErrorKind::Conflict);
    assert_eq!(from.get(1).await.unwrap(), Some(100));
}

#[tokio::test]
async fn update_once_of_named_values() {
    let sessions = KvSessions::builder().storage(Counting::new()).build().unwrap();
    let name = "Míša".to_owned();
    sessions.update_once(1, async |mut session| session.set("name", name)).await.unwrap();
    assert_eq!(sessions.get(1, "name").await.unwrap(), Some("Míša".to_owned()));
}

// The methods of the value

#[tokio::test]
async fn methods_of_the_value_are_not_hidden() {
    let storage = Counting::new();
    let sessions: Sessions<Vec<u32>> = Sessions::new(storage.clone()).unwrap();
    sessions.set(1, vec![1, 2]).await.unwrap();
    sessions.update(1, async |mut v| v.clear()).await.unwrap();
    assert_eq!(storage.text("1").await.unwrap(), "[]");
    sessions.modify(1, |v| v.push(3)).await.unwrap();
    sessions.modify(1, Vec::clear).await.unwrap();
    assert_eq!(storage.text("1").await.unwrap(), "[]");
    let mut open = sessions.open(1).await.unwrap();
    open.push(4);
    open.clear();
    OpenSession::save(open).await.unwrap();
    assert_eq!(storage.text("1").await.unwrap(), "[]");
    sessions.update(1, async |mut v| Session::clear(&mut v)).await.unwrap();
    assert_eq!(storage.record("1").await, None);
}

/// Has a method for each function of `Session`.
#[derive(Default, serde::Serialize, serde::Deserialize)]
struct Busy(Vec<String>);

impl Busy {
    fn clear(&mut self) {
        self.0.push("clear".to_owned());
    }

    fn discard(&mut self) {
        self.0.push("discard".to_owned());
    }

    fn save(&mut self) {
        self.0.push("save".to_owned());
    }

    fn is_new(&mut self) {
        self.0.push("is_new".to_owned());
    }

    fn storage_key(&mut self) {
        self.0.push("storage_key".to_owned());
    }
}

#[tokio::test]
async fn open_sessions_dereference_to_the_value_at_once() {
    let sessions: Sessions<Busy> = Sessions::new(Counting::new()).unwrap();
    let called = ["clear", "discard", "save", "is_new", "storage_key"];
    let mut open = sessions.open(1).await.unwrap();
    open.clear();
    open.discard();
    open.save();
    open.is_new();
    open.storage_key();
    OpenSession::save(open).await.unwrap();
    assert!(sessions.with(1, |busy| busy.0 == called).await.unwrap());
    sessions
        .update(2, async |mut busy| {
            busy.clear();
            busy.discard();
            busy.save();
            busy.is_new();
            busy.storage_key();
        })
        .await
        .unwrap();
    assert!(sessions.with(2, |busy| busy.0 == called).await.unwrap());
    let map: Sessions<BTreeMap<String, u32>> = Sessions::new(Counting::new()).unwrap();
    map.update(1, async |mut names| names.clear()).await.unwrap();
    assert_eq!(map.get(1).await.unwrap(), Some(BTreeMap::new()));
}

// discard

#[tokio::test]
async fn a_discarded_update_saves_nothing_and_succeeds() {
    let storage = Counting::new();
    let sessions = numbers(&storage);
    sessions.set(1, 5).await.unwrap();
    storage.forget_counts();
    for key in [1, 2] {
        let value = sessions.update(key, async |mut number| {
            *number += 1;
            Session::discard(&mut number);
            Session::clear(&mut number);
            *number += 1;
            larder_session::ok(*number)
        });
        assert_eq!(value.await.unwrap(), 1);
        sessions
            .update_once(key, async |mut number| {
                *number += 1;
                Session::discard(&mut number);
            })
            .await
            .unwrap();
    }
    assert_eq!((storage.writes(), sessions.get(1).await.unwrap()), (0, Some(5)));
    let names = KvSessions::builder().storage(storage.clone()).build().unwrap();
    let discard = names.try_modify(3, |session| {
        session.discard();
        session.set("a", 1)
    });
    discard.await.unwrap();
    assert_eq!(storage.writes(), 0);
}

#[tokio::test]
async fn a_discarded_update_does_not_conflict_and_the_next_run_starts_without_it() {
    let storage = Counting::new();
    let (from, to) = (prefixed(&storage, "from:"), prefixed(&storage, "to:"));
    from.set(1, 100).await.unwrap();
    let multi = Multi::new((Fragment::strict("from", from.clone()), Fragment::strict("to", to.clone())));
    storage.overtake("to:1", json!(5));
    // The first run discards a session, the second does not.
    let update = multi.update((1, 1), async |(mut from, mut to)| {
        *from -= 10;
        if *to == 0 {
            Session::discard(&mut from);
        }
        *to += 10;
    });
    update.await.unwrap();
    assert_eq!((from.get(1).await.unwrap(), to.get(1).await.unwrap()), (Some(90), Some(15)));
}

#[tokio::test]
async fn a_session_that_the_first_run_saved_is_restored_if_the_second_discards_it() {
    for before in [None, Some(100)] {
        let storage = Counting::new();
        let [strict, lazy, to] = ["strict:", "lazy:", "to:"].map(|prefix| prefixed(&storage, prefix));
        if let Some(before) = before {
            strict.set(1, before).await.unwrap();
            lazy.set(1, before).await.unwrap();
        }
        let multi = Multi::new((
            Fragment::strict("strict", strict.clone()),
            Fragment::lazy("lazy", lazy.clone()),
            Fragment::strict("to", to.clone()),
        ));
        storage.overtake("to:1", json!(5));
        let update = multi.update((1, 1, 1), async |(mut strict, lazy, mut to)| {
            *strict += 1;
            lazy.modify(|lazy| *lazy += 1).await?;
            if *to == 5 {
                Session::discard(&mut strict);
                lazy.discard();
            }
            *to += 10;
            larder_session::ok(())
        });
        update.await.unwrap();
        assert_eq!((strict.get(1).await.unwrap(), lazy.get(1).await.unwrap()), (before, before));
        assert_eq!(to.get(1).await.unwrap(), Some(15));
    }
}

#[tokio::test]
async fn a_discarded_lazy_session_saves_nothing_and_refuses_changes() {
    let storage = Counting::new();
    let sessions = numbers(&storage);
    let before: [fn(&LazySession<u32>); 3] = [
        |session| session.set(7).unwrap(),
        |session| session.clear().unwrap(),
        |session| session.set_later(std::future::pending()).unwrap(),
    ];
    for before in before {
        let discard = sessions.update_lazy(1, async |session| {
            before(&session);
            session.discard();
            assert_eq!(kind(session.set(8)), ErrorKind::Other);
            assert_eq!(kind(session.clear()), ErrorKind::Other);
            assert_eq!(kind(session.modify(|number| *number += 1).await), ErrorKind::Other);
        });
        soon(discard).await.unwrap();
    }
    let discard = sessions.update_lazy(1, async |session| {
        session.modify(|number| *number += 1).await?;
        session.discard();
        session.get().await
    });
    assert_eq!(discard.await.unwrap(), 1);
    assert_eq!((storage.writes(), sessions.get(1).await.unwrap()), (0, None));
}

// As a newcomer writes it

#[tokio::test]
async fn first_guesses_compile() {
    let sessions = numbers(&Counting::new());
    let task = tokio::spawn({
        let sessions = sessions.clone();
        async move {
            let name = String::from("abc");
            let bonus = vec![1, 2, 3];
            sessions.modify("counter", |c| *c += 1).await?;
            sessions
                .modify("counter", |c| {
                    if *c > 100 {
                        return;
                    }
                    *c += u32::try_from(name.len()).unwrap_or(0) + bonus.iter().sum::<u32>();
                })
                .await?;
            sessions
                .update("counter", async |mut c| {
                    tokio::task::yield_now().await;
                    *c += u32::try_from(name.len()).unwrap_or(0);
                })
                .await?;
            let seen = Mutex::new(Vec::new());
            sessions.update_once("counter", async |c| seen.lock().push(*c)).await?;
            drop(bonus);
            Ok::<_, Error>(sessions.with("counter", |c| *c == 13).await? && seen.into_inner() == [13])
        }
    });
    assert!(task.await.unwrap().unwrap());
}
