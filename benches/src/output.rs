//! The paths of results, pages and temporary files.

use std::{
    fs,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

pub struct Output {
    quick: bool,
}

/// On the disk of the checkout, because `/tmp` may be in memory.
fn target() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/benchmarks")
}

/// A directory for a store's files.
pub fn scratch() -> TempDir {
    fs::create_dir_all(target()).unwrap();
    tempfile::tempdir_in(target()).unwrap()
}

impl Output {
    pub fn new(quick: bool) -> Self {
        let output = Self { quick };
        fs::create_dir_all(output.charts()).unwrap();
        fs::create_dir_all(target()).unwrap();
        output
    }

    pub fn results(&self) -> PathBuf {
        if self.quick { target().join("quick/results.json") } else { target().join("results.json") }
    }

    /// The hand-written page, whose generated parts are replaced.
    pub fn template() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/benchmarks.md")
    }

    pub fn page(&self) -> PathBuf {
        if self.quick { target().join("quick/benchmarks.md") } else { Self::template() }
    }

    /// The directory of the charts, next to the page.
    pub fn charts(&self) -> PathBuf {
        if self.quick { target().join("quick/benchmarks") } else { Self::template().with_extension("") }
    }
}
