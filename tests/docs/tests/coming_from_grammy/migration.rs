//! A group becomes a supergroup.

use futures_util::{TryStreamExt, future::try_join_all};
use larder_session::{ErrorKind, key};

use super::*;

/// The relevant part of a Telegram message.
struct Message {
    chat_id: i64,
    migrate_to_chat_id: Option<i64>,
    migrate_from_chat_id: Option<i64>,
}

async fn on_any_message(
    chats: &Sessions<Chat>,
    message: &Message,
) -> Result<()> {
    if let Some(new_id) = message.migrate_to_chat_id {
        chats.move_key(message.chat_id, new_id).await?;
    }
    if let Some(old_id) = message.migrate_from_chat_id {
        chats.move_key(old_id, message.chat_id).await?;
    }
    Ok(())
}

fn merging(storage: Store) -> Result<Sessions<Chat>> {
    let chats: Sessions<Chat> = Sessions::builder()
        .storage(storage)
        .merge(|old: Chat, new: Chat| Chat {
            pizza_count: old.pizza_count + new.pizza_count,
        })
        .build()?;
    Ok(chats)
}

const OLD: i64 = -4242;
const NEW: i64 = -1_001_234_567_890;

fn service_messages() -> [Message; 2] {
    [
        Message {
            chat_id: OLD,
            migrate_to_chat_id: Some(NEW),
            migrate_from_chat_id: None,
        },
        Message {
            chat_id: NEW,
            migrate_to_chat_id: None,
            migrate_from_chat_id: Some(OLD),
        },
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_loses_no_update_in_any_order() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display();
    // With unique versions, and with the content as the version.
    for url in [
        "memory:".to_owned(),
        format!("sqlite:{path}/bot.db?synchronous=off"),
        format!("file:{path}/sessions?layout=grammy&sync=false"),
    ] {
        move_amid_updates(larder::open(&url).await?).await?;
    }
    Ok(())
}

async fn move_amid_updates(storage: Store) -> Result<()> {
    // Two processes, with concurrent updates of both chats.
    let processes =
        [merging(storage.clone())?, merging(storage.clone())?];
    let mut tasks = Vec::new();
    for number in 0..100_usize {
        let chats = processes[number % 2].clone();
        tasks.push(tokio::spawn(async move {
            if number % 25 == 12 {
                for message in service_messages() {
                    on_any_message(&chats, &message).await?;
                }
            }
            let chat_id = if number % 3 == 0 { OLD } else { NEW };
            chats
                .update(chat_id, async |mut chat| {
                    chat.pizza_count += 1;
                })
                .await
        }));
    }
    for done in try_join_all(tasks).await.unwrap() {
        done?;
    }
    for chat_id in [OLD, NEW] {
        let chat = processes[0].get(chat_id).await?.unwrap();
        assert_eq!(chat.pizza_count, 100);
    }
    Ok(())
}

#[tokio::test]
async fn without_merge_the_move_must_come_first() -> Result<()> {
    let storage = memory();
    let chats = chats(&storage);
    chats
        .update(OLD, async |mut chat| chat.pizza_count = 5)
        .await?;
    chats.update(NEW, async |_| ()).await?;
    for message in service_messages() {
        let error =
            on_any_message(&chats, &message).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
    }
    assert_eq!(chats.get(OLD).await?.unwrap().pizza_count, 5);

    chats.delete(NEW).await?;
    for message in service_messages() {
        on_any_message(&chats, &message).await?;
    }
    assert_eq!(chats.get(NEW).await?.unwrap().pizza_count, 5);
    // The marker at the old key.
    let marker = stored(&storage, &OLD.to_string()).await.unwrap();
    assert!(marker.starts_with(r#"{"__larder":{"moved":"#));
    Ok(())
}

#[tokio::test]
async fn sessions_per_user_and_chat() -> Result<()> {
    let members = merging(memory())?;
    for (user, chat) in [(7, OLD), (8, OLD), (9, 1)] {
        let key = key::per_user_and_chat(Some(user), Some(chat));
        members
            .update(key, async |mut member| member.pizza_count = 1)
            .await?;
    }
    let (old_id, new_id) = (OLD, NEW);

    let keys: Vec<String> = members.keys().try_collect().await?;
    let suffix = format!("/{old_id}");
    for user in keys.iter().filter_map(|k| k.strip_suffix(&suffix))
    {
        let old = format!("{user}/{old_id}");
        members.move_key(old, format!("{user}/{new_id}")).await?;
    }

    let mut keys: Vec<String> =
        members.keys().try_collect().await?;
    keys.sort();
    let expected = ["7/-1001234567890", "8/-1001234567890", "9/1"];
    assert_eq!(keys, expected);
    Ok(())
}
