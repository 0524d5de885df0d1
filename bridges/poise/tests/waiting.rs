//! Commands that wait for an open session, and commands that are refused.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test fails by panicking.

mod support;

use std::{fmt, time::Duration};

use larder_memory::MemoryStorage;
use larder_poise::{CommandSessions, Error, ErrorKind, KvSessions, Open, Origin, Result, Scope, Sessions};
use poise::serenity_prelude::{CommandInteraction, Message};
use serde_json::{Value, json};

use self::support::{CHANNEL, DIRECT, PATIENCE, Place, bot, command, nelly, payload};

fn sessions() -> CommandSessions {
    bot::sessions(MemoryStorage::new(), Scope::User)
}

/// Returns the origin of a message from nelly.
fn message(id: u64, place: Place) -> Origin {
    let mut message = payload::message(&nelly(), place, "!count");
    message["id"] = json!(id.to_string());
    Origin::from(&serde_json::from_value::<Message>(message).unwrap())
}

/// Returns the origin of a command from nelly.
fn interaction(id: u64, place: Place) -> Origin {
    let mut interaction = command(&nelly(), place, "count");
    interaction["id"] = json!(id.to_string());
    Origin::from(&serde_json::from_value::<CommandInteraction>(interaction).unwrap())
}

/// Polls the future once and checks that it waits.
macro_rules! waiting {
    ($future:expr) => {{
        let mut future = Box::pin($future);
        tokio::select! {
            biased;
            done = &mut future => panic!("the future does not wait: {done:?}"),
            () = std::future::ready(()) => {}
        }
        future
    }};
}

/// Fails if the future waits for itself, which would otherwise take five minutes.
async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("the future does not wait for itself")
}

fn refused<T: fmt::Debug>(outcome: Result<T>) {
    let error: Error = outcome.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("this command already has the session open"), "{error}");
}

async fn count(sessions: &CommandSessions, origin: Origin) -> Result<()> {
    let counted = sessions.of(origin).update(async |mut session| {
        let count = session.get("count")?.unwrap_or(0_u64) + 1;
        session.set("count", count)
    });
    counted.await
}

#[tokio::test]
async fn two_events_of_one_user_take_turns() {
    for event in [interaction, message] {
        let sessions = sessions();
        let (one, another) = (event(101, CHANNEL), event(102, CHANNEL));
        let open = sessions.of(one).open().await.unwrap();
        let opening = waiting!(sessions.of(another).open());
        Open::save(open).await.unwrap();
        Open::save(soon(opening).await.unwrap()).await.unwrap();
    }
}

/// serenity passes a message to an event handler and to the framework in this way.
#[tokio::test]
async fn tasks_with_one_event_take_turns() {
    const TASKS: u64 = 8;
    for event in [interaction, message] {
        let sessions = sessions();
        let origin = event(101, CHANNEL);
        // The command opens the session first, and keeps it open until all tasks wait for it.
        let mut open = sessions.of(origin).open().await.unwrap();
        let (began, mut begun) = tokio::sync::mpsc::unbounded_channel();
        let counting: Vec<_> = (0..TASKS)
            .map(|number| {
                let (sessions, began) = (sessions.clone(), began.clone());
                tokio::spawn(async move {
                    if number % 2 == 0 {
                        let counted = waiting!(count(&sessions, origin));
                        began.send(()).unwrap();
                        return counted.await;
                    }
                    let opening = waiting!(sessions.of(origin).open());
                    began.send(()).unwrap();
                    let mut session = opening.await?;
                    let count = session.get("count")?.unwrap_or(0_u64) + 1;
                    session.set("count", count)?;
                    Open::save(session).await
                })
            })
            .collect();
        for _ in 0..TASKS {
            soon(begun.recv()).await.expect("each task waits");
        }
        open.set("count", 1).unwrap();
        Open::save(open).await.unwrap();
        for counted in counting {
            soon(counted).await.unwrap().unwrap();
        }
        assert_eq!(sessions.of(origin).get("count").await.unwrap(), Some(TASKS + 1));
    }
}

/// Otherwise the command that has opened it could never open it again.
#[tokio::test]
async fn a_session_saved_by_another_task_can_be_opened_again() {
    let sessions = sessions();
    let origin = message(101, CHANNEL);
    for end in ["saved", "dropped"] {
        let open = sessions.of(origin).open().await.unwrap();
        let ending =
            tokio::spawn(async move { if end == "saved" { Open::save(open).await } else { Ok(()) } });
        ending.await.unwrap().unwrap();
        soon(count(&sessions, origin)).await.expect(end);
    }
}

/// The claim stays with the task that has opened the session, even if another task has it.
#[tokio::test]
async fn a_session_moved_to_another_task_is_refused_to_its_opener() {
    let sessions = sessions();
    let origin = message(101, CHANNEL);
    let open = sessions.of(origin).open().await.unwrap();
    let (save, told) = tokio::sync::oneshot::channel::<()>();
    let saving = tokio::spawn(async move {
        told.await.unwrap();
        Open::save(open).await
    });
    refused(soon(count(&sessions, origin)).await);
    save.send(()).unwrap();
    saving.await.unwrap().unwrap();
    soon(count(&sessions, origin)).await.unwrap();
}

/// The spawned task cannot be distinguished from an independent one, so the wait ends at the timeout.
#[tokio::test]
async fn a_deadlock_through_a_spawned_task_ends_at_the_timeout() {
    let timeout = Duration::from_millis(50);
    let sessions = KvSessions::builder().with(|sessions| sessions.queue_timeout(timeout));
    let sessions = sessions.storage(MemoryStorage::new()).build().unwrap();
    let sessions = CommandSessions::new(sessions, Scope::User);
    let origin = message(101, CHANNEL);
    let open = sessions.of(origin).open().await.unwrap();
    let counting = tokio::spawn({
        let sessions = sessions.clone();
        async move { count(&sessions, origin).await }
    });
    assert_eq!(soon(counting).await.unwrap().unwrap_err().kind(), ErrorKind::Timeout);
    Open::save(open).await.unwrap();
}

#[tokio::test]
async fn joining_two_futures_for_one_session_is_refused() {
    let sessions = sessions();
    let origin = message(101, CHANNEL);
    let open = async {
        let session = sessions.of(origin).open().await?;
        tokio::task::yield_now().await;
        Open::save(session).await
    };
    let (saved, counted) = soon(async { tokio::join!(open, count(&sessions, origin)) }).await;
    saved.unwrap();
    refused(counted);
}

/// Clones of sessions share one queue, whichever scope makes the key.
#[tokio::test]
async fn scopes_with_the_same_key_share_a_queue() {
    let sessions = KvSessions::builder().storage(MemoryStorage::new()).build().unwrap();
    let users = CommandSessions::new(sessions.clone(), Scope::User);
    let guilds = CommandSessions::with_key(sessions, |origin: &Origin| match origin.guild() {
        Some(_) => Scope::Guild.key(origin),
        None => Scope::User.key(origin),
    });
    let (direct, in_guild) = (message(101, DIRECT), message(102, CHANNEL));
    for (one, other) in [(&users, &guilds), (&guilds, &users)] {
        let open = one.of(direct).open().await.unwrap();
        refused(soon(other.of(direct).open()).await);
        refused(soon(count(other, direct)).await);
        refused(soon(other.of(direct).delete()).await);
        Open::save(open).await.unwrap();
        count(other, direct).await.unwrap();
    }
    // Other keys are independent.
    let open = users.of(in_guild).open().await.unwrap();
    soon(count(&guilds, in_guild)).await.unwrap();
    Open::save(open).await.unwrap();
}

/// Equal keys of separate sessions are separate sessions.
#[tokio::test]
async fn other_sessions_with_the_same_key_are_independent() {
    let origin = message(101, CHANNEL);
    let (one, other) = (sessions(), sessions());
    let open = one.of(origin).open().await.unwrap();
    soon(count(&other, origin)).await.unwrap();
    Open::save(soon(other.of(origin).open()).await.unwrap()).await.unwrap();
    Open::save(open).await.unwrap();
}

#[tokio::test]
async fn an_open_typed_session_is_refused() {
    let coins = Sessions::<u64>::builder().storage(MemoryStorage::new()).build().unwrap();
    let coins = CommandSessions::new(coins, Scope::User);
    let origin = interaction(101, CHANNEL);
    let mut open = coins.of(origin).open().await.unwrap();
    *open += 1;
    refused(soon(coins.of(origin).open()).await);
    refused(soon(coins.of(origin).update(async |mut coins| *coins += 10)).await);
    refused(soon(coins.of(origin).modify(|coins| *coins += 10)).await);
    refused(soon(coins.of(origin).update_once(async |mut coins| *coins += 10)).await);
    refused(soon(coins.of(origin).delete()).await);
    Open::save(open).await.unwrap();
    assert_eq!(coins.of(origin).get().await.unwrap(), Some(1));
}

/// The command runs again when its message is edited. It waits for its turn, because the edit is another
/// event.
#[tokio::test]
async fn an_edited_message_takes_its_turn() {
    let message = |edited: Value| {
        let mut message = payload::message(&nelly(), CHANNEL, "!count");
        message["edited_timestamp"] = edited;
        Origin::from(&serde_json::from_value::<Message>(message).unwrap())
    };
    let (first, edited) = (message(Value::Null), message("2026-01-12T23:41:14.855000+00:00".into()));
    let sessions = sessions();
    let open = sessions.of(first).await.unwrap();
    refused(soon(sessions.of(first).open()).await);
    let opening = waiting!(sessions.of(edited).open());
    Open::save(open).await.unwrap();
    Open::save(soon(opening).await.unwrap()).await.unwrap();
}
