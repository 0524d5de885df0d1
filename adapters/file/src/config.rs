//! The options of a storage on a directory.

use std::{path::PathBuf, time::Duration};

use larder_core::Result;
use larder_kit::{Interval, Permissions, StoreUrl};

use crate::error::configuration;

const SWEEP: Interval = Interval::every(Duration::from_secs(60));

larder_kit::choices! {
    /// Which layout a directory has.
    pub enum Layout {
        /// Larder's own: every key, expiry, unique versions.
        #[default]
        "larder" => Larder,
        /// That of grammY's file storage (`@grammyjs/storage-file`), read and written as grammY does:
        /// JSON values, no expiry, and only keys that can be file names.
        "grammy" => Grammy,
    }
}

larder_kit::choices! {
    /// How values are stored in Larder's own layout.
    pub enum ValueFormat {
        /// Any bytes, behind a head with a checksum.
        #[default]
        "bytes" => Bytes,
        /// JSON only, in files that people can read and edit.
        "json" => Json,
    }
}

larder_kit::options! {
    /// Builds a [`FileStorage`](crate::FileStorage).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> larder_core::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("sessions");
    /// use larder_file::{FileStorage, ValueFormat};
    ///
    /// let storage = FileStorage::builder(path).values(ValueFormat::Json).sync(false).open().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[derive(Clone, Debug)]
    pub struct FileBuilder {
        directory: PathBuf,
        existing: bool,
    }

    /// The options of a `file:` URL that names a directory.
    OPTIONS {
        /// Which layout the directory has. Default: [`Layout::Larder`].
        "layout" => layout: Layout = Layout::Larder;
        /// How values are stored. Default: [`ValueFormat::Bytes`]. A directory keeps the format that it
        /// was made with; grammY's layout is JSON.
        "values" => values: Option<ValueFormat> = None;
        /// Whether a write is acknowledged only once it would survive a power cut (default), rather than
        /// once the operating system has it, which survives the death of the process.
        "sync" => sync: bool = true;
        /// How often expired entries are removed; `None`: never by itself. Default: every 60 seconds.
        "sweep" => sweep: Interval = SWEEP;
        /// The mode of new files, such as `0o640`; users who may read a new directory may also search it.
        /// Default: `0o600`, this user only. Entries, which are replaced as a whole, get it with their next
        /// write. No effect on Windows.
        "permissions" => permissions: Option<Permissions> = None;
        /// How long an operation waits for another process that holds a lock. Then it fails as
        /// [`Unavailable`](larder_core::ErrorKind::Unavailable) and has changed nothing. Default: 10
        /// seconds.
        "lock_timeout" => lock_timeout: Duration = Duration::from_secs(10);
    }
}

impl FileBuilder {
    /// Entries in `directory`, which is created if it is not there.
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self::with_defaults(directory.into(), false)
    }

    /// The options of a `file:` URL; see [`OPTIONS`].
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](larder_core::ErrorKind::InvalidConfig) for another scheme, an empty path, an
    /// unknown option or an invalid value.
    pub fn from_url(url: &str) -> Result<Self> {
        let mut url = StoreUrl::parse(url)?;
        let mut builder = Self::new(path(&url)?);
        builder.take_options(&mut url)?;
        url.finish(OPTIONS)?;
        builder.check().map(|()| builder)
    }

    /// Opens only a storage that is there already. Opening and reading then create and change nothing
    /// in the directory, and expired entries are not removed. Writes work as usual.
    #[must_use]
    pub fn existing(mut self) -> Self {
        self.existing = true;
        self
    }

    /// Checks that the options are valid and go together.
    pub(crate) fn check(&self) -> Result<()> {
        self.check_options()?;
        if self.layout != Layout::Grammy {
            return Ok(());
        }
        if self.values == Some(ValueFormat::Bytes) {
            return Err(configuration("grammY's layout holds JSON, not bytes; leave `values` out"));
        }
        if ![SWEEP, Interval::OFF].contains(&self.sweep) {
            return Err(configuration("nothing expires in grammY's layout; leave `sweep` out"));
        }
        Ok(())
    }
}

/// The path that a `file:` URL names.
pub(crate) fn path(url: &StoreUrl) -> Result<PathBuf> {
    if url.scheme() != "file" {
        return Err(configuration(format!("a `{}:` URL does not name a file; write `file:`", url.scheme())));
    }
    let path = url.path()?;
    if path.is_empty() {
        return Err(configuration(
            "the URL names no path; write `file:sessions` or `file:/var/lib/bot/sessions`",
        ));
    }
    Ok(PathBuf::from(path))
}

#[cfg(test)]
mod tests {
    use larder_core::ErrorKind;

    use super::*;

    #[test]
    fn urls() {
        let builder = FileBuilder::from_url(
            "file:a/b?sync=false&values=json&sweep=5m&permissions=0640&lock_timeout=2s",
        )
        .unwrap();
        assert_eq!(builder.permissions.map(Permissions::mode), Some(0o640));
        assert_eq!(builder.lock_timeout, Duration::from_secs(2));
        assert_eq!(builder.directory, PathBuf::from("a/b"));
        assert!(!builder.sync);
        assert_eq!(builder.values, Some(ValueFormat::Json));
        assert_eq!(builder.sweep, Interval::every(Duration::from_secs(300)));
        let builder = FileBuilder::from_url("file:///var/x?layout=grammy&sweep=off").unwrap();
        assert_eq!((builder.layout, builder.sync), (Layout::Grammy, true));
        assert!(FileBuilder::from_url("file:x?layout=grammy&values=json").is_ok());
    }

    #[test]
    fn nonsense_is_refused() {
        for url in [
            "file:",
            "sqlite:x",
            "file://host/x",
            "file:x?layout=keyv",
            "file:x?values=xml",
            "file:x?sync=maybe",
            "file:x?sweep=often",
            "file:x?sweep=0s",
            "file:x?permissions=rw",
            "file:x?permissions=0755",
            "file:x?lock_timeout=10",
            "file:x?interval=5s",
            "file:x?layout=grammy&values=bytes",
            "file:x?layout=grammy&sweep=5s",
        ] {
            let error = FileBuilder::from_url(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{url}");
        }
        assert!(FileBuilder::new("x").sweep(Some(Duration::ZERO)).check().is_err());
        let error = FileBuilder::from_url("file:x?snyc=false").unwrap_err();
        assert!(
            error.message().contains("snyc")
                && error.message().contains("layout, values, sync, sweep, permissions, lock_timeout")
        );
    }
}
