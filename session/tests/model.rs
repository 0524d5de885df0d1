//! Random programs against a simple model of sessions.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test fails by panicking.

#[path = "model/mod.rs"]
mod model;
#[path = "moves/stage.rs"]
#[allow(dead_code)]
mod stage;

use larder_core::{Store, Versions};
use larder_memory::MemoryStorage;
use proptest::prelude::*;
use stage::Stage;

fn run(work: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work);
}

fn cases(cases: u32) -> ProptestConfig {
    // A failing case is printed in full, so a file of seeds is not needed.
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(512))]

    #[test]
    fn one_after_another(ops in model::ops(40)) {
        run(model::compare(MemoryStorage::new(), "chat:", &ops));
    }
}

proptest! {
    #![proptest_config(cases(128))]

    #[test]
    fn at_the_same_time(batches in model::batches(6, 12)) {
        for versions in [Versions::Unique, Versions::Content] {
            let stage = Stage::new(versions);
            // Each operation yields to the other tasks.
            stage.direct(true);
            run(model::race(Store::new(stage), "chat:", &batches));
        }
    }
}
