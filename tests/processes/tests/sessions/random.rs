//! The model of the sessions, on a real server.

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
        .case("random_programs_do_what_the_model_does", |context| {
            run(
                context,
                48,
                || model::ops(24),
                async |storage, prefix, ops| {
                    model::compare(storage, &prefix, &ops).await;
                },
            )
        })
        .case("nothing_is_lost_of_random_programs_at_the_same_time", |context| {
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

/// Runs a number of programs, each under a prefix of its own.
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
    // proptest does not wait: it runs on a thread that may be blocked.
    let tested = tokio::task::spawn_blocking(move || {
        // What fails is printed in full; a file of seeds would tell no more.
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
