//! The `main` of a test binary.

use std::{fmt, sync::Arc};

use libtest_mimic::{Arguments, Trial};
use tokio::runtime::{Builder, Runtime};

use crate::{Factory, Must, Suite};

/// The default of `--test-threads`: the number of concurrent cases. Most cases wait for the store, or until an
/// entry expires.
const THREADS: usize = 4;

/// Runs suites as the `main` of a test binary with `harness = false`.
///
/// It accepts the arguments of libtest, such as a filter, `--list`, `--exact`, `--skip` and `--test-threads`.
/// It prints one line per case, such as `test postgres::write_if_absent_wins_once ... ok`.
pub struct Runner {
    runtime: Arc<Runtime>,
    trials: Vec<Trial>,
}

impl Runner {
    /// Creates a runner without suites. All cases share the runner's runtime.
    ///
    /// # Panics
    ///
    /// If the operating system cannot start threads.
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

    /// Runs the cases that the command line selects, and ends the process. The exit status is success if no case
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
