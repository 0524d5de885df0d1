//! What a directory's storage can be told.

use std::{path::PathBuf, sync::Arc, time::Duration};

use larder_core::{Operation, Result};
use larder_kit::StoreUrl;

use crate::{
    FileStorage,
    directory::Directory,
    error::{blocking, configuration, during},
    form::Form,
    home::Home,
    permissions::{self, Permissions},
    setup,
};

/// The options of a `file:` URL that names a directory.
pub const OPTIONS: &[&str] = &["layout", "values", "sync", "sweep", "permissions", "lock_timeout"];

/// How often expired entries are removed, unless told otherwise.
pub(crate) const SWEEP: Duration = Duration::from_secs(60);

/// How long to wait for another process, unless told otherwise.
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

/// Builds a [`FileStorage`].
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
    directory: PathBuf,
    layout: Layout,
    values: Option<ValueFormat>,
    sync: bool,
    sweep: Option<Option<Duration>>,
    permissions: Option<u32>,
    lock_timeout: Duration,
    existing: bool,
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

    /// What a `file:` URL says; its options are [`OPTIONS`].
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](larder_core::ErrorKind::InvalidConfig) for another scheme, an empty path, an
    /// unknown option or a value that it does not take.
    pub fn from_url(url: &str) -> Result<Self> {
        Self::from_location(StoreUrl::parse(url)?).map_err(during(Operation::Connect))
    }

    fn from_location(mut location: StoreUrl) -> Result<Self> {
        let mut builder = Self::new(path(&location)?);
        let layouts = [("larder", Layout::Larder), ("grammy", Layout::Grammy)];
        if let Some(layout) = location.take_choice("layout", &layouts)? {
            builder = builder.layout(layout);
        }
        let formats = [("bytes", ValueFormat::Bytes), ("json", ValueFormat::Json)];
        if let Some(values) = location.take_choice("values", &formats)? {
            builder = builder.values(values);
        }
        if let Some(sync) = location.take_bool("sync")? {
            builder = builder.sync(sync);
        }
        let sweep = location.take_with("sweep", "a duration with a unit, such as 60s, or off", |value| {
            if value == "off" { Some(None) } else { humantime::parse_duration(value).ok().map(Some) }
        })?;
        if let Some(every) = sweep {
            builder = builder.sweep_every(every);
        }
        if let Some(mode) = location.take_with("permissions", permissions::EXPECTS, permissions::parse)? {
            builder = builder.permissions(mode);
        }
        if let Some(timeout) = location.take_duration("lock_timeout")? {
            builder = builder.lock_timeout(timeout);
        }
        location.finish(OPTIONS)?;
        builder.form()?;
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

    /// The mode of new files, such as `0o640`; new directories may also be searched by whoever may
    /// read them. Default: `0o600`, this user only. Entries, which are replaced as a whole, get it
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

    fn form(&self) -> Result<Form> {
        match (self.layout, self.values) {
            (Layout::Grammy, Some(ValueFormat::Bytes)) => {
                Err(configuration("grammY's layout holds JSON, not bytes; leave `values` out"))
            }
            (Layout::Grammy, _) if self.sweep.flatten().is_some() => {
                Err(configuration("nothing expires in grammY's layout; leave `sweep` out"))
            }
            (Layout::Grammy, _) => Ok(Form::Grammy),
            (Layout::Larder, Some(ValueFormat::Json)) => Ok(Form::Json),
            (Layout::Larder, _) => Ok(Form::Binary),
        }
    }

    /// Opens the directory, creating it if it is not there, unless [`existing`](Self::existing) is set.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](larder_core::ErrorKind::InvalidConfig) if the path names a file, or a
    /// directory with other things in it or in another format, or nothing with `existing`;
    /// [`PermissionDenied`](larder_core::ErrorKind::PermissionDenied) without permission. A directory that exists and may
    /// only be read opens.
    pub async fn open(self) -> Result<FileStorage> {
        let open = async {
            let form = self.form()?;
            let permissions = Permissions::new(self.permissions)?;
            let home = Home::new(self.directory, form != Form::Grammy, permissions);
            let directory = Arc::new(Directory::new(home, form, self.sync, self.lock_timeout));
            let opened = Arc::clone(&directory);
            let existing = self.existing;
            blocking(move || if existing { setup::check(&opened) } else { setup::open(&opened) }).await?;
            let never = existing || form == Form::Grammy;
            let sweep = if never { None } else { self.sweep.unwrap_or(Some(SWEEP)) };
            Ok(FileStorage::new(directory, sweep))
        };
        open.await.map_err(during(Operation::Connect))
    }
}

/// The path that a `file:` URL names.
pub(crate) fn path(location: &StoreUrl) -> Result<PathBuf> {
    if location.scheme() != "file" {
        return Err(configuration(format!("a `{}:` URL does not name a file", location.scheme())));
    }
    let path = location.path()?;
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
        assert_eq!(builder.form().unwrap(), Form::Json);
        assert_eq!(builder.sweep, Some(Some(Duration::from_secs(300))));
        let builder = FileBuilder::from_url("file:///var/x?layout=grammy&sweep=off").unwrap();
        assert_eq!((builder.form().unwrap(), builder.sync), (Form::Grammy, true));
        assert_eq!(
            FileBuilder::from_url("file:x?layout=grammy&values=json").unwrap().form().unwrap(),
            Form::Grammy
        );
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
        let error = FileBuilder::from_url("file:x?snyc=false").unwrap_err();
        assert!(
            error.message().contains("snyc")
                && error.message().contains("layout, values, sync, sweep, permissions, lock_timeout")
        );
    }
}
