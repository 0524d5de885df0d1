//! How a storage is opened.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use deadpool_postgres::{Pool, Runtime};
use larder_core::{Error, ErrorKind, Operation, Result, Store};
use larder_kit::{GroupCommit, Sweeper};
use tokio_postgres::Config;

use crate::{
    PostgresStorage,
    config::{Layout, NAME, Options, Roots, Statements, TlsMode, ValueFormat},
    driver::Driver,
    queries::Queries,
    schema::Schema,
    table::Table,
    tls,
};

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
#[derive(Clone)]
#[must_use]
pub struct PostgresBuilder {
    source: Source,
    options: Options,
}

/// Where connections come from.
#[derive(Clone)]
enum Source {
    Config(Box<Config>),
    /// The caller's, and so never closed here.
    Pool(Pool),
}

impl PostgresStorage {
    /// Connects to the server at `url` and makes the table if it is not there:
    /// [`PostgresBuilder::from_url`] and [`PostgresBuilder::connect`].
    ///
    /// # Errors
    ///
    /// As theirs.
    pub async fn connect(url: &str) -> Result<Store> {
        PostgresBuilder::from_url(url)?.connect().await
    }

    /// Connects to the server at `url` and opens the table if it is there, without changing anything:
    /// [`PostgresBuilder::from_url`] and [`PostgresBuilder::existing`].
    ///
    /// # Errors
    ///
    /// As those of [`connect`](Self::connect); [`InvalidConfig`](ErrorKind::InvalidConfig) also if
    /// there is no such table or schema.
    pub async fn connect_existing(url: &str) -> Result<Store> {
        PostgresBuilder::from_url(url)?.existing().connect().await
    }
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
        let (options, config) = Options::from_url(url).map_err(named)?;
        Ok(Self { source: Source::Config(Box::new(config)), options })
    }

    /// Connections that the driver's `config` describes. Its `connect_timeout` and SSL mode are set
    /// from this builder.
    pub fn from_config(config: Config) -> Self {
        Self { source: Source::Config(Box::new(config)), options: Options::default() }
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
        Self { source: Source::Pool(pool), options: Options::default() }
    }

    /// The schema that holds the table; made if it is not there. Any name will do: it is quoted. Default:
    /// the server's search path decides.
    pub fn schema(mut self, name: impl Into<String>) -> Self {
        self.options.schema = Some(name.into());
        self
    }

    /// The table. Any name of up to 63 bytes will do: it is quoted. `schema.table` names both, unless
    /// [`schema`](Self::schema) is set: then the dot is part of the name. Default: `larder`, and `sessions`
    /// in grammY's layout.
    pub fn table(mut self, name: impl Into<String>) -> Self {
        self.options.table = Some(name.into());
        self
    }

    /// What the table looks like. Default: [`Layout::Larder`].
    pub const fn layout(mut self, layout: Layout) -> Self {
        self.options.layout = layout;
        self
    }

    /// The type of the column `value`. Default: [`ValueFormat::Bytea`].
    pub const fn values(mut self, format: ValueFormat) -> Self {
        self.options.values = Some(format);
        self
    }

    /// Whether to make the table if it is not there, and to check it if it is. If `false`, run
    /// [`setup_sql`](Self::setup_sql) beforehand. Default: `true`.
    pub const fn setup(mut self, setup: bool) -> Self {
        self.options.setup = setup;
        self
    }

    /// Opens only what is there. Connecting fails with [`InvalidConfig`](ErrorKind::InvalidConfig) if
    /// the table or its schema is missing or the table has another shape. It creates nothing, removes
    /// no expired rows in the background, and needs only the right to `SELECT`. Overrides
    /// [`setup`](Self::setup).
    pub const fn existing(mut self) -> Self {
        self.options.existing = true;
        self
    }

    /// How statements get to the server. Poolers are noticed either way. Default:
    /// [`Statements::Prepared`].
    pub const fn statements(mut self, statements: Statements) -> Self {
        self.options.statements = statements;
        self
    }

    /// How many connections there are at most. Default: 8.
    pub const fn pool_size(mut self, connections: usize) -> Self {
        self.options.pool_size = connections;
        self
    }

    /// Whether concurrent writes share a statement and a commit. A lone write never waits for others
    /// either way. Default: `true`.
    pub const fn group_commit(mut self, on: bool) -> Self {
        self.options.group_commit = on;
        self
    }

    /// How many batches of group commit may be under way at once, each on a connection. Default: 2.
    pub const fn max_batches(mut self, batches: usize) -> Self {
        self.options.max_batches = batches;
        self
    }

    /// How often expired rows are removed, in the background. They are never seen, removed or not.
    /// `None`: only when [`purge_expired`](Store::purge_expired) is called. Default: every 60 seconds.
    pub const fn sweep_every(mut self, interval: Option<Duration>) -> Self {
        self.options.sweep = interval;
        self
    }

    /// How long one statement may take, and how long to wait for a free connection before it. Making a
    /// connection has a [timeout of its own](Self::connect_timeout). Default: 30 seconds.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.options.timeout = timeout;
        self
    }

    /// How long connecting to one host may take. Default: 10 seconds.
    pub const fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.options.connect_timeout = timeout;
        self
    }

    /// Whether connections are encrypted and what is checked. Default: [`TlsMode::Prefer`].
    pub const fn tls(mut self, mode: TlsMode) -> Self {
        self.options.tls = mode;
        self
    }

    /// A file of root certificates (PEM) to check the server's against, instead of Mozilla's.
    pub fn root_certificates(mut self, file: impl Into<PathBuf>) -> Self {
        self.options.roots = Some(Roots::File(file.into()));
        self
    }

    /// Root certificates as PEM, instead of a file.
    pub fn root_certificates_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.options.roots = Some(Roots::Pem(pem.into()));
        self
    }

    /// The SQL that set-up runs, for a user who may create schemas and tables where the program may
    /// not. Running it twice does no harm. The program's user then needs `USAGE` on the schema and
    /// `SELECT`, `INSERT`, `UPDATE` and `DELETE` on the table.
    ///
    /// ```
    /// let builder = larder_postgres::PostgresBuilder::from_url("postgres://localhost?table=bot.sessions")?;
    /// assert!(builder.setup_sql().contains(r#"CREATE TABLE IF NOT EXISTS "bot"."sessions" ("#));
    /// # Ok::<(), larder_core::Error>(())
    /// ```
    #[must_use]
    pub fn setup_sql(&self) -> String {
        self.shape().sql()
    }

    /// Connects, makes the table unless told otherwise, and opens the storage.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if an option is wrong, the certificate is not trusted,
    /// the database is not there or the table has the wrong shape (the message names the column);
    /// [`PermissionDenied`](ErrorKind::PermissionDenied) if the password is wrong or a permission is
    /// missing; [`Unavailable`](ErrorKind::Unavailable) or [`Timeout`](ErrorKind::Timeout) if the server
    /// cannot be reached (also if its host is not known).
    pub async fn connect(self) -> Result<Store> {
        // Boxed: the future would otherwise nest too deep for the compiler in its callers.
        Box::pin(self.open()).await.map_err(named)
    }

    async fn open(self) -> Result<Store> {
        self.options.check()?;
        let driver = self.driver().await?;
        let schema = self.shape();
        let Options { existing, setup, group_commit, max_batches, sweep, .. } = self.options;
        if existing {
            schema.find(&driver).await?;
        } else if setup {
            schema.set_up(&driver).await.map_err(|error| error.with_operation(Operation::Setup))?;
        }
        let Schema { table, layout, values } = schema;
        let queries = Queries::new(&table.quoted(), layout, values);
        let table = Arc::new(Table { driver, layout, values, queries });
        let purge = |table: Arc<Table>| async move { table.purge_expired().await };
        let every = sweep.filter(|_| !existing && layout == Layout::Larder);
        let sweeper = Sweeper::start(NAME, Arc::downgrade(&table), every, purge);
        let storage = PostgresStorage::new(table, sweeper);
        if group_commit {
            return Ok(GroupCommit::builder(storage).max_batches(max_batches).build().into());
        }
        Ok(storage.into())
    }

    fn shape(&self) -> Schema {
        let Options { layout, .. } = self.options;
        Schema { table: self.options.table_name(), layout, values: self.options.value_format() }
    }

    async fn driver(&self) -> Result<Driver> {
        let Options { statements, timeout, connect_timeout, .. } = self.options;
        let mut config = match &self.source {
            Source::Pool(pool) => {
                return Driver::open(pool.clone(), None, statements, timeout, timeout).await;
            }
            Source::Config(config) => (**config).clone(),
        };
        let connector = tls::connector(self.options.tls, self.options.roots.as_ref())?;
        config.connect_timeout(connect_timeout);
        // The driver's timeout is for the socket alone; a server may take that and then say nothing.
        let hosts = u32::try_from(config.get_hosts().len().max(1)).unwrap_or(u32::MAX);
        let connecting = connect_timeout.saturating_mul(hosts);
        let pool = Pool::builder(tls::manager(config, self.options.tls, &connector))
            .max_size(self.options.pool_size)
            .wait_timeout(Some(timeout))
            .create_timeout(Some(connecting))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|_| Error::new(ErrorKind::Other, "the pool of connections could not be built"))?;
        // Not less than connecting takes: a short `timeout` must not keep the pool from ever filling.
        let patience = timeout.saturating_add(connecting);
        Driver::open(pool, Some(connector), statements, timeout, patience).await
    }
}

fn named(error: Error) -> Error {
    error.with_adapter(NAME).with_operation(Operation::Connect)
}

impl fmt::Debug for PostgresBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither the driver's configuration nor the pool: they know the password.
        f.debug_struct("PostgresBuilder")
            .field("table", &self.options.table_name().quoted())
            .field("layout", &self.options.layout)
            .field("setup", &self.options.setup)
            .field("statements", &self.options.statements)
            .field("tls", &self.options.tls)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            "postgres://u:hunter2@h/db?timeout=0s",
            "postgres://u:hunter2@h/db?connect_timeout=0",
            "postgres://u:hunter2@h:hunter2/db",
            "postgres://u:hunter2@h/db?keepalives=hunter2",
            "postgres://u:hunter2@h/db?layout=grammy&values=bytea",
            "postgres://u:hunter2@h/db?table=a.",
        ] {
            let error = PostgresBuilder::from_url(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{url}");
            assert_eq!(error.adapter(), Some("postgres"));
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        }
        let error = PostgresBuilder::from_url("postgres://h/db?tabel=x").unwrap_err();
        assert!(error.message().contains("`tabel`") && error.message().contains("sslrootcert"));
    }

    #[tokio::test]
    async fn contradictions_are_refused_before_anything_connects() {
        let builder = || PostgresBuilder::from_url("postgres://u:hunter2@h/db").unwrap();
        assert!(!format!("{:?}", builder()).contains("hunter2"));
        for builder in [
            builder().layout(Layout::Grammy).values(ValueFormat::Bytea),
            builder().table("a."),
            builder().timeout(Duration::ZERO),
            builder().pool_size(0),
        ] {
            let error = builder.connect().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        }
    }
}
