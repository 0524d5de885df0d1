//! Opens a store on a directory.

use larder_core::{Result, Store};
use larder_kit::{Configure, Interval, Layout, ValueFormat};

use crate::{
    config::Config,
    data_dir::{DataDir, MARKER},
    directory::Directory,
    error::blocking,
    format::{EntryFormat, binary::BinaryFormat, json::JsonFormat, name},
    grammy::{self, GrammyStorage, Sessions},
    lock::Locks,
    permissions::Permissions,
    schema,
    storage::FileStorage,
    tree::Tree,
};

impl Config {
    /// Opens the directory, and creates it if it does not exist and [`existing`](Self::existing) is not set.
    ///
    /// # Errors
    ///
    /// - [`InvalidConfig`](larder_core::ErrorKind::InvalidConfig) if the path is empty, names a file, or names a
    ///   directory with other contents or another format; if the directory does not exist and `existing` is set; or if
    ///   the options are not compatible.
    /// - [`PermissionDenied`](larder_core::ErrorKind::PermissionDenied) without permission. An existing directory needs
    ///   only the permission to read.
    pub async fn connect(self) -> Result<Store> {
        self.open().await.map_err(Self::named)
    }

    async fn open(self) -> Result<Store> {
        self.check()?;
        let existing = self.existing;
        if self.layout == Layout::Grammy {
            let tree = self.tree("", grammy::is_shard);
            let open = move || schema::open(&tree, existing, grammy::check_directory).map(|()| tree);
            let sessions = Sessions(blocking(open).await?);
            return Ok(Store::from(GrammyStorage::new(sessions, Interval::OFF)));
        }
        let (format, values): (&'static dyn EntryFormat, _) = match self.values {
            Some(ValueFormat::Json) => (&JsonFormat, "json"),
            _ => (&BinaryFormat, "bytes"),
        };
        let tree = self.tree(MARKER, name::is_shard);
        let check = move |tree: &Tree| schema::check_or_mark(tree, values, existing);
        let open = move || schema::open(&tree, existing, check).map(|()| tree);
        let directory = Directory { tree: blocking(open).await?, format };
        let sweep = if existing { Interval::OFF } else { self.sweep };
        Ok(Store::from(FileStorage::new(directory, sweep)))
    }

    /// Makes the tree of the directory. `probe` is a file in the directory that exists while the directory does; empty
    /// for the directory itself.
    fn tree(&self, probe: &str, is_shard: fn(&str) -> bool) -> Tree {
        let dir = DataDir::new(self.directory.clone(), probe, Permissions(self.permissions));
        let locks = Locks::new(dir.clone(), self.lock_timeout);
        Tree { dir, locks, sync: self.sync, is_shard }
    }
}
