//! The options.

use std::path::PathBuf;

use larder_core::{Error, ErrorKind, Result};
use larder_kit::{Configure, Interval, Layout, OptionValue, StoreUrl, Timeout};
use tokio_postgres::types::Type;

use crate::names::TableName;

/// The options that go to the driver, `tokio-postgres`, which documents them.
pub const DRIVER_OPTIONS: &[&str] = &[
    "application_name",
    "channel_binding",
    "dbname",
    "host",
    "hostaddr",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "load_balance_hosts",
    "options",
    "password",
    "port",
    "sslnegotiation",
    "target_session_attrs",
    "tcp_user_timeout",
    "user",
];

/// Options of the driver, unless the URL has others. A peer that has vanished is noticed within a minute, not
/// after two hours.
const DRIVER_DEFAULTS: &str =
    "application_name=larder&keepalives_idle=30&keepalives_interval=10&keepalives_retries=3";

/// The values of numbers of connections and of batches, for errors.
const COUNT: &str = "a number from 1";

larder_kit::choices! {
    /// The type of the column `value`.
    pub enum ValueFormat {
        /// `bytea`: any bytes, returned as they were written.
        #[default]
        "bytes" => Bytes,
        /// `jsonb`: JSON that the database can index and query; returned as an equal JSON value. Refuses
        /// values that `jsonb` cannot hold (the escape `\u0000`, unpaired surrogates). Numbers keep their
        /// exact value but not their spelling, and a negative zero comes back as zero.
        "jsonb" => Jsonb,
        /// `json`: JSON that the database can query, returned as it was written.
        "json" => Json,
        /// `text` that holds JSON, returned as it was written.
        "text" => Text,
    }
}

impl ValueFormat {
    /// The column's type as SQL, for the driver, and as an array for the driver.
    pub(crate) const fn column(self) -> (&'static str, Type, Type) {
        match self {
            Self::Bytes => ("bytea", Type::BYTEA, Type::BYTEA_ARRAY),
            Self::Jsonb => ("jsonb", Type::JSONB, Type::JSONB_ARRAY),
            Self::Json => ("json", Type::JSON, Type::JSON_ARRAY),
            Self::Text => ("text", Type::TEXT, Type::TEXT_ARRAY),
        }
    }
}

larder_kit::choices! {
    /// How statements get to the server.
    pub enum Statements {
        /// Prepared once per connection, and run by name from then on. Behind a pooler (pgbouncer and the
        /// like) as [`Unnamed`](Self::Unnamed): there the next statement may run on another connection,
        /// where the name means another client's statement. Each new connection asks the server for the
        /// process that it talks to; behind a pooler that is not the process that the connection began
        /// with.
        #[default]
        "prepared" => Prepared,
        /// Sent whole each time, without a name, still in one round trip.
        "unnamed" => Unnamed,
    }
}

larder_kit::choices! {
    /// Whether connections are encrypted, and which certificates are accepted; the names and meanings are
    /// libpq's.
    pub enum TlsMode {
        /// No TLS.
        "disable" => Disable,
        /// TLS if the server has it. No protection against an active attacker, who can switch it off.
        #[default]
        "prefer" => Prefer,
        /// TLS or nothing. The certificate is checked only if a file of root certificates is given (then
        /// as with `VerifyCa`). Protects against eavesdropping, not against impersonation.
        "require" => Require,
        /// TLS with a certificate that one of the root certificates in the file vouches for, whatever
        /// its name.
        "verify-ca" => VerifyCa,
        /// TLS with a certificate that a root certificate vouches for, and that has the host's name. The
        /// one to choose across a network that is not your own. Without a file, Mozilla's roots.
        "verify-full" => VerifyFull,
    }
}

/// Root certificates, to check the server's against.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Roots {
    /// Mozilla's, compiled in.
    Mozilla,
    /// A PEM file.
    File(PathBuf),
    /// PEM.
    Pem(Vec<u8>),
}

impl OptionValue for Roots {
    fn expects() -> String {
        "the path of a PEM file, or system for Mozilla's root certificates".to_owned()
    }

    fn parse(text: &str) -> Option<Self> {
        Some(if text == "system" { Self::Mozilla } else { Self::File(text.into()) })
    }
}

larder_kit::config! {
    /// The configuration of a store in a table of a PostgreSQL database.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use larder_postgres::{Config, ValueFormat};
    ///
    /// # async fn open() -> larder_core::Result<()> {
    /// let store = Config::from_url("postgres://bot:secret@db.example/app?sslmode=verify-full")?
    ///     .schema("bot")
    ///     .table("sessions")
    ///     .values(ValueFormat::Jsonb)
    ///     .timeout(Duration::from_secs(5))
    ///     .connect()
    ///     .await?;
    /// # drop(store);
    /// # Ok(())
    /// # }
    /// ```
    #[derive(Clone, Debug)]
    #[must_use]
    pub struct Config for "postgres" {
        server: tokio_postgres::Config,
        existing: bool,
    }

    options {
        /// The table, by any name of up to 63 bytes; `schema.table` names both, unless `schema` is set, and
        /// then the dot is part of the name.
        table: Option<String>, unset "`larder`, in grammY's layout `sessions`";
        /// The schema that holds the table, by any name; it is created if it is missing.
        schema: Option<String>, unset "the server's search path decides";
        /// The columns of the table: Larder's, or those of `@grammyjs/storage-psql` (`grammy`).
        layout: Layout = "larder";
        /// The type of the column `value`: `bytes` (`bytea`), `jsonb`, `json` or `text`; the latter three
        /// take JSON only.
        values: Option<ValueFormat>, unset "`bytes`, in grammY's layout its own column";
        /// Whether to create the table if it is missing, and to check its columns if it is not.
        setup: bool = "true";
        /// Whether statements are `prepared` once per connection or sent `unnamed` each time, as they always
        /// are behind a pooler such as pgbouncer.
        statements: Statements = "prepared";
        /// The number of connections at most.
        pool_size: usize = "8", if |size| *size > 0 => COUNT;
        /// Whether concurrent changes share a statement and a commit. A lock on one row, which another program may
        /// hold, then holds up the changes that share the statement.
        group_commit: bool = "true";
        /// The number of batches of group commit that are under way at once, each on a connection.
        max_batches: usize = "1", if |batches| *batches > 0 => COUNT;
        /// How often expired rows are removed; `off` for never.
        sweep: Interval = "1m";
        /// The longest that a call takes, waiting for a connection included; listings, clearing and large
        /// batches have as long for each of their statements.
        timeout: Timeout = "30s";
        /// The longest that connecting to one host takes, as a duration or a number of seconds.
        connect_timeout: Timeout = "10s", parse seconds_or_duration;
        /// Whether connections are encrypted and which certificates are accepted, in libpq's words:
        /// `disable`, `prefer`, `require`, `verify-ca` or `verify-full`.
        sslmode: TlsMode = "prefer";
        /// A PEM file of the root certificates to check the server's certificate against, or `system` for
        /// Mozilla's.
        sslrootcert: Option<Roots>, unset "Mozilla's, for `verify-full`";
    }
}

/// A number of seconds, as libpq takes it, or a duration.
fn seconds_or_duration(text: &str) -> Option<Timeout> {
    Timeout::parse(text).or_else(|| Timeout::parse(&format!("{text}s")))
}

impl Config {
    /// Takes the server and the options of the driver.
    fn locate(&mut self, url: &mut StoreUrl) -> Result<()> {
        if !matches!(url.scheme(), "postgres" | "postgresql") || !url.rest().starts_with("//") {
            return Err(invalid("a PostgreSQL URL looks like postgres://user:password@host:5432/database"));
        }
        // None of them twice, as with Larder's own.
        DRIVER_OPTIONS.iter().try_for_each(|name| url.clone().take(name).map(drop))?;
        let driver = url.driver_url(|name| DRIVER_OPTIONS.contains(&name));
        let own = Self::OPTIONS.iter().map(|option| option.name);
        url.finish(own.chain(DRIVER_OPTIONS.iter().copied()))?;
        let (place, given) = driver.split_once('?').unwrap_or((&driver, ""));
        // Of an option that comes twice, the driver takes the second.
        let driver = format!("{place}?{DRIVER_DEFAULTS}&{given}");
        self.server = driver.parse().map_err(|error: tokio_postgres::Error| {
            // It names the option, not its value.
            let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            invalid(format!("the driver does not accept the URL: {cause}"))
        })?;
        self.check()
    }

    /// The server, as the driver describes it, instead of a URL. Its time for connecting and its SSL mode are
    /// those of the options here.
    pub fn server(mut self, server: tokio_postgres::Config) -> Self {
        self.server = server;
        self
    }

    /// Opens only a table that is there. Connecting fails with [`InvalidConfig`](ErrorKind::InvalidConfig) if
    /// the table or its schema is missing or the table has another shape. It creates nothing, removes
    /// no expired rows in the background, and needs only the right to `SELECT`. Overrides
    /// [`setup`](Self::setup).
    pub const fn existing(mut self) -> Self {
        self.existing = true;
        self
    }

    pub(crate) fn check(&self) -> Result<()> {
        self.check_options()?;
        if self.layout == Layout::Grammy && self.values.is_some() {
            return Err(invalid("grammY's layout has its own column for values: leave out `values`"));
        }
        self.table_name().check()
    }

    pub(crate) fn table_name(&self) -> TableName {
        let default = if self.layout == Layout::Grammy { "sessions" } else { "larder" };
        TableName::new(self.schema.as_deref(), self.table.as_deref().unwrap_or(default))
    }
}

pub(crate) fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidConfig, message)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn everything_in_one_url() {
        let config = Config::from_url(
            "postgresql://bot:pass%2Fword@a.example:1,b.example:2/app?schema=my%20bot&table=x%22y&values=jsonb\
             &setup=false&statements=unnamed&pool_size=3&max_batches=4&group_commit=false&sweep=off&timeout=1500ms\
             &connect_timeout=7&sslmode=verify-full&sslrootcert=/etc/ca.pem&application_name=my%20bot\
             &target_session_attrs=read-write&options=-c%20lock_timeout%3D5s&keepalives_idle=5",
        )
        .unwrap();
        let server = &config.server;
        assert_eq!(config.schema.as_deref(), Some("my bot"));
        assert_eq!(config.table.as_deref(), Some("x\"y"));
        assert_eq!(config.values, Some(ValueFormat::Jsonb));
        assert_eq!(config.statements, Statements::Unnamed);
        assert_eq!((config.pool_size, config.max_batches), (3, 4));
        assert!(!config.setup && !config.group_commit && config.sweep == Interval::OFF);
        assert_eq!(config.timeout.get(), Duration::from_millis(1_500));
        assert_eq!(config.connect_timeout.get(), Duration::from_secs(7));
        assert_eq!(config.sslmode, TlsMode::VerifyFull);
        assert_eq!(config.sslrootcert, Some(Roots::File("/etc/ca.pem".into())));
        assert_eq!(server.get_password(), Some(&b"pass/word"[..]));
        assert_eq!((server.get_hosts().len(), server.get_ports()), (2, &[1, 2][..]));
        assert_eq!(server.get_application_name(), Some("my bot"));
        assert_eq!(server.get_options(), Some("-c lock_timeout=5s"));
        assert_eq!(server.get_keepalives_idle(), Duration::from_secs(5));
        assert_eq!(server.get_keepalives_retries(), Some(3));
    }

    #[test]
    fn time_for_connecting_is_a_duration_or_a_number_of_seconds() {
        let timeout = |text: &str| {
            let config = Config::from_url(&format!("postgres://h/db?connect_timeout={text}"));
            config.map(|config| config.connect_timeout.get())
        };
        assert_eq!(timeout("7").unwrap(), Duration::from_secs(7));
        assert_eq!(timeout("70ms").unwrap(), Duration::from_millis(70));
        for wrong in ["0", "0s", "x", "-1", "1&connect_timeout=1"] {
            assert_eq!(timeout(wrong).unwrap_err().kind(), ErrorKind::InvalidConfig, "{wrong}");
        }
    }

    #[test]
    fn everything_in_one_map() {
        let config: Config = serde_json::from_str(
            r#"{"url": "postgres://bot:hunter2@h/app?user=other&table=x", "table": "y", "values": "jsonb",
                "connect_timeout": 7, "sslmode": "verify-full", "sslrootcert": "system", "pool_size": 3}"#,
        )
        .unwrap();
        assert_eq!((config.server.get_user(), config.server.get_dbname()), (Some("other"), Some("app")));
        assert_eq!((config.table.as_deref(), config.values), (Some("y"), Some(ValueFormat::Jsonb)));
        assert_eq!((config.connect_timeout.get(), config.pool_size), (Duration::from_secs(7), 3));
        assert_eq!((config.sslmode, &config.sslrootcert), (TlsMode::VerifyFull, &Some(Roots::Mozilla)));
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn similar_option_is_suggested_of_both_kinds() {
        for (unknown, similar) in [("tabel", "`table`?"), ("keepalive_idle", "`keepalives_idle`?")] {
            let error = Config::from_url(&format!("postgres://h/db?{unknown}=x")).unwrap_err();
            assert!(error.message().contains(similar), "{error}");
        }
        assert!(Config::from_url("postgres://h/db?user=a&user=b").is_err());
    }
}
