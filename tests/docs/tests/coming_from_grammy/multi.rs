//! Several sessions in one update, strict and lazy.

use larder_session::{ErrorKind, Fragment, Multi};

use super::*;

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Settings {
    language: Option<String>,
}

#[tokio::test]
async fn fragments() -> Result<()> {
    let (users_storage, chats_storage) = (memory(), memory());
    let users = Sessions::<Settings>::new(users_storage.clone())?;
    let chats = Sessions::<Chat>::new(chats_storage.clone())?;
    let session = Multi::new((
        Fragment::strict("user", users.clone()),
        Fragment::strict("chat", chats.clone()),
    ));
    let (user_id, chat_id) = (7, 42);

    session
        .modify((user_id, chat_id), |(user, chat)| {
            user.language = Some("cs".to_owned());
            chat.pizza_count += 1;
        })
        .await?;
    assert_eq!(
        stored(&users_storage, "7").await.unwrap(),
        r#"{"language":"cs"}"#
    );
    assert_eq!(
        stored(&chats_storage, "42").await.unwrap(),
        r#"{"pizzaCount":1}"#
    );

    // Deletes the session of each fragment.
    session
        .update((user_id, chat_id), async |mut all| {
            Multi::clear(&mut all)
        })
        .await?;
    assert_eq!(users.get(7).await?, None);
    assert_eq!(chats.get(42).await?, None);

    let error = session
        .update((7, None::<i64>), async |_| ())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidKey);
    assert!(error.message().contains("fragment `chat`"));
    Ok(())
}

#[tokio::test]
async fn lazy_fragments() -> Result<()> {
    let storage = memory();
    let users = Sessions::<Settings>::builder()
        .storage(storage.clone())
        .prefix("user:")
        .build()?;
    let chats = Sessions::<Chat>::builder()
        .storage(storage.clone())
        .prefix("chat:")
        .build()?;
    let (user_id, chat_id) = (7, 42);
    let session = Multi::new((
        Fragment::lazy("user", users),
        Fragment::lazy("chat", chats),
    ));
    session
        .update((user_id, chat_id), async |(_user, chat)| {
            chat.modify(|chat| chat.pizza_count += 1).await
        })
        .await?;
    // The user's session was neither read nor written.
    assert_eq!(stored(&storage, "user:7").await, None);
    assert_eq!(
        stored(&storage, "chat:42").await.unwrap(),
        r#"{"pizzaCount":1}"#
    );
    // A lazy fragment may have no key.
    session
        .update((7, None::<i64>), async |(user, _chat)| {
            user.modify(|user| user.language = None).await
        })
        .await?;
    assert!(stored(&storage, "user:7").await.is_some());
    Ok(())
}
