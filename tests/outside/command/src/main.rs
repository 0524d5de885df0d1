//! The command `larder` with one more adapter.

use std::process::ExitCode;

use larder_cli::Registry;

fn main() -> ExitCode {
    larder_cli::run(Registry::builtin().with(larder_folder::Adapter))
}
