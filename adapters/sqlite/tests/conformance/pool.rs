//! A pool of the caller.

use larder_core::{Bytes, Key};
use larder_testkit::{Must, Suite};

use crate::spaces::OwnPool;

pub(crate) fn cases(suite: Suite<OwnPool>) -> Suite<OwnPool> {
    suite
        .case("the_pool_stays_open_and_is_the_only_source_of_connections", |context| async move {
            let storage = context.factory.connect(context.target.space()).await.must("set up");
            let key = Key::new("k").must("a key");
            storage.write(&key, Bytes::from_static(b"1")).await.must("write");
            assert!(context.factory.pool.size() <= 5);
            storage.close().await.must("close");
            assert!(!context.factory.pool.is_closed());
            let one: i64 = sqlx::query_scalar("SELECT 1").fetch_one(&context.factory.pool).await.must("ask");
            assert_eq!(one, 1);
            let again = context.target.open().await;
            assert!(again.contains(&key).await.must("look"));
        })
        .case("persistence_depends_on_the_pool", |context| async move {
            let handle = context.target.open().await;
            let info = handle.info();
            assert!(info.persistent && info.shared);
            let memory = sqlx::sqlite::SqlitePoolOptions::new()
                .max_connections(1)
                .connect("sqlite::memory:")
                .await
                .must("open");
            let storage = larder_sqlite::Config::new().connect_with(memory.clone()).await.must("set up");
            assert!(!storage.info().persistent);
            storage.close().await.must("close");
            memory.close().await;
        })
}
