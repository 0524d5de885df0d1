//! The exit codes, which the help documents.

use std::{io, process::ExitCode};

use larder::{Error, ErrorKind};

use super::{interrupt::Signal, output::say};

/// The outcome of a command that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    Done,
    /// Not found, not everything listed or copied, or the stores differ.
    Negative,
    /// A signal ended it.
    Interrupted(Signal),
}

impl Exit {
    /// [`Negative`](Self::Negative) unless `complete`.
    pub(super) fn complete(complete: bool) -> Self {
        if complete { Self::Done } else { Self::Negative }
    }
}

const NEGATIVE: u8 = 1;
const USAGE: u8 = 2;
const RETRYABLE: u8 = 3;
const FAILURE: u8 = 4;

/// Prints the error, if any, and returns the exit code.
pub(super) fn code(outcome: anyhow::Result<Exit>) -> ExitCode {
    let error = match outcome {
        Ok(Exit::Done) => return ExitCode::SUCCESS,
        Ok(Exit::Negative) => return ExitCode::from(NEGATIVE),
        Ok(Exit::Interrupted(signal)) => return ExitCode::from(signal.exit_code()),
        Err(error) => error,
    };
    // The reader of the output has closed it, as `head` does.
    if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
        return ExitCode::SUCCESS;
    }
    say(format_args!("{error:#}"));
    ExitCode::from(match error.downcast_ref::<Error>() {
        Some(error) if error.is_retryable() => RETRYABLE,
        Some(error) if matches!(error.kind(), ErrorKind::InvalidConfig | ErrorKind::InvalidKey) => USAGE,
        _ => FAILURE,
    })
}
