//! Databases in memory.

use larder_core::{Bytes, Key};
use larder_testkit::{Factory, Must, SingleOpener, Suite, factory};

/// Each space is a database in memory.
pub(crate) fn suite(name: &str) -> Suite<impl Factory> {
    Suite::new(name, SingleOpener::new(factory(|_| larder_sqlite::connect("sqlite::memory:"))))
        .case("info_reports_that_it_is_not_persistent", |context| async move {
            let handle = context.target.open().await;
            let info = handle.info();
            assert!(!info.persistent && !info.shared);
        })
        .case("each_store_has_its_own_database_and_its_clones_share_it", |context| async move {
            let key = Key::new("k").must("a key");
            let one = larder_sqlite::connect("sqlite::memory:").await.must("open");
            let other = larder_sqlite::connect("sqlite::memory:").await.must("open");
            one.write(&key, Bytes::from_static(b"1")).await.must("write");
            assert!(one.clone().contains(&key).await.must("look"));
            assert!(!other.contains(&key).await.must("look"));
            one.close().await.must("close");
            other.close().await.must("close");
            drop(context);
        })
}
