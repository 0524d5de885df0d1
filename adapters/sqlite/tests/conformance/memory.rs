//! Databases in memory.

use larder_core::{Bytes, Key};
use larder_testkit::{Factory, Must, SingleOpener, Suite, factory};

/// A database in memory per space.
pub(crate) fn suite(name: &str) -> Suite<impl Factory> {
    Suite::new(name, SingleOpener::new(factory(|_| larder_sqlite::connect("sqlite::memory:"))))
        .case("it_says_that_it_does_not_persist", |context| async move {
            let handle = context.target.open().await;
            let info = handle.info();
            assert!(!info.persistent && !info.shared);
        })
        .case("each_handle_has_a_database_of_its_own_and_its_clones_share_it", |context| async move {
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
