//! The stored data.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test fails by panicking.

use larder_memory::MemoryStorage;
use larder_poise::{CommandSessions, Fragment, KvSessions, Multi, Origin, Scope, Sessions};
use poise::serenity_prelude::{GuildId, UserId};

#[tokio::test]
async fn a_session_of_named_values_is_deleted_once() {
    let storage = MemoryStorage::new();
    let sessions = KvSessions::builder().storage(storage.clone()).build().unwrap();
    let sessions = CommandSessions::new(sessions, Scope::User);
    let origin = Origin::new(UserId::new(7), None, None);
    sessions.of(origin).try_modify(|session| session.set("language", "de")).await.unwrap();
    assert_eq!(storage.len(), 1);
    assert!(sessions.of(origin).delete().await.unwrap());
    assert_eq!(storage.len(), 0);
    assert!(!sessions.of(origin).delete().await.unwrap());
}

#[tokio::test]
async fn a_typed_session_is_deleted_once() {
    let storage = MemoryStorage::new();
    let coins = Sessions::<u64>::builder().storage(storage.clone()).build().unwrap();
    let coins = CommandSessions::new(coins, Scope::User);
    let origin = Origin::new(UserId::new(7), None, None);
    coins.of(origin).modify(|coins| *coins += 9).await.unwrap();
    coins.of(origin).update_once(async |mut coins| *coins += 1).await.unwrap();
    assert!(coins.of(origin).with(|coins| *coins == 10).await.unwrap());
    assert_eq!(storage.len(), 1);
    assert!(coins.of(origin).delete().await.unwrap());
    assert_eq!(storage.len(), 0);
    assert!(!coins.of(origin).delete().await.unwrap());
}

/// The README describes this.
#[tokio::test]
async fn an_unchanged_new_session_is_written_only_if_typed() {
    let storage = MemoryStorage::new();
    let named = KvSessions::builder().storage(storage.clone()).prefix("named:").build().unwrap();
    let typed = Sessions::<u64>::builder().storage(storage.clone()).prefix("typed:").build().unwrap();
    let (named, typed) = (CommandSessions::new(named, Scope::User), CommandSessions::new(typed, Scope::User));
    let origin = Origin::new(UserId::new(7), None, None);
    named.of(origin).update(async |_| {}).await.unwrap();
    assert_eq!(storage.len(), 0);
    typed.of(origin).update(async |_| {}).await.unwrap();
    assert_eq!(typed.of(origin).get().await.unwrap(), Some(0));
}

/// The README describes this: no order to keep, and no deadlock.
#[tokio::test]
async fn several_typed_sessions_change_in_one_update() {
    let storage = MemoryStorage::new();
    let sessions = |prefix, scope| {
        let sessions = Sessions::<u64>::builder().storage(storage.clone()).prefix(prefix).build();
        CommandSessions::new(sessions.unwrap(), scope)
    };
    let (purses, banks) = (sessions("purse:", Scope::User), sessions("bank:", Scope::Guild));
    let both = Multi::new((
        Fragment::strict("purse", purses.sessions().clone()),
        Fragment::strict("bank", banks.sessions().clone()),
    ));
    let origin = Origin::new(UserId::new(7), None, GuildId::new(1));
    let keys = (purses.of(origin).key().clone(), banks.of(origin).key().clone());
    let moved = both.update(keys, async |(mut purse, mut bank)| {
        *bank += 100;
        *purse += 1;
    });
    moved.await.unwrap();
    assert_eq!(purses.of(origin).get().await.unwrap(), Some(1));
    assert_eq!(banks.of(origin).get().await.unwrap(), Some(100));
}
