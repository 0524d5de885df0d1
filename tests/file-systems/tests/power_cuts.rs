//! The short form: a few power cuts of each store and control on ext4.

fn main() {
    #[cfg(target_os = "linux")]
    linux::main();
}

#[cfg(target_os = "linux")]
mod linux {
    use std::process::{Command, Output};

    use larder_file_systems::{Failure, cases};
    use larder_test_servers::Tool;
    use libtest_mimic::{Arguments, Failed, Trial};

    /// The power cuts of each store.
    const CUTS: &str = "12";

    fn run(arguments: &[&str]) -> Result<Output, Failed> {
        let mut program = Command::new(env!("CARGO_BIN_EXE_larder-file-systems"));
        Ok(program.args(["--file-systems", "ext4"]).args(arguments).output()?)
    }

    fn messages(output: &Output) -> String {
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    }

    fn case(name: &str) -> Result<(), Failed> {
        let output = run(&["--cuts", CUTS, "--only", name])?;
        if !output.status.success() {
            return Err(messages(&output).into());
        }
        print!("{}", messages(&output));
        Ok(())
    }

    /// Returns why this machine cannot run the cases.
    fn missing() -> Option<String> {
        let output = run(&["--check"]).ok()?;
        let is_missing = output.status.code() == Some(Failure::UNAVAILABLE.into());
        is_missing.then(|| messages(&output))
    }

    pub(super) fn main() {
        let arguments = Arguments::from_args();
        let missing = if arguments.list { None } else { missing() };
        if let Some(reason) = &missing {
            eprint!("{reason}");
        }
        let skips = missing.is_some() && !Tool::Mounts.required();
        let trials = cases().map(|name| Trial::test(name, move || case(name)).with_ignored_flag(skips));
        libtest_mimic::run(&arguments, trials.collect()).exit()
    }
}
