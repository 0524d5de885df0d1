//! Shared by the tests: the binary and its output.

#![allow(dead_code)] // Each test uses only a part.

use std::process::{Command, Output, Stdio};

/// The command `larder` with these arguments and without input.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_larder"));
    command.args(arguments).stdin(Stdio::null());
    command
}

pub(crate) fn larder(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
