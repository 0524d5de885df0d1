//! Expiry by the clocks of clients, and its attributes.

use aws_sdk_dynamodb::types::AttributeValue;
use larder_core::{Condition, ErrorKind, Expiry, clock::unix_millis};
use larder_testkit::{Fails, Suite};

use crate::place::{Item, Place, key};

fn number(item: &Item, name: &str) -> Option<i64> {
    item.get(name).map(|value| value.as_n().unwrap().parse().unwrap())
}

pub(crate) fn cases(suite: Suite<Place>) -> Suite<Place> {
    suite
        .case("an_expired_item_that_is_still_there_is_absent", |context| async move {
            let (place, space) = (&context.factory, context.target.space());
            let store = place.store(space, "").await;
            let expire = async |name: &str| {
                let written = store.write(key(name), "old").expiry(Expiry::after_secs(3600)).await.unwrap();
                place
                    .set(space, name, "expires_at", AttributeValue::N((unix_millis() - 1).to_string()))
                    .await;
                written.version.unwrap()
            };
            let seen = expire("k").await;
            assert_eq!(store.read(key("k")).await.unwrap(), None);
            assert!(!store.contains(key("k")).await.unwrap());
            assert_eq!(store.read(key("k")).touching(Expiry::Never).await.unwrap(), None);
            assert!(!store.touch(key("k"), Expiry::Never).await.unwrap());
            assert!(!store.delete(key("k")).await.unwrap());
            store.delete(key("k")).if_at(seen.clone()).await.fails(ErrorKind::Conflict, "delete if at");
            store.write(key("k"), "new").if_present().await.fails(ErrorKind::Conflict, "write if present");
            let at = store.write(key("k"), "new").condition(Condition::At(seen)).await;
            at.fails(ErrorKind::Conflict, "write if at");
            assert!(place.item(space, "k").await.is_some(), "DynamoDB has removed the item");
            store.write(key("k"), "new").if_absent().await.unwrap();
            assert_eq!(store.read(key("k")).await.unwrap().unwrap().value, "new");
            assert!(number(&place.item(space, "k").await.unwrap(), "expires_at").is_none());
        })
        .case("an_item_is_removed_some_minutes_after_it_expires", |context| async move {
            let (place, space) = (&context.factory, context.target.space());
            let store = place.store(space, "").await;
            let check = async |ttl: i64| {
                let item = place.item(space, "k").await.unwrap();
                let (expires_at, remove_at) = (number(&item, "expires_at"), number(&item, "remove_at"));
                let left = expires_at.unwrap() - unix_millis();
                assert!((ttl - 30_000..=ttl).contains(&left), "{left}");
                assert!((300_000..=301_000).contains(&(remove_at.unwrap() * 1000 - expires_at.unwrap())));
            };
            store.write(key("k"), "x").expiry(Expiry::after_secs(60)).await.unwrap();
            check(60_000).await;
            store.touch(key("k"), Expiry::after_secs(7200)).await.unwrap();
            check(7_200_000).await;
            store.touch(key("k"), Expiry::Never).await.unwrap();
            let item = place.item(space, "k").await.unwrap();
            assert!(!item.contains_key("expires_at") && !item.contains_key("remove_at"));
        })
}
