//! Why a dialogue could not be had.

use std::fmt;

use larder_core::Error;

/// Why an operation on a [`LarderStorage`](crate::LarderStorage) failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum DialogueError {
    /// There is no dialogue to remove: it has ended already, or has expired.
    NotFound,
    /// The storage failed, or what it holds is no state of this dialogue.
    Storage(Error),
}

impl fmt::Display for DialogueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => f.write_str("there is no dialogue to remove: it has ended or expired"),
            Self::Storage(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for DialogueError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NotFound => None,
            // It has printed itself.
            Self::Storage(error) => error.source(),
        }
    }
}

impl From<Error> for DialogueError {
    fn from(error: Error) -> Self {
        Self::Storage(error)
    }
}
