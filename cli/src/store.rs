//! Opens the stores that the command line names.

use std::env;

use anyhow::Context;
use larder::{Error, ErrorKind, Registry, Store, redact};

use super::{
    interrupt::{Signal, Signals},
    output::say,
};

/// A store as the command line names it: a URL, or `env:NAME` for the URL in an environment variable, optionally
/// with more options.
pub(super) struct StoreArg {
    pub(super) url: String,
    /// The name for messages, without a password.
    pub(super) name: String,
}

impl StoreArg {
    pub(super) fn new(argument: &str) -> anyhow::Result<Self> {
        let Some(rest) = argument.strip_prefix("env:") else {
            return Ok(Self { url: argument.to_owned(), name: redact(argument) });
        };
        let (variable, options) = rest.split_once('?').unwrap_or((rest, ""));
        let value = env::var(variable).map_err(|_| {
            Error::new(
                ErrorKind::InvalidConfig,
                format!("the environment variable {variable} is not set, or is not UTF-8"),
            )
        })?;
        // A variable that was set from a file often ends with a line feed.
        let mut url = value.trim_ascii().to_owned();
        if !options.is_empty() {
            url.push(if url.contains('?') { '&' } else { '?' });
            url.push_str(options);
        }
        Ok(Self { url, name: format!("env:{variable}") })
    }

    /// Opens the store, and creates it if it does not exist.
    pub(super) async fn open(&self, registry: &Registry) -> anyhow::Result<Store> {
        registry.open(&self.url).await.with_context(|| format!("cannot open {}", self.name))
    }

    /// Opens the store if it exists: a mistyped name must not create a new, empty store.
    pub(super) async fn open_existing(&self, registry: &Registry) -> anyhow::Result<Store> {
        registry.open_existing(&self.url).await.with_context(|| format!("cannot open {}", self.name))
    }
}

/// Opens the store that `argument` names, and creates it if it does not exist.
pub(super) async fn open(argument: &str, registry: &Registry) -> anyhow::Result<Store> {
    StoreArg::new(argument)?.open(registry).await
}

/// Opens the store that `argument` names if it exists.
pub(super) async fn open_existing(argument: &str, registry: &Registry) -> anyhow::Result<Store> {
    StoreArg::new(argument)?.open_existing(registry).await
}

/// Does `work`, and then closes `store` even if the work failed.
pub(super) async fn closing<T>(
    store: &Store,
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let done = work.await;
    let closed = store.close().await;
    let done = done?;
    closed?;
    Ok(done)
}

/// Closes `store`, which writes its pending changes. Returns the signal that interrupted this, if any.
pub(super) async fn close(store: &Store, signals: &mut Signals) -> larder::Result<Option<Signal>> {
    match signals.or_until(store.close()).await {
        Ok(closed) => closed.map(|()| None),
        Err(signal) => {
            say(format_args!("{} before the store was closed; the last changes may be lost", signal.done()));
            Ok(Some(signal))
        }
    }
}
