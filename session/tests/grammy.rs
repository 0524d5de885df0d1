//! The behavior of grammY's session plugin, following its documentation and its own tests.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

mod common;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{FutureExt, StreamExt, TryStreamExt, future::join};
use larder_core::{Expiry, clock::unix_millis};
use larder_session::{
    ConflictPolicy, Error, ErrorKind, Fragment, LazySession, Lifetime, Migrations, Multi, Session, Sessions,
    key,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use common::{Call, Counting, HandlerError, LONG, kind, soon, until};

fn sessions(storage: &Counting) -> Sessions<u32> {
    Sessions::new(storage.clone()).unwrap()
}

fn prefixed(storage: &Counting, prefix: &str) -> Sessions<u32> {
    Sessions::builder().storage(storage.clone()).prefix(prefix).build().unwrap()
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Pizza {
    pizza_count: u32,
    toppings: Vec<String>,
    nested: Option<Box<Pizza>>,
}

fn a_pizza() -> Pizza {
    Pizza {
        pizza_count: 1,
        toppings: vec!["🍕".to_owned(), String::new()],
        nested: Some(Box::new(Pizza::default())),
    }
}

mod strict {
    use super::*;

    /// "passes updates through": the handler runs, and the update returns its result.
    #[tokio::test]
    async fn updates_pass_through() {
        let runs = AtomicUsize::new(0);
        let handler = async |_| {
            runs.fetch_add(1, Ordering::Relaxed);
            Ok::<_, Error>("done")
        };
        assert_eq!(sessions(&Counting::new()).update(42, handler).await.unwrap(), "done");
        assert_eq!(runs.into_inner(), 1);
    }

    /// "reading with an empty key is an error", "`undefined` key: no I/O".
    #[tokio::test]
    async fn reading_with_an_empty_key_is_an_error() {
        let storage = Counting::new();
        let sessions = sessions(&storage);
        for key in [key::SessionKey::from(""), None::<&str>.into(), key::per_chat(None::<i64>)] {
            assert_eq!(kind(sessions.update(&key, async |_| ()).await), ErrorKind::InvalidKey);
            assert_eq!(kind(sessions.get(&key).await), ErrorKind::InvalidKey);
        }
        assert_eq!(storage.calls(), 0);
    }

    /// "writing with an empty key is an error".
    #[tokio::test]
    async fn writing_with_an_empty_key_is_an_error() {
        let storage = Counting::new();
        let sessions = sessions(&storage);
        let written = sessions.update("", async |mut session| *session = 1).await;
        assert_eq!(kind(written), ErrorKind::InvalidKey);
        assert_eq!(kind(sessions.set("", 1).await), ErrorKind::InvalidKey);
        // A prefix alone does not make a key.
        assert_eq!(kind(prefixed(&storage, "chat:").set("", 1).await), ErrorKind::InvalidKey);
        assert_eq!(storage.calls(), 0);
    }

    /// "no write upon error", "handler fails: nothing is written".
    #[tokio::test]
    async fn nothing_is_written_upon_an_error() {
        let storage = Counting::new();
        let given = sessions(&storage);
        let failed = given.update(42, async |mut session| {
            *session = 1;
            Err::<(), _>(HandlerError::Refused)
        });
        assert!(matches!(failed.await, Err(HandlerError::Refused)));
        assert_eq!((storage.reads(), storage.calls()), (1, 1));
    }

    /// "primitives": a number, counted up, read and written once each time.
    #[tokio::test]
    async fn primitives_work() {
        let storage = Counting::new();
        let sessions = sessions(&storage);
        for update in 1..=3 {
            sessions.update(42, async |mut session| *session += 1).await.unwrap();
            assert_eq!(storage.text("42").await.unwrap(), update.to_string());
            assert_eq!((storage.reads(), storage.writes()), (update, update));
        }
        let texts: Sessions<String> = Sessions::new(storage.clone()).unwrap();
        texts.update(7, async |mut text| text.push_str("Míša")).await.unwrap();
        assert_eq!(storage.text("7").await.unwrap(), r#""Míša""#);
    }

    /// "key: prefix + getSessionKey(ctx)", "custom keys and prefix".
    #[tokio::test]
    async fn custom_keys_and_a_prefix_work() {
        let storage = Counting::new();
        let sessions = prefixed(&storage, "prefix-");
        sessions.update("custom", async |mut session| *session += 1).await.unwrap();
        sessions
            .update(key::per_user_and_chat(Some(7), Some(-42)), async |mut session| *session += 2)
            .await
            .unwrap();
        assert_eq!(storage.text("prefix-custom").await.unwrap(), "1");
        assert_eq!(storage.text("prefix-7/-42").await.unwrap(), "2");
        assert_eq!(sessions.get("custom").await.unwrap(), Some(1));
    }

    /// "key: default the chat id as a decimal string", with no prefix.
    #[tokio::test]
    async fn the_key_of_a_chat_is_its_id_in_decimal() {
        let storage = Counting::new();
        let sessions = sessions(&storage);
        sessions.update(key::per_chat(Some(-1001234567890_i64)), async |_| ()).await.unwrap();
        assert!(storage.record("-1001234567890").await.is_some());
        // The id itself works too.
        assert_eq!(sessions.get(-1001234567890_i64).await.unwrap(), Some(0));
    }

    /// "objects".
    #[tokio::test]
    async fn objects_work() {
        let storage = Counting::new();
        let sessions: Sessions<Pizza> = Sessions::new(storage.clone()).unwrap();
        sessions.update(42, async |mut session| *session = a_pizza()).await.unwrap();
        sessions.update(42, async |mut session| session.toppings.push("二".to_owned())).await.unwrap();
        let mut expected = a_pizza();
        expected.toppings.push("二".to_owned());
        assert_eq!(sessions.get(42).await.unwrap(), Some(expected.clone()));
        assert_eq!(storage.json("42").await.unwrap(), serde_json::to_value(&expected).unwrap());
    }

    /// "one read before the handler, one write after it"; ours skips the write when nothing changed.
    #[tokio::test]
    async fn the_read_comes_before_the_handler_and_the_write_after_it() {
        let storage = Counting::new();
        let sessions = sessions(&storage);
        sessions
            .update(42, async |mut session| {
                assert_eq!((storage.reads(), storage.writes()), (1, 0));
                *session += 1;
                assert_eq!((storage.reads(), storage.writes()), (1, 0));
            })
            .await
            .unwrap();
        assert_eq!((storage.reads(), storage.writes()), (1, 1));
        sessions.update(42, async |_| ()).await.unwrap();
        assert_eq!((storage.reads(), storage.writes()), (2, 1));
    }

    /// "session set to null/undefined: the key is deleted".
    #[tokio::test]
    async fn a_session_set_to_nothing_is_deleted() {
        let storage = Counting::new();
        storage.put("42", "5").await;
        let optional: Sessions<Option<u32>> = Sessions::new(storage.clone()).unwrap();
        optional.update(42, async |mut session| *session = None).await.unwrap();
        assert_eq!(storage.record("42").await, None);

        storage.put("42", "5").await;
        sessions(&storage).update(42, async |mut session| Session::clear(&mut session)).await.unwrap();
        assert_eq!(storage.record("42").await, None);
    }

    /// "`initial`: called once per miss, must give a fresh value; the value counts as written".
    #[tokio::test]
    async fn initial_is_called_once_per_miss_and_its_value_is_written() {
        let storage = Counting::new();
        let calls = Arc::new(AtomicUsize::new(0));
        let initial = {
            let calls = Arc::clone(&calls);
            move || vec![calls.fetch_add(1, Ordering::Relaxed)]
        };
        let sessions = Sessions::builder_with(initial).storage(storage.clone()).build().unwrap();
        sessions.update(1, async |_| ()).await.unwrap();
        assert_eq!(storage.text("1").await.unwrap(), "[0]");
        sessions.update(1, async |_| ()).await.unwrap();
        assert_eq!(calls.load(Ordering::Relaxed), 1);
        sessions.update(2, async |mut session| session.push(7)).await.unwrap();
        assert_eq!(storage.text("2").await.unwrap(), "[1,7]");
        assert_eq!(calls.load(Ordering::Relaxed), 2);
        // Reading does not create a session.
        assert_eq!(sessions.get(3).await.unwrap(), None);
        assert_eq!(storage.record("3").await, None);
    }

    /// "no value and no `initial`: ours: an `Option`, no needless I/O" (grammY deletes).
    #[tokio::test]
    async fn no_needless_io_without_a_value_and_an_initial_value() {
        let storage = Counting::new();
        let sessions: Sessions<Option<Pizza>> = Sessions::new(storage.clone()).unwrap();
        sessions.update(42, async |session| assert_eq!(*session, None)).await.unwrap();
        assert_eq!((storage.reads(), storage.calls()), (1, 1));
    }

    /// "webhooks, two updates of one key at once": 10 parallel increments end at 1 in grammY.
    #[tokio::test]
    async fn ten_parallel_increments_end_at_ten() {
        let storage = Counting::new();
        let sessions = sessions(&storage);
        let increments = (0..10).map(|_| sessions.update(42, async |mut session| *session += 1));
        for outcome in soon(futures_util::future::join_all(increments)).await {
            outcome.unwrap();
        }
        assert_eq!(storage.text("42").await.unwrap(), "10");
    }

    /// "chat migration (group -> supergroup)": both ids meet in one session.
    #[tokio::test]
    async fn a_chat_that_migrates_keeps_its_session_under_both_ids() {
        let sessions = sessions(&Counting::new());
        sessions.set(-42, 5).await.unwrap();
        sessions.move_key(-42, -100_123_i64).await.unwrap();
        for id in [-42_i64, -100_123, -42] {
            sessions.update(id, async |mut session| *session += 1).await.unwrap();
        }
        assert_eq!(sessions.get(-42).await.unwrap(), Some(8));
        assert_eq!(sessions.get(-100_123_i64).await.unwrap(), Some(8));
    }
}

mod multi {
    use super::*;

    type Two<A, B> = Multi<(Fragment<A>, Fragment<B>)>;
    type Strict = larder_session::Strict<u32>;
    type Lazy = larder_session::Lazy<u32>;

    fn strict(storage: &Counting) -> Two<Strict, Strict> {
        Multi::new((
            Fragment::strict("user", prefixed(storage, "user:")),
            Fragment::strict("chat", prefixed(storage, "chat:")),
        ))
    }

    fn lazy(storage: &Counting) -> Two<Lazy, Lazy> {
        Multi::new((
            Fragment::lazy("user", prefixed(storage, "user:")),
            Fragment::lazy("chat", prefixed(storage, "chat:")),
        ))
    }

    fn mixed(storage: &Counting) -> Two<Strict, Lazy> {
        Multi::new((
            Fragment::strict("user", prefixed(storage, "user:")),
            Fragment::lazy("chat", prefixed(storage, "chat:")),
        ))
    }

    /// "passes through".
    #[tokio::test]
    async fn updates_pass_through() {
        let done = strict(&Counting::new()).update((7, 42), async |_| Ok::<_, Error>("done")).await;
        assert_eq!(done.unwrap(), "done");
    }

    /// "`{type: "multi", name: {initial, storage, getSessionKey, prefix}}`": each has its own.
    #[tokio::test]
    async fn each_fragment_has_its_own_storage_type_key_prefix_and_initial_value() {
        let (one, other) = (Counting::new(), Counting::new());
        let users = Sessions::builder_with(|| "new".to_owned()).storage(one.clone()).prefix("user:");
        let multi = Multi::new((
            Fragment::strict("user", users.build().unwrap()),
            Fragment::strict("chat", prefixed(&other, "chat:")),
        ));
        multi
            .update((key::per_user(Some(7)), -42), async |(mut user, mut chat)| {
                user.push_str(" user");
                *chat += 1;
            })
            .await
            .unwrap();
        assert_eq!(one.text("user:7").await.unwrap(), r#""new user""#);
        assert_eq!(other.text("chat:-42").await.unwrap(), "1");
        assert_eq!((one.calls(), other.calls()), (2, 2));
    }

    /// "empty key on read"; the error names the fragment.
    #[tokio::test]
    async fn reading_with_an_empty_key_is_an_error() {
        let storage = Counting::new();
        let given = strict(&storage);
        let error = given.update((7, ""), async |_| ()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidKey);
        assert!(error.message().contains("`chat`"), "{error}");
        assert_eq!(storage.calls(), 0);
        let missing = key::per_chat(None::<i64>);
        let read = mixed(&storage).update((7, &missing), async |(_, chat)| chat.get().await).await;
        assert_eq!(kind(read), ErrorKind::InvalidKey);
        assert_eq!(storage.writes(), 0);
    }

    /// "empty key on write".
    #[tokio::test]
    async fn writing_with_an_empty_key_is_an_error() {
        let storage = Counting::new();
        let written = strict(&storage)
            .update(("", 42), async |(mut user, mut chat)| {
                *user += 1;
                *chat += 1;
            })
            .await;
        assert_eq!(kind(written), ErrorKind::InvalidKey);
        let given = lazy(&storage);
        let written = given.update((7, ""), async |(user, chat)| {
            user.set(1)?;
            chat.set(1)
        });
        assert_eq!(kind(written.await), ErrorKind::InvalidKey);
        assert_eq!(storage.calls(), 0);
        // A lazy fragment that is not accessed needs no key.
        lazy(&storage).update((7, ""), async |(user, _)| user.set(1)).await.unwrap();
        assert_eq!(storage.text("user:7").await.unwrap(), "1");
    }

    /// "no write upon error".
    #[tokio::test]
    async fn nothing_is_written_upon_an_error() {
        let storage = Counting::new();
        let given = strict(&storage);
        let failed = given.update((7, 42), async |(mut user, mut chat)| {
            *user += 1;
            *chat += 1;
            Err::<(), _>(HandlerError::Refused)
        });
        assert!(matches!(failed.await, Err(HandlerError::Refused)));
        let given = mixed(&storage);
        let failed = given.update((7, 42), async |(mut user, chat)| {
            *user += 1;
            chat.set(1)?;
            Err::<(), _>(HandlerError::Refused)
        });
        assert!(matches!(failed.await, Err(HandlerError::Refused)));
        assert_eq!(storage.writes(), 0);
    }

    /// "objects".
    #[tokio::test]
    async fn objects_work() {
        let storage = Counting::new();
        let pizzas = |prefix| -> Sessions<Pizza> {
            Sessions::builder().storage(storage.clone()).prefix(prefix).build().unwrap()
        };
        let multi = Multi::new((
            Fragment::strict("one", pizzas("one:")),
            Fragment::strict("two", pizzas("two:")),
            Fragment::lazy("three", pizzas("three:")),
        ));
        multi
            .update((1, 1, 1), async |(mut one, mut two, three)| {
                *one = a_pizza();
                two.toppings.push("x".to_owned());
                three.set(a_pizza())
            })
            .await
            .unwrap();
        assert_eq!(pizzas("one:").get(1).await.unwrap(), Some(a_pizza()));
        assert_eq!(pizzas("two:").get(1).await.unwrap().unwrap().toppings, ["x"]);
        assert_eq!(pizzas("three:").get(1).await.unwrap(), Some(a_pizza()));
    }

    /// "reads in parallel": all are in progress at once.
    #[tokio::test]
    async fn reads_go_in_parallel() {
        let storage = Counting::new();
        let gate = storage.gate_reads();
        let multi = strict(&storage);
        let update = multi.update((7, 42), async |_| ());
        let (outcome, ()) = soon(join(update, async {
            gate.arrived(2).await;
            gate.let_through(2);
        }))
        .await;
        outcome.unwrap();
        assert_eq!(storage.reads(), 2);
    }

    /// "writes in parallel".
    #[tokio::test]
    async fn writes_go_in_parallel() {
        let storage = Counting::new();
        let gate = storage.gate_writes();
        let multi = mixed(&storage);
        let update = multi.update((7, 42), async |(mut user, chat)| {
            *user += 1;
            chat.modify(|chat| *chat += 1).await
        });
        let (outcome, ()) = soon(join(update, async {
            gate.arrived(2).await;
            gate.let_through(2);
        }))
        .await;
        outcome.unwrap();
        assert_eq!(storage.writes(), 2);
    }

    /// "strict: one write after it; skipped when nothing changed", for each fragment by itself.
    #[tokio::test]
    async fn only_the_fragments_that_changed_are_written() {
        let storage = Counting::new();
        let multi = strict(&storage);
        multi.update((7, 42), async |_| ()).await.unwrap();
        storage.forget_counts();
        multi.update((7, 42), async |(_, mut chat)| *chat += 1).await.unwrap();
        assert_eq!((storage.reads(), storage.writes(), storage.calls()), (2, 1, 3));
        assert_eq!(storage.text("chat:42").await.unwrap(), "1");
    }

    /// "the whole session set to null deletes every fragment".
    #[tokio::test]
    async fn clear_clears_each_fragment() {
        let storage = Counting::new();
        for key in ["user:7", "chat:42"] {
            storage.put(key, "5").await;
        }
        strict(&storage).update((7, 42), async |mut all| Multi::clear(&mut all)).await.unwrap();
        assert_eq!((storage.record("user:7").await, storage.record("chat:42").await), (None, None));

        for key in ["user:7", "chat:42"] {
            storage.put(key, "5").await;
        }
        mixed(&storage).update((7, 42), async |mut all| Multi::clear(&mut all)).await.unwrap();
        assert_eq!((storage.record("user:7").await, storage.record("chat:42").await), (None, None));

        storage.put("user:7", "5").await;
        assert_eq!(strict(&storage).delete((7, 42)).await.unwrap(), 1);
        assert_eq!(storage.record("user:7").await, None);
    }

    /// "lazy + multi": refused by grammY; ours reads and writes only the accessed fragments.
    #[tokio::test]
    async fn a_lazy_fragment_does_no_io_unless_it_is_touched() {
        let storage = Counting::new();
        storage.put("chat:42", "5").await;
        lazy(&storage).update((7, 42), async |_| ()).await.unwrap();
        assert_eq!(storage.calls(), 0);
        let read = lazy(&storage).update((7, 42), async |(_, chat)| chat.get().await).await;
        assert_eq!((read.unwrap(), storage.reads(), storage.calls()), (5, 1, 1));
        storage.forget_counts();
        mixed(&storage).update((7, 42), async |(mut user, _)| *user += 1).await.unwrap();
        assert_eq!((storage.reads(), storage.writes(), storage.calls()), (1, 1, 2));
        storage.forget_counts();
        lazy(&storage)
            .update((7, 42), async |(user, chat)| {
                user.set(1)?;
                chat.modify(|chat| *chat += 1).await
            })
            .await
            .unwrap();
        assert_eq!(storage.text("chat:42").await.unwrap(), "6");
        assert_eq!(storage.text("user:7").await.unwrap(), "1");
    }

    /// Beyond grammY: a conflict of one fragment reruns the handler, and the other is not counted twice.
    #[tokio::test]
    async fn a_conflict_of_a_fragment_reruns_the_handler_and_counts_nothing_twice() {
        for (key, user, chat) in [("user:7", 11, 2), ("chat:42", 2, 11)] {
            for multi_lazily in [false, true] {
                let storage = Counting::new();
                storage.put("user:7", "1").await;
                storage.put("chat:42", "1").await;
                storage.overtake(key, json!(10));
                if multi_lazily {
                    let given = lazy(&storage);
                    let updated = given.update((7, 42), async |(user, chat)| {
                        user.modify(|user| *user += 1).await?;
                        chat.modify(|chat| *chat += 1).await
                    });
                    updated.await.unwrap();
                } else {
                    let given = strict(&storage);
                    let updated = given.update((7, 42), async |(mut user, mut chat)| {
                        *user += 1;
                        *chat += 1;
                    });
                    updated.await.unwrap();
                }
                assert_eq!(storage.text("user:7").await.unwrap(), user.to_string(), "{key}");
                assert_eq!(storage.text("chat:42").await.unwrap(), chat.to_string(), "{key}");
            }
        }
    }

    /// Beyond grammY: updates with the same fragments in different orders do not deadlock.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn updates_of_crossed_fragments_do_not_deadlock() {
        let storage = Counting::new();
        let (users, chats) = (prefixed(&storage, "user:"), prefixed(&storage, "chat:"));
        let one = Arc::new(Multi::new((
            Fragment::strict("user", users.clone()),
            Fragment::strict("chat", chats.clone()),
        )));
        let other = Arc::new(Multi::new((Fragment::lazy("chat", chats), Fragment::strict("user", users))));
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..8 {
            let (one, other) = (Arc::clone(&one), Arc::clone(&other));
            tasks.spawn(async move {
                for _ in 0..50 {
                    if task % 2 == 0 {
                        one.update((7, 42), async |(mut user, mut chat)| {
                            *user += 1;
                            *chat += 1;
                        })
                        .await
                        .unwrap();
                    } else {
                        other
                            .update((42, 7), async |(chat, mut user)| {
                                *user += 1;
                                chat.modify(|chat| *chat += 1).await
                            })
                            .await
                            .unwrap();
                    }
                }
            });
        }
        soon(tasks.join_all()).await;
        assert_eq!(storage.text("user:7").await.unwrap(), "400");
        assert_eq!(storage.text("chat:42").await.unwrap(), "400");
    }

    /// Beyond grammY: two fragments that are one session would overwrite each other.
    #[tokio::test]
    async fn one_session_in_two_fragments_is_refused() {
        let storage = Counting::new();
        let sessions = sessions(&storage);
        let multi =
            Multi::new((Fragment::strict("one", sessions.clone()), Fragment::lazy("two", sessions.clone())));
        assert_eq!(kind(soon(multi.update((1, 1), async |_| ())).await), ErrorKind::InvalidConfig);
        soon(multi.update((1, 2), async |_| ())).await.unwrap();
    }

    /// Beyond grammY: the fragment that cannot be read is named, and the handler does not run.
    #[tokio::test]
    async fn a_fragment_that_cannot_be_read_is_named() {
        let storage = Counting::new();
        storage.put("chat:42", "not json").await;
        let runs = AtomicUsize::new(0);
        let updated = strict(&storage)
            .update((7, 42), async |_| {
                runs.fetch_add(1, Ordering::Relaxed);
            })
            .await;
        let error = updated.unwrap_err();
        assert_eq!(runs.into_inner(), 0);
        assert_eq!(error.kind(), ErrorKind::Codec);
        assert!(error.message().contains("`chat`"), "{error}");
        assert_eq!(storage.writes(), 0);
    }
}

mod lazy {
    use super::*;

    /// "passes through".
    #[tokio::test]
    async fn updates_pass_through() {
        let done = sessions(&Counting::new()).update_lazy(42, async |_| Ok::<_, Error>("done")).await;
        assert_eq!(done.unwrap(), "done");
    }

    /// "empty key on read"; "`undefined` key: no I/O, and touching the session throws".
    #[tokio::test]
    async fn reading_with_an_empty_key_is_an_error() {
        let storage = Counting::new();
        let sessions = sessions(&storage);
        let missing = key::per_chat(None::<i64>);
        let read = sessions.update_lazy(&missing, async |session| session.get().await).await;
        let error = read.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidKey);
        assert!(error.message().contains("belongs to no chat"), "{error}");
        assert_eq!(kind(sessions.open_lazy("").with(|_| ()).await), ErrorKind::InvalidKey);
        // Without an access it succeeds.
        sessions.update_lazy(&missing, async |_| ()).await.unwrap();
        sessions.open_lazy("").save().await.unwrap();
        assert_eq!(storage.calls(), 0);
    }

    /// "empty key on write".
    #[tokio::test]
    async fn writing_with_an_empty_key_is_an_error() {
        let storage = Counting::new();
        let session = sessions(&storage).open_lazy("");
        assert_eq!(kind(session.set(1)), ErrorKind::InvalidKey);
        assert_eq!(kind(session.set_later(async { Ok(1) })), ErrorKind::InvalidKey);
        assert_eq!(kind(session.clear()), ErrorKind::InvalidKey);
        assert_eq!(kind(session.modify(|_| ()).await), ErrorKind::InvalidKey);
        session.save().await.unwrap();
        assert_eq!(storage.calls(), 0);
    }

    /// "no write upon error".
    #[tokio::test]
    async fn nothing_is_written_upon_an_error() {
        let storage = Counting::new();
        let sessions = sessions(&storage);
        let failed = sessions.update_lazy(42, async |session| {
            session.modify(|session| *session += 1).await?;
            Err::<(), _>(HandlerError::Refused)
        });
        assert!(matches!(failed.await, Err(HandlerError::Refused)));
        let failed = sessions.update_lazy(42, async |session| {
            session.set(1)?;
            Err::<(), _>(HandlerError::Refused)
        });
        assert!(matches!(failed.await, Err(HandlerError::Refused)));
        assert_eq!(storage.writes(), 0);
        soon(sessions.update(42, async |_| ())).await.unwrap();
    }

    /// "primitives".
    #[tokio::test]
    async fn primitives_work() {
        let storage = Counting::new();
        let sessions = sessions(&storage);
        for update in 1..=3 {
            let seen = sessions
                .update_lazy(42, async |session| {
                    session.modify(|session| *session += 1).await?;
                    session.get().await
                })
                .await;
            assert_eq!(seen.unwrap(), update);
        }
        assert_eq!((storage.reads(), storage.writes(), storage.calls()), (3, 3, 6));
        assert_eq!(storage.text("42").await.unwrap(), "3");
    }

    /// "objects".
    #[tokio::test]
    async fn objects_work() {
        let storage = Counting::new();
        let sessions: Sessions<Pizza> = Sessions::new(storage.clone()).unwrap();
        sessions.update_lazy(42, async |session| session.set(a_pizza())).await.unwrap();
        sessions
            .update_lazy(42, async |session| session.modify(|pizza| pizza.toppings.clear()).await)
            .await
            .unwrap();
        let expected = Pizza { toppings: Vec::new(), ..a_pizza() };
        let seen = sessions.update_lazy(42, async |session| session.get().await).await;
        assert_eq!(seen.unwrap(), expected);
    }

    /// "no I/O unless touched", "no write if nothing was read".
    #[tokio::test]
    async fn nothing_is_read_or_written_unless_it_is_touched() {
        let storage = Counting::new();
        let sessions = sessions(&storage);
        sessions.update_lazy(42, async |session| assert!(!session.is_touched())).await.unwrap();
        assert_eq!(storage.calls(), 0);
        assert_eq!(storage.record("42").await, None, "nor does a new session come to be");
        // Other updates do not wait for it.
        let untouched = sessions.open_lazy(42);
        soon(sessions.update(42, async |_| ())).await.unwrap();
        drop(untouched);
    }

    /// "first access reads once, later accesses share it"; only reading writes nothing.
    #[tokio::test]
    async fn the_first_access_reads_and_later_ones_share_it() {
        let storage = Counting::new();
        storage.put("42", "5").await;
        sessions(&storage)
            .update_lazy(42, async |session| {
                for _ in 0..3 {
                    assert_eq!(session.get().await?, 5);
                    assert_eq!(session.with(|session| *session).await?, 5);
                    assert!(session.is_touched());
                }
                Ok::<_, Error>(())
            })
            .await
            .unwrap();
        assert_eq!((storage.reads(), storage.calls()), (1, 1));
    }

    /// "later accesses share it", also those at the same time.
    #[tokio::test]
    async fn concurrent_accesses_share_one_read() {
        let storage = Counting::new();
        storage.put("42", "5").await;
        let gate = storage.gate_reads();
        let session = sessions(&storage).open_lazy(42);
        let accesses = futures_util::future::join_all((0..10).map(|_| {
            let session = session.clone();
            async move { session.get().await }
        }));
        let (seen, ()) = soon(join(accesses, async {
            gate.arrived(1).await;
            gate.let_through(100);
        }))
        .await;
        assert!(seen.into_iter().all(|seen| seen.unwrap() == 5));
        assert_eq!((storage.reads(), storage.calls()), (1, 1));
    }

    /// "assigning first skips the read", "no read after a write".
    #[tokio::test]
    async fn a_session_that_is_set_first_is_not_read() {
        let storage = Counting::new();
        let sessions = sessions(&storage);
        let seen = sessions.update_lazy(42, async |session| {
            session.set(7)?;
            assert!(session.is_touched());
            session.modify(|session| *session += 1).await?;
            session.get().await
        });
        assert_eq!(seen.await.unwrap(), 8);
        // The session did not exist: one conditional write.
        assert_eq!((storage.reads(), storage.count(Call::WriteIf), storage.calls()), (0, 1, 1));
        assert_eq!(storage.text("42").await.unwrap(), "8");
    }

    /// "assigning first skips the read": also for an existing session.
    #[tokio::test]
    async fn set_replaces_an_existing_session() {
        let storage = Counting::new();
        storage.put("42", "5").await;
        let sessions = sessions(&storage);
        sessions.update_lazy(42, async |session| session.set(7)).await.unwrap();
        assert_eq!(storage.text("42").await.unwrap(), "7");
    }

    /// "session set to null/undefined: the key is deleted".
    #[tokio::test]
    async fn a_session_that_is_cleared_is_deleted() {
        let storage = Counting::new();
        let sessions = sessions(&storage);
        // Unread, read, and set before.
        storage.put("42", "5").await;
        sessions.update_lazy(42, async |session| session.clear()).await.unwrap();
        assert_eq!(storage.record("42").await, None);
        storage.put("42", "5").await;
        let seen = sessions.update_lazy(42, async |session| {
            assert_eq!(session.get().await?, 5);
            session.clear()?;
            session.get().await
        });
        assert_eq!(seen.await.unwrap(), 0, "until then it is the initial value");
        assert_eq!(storage.record("42").await, None);
        let set = sessions.update_lazy(42, async |session| {
            session.set(9)?;
            session.clear()
        });
        set.await.unwrap();
        assert_eq!(storage.record("42").await, None);
        // Changed after that it is a new session.
        let set = sessions.update_lazy(42, async |session| {
            session.clear()?;
            session.modify(|session| *session += 1).await
        });
        set.await.unwrap();
        assert_eq!(storage.text("42").await.unwrap(), "1");
    }

    /// "a read that ends after an assignment is discarded", "a read that completes after a manual write
    /// is discarded".
    #[tokio::test]
    async fn a_read_that_completes_after_a_set_is_discarded() {
        let storage = Counting::new();
        storage.put("42", "5").await;
        let sessions = sessions(&storage);
        let gate = storage.gate_reads();
        let seen = sessions.update_lazy(42, async |session| {
            let (read, ()) = join(session.get(), async {
                gate.arrived(1).await;
                session.set(7).unwrap();
                gate.let_through(100);
            })
            .await;
            assert_eq!(session.get().await?, 7);
            read
        });
        assert_eq!(soon(seen).await.unwrap(), 7);
        assert_eq!(storage.text("42").await.unwrap(), "7");
    }

    /// "a promise may be assigned and is awaited before the write", "written promises are awaited".
    #[tokio::test]
    async fn promises_are_awaited_before_the_write() {
        let storage = Counting::new();
        let sessions = sessions(&storage);
        let (keep, promise) = oneshot::channel();
        let session = sessions.open_lazy(42);
        session
            .set_later(async move { promise.await.map_err(|_| Error::new(ErrorKind::Other, "broken")) })
            .unwrap();
        let mut save = Box::pin(session.save());
        assert!(save.as_mut().now_or_never().is_none());
        assert_eq!(storage.calls(), 0);
        keep.send(7).unwrap();
        soon(save).await.unwrap();
        assert_eq!(storage.text("42").await.unwrap(), "7");
        assert_eq!((storage.reads(), storage.writes()), (0, 1));
    }

    /// "written promises are awaited": by the update itself.
    #[tokio::test]
    async fn an_update_awaits_the_promise_that_its_handler_leaves() {
        let storage = Counting::new();
        let sessions = sessions(&storage);
        let later = || async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            Ok(7)
        };
        let seen = sessions.update_lazy(42, async |session| session.set_later(later()));
        soon(seen).await.unwrap();
        assert_eq!(storage.text("42").await.unwrap(), "7");
        let seen = sessions.update_lazy(42, async |session| {
            session.set_later(later())?;
            session.modify(|session| *session += 1).await?;
            session.get().await
        });
        assert_eq!(soon(seen).await.unwrap(), 8);
        assert_eq!(storage.text("42").await.unwrap(), "8");
        // A later assignment replaces it.
        let seen = sessions.update_lazy(42, async |session| {
            session.set_later(later())?;
            session.set(9)
        });
        soon(seen).await.unwrap();
        assert_eq!(storage.text("42").await.unwrap(), "9");
    }

    /// "written promises are awaited": one that fails is the update's error, and nothing is written.
    #[tokio::test]
    async fn a_promise_that_fails_fails_the_save() {
        let storage = Counting::new();
        let given = sessions(&storage);
        let failed = given.update_lazy(42, async |session| {
            session.set_later(async { Err(Error::new(ErrorKind::PermissionDenied, "broken")) })
        });
        assert_eq!(kind(failed.await), ErrorKind::PermissionDenied);
        assert_eq!(storage.calls(), 0);
    }

    /// "written promises are awaited": also if an access that waits for it is dropped.
    #[tokio::test]
    async fn a_promise_survives_a_dropped_access() {
        let storage = Counting::new();
        let session = sessions(&storage).open_lazy(42);
        let (keep, promise) = oneshot::channel();
        session
            .set_later(async move { promise.await.map_err(|_| Error::new(ErrorKind::Other, "broken")) })
            .unwrap();
        assert!(Box::pin(session.get()).as_mut().now_or_never().is_none());
        keep.send(7).unwrap();
        assert_eq!(soon(session.get()).await.unwrap(), 7);
        soon(session.save()).await.unwrap();
        assert_eq!(storage.text("42").await.unwrap(), "7");
    }

    /// "pending reads are waited for": by the save.
    #[tokio::test]
    async fn pending_reads_are_waited_for_by_the_save() {
        let storage = Counting::new();
        storage.put("42", "5").await;
        let gate = storage.gate_reads();
        let sessions = sessions(&storage);
        let task = Mutex::new(None);
        let mut update = Box::pin(sessions.update_lazy(42, async |session: LazySession<u32>| {
            // A read, and a change, that the handler does not wait for.
            *task.lock() = Some(tokio::spawn({
                let session = session.clone();
                async move { session.modify(|session| *session += 1).await }
            }));
            gate.arrived(1).await;
        }));
        assert!(update.as_mut().now_or_never().is_none());
        gate.arrived(1).await;
        for _ in 0..10 {
            assert!(update.as_mut().now_or_never().is_none());
            tokio::task::yield_now().await;
        }
        assert_eq!(storage.writes(), 0);
        gate.let_through(100);
        soon(update).await.unwrap();
        assert_eq!(storage.text("42").await.unwrap(), "6");
        let task = task.lock().take().unwrap();
        soon(task).await.unwrap().unwrap();
    }

    /// "handler fails", "lazy": a failed read is the error of the access, and can be retried.
    #[tokio::test]
    async fn a_failed_read_is_the_error_of_the_access() {
        let storage = Counting::new();
        storage.put("42", "5").await;
        storage.fail_read(ErrorKind::Unavailable);
        let given = sessions(&storage);
        let seen = given.update_lazy(42, async |session| {
            assert!(session.get().await.unwrap_err().is_retryable());
            session.get().await
        });
        assert_eq!(soon(seen).await.unwrap(), 5);
        assert_eq!(storage.writes(), 0);
    }
}

mod enhance {
    use super::*;

    fn enveloped(storage: &Counting) -> Sessions<u32> {
        Sessions::builder().storage(storage.clone()).envelope().build().unwrap()
    }

    /// Steps that record their runs.
    fn appending(numbers: &[f64]) -> Migrations {
        numbers.iter().fold(Migrations::new(), |migrations, &number| {
            migrations.step(number, move |mut seen: Vec<f64>| {
                seen.push(number);
                seen
            })
        })
    }

    fn migrating(storage: &Counting, migrations: Migrations) -> Sessions<Vec<f64>> {
        Sessions::builder().storage(storage.clone()).migrations(migrations).build().unwrap()
    }

    /// "reads and writes `__d`".
    #[tokio::test]
    async fn the_data_is_read_and_written_as_d() {
        let storage = Counting::new();
        let sessions = enveloped(&storage);
        sessions.update(42, async |mut session| *session = 7).await.unwrap();
        assert_eq!(storage.text("42").await.unwrap(), r#"{"__d":7}"#);
        storage.put("42", r#"{"__d":8}"#).await;
        assert_eq!(sessions.get(42).await.unwrap(), Some(8));
        // Also if no envelope was requested.
        assert_eq!(super::sessions(&storage).get(42).await.unwrap(), Some(8));
    }

    /// "reading a value with no `__d`: it is taken as legacy data and wrapped".
    #[tokio::test]
    async fn legacy_data_is_read_and_wrapped_when_it_is_written() {
        let storage = Counting::new();
        storage.put("42", "7").await;
        let sessions = enveloped(&storage);
        assert_eq!(sessions.get(42).await.unwrap(), Some(7));
        sessions.update(42, async |mut session| *session += 1).await.unwrap();
        assert_eq!(storage.text("42").await.unwrap(), r#"{"__d":8}"#);
        // The other names alone do not make an envelope.
        storage.put_json("1", json!({ "v": 1, "e": 2 })).await;
        let values: Sessions<Value> =
            Sessions::builder().storage(storage.clone()).envelope().build().unwrap();
        assert_eq!(values.get(1).await.unwrap(), Some(json!({ "v": 1, "e": 2 })));
    }

    /// "reads and writes `__d`": a session that has a member of that name itself is wrapped, so that it
    /// comes back as it was.
    #[tokio::test]
    async fn a_session_that_looks_like_an_envelope_comes_back_as_it_was() {
        let storage = Counting::new();
        let sessions: Sessions<Value> = Sessions::new(storage.clone()).unwrap();
        for value in [
            json!({ "__d": 7 }),
            json!({ "__d": { "__d": 7 }, "e": 1 }),
            json!({ "v": 99, "__d": [] }),
            json!({ "__d": null }),
            json!({ "deeper": { "__d": 7 } }),
            json!("__d"),
        ] {
            sessions.update(42, async |mut session| *session = value.clone()).await.unwrap();
            assert_eq!(sessions.get(42).await.unwrap(), Some(value.clone()));
            sessions.set(43, value.clone()).await.unwrap();
            assert_eq!(sessions.get(43).await.unwrap(), Some(value));
        }
    }

    /// "timeouts": `e` is counted from the last write, and the store ends the session by itself.
    #[tokio::test]
    async fn a_timeout_is_counted_from_the_last_write_and_the_store_keeps_it() {
        let storage = Counting::new();
        let sessions: Sessions<u32> = Sessions::builder()
            .storage(storage.clone())
            .envelope()
            .lifetime(Lifetime::after_write(LONG))
            .build()
            .unwrap();
        let mut last = 0;
        for number in 1..=2 {
            let before = unix_millis();
            sessions.update(42, async |mut session| *session = number).await.unwrap();
            let stored = storage.json("42").await.unwrap();
            assert_eq!(stored["__d"], number);
            let end = stored["e"].as_i64().unwrap();
            let long = LONG.as_millis() as i64;
            assert!((before + long..=unix_millis() + long).contains(&end));
            assert!(end > last);
            last = end;
            until("the clock goes on", async || unix_millis() > before + 5).await;
        }
        // An update that writes nothing does not count.
        sessions.update(42, async |_| ()).await.unwrap();
        assert_eq!(storage.json("42").await.unwrap()["e"], last);
        assert_eq!(storage.expiries(), [Expiry::After(LONG); 2]);
    }

    /// "timeout: checked on read (`e < now`)": an expired session of grammY counts as absent.
    #[tokio::test]
    async fn a_session_is_expired_after_its_e() {
        let storage = Counting::new();
        for session in [enveloped(&storage), super::sessions(&storage)] {
            storage.put("42", format!(r#"{{"__d":7,"e":{}}}"#, unix_millis() - 1)).await;
            assert_eq!(session.get(42).await.unwrap(), None);
            session
                .update(42, async |mut session| {
                    assert!(Session::is_new(&session));
                    *session += 1;
                })
                .await
                .unwrap();
            assert_eq!(session.get(42).await.unwrap(), Some(1));
            storage.put("42", format!(r#"{{"__d":7,"e":{}}}"#, unix_millis() + 3_600_000)).await;
            assert_eq!(session.get(42).await.unwrap(), Some(7));
        }
    }

    /// "no migrations given" (grammY throws), "requires migrations".
    #[tokio::test]
    async fn no_migrations_given_is_refused_when_built() {
        let built = Sessions::<u32>::builder().storage(Counting::new()).migrations(Migrations::new()).build();
        let error = built.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        assert!(error.message().contains("no migrations given"), "{error}");
    }

    /// "undefined is not migrated": without a session, no step runs.
    #[tokio::test]
    async fn an_absent_session_is_not_migrated() {
        let storage = Counting::new();
        let never = Migrations::new().step(1, |_: Value| -> Value { panic!("no step runs") });
        let sessions: Sessions<u32> =
            Sessions::builder().storage(storage.clone()).migrations(never).build().unwrap();
        assert_eq!(sessions.get(42).await.unwrap(), None);
        sessions.update(42, async |mut session| *session += 1).await.unwrap();
        // A new session has the current version.
        assert_eq!(storage.text("42").await.unwrap(), r#"{"v":1,"__d":1}"#);
        assert_eq!(sessions.get(42).await.unwrap(), Some(1));
    }

    /// "write and delete unchanged": they need no migration and no read of the old value.
    #[tokio::test]
    async fn setting_and_deleting_run_no_migration() {
        let storage = Counting::new();
        let never = Migrations::new().step(1, |_: Value| -> Value { panic!("no step runs") });
        let sessions: Sessions<u32> =
            Sessions::builder().storage(storage.clone()).migrations(never).build().unwrap();
        storage.put("42", "7").await;
        sessions.set(42, 8).await.unwrap();
        assert_eq!(storage.text("42").await.unwrap(), r#"{"v":1,"__d":8}"#);
        storage.put("42", "7").await;
        assert!(sessions.delete(42).await.unwrap());
        assert_eq!(storage.record("42").await, None);
    }

    /// "migrations from the start", "missing version", "missing `v` = older than all".
    #[tokio::test]
    async fn data_without_a_version_runs_all_migrations() {
        for stored in [json!([]), json!({ "__d": [] })] {
            let storage = Counting::new();
            storage.put_json("42", stored).await;
            // Given in any order.
            let sessions = migrating(&storage, appending(&[3.0, 1.0, 2.0]));
            assert_eq!(sessions.get(42).await.unwrap().unwrap(), [1.0, 2.0, 3.0]);
        }
    }

    /// "migrations from the middle".
    #[tokio::test]
    async fn data_with_a_version_runs_the_later_migrations() {
        let storage = Counting::new();
        let sessions = migrating(&storage, appending(&[1.0, 2.0, 3.0, 4.0]));
        for (version, seen) in [(0, vec![1.0, 2.0, 3.0, 4.0]), (2, vec![3.0, 4.0]), (3, vec![4.0])] {
            storage.put_json("42", json!({ "v": version, "__d": [] })).await;
            assert_eq!(sessions.get(42).await.unwrap().unwrap(), seen);
        }
    }

    /// "migrations: none when up to date".
    #[tokio::test]
    async fn current_data_runs_no_migrations() {
        let storage = Counting::new();
        let sessions = migrating(&storage, appending(&[1.0, 2.0]));
        storage.put_json("42", json!({ "v": 2, "__d": [] })).await;
        assert_eq!(sessions.get(42).await.unwrap().unwrap(), [0.0; 0]);
        sessions.update(42, async |_| ()).await.unwrap();
        assert_eq!(storage.writes(), 0);
    }

    /// "version numbers: any JavaScript number; Quirk: `parseInt` drops the fraction; ours: fractions
    /// work".
    #[tokio::test]
    async fn fractional_steps_run_in_numeric_order() {
        let storage = Counting::new();
        let sessions = migrating(&storage, appending(&[11.0, 10.1, 10.0, 9.5]));
        for (version, seen) in [
            (json!(9), vec![9.5, 10.0, 10.1, 11.0]),
            (json!(10), vec![10.1, 11.0]),
            (json!(10.05), vec![10.1, 11.0]),
            (json!(10.1), vec![11.0]),
            (json!(11.0), vec![]),
        ] {
            storage.put_json("42", json!({ "v": version, "__d": [] })).await;
            assert_eq!(sessions.get(42).await.unwrap().unwrap(), seen);
        }
        // And are written as they are.
        let sessions = migrating(&storage, appending(&[10.1]));
        sessions.set(42, Vec::new()).await.unwrap();
        assert_eq!(storage.text("42").await.unwrap(), r#"{"v":10.1,"__d":[]}"#);
    }

    /// "migrations: run on read, not written back until the next write".
    #[tokio::test]
    async fn migrated_data_is_saved_with_the_next_change() {
        let storage = Counting::new();
        let stored = r#"{"v":1,"__d":[]}"#;
        storage.put("42", stored).await;
        let sessions = migrating(&storage, appending(&[1.0, 2.0]));
        sessions.update(42, async |session| assert_eq!(*session, [2.0])).await.unwrap();
        sessions.update(42, async |mut session| session.retain(|_| true)).await.unwrap();
        sessions.update_lazy(42, async |session| session.get().await).await.unwrap();
        assert_eq!((storage.text("42").await.unwrap(), storage.writes()), (stored.to_owned(), 0));
        sessions.update(42, async |mut session| session.push(7.5)).await.unwrap();
        assert_eq!(storage.text("42").await.unwrap(), r#"{"v":2,"__d":[2.0,7.5]}"#);
    }

    /// "migrations: same, plus an option to write back".
    #[tokio::test]
    async fn migrated_data_is_saved_with_persist_migrated() {
        let storage = Counting::new();
        storage.put("42", r#"{"v":1,"__d":[]}"#).await;
        let sessions: Sessions<Vec<f64>> = Sessions::builder()
            .storage(storage.clone())
            .migrations(appending(&[1.0, 2.0]))
            .persist_migrated(true)
            .build()
            .unwrap();
        sessions.update(42, async |_| ()).await.unwrap();
        assert_eq!(storage.text("42").await.unwrap(), r#"{"v":2,"__d":[2.0]}"#);
        assert_eq!((storage.reads(), storage.writes()), (1, 1));
        // A current session is treated like any other.
        sessions.update(42, async |_| ()).await.unwrap();
        assert_eq!((storage.reads(), storage.writes()), (2, 1));
        // Also a lazy session that was read.
        storage.put("42", "[]").await;
        sessions.update_lazy(42, async |_| ()).await.unwrap();
        assert_eq!(storage.text("42").await.unwrap(), "[]");
        sessions.update_lazy(42, async |session| session.get().await).await.unwrap();
        assert_eq!(storage.text("42").await.unwrap(), r#"{"v":2,"__d":[1.0,2.0]}"#);
    }

    /// "stored version newer than the code; Quirk: passed through, then relabelled lower; ours: a clear
    /// error, nothing overwritten".
    #[tokio::test]
    async fn a_newer_version_is_an_error_and_nothing_is_overwritten() {
        let storage = Counting::new();
        let stored = r#"{"v":3.1,"__d":[]}"#;
        storage.put("42", stored).await;
        let plain: Sessions<Vec<f64>> = Sessions::new(storage.clone()).unwrap();
        for sessions in [migrating(&storage, appending(&[1.0, 3.0])), plain] {
            let error =
                sessions.update(42, async |mut session| Session::clear(&mut session)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::VersionTooNew);
            assert!(error.message().contains("newer program"), "{error}");
            assert_eq!(kind(sessions.update(42, async |mut s| s.push(1.0)).await), ErrorKind::VersionTooNew);
            assert_eq!(kind(sessions.get(42).await), ErrorKind::VersionTooNew);
            let lazily = sessions.update_lazy(42, async |session| session.modify(|s| s.push(1.0)).await);
            assert_eq!(kind(lazily.await), ErrorKind::VersionTooNew);
        }
        assert_eq!((storage.text("42").await.unwrap(), storage.writes()), (stored.to_owned(), 0));
    }

    /// Beyond grammY: a step that fails, or gets another type, does not change the stored session.
    #[tokio::test]
    async fn a_failing_step_leaves_the_stored_data() {
        let storage = Counting::new();
        storage.put("42", "[]").await;
        let failing = appending(&[1.0]).try_step(2, |_: Vec<f64>| {
            Err::<Vec<f64>, _>(Error::new(ErrorKind::PermissionDenied, "the step does not like it"))
        });
        let mistyped = appending(&[1.0]).step(2, |_: String| Vec::<f64>::new());
        let wrong_result = appending(&[1.0]).step(2, |_: Vec<f64>| "no list");
        for (migrations, expected) in [
            (failing, ErrorKind::PermissionDenied),
            (mistyped, ErrorKind::Codec),
            (wrong_result, ErrorKind::Codec),
        ] {
            let sessions = migrating(&storage, migrations);
            assert_eq!(kind(sessions.update(42, async |mut session| session.push(7.0)).await), expected);
            assert_eq!(kind(sessions.get(42).await), expected);
        }
        assert_eq!((storage.text("42").await.unwrap(), storage.writes()), ("[]".to_owned(), 0));
    }

    /// "async migrations; Quirk: not awaited; ours: supported".
    #[tokio::test]
    async fn async_steps_are_awaited() {
        let storage = Counting::new();
        storage.put("42", r#"{"v":1,"__d":[]}"#).await;
        let migrations = appending(&[1.0, 3.0]).async_step(2, |mut seen: Vec<f64>| async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            seen.push(2.0);
            Ok(seen)
        });
        let sessions = migrating(&storage, migrations);
        sessions.update(42, async |mut session| session.push(9.0)).await.unwrap();
        assert_eq!(storage.text("42").await.unwrap(), r#"{"v":3,"__d":[2.0,3.0,9.0]}"#);
    }

    /// A step can change the type.
    #[tokio::test]
    async fn steps_change_the_type() {
        let storage = Counting::new();
        storage.put_json("42", json!({ "petNames": ["Rex", "Míša"] })).await;
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Names {
            pet_names: Vec<String>,
        }
        let migrations = Migrations::new().step(1, |old: Names| old.pet_names).step(
            2,
            |names: Vec<String>| json!({ "pizzaCount": names.len(), "toppings": names, "nested": null }),
        );
        let sessions: Sessions<Pizza> =
            Sessions::builder().storage(storage.clone()).migrations(migrations).build().unwrap();
        let pizza = sessions.get(42).await.unwrap().unwrap();
        assert_eq!((pizza.pizza_count, pizza.toppings), (2, vec!["Rex".to_owned(), "Míša".to_owned()]));
    }

    /// "timeouts and migrations together".
    #[tokio::test]
    async fn timeouts_and_migrations_go_together() {
        let storage = Counting::new();
        let soon_over = unix_millis() + 3_600_000;
        storage.put_json("42", json!({ "v": 1, "__d": [], "e": soon_over })).await;
        let sessions: Sessions<Vec<f64>> = Sessions::builder()
            .storage(storage.clone())
            .migrations(appending(&[1.0, 2.0]))
            .lifetime(Lifetime::after_write(2 * LONG))
            .build()
            .unwrap();
        let before = unix_millis();
        sessions.update(42, async |mut session| session.push(7.0)).await.unwrap();
        let stored = storage.json("42").await.unwrap();
        assert_eq!((&stored["v"], &stored["__d"]), (&json!(2), &json!([2.0, 7.0])));
        assert!(stored["e"].as_i64().unwrap() >= before + 2 * LONG.as_millis() as i64);
        assert_eq!(storage.expiries(), [Expiry::After(2 * LONG)]);
        // An expired session is not even migrated.
        storage.put_json("42", json!({ "v": 1, "__d": "no list", "e": before - 1 })).await;
        assert_eq!(sessions.get(42).await.unwrap(), None);
    }

    // Sessions stored by the real grammY

    fn fixtures() -> Vec<(String, String)> {
        fn files(directory: &Path) -> Vec<PathBuf> {
            let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
            entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
        }
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/grammy/file-enhanced");
        let fixtures: Vec<_> = files(&directory)
            .into_iter()
            .map(|path| {
                let key = path.file_stem().unwrap().to_str().unwrap().to_owned();
                (key, std::fs::read_to_string(path).unwrap())
            })
            .collect();
        assert_eq!(fixtures.len(), 5);
        fixtures
    }

    fn expected() -> Value {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/grammy/expected.json");
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    /// The steps of the bot that wrote the fixtures, and one more.
    fn grammy_and(more: impl Into<Option<f64>>) -> Migrations {
        let seen = |_: Value| -> Value { panic!("grammY has run it") };
        let migrations = Migrations::new().step(1, seen).step(3, seen);
        let add = |mut session: serde_json::Map<String, Value>| {
            session.insert("migrated".to_owned(), true.into());
            session
        };
        match more.into() {
            Some(number) => migrations.step(number, add),
            None => migrations,
        }
    }

    /// The outer members of the saved session, with the numbers as text.
    fn shape(text: &str, version: &str) -> (Value, i64) {
        let rest = text.strip_prefix(&format!(r#"{{"v":{version},"__d":"#)).expect(text);
        let (data, end) = rest.rsplit_once(r#","e":"#).expect(text);
        let end = end.strip_suffix('}').expect(text);
        assert!(end.bytes().all(|byte| byte.is_ascii_digit()), "{text}");
        (serde_json::from_str(data).expect(text), end.parse().expect(text))
    }

    /// "`{"v": 3, "__d": <data>, "e": 1795310512273}`": grammY's sessions are read, migrated and saved
    /// in the shape that grammY reads.
    #[tokio::test]
    async fn sessions_of_grammy_are_read_migrated_and_saved_as_grammy_does() {
        let (storage, fifty_years) = (Counting::new(), Duration::from_secs(50 * 365 * 24 * 3600));
        for (key, text) in fixtures() {
            storage.put(&key, text).await;
        }
        for (number, text) in [(None, "3"), (Some(10.1), "10.1"), (Some(11.0), "11")] {
            let sessions: Sessions<Value> = Sessions::builder()
                .storage(storage.clone())
                .lifetime(Lifetime::after_write(fifty_years))
                .migrations(match number {
                    // The stored version is then 10.1.
                    Some(11.0) => Migrations::new().step(11, |session: Value| session),
                    number => grammy_and(number),
                })
                .build()
                .unwrap();
            for (key, data) in expected().as_object().unwrap() {
                let mut data = data.clone();
                if number.is_some() {
                    data["migrated"] = true.into();
                }
                // One run more than before.
                if number == Some(10.1) {
                    data["saved"] = 1.into();
                } else if number == Some(11.0) {
                    data["saved"] = 2.into();
                }
                assert_eq!(sessions.get(key).await.unwrap(), Some(data.clone()), "{key}");
                let before = unix_millis();
                sessions
                    .update(key, async |mut session| {
                        let saved = session["saved"].as_u64().unwrap_or_default();
                        session["saved"] = (saved + 1).into();
                    })
                    .await
                    .unwrap();
                let stored = storage.text(key).await.unwrap();
                let (saved, end) = shape(&stored, text);
                data["saved"] = (data["saved"].as_u64().unwrap_or_default() + 1).into();
                assert_eq!(saved, data, "{key}");
                let long = fifty_years.as_millis() as i64;
                assert!((before + long..=unix_millis() + long).contains(&end), "{key}");
            }
        }
    }

    /// Numbers are written as JavaScript writes them: no `.0`, no loss, the same exponent.
    #[tokio::test]
    async fn numbers_are_written_as_javascript_writes_them() {
        let storage = Counting::new();
        for (key, text) in fixtures() {
            storage.put(&key, text).await;
        }
        let sessions: Sessions<Value> = Sessions::builder()
            .storage(storage.clone())
            .migrations(grammy_and(10.1))
            .lifetime(Lifetime::after_write(LONG))
            .build()
            .unwrap();
        for key in ["314159", "-1001234567890"] {
            sessions.update(key, async |mut session| session["more"] = 1.into()).await.unwrap();
        }
        let text = storage.text("314159").await.unwrap();
        assert!(text.contains(r#""big":9007199254740991"#), "{text}");
        assert!(text.contains(r#""text":"line\nbreak\t\"quoted\" \\ back\u0001""#), "{text}");
        let text = storage.text("-1001234567890").await.unwrap();
        assert!(text.contains(r#"[1,2.5,-3e-7,null,true,false]"#), "{text}");
        // The unchanged end of grammY is written back exactly.
        let absolute: Sessions<Value> = Sessions::builder()
            .storage(storage.clone())
            .migrations(grammy_and(None))
            .lifetime(Lifetime::absolute(LONG))
            .build()
            .unwrap();
        absolute.update("424242", async |mut session| session["pizzaCount"] = 25.into()).await.unwrap();
        let text = storage.text("424242").await.unwrap();
        assert_eq!(text, r#"{"v":3,"__d":{"pizzaCount":25},"e":3372111949463}"#);
    }

    /// An unchanged session of grammY keeps its bytes.
    #[tokio::test]
    async fn a_read_leaves_the_bytes_of_grammy_unchanged() {
        let storage = Counting::new();
        let sessions: Sessions<Value> = Sessions::builder()
            .storage(storage.clone())
            .migrations(grammy_and(10.1))
            .lifetime(Lifetime::after_write(LONG))
            .build()
            .unwrap();
        for (key, text) in fixtures() {
            storage.put(&key, text.clone()).await;
            sessions.update(&key, async |session| assert_eq!(session["migrated"], true)).await.unwrap();
            assert_eq!(storage.text(&key).await.unwrap(), text);
        }
        assert_eq!(storage.writes(), 0);
    }

    /// Sessions that grammY wrote without `enhanceStorage` are legacy data, older than every step.
    #[tokio::test]
    async fn bare_sessions_of_grammy_run_all_migrations() {
        let storage = Counting::new();
        let sessions: Sessions<Value> = Sessions::builder()
            .storage(storage.clone())
            .migrations(Migrations::new().step(1, |data: Value| json!({ "old": data })))
            .build()
            .unwrap();
        for (key, data) in expected().as_object().unwrap() {
            storage.put_json(key, data.clone()).await;
            assert_eq!(sessions.get(key).await.unwrap(), Some(json!({ "old": data })));
        }
    }
}

mod memory {
    use super::*;

    /// "read, write, delete": sessions without a storage are in memory.
    #[cfg(feature = "memory")]
    #[tokio::test]
    async fn sessions_without_a_storage_are_in_memory() {
        let sessions = Sessions::<u32>::builder().build().unwrap();
        assert_eq!(sessions.get(42).await.unwrap(), None);
        sessions.set(42, 7).await.unwrap();
        assert_eq!(sessions.get(42).await.unwrap(), Some(7));
        // Clones share it; other sessions have their own.
        assert_eq!(sessions.clone().get(42).await.unwrap(), Some(7));
        assert_eq!(Sessions::<u32>::builder().build().unwrap().get(42).await.unwrap(), None);
        assert!(sessions.delete(42).await.unwrap());
        assert!(!sessions.delete(42).await.unwrap());
        assert_eq!(sessions.get(42).await.unwrap(), None);
    }

    /// "list all keys".
    #[tokio::test]
    async fn all_keys_are_listed() {
        let sessions = sessions(&Counting::new());
        for key in [1, 2, 3] {
            sessions.set(key, 7).await.unwrap();
        }
        let mut keys: Vec<_> = sessions.keys().try_collect().await.unwrap();
        keys.sort_unstable();
        assert_eq!(keys, ["1", "2", "3"]);
        let all: Vec<_> = sessions.all().collect().await;
        assert!(all.into_iter().all(|session| session.unwrap().1 == 7));
    }

    /// "timeouts".
    #[tokio::test]
    async fn timeouts_end_sessions() {
        let storage = Counting::new();
        let short = Duration::from_millis(50);
        let sessions: Sessions<u32> = Sessions::builder()
            .storage(storage.clone())
            .lifetime(Lifetime::after_write(short))
            .conflicts(ConflictPolicy::Fail)
            .build()
            .unwrap();
        let start = std::time::Instant::now();
        sessions.set(42, 7).await.unwrap();
        until("it has ended", async || sessions.get(42).await.unwrap().is_none()).await;
        assert!(start.elapsed() >= short);
        assert_eq!(storage.behind().ttl("42").await.unwrap(), None);
    }
}
