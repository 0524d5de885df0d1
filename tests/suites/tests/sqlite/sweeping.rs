//! The sweeper.

use std::time::Duration;

use larder_core::{Expiry, Key, ReadOptions};
use larder_testkit::{Must, Suite, until};
use tokio::{runtime, task::block_in_place};

use crate::spaces::Files;

pub(crate) fn cases(suite: Suite<Files>) -> Suite<Files> {
    suite.case("a_read_that_touches_starts_the_sweeper_on_another_runtime", |context| async move {
        let soon = Expiry::after_millis(20);
        for many in [false, true] {
            let space = context.target.beside(if many { "many" } else { "one" });
            let builder = context.factory.builder(space.space()).sweep(Some(Duration::from_millis(5)));
            // The sweeper ends with the runtime that it began on.
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
    })
}
