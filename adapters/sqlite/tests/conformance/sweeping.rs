//! The sweeper.

use std::time::Duration;

use larder_core::{ErrorKind, Expiry, Key, ReadOptions};
use larder_testkit::{Fails, Must, Suite, until};
use sqlx::{AssertSqlSafe, Connection};
use tokio::{runtime, task::block_in_place};

use crate::spaces::Files;

pub(crate) fn cases(suite: Suite<Files>) -> Suite<Files> {
    let suite = suite.case("a_touching_read_starts_the_sweeper_on_another_runtime", |context| async move {
        let soon = Expiry::after_millis(20);
        for many in [false, true] {
            let space = context.target.beside(if many { "many" } else { "one" });
            let builder = context.factory.builder(space.space()).sweep(Some(Duration::from_millis(5)));
            // The sweeper ends with its runtime.
            let store = block_in_place(|| {
                let runtime = runtime::Builder::new_current_thread().enable_all().build().must("a runtime");
                runtime.block_on(async {
                    let store = builder.connect().await.must("open");
                    store.write("k", "1").await.must("write");
                    store
                })
            });
            if many {
                let options = ReadOptions::new().with_touch(soon);
                let read = store.read_many(&[Key::new("k").must("a key")], &options).await;
                assert!(matches!(read.as_slice(), [Ok(Some(_))]));
            } else {
                store.read("k").touching(soon).await.must("read").must("the entry");
            }
            until("the expired row is removed", Duration::from_secs(10), || async {
                let mut stranger = context.factory.stranger(space.space()).await;
                let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM larder")
                    .fetch_one(&mut stranger)
                    .await
                    .must("count");
                rows == 0
            })
            .await;
            store.close().await.must("close");
        }
    });
    suite
        .case("a_purge_removes_exactly_the_expired_rows", |context| async move {
            let space = context.target.space();
            let store = context.factory.builder(space).sweep(None).connect().await.must("open");
            let mut stranger = context.factory.stranger(space).await;
            // Several slices of row ids, from the smallest to the largest, with gaps.
            let (least, greatest) = (i64::MIN, i64::MAX);
            let rows = format!(
                "WITH RECURSIVE n (id) AS (SELECT 1 UNION ALL SELECT id + 7 FROM n WHERE id < 35000), \
                 ids (id) AS (VALUES ({least}), (-5), (0), ({greatest}) UNION ALL SELECT id FROM n) \
                 INSERT INTO larder (_rowid_, key, value, version, expires_at) SELECT id, 'k' || id, x'31', 1, \
                 CASE WHEN id < 1 OR id > 40000 OR id % 3 = 0 THEN 1 WHEN id % 3 = 1 THEN NULL \
                 ELSE 32503680000000 END FROM ids"
            );
            sqlx::query(AssertSqlSafe(rows)).execute(&mut stranger).await.must("write rows");
            let count = "SELECT count(*), count(*) FILTER (WHERE expires_at <= 1) FROM larder";
            let (all, expired): (i64, i64) =
                sqlx::query_as(count).fetch_one(&mut stranger).await.must("count");
            assert!(expired > 1_000);
            assert_eq!(store.purge_expired().await.must("purge"), expired.unsigned_abs());
            let left: (i64, i64) = sqlx::query_as(count).fetch_one(&mut stranger).await.must("count");
            assert_eq!(left, (all - expired, 0));
            assert_eq!(store.purge_expired().await.must("purge again"), 0);
            store.close().await.must("close");
        })
        .case("a_purge_locks_only_to_remove_rows", |context| async move {
            let builder = context.factory.builder(context.target.space()).sweep(None);
            let store = builder.busy_timeout(Duration::from_millis(50)).connect().await.must("open");
            store.write("k", "1").await.must("write");
            let mut stranger = context.factory.stranger(context.target.space()).await;
            let expired = "INSERT INTO larder (key, value, version, expires_at) VALUES ('old', x'31', 1, 1)";
            for rows in [0, 1] {
                if rows == 1 {
                    sqlx::query(expired).execute(&mut stranger).await.must("write a row");
                }
                let mut transaction = stranger.begin_with("BEGIN IMMEDIATE").await.must("take the lock");
                let purged = store.purge_expired().await;
                match rows {
                    0 => assert_eq!(purged.must("purge"), 0),
                    _ => drop(purged.fails(ErrorKind::Unavailable, "remove a row while another process writes")),
                }
                sqlx::query("SELECT 1").execute(&mut *transaction).await.must("still in the transaction");
                transaction.rollback().await.must("let go of the lock");
            }
            assert_eq!(store.purge_expired().await.must("purge"), 1);
            store.close().await.must("close");
        })
        .case("a_sweep_continues_after_the_previous_one", |context| async move {
            let space = context.target.space();
            let builder = context.factory.builder(space).sweep(Some(Duration::from_millis(5)));
            let store = builder.connect().await.must("open");
            let mut stranger = context.factory.stranger(space).await;
            // More rows than a sweep reads; only the last one has expired.
            let rows = "WITH RECURSIVE n (id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < 250000) \
                        INSERT INTO larder (key, value, version, expires_at) \
                        SELECT 'k' || id, x'31', 1, CASE id WHEN 250000 THEN 1 END FROM n";
            sqlx::query(rows).execute(&mut stranger).await.must("write rows");
            until("the expired row is removed", Duration::from_secs(30), || async {
                let mut looking = context.factory.stranger(space).await;
                let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM larder WHERE key = 'k250000'")
                    .fetch_one(&mut looking)
                    .await
                    .must("count");
                rows == 0
            })
            .await;
            store.close().await.must("close");
        })
}
