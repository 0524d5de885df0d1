//! Power cuts on real file systems: `cargo run -p larder-file-systems -- --help`.

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    linux::main()
}

#[cfg(not(target_os = "linux"))]
fn main() -> std::process::ExitCode {
    eprintln!("larder-file-systems: only Linux has loop devices");
    std::process::ExitCode::FAILURE
}

#[cfg(target_os = "linux")]
mod linux {
    use std::{error::Error, process::ExitCode};

    use clap::Parser;
    use larder_file_systems::{Failure, Load, Look, Options, isolate, run_trials};

    #[derive(Parser)]
    #[command(about, args_conflicts_with_subcommands = true)]
    struct Program {
        #[command(flatten)]
        options: Options,
        #[command(subcommand)]
        role: Option<Role>,
    }

    /// The other processes, which the program starts itself.
    #[derive(clap::Subcommand)]
    enum Role {
        #[command(hide = true)]
        Isolated(Options),
        #[command(hide = true)]
        Load(Load),
        #[command(hide = true)]
        Look(Look),
    }

    #[tokio::main(worker_threads = 2)]
    async fn load(load: Load) -> Result<(), Box<dyn Error + Send + Sync>> {
        match load.run().await? {}
    }

    #[tokio::main(flavor = "current_thread")]
    async fn look(look: Look) -> Result<(), Box<dyn Error + Send + Sync>> {
        look.run().await
    }

    pub(super) fn main() -> ExitCode {
        let Program { options: _, role } = Program::parse();
        let result = match role {
            None => match isolate("isolated") {
                Ok(never) => match never {},
                Err(error) => Err(error.into()),
            },
            Some(Role::Isolated(options)) => run_trials(&options).map_err(Into::into),
            Some(Role::Load(options)) => load(options),
            Some(Role::Look(options)) => look(options),
        };
        let Err(error) = result else { return ExitCode::SUCCESS };
        eprintln!("larder-file-systems: {error}");
        match error.downcast_ref() {
            Some(Failure::Unavailable(_)) => ExitCode::from(Failure::UNAVAILABLE),
            _ => ExitCode::FAILURE,
        }
    }
}
