//! The rules of `Store`, which are the same for every adapter.

#![allow(clippy::unwrap_used, clippy::panic)]

mod recorder;
mod spans;

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::{StreamExt, TryStreamExt};
use larder_core::{
    Action, Applied, Change, Condition, DeleteOptions, Error, ErrorKind, Expiry, Info, Key, ListOptions,
    Operation, ReadOptions, Record, Result, Storage, Store, TouchOptions, Version, Versions, WriteOptions,
    Written,
};
use recorder::{Minimal, Recorder, key};

const ALL: Info =
    Info::minimal("recorder").with_expiry().with_versions(Versions::Unique).with_ordered_listing();

const ZERO: Expiry = Expiry::After(Duration::ZERO);

fn open(info: Info) -> (Arc<Recorder>, Store) {
    let recorder = Arc::new(Recorder::new(info));
    (Arc::clone(&recorder), Store::from(recorder as Arc<dyn Storage>))
}

fn kind<T: std::fmt::Debug>(result: Result<T>) -> ErrorKind {
    result.unwrap_err().kind()
}

fn limit(entries: usize) -> ListOptions {
    ListOptions::new().limit(entries.try_into().unwrap())
}

async fn keys(store: &Store, options: ListOptions) -> Vec<String> {
    store.list(options).map_ok(|entry| entry.key.to_string()).try_collect().await.unwrap()
}

#[tokio::test]
async fn requests_carry_their_options() {
    let (recorder, store) = open(ALL);
    let version = Version::from_token(7);
    store.write("k", "v").expires_in(Duration::from_secs(9)).if_absent().await.unwrap();
    store.write(key("k"), vec![1]).if_at(version.clone()).await.unwrap();
    store.write("k".to_owned(), "v").if_present().await.unwrap();
    store.read("k").with_ttl().touching(Expiry::after_secs(5)).without_value().await.unwrap();
    store.delete("k").if_at(version.clone()).await.unwrap();
    store.touch("k", Duration::from_secs(3)).if_present().await.unwrap();
    assert_eq!(
        recorder.calls(),
        [
            "write k After(9s) Absent",
            "write k Never At(Version(..))",
            "write k Never Present",
            "read k value=false ttl=true touch=Some(After(5s))",
            "delete k At(Version(..))",
            "touch k After(3s) Present",
        ]
    );
    assert_eq!(kind(store.read("").await), ErrorKind::InvalidKey);
    assert_eq!(kind(store.write("a\0", "v").await), ErrorKind::InvalidKey);
}

#[tokio::test]
async fn a_write_or_touch_with_a_ttl_of_zero_is_a_deletion_with_the_same_condition() {
    let (recorder, store) = open(ALL);
    for condition in [Condition::Any, Condition::Present, Condition::At(Version::from_token(1))] {
        let written = store.write("k", "v").expiry(ZERO).condition(condition.clone()).await.unwrap();
        assert_eq!(written, Written::default());
        store.touch("k", ZERO).condition(condition).await.unwrap();
    }
    let deletions: Vec<_> = ["Any", "Any", "Present", "Present", "At(Version(..))", "At(Version(..))"]
        .map(|c| format!("delete k {c}"))
        .into();
    assert_eq!(recorder.calls(), deletions);
}

#[tokio::test]
async fn a_deletion_or_touch_of_an_absent_entry_is_a_read() {
    let (recorder, store) = open(ALL);
    let put = |recorder: &Recorder| recorder.put("k");
    assert!(!store.delete("k").if_absent().await.unwrap());
    assert!(!store.touch("k", Expiry::Never).if_absent().await.unwrap());
    assert!(store.write("k", "v").expiry(ZERO).if_absent().await.is_ok());
    put(&recorder);
    assert_eq!(kind(store.delete("k").if_absent().await), ErrorKind::Conflict);
    assert_eq!(kind(store.touch("k", Expiry::Never).if_absent().await), ErrorKind::Conflict);
    assert_eq!(kind(store.write("k", "v").expiry(ZERO).if_absent().await), ErrorKind::Conflict);
    assert!(
        recorder.calls().iter().all(|call| call.starts_with("read k value=false")),
        "{:?}",
        recorder.calls()
    );
}

#[tokio::test]
async fn a_batch_has_one_result_per_change_of_the_same_kind() {
    let (recorder, store) = open(ALL);
    recorder.put("there");
    let absent = |change: Change| change.on(Condition::Absent);
    let results = store
        .apply(vec![
            Change::put(key("a"), "v", Expiry::Never),
            Change::put(key("there"), "v", ZERO),
            absent(Change::delete(key("there"))),
            absent(Change::touch(key("other"), Expiry::Never)),
            Change::touch(key("a"), ZERO),
            Change::delete(key("b")),
            absent(Change::put(key("a"), "v", ZERO)),
        ])
        .await;
    let results: Vec<_> = results.into_iter().map(|result| result.map_err(|error| error.kind())).collect();
    assert!(matches!(&results[0], Ok(Applied::Put(Written { version: Some(_), .. }))));
    assert_eq!(
        results[1..],
        [
            Ok(Applied::Put(Written::default())),
            // The put before it has removed the entry.
            Ok(Applied::Deleted(false)),
            Ok(Applied::Touched(false)),
            Ok(Applied::Touched(true)),
            Ok(Applied::Deleted(false)),
            Ok(Applied::Put(Written::default())),
        ]
    );
    assert_eq!(recorder.calls().iter().filter(|call| call.starts_with("apply")).count(), 2);
}

#[tokio::test]
async fn a_rejected_change_does_not_affect_the_others() {
    let (recorder, store) = open(ALL.with_max_value(3));
    let results = store
        .apply(vec![Change::put(key("a"), "long", Expiry::Never), Change::put(key("b"), "v", Expiry::Never)])
        .await;
    assert_eq!(results[0].as_ref().unwrap_err().kind(), ErrorKind::TooLarge);
    assert!(results[1].is_ok());
    assert_eq!(recorder.calls(), ["apply b"]);
}

#[tokio::test]
async fn a_missing_result_of_an_adapter_is_an_error() {
    let (recorder, store) = open(ALL);
    recorder.short.store(true, Ordering::Relaxed);
    let results = store.apply(vec![Change::delete(key("a")), Change::delete(key("b"))]).await;
    assert_eq!(results.iter().filter(|result| result.is_err()).count(), 1);
    let namespaced = store.namespace("n:").unwrap();
    let results = namespaced.read_many(&[key("a"), key("b")], &ReadOptions::new()).await;
    assert_eq!(results.len(), 2);
    assert_eq!(results[1].as_ref().unwrap_err().kind(), ErrorKind::Other);
    // Without a namespace too.
    assert_eq!(store.read_many(&[key("a"), key("b")], &ReadOptions::new()).await.len(), 2);
}

#[tokio::test]
async fn unclaimed_features_are_rejected_before_the_adapter() {
    let (recorder, store) = open(Info::minimal("recorder"));
    let version = Version::from_token(1);
    for condition in [Condition::Absent, Condition::Present, Condition::At(version)] {
        assert_eq!(kind(store.write("k", "v").condition(condition.clone()).await), ErrorKind::Unsupported);
        assert_eq!(kind(store.delete("k").condition(condition.clone()).await), ErrorKind::Unsupported);
        let results = store.apply(vec![Change::delete(key("k")).on(condition)]).await;
        assert_eq!(results[0].as_ref().unwrap_err().kind(), ErrorKind::Unsupported);
    }
    assert_eq!(kind(store.write("k", "v").expires_in(Duration::from_secs(1)).await), ErrorKind::Unsupported);
    assert_eq!(kind(store.touch("k", Expiry::Never).await), ErrorKind::Unsupported);
    assert_eq!(kind(store.touch("k", ZERO).await), ErrorKind::Unsupported);
    assert_eq!(kind(store.ttl("k").await), ErrorKind::Unsupported);
    assert_eq!(kind(store.read("k").touching(Expiry::Never).await), ErrorKind::Unsupported);
    let ttl = ReadOptions::new().with_ttl();
    assert!(
        store
            .read_many(&[key("k"), key("l")], &ttl)
            .await
            .into_iter()
            .all(|r| kind(r) == ErrorKind::Unsupported)
    );
    for listing in [ListOptions::new(), ListOptions::new().keys_only()] {
        assert_eq!(kind(store.list(listing).try_collect::<Vec<_>>().await), ErrorKind::Unsupported);
    }
    assert_eq!(kind(store.clear("").await), ErrorKind::Unsupported);
    assert_eq!(kind(store.write("k", "v").expiry(ZERO).await), ErrorKind::Unsupported);
    assert_eq!(recorder.calls(), [""; 0]);
    let (_, unordered) = open(Info::minimal("recorder").with_listing());
    let after = ListOptions::new().start_after(key("a"));
    assert_eq!(kind(unordered.list(after).try_collect::<Vec<_>>().await), ErrorKind::Unsupported);
}

#[tokio::test]
async fn a_read_that_touches_with_a_ttl_of_zero_is_rejected() {
    let (recorder, store) = open(ALL);
    assert_eq!(kind(store.read("k").touching(ZERO).await), ErrorKind::InvalidValue);
    assert_eq!(recorder.calls(), [""; 0]);
}

#[tokio::test]
async fn errors_name_the_adapter_and_the_operation() {
    let (recorder, store) = open(ALL);
    recorder.fail(ErrorKind::Unavailable);
    let named = |error: Error, operation| {
        assert_eq!((error.adapter(), error.operation()), (Some("recorder"), Some(operation)), "{error:?}");
    };
    named(store.read("k").await.unwrap_err(), Operation::Read);
    named(store.write("k", "v").await.unwrap_err(), Operation::Write);
    named(store.delete("k").await.unwrap_err(), Operation::Delete);
    named(store.touch("k", Expiry::Never).await.unwrap_err(), Operation::Touch);
    named(
        store.read_many(&[key("k")], &ReadOptions::new()).await.remove(0).unwrap_err(),
        Operation::ReadMany,
    );
    named(store.apply(vec![Change::delete(key("k"))]).await.remove(0).unwrap_err(), Operation::Apply);
    named(store.list(ListOptions::new()).next().await.unwrap().unwrap_err(), Operation::List);
    named(store.clear("").await.unwrap_err(), Operation::Clear);
    named(store.ping().await.unwrap_err(), Operation::Ping);
}

#[tokio::test]
async fn a_closed_store_rejects_every_operation_through_every_handle() {
    let (recorder, store) = open(ALL);
    recorder.put("a");
    recorder.put("b");
    let namespace = store.namespace("a").unwrap();
    let layered = store.layer(|inner| inner);
    let mut listing = store.list(ListOptions::new());
    assert!(listing.next().await.unwrap().is_ok());
    store.close().await.unwrap();
    assert_eq!(kind(listing.next().await.unwrap()), ErrorKind::Closed);
    assert!(listing.next().await.is_none());
    for store in [store.clone(), namespace, layered] {
        assert_eq!(kind(store.read("k").await), ErrorKind::Closed);
        assert_eq!(kind(store.write("k", "v").await), ErrorKind::Closed);
        assert_eq!(kind(store.delete("k").await), ErrorKind::Closed);
        assert_eq!(kind(store.touch("k", Expiry::Never).await), ErrorKind::Closed);
        assert_eq!(kind(store.ttl("k").await), ErrorKind::Closed);
        assert_eq!(kind(store.contains("k").await), ErrorKind::Closed);
        assert!(
            store
                .read_many(&[key("k")], &ReadOptions::new())
                .await
                .into_iter()
                .all(|r| kind(r) == ErrorKind::Closed)
        );
        assert!(
            store
                .apply(vec![Change::delete(key("k"))])
                .await
                .into_iter()
                .all(|r| kind(r) == ErrorKind::Closed)
        );
        assert_eq!(kind(store.list(ListOptions::new()).next().await.unwrap()), ErrorKind::Closed);
        assert_eq!(kind(store.clear("").await), ErrorKind::Closed);
        assert_eq!(kind(store.purge_expired().await), ErrorKind::Closed);
        assert_eq!(kind(store.ping().await), ErrorKind::Closed);
        assert_eq!(kind(store.flush().await), ErrorKind::Closed);
        store.close().await.unwrap();
    }
    assert_eq!(recorder.calls().iter().filter(|call| *call == "close").count(), 1);
}

#[tokio::test]
async fn a_failed_close_can_be_repeated() {
    let (recorder, store) = open(ALL);
    recorder.fail(ErrorKind::StorageFull);
    assert_eq!(kind(store.close().await), ErrorKind::StorageFull);
    assert_eq!(kind(store.read("k").await), ErrorKind::Closed);
    recorder.succeed();
    store.close().await.unwrap();
    store.close().await.unwrap();
    assert_eq!(recorder.calls(), ["close", "close"]);
}

#[tokio::test]
async fn a_namespace_behaves_like_a_store() {
    let (recorder, store) = open(ALL);
    let outer = store.namespace("a:").unwrap();
    let inner = outer.namespace("b:").unwrap();
    inner.write("k", "v").await.unwrap();
    outer.write("other", "v").await.unwrap();
    // In the inner namespace, its key would be empty.
    store.write("a:b:", "v").await.unwrap();
    assert!(store.read("a:b:k").await.unwrap().is_some());
    assert!(inner.contains("k").await.unwrap());
    assert_eq!(keys(&inner, ListOptions::new()).await, ["k"]);
    assert_eq!(keys(&outer, ListOptions::new().prefix("b:")).await, ["b:", "b:k"]);
    assert_eq!(keys(&outer, ListOptions::new().start_after(key("b:k"))).await, ["other"]);
    let read = inner.read_many(&[key("k"), key("absent")], &ReadOptions::new()).await;
    assert!(matches!(&read[..], [Ok(Some(_)), Ok(None)]));
    let applied =
        inner.apply(vec![Change::delete(key("absent")), Change::touch(key("k"), Expiry::Never)]).await;
    assert!(matches!(&applied[..], [Ok(Applied::Deleted(false)), Ok(Applied::Touched(true))]));
    assert!(inner.touch("k", Expiry::Never).await.unwrap());
    assert_eq!(inner.clear("").await.unwrap(), 2);
    assert_eq!(keys(&store, ListOptions::new()).await, ["a:other"]);
    assert!(outer.delete("other").await.unwrap());

    // With the prefix, one key is too long. The other keys of the batch are not affected.
    let long = Key::new("k".repeat(511)).unwrap();
    assert_eq!(kind(outer.read(&long).await), ErrorKind::InvalidKey);
    let results = outer.read_many(&[key("k"), long, key("l")], &ReadOptions::new()).await;
    assert!(matches!(&results[..], [Ok(None), Err(_), Ok(None)]));
    for impossible in ["\n".to_owned(), "k".repeat(512)] {
        assert_eq!(kind(store.namespace(impossible)), ErrorKind::InvalidKey);
    }
    drop(recorder);
}

#[tokio::test]
async fn an_error_has_the_fingerprint_of_the_key_in_the_whole_store() {
    let (_, store) = open(ALL);
    let named = store.namespace("a:").unwrap().name_entry(Error::conflict(), &key("k"));
    assert_eq!(named.fingerprint(), Some(&*key("a:k").fingerprint()));
}

#[tokio::test]
async fn a_missing_ttl_is_an_error_and_not_an_unlimited_ttl() {
    let (recorder, store) = open(ALL);
    recorder.put("k");
    recorder.forgets_ttl.store(true, Ordering::Relaxed);
    assert_eq!(kind(store.ttl("k").await), ErrorKind::Other);
    let read = store.read_many(&[key("k")], &ReadOptions::new().with_ttl()).await;
    assert_eq!(read.into_iter().map(kind).collect::<Vec<_>>(), [ErrorKind::Other]);
    let listed: Vec<_> = store.entries("").collect().await;
    assert_eq!(listed.into_iter().map(kind).collect::<Vec<_>>(), [ErrorKind::Other]);
    assert!(store.read("k").await.unwrap().is_some());
    assert_eq!(keys(&store, ListOptions::new().keys_only()).await, ["k"]);
}

#[tokio::test]
async fn a_limit_ends_the_listing() {
    let (recorder, store) = open(ALL);
    for name in ["a", "b", "c", "n:", "n:x", "n:y", "n:z"] {
        recorder.put(name);
    }
    assert_eq!(keys(&store, limit(2)).await, ["a", "b"]);
    assert_eq!(keys(&store, limit(100)).await.len(), 7);
    assert_eq!(keys(&store, limit(1).prefix("n:y")).await, ["n:y"]);
    // The entry whose key is the namespace itself does not count.
    let namespace = store.namespace("n:").unwrap();
    assert_eq!(keys(&namespace, limit(2)).await, ["x", "y"]);
    assert_eq!(keys(&namespace, limit(2).start_after(key("x"))).await, ["y", "z"]);
}

#[tokio::test]
async fn a_prefix_that_no_key_can_have_finds_nothing() {
    let (recorder, store) = open(ALL);
    recorder.put("k");
    for prefix in ["\0".to_owned(), "k".repeat(513)] {
        assert_eq!(keys(&store, ListOptions::new().prefix(prefix.clone())).await, [""; 0]);
        assert_eq!(store.clear(&prefix).await.unwrap(), 0);
    }
    assert_eq!(recorder.calls(), [""; 0]);
}

#[tokio::test]
async fn a_listing_continues_only_after_an_error_of_one_entry() {
    let (recorder, store) = open(ALL);
    for name in ["a", "b", "c"] {
        recorder.put(name);
    }
    for (error, after) in [(ErrorKind::Corrupt, 2), (ErrorKind::InvalidKey, 2), (ErrorKind::Unavailable, 0)] {
        recorder.fail_in_listing(1, error);
        let entries: Vec<_> = store.entries("").collect().await;
        assert_eq!(entries.len(), 2 + after, "{error}");
        assert_eq!(entries[1].as_ref().unwrap_err().kind(), error);
    }
}

#[tokio::test]
async fn a_layer_receives_every_operation_and_replaces_the_info() {
    #[derive(Debug)]
    struct Refuses;

    #[larder_core::async_trait]
    impl Storage for Refuses {
        async fn read(&self, _: &Key, _: &ReadOptions) -> Result<Option<Record>> {
            Ok(None)
        }
        async fn write(&self, _: &Key, _: larder_core::Bytes, _: &WriteOptions) -> Result<Written> {
            Err(Error::new(ErrorKind::StorageFull, "no"))
        }
        async fn delete(&self, _: &Key, _: &DeleteOptions) -> Result<bool> {
            Ok(false)
        }
    }

    let (recorder, store) = open(ALL);
    let layered = store.layer(|_| Arc::new(Refuses) as Arc<dyn Storage>);
    assert!(!layered.info().listing && store.info().listing);
    assert_eq!(kind(layered.write("k", "v").await), ErrorKind::StorageFull);
    assert_eq!(recorder.calls(), [""; 0]);
}

#[tokio::test]
async fn default_batches_stop_once_the_store_is_gone() {
    let (recorder, _) = open(ALL);
    let store = Store::from(Minimal(Arc::clone(&recorder)));
    recorder.fail_after(1, ErrorKind::Unavailable);
    let changes = ["a", "b", "c"].map(|name| Change::put(key(name), "v", Expiry::Never));
    let results = store.apply(changes.into()).await;
    let outcomes: Vec<_> =
        results.iter().map(|result| result.as_ref().map_err(Error::outcome).err()).collect();
    use larder_core::Outcome::{NotApplied, Unknown};
    assert_eq!(outcomes, [None, Some(Unknown), Some(NotApplied)]);
    assert_eq!(recorder.calls().len(), 2);
    recorder.fail_after(1, ErrorKind::Corrupt);
    let results = store.read_many(&["a", "b", "c"].map(key), &ReadOptions::new()).await;
    assert_eq!(results.iter().filter(|result| result.is_err()).count(), 2);
    assert_eq!(recorder.calls().len(), 5);
}

#[tokio::test]
async fn the_methods_with_options_forward_them() {
    let (recorder, store) = open(ALL);
    let expiry = Expiry::after_secs(1);
    let options = WriteOptions::new().expiry(expiry).condition(Condition::Absent);
    let written = store.write_with(&key("k"), "v".into(), &options).await.unwrap();
    let at = Condition::At(written.version.unwrap());
    assert!(store.touch_with(&key("k"), expiry, &TouchOptions::new().condition(at.clone())).await.unwrap());
    assert!(store.read_with(&key("k"), &ReadOptions::new()).await.unwrap().is_some());
    assert!(store.delete_with(&key("k"), &DeleteOptions::new().condition(at)).await.unwrap());
    assert_eq!(recorder.calls().len(), 4);
    assert!(matches!(Change::delete(key("k")).action, Action::Delete));
}

#[tokio::test]
async fn a_record_has_only_the_requested_parts() {
    let (recorder, store) = open(ALL);
    recorder.put("k");
    let record = store.read("k").await.unwrap().unwrap();
    assert_eq!((&*record.value, record.expiry), (&b"v"[..], None));
    let record = store.read("k").without_value().with_ttl().await.unwrap().unwrap();
    assert_eq!((&*record.value, record.expiry), (&b""[..], Some(Expiry::Never)));
    let options = ReadOptions::new().without_value();
    let record = store.read_many(&[key("k")], &options).await.remove(0).unwrap().unwrap();
    assert_eq!((record.value.len(), record.expiry), (0, None));
}

#[tokio::test]
async fn a_batch_stops_once_the_store_is_gone() {
    let (recorder, store) = open(ALL);
    recorder.fail(ErrorKind::Unavailable);
    let put = |name| Change::put(key(name), "v", Expiry::Never);
    let results = store.apply(vec![put("a"), Change::delete(key("b")).on(Condition::Absent), put("c")]).await;
    let outcomes: Vec<_> = results.into_iter().map(|result| result.unwrap_err().outcome()).collect();
    use larder_core::Outcome::{NotApplied, Unknown};
    assert_eq!(outcomes, [Unknown, NotApplied, NotApplied]);
    assert_eq!(recorder.calls(), ["apply a"]);
}

#[tokio::test]
async fn an_invalid_key_is_an_error_of_the_operation() {
    let (_, store) = open(ALL);
    let error = store.delete("").await.unwrap_err();
    assert_eq!((error.adapter(), error.operation()), (Some("recorder"), Some(Operation::Delete)));
    store.close().await.unwrap();
    assert_eq!(kind(store.delete("").await), ErrorKind::Closed);
}

#[tokio::test]
async fn a_start_after_key_that_is_too_long_ends_the_listing() {
    let (_, store) = open(ALL);
    let options = ListOptions::new().start_after(Key::new("k".repeat(512)).unwrap());
    let error = store.namespace("n:").unwrap().list(options).next().await.unwrap().unwrap_err();
    assert!(!error.concerns_one_entry(), "{error}");
}

#[tokio::test]
async fn the_outcome_of_a_failed_clear_is_unknown() {
    let (recorder, store) = open(ALL);
    recorder.put("k");
    recorder.fail_after(1, ErrorKind::PermissionDenied);
    assert_eq!(store.clear("").await.unwrap_err().outcome(), larder_core::Outcome::Unknown);
}

/// A storage that drops its entries while it is closed looks empty.
#[tokio::test]
async fn entries_do_not_look_absent_during_a_close() {
    let (recorder, store) = open(ALL);
    recorder.put("a");
    let mut listing = store.list(ListOptions::new());
    assert!(listing.next().await.unwrap().is_ok());
    recorder.close_before_answering(store.clone());
    assert_eq!(kind(store.read("absent").await), ErrorKind::Closed);
    assert_eq!(kind(listing.next().await.unwrap()), ErrorKind::Closed);
}
