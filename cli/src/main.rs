//! The command `larder` with every adapter that comes with Larder.

use std::process::ExitCode;

use larder_cli::Registry;

fn main() -> ExitCode {
    larder_cli::run(Registry::builtin())
}
