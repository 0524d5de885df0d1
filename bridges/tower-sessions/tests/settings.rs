//! Options of the session store, and storages that it accepts.

#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod common;

use std::sync::Arc;

use larder_bridge_tests::Claims;
use larder_core::{ErrorKind, Info, Key, Storage, Store, Versions};
use larder_memory::MemoryStorage;
use larder_tower_sessions::LarderStore;
use tower_sessions::{
    SessionStore,
    cookie::time::{Duration, OffsetDateTime},
    session::{Id, Record as Session},
};

#[test]
fn a_storage_without_expiry_or_compare_and_swap_is_refused() {
    let none = Info::minimal("claims");
    for (claims, lacks) in [
        (none, "expiry"),
        (none.with_versions(Versions::Unique), "expiry"),
        (none.with_expiry(), "compare-and-swap"),
    ] {
        let error = LarderStore::new(Claims(claims)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.message().contains(&format!("not support {lacks}")), "{error}");
    }
    LarderStore::new(Claims(none.with_expiry().with_versions(Versions::Content))).unwrap();
}

#[tokio::test]
async fn stores_and_storages_are_accepted_and_keys_have_the_prefix() {
    let memory = MemoryStorage::new();
    let shared: Arc<dyn Storage> = Arc::new(memory.clone());
    let storage = Store::new(Arc::clone(&shared));
    let stores = [
        (LarderStore::new(memory).unwrap(), "session:"),
        (LarderStore::new(shared).unwrap().with_prefix("shop:").unwrap(), "shop:"),
        (LarderStore::new(&storage).unwrap().with_prefix("").unwrap(), ""),
    ];
    for (store, prefix) in stores {
        let expiry_date = OffsetDateTime::now_utc() + Duration::hours(1);
        let mut session = Session { id: Id::default(), data: Default::default(), expiry_date };
        store.create(&mut session).await.unwrap();
        let key = common::hashed(prefix, &session.id.to_string());
        assert!(storage.contains(&key).await.unwrap());
        assert!(store.storage().contains(&key).await.unwrap());
    }
}

/// The stored forms are an interface: other programs read them, and a later version must find them.
#[tokio::test]
async fn the_stored_forms_are_as_documented() {
    const EXPIRES_AND_DATA: &str = r#""expires":"2031-05-01T12:00:00Z","data":{"count":2}}"#;
    let store = || LarderStore::new(MemoryStorage::new()).unwrap();
    let forms = [
        (store(), "session:#SxTQl3IniAXTrA4Aug1jh0Mj-6Dp4Hb5UtYRaG0-h2s", "{"),
        (store().migrating_plain_ids(), "session:#SxTQl3IniAXTrA4Aug1jh0Mj-6Dp4Hb5UtYRaG0-h2s", "{"),
        (store().with_plain_ids(), "session:BwAAAAAAAAAAAAAAAAAAAA", r#"{"id":"BwAAAAAAAAAAAAAAAAAAAA","#),
    ];
    for (store, key, begin) in forms {
        let expiry_date = OffsetDateTime::from_unix_timestamp(1_935_403_200).unwrap();
        let mut session = Session { id: Id(7), data: [("count".to_owned(), 2.into())].into(), expiry_date };
        store.create(&mut session).await.unwrap();
        let record = store.storage().read(key).await.unwrap().unwrap();
        assert_eq!(record.value, format!("{begin}{EXPIRES_AND_DATA}").as_bytes());
    }
}

#[test]
fn a_prefix_leaves_room_for_the_id() {
    let store = LarderStore::new(MemoryStorage::new()).unwrap();
    assert!(store.clone().with_prefix("p".repeat(Key::MAX_BYTES - 44)).is_ok());
    for refused in ["p".repeat(Key::MAX_BYTES - 43), "zero\0".to_owned()] {
        assert_eq!(store.clone().with_prefix(refused).unwrap_err().kind(), ErrorKind::InvalidKey);
    }
}
