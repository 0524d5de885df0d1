//! Content that a user chooses is never read as a marker of a move or as an envelope.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

mod common;

use std::fmt::Debug;

use futures_util::TryStreamExt;
use larder_core::{Bytes, Codec, Error, Json, Result};
use larder_session::{ErrorKind, KvSessions, Lifetime, Migrations, Sessions};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json, value::RawValue};

use common::{Counting, kind};

const MARKER: &str = r#"{"__larder":{"moved":{"to":"victim","id":"1"}}}"#;

/// Saves and reads `chosen` in every way. A refusal is allowed.
async fn comes_back_or_is_refused<T, C>(codec: C, chosen: T, victim: T)
where
    T: Clone + Debug + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static,
    C: Codec,
{
    let (storage, initial) = (Counting::new(), victim.clone());
    let sessions: Sessions<T> = Sessions::builder_with(move || initial.clone())
        .storage(storage.clone())
        .codec(codec)
        .build()
        .unwrap();
    sessions.set("victim", victim).await.unwrap();
    let saved = [
        sessions.set(1, chosen.clone()).await,
        sessions.update(1, async |mut session| *session = chosen.clone()).await,
        sessions.update_lazy(1, async |session| session.set(chosen.clone())).await,
    ];
    if saved.iter().all(Result::is_err) {
        assert!(
            saved.into_iter().all(|saved| matches!(kind(saved), ErrorKind::InvalidValue | ErrorKind::Codec))
        );
        assert_eq!(storage.record("1").await, None);
        return;
    }
    assert!(saved.iter().all(Result::is_ok), "{saved:?}");
    assert_eq!(sessions.get(1).await.unwrap().as_ref(), Some(&chosen));
    let all: std::collections::BTreeMap<_, _> =
        sessions.all().try_collect::<Vec<_>>().await.unwrap().into_iter().collect();
    assert_eq!(all["1"], chosen);
    sessions.delete(1).await.unwrap();
    assert!(sessions.get("victim").await.unwrap().is_some());
}

/// Returns `levels` nested arrays.
fn deep(levels: usize) -> Value {
    (0..levels).fold(json!(1), |inner, _| json!([inner]))
}

fn objects() -> Vec<Value> {
    let moved = json!({ "to": "victim", "id": "1" });
    let deeper = json!({ "to": "victim", "id": "1", "more": deep(124) });
    let redirects = [
        json!({ "__larder": { "moved": moved } }),
        json!({ "__larder": { "moved": moved }, "deep": deep(126) }),
        json!({ "__larder": { "moved": moved }, "deep": deep(127) }),
        json!({ "__larder": { "moved": moved, "deep": deep(127) } }),
        json!({ "__larder": { "moved": deeper } }),
        json!({ "__larder": { "moved": moved }, "aa": 1 }),
        json!({ "__larder": 7 }),
        json!({ "__larder": { "expecting": { "from": "victim", "id": "1", "own": null } } }),
        json!({ "__d": { "__larder": { "moved": moved } } }),
    ];
    let envelopes = [
        json!({ "__d": {} }),
        json!({ "__d": {}, "e": 1 }),
        json!({ "__d": deep(126), "e": 1 }),
        json!({ "__d": {}, "v": 99, "more": deep(126) }),
        json!({ "__d": null }),
    ];
    redirects.into_iter().chain(envelopes).collect()
}

async fn chosen_objects_come_back_or_are_refused(codec: impl Codec) {
    for chosen in objects() {
        comes_back_or_is_refused(codec.clone(), chosen.clone(), json!("innocent")).await;
        let Value::Object(chosen) = chosen else { unreachable!() };
        comes_back_or_is_refused(codec.clone(), chosen, Map::new()).await;
    }
}

#[tokio::test]
async fn chosen_objects_are_never_markers_in_json() {
    chosen_objects_come_back_or_are_refused(Json).await;
}

#[cfg(feature = "msgpack")]
#[tokio::test]
async fn chosen_objects_are_never_markers_in_message_pack() {
    chosen_objects_come_back_or_are_refused(larder_core::MessagePack).await;
}

#[cfg(feature = "cbor")]
#[tokio::test]
async fn chosen_objects_are_never_markers_in_cbor() {
    chosen_objects_come_back_or_are_refused(larder_core::Cbor).await;
}

/// Strings as plain bytes after a length byte, as in codecs without self-describing data. All other types are
/// JSON.
#[derive(Clone, Debug)]
struct Prefixed;

fn wrong() -> Error {
    Error::new(ErrorKind::Codec, "not prefixed")
}

impl Codec for Prefixed {
    fn name(&self) -> &'static str {
        "prefixed"
    }

    fn encode<T: Serialize + ?Sized>(&self, value: &T) -> Result<Bytes> {
        let json = Json.encode(value)?;
        let content = serde_json::from_slice::<String>(&json).map_or(json, Bytes::from);
        let mut bytes = vec![u8::try_from(content.len()).map_err(|_| wrong())?];
        bytes.extend_from_slice(&content);
        Ok(bytes.into())
    }

    fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T> {
        let (&length, content) = bytes.split_first().ok_or_else(wrong)?;
        if usize::from(length) != content.len() {
            return Err(wrong());
        }
        let text = std::str::from_utf8(content).map_err(|_| wrong())?;
        Json.decode(&Json.encode(text)?).or_else(|_| Json.decode(content))
    }
}

#[tokio::test]
async fn chosen_text_is_never_a_marker_in_a_codec_that_does_not_describe_itself() {
    let id = "1".repeat(123 - MARKER.len() + 2);
    let message = MARKER[1..].replace(r#""id":"1""#, &format!(r#""id":"{id}""#));
    assert_eq!(message.len(), 123, "the length is an opening brace");
    for chosen in [message, MARKER.to_owned(), String::new(), r#"{"__d":"x"}"#.to_owned()] {
        comes_back_or_is_refused(Prefixed, chosen, "innocent".to_owned()).await;
    }
}

/// MessagePack with structs as arrays, which is not self-describing.
#[derive(Clone, Debug)]
struct Positional;

impl Codec for Positional {
    fn name(&self) -> &'static str {
        "positional"
    }

    fn encode<T: Serialize + ?Sized>(&self, value: &T) -> Result<Bytes> {
        rmp_serde::to_vec(value).map(Bytes::from).map_err(|_| wrong())
    }

    fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T> {
        rmp_serde::from_slice(bytes).map_err(|_| wrong())
    }
}

#[tokio::test]
async fn chosen_content_is_never_an_envelope_in_a_codec_that_does_not_describe_itself() {
    for chosen in [
        json!([null, ["__d", "victim"], null]),
        json!([1, ["__d"], 1]),
        json!([["__d"]]),
        json!([null, "__d"]),
        json!(["__d"]),
    ] {
        comes_back_or_is_refused(Positional, chosen.clone(), json!([])).await;
        let Value::Array(chosen) = chosen else { unreachable!() };
        comes_back_or_is_refused(Positional, chosen, Vec::new()).await;
    }
}

#[tokio::test]
async fn an_envelope_is_refused_if_the_codec_cannot_encode_it() {
    let builder = || Sessions::<u32>::builder().storage(Counting::new()).codec(Positional);
    for refused in [
        builder().envelope().build(),
        builder().migrations(Migrations::new().step(1, |old: u32| old)).build(),
        builder().lifetime(Lifetime::absolute(common::LONG)).build(),
    ] {
        let error = refused.map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        assert!(error.message().contains("positional"), "{error}");
    }
    builder().build().unwrap();
}

#[tokio::test]
async fn a_store_that_reorders_members_turns_no_session_into_a_marker() {
    let storage = Counting::new();
    let sessions: Sessions<Value> = Sessions::new(storage.clone()).unwrap();
    let chosen = json!({ "A comes first": 1, "__larder": { "moved": { "to": "2", "id": "1" } } });
    sessions.set(1, chosen.clone()).await.unwrap();
    // As jsonb formats it: short names first.
    let stored = storage.json("1").await.unwrap();
    if let Some(larder) = stored.get("__larder") {
        storage.put("1", format!(r#"{{"__larder": {larder}, "A comes first": 1}}"#)).await;
    }
    assert_eq!(sessions.get(1).await.unwrap(), Some(chosen));
}

#[tokio::test]
async fn escaped_and_duplicate_names_do_not_become_a_marker_in_a_normalizing_store() {
    #[derive(Clone, Debug, Serialize, Deserialize)]
    #[serde(transparent)]
    struct Raw(Box<RawValue>);

    for chosen in [
        r#"{"\u005f_larder":{"moved":{"to":"victim","id":"1"}}}"#,
        r#"{"__larder":1,"\u005f_larder":{"moved":{"to":"victim","id":"1"}}}"#,
        r#"{"\u005f_d":1,"e":1}"#,
        r#"{"__d":1,"__d":2,"e":1}"#,
        " { \"__larder\" : {\"moved\":{\"to\":\"victim\",\"id\":\"1\"}} } ",
    ] {
        let storage = Counting::new();
        let sessions: Sessions<Option<Raw>> = Sessions::new(storage.clone()).unwrap();
        let raw = Raw(RawValue::from_string(chosen.to_owned()).unwrap());
        if sessions.set(1, Some(raw)).await.is_ok() {
            let normalized = storage.json("1").await.unwrap();
            storage.put_json("1", normalized).await;
            let read = sessions.get(1).await.unwrap().unwrap().expect("a session");
            let (read, chosen): (Value, Value) =
                (serde_json::from_str(read.0.get()).unwrap(), serde_json::from_str(chosen).unwrap());
            assert_eq!(read, chosen);
        }
    }
}

#[tokio::test]
async fn a_reserved_member_of_another_program_is_part_of_the_session() {
    let storage = Counting::new();
    let sessions: Sessions<Value> = Sessions::new(storage.clone()).unwrap();
    for stored in [
        json!({ "__larder": { "moved": { "to": "victim", "id": "1" } }, "name": "Nelly" }),
        json!({ "__larder": 7, "name": "Nelly" }),
        json!({ "a": 1, "__larder": "x" }),
    ] {
        storage.put_json("1", stored.clone()).await;
        assert_eq!(sessions.get(1).await.unwrap(), Some(stored.clone()));
        sessions.update(1, async |mut session| session["seen"] = true.into()).await.unwrap();
        assert_eq!(sessions.get(1).await.unwrap().unwrap()["__larder"], stored["__larder"]);
    }
}

#[tokio::test]
async fn named_value_may_have_any_name() {
    let sessions = KvSessions::builder().storage(Counting::new()).build().unwrap();
    for name in ["__larder", "__d", "v", "e"] {
        let value = json!({ "moved": { "to": "victim", "id": "1" } });
        sessions.set(name, name, &value).await.unwrap();
        assert_eq!(sessions.get::<Value>(name, name).await.unwrap(), Some(value));
    }
}
