//! The rows of the table, as other programs see them.

use larder_core::{Bytes, ErrorKind, Expiry, Key};
use larder_testkit::Suite;

use crate::place::Place;

pub(crate) fn cases(suite: Suite<Place>) -> Suite<Place> {
    suite
        .case("jsonb_can_be_queried", |context| async move {
            let table = context.target.space().to_owned();
            let storage = context.factory.storage(&format!("table={table}&values=jsonb")).await;
            let ada = Key::new("ada").unwrap();
            storage
                .write_as(&ada, &serde_json::json!({ "name": "Ada", "pets": 2 }), Expiry::Never)
                .await
                .unwrap();
            let admin = context.factory.admin().await;
            let found = admin.text(&format!("SELECT key FROM \"{table}\" WHERE value @> '{{\"pets\": 2}}'")).await;
            assert_eq!(found.as_deref(), Some("ada"));
            storage.close().await.unwrap();
        })
        .case("every_number_survives_in_every_column", |context| async move {
            const FLOATS: [f64; 12] = [
                f64::MAX,
                f64::MIN,
                f64::MIN_POSITIVE,
                f64::EPSILON,
                5e-324,
                2.225_073_858_507_201e-308,
                139.390_000_000_000_01,
                -120.654_873_651_235_05,
                1e16,
                1e300,
                0.1,
                0.0,
            ];
            // A xorshift64 over all bit patterns.
            let mut state = 0x9e37_79b9_7f4a_7c15_u64;
            let random = std::iter::repeat_with(|| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                f64::from_bits(state)
            });
            let floats: Vec<f64> =
                FLOATS.into_iter().chain(random.filter(|float| float.is_finite()).take(2_000)).collect();
            let integers = [i64::MIN, i64::MIN + 1, -1, 0, (1 << 53) + 1, i64::MAX];
            let unsigned = [u64::MAX, u64::MAX - 1, 1 << 63];
            for values in ["bytes", "jsonb", "json", "text"] {
                let table = format!("{}{values}", context.target.space());
                let storage = context.factory.storage(&format!("table={table}&values={values}")).await;
                let key = Key::new("k").unwrap();
                let written = (floats.clone(), integers, unsigned);
                storage.write_as(&key, &written, Expiry::Never).await.unwrap();
                let read: (Vec<f64>, [i64; 6], [u64; 3]) = storage.read_as(&key).await.unwrap().unwrap();
                for (written, read) in written.0.iter().zip(&read.0) {
                    assert_eq!(written.to_bits(), read.to_bits(), "{values}: {written:e} came back as {read:e}");
                }
                assert_eq!((read.0.len(), read.1, read.2), (floats.len(), integers, unsigned), "{values}");
                storage.close().await.unwrap();
                context.factory.admin().await.run(&format!("DROP TABLE \"{table}\"")).await;
            }
        })
        .case("bytea_holds_the_bytes_and_expires_at_the_moment", |context| async move {
            let table = context.target.space().to_owned();
            let storage = context.factory.storage(&format!("table={table}")).await;
            let key = Key::new("k").unwrap();
            storage.write(&key, Bytes::from_static(b"\x00\xff")).expiry(Expiry::after_secs(100)).await.unwrap();
            let admin = context.factory.admin().await;
            let sql = format!(
                "SELECT encode(value, 'hex'), expires_at - now() BETWEEN '98 seconds' AND '100 seconds' FROM \"{table}\""
            );
            let row = &admin.rows(&sql, &[]).await[0];
            assert_eq!((row.get::<_, &str>(0), row.get::<_, bool>(1)), ("00ff", true));
            storage.close().await.unwrap();
        })
        .case("rows_of_other_programs_are_entries", |context| async move {
            let table = context.target.space().to_owned();
            let storage = context.factory.storage(&format!("table={table}")).await;
            let admin = context.factory.admin().await;
            admin
                .run(&format!(
                    "INSERT INTO \"{table}\" VALUES ('by hand', 'x', 7, NULL), ('gone', 'x', 7, now() - interval '1 s'), \
                     ('endless', 'x', 7, 'infinity')"
                ))
                .await;
            let key = Key::new("by hand").unwrap();
            let record = storage.read(&key).await.unwrap().unwrap();
            assert_eq!(&record.value[..], b"x");
            let endless = Key::new("endless").unwrap();
            assert_eq!(storage.ttl(&endless).await.unwrap(), Some(Expiry::Never));
            assert!(!storage.contains(&Key::new("gone").unwrap()).await.unwrap());
            assert!(storage.delete(&key).if_at(record.version.unwrap()).await.unwrap());
            assert_eq!(storage.purge_expired().await.unwrap(), 1);
            storage.close().await.unwrap();
        })
        .case("an_invalid_key_is_one_error_in_a_listing", |context| async move {
            use futures_util::StreamExt;
            let table = context.target.space().to_owned();
            let storage = context.factory.storage(&format!("table={table}")).await;
            let admin = context.factory.admin().await;
            admin
                .run(&format!(
                    "INSERT INTO \"{table}\" VALUES ('a', 'x', 1, NULL), (E'b\\nc', 'x', 1, NULL), ('d', 'x', 1, NULL)"
                ))
                .await;
            let keys: Vec<_> = storage.keys("").collect().await;
            assert_eq!(keys.iter().filter(|key| key.is_ok()).count(), 2);
            assert_eq!(keys.len(), 3);
            let entries: Vec<_> = storage.entries("").collect().await;
            assert_eq!(entries.iter().filter(|entry| entry.is_ok()).count(), 2);
            storage.close().await.unwrap();
        })
        .case("a_listing_names_the_invalid_keys", |context| async move {
            use futures_util::StreamExt;
            let table = context.target.space().to_owned();
            let storage = context.factory.storage(&format!("table={table}")).await;
            let admin = context.factory.admin().await;
            admin
                .run(&format!(
                    "INSERT INTO \"{table}\" VALUES ('', 'x', 1, NULL), ('a', 'x', 1, NULL), \
                     (E'b\\nc', 'x', 1, NULL), ('d', 'x', 1, NULL)"
                ))
                .await;
            let refused = |listed: Vec<larder_core::Result<()>>| {
                let good = listed.iter().filter(|item| item.is_ok()).count();
                let errors = listed.into_iter().filter_map(Result::err);
                let names = errors.map(|error| {
                    assert_eq!(error.kind(), ErrorKind::InvalidKey, "{error}");
                    error.stored_name().expect("the error has the name").to_vec()
                });
                (good, names.collect::<Vec<_>>())
            };
            let names = vec![b"".to_vec(), b"b\nc".to_vec()];
            let keys = storage.keys("").map(|key| key.map(drop)).collect().await;
            assert_eq!(refused(keys), (2, names.clone()));
            let entries = storage.entries("").map(|entry| entry.map(drop)).collect().await;
            assert_eq!(refused(entries), (2, names));
            let keys = storage.keys("b").map(|key| key.map(drop)).collect().await;
            assert_eq!(refused(keys), (0, vec![b"b\nc".to_vec()]));
            storage.close().await.unwrap();
        })
        .case("the_sweeper_removes_expired_rows", |context| async move {
            let table = context.target.space().to_owned();
            let storage = context.factory.storage(&format!("table={table}&sweep=50ms")).await;
            let admin = context.factory.admin().await;
            // More rows than one statement removes.
            admin
                .run(&format!(
                    "INSERT INTO \"{table}\" SELECT 'old' || n, 'x', n, now() - interval '1 s' \
                     FROM generate_series(1, 2500) AS n"
                ))
                .await;
            larder_testkit::until("all rows are gone", std::time::Duration::from_secs(10), || async {
                admin.count(&format!("SELECT count(*) FROM \"{table}\""), &[]).await == 0
            })
            .await;
            storage.close().await.unwrap();
        })
        .case("a_touching_read_starts_the_sweeper_on_another_runtime", |context| async move {
            let table = context.target.space().to_owned();
            let admin = context.factory.admin().await;
            let options = format!("table={table}&sweep=5ms");
            let soon = Expiry::after_millis(20);
            let key = Key::new("k").unwrap();
            for many in [false, true] {
                // The sweeper ends with its runtime.
                let storage = tokio::task::block_in_place(|| {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                    runtime.block_on(async {
                        let storage = context.factory.storage(&options).await;
                        storage.write(&key, "1").await.unwrap();
                        storage
                    })
                });
                if many {
                    let options = larder_core::ReadOptions::new().with_touch(soon);
                    let read = storage.read_many(std::slice::from_ref(&key), &options).await;
                    assert!(matches!(read.as_slice(), [Ok(Some(_))]));
                } else {
                    storage.read(&key).touching(soon).await.unwrap().unwrap();
                }
                larder_testkit::until(
                    "the expired row is removed",
                    std::time::Duration::from_secs(10),
                    || async { admin.count(&format!("SELECT count(*) FROM \"{table}\""), &[]).await == 0 },
                )
                .await;
                storage.close().await.unwrap();
            }
        })
        .case("a_row_without_a_version_affects_only_its_key", |context| async move {
            use futures_util::StreamExt;
            use larder_core::ReadOptions;
            use larder_testkit::Fails;
            let table = context.target.space().to_owned();
            let storage = context.factory.storage(&format!("table={table}")).await;
            let admin = context.factory.admin().await;
            admin
                .run(&format!(
                    "ALTER TABLE \"{table}\" ALTER version DROP NOT NULL; \
                     INSERT INTO \"{table}\" VALUES ('good', 'x', 1, NULL), ('null', 'x', NULL, NULL)"
                ))
                .await;
            let keys = [Key::new("good").unwrap(), Key::new("null").unwrap()];
            drop(storage.read(&keys[1]).await.fails(ErrorKind::Corrupt, "its version is null"));
            let touched = storage.read(&keys[1]).touching(Expiry::after_secs(60)).await;
            drop(touched.fails(ErrorKind::Corrupt, "its version is null"));
            let mut found = storage.read_many(&keys, &ReadOptions::new()).await;
            drop(found.pop().unwrap().fails(ErrorKind::Corrupt, "its version is null"));
            assert!(found.pop().unwrap().unwrap().is_some());
            let listed: Vec<_> = storage.entries("").collect().await;
            let kinds: Vec<_> = listed.iter().map(|entry| entry.as_ref().err().map(larder_core::Error::kind)).collect();
            assert_eq!(kinds, [None, Some(ErrorKind::Corrupt)]);
            assert!(storage.contains(&keys[1]).await.unwrap());
            storage.write(&keys[1], Bytes::from_static(b"y")).if_present().await.unwrap();
            assert!(storage.read(&keys[1]).await.unwrap().is_some());
            storage.close().await.unwrap();
        })
        .case("large_entries_are_listed_in_small_pages", |context| async move {
            use futures_util::TryStreamExt;
            let table = context.target.space().to_owned();
            for values in ["bytes", "jsonb", "json", "text"] {
                let table = format!("{table}{values}");
                let storage = context.factory.storage(&format!("table={table}&values={values}")).await;
                // 2 MiB each, incompressible: two fill a page.
                let handle = larder_testkit::Handle::new(storage.clone());
                for number in 0..7 {
                    let key = Key::new(format!("large {number}")).unwrap();
                    handle.put(&key, &handle.bulk(2 << 20, number)).await;
                }
                let entries: Vec<_> = storage.entries("large").try_collect().await.unwrap();
                assert_eq!(entries.len(), 7);
                assert!(entries.iter().all(|(_, record)| record.value.len() == 2 << 20));
                storage.close().await.unwrap();
                context.factory.admin().await.run(&format!("DROP TABLE \"{table}\"")).await;
            }
        })
}
