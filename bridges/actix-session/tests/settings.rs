//! Options of the session store, and storages that it accepts.

#![allow(clippy::unwrap_used)] // A test fails by panicking.

#[allow(dead_code)] // The plain keys.
mod support;

use std::{collections::HashMap, sync::Arc};

use actix_session::storage::SessionStore;
use actix_web::cookie::time::Duration;
use larder_actix_session::LarderStore;
use larder_bridge_tests::Claims;
use larder_core::{ErrorKind, Info, Key, Storage, Store, Versions};
use larder_memory::MemoryStorage;
use support::hashed;

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
        let session = store.save(HashMap::new(), &Duration::hours(1)).await.unwrap();
        let hash = hashed(&session).as_str()["session:".len()..].to_owned();
        let key = Key::new(format!("{prefix}{hash}")).unwrap();
        assert!(storage.contains(&key).await.unwrap());
        assert!(store.storage().contains(&key).await.unwrap());
    }
}

#[test]
fn a_prefix_leaves_room_for_the_key() {
    let store = LarderStore::new(MemoryStorage::new()).unwrap();
    assert!(store.clone().with_prefix("p".repeat(Key::MAX_BYTES - 64)).is_ok());
    for refused in ["p".repeat(Key::MAX_BYTES - 63), "zero\0".to_owned()] {
        assert_eq!(store.clone().with_prefix(refused).unwrap_err().kind(), ErrorKind::InvalidKey);
    }
}
