//! Initial values, the type of a session, keys, and deleting.

use larder_session::{ErrorKind, Session, key};

use super::*;

async fn on_pizza(
    chats: &Sessions<Chat>,
    chat_id: i64,
) -> Result<u32> {
    chats
        .modify(chat_id, |chat| {
            chat.pizza_count += 1;
            chat.pizza_count
        })
        .await
}

async fn on_hunger(
    chats: &Sessions<Chat>,
    chat_id: i64,
) -> Result<u32> {
    let chat = chats.get(chat_id).await?.unwrap_or_default();
    Ok(chat.pizza_count)
}

async fn open(url: &str) -> Result<Sessions<Chat>> {
    let storage = larder::open(url).await?;
    let chats: Sessions<Chat> =
        Sessions::builder().storage(storage).build()?;
    Ok(chats)
}

#[tokio::test]
async fn the_pizza_bot() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display();
    for url in [
        "memory:".to_owned(),
        format!("sqlite:{path}/bot.db"),
        format!("file:{path}/larder"),
        format!("file:{path}/sessions?layout=grammy"),
    ] {
        let chats = open(&url).await?;
        assert_eq!(on_hunger(&chats, 424242).await?, 0);
        assert_eq!(on_pizza(&chats, 424242).await?, 1);
        assert_eq!(on_pizza(&chats, 424242).await?, 2);
        assert_eq!(on_hunger(&chats, 424242).await?, 2);
        let text = stored(chats.storage(), "424242").await.unwrap();
        assert_eq!(text, r#"{"pizzaCount":2}"#);
    }
    Ok(())
}

#[tokio::test]
async fn the_default_storage_is_memory() -> Result<()> {
    let chats: Sessions<Chat> = Sessions::builder().build()?;
    on_pizza(&chats, 1).await?;
    assert_eq!(chats.storage().info().name, "memory");
    Ok(())
}

#[tokio::test]
async fn initial_values() -> Result<()> {
    let storage = memory();
    let chats = Sessions::builder()
        .initial(|| Chat { pizza_count: 3 })
        .storage(storage)
        .build()?;
    let storage = chats.storage();
    // A handler that only reads also stores the initial value, as in grammY.
    chats.update(1, async |_| ()).await?;
    let text = stored(storage, "1").await.unwrap();
    assert_eq!(text, r#"{"pizzaCount":3}"#);
    // `get` does not store it.
    assert_eq!(chats.get(2).await?, None);
    assert_eq!(stored(storage, "2").await, None);

    /// It has no sensible default.
    #[derive(Serialize, Deserialize)]
    struct Game {
        board: String,
    }
    let games = Sessions::builder_with(|| Game {
        board: "rnbqkbnr".to_owned(),
    })
    .build()?;
    games
        .update(1, async |game| assert_eq!(game.board.len(), 8))
        .await
}

#[tokio::test]
async fn no_initial_value() -> Result<()> {
    let storage = memory();
    let games: Sessions<Option<String>> = Sessions::new(storage)?;
    games
        .modify(42, |game| {
            if game.is_none() {
                *game = Some("e4".to_owned());
            }
        })
        .await?;
    assert_eq!(
        stored(games.storage(), "42").await.unwrap(),
        r#""e4""#
    );
    games.modify(42, |game| *game = None).await?;
    assert_eq!(stored(games.storage(), "42").await, None);
    games.update(43, async |_| ()).await?;
    assert_eq!(stored(games.storage(), "43").await, None);
    Ok(())
}

#[tokio::test]
async fn deleting() -> Result<()> {
    let storage = memory();
    let chats = chats(&storage);
    for _ in 0..2 {
        on_pizza(&chats, 42).await?;
        chats
            .update(42, async |mut chat| Session::clear(&mut chat))
            .await?;
        assert_eq!(stored(&storage, "42").await, None);
    }
    on_pizza(&chats, 42).await?;
    // From anywhere:
    chats.delete(42).await?;
    assert_eq!(stored(&storage, "42").await, None);
    Ok(())
}

#[tokio::test]
async fn unchanged_sessions_are_not_written() -> Result<()> {
    let storage = memory();
    let chats = chats(&storage);
    let key = Key::new("1").unwrap();
    on_pizza(&chats, 1).await?;
    let before = storage.read(&key).await?.unwrap().version;

    // The value is borrowed mutably, but does not change.
    chats.update(1, async |mut chat| chat.pizza_count += 0).await?;
    assert_eq!(storage.read(&key).await?.unwrap().version, before);

    // The error may have any type that a Larder error converts into.
    let failed: std::result::Result<
        (),
        Box<dyn std::error::Error>,
    > = chats
        .update(1, async |mut chat| {
            chat.pizza_count = 99;
            Err("no oven".into())
        })
        .await;
    assert_eq!(failed.unwrap_err().to_string(), "no oven");
    assert_eq!(storage.read(&key).await?.unwrap().version, before);
    Ok(())
}

#[test]
fn keys() {
    let (chat, user) = (Some(-100_123_i64), Some(7_u64));
    let keys = [
        // Per chat, as `update(chat_id, ...)`.
        key::per_chat(chat),
        // Per user.
        key::per_user(user),
        // Per user and chat, as `user/chat`.
        key::per_user_and_chat(user, chat),
        // Anything else.
        format!("topic/{}", 12).into(),
    ];
    let texts = keys.each_ref().map(|key| key.as_str().unwrap());
    assert_eq!(texts, ["-100123", "7", "7/-100123", "topic/12"]);
}

#[tokio::test]
async fn an_update_without_a_key_is_an_error() -> Result<()> {
    let chats = chats(&memory());
    let poll = key::per_chat(None::<i64>);

    let error =
        chats.update(&poll, async |_| ()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidKey);
    assert!(error.message().contains("belongs to no chat"));

    // Lazy: the handler runs, and an access to the session is an error.
    chats
        .update_lazy(&poll, async |session| {
            let error = session.with(|_| ()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidKey);
        })
        .await
}

#[tokio::test]
async fn another_type_is_not_overwritten() -> Result<()> {
    let storage = memory();
    let texts = Sessions::<String>::new(storage.clone())?;
    texts.set(1, "e4".to_owned()).await?;
    let error = on_pizza(&chats(&storage), 1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Codec);
    assert_eq!(texts.get(1).await?.unwrap(), "e4");
    Ok(())
}

#[tokio::test]
async fn stored_keys_begin_with_the_prefix() -> Result<()> {
    let storage = memory();
    let chats: Sessions<Chat> = Sessions::builder()
        .storage(storage)
        .prefix("chat-")
        .build()?;
    on_pizza(&chats, 42).await?;
    assert!(stored(chats.storage(), "chat-42").await.is_some());
    Ok(())
}
