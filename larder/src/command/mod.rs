//! The command: parse, run, turn the outcome into an exit code.

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

use self::{
    args::{Arguments, Command},
    exit::Exit,
    output::Output,
};

pub(crate) fn main() -> ExitCode {
    let arguments = Arguments::of_process();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return exit::code(Err(error.into())),
    };
    let outcome = runtime.block_on(run(arguments.command));
    if let Ok(Exit::Interrupted(_)) = outcome {
        // The second signal does not wait for a call that hangs.
        runtime.shutdown_background();
    }
    exit::code(outcome)
}

async fn run(command: Command) -> anyhow::Result<Exit> {
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
        // The reader of the output has seen enough; the outcome of the command is still to be told.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
        finished => finished?,
    }
    Ok(outcome)
}
