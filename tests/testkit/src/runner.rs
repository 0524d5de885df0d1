//! A test binary's `main`.

use std::{fmt, sync::Arc};

use libtest_mimic::{Arguments, Trial};
use tokio::runtime::{Builder, Runtime};

use crate::{Factory, Must, Suite};

/// How many cases run at a time unless `--test-threads` says otherwise: most of them wait, for the
/// store or for an entry to expire.
const THREADS: usize = 4;

/// Runs suites as the `main` of a test binary with `harness = false`.
///
/// It understands libtest's arguments: a filter, `--list`, `--exact`, `--skip`, `--test-threads`
/// and the like. Each case is a line of its own, such as
/// `test postgres::write_if_absent_wins_once ... ok`.
pub struct Runner {
    runtime: Arc<Runtime>,
    trials: Vec<Trial>,
}

impl Runner {
    /// A runner with no suite, and a runtime of its own that all cases share.
    ///
    /// # Panics
    ///
    /// If the operating system gives no threads.
    #[must_use]
    pub fn new() -> Self {
        let runtime = Builder::new_multi_thread().enable_all().build().must("start the runtime");
        Self { runtime: Arc::new(runtime), trials: Vec::new() }
    }

    /// Adds a suite.
    #[must_use]
    pub fn suite<F: Factory>(mut self, suite: Suite<F>) -> Self {
        self.trials.extend(suite.into_trials(&self.runtime));
        self
    }

    /// Runs the cases that the command line asks for, and ends the process: with success if none
    /// has failed.
    pub fn main(self) -> ! {
        let mut arguments = Arguments::from_args();
        arguments.test_threads.get_or_insert(THREADS);
        libtest_mimic::run(&arguments, self.trials).exit()
    }
}

impl Default for Runner {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner").field("cases", &self.trials.len()).finish_non_exhaustive()
    }
}
