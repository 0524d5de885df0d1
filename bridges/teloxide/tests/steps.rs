//! The steps of a tree, tested with single updates.

#![allow(clippy::panic, clippy::unwrap_used, clippy::expect_used)] // A test fails by panicking.

use std::{ops::ControlFlow, sync::Arc};

use larder_bridge_tests::Poor;
use larder_core::{ErrorKind, Result};
use larder_memory::MemoryStorage;
use larder_teloxide::{
    By, Error, LarderStorage, LazySession, Sessions, enter_dialogue, enter_lazy_session, enter_session,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use teloxide::{
    dispatching::{UpdateFilterExt, UpdateHandler},
    dptree::{self, Type, deps, di::DependencyMap},
    prelude::Dialogue,
    types::Update,
};

const GROUP: i64 = -42;
const SUPERGROUP: i64 = -1_001_234_567_890;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
enum State {
    #[default]
    Start,
    Named(String),
}

type Dialogues = Arc<LarderStorage<State>>;
type MyDialogue = Dialogue<State, LarderStorage<State>>;
type Outcome = ControlFlow<Result<()>, DependencyMap>;

fn update(mut update: Value) -> Update {
    update["update_id"] = 1.into();
    // Parsed from text, because teloxide cannot read an update from a `Value`.
    serde_json::from_str(&update.to_string()).unwrap()
}

fn chat(id: i64) -> Value {
    let kind = if id > 0 {
        "private"
    } else if id > SUPERGROUP {
        "group"
    } else {
        "supergroup"
    };
    json!({ "id": id, "type": kind, "title": "", "first_name": "" })
}

/// Returns a message in a chat with this content.
fn message(id: i64, content: Value) -> Update {
    let user = json!({ "id": 7, "is_bot": false, "first_name": "Ann" });
    let mut message = json!({ "message_id": 1, "date": 1, "from": user, "chat": chat(id) });
    message.as_object_mut().unwrap().extend(content.as_object().unwrap().clone());
    update(json!({ "message": message }))
}

fn text(id: i64) -> Update {
    message(id, json!({ "text": "+1" }))
}

fn moves_to(group: i64, supergroup: i64) -> Update {
    message(group, json!({ "migrate_to_chat_id": supergroup }))
}

/// Returns an update without a chat.
fn inline_query() -> Update {
    let user = json!({ "id": 7, "is_bot": false, "first_name": "Ann" });
    update(json!({ "inline_query": { "id": "1", "from": user, "query": "", "offset": "" } }))
}

fn sessions(storage: &MemoryStorage) -> Sessions<u64> {
    Sessions::builder().storage(storage.clone()).build().unwrap()
}

async fn count(session: LazySession<u64>) -> Result<()> {
    session.modify(|count| *count += 1).await
}

fn counting(by: By) -> UpdateHandler<Error> {
    enter_session::<u64, Error>(by).endpoint(count)
}

async fn dispatch(tree: &UpdateHandler<Error>, sessions: &Sessions<u64>, update: Update) -> Outcome {
    tree.dispatch(deps![sessions.clone(), update]).await
}

#[track_caller]
fn done(outcome: Outcome) {
    match outcome {
        ControlFlow::Break(outcome) => outcome.unwrap(),
        ControlFlow::Continue(_) => panic!("no handler matched the update"),
    }
}

#[track_caller]
fn failed(outcome: Outcome) -> ErrorKind {
    match outcome {
        ControlFlow::Break(outcome) => outcome.unwrap_err().kind(),
        ControlFlow::Continue(_) => panic!("no handler matched the update"),
    }
}

#[tokio::test]
async fn an_update_without_a_session_continues_to_the_next_branch() {
    let storage = MemoryStorage::new();
    let dialogues: Dialogues = LarderStorage::new(storage.clone()).unwrap();
    let other = || dptree::endpoint(async || Ok(()));
    for step in [
        counting(By::Chat),
        counting(By::UserAndChat),
        counting(By::key(|_| None)),
        enter_lazy_session::<u64, Error>(By::Chat).endpoint(count),
        enter_dialogue::<State, Error>().endpoint(async |_: MyDialogue| panic!("the update has no chat")),
    ] {
        let tree = dptree::entry().branch(step).branch(other());
        let dependencies = deps![sessions(&storage), Arc::clone(&dialogues), inline_query()];
        done(tree.dispatch(dependencies).await);
    }
    assert_eq!(storage.len(), 0);
}

#[tokio::test]
async fn an_unhandled_update_continues_to_the_next_branch() {
    let storage = MemoryStorage::new();
    let dialogues: Dialogues = LarderStorage::new(storage.clone()).unwrap();
    for step in [enter_session::<u64, Error>(By::Chat), enter_dialogue::<State, Error>()] {
        let tree: UpdateHandler<Error> = dptree::entry()
            .branch(step.branch(Update::filter_callback_query().endpoint(async || Ok(()))))
            .branch(dptree::endpoint(async || Ok(())));
        done(tree.dispatch(deps![sessions(&storage), Arc::clone(&dialogues), text(GROUP)]).await);
    }
}

#[tokio::test]
async fn only_a_change_creates_a_session() {
    let storage = MemoryStorage::new();
    let sessions = sessions(&storage);
    let looking = enter_session::<u64, Error>(By::Chat).endpoint(async |session: LazySession<u64>| {
        assert_eq!(session.get().await?, 0);
        Ok(())
    });
    done(dispatch(&looking, &sessions, text(GROUP)).await);
    let unhandled =
        enter_session::<u64, Error>(By::Chat).branch(Update::filter_callback_query().endpoint(count));
    assert!(matches!(dispatch(&unhandled, &sessions, text(GROUP)).await, ControlFlow::Continue(_)));
    assert_eq!(storage.len(), 0);
    done(dispatch(&counting(By::Chat), &sessions, text(GROUP)).await);
    assert_eq!(sessions.get(GROUP).await.unwrap(), Some(1));
}

/// Changes are saved even if the update then continues to the next branch.
#[tokio::test]
async fn changes_are_saved_if_the_update_continues() {
    let sessions = sessions(&MemoryStorage::new());
    let tree: UpdateHandler<Error> =
        enter_session::<u64, Error>(By::Chat).filter_async(async |session: LazySession<u64>| {
            count(session).await.unwrap();
            false
        });
    assert!(matches!(dispatch(&tree, &sessions, text(GROUP)).await, ControlFlow::Continue(_)));
    assert_eq!(sessions.get(GROUP).await.unwrap(), Some(1));
}

#[tokio::test]
async fn users_have_separate_sessions_in_each_chat() {
    let sessions = sessions(&MemoryStorage::new());
    for (chat, expected) in [(GROUP, 1), (SUPERGROUP, 1), (GROUP, 2)] {
        done(dispatch(&counting(By::UserAndChat), &sessions, text(chat)).await);
        assert_eq!(sessions.get(format!("7/{chat}")).await.unwrap(), Some(expected));
    }
}

#[tokio::test]
async fn anonymous_senders_are_not_users() {
    let storage = MemoryStorage::new();
    for (id, name) in
        [(1_087_968_824, "GroupAnonymousBot"), (136_817_688, "Channel_Bot"), (777_000, "Telegram")]
    {
        let from = json!({ "id": id, "is_bot": true, "first_name": name, "username": name });
        let anonymous = message(GROUP, json!({ "from": from, "text": "+1" }));
        for by in [By::User, By::UserAndChat] {
            let outcome = dispatch(&counting(by), &sessions(&storage), anonymous.clone()).await;
            assert!(matches!(outcome, ControlFlow::Continue(_)), "{name}");
        }
    }
    assert_eq!(storage.len(), 0);
}

/// Either of the two messages is enough.
#[tokio::test]
async fn either_message_moves_the_session_of_a_group() {
    for told in [moves_to(GROUP, SUPERGROUP), message(SUPERGROUP, json!({ "migrate_from_chat_id": GROUP }))] {
        let sessions = sessions(&MemoryStorage::new());
        let tree = counting(By::Chat);
        done(dispatch(&tree, &sessions, text(GROUP)).await);
        done(dispatch(&tree, &sessions, told).await);
        done(dispatch(&tree, &sessions, text(SUPERGROUP)).await);
        for chat in [GROUP, SUPERGROUP] {
            assert_eq!(sessions.get(chat).await.unwrap(), Some(3));
        }
    }
}

/// Updates with both ids and both messages at the same time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_loses_no_update() {
    for _ in 0..20 {
        let sessions = sessions(&MemoryStorage::new());
        let tree = counting(By::Chat);
        done(dispatch(&tree, &sessions, text(GROUP)).await);
        let workers = [
            vec![moves_to(GROUP, SUPERGROUP)],
            vec![
                message(SUPERGROUP, json!({ "migrate_from_chat_id": GROUP })),
                text(SUPERGROUP),
                text(SUPERGROUP),
            ],
        ];
        let workers = workers.map(|updates| {
            let (tree, sessions) = (tree.clone(), sessions.clone());
            tokio::spawn(async move {
                for update in updates {
                    done(dispatch(&tree, &sessions, update).await);
                }
            })
        });
        for worker in workers {
            worker.await.unwrap();
        }
        assert_eq!(sessions.get(SUPERGROUP).await.unwrap(), Some(5));
    }
}

#[tokio::test]
async fn two_sessions_of_one_group_are_an_error_without_a_merge() {
    let sessions = sessions(&MemoryStorage::new());
    let tree = counting(By::Chat);
    for chat in [GROUP, SUPERGROUP, SUPERGROUP] {
        done(dispatch(&tree, &sessions, text(chat)).await);
    }
    assert_eq!(failed(dispatch(&tree, &sessions, moves_to(GROUP, SUPERGROUP)).await), ErrorKind::Conflict);
    assert_eq!(sessions.get(GROUP).await.unwrap(), Some(1));
    assert_eq!(sessions.get(SUPERGROUP).await.unwrap(), Some(2));
}

#[tokio::test]
async fn user_sessions_are_unaffected_by_a_group_move() {
    let storage = MemoryStorage::new();
    let sessions = sessions(&storage);
    done(dispatch(&counting(By::User), &sessions, moves_to(GROUP, SUPERGROUP)).await);
    assert_eq!(sessions.get(7).await.unwrap(), Some(1));
    assert_eq!(storage.len(), 1, "only the session is stored, without a redirect");
}

#[tokio::test]
async fn a_dialogue_begins_with_its_stored_default() {
    let storage = MemoryStorage::new();
    let dialogues: Dialogues = LarderStorage::new(storage.clone()).unwrap();
    let tree = enter_dialogue::<State, Error>().endpoint(async |dialogue: MyDialogue, state: State| {
        assert_eq!(state, State::Start);
        dialogue.exit().await.unwrap();
        Ok(())
    });
    for _ in 0..2 {
        done(tree.dispatch(deps![Arc::clone(&dialogues), text(GROUP)]).await);
    }
}

#[tokio::test]
async fn a_dialogue_that_cannot_follow_its_group_starts_again() {
    let dialogues: Dialogues = LarderStorage::new(Poor::default()).unwrap();
    let named = State::Named("Ann".to_owned());
    Dialogue::<State, _>::new(Arc::clone(&dialogues), teloxide::types::ChatId(GROUP))
        .update(named)
        .await
        .unwrap();
    let tree = enter_dialogue::<State, Error>().endpoint(async |dialogue: MyDialogue, state: State| {
        assert_eq!(state == State::Start, dialogue.chat_id().0 == SUPERGROUP);
        Ok(())
    });
    for update in [moves_to(GROUP, SUPERGROUP), text(SUPERGROUP)] {
        done(tree.dispatch(deps![Arc::clone(&dialogues), update]).await);
    }
}

/// The updates that a bot requests from Telegram.
#[test]
fn the_bot_requests_only_updates_for_its_handlers_and_moves() {
    let presses = || Update::filter_callback_query().endpoint(async || Ok::<_, Error>(()));
    for (tree, expected) in [
        (enter_session::<u64, _>(By::User).branch(presses()), &["CallbackQuery"][..]),
        (enter_lazy_session::<u64, _>(By::UserAndChat).branch(presses()), &["CallbackQuery"]),
        (enter_session::<u64, _>(By::Chat).branch(presses()), &["CallbackQuery", "Message"]),
        (enter_dialogue::<State, _>().branch(presses()), &["CallbackQuery", "Message"]),
    ] {
        let description = format!("{:?}", tree.description());
        let observed = description.split("filtered").next().unwrap();
        assert_eq!(observed.matches("Kind(").count(), expected.len(), "{description}");
        assert!(expected.iter().all(|kind| observed.contains(&format!("Kind({kind})"))), "{description}");
    }
}

#[test]
fn dependencies_are_checked_before_the_bot_runs() {
    let built = |tree: UpdateHandler<Error>, dependencies: DependencyMap| {
        let check = || dptree::type_check(tree.sig(), &dependencies, &[Type::of::<Update>()]);
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(check)).is_ok()
    };
    let storage = MemoryStorage::new();
    let dialogues: Dialogues = LarderStorage::new(storage.clone()).unwrap();
    let talking = || enter_dialogue::<State, Error>().endpoint(async |_: MyDialogue, _: State| Ok(()));
    assert!(built(counting(By::Chat), deps![sessions(&storage)]));
    assert!(built(talking(), deps![dialogues]));
    assert!(!built(counting(By::Chat), deps![]));
    assert!(!built(talking(), deps![]));
}
