//! Errors in actix-session's words. Larder's own is the source of each.

use actix_session::storage::{LoadError, SaveError, UpdateError};
use larder_core::{Error, ErrorKind};

/// What was read is not a session.
pub(crate) fn not_a_session(error: Error) -> LoadError {
    LoadError::Deserialization(error.into())
}

pub(crate) fn not_loaded(error: Error) -> LoadError {
    LoadError::Other(error.into())
}

pub(crate) fn not_saved(error: Error) -> SaveError {
    match error.kind() {
        ErrorKind::Codec | ErrorKind::InvalidValue => SaveError::Serialization(error.into()),
        _ => SaveError::Other(error.into()),
    }
}

pub(crate) fn not_updated(error: Error) -> UpdateError {
    match error.kind() {
        ErrorKind::Codec | ErrorKind::InvalidValue => UpdateError::Serialization(error.into()),
        _ => UpdateError::Other(error.into()),
    }
}
