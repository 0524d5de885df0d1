//! The options, in code and in a URL.

use std::{fmt, path::PathBuf, time::Duration};

use deadpool_postgres::Pool;
use larder_core::{Error, ErrorKind, Operation, Result};
use larder_kit::{Interval, OptionValue, POSITIVE_DURATION, StoreUrl};
use tokio_postgres::{Config, types::Type};

use crate::names::TableName;

/// The adapter's name, in errors and traces.
pub(crate) const NAME: &str = "postgres";

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

/// What numbers of connections and of batches are, for errors.
const COUNT: &str = "a number from 1";

larder_kit::choices! {
    /// What the table looks like.
    pub enum Layout {
        /// `key`, `value`, `version`, `expires_at`: see the [documentation of this crate](crate#what-it-stores).
        #[default]
        "larder" => Larder,
        /// `key` and `value`, the table of `@grammyjs/storage-psql`: JSON text, no expiry, and versions that
        /// are the content.
        "grammy" => Grammy,
    }
}

larder_kit::choices! {
    /// The type of the column `value`.
    pub enum ValueFormat {
        /// `bytea`: any bytes, returned as they were written.
        #[default]
        "bytea" => Bytea,
        /// `jsonb`: JSON that the database can index and query; returned as an equal JSON value. Refuses
        /// what `jsonb` cannot hold (the escape `\u0000`, unpaired surrogates). Numbers keep their exact
        /// value but not their spelling, and a negative zero comes back as zero.
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
            Self::Bytea => ("bytea", Type::BYTEA, Type::BYTEA_ARRAY),
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
    /// Whether connections are encrypted, and what is checked; the names and meanings are libpq's.
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

/// Where connections come from.
#[derive(Clone)]
pub(crate) enum Source {
    Config(Box<Config>),
    /// The caller's, and so never closed here.
    Pool(Pool),
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither the driver's configuration nor the pool: they know the password.
        f.write_str("Source")
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

larder_kit::options! {
    /// Opens a store in a table of a PostgreSQL database.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use larder_postgres::{PostgresBuilder, ValueFormat};
    ///
    /// # async fn open() -> larder_core::Result<()> {
    /// let store = PostgresBuilder::from_url("postgres://bot:secret@db.example/app?sslmode=verify-full")?
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
    pub struct PostgresBuilder {
        source: Source,
        existing: bool,
    }

    /// The options of a `postgres://` URL that are this adapter's own. The
    /// [documentation of this crate](crate#options) says what they mean.
    OPTIONS {
        /// The table. Any name of up to 63 bytes will do: it is quoted. `schema.table` names both, unless
        /// [`schema`](Self::schema) is set: then the dot is part of the name. Default: `larder`, and
        /// `sessions` in grammY's layout.
        "table" => table: Option<String> = None;
        /// The schema that holds the table; made if it is not there. Any name will do: it is quoted. Default:
        /// the server's search path decides.
        "schema" => schema: Option<String> = None;
        /// What the table looks like. Default: [`Layout::Larder`].
        "layout" => layout: Layout = Layout::Larder;
        /// The type of the column `value`. Default: [`ValueFormat::Bytea`].
        "values" => values: Option<ValueFormat> = None;
        /// Whether to make the table if it is not there, and to check it if it is. If `false`, run
        /// [`setup_sql`](Self::setup_sql) beforehand. Default: `true`.
        "setup" => setup: bool = true;
        /// How statements get to the server. Poolers are noticed either way. Default:
        /// [`Statements::Prepared`].
        "statements" => statements: Statements = Statements::Prepared;
        /// How many connections there are at most. Default: 8.
        "pool_size" => pool_size: usize = 8, if |size| *size > 0 => COUNT;
        /// Whether concurrent writes share a statement and a commit. A lone write never waits for others
        /// either way. Default: `true`.
        "coalesce" => group_commit: bool = true;
        /// How many batches of group commit may be under way at once, each on a connection. Default: 2.
        "lanes" => max_batches: usize = 2, if |batches| *batches > 0 => COUNT;
        /// How often expired rows are removed, in the background. They are never seen, removed or not.
        /// `None`: only when [`purge_expired`](larder_core::Store::purge_expired) is called. Default: every
        /// 60 seconds.
        "sweep" => sweep: Interval = Interval::every(Duration::from_secs(60));
        /// The longest that a call of one statement takes, waiting for a connection included. A connection that
        /// takes longer to make is there for a later call. Listings, clearing and large batches take several
        /// statements, and have as long for each. Default: 30 seconds.
        "timeout" => timeout: Duration = Duration::from_secs(30), if |time| !time.is_zero() => POSITIVE_DURATION;
        /// How long connecting to one host may take. Default: 10 seconds.
        "connect_timeout" => connect_timeout: Duration = Duration::from_secs(10),
            parse seconds_or_duration, if |time| !time.is_zero() => POSITIVE_DURATION;
        /// Whether connections are encrypted and what is checked. Default: [`TlsMode::Prefer`].
        "sslmode" => tls: TlsMode = TlsMode::Prefer;
        /// The root certificates to check the server's against. Default: Mozilla's, for
        /// [`TlsMode::VerifyFull`].
        "sslrootcert" => root_certificates: Option<Roots> = None;
    }
}

impl OptionValue for Roots {
    fn expects() -> String {
        "the path of a PEM file, or system for Mozilla's root certificates".to_owned()
    }

    fn parse(text: &str) -> Option<Self> {
        Some(if text == "system" { Self::Mozilla } else { Self::File(text.into()) })
    }
}

/// A number of seconds, as libpq takes it, or a duration.
fn seconds_or_duration(text: &str) -> Option<Duration> {
    text.parse().ok().map(Duration::from_secs).or_else(|| Duration::parse(text))
}

impl PostgresBuilder {
    /// Everything that a URL says: `postgres://user:password@host:port/database?option=value&...`,
    /// with several hosts separated by commas. See the [options](crate#options).
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if it is not such a URL, or has an option that is unknown
    /// or contradicts another one.
    pub fn from_url(url: &str) -> Result<Self> {
        Self::parse(url).map_err(named)
    }

    fn parse(url: &str) -> Result<Self> {
        let mut url = StoreUrl::parse(url)?;
        if !matches!(url.scheme(), "postgres" | "postgresql") || !url.rest().starts_with("//") {
            return Err(invalid("a PostgreSQL URL looks like postgres://user:password@host:5432/database"));
        }
        let mut builder = Self::from_config(Config::new());
        builder.take_options(&mut url)?;
        url.finish(&[OPTIONS, DRIVER_OPTIONS].concat())?;
        builder.check()?;
        builder.source = Source::Config(Box::new(driver_config(&url)?));
        Ok(builder)
    }

    /// Connections that the driver's `config` describes. Its `connect_timeout` and SSL mode are set
    /// from this builder.
    pub fn from_config(config: Config) -> Self {
        Self::with_defaults(Source::Config(Box::new(config)), false)
    }

    /// Connections out of the caller's own pool, with whatever TLS it has. The pool is never closed
    /// here. Options that make connections (TLS, pool size, timeout for connecting) have no effect.
    ///
    /// A statement that takes longer than [`timeout`](Self::timeout) fails and its connection leaves
    /// the pool, but it is not cancelled on the server, which would take a connection like the pool's:
    /// while it waits for a lock it goes on waiting, and happens when the lock is free, unless the next
    /// change [ends](crate#changes-that-time-out) it. One whose caller has gone keeps its connection
    /// until it ends or that time is over. The server's `statement_timeout`, in the options of the
    /// pool's connections, ends both.
    pub fn from_pool(pool: Pool) -> Self {
        Self::with_defaults(Source::Pool(pool), false)
    }

    /// Opens only what is there. Connecting fails with [`InvalidConfig`](ErrorKind::InvalidConfig) if
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

/// Options of the driver, unless the URL has others. A peer that has vanished is noticed within a minute, not
/// after two hours.
const DRIVER_DEFAULTS: &str =
    "application_name=larder&keepalives_idle=30&keepalives_interval=10&keepalives_retries=3";

fn driver_config(url: &StoreUrl) -> Result<Config> {
    let url = url.to_url();
    let (place, given) = url.split_once('?').unwrap_or((&url, ""));
    // Of an option that comes twice, the driver takes the second.
    format!("{place}?{DRIVER_DEFAULTS}&{given}").parse().map_err(|error: tokio_postgres::Error| {
        // It names the option, not its value.
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        invalid(format!("the driver does not accept the URL: {cause}"))
    })
}

pub(crate) fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidConfig, message)
}

/// The error of an attempt to connect, before there is a store.
pub(crate) fn named(error: Error) -> Error {
    error.with_adapter(NAME).with_operation(Operation::Connect)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_in_one_url() {
        let options = PostgresBuilder::from_url(
            "postgresql://bot:pass%2Fword@a.example:1,b.example:2/app?schema=my%20bot&table=x%22y&values=jsonb\
             &setup=false&statements=unnamed&pool_size=3&lanes=4&coalesce=false&sweep=off&timeout=1500ms\
             &connect_timeout=7&sslmode=verify-full&sslrootcert=/etc/ca.pem&application_name=my%20bot\
             &target_session_attrs=read-write&options=-c%20lock_timeout%3D5s&keepalives_idle=5",
        )
        .unwrap();
        let Source::Config(config) = &options.source else { panic!() };
        assert_eq!(options.schema.as_deref(), Some("my bot"));
        assert_eq!(options.table.as_deref(), Some("x\"y"));
        assert_eq!(options.values, Some(ValueFormat::Jsonb));
        assert_eq!(options.statements, Statements::Unnamed);
        assert_eq!((options.pool_size, options.max_batches), (3, 4));
        assert!(!options.setup && !options.group_commit && options.sweep == Interval::OFF);
        assert_eq!(options.timeout, Duration::from_millis(1_500));
        assert_eq!(options.connect_timeout, Duration::from_secs(7));
        assert_eq!(options.tls, TlsMode::VerifyFull);
        assert_eq!(options.root_certificates, Some(Roots::File("/etc/ca.pem".into())));
        assert_eq!(config.get_password(), Some(&b"pass/word"[..]));
        assert_eq!((config.get_hosts().len(), config.get_ports()), (2, &[1, 2][..]));
        assert_eq!(config.get_application_name(), Some("my bot"));
        assert_eq!(config.get_options(), Some("-c lock_timeout=5s"));
        assert_eq!(config.get_keepalives_idle(), Duration::from_secs(5));
        assert_eq!(config.get_keepalives_retries(), Some(3));
    }

    #[test]
    fn time_for_connecting_is_a_duration_or_a_number_of_seconds() {
        let timeout = |text: &str| {
            let builder = PostgresBuilder::from_url(&format!("postgres://h/db?connect_timeout={text}"));
            builder.map(|builder| builder.connect_timeout)
        };
        assert_eq!(timeout("7").unwrap(), Duration::from_secs(7));
        assert_eq!(timeout("70ms").unwrap(), Duration::from_millis(70));
        for wrong in ["0", "0s", "x", "-1", "1&connect_timeout=1"] {
            assert_eq!(timeout(wrong).unwrap_err().kind(), ErrorKind::InvalidConfig, "{wrong}");
        }
    }
}
