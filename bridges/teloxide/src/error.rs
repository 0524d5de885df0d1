//! The errors of dialogues.

use std::fmt;

use larder_core::Error;

/// The error of an operation on a [`LarderStorage`](crate::LarderStorage).
#[derive(Debug)]
#[non_exhaustive]
pub enum DialogueError {
    /// The dialogue to remove does not exist: it has ended or expired.
    NotFound,
    /// The storage failed, or the stored value is not a state of this dialogue.
    Storage(Error),
}

impl fmt::Display for DialogueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => f.write_str("the dialogue does not exist: it has ended or expired"),
            Self::Storage(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for DialogueError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NotFound => None,
            // `Display` has already printed the error itself.
            Self::Storage(error) => error.source(),
        }
    }
}

impl From<Error> for DialogueError {
    fn from(error: Error) -> Self {
        Self::Storage(error)
    }
}
