//! Sessions of grammY with a string that was cut in the middle of a character. JavaScript writes the lone
//! surrogate as an escape, which a Rust string cannot hold.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

mod common;

use futures_util::TryStreamExt;
use larder_session::{Migrations, Sessions};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use common::{Counting, LONG};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Chat {
    #[serde(default)]
    title: String,
    #[serde(default)]
    count: u32,
}

const CUT: &str = r#"{"count":1,"title":"Pizza \ud83c"}"#;

#[tokio::test]
async fn text_cut_in_a_character_is_read() {
    let storage = Counting::new();
    for stored in [CUT.to_owned(), format!(r#"{{"__d":{CUT}}}"#), format!(r#"{{"v":0,"__d":{CUT}}}"#)] {
        storage.put("1", stored).await;
        let chats: Sessions<Chat> = Sessions::builder()
            .storage(storage.clone())
            .migrations(Migrations::new().step(1, |old: Chat| old))
            .build()
            .unwrap();
        let chat = chats.get(1).await.unwrap().unwrap();
        assert!(chat.title.starts_with("Pizza ") && chat.title.chars().count() == 7, "{}", chat.title);
        assert_eq!(chat.count, 1);
        let all: Vec<_> = chats.all().try_collect().await.unwrap();
        assert_eq!(all, [("1".to_owned(), chat)]);
    }
}

#[tokio::test]
async fn untouched_member_keeps_half_a_character() {
    let storage = Counting::new();
    storage.put("1", CUT).await;
    let chats: Sessions<Value> = Sessions::new(storage.clone()).unwrap();
    chats.update(1, async |_| ()).await.unwrap();
    chats.update(1, async |mut chat| chat["count"] = 1.into()).await.unwrap();
    assert_eq!(
        (storage.text("1").await.unwrap(), storage.writes()),
        (CUT.to_owned(), 0),
        "nothing has changed"
    );

    chats.update(1, async |mut chat| chat["count"] = 2.into()).await.unwrap();
    assert_eq!(storage.text("1").await.unwrap(), CUT.replace('1', "2"));
    chats.update_lazy(1, async |chat| chat.modify(|chat| chat["count"] = 3.into()).await).await.unwrap();
    assert_eq!(storage.text("1").await.unwrap(), CUT.replace('1', "3"));

    // The other half is appended, which completes the character.
    let half = |escape: &str| {
        let storage = storage.clone();
        let text = format!(r#"{{"title":"{escape}"}}"#);
        async move {
            storage.put("half", text).await;
            let halves: Sessions<Value> = Sessions::new(storage).unwrap();
            halves.get("half").await.unwrap().unwrap()["title"].as_str().unwrap().to_owned()
        }
    };
    let other = half(r"\udf55").await;
    chats
        .update(1, async |mut chat| {
            let title = chat["title"].as_str().unwrap().to_owned() + &other;
            chat["title"] = title.into();
        })
        .await
        .unwrap();
    assert_eq!(storage.json("1").await.unwrap()["title"], "Pizza 🍕");
    assert_eq!(chats.get(1).await.unwrap().unwrap()["title"], "Pizza 🍕");
}

#[tokio::test]
async fn half_a_character_survives_migrations_and_moves() {
    let storage = Counting::new();
    storage.put("1", CUT).await;
    let sessions: Sessions<Value> = Sessions::builder()
        .storage(storage.clone())
        .migrations(Migrations::new().step(1, |old: Value| old))
        .lifetime(larder_session::Lifetime::after_write(LONG))
        .persist_migrated(true)
        .build()
        .unwrap();
    sessions.update(1, async |_| ()).await.unwrap();
    sessions.move_key(1, 2).await.unwrap();
    let text = storage.text("2").await.unwrap();
    assert!(text.starts_with(&format!(r#"{{"v":1,"__d":{CUT},"e":"#)), "{text}");
}

#[tokio::test]
async fn chosen_private_use_characters_stay() {
    let storage = Counting::new();
    let chats: Sessions<Value> = Sessions::new(storage.clone()).unwrap();
    // The characters that replace lone surrogates.
    let chosen = json!({ "title": "\u{10d83c}\u{10dfff}" });
    chats.set(1, chosen.clone()).await.unwrap();
    assert_eq!(storage.json("1").await.unwrap(), chosen);
    assert_eq!(chats.get(1).await.unwrap(), Some(chosen));
    // Next to a lone surrogate with the same replacement.
    storage.put("1", "{\"a\":\"\u{10d83c}\",\"b\":\"\\ud83c\",\"c\":1}").await;
    chats.update(1, async |mut chat| chat["c"] = 2.into()).await.unwrap();
    assert_eq!(storage.json("1").await.unwrap(), json!({ "a": "\u{10d83c}", "b": "\u{fffd}", "c": 2 }));
}
