//! Opening the stores that a command names.

use std::{env, path::PathBuf};

use anyhow::Context;
use larder::{Error, ErrorKind, Location, Storage, redact};

/// A store as the command line names it: a URL, or `env:NAME` for the URL in an environment
/// variable.
pub(super) struct Place {
    url: String,
    /// Fit to be shown.
    pub(super) name: String,
}

impl Place {
    pub(super) fn new(argument: &str) -> anyhow::Result<Self> {
        let Some(variable) = argument.strip_prefix("env:") else {
            return Ok(Self { url: argument.to_owned(), name: redact(argument) });
        };
        let url = env::var(variable).map_err(|_| {
            configuration(format!("the environment variable {variable} is not set, or is not UTF-8"))
        })?;
        Ok(Self { url, name: argument.to_owned() })
    }

    /// Opens it, or makes it.
    pub(super) async fn open(&self) -> anyhow::Result<Box<dyn Storage>> {
        larder::open(&self.url).await.with_context(|| format!("cannot open {}", self.name))
    }

    /// Opens it if it is there: a slip of the pen must not make a new, empty store.
    pub(super) async fn open_existing(&self) -> anyhow::Result<Box<dyn Storage>> {
        if self.path().is_some_and(|path| !path.exists()) {
            let nothing = configuration("there is nothing at this path");
            return Err(nothing).with_context(|| format!("cannot open {}", self.name));
        }
        self.open().await
    }

    /// Whether both are one store, as far as can be told from here.
    pub(super) fn is(&self, other: &Self) -> bool {
        let canonical = |place: &Self| place.path().and_then(|path| path.canonicalize().ok());
        self.url == other.url || canonical(self).is_some_and(|path| canonical(other) == Some(path))
    }

    /// Where it is on this machine, if it is a file or a directory.
    fn path(&self) -> Option<PathBuf> {
        let location = Location::parse(&self.url).ok()?;
        let path = location.path().ok()?;
        let local =
            matches!(location.scheme(), "file" | "sqlite") && !path.is_empty() && !path.starts_with(':');
        local.then(|| PathBuf::from(path))
    }
}

pub(super) fn configuration(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Configuration, message)
}

/// Opens the store that `argument` names, or makes it.
pub(super) async fn open(argument: &str) -> anyhow::Result<Box<dyn Storage>> {
    Place::new(argument)?.open().await
}

/// Opens the store that `argument` names, if it is there.
pub(super) async fn open_existing(argument: &str) -> anyhow::Result<Box<dyn Storage>> {
    Place::new(argument)?.open_existing().await
}
