//! A program that uses two versions of tower-sessions.

#![allow(clippy::unwrap_used)] // A test fails by panicking.

use axum_login::tower_sessions as v0_14;
use larder_memory::MemoryStorage;
use larder_tower_sessions::LarderStore;
use tower_sessions as v0_15;
use tower_sessions::cookie::time::{Duration, OffsetDateTime};

#[tokio::test]
async fn both_versions_share_their_sessions() {
    let store = LarderStore::new(MemoryStorage::new()).unwrap();
    let expiry_date = OffsetDateTime::now_utc() + Duration::hours(1);
    let data = [("count".to_owned(), 1.into())].into();
    let mut old = v0_14::session::Record { id: v0_14::session::Id::default(), data, expiry_date };
    v0_14::SessionStore::create(&store, &mut old).await.unwrap();

    let id = v0_15::session::Id(old.id.0);
    let mut new = v0_15::SessionStore::load(&store, &id).await.unwrap().unwrap();
    assert_eq!((&new.data, new.expiry_date), (&old.data, expiry_date));
    new.data.insert("count".to_owned(), 2.into());
    v0_15::SessionStore::save(&store, &new).await.unwrap();
    assert_eq!(v0_14::SessionStore::load(&store, &old.id).await.unwrap().unwrap().data, new.data);

    v0_15::SessionStore::delete(&store, &id).await.unwrap();
    assert_eq!(v0_14::SessionStore::load(&store, &old.id).await.unwrap(), None);
}
