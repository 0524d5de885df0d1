//! Assertions with a description of the operation.

use std::{error::Error as StdError, fmt::Write as _};

use larder_core::{Error, ErrorKind};

/// Takes the value out of a result, or fails the case.
pub trait Must<T, E> {
    /// Returns the value.
    ///
    /// # Panics
    ///
    /// If the value is missing. The message contains `operation`, which names the call, and the error.
    #[track_caller]
    fn must(self, operation: &str) -> T;
}

impl<'a, T, E: Into<Box<dyn StdError + 'a>>> Must<T, E> for Result<T, E> {
    #[track_caller]
    fn must(self, operation: &str) -> T {
        match self {
            Ok(value) => value,
            Err(error) => panic!("{operation}: failed: {}", chain(&*error.into())),
        }
    }
}

impl<T> Must<T, ()> for Option<T> {
    #[track_caller]
    fn must(self, operation: &str) -> T {
        match self {
            Some(value) => value,
            None => panic!("{operation}: the value is missing"),
        }
    }
}

/// Takes the error out of a result, or fails the case.
pub trait Fails {
    /// Returns the error, which must be of this kind. `operation` names the call in errors.
    ///
    /// # Panics
    ///
    /// If the result is not an error, or an error of another kind.
    #[track_caller]
    fn fails(self, kind: ErrorKind, operation: &str) -> Error;
}

impl<T> Fails for Result<T, Error> {
    #[track_caller]
    fn fails(self, kind: ErrorKind, operation: &str) -> Error {
        match self {
            Ok(_) => panic!("{operation}: succeeded, but must fail with the kind `{kind}`"),
            Err(error) => {
                assert_eq!(
                    error.kind(),
                    kind,
                    "{operation}: failed with another kind of error: {}",
                    chain(&error)
                );
                error
            }
        }
    }
}

/// Returns the messages of the error and of its sources.
pub(crate) fn chain(error: &(dyn StdError + '_)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let _ = write!(text, "\n  caused by: {cause}");
        source = cause.source();
    }
    text
}
