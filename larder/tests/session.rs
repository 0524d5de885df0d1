//! The features that `larder` passes on to its sessions.

#![allow(clippy::unwrap_used)] // A test fails by panicking.

use larder::session::{Cbor, MessagePack, Sessions};

#[tokio::test]
async fn sessions_without_a_store_are_in_memory() {
    let chats: Sessions<u64> = Sessions::builder().build().unwrap();
    chats.modify(42, |pizzas| *pizzas += 1).await.unwrap();
    assert_eq!(chats.get(42).await.unwrap(), Some(1));
}

#[tokio::test]
async fn sessions_have_a_choice_of_codecs() {
    let store = larder::open("memory:").await.unwrap();
    let message_pack: Sessions<u64> =
        Sessions::builder().storage(&store).prefix("m:").codec(MessagePack).build().unwrap();
    let cbor: Sessions<u64> = Sessions::builder().storage(&store).prefix("c:").codec(Cbor).build().unwrap();
    message_pack.set(42, 1).await.unwrap();
    cbor.set(42, 2).await.unwrap();
    assert_eq!((message_pack.get(42).await.unwrap(), cbor.get(42).await.unwrap()), (Some(1), Some(2)));
}
