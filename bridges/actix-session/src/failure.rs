//! Errors in actix-session's words. Larder's own is the source of each.

use actix_session::storage::{LoadError, SaveError, UpdateError};
use larder_core::{Error, ErrorKind, Operation};

/// Never `LoadError::Deserialization`: after that the middleware goes on with an empty session under
/// the same key, prolongs what is there or deletes it at a log-in.
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

/// Whether it is the new state's fault, and not that of what was read before.
fn cannot_be_written(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Codec | ErrorKind::InvalidValue)
        && error.operation() != Some(Operation::Read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_written_is_told_from_what_cannot_be_read() {
        let error = |kind, operation| Error::new(kind, "no").with_operation(operation);
        for (kind, operation, expected) in [
            (ErrorKind::InvalidValue, Operation::Write, true),
            (ErrorKind::Codec, Operation::Write, true),
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
