//! The options of a store on a snapshot.

use std::{path::PathBuf, time::Duration};

use larder_core::Result;
use larder_kit::{Configure, Permissions, StoreUrl};

use crate::config::{check_path, path};

larder_kit::config! {
    /// The configuration of a store on a snapshot.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> larder_core::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("sessions.json");
    /// use std::time::Duration;
    /// use larder_file::SnapshotConfig;
    ///
    /// let store = SnapshotConfig::new().file(path).interval(Duration::from_secs(10)).connect().await?;
    /// // Writes the snapshot, and releases its lock.
    /// store.close().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[derive(Clone, Debug)]
    pub struct SnapshotConfig for "file" {
        path: PathBuf,
        existing: bool,
    }

    options {
        /// The time between two writes of the snapshot, if entries have changed. A crash loses the changes of at most
        /// this time.
        interval: Duration = "1m", if |interval| !interval.is_zero()
            => "a duration greater than zero with a unit, such as 500ms, 60s or 5m; if writes must be stored \
                when they are acknowledged, use a directory, such as `file:sessions`";
        /// The mode of a new snapshot in octal, such as `0640` or `0660`. For new directories, permission to read
        /// includes permission to search. An existing file keeps its mode. No effect on Windows.
        permissions: Option<Permissions>, unset "`0600` (this user only)";
    }
}

impl SnapshotConfig {
    /// Sets the path of the snapshot, which is created if it does not exist.
    #[must_use]
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.path = path.into();
        self
    }

    /// Opens only an existing snapshot. Opening and reading then create and change nothing. The first change takes the
    /// lock of the snapshot, and is saved as usual.
    #[must_use]
    pub fn existing(mut self) -> Self {
        self.existing = true;
        self
    }

    fn locate(&mut self, url: &mut StoreUrl) -> Result<()> {
        self.path = path(url)?;
        self.check()
    }

    /// Checks that the options are valid.
    pub(super) fn check(&self) -> Result<()> {
        self.check_options()?;
        check_path(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use larder_core::ErrorKind;

    use super::*;

    #[test]
    fn a_url_sets_the_file_and_the_options() {
        let config = SnapshotConfig::from_url("file:a/b.json?interval=500ms").unwrap();
        assert_eq!((config.path, config.interval), (PathBuf::from("a/b.json"), Duration::from_millis(500)));
        for url in [
            "file:",
            "redis:x.json",
            "file:x.json?interval=0s",
            "file:x.json?interval=1",
            "file:x.json?sync=true",
            "file:x.json?permissions=755",
        ] {
            assert_eq!(SnapshotConfig::from_url(url).unwrap_err().kind(), ErrorKind::InvalidConfig, "{url}");
        }
    }
}
