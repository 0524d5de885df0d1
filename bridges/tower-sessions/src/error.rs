//! Converts errors for tower-sessions.

use std::error::Error as _;

use larder_core::{Error, ErrorKind, Operation};

/// An error of tower-sessions. It keeps only a text, without source and kind, so the text contains both.
#[derive(Debug)]
pub(crate) enum Failure {
    Encode(String),
    Decode(String),
    Backend(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let text = text(&error);
        match error.kind() {
            ErrorKind::Codec if error.operation() == Some(Operation::Write) => Self::Encode(text),
            ErrorKind::Codec | ErrorKind::Corrupt | ErrorKind::VersionTooNew => Self::Decode(text),
            ErrorKind::InvalidValue | ErrorKind::TooLarge => Self::Encode(text),
            _ => Self::Backend(text),
        }
    }
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
    use super::*;

    #[test]
    fn the_text_contains_all_parts_of_the_error() {
        let error = Error::new(ErrorKind::Unavailable, "no answer")
            .with_adapter("redis")
            .with_operation(Operation::Read)
            .with_source("connection refused");
        let Failure::Backend(text) = Failure::from(error) else { panic!("another kind of error") };
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
        let of = |kind| Failure::from(Error::new(kind, "no"));
        assert!(matches!(of(ErrorKind::Corrupt), Failure::Decode(_)));
        assert!(matches!(of(ErrorKind::Codec), Failure::Decode(_)));
        let encoding = Error::new(ErrorKind::Codec, "no").with_operation(Operation::Write);
        assert!(matches!(Failure::from(encoding), Failure::Encode(_)));
        assert!(matches!(of(ErrorKind::VersionTooNew), Failure::Decode(_)));
        assert!(matches!(of(ErrorKind::InvalidValue), Failure::Encode(_)));
        assert!(matches!(of(ErrorKind::TooLarge), Failure::Encode(_)));
        assert!(matches!(of(ErrorKind::StorageFull), Failure::Backend(_)));
    }
}
