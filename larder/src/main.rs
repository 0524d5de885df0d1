//! The `larder` command: looks after the entries of any store.

mod command;

use std::process::ExitCode;

fn main() -> ExitCode {
    command::main()
}
