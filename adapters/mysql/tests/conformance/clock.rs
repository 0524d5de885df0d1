//! Expiry by the server's clock.

use std::time::Duration;

use larder_core::{Change, Condition, Expiry};
use larder_mysql::{Config, sqlx};
use larder_testkit::Suite;

use crate::place::{Place, key};

pub(crate) fn cases(suite: Suite<Place>) -> Suite<Place> {
    suite
        .case("the_moment_of_expiry_is_in_unix_milliseconds", |context| async move {
            let (place, table) = (&context.factory, context.target.space());
            let storage = place.storage(&format!("table={table}")).await;
            storage.write(key("k"), "x").expiry(Expiry::after_secs(100)).await.unwrap();
            let sql = format!("SELECT expires_at DIV 1000 - UNIX_TIMESTAMP() FROM `{table}`");
            let left = place.admin().await.number(sql).await;
            assert!((98..=100).contains(&left), "{left}");
            storage.close().await.unwrap();
        })
        .case("the_time_zone_of_the_session_does_not_matter", |context| async move {
            let (place, table) = (&context.factory, context.target.space());
            let own = place.storage(&format!("table={table}")).await;
            for zone in ["+00:00", "+13:00", "-11:00", "SYSTEM"] {
                let pool = sqlx::mysql::MySqlPoolOptions::new()
                    .max_connections(2)
                    .after_connect(move |connection, _| {
                        Box::pin(async move {
                            let set = format!("SET time_zone = '{zone}'");
                            sqlx::raw_sql(sqlx::AssertSqlSafe(set)).execute(connection).await.map(drop)
                        })
                    })
                    .connect(place.bare_url())
                    .await
                    .unwrap();
                let other = Config::new().table(table).connect_with(pool.clone()).await.unwrap();
                for (writer, reader) in [(&own, &other), (&other, &own)] {
                    let hour = Expiry::after_secs(3_600);
                    writer.write(key("k"), "x").expiry(hour).await.unwrap();
                    writer.write(key("t"), "x").await.unwrap();
                    assert!(writer.touch(key("t"), hour).await.unwrap());
                    let batch = [("b", Condition::Any), ("c", Condition::Absent)]
                        .map(|(name, condition)| Change::put(key(name), "x", hour).on(condition));
                    for applied in writer.apply(batch.to_vec()).await {
                        drop(applied.unwrap());
                    }
                    for name in ["k", "t", "b", "c"] {
                        let Some(Expiry::After(left)) = reader.ttl(key(name)).await.unwrap() else {
                            panic!("{name}, {zone}")
                        };
                        assert!((3_590..=3_600).contains(&left.as_secs()), "{zone}: {left:?}");
                    }
                    assert_eq!(reader.clear("").await.unwrap(), 4);
                }
                other.close().await.unwrap();
                pool.close().await;
            }
            own.close().await.unwrap();
        })
        .case("the_farthest_expiry_is_stored", |context| async move {
            let storage = context.target.open().await;
            let far = Expiry::After(Expiry::MAX);
            storage.write(key("k"), "x").expiry(far).await.unwrap();
            let puts = ["a", "b"].map(|name| Change::put(key(name), "x", Expiry::Never));
            storage.apply_all(puts.to_vec(), "write").await;
            let changes = vec![Change::touch(key("a"), far), Change::put(key("b"), "x", far)];
            storage.apply_all(changes, "touch").await;
            assert!(storage.touch(key("k"), far).await.unwrap());
            for name in ["k", "a", "b"] {
                let Some(Expiry::After(left)) = storage.ttl(key(name)).await.unwrap() else {
                    panic!("{name}")
                };
                assert!(left <= Expiry::MAX && left + Duration::from_secs(60) > Expiry::MAX, "{left:?}");
            }
        })
}
