//! Values of one type on a storage.

#![allow(clippy::unwrap_used)]

use std::{collections::HashMap, sync::Mutex};

use larder_core::{Bytes, ErrorKind, Expiry, Key, Record, Result, Storage, StorageExt, Typed, async_trait};
use serde::{Deserialize, Serialize};

#[derive(Debug, Default)]
struct Shelf(Mutex<HashMap<Key, Bytes>>);

#[async_trait]
impl Storage for Shelf {
    async fn read(&self, key: &Key) -> Result<Option<Record>> {
        Ok(self.0.lock().unwrap().get(key).cloned().map(Record::new))
    }

    async fn write(&self, key: &Key, value: Bytes, _expiry: Expiry) -> Result<()> {
        self.0.lock().unwrap().insert(key.clone(), value);
        Ok(())
    }

    async fn delete(&self, key: &Key) -> Result<bool> {
        Ok(self.0.lock().unwrap().remove(key).is_some())
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Weights {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    all: Vec<f64>,
    maximum: Option<f64>,
}

#[tokio::test]
async fn value_that_could_not_be_read_again_is_not_written() {
    let (shelf, key) = (Shelf::default(), Key::new("scales").unwrap());
    let good = Weights { all: vec![1.5], maximum: Some(1.5) };
    shelf.write_as(&key, &good, Expiry::Never).await.unwrap();
    for wrong in [
        Weights { all: Vec::new(), ..good.clone() },
        Weights { all: vec![f64::NAN], ..good.clone() },
        Weights { maximum: Some(f64::INFINITY), ..good.clone() },
    ] {
        let error = shelf.write_as(&key, &wrong, Expiry::Never).await.unwrap_err();
        assert_eq!((error.kind(), error.fingerprint()), (ErrorKind::Codec, Some(&*key.fingerprint())));
        let typed = Typed::<Weights, _>::new(&shelf);
        let refused = typed.write_if(&key, &wrong, Expiry::Never, larder_core::Condition::Absent).await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Codec);
        assert_eq!(shelf.read_as::<Weights>(&key).await.unwrap(), Some(good.clone()));
    }
}

#[tokio::test]
async fn decoding_error_names_the_entry_without_its_key() {
    let (shelf, key) = (Shelf::default(), Key::new("cookie:hunter2").unwrap());
    shelf.write(&key, "no JSON".into(), Expiry::Never).await.unwrap();
    let error = shelf.read_as::<Weights>(&key).await.unwrap_err();
    assert!(error.to_string().contains(&key.fingerprint()), "{error}");
    assert!(!format!("{error} {error:?}").contains("hunter2"));
}
