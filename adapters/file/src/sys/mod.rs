//! The system calls that change files and directories, and those that read them.
//!
//! Every such call of this crate is here, so a test can record all of them: `power_cuts` derives from the record what a
//! power cut may leave on the disk. Permissions and locks are not recorded, because no entry depends on them after a
//! cut.

mod real;
#[cfg(all(test, unix))]
mod recorded;

use std::{
    borrow::Borrow,
    fs::File,
    io::{self, Write},
};

#[cfg(not(all(test, unix)))]
pub(crate) use real::*;
#[cfg(all(test, unix))]
pub(crate) use recorded::*;

/// Writes into a file, without a buffer.
pub(crate) struct Output<F: Borrow<File> = File>(pub(crate) F);

impl<F: Borrow<File>> Write for Output<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        write(self.0.borrow(), bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
