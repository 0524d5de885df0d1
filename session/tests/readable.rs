//! A session that is saved with `Ok` can be read again by the same type.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

mod common;

use std::{collections::HashMap, fmt::Debug};

use larder_core::{Codec, Json};
use larder_session::{ErrorKind, KvSessions, Sessions};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use common::{Counting, kind};

/// Saving `value` is refused in every way, and the stored value stays.
async fn is_refused<T>(codec: impl Codec, before: T, value: T)
where
    T: Clone + Debug + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    let storage = Counting::new();
    let initial = before.clone();
    let sessions: Sessions<T> = Sessions::builder_with(move || initial.clone())
        .storage(storage.clone())
        .codec(codec)
        .build()
        .unwrap();
    sessions.set(1, before).await.unwrap();
    let stored = storage.record("1").await;
    let refused = [
        sessions.set(1, value.clone()).await,
        sessions.update(1, async |mut session| *session = value.clone()).await,
        sessions.update_lazy(1, async |session| session.set(value.clone())).await,
    ];
    for refused in refused {
        let error = refused.expect_err(&format!("{value:?}"));
        assert_eq!(error.kind(), ErrorKind::Codec, "{error}");
    }
    assert_eq!(storage.record("1").await, stored);
    sessions.get(1).await.unwrap();
}

fn deep(levels: usize) -> Value {
    (0..levels).fold(json!(1), |inner, _| json!([inner]))
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Weight {
    weight: f64,
    maximum: Option<f64>,
    by_day: HashMap<String, Vec<f32>>,
}

#[tokio::test]
async fn number_that_json_cannot_hold_is_refused() {
    for wrong in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        is_refused(Json, Weight::default(), Weight { weight: wrong, ..Weight::default() }).await;
        // It would be decoded as `None` without an error.
        is_refused(Json, Weight::default(), Weight { maximum: Some(wrong), ..Weight::default() }).await;
        is_refused(Json, None, Some(wrong)).await;
        let by_day = HashMap::from([("monday".to_owned(), vec![1.0, wrong as f32])]);
        is_refused(Json, Weight::default(), Weight { by_day, ..Weight::default() }).await;
        let names = KvSessions::builder().storage(Counting::new()).build().unwrap();
        assert_eq!(kind(names.set(1, "weight", wrong).await), ErrorKind::Codec);
        assert_eq!(names.get::<f64>(1, "weight").await.unwrap(), None);
    }
}

#[tokio::test]
async fn every_finite_number_comes_back() {
    let sessions: Sessions<Weight> = Sessions::new(Counting::new()).unwrap();
    for weight in [f64::MAX, f64::MIN, f64::MIN_POSITIVE, f64::EPSILON, -0.0, 5e-324] {
        let saved = Weight { weight, maximum: Some(weight), by_day: HashMap::new() };
        sessions.set(1, saved).await.unwrap();
        let read = sessions.get(1).await.unwrap().unwrap();
        assert_eq!((read.weight, read.maximum), (weight, Some(weight)));
    }
}

#[tokio::test]
async fn value_that_is_nested_too_deeply_to_be_read_is_refused() {
    is_refused(Json, Value::Null, deep(128)).await;
    is_refused(Json, json!([]), json!({ "__d": deep(127) })).await;
    let names = KvSessions::builder().storage(Counting::new()).build().unwrap();
    assert_eq!(kind(names.set(1, "deep", deep(127)).await), ErrorKind::Codec);
    names.set(1, "deep", deep(126)).await.unwrap();
    assert_eq!(names.get::<Value>(1, "deep").await.unwrap(), Some(deep(126)));
    #[cfg(feature = "cbor")]
    is_refused(larder_core::Cbor, json!([]), deep(300)).await;
}

#[tokio::test]
async fn a_type_that_cannot_decode_its_encoding_is_refused() {
    #[derive(Clone, Debug, Default, Serialize, Deserialize)]
    struct Skipping {
        pizzas: u32,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        toppings: Vec<String>,
    }
    let full = Skipping { pizzas: 1, toppings: vec!["ham".to_owned()] };
    is_refused(Json, full, Skipping::default()).await;

    #[derive(Clone, Debug, Default, Serialize, Deserialize)]
    struct Flattened {
        name: String,
        #[serde(flatten)]
        by_id: HashMap<u64, u32>,
    }
    let by_id = HashMap::from([(7, 1)]);
    is_refused(Json, Flattened::default(), Flattened { by_id, ..Flattened::default() }).await;

    #[derive(Clone, Debug, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Amount {
        Number(i128),
        Text(String),
    }
    is_refused(Json, Amount::Text(String::new()), Amount::Number(i128::MAX)).await;
}

#[tokio::test]
async fn error_of_a_session_that_cannot_be_read_names_it_without_its_key() {
    let storage = Counting::new();
    let sessions: Sessions<u32> =
        Sessions::builder().storage(storage.clone()).prefix("cookie:").build().unwrap();
    for stored in [r#""no number""#, r#"{"v":7,"__d":1}"#, r#"{"__larder":{"moved":7}}"#] {
        storage.put("cookie:hunter2", stored).await;
        let fingerprint = larder_core::Key::new("cookie:hunter2").unwrap().fingerprint();
        let errors = [
            sessions.get("hunter2").await.map(drop).unwrap_err(),
            sessions.update("hunter2", async |mut number| *number += 1).await.unwrap_err(),
            sessions.update_lazy("hunter2", async |number| number.get().await).await.map(drop).unwrap_err(),
            futures_util::TryStreamExt::try_collect::<Vec<_>>(sessions.all()).await.map(drop).unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.fingerprint(), Some(&*fingerprint), "{error}");
            assert!(error.to_string().contains(&fingerprint));
            assert!(!format!("{error} {error:?}").contains("hunter2"));
        }
    }
}
