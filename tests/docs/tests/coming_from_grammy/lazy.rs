//! Sessions that are read at the first access.

use larder_session::LazySession;

use super::*;

async fn on_message(
    chats: &Sessions<Chat>,
    chat_id: i64,
    text: &str,
) -> Result<()> {
    chats
        .update_lazy(chat_id, async |session| {
            if text.contains('🍕') {
                session
                    .modify(|chat| chat.pizza_count += 1)
                    .await?;
            }
            Ok(())
        })
        .await
}

#[tokio::test]
async fn a_lazy_session_is_read_only_if_accessed() -> Result<()> {
    let storage = memory();
    let chats = chats(&storage);
    on_message(&chats, 42, "hello").await?;
    assert_eq!(stored(&storage, "42").await, None);
    on_message(&chats, 42, "🍕!").await?;
    assert_eq!(chats.get(42).await?.unwrap().pizza_count, 1);
    Ok(())
}

#[tokio::test]
async fn assigning() -> Result<()> {
    let chats = chats(&memory());
    let reset = async |session: LazySession<Chat>| {
        // Nothing is read.
        session.set(Chat::default())
    };
    let later = async |session: LazySession<Chat>| {
        // Awaited at the first access, or when it is saved.
        session.set_later(async { Ok(Chat { pizza_count: 8 }) })
    };
    chats.update_lazy(42, later).await?;
    assert_eq!(chats.get(42).await?.unwrap().pizza_count, 8);
    chats.update_lazy(42, reset).await?;
    assert_eq!(chats.get(42).await?.unwrap().pizza_count, 0);

    let looks = async |session: LazySession<Chat>| {
        session.with(|chat| chat.pizza_count).await
    };
    assert_eq!(chats.update_lazy(42, looks).await?, 0);
    Ok(())
}
