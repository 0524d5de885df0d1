//! The command: parse, run, turn the outcome into an exit code.

mod args;
mod copy;
mod exit;
mod get;
mod list;
mod output;
mod put;
mod remove;
mod store;
mod ttl;

use std::process::ExitCode;

use clap::Parser;

use self::{
    args::{Arguments, Command},
    exit::Outcome,
    output::Output,
};

pub(crate) fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(run(arguments.command)));
    exit::code(outcome)
}

async fn run(command: Command) -> anyhow::Result<Outcome> {
    let mut output = Output::stdout();
    let outcome = match command {
        Command::Ls(arguments) => list::run(&arguments, &mut output).await,
        Command::Get(arguments) => get::run(&arguments, &mut output).await,
        Command::Put(arguments) => put::run(&arguments).await,
        Command::Rm(arguments) => remove::run(&arguments, &mut output).await,
        Command::Ttl(arguments) => ttl::run(&arguments, &mut output).await,
        Command::Copy(arguments) => copy::run(&arguments, &mut output).await,
    }?;
    match output.finish() {
        // Whoever read our output has seen enough; what came of the command is still to be told.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
        finished => finished?,
    }
    Ok(outcome)
}
