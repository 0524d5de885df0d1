//! Laws of the storage of dialogues on every store.

#![allow(clippy::panic, clippy::unwrap_used, clippy::expect_used)] // A case fails by panicking.

use std::{sync::Arc, time::Duration};

use larder_bridge_tests::{Stores, on_every_adapter};
use larder_core::{Bytes, ErrorKind, Expiry, Key};
use larder_teloxide::{
    DialogueError, LarderStorage, LarderStorageBuilder, Lifetime, Migrations, Undecodable,
};
use larder_testkit::{Handle, Must, Suite, Target, race, until};
use serde::{Deserialize, Serialize};
use serde_json::json;
use teloxide::{dispatching::dialogue::Storage as _, prelude::Dialogue, types::ChatId};

const CHAT: ChatId = ChatId(42);
const GROUP: ChatId = ChatId(-424_242);
const SUPERGROUP: ChatId = ChatId(-1_001_234_567_890);
const HOUR: Duration = Duration::from_secs(3600);
const SOON: Duration = Duration::from_millis(400);
/// The timeout for an expected event.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() {
    on_every_adapter(cases).main()
}

fn cases(suite: Suite<Stores>) -> Suite<Stores> {
    suite
        .without_laws()
        .case("an_updated_state_is_read_unchanged", |context| updated(context.target))
        .case("the_state_is_stored_as_json", |context| stored(context.target))
        .case("a_removed_dialogue_is_gone_and_cannot_be_removed_again", |context| removed(context.target))
        .case("bots_with_different_prefixes_are_separate", |context| prefixes(context.target))
        .case("a_dialogue_expires_after_its_last_change", |context| expires(context.target))
        .case("a_lookup_extends_a_sliding_dialogue", |context| slides(context.target))
        .case("an_undecodable_state_is_an_error_and_unchanged", |context| undecodable(context.target))
        .case("an_undecodable_state_is_reset_with_the_reset_policy", |context| reset(context.target))
        .case("an_older_state_is_migrated", |context| migrated(context.target))
        .case("a_newer_state_is_an_error_and_unchanged", |context| newer(context.target))
        .case("a_dialogue_follows_its_group", |context| moves(context.target))
        .case("a_moved_dialogue_wins_over_a_new_one", |context| meets(context.target))
        .case("concurrent_updates_all_succeed", |context| racing(context.target))
        .case("chats_are_separate", |context| chats(context.target))
        .case("dialogues_of_teloxides_redis_storage_are_read", |context| takes_over(context.target))
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
enum State {
    #[default]
    Start,
    ReceiveFullName,
    ReceiveProductChoice {
        full_name: String,
    },
}

fn choice(full_name: impl Into<String>) -> State {
    State::ReceiveProductChoice { full_name: full_name.into() }
}

type Dialogues = Arc<LarderStorage<State>>;

async fn open(target: &Target) -> (Handle, Dialogues) {
    open_with(target, |builder| builder).await
}

async fn open_with(
    target: &Target,
    set_up: impl FnOnce(LarderStorageBuilder<State>) -> LarderStorageBuilder<State>,
) -> (Handle, Dialogues) {
    let handle = target.open().await;
    let builder = LarderStorage::builder((*handle).clone());
    (handle, set_up(builder).build().must("set up the dialogues"))
}

async fn get(dialogues: &Dialogues, chat: ChatId) -> Option<State> {
    Arc::clone(dialogues).get_dialogue(chat).await.must("get the dialogue")
}

async fn update(dialogues: &Dialogues, chat: ChatId, state: State) {
    Arc::clone(dialogues).update_dialogue(chat, state).await.must("update the dialogue");
}

fn key(chat: ChatId) -> Key {
    Key::new(format!("dialogue:{chat}")).unwrap()
}

/// Returns the kind of the storage's error.
#[track_caller]
fn kind<T: std::fmt::Debug>(outcome: Result<T, DialogueError>) -> ErrorKind {
    match outcome {
        Err(DialogueError::Storage(error)) => error.kind(),
        outcome => panic!("not an error of the storage: {outcome:?}"),
    }
}

async fn updated(target: Target) {
    let (_, dialogues) = open(&target).await;
    assert_eq!(get(&dialogues, CHAT).await, None);
    let names = ["Ann", "", "名前 \u{0} \" \\ \n 🍕", &"x".repeat(100_000)];
    for state in names.map(choice).into_iter().chain([State::Start, State::ReceiveFullName]) {
        update(&dialogues, CHAT, state.clone()).await;
        assert_eq!(get(&dialogues, CHAT).await, Some(state));
    }
    let dialogue = Dialogue::<State, _>::new(Arc::clone(&dialogues), CHAT);
    dialogue.exit().await.must("exit");
    assert_eq!(dialogue.get_or_default().await.must("begin"), State::Start);
    assert_eq!(
        dialogue.get().await.must("get"),
        Some(State::Start),
        "the dialogue has begun, as in teloxide"
    );
}

async fn stored(target: Target) {
    let (handle, dialogues) = open(&target).await;
    update(&dialogues, CHAT, choice("Ann")).await;
    let value = Bytes::from_static(br#"{"ReceiveProductChoice":{"full_name":"Ann"}}"#);
    handle.holds(&key(CHAT), &value, "the state").await;
    update(&dialogues, CHAT, State::Start).await;
    handle.holds(&key(CHAT), &Bytes::from_static(br#""Start""#), "the state").await;
    assert_eq!(handle.listed("").await.len(), 1);
}

async fn removed(target: Target) {
    let (handle, dialogues) = open(&target).await;
    update(&dialogues, CHAT, State::Start).await;
    Arc::clone(&dialogues).remove_dialogue(CHAT).await.must("remove");
    handle.lacks(&key(CHAT), "after it was removed").await;
    assert_eq!(get(&dialogues, CHAT).await, None);
    let again = dialogues.remove_dialogue(CHAT).await;
    assert!(matches!(again, Err(DialogueError::NotFound)), "{again:?}");
}

async fn prefixes(target: Target) {
    let (handle, shop) = open_with(&target, |builder| builder.prefix("shop:")).await;
    let bank = LarderStorage::builder((*handle).clone()).prefix("bank:").build().must("set up another");
    update(&shop, CHAT, choice("Ann")).await;
    assert_eq!(get(&bank, CHAT).await, None);
    update(&bank, CHAT, choice("Bob")).await;
    bank.remove_dialogue(CHAT).await.must("remove");
    assert_eq!(get(&shop, CHAT).await, Some(choice("Ann")));
    assert_eq!(handle.listed("").await, ["shop:42".to_owned()].into());
}

async fn expires(target: Target) {
    let (handle, dialogues) =
        open_with(&target, |builder| builder.lifetime(Lifetime::after_write(SOON))).await;
    update(&dialogues, CHAT, choice("Ann")).await;
    until("the dialogue expires", PATIENCE, || async { get(&dialogues, CHAT).await.is_none() }).await;
    handle.lacks(&key(CHAT), "after its lifetime").await;
    let gone = Arc::clone(&dialogues).remove_dialogue(CHAT).await;
    assert!(matches!(gone, Err(DialogueError::NotFound)), "{gone:?}");
    update(&dialogues, CHAT, State::Start).await;
    let left = dialogues.sessions().ttl(CHAT.0).await.must("ttl");
    assert!(matches!(left, Some(Expiry::After(left)) if left <= SOON) || left.is_none(), "{left:?}");
}

async fn slides(target: Target) {
    let lifetime = Lifetime::sliding(HOUR).touch_every(Duration::ZERO);
    let (handle, dialogues) = open_with(&target, |builder| builder.lifetime(lifetime)).await;
    update(&dialogues, CHAT, choice("Ann")).await;
    assert!(handle.touch(key(CHAT), Expiry::After(HOUR / 2)).await.must("shorten its lifetime"));
    assert_eq!(get(&dialogues, CHAT).await, Some(choice("Ann")));
    let left = handle.ttl(&key(CHAT)).await.must("ttl");
    assert!(matches!(left, Some(Expiry::After(left)) if left > HOUR * 3 / 4), "{left:?}");
}

/// Returns values that other programs might have stored under the key.
fn foreign() -> impl Iterator<Item = Bytes> {
    let texts = [
        r#"{"ReceiveFirstName":null}"#,
        r#"{"ReceiveProductChoice":{"name":"secret"}}"#,
        r#"{"id":"secret","expires":"2031-05-01T12:00:00Z","data":{}}"#,
        r#"["secret"]"#,
        r#""secret""#,
        "42",
    ];
    texts.into_iter().map(|text| Bytes::from_static(text.as_bytes()))
}

async fn undecodable(target: Target) {
    let (handle, dialogues) = open(&target).await;
    for value in foreign() {
        handle.put(&key(CHAT), &value).await;
        let dialogue = Dialogue::<State, _>::new(Arc::clone(&dialogues), CHAT);
        for outcome in [
            dialogue.get().await.map(drop),
            dialogue.get_or_default().await.map(drop),
            dialogue.update(State::Start).await,
            dialogue.reset().await,
        ] {
            let text = format!("{outcome:?}");
            assert_eq!(kind(outcome), ErrorKind::Codec);
            assert!(!text.contains("secret"), "{text}");
            handle.holds(&key(CHAT), &value, "a foreign value").await;
        }
        // Only a removal ends the errors.
        dialogue.exit().await.must("exit");
        assert_eq!(dialogue.get().await.must("get"), None);
    }
}

async fn reset(target: Target) {
    let (handle, dialogues) = open_with(&target, |builder| builder.undecodable(Undecodable::Reset)).await;
    for value in foreign() {
        handle.put(&key(CHAT), &value).await;
        assert_eq!(get(&dialogues, CHAT).await, None);
        handle.holds(&key(CHAT), &value, "until the dialogue starts again").await;
        update(&dialogues, CHAT, choice("Ann")).await;
        assert_eq!(get(&dialogues, CHAT).await, Some(choice("Ann")));
    }
}

/// Version 1 had another name for the product choice.
fn migrations() -> Migrations {
    #[derive(Deserialize)]
    enum Old {
        Start,
        ReceiveFullName,
        Choice(String),
    }
    Migrations::new().step(2, |old: Old| match old {
        Old::Start => State::Start,
        Old::ReceiveFullName => State::ReceiveFullName,
        Old::Choice(full_name) => choice(full_name),
    })
}

async fn migrated(target: Target) {
    let (handle, dialogues) = open_with(&target, |builder| builder.migrations(migrations())).await;
    for (old, new) in [(json!({ "Choice": "Ann" }), choice("Ann")), (json!("Start"), State::Start)] {
        handle.put(&key(CHAT), &old.to_string().into()).await;
        assert_eq!(get(&dialogues, CHAT).await, Some(new.clone()));
        update(&dialogues, CHAT, State::ReceiveFullName).await;
        let value = Bytes::from_static(br#"{"v":2,"__d":"ReceiveFullName"}"#);
        handle.holds(&key(CHAT), &value, "the state of the new version").await;
        assert_eq!(get(&dialogues, CHAT).await, Some(State::ReceiveFullName));
        Arc::clone(&dialogues).remove_dialogue(CHAT).await.must("remove");
    }
}

async fn newer(target: Target) {
    let value = Bytes::from_static(br#"{"v":3,"__d":"Start"}"#);
    for policy in [Undecodable::Error, Undecodable::Reset] {
        let set_up = |builder: LarderStorageBuilder<State>| builder.undecodable(policy);
        for with_migrations in [false, true] {
            let (handle, dialogues) = open_with(&target, |builder| {
                if with_migrations { set_up(builder).migrations(migrations()) } else { set_up(builder) }
            })
            .await;
            handle.put(&key(CHAT), &value).await;
            let dialogue = Dialogue::<State, _>::new(dialogues, CHAT);
            assert_eq!(kind(dialogue.get().await), ErrorKind::VersionTooNew);
            assert_eq!(kind(dialogue.get_or_default().await), ErrorKind::VersionTooNew);
            assert_eq!(kind(dialogue.update(choice("Ann")).await), ErrorKind::VersionTooNew);
            handle.holds(&key(CHAT), &value, "a newer program's state").await;
        }
    }
}

async fn moves(target: Target) {
    let (_, dialogues) = open(&target).await;
    update(&dialogues, GROUP, choice("Ann")).await;
    for _ in 0..2 {
        dialogues.move_chat(GROUP, SUPERGROUP).await.must("move");
        assert_eq!(get(&dialogues, GROUP).await, Some(choice("Ann")));
        assert_eq!(get(&dialogues, SUPERGROUP).await, Some(choice("Ann")));
    }
    update(&dialogues, GROUP, choice("Bob")).await;
    assert_eq!(get(&dialogues, SUPERGROUP).await, Some(choice("Bob")), "both ids have the same dialogue");
    Arc::clone(&dialogues).remove_dialogue(SUPERGROUP).await.must("remove");
    assert_eq!(get(&dialogues, GROUP).await, None);
}

async fn meets(target: Target) {
    let (_, dialogues) = open(&target).await;
    update(&dialogues, GROUP, choice("Ann")).await;
    update(&dialogues, SUPERGROUP, State::Start).await;
    dialogues.move_chat(GROUP, SUPERGROUP).await.must("move");
    assert_eq!(get(&dialogues, SUPERGROUP).await, Some(choice("Ann")));
}

async fn racing(target: Target) {
    let (_, dialogues) = open(&target).await;
    let other = open(&target).await.1;
    let states = race(8, |task| {
        // Half of the tasks use a separate handle, like another process.
        let dialogues = Arc::clone(if task % 2 == 0 { &dialogues } else { &other });
        async move {
            let state = choice(task.to_string());
            update(&dialogues, CHAT, state.clone()).await;
            state
        }
    })
    .await;
    let last = get(&dialogues, CHAT).await.must("have a state");
    assert!(states.contains(&last), "the last state is one of the written states: {last:?}");
}

async fn chats(target: Target) {
    let (_, dialogues) = open(&target).await;
    let chats = [0, 1, -1, 12, 123, i64::MAX, i64::MIN].map(ChatId);
    for chat in chats {
        update(&dialogues, chat, choice(chat.to_string())).await;
    }
    for chat in chats {
        assert_eq!(get(&dialogues, chat).await, Some(choice(chat.to_string())));
    }
}

/// teloxide's `RedisStorage` with its serializer `Json` stores this value under the chat's id.
async fn takes_over(target: Target) {
    let (handle, dialogues) = open_with(&target, |builder| builder.prefix("")).await;
    let theirs = serde_json::to_vec(&choice("Ann")).unwrap();
    handle.put(&Key::new("42").unwrap(), &theirs.into()).await;
    assert_eq!(get(&dialogues, CHAT).await, Some(choice("Ann")));
    update(&dialogues, CHAT, State::Start).await;
    let ours = serde_json::to_vec(&State::Start).unwrap();
    handle.holds(&Key::new("42").unwrap(), &Bytes::from(ours), "the state in teloxide's format").await;
}
