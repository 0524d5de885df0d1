//! The cases of one adapter, by name.

use std::{collections::BTreeMap, fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use larder_core::{Error, Store};
use libtest_mimic::{Completion, Failed, Trial};
use tokio::{runtime::Runtime, sync::OnceCell};

use crate::{
    Factory, Scale, Target, law, laws,
    processes::{self, Processes, Role},
    runner,
};

/// Why a suite cannot run here: its server cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// What is missing and how to get it, for whoever reads the report.
    pub reason: String,
    /// Whether that is a failure. Otherwise the cases are reported as ignored, with the reason.
    pub required: bool,
}

impl Missing {
    /// Something is missing because of `reason`.
    #[must_use]
    pub fn new(reason: impl Into<String>, required: bool) -> Self {
        Self { reason: reason.into(), required }
    }
}

/// What an adapter's own case is given.
#[derive(Debug)]
pub struct Context<F> {
    /// The suite's factory, for what only this adapter has.
    pub factory: Arc<F>,
    /// An empty space, removed when the case has succeeded.
    pub target: Target,
}

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type Connect<F> = Box<dyn Fn() -> Boxed<Result<F, Missing>> + Send + Sync>;
type Body<F> = Box<dyn FnOnce(Context<F>) -> Boxed<()> + Send>;

/// The conformance cases of one adapter (or of one layout or mode of it), and its own besides.
///
/// ```no_run
/// use larder_core::Store;
/// use larder_memory::MemoryStorage;
/// use larder_testkit::Suite;
///
/// fn main() {
///     let factory = larder_testkit::factory(|_space| async {
///         Ok(Store::from(MemoryStorage::new()))
///     });
///     Suite::new("memory", factory)
///         .case("is_called_memory", |context| async move {
///             assert_eq!(context.target.open().await.info().name, "memory");
///         })
///         .main()
/// }
/// ```
pub struct Suite<F> {
    name: String,
    connect: Connect<F>,
    laws: bool,
    processes: Option<Arc<Processes<F>>>,
    except: BTreeMap<String, String>,
    cases: Vec<(String, Body<F>)>,
    timeout: Duration,
    scale: Scale,
}

impl<F: Factory> Suite<F> {
    /// The suite called `name`, with all laws, on what `factory` opens.
    pub fn new(name: impl Into<String>, factory: F) -> Self {
        let factory = std::sync::Mutex::new(Some(factory));
        Self::connect(name, move || {
            let factory = factory.lock().ok().and_then(|mut factory| factory.take());
            async { factory.ok_or_else(|| Missing::new("the factory has been used up", true)) }
        })
    }

    /// The same with a factory that is made when the first case runs (and once), so that listing
    /// the cases starts no server.
    pub fn connect<C>(name: impl Into<String>, connect: impl Fn() -> C + Send + Sync + 'static) -> Self
    where
        C: Future<Output = Result<F, Missing>> + Send + 'static,
    {
        Self {
            name: name.into(),
            connect: Box::new(move || Box::pin(connect())),
            laws: true,
            processes: None,
            except: BTreeMap::new(),
            cases: Vec::new(),
            timeout: Duration::from_secs(120),
            scale: Scale::Full,
        }
    }

    /// A suite that cannot run: each case is ignored with the reason shown, or fails with it if it
    /// is `required`.
    pub fn missing(name: impl Into<String>, reason: impl Into<String>, required: bool) -> Self {
        let missing = Missing::new(reason, required);
        Self::connect(name, move || {
            let missing = missing.clone();
            async { Err(missing) }
        })
    }

    /// Adds a case of the adapter's own.
    #[must_use]
    pub fn case<B>(
        mut self,
        name: impl Into<String>,
        body: impl FnOnce(Context<F>) -> B + Send + 'static,
    ) -> Self
    where
        B: Future<Output = ()> + Send + 'static,
    {
        self.cases.push((name.into(), Box::new(|context| Box::pin(body(context)))));
        self
    }

    /// Leaves the laws out, and what [`across_processes`](Suite::across_processes) has added: only the
    /// adapter's own cases.
    #[must_use]
    pub fn without_laws(mut self) -> Self {
        self.laws = false;
        self.processes = None;
        self
    }

    /// Tells how another process opens a space, so that the suite can test claims of
    /// [persistence](larder_core::Info::persistent) and
    /// [sharing](larder_core::Info::shared): `address` describes a space of the factory as a text,
    /// such as a URL, and `open` opens it. The suite then kills a writing process and checks that every
    /// acknowledged write is stored, and lets two processes increment one number.
    ///
    /// The other process is this test binary again: whatever runs before the suite is handed to its
    /// [`Runner`](crate::Runner) runs there too, so it should not make a directory or start a server: that is
    /// what [`Suite::connect`] is for. Without this, the two cases are reported as ignored.
    ///
    /// ```no_run
    /// # use larder_core::{Error, Store};
    /// # use larder_memory::MemoryStorage;
    /// # use larder_testkit::Suite;
    /// # async fn open(url: String) -> Result<Store, Error> { larder_memory::connect(&url).await }
    /// # fn main() {
    /// let url = |space: &str| format!("example:/tmp/larder-test/{space}");
    /// Suite::new("mine", larder_testkit::factory(move |space| open(url(&space))))
    ///     .across_processes(move |_factory, space| url(space), open)
    ///     .main()
    /// # }
    /// ```
    #[must_use]
    pub fn across_processes<O>(
        mut self,
        address: impl Fn(&F, &str) -> String + Send + Sync + 'static,
        open: impl Fn(String) -> O + Send + Sync + 'static,
    ) -> Self
    where
        O: Future<Output = Result<Store, Error>> + Send + 'static,
    {
        self.processes = Some(Arc::new(Processes::new(address, open)));
        self
    }

    /// Reports the law (or case) of that name as ignored, for that reason: something that the
    /// adapter does differently on purpose, or a server that is not the real one.
    #[must_use]
    pub fn except(mut self, name: impl Into<String>, reason: impl Into<String>) -> Self {
        self.except.insert(name.into(), reason.into());
        self
    }

    /// How long a case may take before it fails; 120 seconds unless said otherwise.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Smaller counts, for a store that does some hundred writes a second; see [`Scale`].
    #[must_use]
    pub fn slow(mut self) -> Self {
        self.scale = Scale::Slow;
        self
    }

    /// Runs this suite alone, as the test binary's `main`.
    pub fn main(self) -> ! {
        runner::Runner::new().suite(self).main()
    }

    /// Whether there is a case of that name.
    fn has(&self, name: &str) -> bool {
        self.laws && laws::named(name).is_some()
            || self.has_processes() && Role::ALL.iter().any(|role| role.case() == name)
            || self.cases.iter().any(|(case, _)| case == name)
    }

    fn has_processes(&self) -> bool {
        self.laws || self.processes.is_some()
    }

    /// The cases that need a second process. Does not return in that process.
    fn process_cases(&self, runtime: &Runtime) -> Vec<(String, Body<F>)> {
        if let Some(processes) = &self.processes {
            processes.run_if_second(&self.name, runtime);
        }
        let case = |role: &Role| {
            let (role, suite, processes) = (*role, self.name.clone(), self.processes.clone());
            let run = move |context| processes::run(role, suite, processes, context);
            let body: Body<F> = Box::new(move |context| Box::pin(run(context)));
            (role.case().to_owned(), body)
        };
        Role::ALL.iter().filter(|_| self.has_processes()).map(case).collect()
    }

    /// The suite as trials for libtest-mimic, to be run on `runtime`.
    ///
    /// # Panics
    ///
    /// If an [exception](Suite::except) names no case.
    pub fn into_trials(self, runtime: &Arc<Runtime>) -> Vec<Trial> {
        for name in self.except.keys() {
            assert!(
                self.has(name),
                "the suite `{}` makes an exception of `{name}`, but has no such case",
                self.name
            );
        }
        let processes = self.process_cases(runtime);
        let shared = Arc::new(Shared {
            runtime: Arc::clone(runtime),
            connect: self.connect,
            factory: OnceCell::new(),
            timeout: self.timeout,
            scale: self.scale,
        });
        let laws = laws::all().filter(|_| self.laws).map(|law| {
            let body: Body<F> = Box::new(|context| law.run(context.target));
            (law.name().to_owned(), body)
        });
        laws.chain(processes)
            .chain(self.cases)
            .map(|(name, body)| {
                let title = format!("{}::{name}", self.name);
                let shared = Arc::clone(&shared);
                let except = self.except.get(&name).cloned();
                Trial::ignorable_test(title, move || match except {
                    Some(reason) => Ok(Completion::ignored_with(reason)),
                    None => shared.run(&name, body),
                })
            })
            .collect()
    }
}

/// What the trials of one suite share.
struct Shared<F> {
    runtime: Arc<Runtime>,
    connect: Connect<F>,
    factory: OnceCell<Result<Arc<F>, Missing>>,
    timeout: Duration,
    scale: Scale,
}

impl<F: Factory> Shared<F> {
    fn run(&self, name: &str, body: Body<F>) -> Result<Completion, Failed> {
        self.runtime.block_on(async {
            let factory = self.factory.get_or_init(|| async { (self.connect)().await.map(Arc::new) }).await;
            let factory = match factory {
                Ok(factory) => Arc::clone(factory),
                Err(missing) if missing.required => {
                    return Err(format!("required, but missing: {}", missing.reason).into());
                }
                Err(missing) => return Ok(Completion::ignored_with(&missing.reason)),
            };
            if let Some(excuse) = factory.excuse(name) {
                return Ok(Completion::ignored_with(excuse));
            }
            let target = Target::new(Arc::clone(&factory) as Arc<dyn Factory>).with_scale(self.scale);
            let case = body(Context { factory, target: target.clone() });
            law::check(target.clone(), case, self.timeout).await.map_err(Failed::from)?;
            Ok(target.ignored().map_or(Completion::Completed, Completion::ignored_with))
        })
    }
}

impl<F> fmt::Debug for Suite<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Suite")
            .field("name", &self.name)
            .field("timeout", &self.timeout)
            .field("scale", &self.scale)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use libtest_mimic::{Arguments, Conclusion};

    use super::*;
    use crate::factory;

    fn run(trials: impl FnOnce(&Arc<Runtime>) -> Vec<Trial>) -> Conclusion {
        let runtime = Arc::new(Runtime::new().unwrap());
        libtest_mimic::run(&Arguments::from_iter(["test", "--quiet"]), trials(&runtime))
    }

    fn nothing() -> impl Factory {
        factory(|_| async { Err::<Store, _>(Error::new(larder_core::ErrorKind::Other, "not needed")) })
    }

    fn counts(conclusion: &Conclusion) -> [u64; 3] {
        [conclusion.num_passed, conclusion.num_failed, conclusion.num_ignored]
    }

    #[test]
    fn a_missing_server_is_ignored_case_by_case_and_a_failure_where_required() {
        let all = (laws::all().count() + Role::ALL.len()) as u64 + 1;
        for (required, expected) in [(false, [0, 0, all]), (true, [0, all, 0])] {
            let conclusion = run(|runtime| {
                let suite = Suite::<Arc<dyn Factory>>::missing("missing", "no Docker here", required);
                suite.case("own", |_| async {}).into_trials(runtime)
            });
            assert_eq!(counts(&conclusion), expected);
        }
    }

    #[test]
    fn cases_fail_for_themselves_and_exceptions_are_ignored() {
        static CONNECTED: AtomicU32 = AtomicU32::new(0);
        let connect = || async {
            CONNECTED.fetch_add(1, Ordering::Relaxed);
            Ok(nothing())
        };
        let conclusion = run(|runtime| {
            Suite::connect("own", connect)
                .without_laws()
                .timeout(Duration::from_millis(50))
                .case("succeeds", |_| async {})
                .case("panics", |_| async { panic!("it is wrong") })
                .case("hangs", |_| std::future::pending())
                .case("is_left_out", |_| async { panic!("it must not run") })
                .except("is_left_out", "that is how it is")
                .into_trials(runtime)
        });
        assert_eq!(counts(&conclusion), [1, 2, 1]);
        assert_eq!(CONNECTED.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn what_the_factory_excuses_is_ignored() {
        struct Excused;

        #[larder_core::async_trait]
        impl Factory for Excused {
            async fn open(&self, _: &str) -> Result<Store, Error> {
                Err(Error::new(larder_core::ErrorKind::Other, "not needed"))
            }

            fn excuse(&self, law: &str) -> Option<String> {
                (law == "is_excused").then(|| "the server is a stand-in".to_owned())
            }
        }

        let conclusion = run(|runtime| {
            Suite::new("own", Arc::new(Excused))
                .without_laws()
                .case("is_excused", |_| async { panic!("it must not run") })
                .case("succeeds", |_| async {})
                .into_trials(runtime)
        });
        assert_eq!(counts(&conclusion), [1, 0, 1]);
    }

    #[test]
    #[should_panic(expected = "no such case")]
    fn an_exception_that_names_no_case_is_an_error() {
        let _ =
            run(|runtime| Suite::new("own", nothing()).except("round_tripp", "a slip").into_trials(runtime));
    }
}
