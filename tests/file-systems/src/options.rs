//! The command line.

use crate::mount::FileSystem;

/// Cuts the power of disks with a store, and checks that no acknowledged change is lost.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// The power cuts of each store on each file system, without second ones
    #[arg(long, default_value_t = 100)]
    pub cuts: usize,
    /// The file systems, separated by commas
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = FileSystem::ALL)]
    pub file_systems: Vec<FileSystem>,
    /// Only the stores and controls of these names, separated by commas
    #[arg(long, value_delimiter = ',', value_parser = crate::cases().collect::<Vec<_>>())]
    pub only: Vec<String>,
    /// Decides the operations, the pauses between cuts, and the lost writes. The timing of processes is different in
    /// each run [default: random]
    #[arg(long)]
    pub seed: Option<u64>,
    /// Only check that this machine can mount the file systems
    #[arg(long)]
    pub check: bool,
}

impl Options {
    pub(crate) fn selects(&self, case: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == case)
    }
}
