//! Laws as values: a name and a function.

use std::{
    fmt,
    future::Future,
    pin::{Pin, pin},
    time::Duration,
};

use crate::{Target, guard::guarded, must::chain};

/// A law of the suite.
pub struct Law {
    name: &'static str,
    run: fn(Target) -> Run,
}

type Run = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Law {
    pub(crate) const fn new(name: &'static str, run: fn(Target) -> Run) -> Self {
        Self { name, run }
    }

    /// Returns the name of the law, which is the name of its function.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn run(&self, target: Target) -> Run {
        (self.run)(target)
    }

    /// Checks the law on `target`. If the law holds, removes the target.
    ///
    /// # Errors
    ///
    /// A description of the failure, if the law does not hold.
    pub async fn check(&self, target: Target, timeout: Duration) -> Result<(), String> {
        check(target.clone(), (self.run)(target), timeout).await
    }
}

impl fmt::Debug for Law {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Law").field(&self.name).finish()
    }
}

/// Runs `case` within `timeout`, and removes `target` if it succeeded.
pub(crate) async fn check(
    target: Target,
    case: impl Future<Output = ()>,
    timeout: Duration,
) -> Result<(), String> {
    within(timeout, &target, guarded(case)).await?;
    let removal = guarded(async {
        if let Err(error) = target.remove().await {
            panic!("the case succeeded, but its cleanup failed: {}", chain(&error));
        }
    });
    within(timeout, &target, removal).await
}

async fn within(
    timeout: Duration,
    target: &Target,
    case: impl Future<Output = Result<(), String>>,
) -> Result<(), String> {
    let mut case = pin!(case);
    tokio::time::timeout(timeout, case.as_mut()).await.unwrap_or_else(|_| {
        let running = target.running().map(|running| format!("; running operations: {running}"));
        Err(format!("the case did not finish within {timeout:?}{}", running.unwrap_or_default()))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use larder_core::{
        Bytes, DeleteOptions, Error, ErrorKind, Info, Key, ReadOptions, Record, Storage, Store, WriteOptions,
        Written, async_trait,
    };

    use super::*;
    use crate::{factory, laws};

    /// An empty store that claims nothing and rejects writes.
    #[derive(Clone, Copy, Debug)]
    enum Plain {
        Hangs,
        Fails,
    }

    #[async_trait]
    impl Storage for Plain {
        fn info(&self) -> Info {
            Info::minimal("plain")
        }

        async fn read(&self, _: &Key, _: &ReadOptions) -> larder_core::Result<Option<Record>> {
            Ok(None)
        }

        async fn write(&self, _: &Key, _: Bytes, _: &WriteOptions) -> larder_core::Result<Written> {
            match self {
                Self::Hangs => std::future::pending().await,
                Self::Fails => {
                    let disk = std::io::Error::other("disk failure");
                    let driver = Error::new(ErrorKind::Other, "driver failure").with_source(disk);
                    Err(Error::new(ErrorKind::Other, "the value cannot be stored").with_source(driver))
                }
            }
        }

        async fn delete(&self, _: &Key, _: &DeleteOptions) -> larder_core::Result<bool> {
            Ok(false)
        }
    }

    /// Returns the report of the law: an error, or the reason why the case is ignored.
    async fn report(plain: Plain, law: &str) -> Result<Option<String>, String> {
        let target = Target::new(Arc::new(factory(move |_| async move { Ok(Store::from(plain)) })));
        let law = laws::named(law).unwrap();
        law.check(target.clone(), Duration::from_millis(100)).await.map(|()| target.ignored())
    }

    #[tokio::test]
    async fn a_law_that_hangs_reports_the_running_operations() {
        let report = report(Plain::Hangs, "round_trip").await.unwrap_err();
        let expected = "the case did not finish within 100ms; running operations: write (for 0.";
        assert!(report.starts_with(expected) && report.ends_with("s)"), "{report}");
    }

    #[tokio::test]
    async fn a_law_that_fails_reports_the_chain_of_errors_and_the_place() {
        let report = report(Plain::Fails, "round_trip").await.unwrap_err();
        let lines: Vec<&str> = report.lines().collect();
        assert_eq!(lines.len(), 4, "{report}");
        assert!(lines[0].starts_with("write: failed: plain: write: the value cannot be stored"), "{report}");
        assert_eq!(lines[1..3], ["  caused by: driver failure", "  caused by: disk failure"]);
        assert!(lines[3].starts_with("  at ") && lines[3].contains(".rs:"), "{report}");
    }

    #[tokio::test]
    async fn a_law_that_does_not_apply_reports_the_reason() {
        for (law, reason) in [
            ("touch_extends", "rejected, as declared: expiry"),
            ("write_if_absent_creates", "rejected, as declared: versions and conditions"),
            ("an_empty_store_lists_nothing", "rejected, as declared: listings"),
            ("values_that_are_not_json_are_refused", "the store claims to accept any bytes"),
            ("late_write_never_overtakes_newer_write", "the store does not claim to be fenced"),
        ] {
            assert_eq!(report(Plain::Fails, law).await, Ok(Some(reason.to_owned())), "{law}");
        }
    }
}
