//! `postgres://` URLs.

use std::time::Duration;

use larder_core::{Error, ErrorKind, Operation, Result};
use larder_kit::StoreUrl;
use tokio_postgres::Config;

use crate::{NAME, PostgresBuilder, Statements, TlsMode, ValueColumn, tls::Roots};

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

/// The options that are handed on to the driver, `tokio-postgres`, which documents them.
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

impl PostgresBuilder {
    /// Everything that a URL says: `postgres://user:password@host:port/database?option=value&...`,
    /// with several hosts separated by commas. See the [options](crate#options).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`] if it is not such a URL, or has an option that is not known.
    pub fn from_url(url: &str) -> Result<Self> {
        parse(url).map_err(|error| error.with_adapter(NAME).with_operation(Operation::Connect))
    }
}

fn parse(url: &str) -> Result<PostgresBuilder> {
    let mut location = StoreUrl::parse(url)?;
    if !matches!(location.scheme(), "postgres" | "postgresql") || !location.rest().starts_with("//") {
        return Err(configuration("a PostgreSQL URL looks like postgres://user:password@host:5432/database"));
    }
    let schema = location.take("schema")?;
    let table = location.take("table")?;
    let grammy = location.take_choice("layout", &[("larder", false), ("grammy", true)])?;
    let values = location.take_choice(
        "values",
        &[
            ("bytea", ValueColumn::Bytea),
            ("jsonb", ValueColumn::Jsonb),
            ("json", ValueColumn::Json),
            ("text", ValueColumn::Text),
        ],
    )?;
    let setup = location.take_bool("setup")?;
    let statements = location
        .take_choice("statements", &[("prepared", Statements::Prepared), ("unnamed", Statements::Unnamed)])?;
    let pool_size = location.take_with("pool_size", "a number from 1", at_least_one)?;
    let coalesce = location.take_bool("coalesce")?;
    let lanes = location.take_with("lanes", "a number from 1", at_least_one)?;
    let sweep = location.take_with("sweep", "a duration such as 60s, or off", |value| match value {
        "off" => Some(None),
        value => duration(value).map(Some),
    })?;
    let timeout = location.take_with("timeout", "a duration such as 500ms or 30s", duration)?;
    let connect_timeout = location.take_with(
        "connect_timeout",
        "a duration such as 500ms or 10s, or a number of seconds",
        |value| match value.parse::<u64>() {
            Ok(secs) => Some(Duration::from_secs(secs)).filter(|timeout| !timeout.is_zero()),
            Err(_) => duration(value),
        },
    )?;
    let tls = location.take_choice("sslmode", TlsMode::CHOICES)?;
    let roots = location.take("sslrootcert")?;
    location.finish(&[OPTIONS, DRIVER_OPTIONS].concat())?;

    let config = driver_config(&location)?;
    let mut builder = PostgresBuilder::from_config(config);
    builder.schema = schema;
    builder.table = table;
    builder.grammy = grammy.unwrap_or(false);
    builder.values = values;
    builder.setup = setup.unwrap_or(builder.setup);
    builder.statements = statements.unwrap_or(builder.statements);
    builder.pool_size = pool_size.unwrap_or(builder.pool_size);
    builder.coalesce = coalesce.unwrap_or(builder.coalesce);
    builder.lanes = lanes.unwrap_or(builder.lanes);
    builder.sweep = sweep.unwrap_or(builder.sweep);
    builder.timeout = timeout.unwrap_or(builder.timeout);
    builder.connect_timeout = connect_timeout.unwrap_or(builder.connect_timeout);
    builder.tls = tls.unwrap_or(builder.tls);
    builder.roots = roots.map(|roots| match roots.as_str() {
        "system" => Roots::Mozilla,
        file => Roots::File(file.into()),
    });
    Ok(builder)
}

/// What is left of the URL is the driver's.
fn driver_config(location: &StoreUrl) -> Result<Config> {
    let mut config: Config = location.to_url().parse().map_err(|error: tokio_postgres::Error| {
        // It names the option, not its value.
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        configuration(format!("the URL is not one that the driver accepts: {cause}"))
    })?;
    let given = |name: &str| location.remaining().any(|option| option == name);
    // A peer that has gone without a word is noticed within a minute, not after two hours.
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

fn at_least_one(value: &str) -> Option<usize> {
    value.parse().ok().filter(|number| *number > 0)
}

fn duration(value: &str) -> Option<Duration> {
    // The same spelling as in every other storage URL.
    let mut location = StoreUrl::parse(&format!("x:?d={value}")).ok()?;
    location.take_duration("d").ok().flatten().filter(|duration| !duration.is_zero())
}

fn configuration(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidConfig, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Source;

    fn config(builder: &PostgresBuilder) -> &Config {
        match &builder.source {
            Source::Config(config) => config,
            Source::Pool(_) => panic!("no pool was given"),
        }
    }

    #[test]
    fn everything_in_one_url() {
        let builder = PostgresBuilder::from_url(
            "postgresql://bot:pass%2Fword@a.example:1,b.example:2/app?schema=my%20bot&table=x%22y&values=jsonb\
             &setup=false&statements=unnamed&pool_size=3&lanes=4&coalesce=false&sweep=off&timeout=1500ms\
             &connect_timeout=7&sslmode=verify-full&sslrootcert=/etc/ca.pem&application_name=my%20bot\
             &target_session_attrs=read-write&options=-c%20lock_timeout%3D5s&keepalives_idle=5",
        )
        .unwrap();
        assert_eq!(builder.schema.as_deref(), Some("my bot"));
        assert_eq!(builder.table.as_deref(), Some("x\"y"));
        assert_eq!(builder.values, Some(ValueColumn::Jsonb));
        assert_eq!(builder.statements, Statements::Unnamed);
        assert_eq!((builder.pool_size, builder.lanes), (3, 4));
        assert!(!builder.setup && !builder.coalesce && builder.sweep.is_none());
        assert_eq!(builder.timeout, Duration::from_millis(1_500));
        assert_eq!(builder.connect_timeout, Duration::from_secs(7));
        assert_eq!(builder.tls, TlsMode::VerifyFull);
        assert_eq!(builder.roots, Some(Roots::File("/etc/ca.pem".into())));
        let config = config(&builder);
        assert_eq!(config.get_password(), Some(&b"pass/word"[..]));
        assert_eq!((config.get_hosts().len(), config.get_ports()), (2, &[1, 2][..]));
        assert_eq!(config.get_application_name(), Some("my bot"));
        assert_eq!(config.get_options(), Some("-c lock_timeout=5s"));
        assert_eq!(config.get_keepalives_idle(), Duration::from_secs(5));
        assert_eq!(config.get_keepalives_retries(), Some(3));
        assert!(!format!("{builder:?}").contains("pass"));
    }

    #[test]
    fn wrong_urls_are_refused_without_showing_secrets() {
        for url in [
            "postgres:app",
            "mysql://hunter2@h/db",
            "postgres://u:hunter2@h/db?tabel=x",
            "postgres://u:hunter2@h/db?table=x&table=y",
            "postgres://u:hunter2@h/db?values=xml",
            "postgres://u:hunter2@h/db?pool_size=0",
            "postgres://u:hunter2@h/db?sslmode=hunter2",
            "postgres://u:hunter2@h/db?sweep=0s",
            "postgres://u:hunter2@h/db?timeout=hunter2",
            "postgres://u:hunter2@h/db?connect_timeout=0",
            "postgres://u:hunter2@h:hunter2/db",
            "postgres://u:hunter2@h/db?keepalives=hunter2",
        ] {
            let error = PostgresBuilder::from_url(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{url}");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        }
        let error = PostgresBuilder::from_url("postgres://h/db?tabel=x").unwrap_err();
        assert!(error.message().contains("`tabel`") && error.message().contains("sslrootcert"));
    }

    #[tokio::test]
    async fn contradictions_are_refused_before_anything_connects() {
        for url in ["postgres://h/db?layout=grammy&values=bytea", "postgres://h/db?table=a."] {
            let error = PostgresBuilder::from_url(url).unwrap().connect().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        }
    }
}
