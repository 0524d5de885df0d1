//! From the options to a store on a directory.

use std::path::PathBuf;

use larder_core::{Result, Store};
use larder_kit::Interval;

use crate::{
    FileStorage, Layout, ValueFormat,
    config::FileBuilder,
    data_dir::DataDir,
    directory::Directory,
    error::blocking,
    format::{BinaryFormat, EntryFormat, JsonFormat, name},
    grammy::{self, GrammyStorage},
    lock::Locks,
    permissions::Permissions,
    schema,
    tree::Tree,
};

impl FileBuilder {
    /// Opens the directory, creating it if it is not there, unless [`existing`](Self::existing) is set.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](larder_core::ErrorKind::InvalidConfig) if the path names a file, or a
    /// directory with other things in it or in another format, or nothing with `existing`;
    /// [`PermissionDenied`](larder_core::ErrorKind::PermissionDenied) without permission. A directory
    /// that exists and may only be read opens.
    pub async fn open(self) -> Result<Store> {
        self.check()?;
        let existing = self.existing;
        if self.layout == Layout::Grammy {
            let tree = self.tree(DataDir::new, grammy::is_shard);
            let open = move || {
                schema::open(&tree, existing, || grammy::check_directory(&tree))?;
                Ok(Store::from(GrammyStorage::new(tree)))
            };
            return blocking(open).await;
        }
        let format: &'static dyn EntryFormat = match self.values {
            Some(ValueFormat::Json) => &JsonFormat,
            Some(ValueFormat::Bytes) | None => &BinaryFormat,
        };
        let tree = self.tree(DataDir::marked, name::is_shard);
        let tree = blocking(move || {
            schema::open(&tree, existing, || schema::check_or_mark(&tree, format.name(), existing))?;
            Ok(tree)
        });
        let sweep = if existing { Interval::OFF } else { self.sweep };
        Ok(Store::from(FileStorage::new(Directory { tree: tree.await?, format }, sweep)))
    }

    fn tree(&self, dir: fn(PathBuf, Permissions) -> DataDir, is_shard: fn(&str) -> bool) -> Tree {
        let dir = dir(self.directory.clone(), Permissions(self.permissions));
        let locks = Locks::new(dir.clone(), self.lock_timeout);
        Tree { dir, locks, sync: self.sync, is_shard }
    }
}
