//! Converts errors to actix-session's types. The source is Larder's error.

use actix_session::storage::{LoadError, SaveError, UpdateError};
use larder_core::{Error, ErrorKind, Operation};

/// Never returns `LoadError::Deserialization`: the middleware would continue with an empty session under the
/// same key, which extends the stored value's TTL or deletes the value at a login.
pub(crate) fn not_loaded(error: Error) -> LoadError {
    LoadError::Other(error.into())
}

pub(crate) fn not_saved(error: Error) -> SaveError {
    if cannot_be_written(&error) {
        SaveError::Serialization(error.into())
    } else {
        SaveError::Other(error.into())
    }
}

pub(crate) fn not_updated(error: Error) -> UpdateError {
    if cannot_be_written(&error) {
        UpdateError::Serialization(error.into())
    } else {
        UpdateError::Other(error.into())
    }
}

/// Returns whether the new state causes the error, not the stored value.
fn cannot_be_written(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Codec | ErrorKind::InvalidValue | ErrorKind::TooLarge)
        && error.operation() != Some(Operation::Read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn write_errors_differ_from_read_errors() {
        let error = |kind, operation| Error::new(kind, "no").with_operation(operation);
        for (kind, operation, expected) in [
            (ErrorKind::InvalidValue, Operation::Write, true),
            (ErrorKind::Codec, Operation::Write, true),
            (ErrorKind::TooLarge, Operation::Write, true),
            (ErrorKind::Codec, Operation::Read, false),
            (ErrorKind::StorageFull, Operation::Write, false),
        ] {
            let saved = not_saved(error(kind, operation));
            assert_eq!(matches!(saved, SaveError::Serialization(_)), expected, "{kind} {operation}");
            let updated = not_updated(error(kind, operation));
            assert_eq!(matches!(updated, UpdateError::Serialization(_)), expected, "{kind} {operation}");
        }
        assert!(matches!(not_saved(Error::new(ErrorKind::Codec, "no")), SaveError::Serialization(_)));
    }
}
