//! From the options to a store on a directory.

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
    /// Opens the directory, creating it if it is not there, unless [`existing`](Self::existing) is set.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](larder_core::ErrorKind::InvalidConfig) if there is no path, if it names a file, or a
    /// directory with other things in it or in another format, or nothing with `existing`, or if the options
    /// do not go together;
    /// [`PermissionDenied`](larder_core::ErrorKind::PermissionDenied) without permission. A directory
    /// that exists and may only be read opens.
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

    /// The directory; while it is there, there is a `sign` in it, or just itself.
    fn tree(&self, sign: &str, is_shard: fn(&str) -> bool) -> Tree {
        let dir = DataDir::new(self.directory.clone(), sign, Permissions(self.permissions));
        let locks = Locks::new(dir.clone(), self.lock_timeout);
        Tree { dir, locks, sync: self.sync, is_shard }
    }
}
