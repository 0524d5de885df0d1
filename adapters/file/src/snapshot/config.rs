//! The options of a storage on a snapshot.

use std::{path::PathBuf, time::Duration};

use larder_core::Result;
use larder_kit::StoreUrl;

use crate::{config::path, error::configuration, permissions};

/// The options of a `file:` URL that names a snapshot.
pub const SNAPSHOT_OPTIONS: &[&str] = &["interval", "permissions"];

/// How often the snapshot is written by default.
const INTERVAL: Duration = Duration::from_secs(60);

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
#[must_use]
pub struct SnapshotBuilder {
    pub(super) path: PathBuf,
    pub(super) interval: Duration,
    pub(super) permissions: Option<u32>,
    pub(super) existing: bool,
}

impl SnapshotBuilder {
    /// A snapshot in the file at `path`, which need not exist.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), interval: INTERVAL, permissions: None, existing: false }
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
        builder.interval = url.take_duration("interval")?.unwrap_or(builder.interval);
        builder.permissions = url.take_with("permissions", permissions::EXPECTS, permissions::parse)?;
        url.finish(SNAPSHOT_OPTIONS)?;
        builder.check()?;
        Ok(builder)
    }

    /// How often the snapshot is written, if something has changed. A crash loses the changes of at most
    /// that long.
    /// Default: 60 seconds.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// The mode of a new snapshot file, such as `0o640`; users who may read a new directory may also
    /// search it. Default: `0o600`, this user only. A file that is there keeps its mode.
    /// No effect on Windows.
    pub fn permissions(mut self, mode: u32) -> Self {
        self.permissions = Some(mode);
        self
    }

    /// Opens only a snapshot that is there already. Opening and reading then create and change nothing;
    /// the first change takes hold of the snapshot, and is saved as usual.
    pub fn existing(mut self) -> Self {
        self.existing = true;
        self
    }

    pub(super) fn check(&self) -> Result<()> {
        if self.interval.is_zero() {
            return Err(configuration(
                "`interval` must be greater than zero; for writes that are stored when they are acknowledged use a \
                 directory, such as `file:sessions`",
            ));
        }
        Ok(())
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
