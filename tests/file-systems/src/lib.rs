//! Power cuts on real file systems: a disk with a volatile cache, a kernel's file system on it, a store on that, and a
//! load whose process reports each request and each answer. At random moments the disk loses its power. The file system
//! is mounted and the store is opened again, and the entries are compared with what was acknowledged. See `README.md`.
#![cfg(target_os = "linux")]

mod case;
mod disk;
mod fuse;
mod history;
mod load;
mod look;
mod mount;
mod options;
mod processes;
mod trial;
mod value;

use std::{
    convert::Infallible, env, fmt, fs, os::unix::process::CommandExt, path::Path, process::Command,
    time::Instant,
};

use fastrand::Rng;

use crate::{
    case::CASES,
    mount::run,
    trial::{Counts, Machine, Trial},
};
pub use crate::{load::Load, look::Look, mount::FileSystem, options::Options};

/// The reason why there is no result, or a bad one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// This machine cannot run trials.
    Unavailable(String),
    /// A store lost entries, or a trial failed.
    Failed(String),
}

impl Failure {
    /// The exit status of the program if this machine cannot run trials.
    pub const UNAVAILABLE: u8 = 3;
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable(reason) => write!(f, "trials are not possible here: {reason}"),
            Self::Failed(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for Failure {}

/// Returns the names of the stores and controls.
pub fn cases() -> impl Iterator<Item = &'static str> {
    CASES.iter().map(|case| case.name)
}

/// Replaces this process by the same program in a mount namespace of its own, with `role` before its arguments.
///
/// When the last process of the namespace has ended, even if it was killed, the kernel unmounts all file systems in it
/// and detaches their loop devices. The disks are in the memory of the program. So nothing is left to clean up.
///
/// # Errors
///
/// If this machine has no such namespaces, or this user may not make one.
pub fn isolate(role: &str) -> Result<Infallible, Failure> {
    let isolated = ["--mount", "--propagation", "private"];
    run("unshare", isolated.iter().chain(&["true"])).map_err(Failure::Unavailable)?;
    let unavailable = |error| Failure::Unavailable(format!("cannot run this program again: {error}"));
    let program = env::current_exe().map_err(unavailable)?;
    let arguments = env::args_os().skip(1);
    Err(unavailable(Command::new("unshare").args(isolated).arg(program).arg(role).args(arguments).exec()))
}

/// Runs the trials, and prints a line for each. The process must be [isolated](isolate).
///
/// # Errors
///
/// If a store lost acknowledged changes, a control lost none, or this machine cannot run the trials.
pub fn run_trials(options: &Options) -> Result<(), Failure> {
    // Never removed: another run may have its own file system on it.
    let directory = env::temp_dir().join("larder-file-systems");
    let machine = open(&directory).map_err(Failure::Unavailable)?;
    let mut empty = Vec::new();
    for kind in options.file_systems.iter().copied() {
        empty.push((kind, machine.make(kind).map_err(Failure::Unavailable)?));
    }
    if options.check {
        return Ok(());
    }
    let seed = options.seed.unwrap_or_else(|| fastrand::u64(..));
    println!("seed {seed}");
    for (kind, empty) in &empty {
        for case in CASES.iter().filter(|case| options.selects(case.name)) {
            let name = format!("{} on {}", case.name, kind.name());
            let start = Instant::now();
            let progress = |counts: &Counts| {
                if counts.is_milestone() {
                    eprintln!("{name}: {counts}");
                }
            };
            let (rng, counts) = (Rng::with_seed(seed), Counts::default());
            let mut trial = Trial { machine: &machine, kind: *kind, empty, case, rng, counts };
            let result = trial.run(options.cuts, progress);
            println!("{name}: {} ({:.1} s)", trial.counts, start.elapsed().as_secs_f64());
            result.map_err(|error| Failure::Failed(format!("{name}, seed {seed}: {error}")))?;
        }
    }
    Ok(())
}

/// Mounts a file system in memory for the directories on which others are mounted.
fn open(directory: &Path) -> Result<Machine, String> {
    let failed = |error| format!("{}: {error}", directory.display());
    fs::create_dir_all(directory).map_err(failed)?;
    run("mount", ["-t", "tmpfs", "none"].iter().map(AsRef::as_ref).chain([directory.as_os_str()]))?;
    Machine::new(directory).map_err(|error| format!("cannot mount a FUSE file system: {error}"))
}
