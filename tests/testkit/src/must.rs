//! Assertions that say what was being done.

use std::fmt::Display;

use larder_core::v2::{Error, ErrorKind};

/// Takes the value out of a result, or fails the case.
pub trait Must<T, E> {
    /// The value.
    ///
    /// # Panics
    ///
    /// If there is none; the message says what was being done and what went wrong.
    #[track_caller]
    fn must(self, what: &str) -> T;
}

impl<T, E: Display> Must<T, E> for Result<T, E> {
    #[track_caller]
    fn must(self, what: &str) -> T {
        match self {
            Ok(value) => value,
            Err(error) => panic!("{what}: failed: {error}"),
        }
    }
}

impl<T> Must<T, ()> for Option<T> {
    #[track_caller]
    fn must(self, what: &str) -> T {
        match self {
            Some(value) => value,
            None => panic!("{what}: there is nothing"),
        }
    }
}

/// Takes the error out of a result, or fails the case.
pub trait Fails {
    /// The error, of that kind.
    ///
    /// # Panics
    ///
    /// If there is none, or one of another kind.
    #[track_caller]
    fn fails(self, kind: ErrorKind, what: &str) -> Error;
}

impl<T> Fails for Result<T, Error> {
    #[track_caller]
    fn fails(self, kind: ErrorKind, what: &str) -> Error {
        match self {
            Ok(_) => panic!("{what}: succeeded, but must fail as {kind}"),
            Err(error) => {
                assert_eq!(error.kind(), kind, "{what}: failed as another kind of error: {error}");
                error
            }
        }
    }
}
