//! File systems on loop devices.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{disk::Disk, processes::output};

/// A kind of file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum FileSystem {
    /// With its defaults: `data=ordered`.
    Ext4,
    /// With its defaults.
    Xfs,
    /// With its defaults.
    Btrfs,
}

impl FileSystem {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Ext4, Self::Xfs, Self::Btrfs];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }

    /// An empty disk. Only the written blocks take memory.
    pub(crate) fn disk(self) -> Disk {
        Disk::new(match self {
            Self::Ext4 => 128 << 20,
            // mkfs.xfs refuses a smaller disk.
            Self::Xfs | Self::Btrfs => 512 << 20,
        })
    }

    /// Makes the file system. The packages `e2fsprogs`, `xfsprogs` and `btrfs-progs` have the programs.
    pub(crate) fn make(self, disk: &Path) -> Result<(), String> {
        let (program, arguments): (_, &[&str]) = match self {
            Self::Ext4 => ("mkfs.ext4", &["-q", "-F", "-b", "4096", "-E", "lazy_itable_init=0,nodiscard"]),
            Self::Xfs => ("mkfs.xfs", &["-q", "-f", "-K"]),
            Self::Btrfs => ("mkfs.btrfs", &["-q", "-f", "-K"]),
        };
        run(program, arguments.iter().map(OsStr::new).chain([disk.as_os_str()]))
    }
}

/// A mounted disk. It is unmounted on drop.
#[derive(Debug)]
pub(crate) struct Mount(PathBuf);

impl Mount {
    /// Mounts a disk on a new directory. The file system repairs itself from its journal, as after a power cut.
    pub(crate) fn new(kind: FileSystem, disk: &Path, directory: PathBuf) -> Result<Self, String> {
        fs::create_dir(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
        let options = if kind == FileSystem::Xfs { "loop,nouuid" } else { "loop" };
        let mounted = run(
            "mount",
            ["-t", kind.name(), "-o", options]
                .map(OsStr::new)
                .into_iter()
                .chain([disk.as_os_str(), directory.as_os_str()]),
        );
        if let Err(error) = mounted {
            let _ = fs::remove_dir(&directory);
            return Err(error);
        }
        Ok(Self(directory))
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.0
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Also detaches the loop device.
        match run("umount", [self.0.as_os_str()]) {
            Ok(()) => drop(fs::remove_dir(&self.0)),
            Err(error) => eprintln!("{error}"),
        }
    }
}

/// Runs a program. The error contains its messages.
pub(crate) fn run<A: AsRef<OsStr>>(
    program: &str,
    arguments: impl IntoIterator<Item = A>,
) -> Result<(), String> {
    let output = output(program, Command::new(program).args(arguments), Vec::new())?;
    if output.status.success() {
        return Ok(());
    }
    let messages = String::from_utf8_lossy(&output.stderr);
    Err(format!("{program} failed: {}", messages.trim()))
}
