//! Errors in tower-sessions' words.

use std::error::Error as _;

use larder_core::{Error, ErrorKind};
use tower_sessions_core::session_store;

/// tower-sessions keeps no source and no kind, only a text: so the text says them.
pub(crate) fn failure(error: &Error) -> session_store::Error {
    let text = text(error);
    match error.kind() {
        ErrorKind::Codec | ErrorKind::Corrupt | ErrorKind::VersionTooNew => {
            session_store::Error::Decode(text)
        }
        ErrorKind::InvalidValue => session_store::Error::Encode(text),
        _ => session_store::Error::Backend(text),
    }
}

/// A record that cannot be written.
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
    fn nothing_that_the_error_says_is_lost() {
        let error = Error::new(ErrorKind::Unavailable, "no answer")
            .with_adapter("redis")
            .with_operation(Operation::Read)
            .with_source("connection refused");
        let session_store::Error::Backend(text) = failure(&error) else { panic!("another kind of error") };
        assert_eq!(text, "redis: read: no answer (unavailable): connection refused");
    }

    #[test]
    fn what_it_came_from_is_told_to_the_end() {
        let inner = Error::new(ErrorKind::Other, "connection refused").with_source("no route to host");
        let error = Error::new(ErrorKind::Unavailable, "no answer").with_source(inner);
        assert_eq!(text(&error), "no answer (unavailable): connection refused: no route to host");
        assert_eq!(text(&Error::new(ErrorKind::StorageFull, "no room")), "no room (storage full)");
    }

    #[test]
    fn what_cannot_be_read_or_written_is_told_apart() {
        let of = |kind| failure(&Error::new(kind, "no"));
        assert!(matches!(of(ErrorKind::Corrupt), session_store::Error::Decode(_)));
        assert!(matches!(of(ErrorKind::Codec), session_store::Error::Decode(_)));
        assert!(matches!(of(ErrorKind::VersionTooNew), session_store::Error::Decode(_)));
        assert!(matches!(of(ErrorKind::InvalidValue), session_store::Error::Encode(_)));
        assert!(matches!(of(ErrorKind::StorageFull), session_store::Error::Backend(_)));
    }
}
