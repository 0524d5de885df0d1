//! The options of a storage on a directory.

use std::{path::PathBuf, time::Duration};

use larder_core::Result;
use larder_kit::StoreUrl;

use crate::{
    error::configuration,
    format::{BinaryFormat, EntryFormat, GrammyFormat, JsonFormat},
    permissions,
};

/// The options of a `file:` URL that names a directory.
pub const OPTIONS: &[&str] = &["layout", "values", "sync", "sweep", "permissions", "lock_timeout"];

/// How long to wait for another process by default.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// Which layout a directory has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Layout {
    /// Larder's own: every key, expiry, unique versions.
    #[default]
    Larder,
    /// That of grammY's file storage (`@grammyjs/storage-file`), read and written as grammY does:
    /// JSON values, no expiry, and only keys that can be file names.
    Grammy,
}

/// How values are stored in Larder's own layout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ValueFormat {
    /// Any bytes, behind a head with a checksum.
    #[default]
    Bytes,
    /// JSON only, in files that people can read and edit.
    Json,
}

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
#[must_use]
pub struct FileBuilder {
    pub(crate) directory: PathBuf,
    layout: Layout,
    values: Option<ValueFormat>,
    pub(crate) sync: bool,
    pub(crate) sweep: Option<Option<Duration>>,
    pub(crate) permissions: Option<u32>,
    pub(crate) lock_timeout: Duration,
    pub(crate) existing: bool,
}

impl FileBuilder {
    /// Entries in `directory`, which is created if it is not there.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            layout: Layout::Larder,
            values: None,
            sync: true,
            sweep: None,
            permissions: None,
            lock_timeout: LOCK_TIMEOUT,
            existing: false,
        }
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
        let layouts = [("larder", Layout::Larder), ("grammy", Layout::Grammy)];
        builder.layout = url.take_choice("layout", &layouts)?.unwrap_or(builder.layout);
        let formats = [("bytes", ValueFormat::Bytes), ("json", ValueFormat::Json)];
        builder.values = url.take_choice("values", &formats)?;
        builder.sync = url.take_bool("sync")?.unwrap_or(builder.sync);
        builder.sweep = url.take_interval("sweep")?;
        builder.permissions = url.take_with("permissions", permissions::EXPECTS, permissions::parse)?;
        builder.lock_timeout = url.take_duration("lock_timeout")?.unwrap_or(builder.lock_timeout);
        url.finish(OPTIONS)?;
        builder.format()?;
        Ok(builder)
    }

    /// Which layout the directory has. Default: [`Layout::Larder`].
    pub fn layout(mut self, layout: Layout) -> Self {
        self.layout = layout;
        self
    }

    /// How values are stored. Default: [`ValueFormat::Bytes`]. A directory keeps the format that it
    /// was made with; grammY's layout is JSON.
    pub fn values(mut self, values: ValueFormat) -> Self {
        self.values = Some(values);
        self
    }

    /// Whether a write is acknowledged only once it would survive a power cut (default), rather than
    /// once the operating system has it, which survives the death of the process.
    pub fn sync(mut self, sync: bool) -> Self {
        self.sync = sync;
        self
    }

    /// How often expired entries are removed; `None`: never by itself. Default: every 60 seconds.
    pub fn sweep_every(mut self, every: Option<Duration>) -> Self {
        self.sweep = Some(every);
        self
    }

    /// The mode of new files, such as `0o640`; users who may read a new directory may
    /// also search it. Default: `0o600`, this user only. Entries, which are replaced as a whole, get it
    /// with their next write. No effect on Windows.
    pub fn permissions(mut self, mode: u32) -> Self {
        self.permissions = Some(mode);
        self
    }

    /// How long an operation waits for another process that holds a lock. Then it fails as
    /// [`Unavailable`](larder_core::ErrorKind::Unavailable) and has changed nothing. Default: 10
    /// seconds.
    pub fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.lock_timeout = timeout;
        self
    }

    /// Opens only a storage that is there already. Opening and reading then create and change nothing
    /// in the directory, and expired entries are not removed. Writes work as usual.
    pub fn existing(mut self) -> Self {
        self.existing = true;
        self
    }

    pub(crate) fn format(&self) -> Result<&'static dyn EntryFormat> {
        match (self.layout, self.values) {
            (Layout::Grammy, Some(ValueFormat::Bytes)) => {
                Err(configuration("grammY's layout holds JSON, not bytes; leave `values` out"))
            }
            (Layout::Grammy, _) if self.sweep.flatten().is_some() => {
                Err(configuration("nothing expires in grammY's layout; leave `sweep` out"))
            }
            _ if self.sweep.flatten().is_some_and(|every| every.is_zero()) => {
                Err(configuration("`sweep` must be longer than zero; to remove nothing, switch it off"))
            }
            (Layout::Grammy, _) => Ok(&GrammyFormat),
            (Layout::Larder, Some(ValueFormat::Json)) => Ok(&JsonFormat),
            (Layout::Larder, _) => Ok(&BinaryFormat),
        }
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
        assert_eq!((builder.permissions, builder.lock_timeout), (Some(0o640), Duration::from_secs(2)));
        assert_eq!(builder.directory, PathBuf::from("a/b"));
        assert!(!builder.sync);
        assert_eq!(builder.format().unwrap().marker(), Some("json"));
        assert_eq!(builder.sweep, Some(Some(Duration::from_secs(300))));
        let builder = FileBuilder::from_url("file:///var/x?layout=grammy&sweep=off").unwrap();
        assert_eq!((builder.format().unwrap().marker(), builder.sync), (None, true));
        let builder = FileBuilder::from_url("file:x?layout=grammy&values=json").unwrap();
        assert_eq!(builder.format().unwrap().marker(), None);
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
        assert!(FileBuilder::new("x").sweep_every(Some(Duration::ZERO)).format().is_err());
        let error = FileBuilder::from_url("file:x?snyc=false").unwrap_err();
        assert!(
            error.message().contains("snyc")
                && error.message().contains("layout, values, sync, sweep, permissions, lock_timeout")
        );
    }
}
