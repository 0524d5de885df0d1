//! `sqlite:` URLs.

use larder_core::{Operation, Result};
use larder_kit::StoreUrl;

use crate::{
    NAME,
    config::{Mode, Place, SqliteBuilder, Synchronous, ValueColumn, configuration},
    file,
};

/// The options that a `sqlite:` URL takes.
pub const OPTIONS: &[&str] =
    &["table", "values", "setup", "mode", "permissions", "synchronous", "busy_timeout", "readers", "sweep"];

impl SqliteBuilder {
    /// What `url` says.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](larder_core::ErrorKind::InvalidConfig) if it is not a `sqlite:` URL, names no file, or has an option
    /// that does not exist or does not parse.
    pub fn from_url(url: &str) -> Result<Self> {
        Self::parse(url).map_err(|error| error.with_adapter(NAME).with_operation(Operation::Connect))
    }

    fn parse(url: &str) -> Result<Self> {
        let mut location = StoreUrl::parse(url)?;
        if location.scheme() != "sqlite" {
            return Err(configuration("the URL of an SQLite database begins with `sqlite:`"));
        }
        let mut builder = Self::new();
        builder.place = Some(match location.rest() {
            ":memory:" | "//:memory:" => Place::Memory,
            rest => {
                // sqlx reads `sqlite://sessions.db` as a relative path, and so do its users.
                let relative = rest.strip_prefix("//").filter(|path| !path.starts_with('/'));
                let path = match relative {
                    Some(path) => StoreUrl::parse(&format!("sqlite:{path}"))?.path()?,
                    None => location.path()?,
                };
                if path.is_empty() {
                    return Err(configuration(
                        "the URL names no file; write `sqlite:sessions.db`, or `sqlite::memory:`",
                    ));
                }
                Place::File(path.into())
            }
        });
        if let Some(table) = location.take("table")? {
            builder.table = table;
        }
        if let Some(values) =
            location.take_choice("values", &[("blob", ValueColumn::Blob), ("json", ValueColumn::Json)])?
        {
            builder.values = values;
        }
        if let Some(setup) = location.take_bool("setup")? {
            builder.setup = setup;
        }
        let modes = [("ro", Mode::ReadOnly), ("rw", Mode::ReadWrite), ("rwc", Mode::Create)];
        if let Some(mode) = location.take_choice("mode", &modes)? {
            builder.mode = mode;
        }
        let permissions = location.take_with("permissions", file::PERMISSIONS_EXPECTED, file::permissions)?;
        if let Some(mode) = permissions {
            builder.permissions = Some(mode);
        }
        let levels =
            [("off", Synchronous::Off), ("normal", Synchronous::Normal), ("full", Synchronous::Full)];
        if let Some(synchronous) = location.take_choice("synchronous", &levels)? {
            builder.synchronous = synchronous;
        }
        if let Some(timeout) = location.take_duration("busy_timeout")? {
            builder.busy_timeout = timeout;
        }
        if let Some(readers) = location.take_parsed("readers", "a number of connections")? {
            builder.readers = readers;
        }
        let every = |value: &str| match value {
            "off" => Some(None),
            value => humantime::parse_duration(value).ok().map(Some),
        };
        if let Some(sweep) =
            location.take_with("sweep", "`off`, or a duration with a unit, such as 60s", every)?
        {
            builder.sweep = sweep;
        }
        location.finish(OPTIONS)?;
        Ok(builder)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use larder_core::ErrorKind;

    use super::*;

    fn place(url: &str) -> String {
        match SqliteBuilder::from_url(url).unwrap().place.unwrap() {
            Place::Memory => ":memory:".to_owned(),
            Place::File(path) => path.to_str().unwrap().to_owned(),
            Place::Pool(_) => unreachable!(),
        }
    }

    #[test]
    fn urls() {
        assert_eq!(place("sqlite::memory:"), ":memory:");
        assert_eq!(place("sqlite://:memory:"), ":memory:");
        assert_eq!(place("sqlite:a/b.db"), "a/b.db");
        assert_eq!(place("sqlite://a/b.db"), "a/b.db");
        assert_eq!(place("sqlite:/a/b.db"), "/a/b.db");
        assert_eq!(place("sqlite:///a/b.db"), "/a/b.db");
        assert_eq!(place("SQLite:what%3F.db?mode=rw"), "what?.db");
        for url in
            ["sqlite:", "sqlite://", "redis:x", "sqlite:x?tabel=y", "sqlite:x?mode=w", "sqlite:x?sweep=1"]
        {
            assert_eq!(SqliteBuilder::from_url(url).unwrap_err().kind(), ErrorKind::InvalidConfig, "{url}");
        }
    }

    #[test]
    fn options() {
        let url = "sqlite:x?table=a%20b&values=json&setup=false&mode=ro&synchronous=normal&busy_timeout=1s\
                   &readers=2&sweep=off&permissions=0640";
        let builder = SqliteBuilder::from_url(url).unwrap();
        assert_eq!(builder.table, "a b");
        assert_eq!(builder.values, ValueColumn::Json);
        assert!(!builder.setup);
        assert_eq!((builder.mode, builder.synchronous), (Mode::ReadOnly, Synchronous::Normal));
        assert_eq!(builder.busy_timeout, Duration::from_secs(1));
        assert_eq!((builder.readers, builder.sweep, builder.permissions), (2, None, Some(0o640)));
        let sweep = SqliteBuilder::from_url("sqlite:x?sweep=5m").unwrap().sweep;
        assert_eq!(sweep, Some(Duration::from_secs(300)));
    }
}
