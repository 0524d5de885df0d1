use std::fmt;

use crate::Kind;

/// An error of an available server.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The test may not stop the server, because it is shared or from the environment.
    NotOurs(Kind),
    /// The server has no node with this number.
    NoSuchNode(Kind, usize),
    /// The Docker engine refused or failed.
    Engine(Kind, Box<dyn std::error::Error + Send + Sync>),
    /// The server did not become ready in time. The text is the last observation.
    NotReady(Kind, String),
}

impl Error {
    pub(crate) fn engine(kind: Kind, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Engine(kind, source.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOurs(kind) => write!(
                f,
                "the {kind} server is shared or from the environment and must not be stopped; \
                 use `Kind::private`"
            ),
            Self::NoSuchNode(kind, node) => write!(f, "the {kind} server has no node {node}"),
            Self::Engine(kind, source) => write!(f, "the Docker engine failed on {kind}: {source}"),
            Self::NotReady(kind, seen) => write!(f, "{kind} did not become ready: {seen}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Engine(_, source) => Some(source.as_ref()),
            _ => None,
        }
    }
}
