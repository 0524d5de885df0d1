//! The command `larder`, as a library: a binary of another crate can run it with more adapters.
//!
//! The binary `larder` of this crate has the adapters that come with Larder. The `main` of a binary with one more
//! adapter has one line. Here `larder_redb` stands for the crate of that adapter:
//!
//! ```no_run
//! # mod larder_redb {
//! #     use larder::{Result, Store};
//! #     pub struct Adapter;
//! #     impl larder::Adapter for Adapter {
//! #         const SCHEMES: &'static [&'static str] = &["redb"];
//! #         async fn connect(&self, url: &str) -> Result<Store> { larder::open(url).await }
//! #         async fn connect_existing(&self, url: &str) -> Result<Store> { larder::open(url).await }
//! #     }
//! # }
//! use std::process::ExitCode;
//!
//! use larder_cli::Registry;
//!
//! fn main() -> ExitCode {
//!     larder_cli::run(Registry::builtin().with(larder_redb::Adapter))
//! }
//! ```
// `println!` and `eprintln!` panic if the output cannot be written.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod args;
mod copy;
mod exit;
mod get;
mod interrupt;
mod list;
mod output;
mod problems;
mod put;
mod remove;
mod store;
mod ttl;

use std::process::ExitCode;

pub use larder::Registry;

use self::{
    args::{Arguments, Command},
    exit::Exit,
    output::Output,
};

/// Runs the command with the arguments of this process, on the stores that `registry` opens. Returns the exit code
/// of the process.
///
/// It starts a tokio runtime, so call it from a `main` that is not asynchronous. With `--help`, `--version` or wrong
/// arguments it prints text and exits the process.
///
/// URLs that begin with `env:` name environment variables, so an adapter for the scheme `env` is never used.
#[must_use]
pub fn run(registry: Registry) -> ExitCode {
    let arguments = Arguments::of_process(&registry);
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return exit::code(Err(error.into())),
    };
    let outcome = runtime.block_on(execute(arguments.command, &registry));
    if let Ok(Exit::Interrupted(_)) = outcome {
        // Do not wait for a call that hangs.
        runtime.shutdown_background();
    }
    exit::code(outcome)
}

async fn execute(command: Command, registry: &Registry) -> anyhow::Result<Exit> {
    let mut output = Output::stdout();
    let outcome = match command {
        Command::Ls(arguments) => list::run(&arguments, registry, &mut output).await,
        Command::Get(arguments) => get::run(&arguments, registry, &mut output).await,
        Command::Put(arguments) => put::run(&arguments, registry).await,
        Command::Rm(arguments) => remove::run(&arguments, registry, &mut output).await,
        Command::Ttl(arguments) => ttl::run(&arguments, registry, &mut output).await,
        Command::Copy(arguments) => copy::run(&arguments, registry, &mut output).await,
    }?;
    match output.finish() {
        // The reader of the output has closed it; the exit code still tells the outcome of the command.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
        finished => finished?,
    }
    Ok(outcome)
}
