//! Sessions in other codecs than JSON.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]
#![cfg(any(feature = "msgpack", feature = "cbor"))]

mod common;

use std::collections::BTreeMap;

use futures_util::TryStreamExt;
use larder_core::{Codec, clock::unix_millis};
use larder_session::{ErrorKind, Lifetime, Migrations, Session, Sessions};
use serde::{Deserialize, Serialize};

use common::{Counting, LONG, kind};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Chat {
    pizzas: u32,
    name: Option<String>,
    weights: Vec<f64>,
    by_day: BTreeMap<String, i64>,
}

fn a_chat() -> Chat {
    Chat {
        pizzas: 3,
        name: Some("Míša 🍕".to_owned()),
        weights: vec![0.1, -3e-7, f64::MAX],
        by_day: BTreeMap::from([("monday".to_owned(), i64::MIN)]),
    }
}

async fn sessions_are_kept_as(codec: impl Codec) {
    let storage = Counting::new();
    let sessions: Sessions<Chat> =
        Sessions::builder().storage(storage.clone()).codec(codec.clone()).prefix("chat:").build().unwrap();
    sessions.update(1, async |mut chat| *chat = a_chat()).await.unwrap();
    assert_eq!(sessions.get(1).await.unwrap(), Some(a_chat()));
    let record = storage.record("chat:1").await.unwrap();
    assert_eq!(codec.decode::<Chat>(&record.value).unwrap(), a_chat());
    assert!(serde_json::from_slice::<serde_json::Value>(&record.value).is_err(), "it must not be JSON");

    storage.forget_counts();
    sessions.update(1, async |mut chat| _ = &mut *chat).await.unwrap();
    assert_eq!(storage.writes(), 0, "nothing has changed");
    sessions.update_lazy(1, async |chat| chat.modify(|chat| chat.pizzas += 1).await).await.unwrap();
    let all: Vec<_> = sessions.all().try_collect().await.unwrap();
    assert_eq!(all, [("1".to_owned(), Chat { pizzas: 4, ..a_chat() })]);
    sessions.update(1, async |mut chat| Session::clear(&mut chat)).await.unwrap();
    assert_eq!(storage.record("chat:1").await, None);
}

async fn nothing_is_not_stored_as(codec: impl Codec) {
    let storage = Counting::new();
    let sessions: Sessions<Option<Chat>> =
        Sessions::builder().storage(storage.clone()).codec(codec).build().unwrap();
    sessions.update(1, async |_| ()).await.unwrap();
    assert_eq!(storage.writes(), 0);
    sessions.update(1, async |mut chat| *chat = Some(a_chat())).await.unwrap();
    sessions.update(1, async |mut chat| *chat = None).await.unwrap();
    assert_eq!(storage.record("1").await, None);
}

async fn moved_sessions_are_found_in(codec: impl Codec) {
    let storage = Counting::new();
    let sessions: Sessions<Chat> = Sessions::builder()
        .storage(storage.clone())
        .codec(codec)
        .merge(|moving: Chat, own: Chat| Chat { pizzas: moving.pizzas + own.pizzas, ..moving })
        .build()
        .unwrap();
    sessions.set("old", a_chat()).await.unwrap();
    sessions.set("new", Chat { pizzas: 10, ..Chat::default() }).await.unwrap();
    sessions.move_key("old", "new").await.unwrap();
    let expected = Chat { pizzas: 13, ..a_chat() };
    assert_eq!(sessions.get("old").await.unwrap(), Some(expected.clone()));
    let all: Vec<_> = sessions.all().try_collect().await.unwrap();
    assert_eq!(all, [("new".to_owned(), expected)]);
}

async fn sessions_are_migrated_in(codec: impl Codec) {
    let storage = Counting::new();
    #[derive(Serialize, Deserialize)]
    struct Old {
        pizza_count: u32,
    }
    // Bare, and in an envelope.
    let old: Sessions<Option<Old>> =
        Sessions::builder().storage(storage.clone()).codec(codec.clone()).build().unwrap();
    old.set("bare", Some(Old { pizza_count: 3 })).await.unwrap();
    let old: Sessions<Option<Old>> = Sessions::builder()
        .storage(storage.clone())
        .codec(codec.clone())
        .migrations(Migrations::new().step(1, |old: Old| old))
        .build()
        .unwrap();
    old.set("enveloped", Some(Old { pizza_count: 3 })).await.unwrap();

    let migrations = Migrations::new()
        .step(1, |old: Old| old)
        .step(2.5, |old: Old| Chat { pizzas: old.pizza_count, ..a_chat() });
    let before = unix_millis();
    let new: Sessions<Chat> = Sessions::builder()
        .storage(storage.clone())
        .codec(codec.clone())
        .migrations(migrations)
        .lifetime(Lifetime::absolute(LONG))
        .build()
        .unwrap();
    for key in ["bare", "enveloped"] {
        assert_eq!(new.get(key).await.unwrap(), Some(a_chat()), "{key}");
        new.update(key, async |mut chat| chat.pizzas += 1).await.unwrap();
        assert_eq!(new.get(key).await.unwrap().unwrap().pizzas, 4);
        // The same envelope as in JSON.
        #[derive(Deserialize)]
        struct Envelope {
            v: f64,
            #[serde(rename = "__d")]
            data: Chat,
            e: i64,
        }
        let record = storage.record(key).await.unwrap();
        let envelope: Envelope = codec.decode(&record.value).unwrap();
        assert_eq!((envelope.v, envelope.data.pizzas), (2.5, 4));
        assert!(envelope.e >= before + LONG.as_millis() as i64);
    }
    // The older program does not change them.
    assert_eq!(
        kind(old.update("bare", async |mut session| Session::clear(&mut session)).await),
        ErrorKind::VersionTooNew
    );
}

async fn data_of_another_codec_is_an_error_in(codec: impl Codec) {
    let storage = Counting::new();
    let sessions: Sessions<Chat> = Sessions::builder().storage(storage.clone()).codec(codec).build().unwrap();
    let json: Sessions<Chat> = Sessions::new(storage.clone()).unwrap();
    sessions.set(1, a_chat()).await.unwrap();
    json.set(2, a_chat()).await.unwrap();
    let before = (storage.record("1").await, storage.record("2").await);
    assert_eq!(kind(json.update(1, async |mut chat| Session::clear(&mut chat)).await), ErrorKind::Codec);
    assert_eq!(kind(sessions.update(2, async |mut chat| Session::clear(&mut chat)).await), ErrorKind::Codec);
    assert_eq!((storage.record("1").await, storage.record("2").await), before);
}

macro_rules! laws {
    ($($law:ident),+) => {
        #[cfg(feature = "msgpack")]
        mod msgpack {
            $(
                #[tokio::test]
                async fn $law() {
                    super::$law(larder_core::MessagePack).await;
                }
            )+
        }

        #[cfg(feature = "cbor")]
        mod cbor {
            $(
                #[tokio::test]
                async fn $law() {
                    super::$law(larder_core::Cbor).await;
                }
            )+
        }
    };
}

laws!(
    sessions_are_kept_as,
    nothing_is_not_stored_as,
    moved_sessions_are_found_in,
    sessions_are_migrated_in,
    data_of_another_codec_is_an_error_in
);
