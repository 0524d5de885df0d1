//! The same calls for tests, which can record them and let them fail.

use std::{
    ffi::OsString,
    fs::{DirBuilder, File, OpenOptions},
    io,
    path::Path,
};

use larder_power_cuts::record;

use super::real;

pub(crate) fn open(options: &OpenOptions, path: &Path) -> io::Result<File> {
    record::open(path, || real::open(options, path))
}

pub(crate) fn read(file: &File, limit: u64, bytes: &mut Vec<u8>) -> io::Result<usize> {
    record::read(file, || real::read(file, limit, bytes))
}

pub(crate) fn write(file: &File, bytes: &[u8]) -> io::Result<usize> {
    record::write(file, bytes, |bytes| real::write(file, bytes))
}

pub(crate) fn set_len(file: &File, length: u64) -> io::Result<()> {
    record::set_len(file, length, || real::set_len(file, length))
}

pub(crate) fn sync_data(file: &File) -> io::Result<()> {
    record::sync(file, || real::sync_data(file))
}

pub(crate) fn sync_all(file: &File) -> io::Result<()> {
    record::sync(file, || real::sync_all(file))
}

pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    record::sync_directory(path, || real::sync_directory(path))
}

pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    record::rename(from, to, || real::rename(from, to))
}

pub(crate) fn remove_file(path: &Path) -> io::Result<()> {
    record::remove_file(path, || real::remove_file(path))
}

pub(crate) fn create_directory(builder: &DirBuilder, path: &Path) -> io::Result<()> {
    record::create_directory(path, || real::create_directory(builder, path))
}

pub(crate) fn names(path: &Path) -> io::Result<Vec<OsString>> {
    record::names(path, || real::names(path))
}
