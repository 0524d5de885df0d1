//! Typed values on a storage.

#![cfg(feature = "json")]
#![allow(clippy::unwrap_used)]

use std::{collections::HashMap, sync::Mutex};

use larder_core::{
    Bytes, Condition, DeleteOptions, Error, ErrorKind, Expiry, Info, Key, ReadOptions, Record, Result,
    Storage, Store, Versions, WriteOptions, Written, async_trait,
};
use serde::{Deserialize, Serialize};

#[derive(Debug, Default)]
struct Shelf(Mutex<HashMap<Key, Bytes>>);

#[async_trait]
impl Storage for Shelf {
    async fn read(&self, key: &Key, _: &ReadOptions) -> Result<Option<Record>> {
        Ok(self.0.lock().unwrap().get(key).cloned().map(Record::new))
    }

    async fn write(&self, key: &Key, value: Bytes, _: &WriteOptions) -> Result<Written> {
        self.0.lock().unwrap().insert(key.clone(), value);
        Ok(Written::default())
    }

    async fn delete(&self, key: &Key, _: &DeleteOptions) -> Result<bool> {
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
async fn a_value_that_cannot_be_decoded_again_is_not_written() {
    let (shelf, key) = (Store::from(Shelf::default()), Key::new("scales").unwrap());
    let good = Weights { all: vec![1.5], maximum: Some(1.5) };
    shelf.write_as(&key, &good, Expiry::Never).await.unwrap();
    for wrong in [
        Weights { all: Vec::new(), ..good.clone() },
        Weights { all: vec![f64::NAN], ..good.clone() },
        Weights { maximum: Some(f64::INFINITY), ..good.clone() },
    ] {
        let error = shelf.write_as(&key, &wrong, Expiry::Never).await.unwrap_err();
        assert_eq!((error.kind(), error.fingerprint()), (ErrorKind::Codec, Some(&*key.fingerprint())));
        let options = WriteOptions::new().condition(Condition::Absent);
        let refused = shelf.typed::<Weights>().write(&key, &wrong, &options).await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Codec);
        assert_eq!(shelf.read_as::<Weights>(&key).await.unwrap(), Some(good.clone()));
    }
}

/// Claims versions but does not return them.
#[derive(Debug, Default)]
struct Versionless(Shelf);

#[async_trait]
impl Storage for Versionless {
    fn info(&self) -> Info {
        Info::minimal("versionless").with_versions(Versions::Unique)
    }

    async fn read(&self, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
        self.0.read(key, options).await
    }

    async fn write(&self, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        match self.0.read(key, &ReadOptions::new()).await? {
            Some(_) if options.condition == Condition::Absent => Err(Error::conflict()),
            _ => self.0.write(key, value, options).await,
        }
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<bool> {
        self.0.delete(key, options).await
    }
}

#[tokio::test]
async fn an_update_of_an_entry_without_version_fails() {
    let (shelf, key) = (Store::from(Versionless::default()), Key::new("scales").unwrap());
    let add = |seen: Option<u32>| Some(seen.unwrap_or(0) + 1);
    assert_eq!(shelf.update(&key, Expiry::Never, add).await.unwrap(), Some(1));
    let error = shelf.update(&key, Expiry::Never, add).await.unwrap_err();
    assert_eq!((error.kind(), error.adapter()), (ErrorKind::Other, Some("versionless")));
    assert_eq!(shelf.read_as(&key).await.unwrap(), Some(1));
}

#[tokio::test]
async fn a_decoding_error_contains_the_fingerprint_and_not_the_key() {
    let (shelf, key) = (Store::from(Shelf::default()), Key::new("cookie:hunter2").unwrap());
    shelf.write(&key, "not JSON").await.unwrap();
    let error = shelf.read_as::<Weights>(&key).await.unwrap_err();
    assert!(error.to_string().contains(&key.fingerprint()), "{error}");
    assert!(!format!("{error} {error:?}").contains("hunter2"));
}
