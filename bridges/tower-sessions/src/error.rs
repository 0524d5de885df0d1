//! Converts errors to tower-sessions' type.

use std::error::Error as _;

use larder_core::{Error, ErrorKind};
use tower_sessions_core::session_store;

/// tower-sessions keeps only a text, without source and kind, so the text contains both.
pub(crate) fn store_error(error: &Error) -> session_store::Error {
    let text = text(error);
    match error.kind() {
        ErrorKind::Codec | ErrorKind::Corrupt | ErrorKind::VersionTooNew => {
            session_store::Error::Decode(text)
        }
        ErrorKind::InvalidValue => session_store::Error::Encode(text),
        _ => session_store::Error::Backend(text),
    }
}

/// Returns the error for a record that cannot be written.
pub(crate) fn not_encoded(error: &Error) -> session_store::Error {
    session_store::Error::Encode(text(error))
}

fn text(error: &Error) -> String {
    let mut text = format!("{error} ({})", error.kind());
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use larder_core::Operation;

    use super::*;

    #[test]
    fn the_text_contains_all_parts_of_the_error() {
        let error = Error::new(ErrorKind::Unavailable, "no answer")
            .with_adapter("redis")
            .with_operation(Operation::Read)
            .with_source("connection refused");
        let session_store::Error::Backend(text) = store_error(&error) else {
            panic!("another kind of error")
        };
        assert_eq!(text, "redis: read: no answer (unavailable): connection refused");
    }

    #[test]
    fn the_text_contains_all_sources() {
        let inner = Error::new(ErrorKind::Other, "connection refused").with_source("no route to host");
        let error = Error::new(ErrorKind::Unavailable, "no answer").with_source(inner);
        assert_eq!(text(&error), "no answer (unavailable): connection refused: no route to host");
        assert_eq!(text(&Error::new(ErrorKind::StorageFull, "no room")), "no room (storage full)");
    }

    #[test]
    fn read_errors_differ_from_write_errors() {
        let of = |kind| store_error(&Error::new(kind, "no"));
        assert!(matches!(of(ErrorKind::Corrupt), session_store::Error::Decode(_)));
        assert!(matches!(of(ErrorKind::Codec), session_store::Error::Decode(_)));
        assert!(matches!(of(ErrorKind::VersionTooNew), session_store::Error::Decode(_)));
        assert!(matches!(of(ErrorKind::InvalidValue), session_store::Error::Encode(_)));
        assert!(matches!(of(ErrorKind::StorageFull), session_store::Error::Backend(_)));
    }
}
