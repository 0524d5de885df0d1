//! Exit codes that a script can use; the help documents them.

use std::{io, process::ExitCode};

use larder::{Error, ErrorKind};

/// How a command that ran to its end ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    /// Not found, not all copied, or different.
    Negative,
}

const NEGATIVE: u8 = 1;
const USAGE: u8 = 2;
const RETRYABLE: u8 = 3;
const FAILURE: u8 = 4;

/// Prints what went wrong, if anything did, and says how to exit.
pub(super) fn code(outcome: anyhow::Result<Outcome>) -> ExitCode {
    let error = match outcome {
        Ok(Outcome::Done) => return ExitCode::SUCCESS,
        Ok(Outcome::Negative) => return ExitCode::from(NEGATIVE),
        Err(error) => error,
    };
    // Whoever read our output has seen enough, as `head` does.
    if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
        return ExitCode::SUCCESS;
    }
    eprintln!("larder: {error:#}");
    ExitCode::from(match error.downcast_ref::<Error>() {
        Some(error) if error.is_retryable() => RETRYABLE,
        Some(error) if matches!(error.kind(), ErrorKind::Configuration | ErrorKind::InvalidKey) => USAGE,
        _ => FAILURE,
    })
}
