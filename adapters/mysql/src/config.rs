//! The options, in code and in a URL.

use std::borrow::Cow;

use larder_core::{Error, ErrorKind, Result};
use larder_kit::{Interval, StoreUrl, Timeout, ValueFormat};
use sqlx::{
    ConnectOptions,
    mysql::{MySqlConnectOptions, MySqlSslMode},
};

/// The options that are passed to the driver, sqlx.
pub const DRIVER_OPTIONS: &[&str] = &["socket", "ssl-ca", "ssl-cert", "ssl-key", "ssl-mode"];

/// The maximum number of characters in a name.
const MAX_NAME: usize = 64;

/// The valid numbers of connections and batches, for errors.
const COUNT: &str = "a number from 1";

larder_kit::config! {
    /// The configuration of a store in a table of a MySQL or MariaDB database.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use larder_mysql::{Config, ValueFormat};
    ///
    /// # async fn open() -> larder_core::Result<()> {
    /// let store = Config::from_url("mysql://bot:secret@db.example/app?ssl-mode=verify_identity")?
    ///     .table("sessions")
    ///     .values(ValueFormat::Json)
    ///     .timeout(Duration::from_secs(5))
    ///     .connect()
    ///     .await?;
    /// # drop(store);
    /// # Ok(())
    /// # }
    /// ```
    #[derive(Clone, Debug)]
    #[must_use]
    pub struct Config for "mysql" {
        server: Server,
        existing: bool,
    }

    options {
        /// The name of the table, of up to 64 characters. Any name works; it is quoted.
        table: String = "larder",
            if |table| is_name(table) => "1 to 64 characters up to U+FFFF, without NUL and without a space at the end";
        /// The format of values: `bytes` stores any value as a `LONGBLOB`; `json` stores only JSON, as `LONGTEXT` for
        /// the server's JSON functions.
        values: ValueFormat = "bytes";
        /// Whether to create the table if it is missing. The columns of an existing table are checked either way.
        setup: bool = "true";
        /// The maximum number of connections. Your own pool has its own limit.
        pool_size: usize = "8", if |size| *size > 0 => COUNT;
        /// Whether concurrent changes share a commit. If another program holds a lock on one of their rows, all of
        /// them wait for it.
        group_commit: bool = "true";
        /// The maximum number of concurrent group commit batches, each on its own connection.
        max_batches: usize = "1", if |batches| *batches > 0 => COUNT;
        /// The time between two removals of expired rows; `off` disables them.
        sweep: Interval = "1m";
        /// The longest time for a call, including the wait for a connection. Listings, clearing and large batches have
        /// this time for each of their steps.
        timeout: Timeout = "30s";
        /// The longest time for opening a connection. Your own pool has its own limit.
        connect_timeout: Timeout = "10s";
    }
}

/// The driver's configuration of a server.
#[derive(Clone, Default)]
struct Server(MySqlConnectOptions);

/// The driver's `Debug` prints the password.
impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Server(..)")
    }
}

impl Config {
    /// Takes the server, the database and the options of the driver from the URL.
    fn locate(&mut self, url: &mut StoreUrl) -> Result<()> {
        if !matches!(url.scheme(), "mysql" | "mariadb") || !url.rest().starts_with("//") {
            return Err(invalid("a MySQL URL must have the form `mysql://user:password@host/database`"));
        }
        let driver = url.url_with(DRIVER_OPTIONS)?;
        // The driver's message may quote the URL, and with it the password.
        let rejected = "the driver rejected the URL: check the host, the port and `ssl-mode` (disabled, preferred, \
                        required or verify_identity)";
        self.server = Server(driver.parse().map_err(|_| invalid(rejected))?);
        if matches!(self.server.0.get_ssl_mode(), MySqlSslMode::VerifyCa) {
            // sqlx also accepts certificates of public authorities, which anyone can get for some name.
            return Err(invalid("`ssl-mode=verify_ca` checks too little: use `ssl-mode=verify_identity`"));
        }
        if self.server.0.get_database().is_none() {
            return Err(invalid("the URL names no database: write `mysql://user:password@host/database`"));
        }
        Ok(())
    }

    /// Sets the server and the database from the driver's configuration, instead of a URL.
    pub fn server(mut self, server: MySqlConnectOptions) -> Self {
        self.server = Server(server);
        self
    }

    /// Opens only an existing table. Connecting fails with [`InvalidConfig`](ErrorKind::InvalidConfig) if the table is
    /// missing or has other columns. The store creates nothing, runs no sweeper, and needs only the permission to
    /// `SELECT`. Overrides [`setup`](Self::setup).
    pub const fn existing(mut self) -> Self {
        self.existing = true;
        self
    }

    /// Returns the configuration of connections. The driver must not log statements, which it does with all details.
    pub(crate) fn connections(&self) -> MySqlConnectOptions {
        self.server.0.clone().disable_statement_logging()
    }

    /// Returns the name of the table as SQL, with its database if that is known.
    pub(crate) fn quoted(&self) -> String {
        let (database, table) = self.names();
        let database = database.map(|database| quote(&database) + ".").unwrap_or_default();
        database + &quote(&table)
    }

    /// Returns the names of the database, if it is known, and of the table.
    pub(crate) fn names(&self) -> (Option<String>, String) {
        (self.server.0.get_database().map(str::to_owned), self.table.clone())
    }
}

/// Returns `name` as an SQL identifier.
fn quote(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// Returns whether MySQL accepts the name.
fn is_name(name: &str) -> bool {
    let valid = |char| char != '\0' && char <= '\u{ffff}';
    (1..=MAX_NAME).contains(&name.chars().count()) && name.chars().all(valid) && !name.ends_with(' ')
}

pub(crate) fn invalid(message: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidConfig, message)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn rejected(options: &str) -> String {
        let error = Config::from_url(&format!("mysql://bot:hunter2@h/app?{options}")).expect_err(options);
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{options}");
        assert!(!format!("{error:?}").contains("hunter2"), "{options}");
        error.message().to_owned()
    }

    #[test]
    fn a_url_sets_all_options() {
        let config = Config::from_url(
            "mariadb://b%40t:pass%2Fword@db.example:3307/my%20app?table=x%60y&values=json&setup=false&pool_size=3\
             &max_batches=4&group_commit=false&sweep=off&timeout=1500ms&connect_timeout=7s\
             &ssl-mode=verify_identity&ssl-ca=/etc/ca.pem&socket=/run/db.sock",
        )
        .unwrap();
        assert_eq!((&*config.table, config.values), ("x`y", ValueFormat::Json));
        assert_eq!((config.pool_size, config.max_batches), (3, 4));
        assert!(!config.setup && !config.group_commit && config.sweep == Interval::OFF);
        assert_eq!(config.timeout.get(), Duration::from_millis(1_500));
        assert_eq!(config.connect_timeout.get(), Duration::from_secs(7));
        let server = &config.server.0;
        assert_eq!(
            (server.get_host(), server.get_port(), server.get_username()),
            ("db.example", 3307, "b@t")
        );
        assert_eq!(server.get_database(), Some("my app"));
        assert!(matches!(server.get_ssl_mode(), MySqlSslMode::VerifyIdentity));
        assert_eq!(server.get_socket().map(|path| path.to_str().unwrap()), Some("/run/db.sock"));
        assert_eq!(config.quoted(), "`my app`.`x``y`");
    }

    #[test]
    fn a_configuration_file_sets_all_options() {
        let config: Config = serde_json::from_str(
            r#"{"url": "mysql://bot:hunter2@h/app?table=x&ssl-mode=required", "table": "y", "values": "json",
                "connect_timeout": "7s", "pool_size": 3}"#,
        )
        .unwrap();
        assert_eq!((&*config.table, config.values, config.pool_size), ("y", ValueFormat::Json, 3));
        assert_eq!(config.connect_timeout.get(), Duration::from_secs(7));
        assert!(matches!(config.server.0.get_ssl_mode(), MySqlSslMode::Required));
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn a_similar_option_of_larder_or_the_driver_is_suggested() {
        for (unknown, similar) in [("tabel", "`table`?"), ("sslmode", "`ssl-mode`?"), ("ssl_ca", "`ssl-ca`?")]
        {
            let message = rejected(&format!("{unknown}=x"));
            assert!(message.contains(similar), "{message}");
        }
    }

    #[test]
    fn invalid_options_are_rejected() {
        for options in [
            "table=",
            "table=a%00b",
            "table=a%20",
            "table=%F0%9F%98%80",
            &format!("table={}", "t".repeat(65)),
            "table=a&table=b",
            "ssl-mode=required&ssl-mode=required",
            "ssl-mode=verify_full",
            "values=jsonb",
            "pool_size=0",
            "max_batches=0",
            "timeout=0s",
            "sweep=1",
            "charset=latin1",
        ] {
            rejected(options);
        }
        assert!(rejected("ssl-mode=verify_ca").contains("verify_identity"));
        for table in ["t".repeat(64), "é".repeat(64), " a`b".to_owned()] {
            assert!(is_name(&table), "{table}");
        }
    }

    #[test]
    fn invalid_urls_are_rejected_without_the_password() {
        for url in [
            "mysql://bot:hunter2@h",
            "mysql://bot:hunter2@h/",
            "mysql://bot:hunter2@h:x/app",
            "mysql:hunter2",
            "mysqlx://bot:hunter2@h/app",
        ] {
            let error = Config::from_url(url).expect_err(url);
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{url}");
            assert!(!format!("{error:?}").contains("hunter2"), "{url}");
        }
    }
}
