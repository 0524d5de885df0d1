//! The options of a store on a directory.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use larder_core::Result;
use larder_kit::{Configure, Interval, Layout, Permissions, StoreUrl, ValueFormat};

use crate::error::configuration;

larder_kit::config! {
    /// The configuration of a store on a directory.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> larder_core::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("sessions");
    /// use larder_file::{Config, ValueFormat};
    ///
    /// let store = Config::new().directory(path).values(ValueFormat::Json).sync(false).connect().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[derive(Clone, Debug)]
    pub struct Config for "file" {
        directory: PathBuf,
        existing: bool,
    }

    options {
        /// The layout of the directory: `larder`, or `grammy` for that of grammY's file storage.
        layout: Layout = "larder";
        /// The format of values: `bytes`, or `json` for files that people can read and edit. A directory keeps the
        /// format that it was created with.
        values: Option<ValueFormat>, unset "`bytes`; `json` in grammY's layout";
        /// Whether a write is acknowledged only when it survives a power cut. If `false`, it only survives the death of
        /// the process.
        sync: bool = "true";
        /// The time between two removals of expired entries; `off` disables them.
        sweep: Interval = "1m";
        /// The longest wait for another process that holds a lock. Then the operation fails and changes nothing.
        lock_timeout: Duration = "10s";
        /// The mode of new files in octal, such as `0640` or `0660`. For new directories, permission to read includes
        /// permission to search. No effect on Windows.
        permissions: Option<Permissions>, unset "`0600` (this user only)";
    }
}

impl Config {
    /// Sets the directory of the entries, which is created if it does not exist.
    #[must_use]
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = directory.into();
        self
    }

    /// Opens only an existing directory. Opening and reading then create and change nothing in it, and no sweeper runs.
    /// Writes work as usual.
    #[must_use]
    pub fn existing(mut self) -> Self {
        self.existing = true;
        self
    }

    fn locate(&mut self, url: &mut StoreUrl) -> Result<()> {
        self.directory = path(url)?;
        self.check()
    }

    /// Checks that the options are valid and compatible.
    pub(crate) fn check(&self) -> Result<()> {
        self.check_options()?;
        check_path(&self.directory)?;
        if self.layout != Layout::Grammy {
            return Ok(());
        }
        if self.values == Some(ValueFormat::Bytes) {
            return Err(configuration("`layout=grammy` stores only JSON: remove the option `values`"));
        }
        if ![Self::new().sweep, Interval::OFF].contains(&self.sweep) {
            return Err(configuration(
                "entries do not expire with `layout=grammy`: remove the option `sweep`",
            ));
        }
        Ok(())
    }
}

/// Returns the path of a `file:` URL.
pub(crate) fn path(url: &StoreUrl) -> Result<PathBuf> {
    if url.scheme() != "file" {
        return Err(configuration(format!("a `{}:` URL does not name a file: write `file:`", url.scheme())));
    }
    Ok(PathBuf::from(url.path()?))
}

/// Rejects the empty path.
pub(crate) fn check_path(path: &Path) -> Result<()> {
    if path.as_os_str().is_empty() {
        return Err(configuration(
            "the store has no path: write `file:sessions` or `file:/var/lib/bot/sessions`",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use larder_core::ErrorKind;

    use super::*;

    #[test]
    fn a_url_sets_the_directory_and_the_options() {
        let config =
            Config::from_url("file:a/b?sync=false&values=json&sweep=5m&permissions=0640&lock_timeout=2s")
                .unwrap();
        assert_eq!(config.permissions.map(Permissions::mode), Some(0o640));
        assert_eq!(config.lock_timeout, Duration::from_secs(2));
        assert_eq!(config.directory, PathBuf::from("a/b"));
        assert!(!config.sync);
        assert_eq!(config.values, Some(ValueFormat::Json));
        assert_eq!(config.sweep, Interval::every(Duration::from_secs(300)));
        let config = Config::from_url("file:///var/x?layout=grammy&sweep=off").unwrap();
        assert_eq!((config.layout, config.sync), (Layout::Grammy, true));
        assert!(Config::from_url("file:x?layout=grammy&values=json").is_ok());
    }

    #[test]
    fn a_configuration_file_sets_the_options() {
        let map =
            r#"{"url": "file:a/b?sync=false", "values": "json", "permissions": "0640", "sweep": "off"}"#;
        let config: Config = serde_json::from_str(map).unwrap();
        assert_eq!((config.directory, config.sync), (PathBuf::from("a/b"), false));
        assert_eq!((config.values, config.sweep), (Some(ValueFormat::Json), Interval::OFF));
        assert_eq!(config.permissions.map(Permissions::mode), Some(0o640));
    }

    #[test]
    fn invalid_urls_are_rejected() {
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
            let error = Config::from_url(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{url}");
        }
        assert!(Config::new().directory("x").sweep(Some(Duration::ZERO)).check().is_err());
        let error = Config::from_url("file:x?snyc=false").unwrap_err();
        assert!(
            error.message().contains("snyc")
                && error.message().contains("layout, values, sync, sweep, lock_timeout, permissions")
        );
    }
}
