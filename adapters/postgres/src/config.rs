//! The options: their types, and how a URL spells them.

use std::{path::PathBuf, time::Duration};

use larder_core::{Error, ErrorKind, Result};
use larder_kit::StoreUrl;
use tokio_postgres::{Config, types::Type};

use crate::names::TableName;

/// The adapter's name, in errors and traces.
pub(crate) const NAME: &str = "postgres";

/// The options of a `postgres://` URL that are this adapter's own. The
/// [documentation of this crate](crate#options) says what they mean.
pub const OPTIONS: &[&str] = &[
    "table",
    "schema",
    "layout",
    "values",
    "setup",
    "statements",
    "pool_size",
    "coalesce",
    "lanes",
    "sweep",
    "timeout",
    "connect_timeout",
    "sslmode",
    "sslrootcert",
];

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

/// What the table looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Layout {
    /// `key`, `value`, `version`, `expires_at`: see the [documentation of this crate](crate#what-it-stores).
    #[default]
    Larder,
    /// `key` and `value`, the table of `@grammyjs/storage-psql`: JSON text, no expiry, and versions that
    /// are the content.
    Grammy,
}

/// The type of the column `value`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ValueFormat {
    /// `bytea`: any bytes, returned as they were written.
    #[default]
    Bytea,
    /// `jsonb`: JSON that the database can index and query; returned as an equal JSON value. Refuses
    /// what `jsonb` cannot hold (the escape `\u0000`, unpaired surrogates). Numbers keep their exact
    /// value but not their spelling, and a negative zero comes back as zero.
    Jsonb,
    /// `json`: JSON that the database can query, returned as it was written.
    Json,
    /// `text` that holds JSON, returned as it was written.
    Text,
}

impl ValueFormat {
    pub(crate) const ALL: [(&str, Self); 4] =
        [("bytea", Self::Bytea), ("jsonb", Self::Jsonb), ("json", Self::Json), ("text", Self::Text)];

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

/// How statements get to the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Statements {
    /// Prepared once per connection, and run by name from then on. Behind a pooler (pgbouncer and the
    /// like) as [`Unnamed`](Self::Unnamed): there the next statement may run on another connection,
    /// where the name means another client's statement. Each new connection asks the server for the
    /// process that it talks to; behind a pooler that is not the process that the connection began
    /// with.
    #[default]
    Prepared,
    /// Sent whole each time, without a name, still in one round trip.
    Unnamed,
}

/// Whether connections are encrypted, and what is checked; the names and meanings are libpq's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsMode {
    /// No TLS.
    Disable,
    /// TLS if the server has it. No protection against an active attacker, who can switch it off.
    #[default]
    Prefer,
    /// TLS or nothing. The certificate is checked only if a file of root certificates is given (then
    /// as with `VerifyCa`). Protects against eavesdropping, not against impersonation.
    Require,
    /// TLS with a certificate that one of the root certificates in the file vouches for, whatever
    /// its name.
    VerifyCa,
    /// TLS with a certificate that a root certificate vouches for, and that has the host's name. The
    /// one to choose across a network that is not your own. Without a file, Mozilla's roots.
    VerifyFull,
}

/// Where root certificates come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Roots {
    /// Mozilla's, compiled in.
    Mozilla,
    /// A PEM file.
    File(PathBuf),
    /// PEM.
    Pem(Vec<u8>),
}

/// All options but those of the driver.
#[derive(Clone)]
pub(crate) struct Options {
    pub(crate) schema: Option<String>,
    pub(crate) table: Option<String>,
    pub(crate) layout: Layout,
    pub(crate) values: Option<ValueFormat>,
    pub(crate) setup: bool,
    pub(crate) existing: bool,
    pub(crate) statements: Statements,
    pub(crate) pool_size: usize,
    pub(crate) group_commit: bool,
    pub(crate) max_batches: usize,
    pub(crate) sweep: Option<Duration>,
    pub(crate) timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) tls: TlsMode,
    pub(crate) roots: Option<Roots>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            schema: None,
            table: None,
            layout: Layout::Larder,
            values: None,
            setup: true,
            existing: false,
            statements: Statements::Prepared,
            pool_size: 8,
            group_commit: true,
            max_batches: 2,
            sweep: Some(Duration::from_secs(60)),
            timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            tls: TlsMode::Prefer,
            roots: None,
        }
    }
}

impl Options {
    /// Takes them out of a URL, and the driver's configuration out of the rest.
    pub(crate) fn from_url(url: &str) -> Result<(Self, Config)> {
        const NUMBER: &str = "a number from 1";
        let mut url = StoreUrl::parse(url)?;
        if !matches!(url.scheme(), "postgres" | "postgresql") || !url.rest().starts_with("//") {
            return Err(invalid("a PostgreSQL URL looks like postgres://user:password@host:5432/database"));
        }
        let mut options = Self { schema: url.take("schema")?, table: url.take("table")?, ..Self::default() };
        let layouts = [("larder", Layout::Larder), ("grammy", Layout::Grammy)];
        set(&mut options.layout, url.take_choice("layout", &layouts)?);
        options.values = url.take_choice("values", &ValueFormat::ALL)?;
        set(&mut options.setup, url.take_bool("setup")?);
        let statements = [("prepared", Statements::Prepared), ("unnamed", Statements::Unnamed)];
        set(&mut options.statements, url.take_choice("statements", &statements)?);
        set(&mut options.pool_size, url.take_with("pool_size", NUMBER, at_least_one)?);
        set(&mut options.group_commit, url.take_bool("coalesce")?);
        set(&mut options.max_batches, url.take_with("lanes", NUMBER, at_least_one)?);
        set(&mut options.sweep, url.take_interval("sweep")?);
        set(&mut options.timeout, url.take_duration("timeout")?);
        set(&mut options.connect_timeout, take_connect_timeout(&mut url)?);
        let modes = [
            ("disable", TlsMode::Disable),
            ("prefer", TlsMode::Prefer),
            ("require", TlsMode::Require),
            ("verify-ca", TlsMode::VerifyCa),
            ("verify-full", TlsMode::VerifyFull),
        ];
        set(&mut options.tls, url.take_choice("sslmode", &modes)?);
        options.roots = url.take("sslrootcert")?.map(|roots| match roots.as_str() {
            "system" => Roots::Mozilla,
            file => Roots::File(file.into()),
        });
        url.finish(&[OPTIONS, DRIVER_OPTIONS].concat())?;
        options.check()?;
        Ok((options, driver_config(&url)?))
    }

    pub(crate) fn check(&self) -> Result<()> {
        if self.layout == Layout::Grammy && self.values.is_some() {
            return Err(invalid("grammY's layout has its own column for values: leave out `values`"));
        }
        if self.pool_size == 0 || self.max_batches == 0 {
            return Err(invalid("`pool_size` and `lanes` must be at least 1"));
        }
        if self.timeout.is_zero() || self.connect_timeout.is_zero() {
            return Err(invalid("`timeout` and `connect_timeout` must be greater than zero"));
        }
        self.table_name().check()
    }

    pub(crate) fn table_name(&self) -> TableName {
        let default = match self.layout {
            Layout::Larder => "larder",
            Layout::Grammy => "sessions",
        };
        TableName::new(self.schema.as_deref(), self.table.as_deref().unwrap_or(default))
    }

    /// The type of the column `value`.
    pub(crate) fn value_format(&self) -> ValueFormat {
        match self.layout {
            Layout::Larder => self.values.unwrap_or_default(),
            Layout::Grammy => ValueFormat::Text,
        }
    }
}

fn set<T>(option: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *option = given;
    }
}

fn at_least_one(value: &str) -> Option<usize> {
    value.parse().ok().filter(|number| *number > 0)
}

/// A duration, or a number of seconds, as libpq takes it.
fn take_connect_timeout(url: &mut StoreUrl) -> Result<Option<Duration>> {
    let mut seconds = url.clone();
    match seconds.take("connect_timeout")?.and_then(|value| value.parse().ok()) {
        Some(number) => {
            *url = seconds;
            Ok(Some(Duration::from_secs(number)))
        }
        None => url.take_duration("connect_timeout"),
    }
}

fn driver_config(url: &StoreUrl) -> Result<Config> {
    let mut config: Config = url.to_url().parse().map_err(|error: tokio_postgres::Error| {
        // It names the option, not its value.
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        invalid(format!("the driver does not accept the URL: {cause}"))
    })?;
    let given = |name: &str| url.remaining().any(|option| option == name);
    // Notices within a minute, not after two hours, that a peer has vanished.
    if !given("keepalives_idle") {
        config.keepalives_idle(Duration::from_secs(30));
    }
    if !given("keepalives_interval") {
        config.keepalives_interval(Duration::from_secs(10));
    }
    if !given("keepalives_retries") {
        config.keepalives_retries(3);
    }
    if !given("application_name") {
        config.application_name("larder");
    }
    Ok(config)
}

pub(crate) fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidConfig, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_in_one_url() {
        let (options, config) = Options::from_url(
            "postgresql://bot:pass%2Fword@a.example:1,b.example:2/app?schema=my%20bot&table=x%22y&values=jsonb\
             &setup=false&statements=unnamed&pool_size=3&lanes=4&coalesce=false&sweep=off&timeout=1500ms\
             &connect_timeout=7&sslmode=verify-full&sslrootcert=/etc/ca.pem&application_name=my%20bot\
             &target_session_attrs=read-write&options=-c%20lock_timeout%3D5s&keepalives_idle=5",
        )
        .unwrap();
        assert_eq!(options.schema.as_deref(), Some("my bot"));
        assert_eq!(options.table.as_deref(), Some("x\"y"));
        assert_eq!(options.values, Some(ValueFormat::Jsonb));
        assert_eq!(options.statements, Statements::Unnamed);
        assert_eq!((options.pool_size, options.max_batches), (3, 4));
        assert!(!options.setup && !options.group_commit && options.sweep.is_none());
        assert_eq!(options.timeout, Duration::from_millis(1_500));
        assert_eq!(options.connect_timeout, Duration::from_secs(7));
        assert_eq!(options.tls, TlsMode::VerifyFull);
        assert_eq!(options.roots, Some(Roots::File("/etc/ca.pem".into())));
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
            let options = Options::from_url(&format!("postgres://h/db?connect_timeout={text}"));
            options.map(|(options, _)| options.connect_timeout)
        };
        assert_eq!(timeout("7").unwrap(), Duration::from_secs(7));
        assert_eq!(timeout("70ms").unwrap(), Duration::from_millis(70));
        for wrong in ["0", "0s", "x", "-1", "1&connect_timeout=1"] {
            assert_eq!(timeout(wrong).unwrap_err().kind(), ErrorKind::InvalidConfig, "{wrong}");
        }
    }
}
