//! Exit codes that a script can use; the help documents them.

use std::{io, process::ExitCode};

use larder::{Error, ErrorKind};

use super::{interrupt::Signal, output::say};

/// How a command that ran to its end ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    Done,
    /// Not found, not all listed or copied, or different.
    Negative,
    /// A signal ended it.
    Interrupted(Signal),
}

impl Exit {
    /// Negative if something was left out.
    pub(super) fn complete(complete: bool) -> Self {
        if complete { Self::Done } else { Self::Negative }
    }
}

const NEGATIVE: u8 = 1;
const USAGE: u8 = 2;
const RETRYABLE: u8 = 3;
const FAILURE: u8 = 4;

/// Prints what went wrong, if anything did, and says how to exit.
pub(super) fn code(outcome: anyhow::Result<Exit>) -> ExitCode {
    let error = match outcome {
        Ok(Exit::Done) => return ExitCode::SUCCESS,
        Ok(Exit::Negative) => return ExitCode::from(NEGATIVE),
        Ok(Exit::Interrupted(signal)) => return ExitCode::from(signal.exit_code()),
        Err(error) => error,
    };
    // The reader of the output has seen enough, as `head` has.
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
