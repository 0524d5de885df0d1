//! The `larder` command: looks after the entries of any store.

// `println!` and `eprintln!` panic where the output cannot be written.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod command;

use std::process::ExitCode;

fn main() -> ExitCode {
    command::main()
}
