//! Opening the stores that a command names.

use std::env;

use anyhow::Context;
use larder::{Error, ErrorKind, Store, redact};

use super::{
    interrupt::{Signal, Signals},
    output::say,
};

/// A store as the command line names it: a URL, or `env:NAME` for the URL in an environment
/// variable, perhaps with more options.
pub(super) struct StoreArg {
    pub(super) url: String,
    /// Fit to be shown.
    pub(super) name: String,
}

impl StoreArg {
    pub(super) fn new(argument: &str) -> anyhow::Result<Self> {
        let Some(rest) = argument.strip_prefix("env:") else {
            return Ok(Self { url: argument.to_owned(), name: redact(argument) });
        };
        let (variable, options) = rest.split_once('?').unwrap_or((rest, ""));
        let value = env::var(variable).map_err(|_| {
            configuration(format!("the environment variable {variable} is not set, or is not UTF-8"))
        })?;
        // A variable that was set from a file often ends with the line feed of the file.
        let mut url = value.trim_ascii().to_owned();
        if !options.is_empty() {
            url.push(if url.contains('?') { '&' } else { '?' });
            url.push_str(options);
        }
        Ok(Self { url, name: format!("env:{variable}") })
    }

    /// Opens it, or makes it.
    pub(super) async fn open(&self) -> anyhow::Result<Store> {
        larder::open(&self.url).await.with_context(|| format!("cannot open {}", self.name))
    }

    /// Opens it if it is there: a mistyped name must not make a new, empty store.
    pub(super) async fn open_existing(&self) -> anyhow::Result<Store> {
        larder::open_existing(&self.url).await.with_context(|| format!("cannot open {}", self.name))
    }
}

pub(super) fn configuration(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidConfig, message)
}

/// Opens the store that `argument` names, or makes it.
pub(super) async fn open(argument: &str) -> anyhow::Result<Store> {
    StoreArg::new(argument)?.open().await
}

/// Opens the store that `argument` names, if it is there.
pub(super) async fn open_existing(argument: &str) -> anyhow::Result<Store> {
    StoreArg::new(argument)?.open_existing().await
}

/// Does `work` and closes `store`, also if the work failed.
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

/// Closes `store`, which writes what it holds back; returns the signal that did not let it finish.
pub(super) async fn close(store: &Store, signals: &mut Signals) -> larder::Result<Option<Signal>> {
    match signals.or_until(store.close()).await {
        Ok(closed) => closed.map(|()| None),
        Err(signal) => {
            say(format_args!("{} before the store was closed; its last changes may be lost", signal.done()));
            Ok(Some(signal))
        }
    }
}
