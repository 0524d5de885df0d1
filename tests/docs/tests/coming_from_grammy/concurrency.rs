//! Concurrent updates of one session.

use futures_util::future::{join_all, try_join_all};
use larder_session::{ConflictPolicy, ErrorKind, Session};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_updates_all_count() -> Result<()> {
    let storage = memory();
    // Like two processes with one store.
    let (one, other) = (chats(&storage), chats(&storage));
    let update = |chats: Sessions<Chat>| async move {
        chats
            .update(42, async |mut chat| {
                let seen = chat.pizza_count;
                tokio::task::yield_now().await;
                chat.pizza_count = seen + 1;
            })
            .await
    };
    let updates = (0..100).map(|number| {
        let chats = if number % 2 == 0 { &one } else { &other };
        tokio::spawn(update(chats.clone()))
    });
    for done in try_join_all(updates).await.unwrap() {
        done?;
    }
    assert_eq!(one.get(42).await?.unwrap().pizza_count, 100);
    Ok(())
}

#[tokio::test]
async fn answering_after_the_update() -> Result<()> {
    let chats = chats(&memory());
    let chat_id = 42;
    let sent = std::sync::Mutex::new(Vec::new());
    let reply =
        async |text: String| sent.lock().unwrap().push(text);

    let count = chats
        .modify(chat_id, |chat| {
            chat.pizza_count += 1;
            chat.pizza_count
        })
        .await?;
    reply(format!("{count} 🍕 so far")).await;

    assert_eq!(sent.into_inner().unwrap(), ["1 🍕 so far"]);
    Ok(())
}

#[tokio::test]
async fn handlers_that_must_not_run_twice() -> Result<()> {
    let storage = MemoryStorage::new();
    // Another handle on the same store, as in another process.
    let elsewhere =
        Sessions::<Chat>::new(Store::from(storage.clone()))?;
    let builder = Sessions::builder().storage(Store::from(storage));
    let chats: Sessions<Chat> =
        builder.conflicts(ConflictPolicy::Fail).build()?;
    let handler = async |mut chat: Session<Chat>| {
        chat.pizza_count = 1;
        elsewhere.set(1, Chat { pizza_count: 9 }).await
    };
    let errors = [
        chats.update(1, handler).await.unwrap_err(),
        chats.update_once(1, handler).await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Conflict);
    }
    assert_eq!(chats.get(1).await?.unwrap().pizza_count, 9);
    Ok(())
}

#[tokio::test]
async fn a_lease_across_processes() -> Result<()> {
    let storage = memory();
    let charged = std::sync::atomic::AtomicU32::new(0);
    let pay = async |chats: Sessions<Chat>, chat_id: i64| {
        let lease = chats.lock(chat_id).await?;
        let chat = chats.get(chat_id).await?.unwrap_or_default();
        if chat.pizza_count == 0 {
            charged
                .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            tokio::task::yield_now().await;
            chats.set(chat_id, Chat { pizza_count: 1 }).await?;
        }
        lease.release().await.map(drop)
    };
    let all = (0..4).map(|_| pay(chats(&storage), 42));
    for done in join_all(all).await {
        done?;
    }
    assert_eq!(charged.into_inner(), 1);
    Ok(())
}

#[tokio::test]
async fn a_nested_update_is_an_error() -> Result<()> {
    let chats = chats(&memory());
    let inner = chats.clone();
    let error = chats
        .update(1, async |_| inner.update(1, async |_| ()).await)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    Ok(())
}
