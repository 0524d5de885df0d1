//! The options.

use std::path::PathBuf;

use larder_core::{Error, ErrorKind, Result};
use larder_kit::{Configure, Interval, Layout, OptionValue, StoreUrl, Timeout};
use tokio_postgres::types::Type;

use crate::names::TableName;

/// The options that are passed to the driver, `tokio-postgres`, which documents them.
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

/// Defaults for options of the driver. They detect a peer that disappeared within a minute, instead of two hours.
const DRIVER_DEFAULTS: &str =
    "application_name=larder&keepalives_idle=30&keepalives_interval=10&keepalives_retries=3";

/// The valid numbers of connections and batches, for errors.
const COUNT: &str = "a number from 1";

larder_kit::choices! {
    /// The type of the column `value`.
    pub enum ValueFormat {
        /// `bytea`: any bytes, returned unchanged.
        #[default]
        "bytes" => Bytes,
        /// `jsonb`: JSON that the database can index and query, returned as an equal JSON value. Rejects values that
        /// `jsonb` cannot represent (the escape `\u0000`, unpaired surrogates). Numbers keep their exact value but not
        /// their spelling, and negative zero becomes zero.
        "jsonb" => Jsonb,
        /// `json`: JSON that the database can query, returned unchanged.
        "json" => Json,
        /// `text` that contains JSON, returned unchanged.
        "text" => Text,
    }
}

impl ValueFormat {
    /// Returns the column's type as SQL, its type in the driver, and that of an array of it.
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
    /// The way statements are sent to the server.
    pub enum Statements {
        /// Prepared once per connection, and then run by name. Behind a pooler such as pgbouncer, statements are sent
        /// as [`Unnamed`](Self::Unnamed) instead, because the next statement may run on another connection, where the
        /// name may mean another client's statement. To detect a pooler, each new connection asks the server for its
        /// process, which behind a pooler differs from the process at the start of the connection.
        #[default]
        "prepared" => Prepared,
        /// Sent in full each time, without a name. This is also one round trip.
        "unnamed" => Unnamed,
    }
}

larder_kit::choices! {
    /// Whether connections are encrypted, and which certificates are accepted. The names and meanings are those of
    /// libpq.
    pub enum TlsMode {
        /// No TLS.
        "disable" => Disable,
        /// TLS if the server supports it. No protection against an active attacker, who can disable it.
        #[default]
        "prefer" => Prefer,
        /// Only TLS. The certificate is checked only if a file of root certificates is given (then as with `VerifyCa`).
        /// Protects against eavesdropping, not against impersonation.
        "require" => Require,
        /// Only TLS, with a certificate that one of the root certificates in the file has signed. The host name is not
        /// checked.
        "verify-ca" => VerifyCa,
        /// Only TLS, with a certificate that a root certificate has signed and that names the host. Use this across
        /// networks that you do not control. Default roots: Mozilla's.
        "verify-full" => VerifyFull,
    }
}

/// The root certificates that the server's certificate is checked against.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Roots {
    /// Mozilla's root certificates, compiled in.
    Mozilla,
    /// The path of a PEM file.
    File(PathBuf),
    /// Certificates in PEM form.
    Pem(Vec<u8>),
}

impl OptionValue for Roots {
    fn expects() -> String {
        "the path of a PEM file, or `system` for Mozilla's root certificates".to_owned()
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
        /// The name of the table, of up to 63 bytes. If `schema` is not set, `schema.table` sets both; otherwise a dot
        /// is part of the name.
        table: Option<String>, unset "`larder`; `sessions` in grammY's layout";
        /// The schema of the table. Any name works; the schema is created if it is missing.
        schema: Option<String>, unset "from the server's search path";
        /// The columns of the table: Larder's, or those of `@grammyjs/storage-psql` (`grammy`).
        layout: Layout = "larder";
        /// The type of the column `value`: `bytes` (`bytea`), or for JSON only: `jsonb`, `json` or `text`.
        values: Option<ValueFormat>, unset "`bytes`; fixed in grammY's layout";
        /// Whether to create the table if it is missing, and check its columns if it exists.
        setup: bool = "true";
        /// How statements are sent: `prepared` once per connection, or `unnamed` each time. Always `unnamed` behind a
        /// pooler such as pgbouncer.
        statements: Statements = "prepared";
        /// The maximum number of connections.
        pool_size: usize = "8", if |size| *size > 0 => COUNT;
        /// Whether concurrent changes share a statement and a commit. If another program holds a lock on one of their
        /// rows, all of them wait for it.
        group_commit: bool = "true";
        /// The maximum number of concurrent group commit batches, each on its own connection.
        max_batches: usize = "1", if |batches| *batches > 0 => COUNT;
        /// The time between two removals of expired rows; `off` disables them.
        sweep: Interval = "1m";
        /// The longest time for a call, including the wait for a connection. Listings, clearing and large batches have
        /// this time for each of their statements.
        timeout: Timeout = "30s";
        /// The longest time for connecting to one host: a duration, or a number of seconds.
        connect_timeout: Timeout = "10s", parse seconds_or_duration;
        /// Whether connections are encrypted, and which certificates are accepted, as in libpq: `disable`, `prefer`,
        /// `require`, `verify-ca` or `verify-full`.
        sslmode: TlsMode = "prefer";
        /// A PEM file with the root certificates that the server's certificate is checked against, or `system` for
        /// Mozilla's.
        sslrootcert: Option<Roots>, unset "Mozilla's, for `verify-full`";
    }
}

/// Parses a duration, or a number of seconds as in libpq.
fn seconds_or_duration(text: &str) -> Option<Timeout> {
    Timeout::parse(text).or_else(|| Timeout::parse(&format!("{text}s")))
}

impl Config {
    /// Takes the server and the options of the driver from the URL.
    fn locate(&mut self, url: &mut StoreUrl) -> Result<()> {
        if !matches!(url.scheme(), "postgres" | "postgresql") || !url.rest().starts_with("//") {
            return Err(invalid(
                "a PostgreSQL URL must have the form `postgres://user:password@host:5432/database`",
            ));
        }
        let driver = url.url_with(DRIVER_OPTIONS)?;
        let (place, given) = driver.split_once('?').unwrap_or((&driver, ""));
        // If an option is given twice, the driver uses the second.
        let driver = format!("{place}?{DRIVER_DEFAULTS}&{given}");
        self.server = driver.parse().map_err(|error: tokio_postgres::Error| {
            // The cause names the option, not its value.
            let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            invalid(format!("the driver rejected the URL: {cause}"))
        })?;
        self.check()
    }

    /// Sets the server from the driver's configuration, instead of a URL. Its connect timeout and SSL mode are ignored:
    /// the options of this configuration apply.
    pub fn server(mut self, server: tokio_postgres::Config) -> Self {
        self.server = server;
        self
    }

    /// Opens only an existing table. Connecting fails with [`InvalidConfig`](ErrorKind::InvalidConfig) if the table or
    /// its schema is missing, or the table has other columns. The store creates nothing, runs no sweeper, and needs
    /// only the permission to `SELECT`. Overrides [`setup`](Self::setup).
    pub const fn existing(mut self) -> Self {
        self.existing = true;
        self
    }

    pub(crate) fn check(&self) -> Result<()> {
        self.check_options()?;
        if self.layout == Layout::Grammy && self.values.is_some() {
            return Err(invalid("`layout=grammy` has a fixed column for values: remove the option `values`"));
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
    fn a_url_sets_all_options() {
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
    fn connect_timeout_is_a_duration_or_a_number_of_seconds() {
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
    fn a_configuration_file_sets_all_options() {
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
    fn a_similar_option_of_larder_or_the_driver_is_suggested() {
        for (unknown, similar) in [("tabel", "`table`?"), ("keepalive_idle", "`keepalives_idle`?")] {
            let error = Config::from_url(&format!("postgres://h/db?{unknown}=x")).unwrap_err();
            assert!(error.message().contains(similar), "{error}");
        }
        assert!(Config::from_url("postgres://h/db?user=a&user=b").is_err());
    }
}
