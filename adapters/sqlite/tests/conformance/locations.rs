//! Locations: whether two handles use the same entries.

use larder_core::Store;
use larder_sqlite::Config;
use larder_testkit::{Must, Suite};
use sqlx::sqlite::SqlitePoolOptions;

use crate::spaces::Files;

/// Returns whether both use the same entries. Closes the second one.
async fn same(one: &Store, other: Store) -> bool {
    let here = one.location().await.must("location").must("tell where the entries are");
    let there = other.location().await.must("location").must("tell where the entries are");
    other.close().await.must("close");
    here == there
}

pub(crate) fn cases(suite: Suite<Files>) -> Suite<Files> {
    suite
        .case("a_table_of_a_file_has_one_location_under_every_name", |context| async move {
            let path = context.factory.path(context.target.space());
            let config = Config::new().file(&path);
            let store = config.clone().connect().await.must("open");
            assert!(same(&store, config.clone().existing().connect().await.must("look")).await);
            assert!(same(&store, config.clone().table("LARDER").connect().await.must("open")).await);
            assert!(!same(&store, config.clone().table("larder2").connect().await.must("open")).await);
            let relative = path.with_file_name(".").join(path.file_name().must("a name"));
            assert!(same(&store, config.file(relative).connect().await.must("open")).await);
            #[cfg(unix)]
            {
                let link = path.with_extension("link");
                std::os::unix::fs::symlink(&path, &link).must("make a link");
                assert!(same(&store, Config::new().file(&link).connect().await.must("open")).await);
            }
            let url = format!("sqlite:{}", path.display());
            let pool = SqlitePoolOptions::new().connect(&url).await.must("connect");
            assert!(same(&store, Config::new().connect_with(pool.clone()).await.must("open")).await);
            pool.close().await;
            store.close().await.must("close");
        })
        .case("a_database_in_memory_has_a_location_of_its_own", |context| async move {
            let memory = Config::new().in_memory();
            let store = memory.clone().connect().await.must("open");
            assert!(same(&store, store.clone()).await);
            let store = memory.clone().connect().await.must("open");
            assert!(!same(&store, memory.connect().await.must("open")).await);
            // Two stores on the pool would use the same entries, but the pool cannot tell.
            let pool = SqlitePoolOptions::new().max_connections(1);
            let pool = pool.connect("sqlite::memory:").await.must("connect");
            let on_pool = Config::new().connect_with(pool.clone()).await.must("open");
            assert_eq!(on_pool.location().await.must("location"), None);
            on_pool.close().await.must("close");
            store.close().await.must("close");
            pool.close().await;
            drop(context);
        })
}
