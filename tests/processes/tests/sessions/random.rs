//! The model of the sessions, on real servers.

use std::{
    fmt,
    sync::atomic::{AtomicUsize, Ordering},
};

use larder_core::Store;
use larder_testkit::{Context, Factory, Must, Suite};
use proptest::{
    strategy::Strategy,
    test_runner::{Config, TestRunner},
};
use tokio::runtime::Handle;

use crate::model;

pub(crate) fn with_model<F: Factory>(suite: Suite<F>) -> Suite<F> {
    suite
        .case("random_programs_match_the_model", |context| {
            run(
                context,
                48,
                || model::ops(24),
                async |storage, prefix, ops| {
                    model::compare(storage, &prefix, &ops).await;
                },
            )
        })
        .case("simultaneous_random_programs_lose_no_update", |context| {
            run(
                context,
                24,
                || model::batches(5, 8),
                async |storage, prefix, batches| {
                    model::race(storage, &prefix, &batches).await;
                },
            )
        })
}

/// Runs programs, each under its own prefix.
async fn run<F, S>(
    context: Context<F>,
    cases: u32,
    programs: impl FnOnce() -> S + Send + 'static,
    test: impl AsyncFn(Store, String, S::Value) + Send + 'static,
) where
    S: Strategy<Value: fmt::Debug>,
{
    let storage = (*context.target.open().await).clone();
    let runtime = Handle::current();
    // proptest is synchronous: it runs on a thread that may block.
    let tested = tokio::task::spawn_blocking(move || {
        // A failed program is printed in full, so no file of seeds is needed.
        let config = Config { cases, failure_persistence: None, max_shrink_iters: 200, ..Config::default() };
        let count = AtomicUsize::new(0);
        let tested = TestRunner::new(config).run(&programs(), |program| {
            let prefix = format!("{}:", count.fetch_add(1, Ordering::Relaxed));
            runtime.block_on(test(storage.clone(), prefix, program));
            Ok(())
        });
        tested.map_err(|failed| failed.to_string())
    });
    if let Err(failed) = tested.await.must("run the programs") {
        panic!("{failed}");
    }
}
