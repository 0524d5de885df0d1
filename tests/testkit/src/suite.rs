//! The suite of one adapter.

use std::{collections::BTreeMap, fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use larder_core::{Error, Store};
use libtest_mimic::{Completion, Failed, Trial};
use tokio::{runtime::Runtime, sync::OnceCell};

use crate::{
    Factory, Scale, Target, law, laws,
    processes::{self, Processes, Role},
    runner,
};

/// The reason why a suite cannot run: its server is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// A text for the report: the missing server, and how to provide it.
    pub reason: String,
    /// Whether the cases fail. Otherwise they are reported as ignored, with the reason.
    pub required: bool,
}

impl Missing {
    /// Creates a reason.
    #[must_use]
    pub fn new(reason: impl Into<String>, required: bool) -> Self {
        Self { reason: reason.into(), required }
    }
}

/// The argument of an adapter's own case.
#[derive(Debug)]
pub struct Context<F> {
    /// The suite's factory, for features of this adapter.
    pub factory: Arc<F>,
    /// An empty space. It is removed after the case has succeeded.
    pub target: Target,
}

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type Connect<F> = Box<dyn Fn() -> Boxed<Result<F, Missing>> + Send + Sync>;
type Body<F> = Box<dyn FnOnce(Context<F>) -> Boxed<()> + Send>;

/// The conformance cases of one adapter (or of one of its layouts or modes), and the adapter's own cases.
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
    /// Creates a suite with all laws, for the stores that `factory` opens.
    pub fn new(name: impl Into<String>, factory: F) -> Self {
        let factory = std::sync::Mutex::new(Some(factory));
        Self::connect(name, move || {
            let factory = factory.lock().ok().and_then(|mut factory| factory.take());
            async { factory.ok_or_else(|| Missing::new("the factory was already taken", true)) }
        })
    }

    /// Creates a suite whose factory is created once, when the first case runs. Listing the cases therefore does
    /// not start a server.
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

    /// Creates a suite that cannot run. Each case is ignored with the reason, or fails with it if the suite is
    /// `required`.
    pub fn missing(name: impl Into<String>, reason: impl Into<String>, required: bool) -> Self {
        let missing = Missing::new(reason, required);
        Self::connect(name, move || {
            let missing = missing.clone();
            async { Err(missing) }
        })
    }

    /// Adds one of the adapter's own cases.
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

    /// Removes the laws and the cases of [`across_processes`](Suite::across_processes). Only the adapter's own
    /// cases remain.
    #[must_use]
    pub fn without_laws(mut self) -> Self {
        self.laws = false;
        self.processes = None;
        self
    }

    /// Defines how another process opens a space. `address` describes a space of the factory as a text,
    /// such as a URL, and `open` opens it. The suite can then test the claims of
    /// [persistence](larder_core::Info::persistent) and [sharing](larder_core::Info::shared): it kills a writing
    /// process and checks that every acknowledged write is stored, and it lets two processes increment one
    /// number. Without this call, the two cases are reported as ignored.
    ///
    /// The other process runs the same test binary. It therefore also runs the code before the
    /// [`Runner`](crate::Runner). This code must not create a directory or start a server: do this in
    /// [`Suite::connect`].
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

    /// Reports the law (or case) `name` as ignored, with a reason. For example, the adapter intentionally behaves
    /// differently, or the server is not the original product.
    #[must_use]
    pub fn except(mut self, name: impl Into<String>, reason: impl Into<String>) -> Self {
        self.except.insert(name.into(), reason.into());
        self
    }

    /// Sets the time limit of a case. Default: 120 seconds.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Uses smaller counts, for a store with a few hundred writes per second; see [`Scale`].
    #[must_use]
    pub fn slow(mut self) -> Self {
        self.scale = Scale::Slow;
        self
    }

    /// Runs only this suite, as the test binary's `main`.
    pub fn main(self) -> ! {
        runner::Runner::new().suite(self).main()
    }

    /// Returns whether the suite has a case with this name.
    fn has(&self, name: &str) -> bool {
        self.laws && laws::named(name).is_some()
            || self.has_processes() && Role::ALL.iter().any(|role| role.case() == name)
            || self.cases.iter().any(|(case, _)| case == name)
    }

    fn has_processes(&self) -> bool {
        self.laws || self.processes.is_some()
    }

    /// Returns the cases that need a second process. In the second process, does not return.
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

    /// Converts the suite into trials for libtest-mimic, which run on `runtime`.
    ///
    /// # Panics
    ///
    /// If an [exception](Suite::except) names a case that does not exist.
    pub fn into_trials(self, runtime: &Arc<Runtime>) -> Vec<Trial> {
        for name in self.except.keys() {
            assert!(
                self.has(name),
                "the suite `{}` has an exception for `{name}`, but no such case",
                self.name
            );
        }
        let processes = self.process_cases(runtime);
        let shared = Arc::new(SharedSetup {
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

/// The parts that all trials of a suite share.
struct SharedSetup<F> {
    runtime: Arc<Runtime>,
    connect: Connect<F>,
    factory: OnceCell<Result<Arc<F>, Missing>>,
    timeout: Duration,
    scale: Scale,
}

impl<F: Factory> SharedSetup<F> {
    fn run(&self, name: &str, body: Body<F>) -> Result<Completion, Failed> {
        self.runtime.block_on(async {
            let factory = self.factory.get_or_init(|| async { (self.connect)().await.map(Arc::new) }).await;
            let factory = match factory {
                Ok(factory) => Arc::clone(factory),
                Err(missing) if missing.required => {
                    return Err(format!("the suite is required but cannot run: {}", missing.reason).into());
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
    fn cases_without_a_server_are_ignored_or_fail_if_required() {
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
    fn each_case_fails_alone_and_exceptions_are_ignored() {
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
                .case("panics", |_| async { panic!("planted panic") })
                .case("hangs", |_| std::future::pending())
                .case("is_an_exception", |_| async { panic!("it must not run") })
                .except("is_an_exception", "intentional")
                .into_trials(runtime)
        });
        assert_eq!(counts(&conclusion), [1, 2, 1]);
        assert_eq!(CONNECTED.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn cases_that_the_factory_excuses_are_ignored() {
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
    fn an_exception_for_a_missing_case_is_an_error() {
        let _ =
            run(|runtime| Suite::new("own", nothing()).except("round_tripp", "a typo").into_trials(runtime));
    }
}
