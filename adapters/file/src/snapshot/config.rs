//! The options of a storage on a snapshot.

use std::{path::PathBuf, time::Duration};

use larder_core::Result;
use larder_kit::{Permissions, StoreUrl};

use crate::config::path;

larder_kit::options! {
    /// Builds a [`SnapshotStorage`](crate::SnapshotStorage).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> larder_core::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("sessions.json");
    /// use std::time::Duration;
    /// use larder_file::SnapshotStorage;
    ///
    /// let storage = SnapshotStorage::builder(path).interval(Duration::from_secs(10)).open().await?;
    /// // Writes the snapshot, and lets another process have it.
    /// storage.close().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[derive(Clone, Debug)]
    pub struct SnapshotBuilder {
        path: PathBuf,
        existing: bool,
    }

    /// The options of a `file:` URL that names a snapshot.
    SNAPSHOT_OPTIONS {
        /// How often the snapshot is written, if something has changed. A crash loses the changes of at most
        /// that long. Default: 60 seconds.
        "interval" => interval: Duration = Duration::from_secs(60), if |interval| !interval.is_zero()
            => "a duration with a unit, such as 500ms, 60s or 5m, that is longer than zero; for writes that are \
                stored when they are acknowledged use a directory, such as `file:sessions`";
        /// The mode of a new snapshot file, such as `0o640`; users who may read a new directory may also
        /// search it. Default: `0o600`, this user only. A file that is there keeps its mode.
        /// No effect on Windows.
        "permissions" => permissions: Option<Permissions> = None;
    }
}

impl SnapshotBuilder {
    /// A snapshot in the file at `path`, which need not exist.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self::with_defaults(path.into(), false)
    }

    /// The options of a `file:` URL; see [`SNAPSHOT_OPTIONS`].
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](larder_core::ErrorKind::InvalidConfig) for another scheme, an empty path, an
    /// unknown option or an invalid value.
    pub fn from_url(url: &str) -> Result<Self> {
        let mut url = StoreUrl::parse(url)?;
        let mut builder = Self::new(path(&url)?);
        builder.take_options(&mut url)?;
        url.finish(SNAPSHOT_OPTIONS)?;
        Ok(builder)
    }

    /// Opens only a snapshot that is there already. Opening and reading then create and change nothing;
    /// the first change takes hold of the snapshot, and is saved as usual.
    #[must_use]
    pub fn existing(mut self) -> Self {
        self.existing = true;
        self
    }
}

#[cfg(test)]
mod tests {
    use larder_core::ErrorKind;

    use super::*;

    #[test]
    fn urls() {
        let builder = SnapshotBuilder::from_url("file:a/b.json?interval=500ms").unwrap();
        assert_eq!((builder.path, builder.interval), (PathBuf::from("a/b.json"), Duration::from_millis(500)));
        for url in [
            "file:",
            "redis:x.json",
            "file:x.json?interval=0s",
            "file:x.json?interval=1",
            "file:x.json?sync=true",
            "file:x.json?permissions=755",
        ] {
            assert_eq!(SnapshotBuilder::from_url(url).unwrap_err().kind(), ErrorKind::InvalidConfig, "{url}");
        }
    }
}
