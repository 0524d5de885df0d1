//! The contents of items, those of other programs, and limits.

use aws_sdk_dynamodb::{primitives::Blob, types::AttributeValue};
use futures_util::{StreamExt, TryStreamExt};
use larder_core::{Change, ErrorKind, Expiry, Key, ListOptions};
use larder_testkit::{Fails, Suite};

use crate::place::{Item, Place, key};

fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

pub(crate) fn cases(suite: Suite<Place>) -> Suite<Place> {
    suite
        .case("an_item_has_the_documented_attributes", |context| async move {
            let (place, space) = (&context.factory, context.target.space());
            let store = place.store(space, "").await;
            let version = store.write(key("clé"), "value").await.unwrap().version.unwrap();
            let expected = Item::from([
                ("id".to_owned(), text("clé")),
                ("value".to_owned(), AttributeValue::B(Blob::new("value"))),
                ("version".to_owned(), AttributeValue::N(version.as_token().unwrap().to_string())),
            ]);
            assert_eq!(place.item(space, "clé").await, Some(expected));
        })
        .case("the_largest_value_fits_under_the_longest_key", |context| async move {
            let store = context.factory.store(context.target.space(), "").await;
            let max = usize::try_from(store.info().max_value.unwrap()).unwrap();
            let longest = key("k".repeat(Key::MAX_BYTES));
            let value = vec![b'v'; max];
            let expiry = Expiry::After(Expiry::MAX);
            store.write(&longest, value.clone()).expiry(expiry).await.unwrap();
            assert!(store.touch(&longest, expiry).await.unwrap());
            assert_eq!(store.read(&longest).await.unwrap().unwrap().value, value);
            let error = store.write(&longest, vec![b'v'; max + 1]).await;
            let error = error.fails(ErrorKind::TooLarge, "a value beyond the limit");
            assert!(error.message().contains(&max.to_string()), "{error}");
            // The whole batch fits into one request.
            let changes = (0..25).map(|number| Change::put(key(number), value.clone(), expiry));
            assert!(store.apply(changes.collect()).await.iter().all(Result::is_ok));
        })
        .case("items_of_other_programs_are_reported_and_cleared_by_their_keys", |context| async move {
            let (place, space) = (&context.factory, context.target.space());
            let store = place.store(space, "").await;
            store.write(key("own"), "x").await.unwrap();
            for (id, other) in [
                ("control\n", ("value", AttributeValue::B(Blob::new("x")))),
                (&*"k".repeat(513), ("value", AttributeValue::B(Blob::new("x")))),
                ("no-value", ("user", text("hunter2"))),
                ("other-value", ("value", text("hunter2"))),
                ("other-expiry", ("expires_at", text("hunter2"))),
            ] {
                let id = ("id".to_owned(), text(id));
                place.put(space, Item::from([id, (other.0.to_owned(), other.1)])).await;
            }
            let listed: Vec<_> = store.list(ListOptions::new()).collect().await;
            let count = |kind| {
                listed.iter().filter(|entry| entry.as_ref().is_err_and(|error| error.kind() == kind)).count()
            };
            assert_eq!((count(ErrorKind::InvalidKey), count(ErrorKind::Corrupt)), (2, 3));
            assert_eq!(listed.iter().flatten().map(|entry| entry.key.as_str()).collect::<Vec<_>>(), ["own"]);
            for name in ["no-value", "other-value", "other-expiry"] {
                let error = store.read(key(name)).await.fails(ErrorKind::Corrupt, name);
                assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
                assert!(error.fingerprint().is_some());
            }
            // A listing of keys does not read the values. It cannot name or read the others, so they are kept.
            assert_eq!(store.clear("").await.unwrap(), 3);
            for id in ["own", "no-value", "other-value"] {
                assert!(place.item(space, id).await.is_none(), "{id}");
            }
            for id in ["control\n", &"k".repeat(513), "other-expiry"] {
                assert!(place.item(space, id).await.is_some(), "{id}");
            }
        })
        .case("a_listing_with_a_prefix_reads_every_page", |context| async move {
            let store = context.factory.store(context.target.space(), "").await;
            // Several pages of 1 MB, most of them without an entry of the prefix.
            for number in 0..12 {
                store.write(key(format!("large-{number}")), vec![0; 400_000]).await.unwrap();
            }
            for number in 0..30 {
                store.write(key(format!("small-{number}")), "x").await.unwrap();
            }
            assert_eq!(store.keys("small-").try_collect::<Vec<_>>().await.unwrap().len(), 30);
            assert_eq!(store.keys("large-").try_collect::<Vec<_>>().await.unwrap().len(), 12);
            assert_eq!(store.keys("").try_collect::<Vec<_>>().await.unwrap().len(), 42);
            assert_eq!(store.clear("large-").await.unwrap(), 12);
        })
}
