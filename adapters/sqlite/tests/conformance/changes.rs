//! Conditions, and batches that mix changes.

use std::time::Duration;

use futures_util::TryStreamExt;
use larder_core::{
    Action, Applied, Change, Condition, Error, ErrorKind, Expiry, Key, ListOptions, Outcome, ReadOptions,
    Store, Version,
};
use larder_sqlite::{Config, SqlitePool};
use larder_testkit::{Fails, Must, Suite};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};

use crate::spaces::Files;

fn key(text: &str) -> Key {
    Key::new(text).must("a key")
}

fn put(name: &str, value: &'static str) -> Change {
    Change::put(key(name), value, Expiry::Never)
}

async fn value(store: &Store, name: &str) -> Option<String> {
    let record = store.read(name).await.must("read")?;
    Some(String::from_utf8(record.value.to_vec()).must("text"))
}

/// Checks that the pool's only connection is not in a transaction: the caller can begin one, and so can
/// the store.
async fn usable(pool: &SqlitePool, store: &Store) {
    let transaction = pool.begin_with("BEGIN IMMEDIATE").await.must("begin a transaction");
    transaction.rollback().await.must("roll it back");
    let mixed = vec![put("d", "1").on(Condition::Absent), Change::delete(key("e"))];
    for result in store.apply(mixed).await {
        result.must("apply a mixed batch");
    }
    store.close().await.must("close");
    pool.close().await;
}

pub(crate) fn cases(suite: Suite<Files>) -> Suite<Files> {
    suite
        .case("each_change_of_a_mixed_batch_has_its_own_condition", |context| async move {
            let store = context.factory.builder(context.target.space()).connect().await.must("open");
            let seen = store.write("at", "1").await.must("write").version.must("a version");
            for name in ["present", "taken", "deleted", "touched", "stale", "kept"] {
                store.write(name, "1").await.must("write");
            }
            let minute = Expiry::after_secs(60);
            let results = store
                .apply(vec![
                    put("plain", "2"),
                    put("at", "2").on(Condition::At(seen.clone())),
                    put("at", "3").on(Condition::At(seen.clone())),
                    put("present", "2").on(Condition::Present),
                    put("missing", "2").on(Condition::Present),
                    put("new", "2").on(Condition::Absent),
                    put("taken", "2").on(Condition::Absent),
                    Change::delete(key("deleted")),
                    Change::delete(key("missing")),
                    Change::delete(key("kept")).on(Condition::At(seen)),
                    Change::touch(key("touched"), minute).on(Condition::Present),
                    Change::touch(key("missing"), minute),
                ])
                .await;
            let kinds: Vec<_> = results.iter().map(|result| result.as_ref().err().map(Error::kind)).collect();
            let conflicts = kinds.iter().enumerate().filter(|(_, kind)| kind.is_some());
            assert_eq!(conflicts.map(|(place, _)| place).collect::<Vec<_>>(), [2, 4, 6, 9]);
            assert!(kinds.iter().flatten().all(|kind| *kind == ErrorKind::Conflict));
            assert_eq!(results[7].as_ref().must("delete"), &Applied::Deleted(true));
            assert_eq!(results[8].as_ref().must("delete"), &Applied::Deleted(false));
            assert_eq!(results[10].as_ref().must("touch"), &Applied::Touched(true));
            assert_eq!(results[11].as_ref().must("touch"), &Applied::Touched(false));
            for (name, expected) in
                [("plain", "2"), ("at", "2"), ("present", "2"), ("new", "2"), ("taken", "1")]
            {
                assert_eq!(value(&store, name).await.as_deref(), Some(expected), "{name}");
            }
            for (name, result) in [("plain", &results[0]), ("at", &results[1]), ("new", &results[5])] {
                let Applied::Put(written) = result.as_ref().must("write") else {
                    unreachable!("a put was applied")
                };
                assert_eq!(written.version, store.read(name).await.must("read").must("the entry").version);
            }
            assert_eq!(store.ttl("kept").await.must("ask"), Some(Expiry::Never));
            assert!(matches!(store.ttl("touched").await.must("ask"), Some(Expiry::After(_))));
            store.close().await.must("close");
        })
        .case("a_change_that_a_trigger_rejects_fails_alone", |context| async move {
            let space = context.target.space();
            let store = context.factory.builder(space).connect().await.must("open");
            let mut stranger = context.factory.stranger(space).await;
            let trigger = "CREATE TRIGGER no BEFORE INSERT ON larder WHEN new.value = x'6e6f' \
                           BEGIN SELECT RAISE(ABORT, 'no'); END";
            sqlx::query(trigger).execute(&mut stranger).await.must("make the trigger");
            let plain = vec![put("a", "1"), put("b", "no"), put("c", "1")];
            let mut mixed = plain.clone();
            mixed.push(put("d", "1").on(Condition::Absent));
            mixed.push(Change::delete(key("a")).on(Condition::Present));
            let puts = vec![
                put("e", "1").on(Condition::Absent),
                put("f", "no").on(Condition::Absent),
                put("c", "2").on(Condition::Present),
            ];
            for (changes, left) in [(plain, "ac"), (mixed, "cd"), (puts, "cde")] {
                let results = store.apply(changes).await;
                for (place, result) in results.into_iter().enumerate() {
                    match place {
                        1 => drop(
                            result.fails(ErrorKind::InvalidValue, "write a value that the trigger rejects"),
                        ),
                        _ => drop(result.must("the others")),
                    }
                }
                let keys: Vec<_> = store.keys("").try_collect().await.must("list");
                assert_eq!(keys.iter().map(Key::as_str).collect::<String>(), left);
            }
            store.close().await.must("close");
        })
        .case("a_version_of_another_kind_of_store_matches_no_row", |context| async move {
            let store = context.factory.builder(context.target.space()).connect().await.must("open");
            store.write("a", "1").await.must("write");
            let other = || Condition::At(Version::from_content("1".into()));
            let changes = [
                put("a", "2").on(other()),
                Change::delete(key("a")).on(other()),
                Change::touch(key("a"), Expiry::after_secs(60)).on(other()),
            ];
            for change in changes {
                let beside = match change.action {
                    Action::Put(..) => put("b", "1"),
                    Action::Delete => Change::delete(key("b")),
                    Action::Touch(_) => Change::touch(key("b"), Expiry::Never),
                };
                for batch in [vec![change.clone()], vec![change, beside]] {
                    let mut results = store.apply(batch).await.into_iter();
                    let first = results.next().must("a result");
                    first.fails(ErrorKind::Conflict, "change an entry at a version that it never had");
                    results.for_each(|result| drop(result.must("the change beside it")));
                }
            }
            let record = store.read("a").with_ttl().await.must("read").must("the entry");
            assert_eq!((record.value.as_ref(), record.expiry), (&b"1"[..], Some(Expiry::Never)));
            store.close().await.must("close");
        })
        .case("a_change_that_does_not_fit_fails_alone", |context| async move {
            let options = SqliteConnectOptions::new()
                .filename(context.factory.path(context.target.space()))
                .create_if_missing(true)
                .pragma("max_page_count", "64");
            let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await.must("open");
            let store = Config::new().connect_with(pool.clone()).await.must("set up");
            store.write("old", "1").await.must("write");
            let results = store
                .apply(vec![
                    put("small", "1").on(Condition::Absent),
                    Change::put(key("large"), vec![1; 1 << 20], Expiry::Never).on(Condition::Absent),
                    Change::delete(key("old")),
                ])
                .await;
            let kinds: Vec<_> = results.iter().map(|result| result.as_ref().err().map(Error::kind)).collect();
            assert_eq!(kinds, [None, Some(ErrorKind::StorageFull), None]);
            usable(&pool, &store).await;
        })
        .case("a_transaction_that_a_trigger_rolls_back_leaves_the_connection_usable", |context| async move {
            let options = SqliteConnectOptions::new().in_memory(true);
            // Another connection would see another database.
            let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await.must("open");
            let store = Config::new().connect_with(pool.clone()).await.must("set up");
            let trigger = "CREATE TRIGGER no BEFORE INSERT ON larder WHEN new.value = x'6e6f' \
                           BEGIN SELECT RAISE(ROLLBACK, 'no'); END";
            sqlx::query(trigger).execute(&pool).await.must("make the trigger");
            let changes = vec![
                put("a", "1").on(Condition::Absent),
                put("b", "no").on(Condition::Absent),
                put("c", "1"),
            ];
            let results = store.apply(changes).await;
            let kinds: Vec<_> = results.iter().map(|result| result.as_ref().err().map(Error::kind)).collect();
            assert_eq!(kinds, [None, Some(ErrorKind::InvalidValue), None]);
            usable(&pool, &store).await;
            drop(context);
        })
        .case("a_mixed_batch_that_gets_no_lock_is_not_applied", |context| async move {
            let space = context.target.space();
            let builder = context.factory.builder(space).busy_timeout(Duration::from_millis(50));
            let store = builder.connect().await.must("open");
            let mut stranger = context.factory.stranger(space).await;
            sqlx::query("BEGIN IMMEDIATE").execute(&mut stranger).await.must("take the lock");
            let changes = vec![
                put("a", "1").on(Condition::Absent),
                Change::touch(key("b"), Expiry::Never),
                Change::delete(key("c")),
            ];
            for result in store.apply(changes.clone()).await {
                let error = result.fails(ErrorKind::Unavailable, "apply while another process writes");
                assert_eq!(error.outcome(), Outcome::NotApplied);
            }
            sqlx::query("COMMIT").execute(&mut stranger).await.must("let go of the lock");
            for result in store.apply(changes).await {
                result.must("apply");
            }
            assert_eq!(value(&store, "a").await.as_deref(), Some("1"));
            store.close().await.must("close");
        })
        .case("a_read_returns_the_time_left_and_touches_in_one_step", |context| async move {
            let store = context.factory.builder(context.target.space()).connect().await.must("open");
            store.write("a", "1").expiry(Expiry::after_secs(60)).await.must("write");
            let version = store.read("a").await.must("read").must("the entry").version;
            let hour = Expiry::after_secs(3_600);
            let record = store.read("a").with_ttl().touching(hour).await.must("read").must("the entry");
            assert!(record.expiry.must("the time left").as_millis() > Some(3_500_000));
            assert_eq!((record.value.as_ref(), &record.version), (&b"1"[..], &version));
            assert_eq!(store.read("a").await.must("read").must("the entry").expiry, None);
            let keys = [key("a"), key("none")];
            let options = ReadOptions::new().with_ttl().with_touch(Expiry::Never);
            let records = store.read_many(&keys, &options).await;
            assert_eq!(
                records[0].as_ref().must("read").as_ref().must("the entry").expiry,
                Some(Expiry::Never)
            );
            assert!(records[1].as_ref().must("read").is_none());
            let record = store.read("a").without_value().with_ttl().await.must("read").must("the entry");
            assert_eq!((record.value.len(), record.expiry), (0, Some(Expiry::Never)));
            store.close().await.must("close");
        })
        .case("a_listing_starts_after_a_key_and_stops_at_the_limit", |context| async move {
            let store = context.factory.builder(context.target.space()).connect().await.must("open");
            let names: Vec<_> = (0..1_300).map(|number| format!("k{number:04}")).collect();
            let changes = names.iter().map(|name| put(name, "1")).chain([put("a", "1"), put("z", "1")]);
            for result in store.apply(changes.collect()).await {
                result.must("write");
            }
            let list = async |options: ListOptions| -> Vec<String> {
                let entries: Vec<_> = store.list(options).try_collect().await.must("list");
                entries.iter().map(|entry| entry.key.to_string()).collect()
            };
            for values in [true, false] {
                let options = || {
                    let options = ListOptions::new().prefix("k");
                    if values { options } else { options.keys_only() }
                };
                assert_eq!(list(options()).await, names);
                assert_eq!(list(options().start_after(key("k0700"))).await, names[701..]);
                assert_eq!(list(options().start_after(key("k07"))).await, names[700..]);
                assert_eq!(list(options().start_after(key("a"))).await, names);
                assert!(list(options().start_after(key("y"))).await.is_empty());
                let limit = std::num::NonZeroUsize::new(600).must("a number");
                assert_eq!(list(options().start_after(key("k0099")).limit(limit)).await, names[100..700]);
            }
            store.close().await.must("close");
        })
}
