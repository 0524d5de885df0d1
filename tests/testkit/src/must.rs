//! Assertions that say what was being done.

use std::{error::Error as StdError, fmt::Write as _};

use larder_core::{Error, ErrorKind};

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

impl<'a, T, E: Into<Box<dyn StdError + 'a>>> Must<T, E> for Result<T, E> {
    #[track_caller]
    fn must(self, what: &str) -> T {
        match self {
            Ok(value) => value,
            Err(error) => panic!("{what}: failed: {}", chain(&*error.into())),
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
                assert_eq!(error.kind(), kind, "{what}: failed as another kind of error: {}", chain(&error));
                error
            }
        }
    }
}

/// The error and the errors underneath it.
pub(crate) fn chain(error: &(dyn StdError + '_)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let _ = write!(text, "\n  caused by: {cause}");
        source = cause.source();
    }
    text
}
