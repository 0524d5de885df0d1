//! Records system calls, lets them fail, and enumerates the states that a power cut may leave on the disk.
//!
//! A program makes its calls through the functions of [`record`]. A [`Recorder`] of a directory then has a [`Log`] of
//! the calls that changed it, and [`Log::states`] returns the [`Tree`]s that may be on the disk after a power cut at any
//! point of the log. A test creates each of them and checks that the program reads it.
//!
//! Files are inodes: a write through an open handle changes the file wherever it was renamed to.
//!
//! # The models
//!
//! A [`Model`] says which states are possible.
//!
//! | | [`Posix`](Model::Posix) | [`AtomicRename`](Model::AtomicRename) | [`Ordered`](Model::Ordered) |
//! |---|---|---|---|
//! | a sync of a file | its data and length | the same | also all names and lengths before its own last change |
//! | a sync of a directory | its names | its names, both of a rename; and the data that such a rename flushes | also all names and lengths before its own last change |
//! | names that were not synced | each is on the disk or not, in any order | the same, per operation | a prefix, in order |
//! | a rename | its two names are independent: both, one or none may be on the disk | both or none | both or none |
//! | the data of a renamed file | independent | on the disk before a rename that replaces a file | on the disk before the rename |
//! | data at the new end of a file | none, a part, or zeros instead of any sector | the same | a part, never zeros |
//! | data that overwrites | any of the changes, by sector | the same | the same |
//!
//! In all models:
//!
//! - A name on the disk is the old or the new one, so a rename that replaces a file never leaves neither file. File
//!   systems change such an entry of a directory in place or journal it (in ext2, `ext2_set_link`).
//! - A sector of 512 bytes is written completely or not at all.
//! - A sync is a barrier: the disk does not lie about its cache. Later changes do not damage synced data.
//! - The new end of a file has zeros where its data is not on the disk, never the earlier content of the disk. ext2,
//!   and ext4 with `data=writeback`, may leave such content; this is not simulated.
//! - A sync that fails has no effect. Linux may then drop the data, and report success for the next sync of the file
//!   (`fsync(2)`); this is not simulated.
//!
//! `Posix` is close to the default of ALICE (Pillai et al., "All File Systems Are Not Created Equal", OSDI 2014), which
//! also reorders everything between two syncs; but ALICE keeps a rename atomic, and this does not, like ext2 without a
//! journal. `AtomicRename` is ext4 with its default `auto_da_alloc`, which writes the data of a file before it replaces
//! another one by a rename (Documentation/admin-guide/ext4.rst), but without an order between operations, as in btrfs,
//! whose log tree contains only what was synced. `Ordered` is ext4 with `data=ordered` without delayed allocation, and
//! XFS for names: both journal names in order.
//!
//! # Bounds
//!
//! Every point of the log is a cut. At each, all combinations of the changes that were not synced are states, up to
//! [`Bounds::all`]. If there are more, these are states:
//!
//! - every prefix of the log;
//! - all combinations that differ from the first and the last prefix in one change, with [`Bounds::pairs`] also in two;
//! - [`Bounds::random`] random combinations.
//!
//! The changes of one file are bounded first:
//!
//! - All subsets of at most four changes count, otherwise all that lack one.
//! - A torn write has any subset of at most four sectors, otherwise five subsets; and at the end of a file also one
//!   byte, half of the bytes, and all but one.
//! - Only one write of a file is torn, after all earlier changes of the file.
//!
//! [`States::complete`] is false if a bound applies, except that of the lengths at the end of a file.

#![cfg(unix)]

mod image;
mod log;
pub mod record;
mod states;

pub use crate::{
    image::{Ino, Tree},
    log::{Bug, Log},
    record::{Call, Counts, Fault, Recorder},
    states::{Bounds, Model, States},
};

/// Makes a directory, in memory if possible, because the states are many.
///
/// # Errors
///
/// If no directory can be made.
pub fn scratch() -> std::io::Result<tempfile::TempDir> {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir())
}
