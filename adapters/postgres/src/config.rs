//! How to get to the table, and how to use it.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use deadpool_postgres::{Pool, Runtime};
use larder_core::{Error, ErrorKind, Operation, Result, Storage};
use larder_layers::{Coalesce, Sweeper};
use tokio_postgres::Config;

use crate::{
    NAME, PostgresStorage, TlsMode,
    driver::Driver,
    layout::{Layout, ValueColumn},
    names::TableName,
    queries::Queries,
    schema::{self, RunBy},
    table::Table,
    tls::{Connector, Roots},
};

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

/// Sets up a [`PostgresStorage`].
///
/// ```no_run
/// use std::time::Duration;
/// use larder_postgres::{PostgresBuilder, ValueColumn};
///
/// # async fn open() -> larder_core::Result<()> {
/// let storage = PostgresBuilder::from_url("postgres://bot:secret@db.example/app?sslmode=verify-full")?
///     .schema("bot")
///     .table("sessions")
///     .values(ValueColumn::Jsonb)
///     .timeout(Duration::from_secs(5))
///     .connect()
///     .await?;
/// # drop(storage);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use]
pub struct PostgresBuilder {
    pub(crate) source: Source,
    pub(crate) schema: Option<String>,
    pub(crate) table: Option<String>,
    pub(crate) values: Option<ValueColumn>,
    pub(crate) grammy: bool,
    pub(crate) setup: bool,
    pub(crate) existing: bool,
    pub(crate) statements: Statements,
    pub(crate) pool_size: usize,
    pub(crate) coalesce: bool,
    pub(crate) lanes: usize,
    pub(crate) sweep: Option<Duration>,
    pub(crate) timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) tls: TlsMode,
    pub(crate) roots: Option<Roots>,
}

/// Where connections come from.
#[derive(Clone)]
pub(crate) enum Source {
    Config(Box<Config>),
    /// The caller's, and so never closed here.
    Pool(Pool),
}

impl PostgresBuilder {
    /// Connections that the driver's `config` describes. Its `connect_timeout` and SSL mode are set
    /// from this builder.
    pub fn from_config(config: Config) -> Self {
        Self::new(Source::Config(Box::new(config)))
    }

    /// Connections out of the caller's own pool, with whatever TLS it has. The pool is never closed
    /// here. Options that make connections (TLS, pool size, time-out for connecting) have no effect.
    ///
    /// A statement that takes longer than [`timeout`](Self::timeout) fails and its connection leaves
    /// the pool, but it is not cancelled on the server, which would take a connection like the pool's:
    /// while it waits for a lock it goes on waiting, and happens when the lock is free, unless the next
    /// change [ends](crate#changes-that-time-out) it. One whose caller has gone keeps its connection
    /// until it ends or that time is over. The server's `statement_timeout`, in the options of the
    /// pool's connections, ends both.
    pub fn from_pool(pool: Pool) -> Self {
        Self::new(Source::Pool(pool))
    }

    fn new(source: Source) -> Self {
        Self {
            source,
            schema: None,
            table: None,
            values: None,
            grammy: false,
            setup: true,
            existing: false,
            statements: Statements::default(),
            pool_size: 8,
            coalesce: true,
            lanes: 2,
            sweep: Some(Duration::from_secs(60)),
            timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            tls: TlsMode::default(),
            roots: None,
        }
    }

    /// The schema that holds the table; made if it is not there. Without one the server's search path
    /// decides. Any name will do: it is quoted.
    pub fn schema(mut self, name: impl Into<String>) -> Self {
        self.schema = Some(name.into());
        self
    }

    /// The table; `larder` unless set (`sessions` in grammY's layout). Any name of up to 63 bytes will
    /// do: it is quoted. `schema.table` names both, unless [`schema`](Self::schema) is set: then the
    /// dot is part of the name.
    pub fn table(mut self, name: impl Into<String>) -> Self {
        self.table = Some(name.into());
        self
    }

    /// The type of the column `value`; [`ValueColumn::Bytea`] unless set.
    pub const fn values(mut self, column: ValueColumn) -> Self {
        self.values = Some(column);
        self
    }

    /// Reads and writes the table of `@grammyjs/storage-psql`: JSON text, no expiry, and versions that
    /// are the content.
    pub const fn grammy(mut self) -> Self {
        self.grammy = true;
        self
    }

    /// Whether to make the table if it is not there, and to check it if it is; yes unless set. Where it
    /// is off, run [`setup_sql`](Self::setup_sql) beforehand.
    pub const fn setup(mut self, setup: bool) -> Self {
        self.setup = setup;
        self
    }

    /// Opens only what is there. Connecting fails with [`InvalidConfig`](ErrorKind::InvalidConfig) if
    /// the table or its schema is missing or the table has another shape. It creates nothing, removes
    /// no expired rows in the background, and needs only the right to `SELECT`. Overrides
    /// [`setup`](Self::setup).
    pub const fn existing(mut self) -> Self {
        self.existing = true;
        self
    }

    /// How statements get to the server; prepared unless set. A pooler is noticed either way.
    pub const fn statements(mut self, statements: Statements) -> Self {
        self.statements = statements;
        self
    }

    /// How many connections there are at most; 8 unless set.
    pub const fn pool_size(mut self, connections: usize) -> Self {
        self.pool_size = connections;
        self
    }

    /// Whether concurrent writes share a statement; yes unless set. A lone write never waits for
    /// company either way.
    pub const fn coalesce(mut self, coalesce: bool) -> Self {
        self.coalesce = coalesce;
        self
    }

    /// How many such batches may be under way at once, each on a connection; 2 unless set.
    pub const fn lanes(mut self, lanes: usize) -> Self {
        self.lanes = lanes;
        self
    }

    /// How often expired rows are removed, in the background; every 60 seconds unless set. They are
    /// never seen, removed or not. `None`: only when
    /// [`purge_expired`](larder_core::Storage::purge_expired) is called.
    pub const fn sweep_every(mut self, interval: Option<Duration>) -> Self {
        self.sweep = interval;
        self
    }

    /// How long one statement may take, and how long to wait for a free connection before it; 30
    /// seconds unless set. Making a connection has a [time-out of its own](Self::connect_timeout).
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How long connecting to one host may take; 10 seconds unless set.
    pub const fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Whether connections are encrypted and what is checked; [`TlsMode::Prefer`] unless set.
    pub const fn tls(mut self, mode: TlsMode) -> Self {
        self.tls = mode;
        self
    }

    /// A file of root certificates (PEM) to check the server's against, instead of Mozilla's.
    pub fn root_certificates(mut self, file: impl Into<PathBuf>) -> Self {
        self.roots = Some(Roots::File(file.into()));
        self
    }

    /// Root certificates as PEM, instead of a file.
    pub fn root_certificates_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.roots = Some(Roots::Pem(pem.into()));
        self
    }

    /// The SQL that set-up runs, for somebody who may create schemas and tables where the program may
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
        let table = self.table_name();
        format!("{}{}", schema::schema_sql(&table), schema::sql(&table, self.layout(), RunBy::Person))
    }

    /// Connects, makes the table unless told otherwise, and opens the storage.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if an option is wrong, the certificate is not to be
    /// trusted, the database is not there or the table has the wrong shape (the message names the
    /// column); [`PermissionDenied`](ErrorKind::PermissionDenied) if the password is wrong or a permission is missing;
    /// [`Unavailable`](ErrorKind::Unavailable) or [`Timeout`](ErrorKind::Timeout) if the server cannot
    /// be reached (also if its host is not known).
    pub async fn connect(self) -> Result<PostgresStorage> {
        let named = |operation| move |error: Error| error.with_adapter(NAME).with_operation(operation);
        self.check().map_err(named(Operation::Connect))?;
        let (name, layout) = (self.table_name(), self.layout());
        let mut driver = self.driver().map_err(named(Operation::Connect))?;
        driver.open().await.map_err(named(Operation::Connect))?;
        if self.existing {
            schema::find(&driver, &name, layout).await.map_err(named(Operation::Connect))?;
        } else if self.setup {
            schema::set_up(&driver, &name, layout).await.map_err(named(Operation::Setup))?;
        }
        let table = Table { driver, layout, queries: Queries::new(&name, layout) };
        let storage: Arc<dyn Storage> = if self.coalesce {
            Arc::new(Coalesce::builder(table).lanes(self.lanes).build())
        } else {
            Arc::new(table)
        };
        let sweeper = self
            .sweep
            .filter(|_| !self.existing && layout.capabilities().expiry)
            .map(|interval| Sweeper::start(Arc::downgrade(&storage), interval));
        Ok(PostgresStorage::new(storage, sweeper))
    }

    fn check(&self) -> Result<()> {
        let wrong = |message: &'static str| Err(Error::new(ErrorKind::InvalidConfig, message));
        if self.grammy && self.values.is_some() {
            return wrong("grammY's layout has its own column for values: leave out `values`");
        }
        if self.pool_size == 0 || self.lanes == 0 {
            return wrong("`pool_size` and `lanes` are at least 1");
        }
        if self.timeout.is_zero() || self.connect_timeout.is_zero() {
            return wrong("a time-out of zero leaves no time for anything");
        }
        self.table_name().check()
    }

    fn layout(&self) -> Layout {
        if self.grammy { Layout::Grammy } else { Layout::Larder(self.values.unwrap_or_default()) }
    }

    fn table_name(&self) -> TableName {
        let default = if self.grammy { "sessions" } else { "larder" };
        TableName::new(self.schema.as_deref(), self.table.as_deref().unwrap_or(default))
    }

    fn driver(&self) -> Result<Driver> {
        let mut config = match &self.source {
            Source::Pool(pool) => {
                return Ok(Driver::new(
                    pool.clone(),
                    false,
                    self.statements,
                    self.timeout,
                    self.timeout,
                    None,
                ));
            }
            Source::Config(config) => (**config).clone(),
        };
        config.connect_timeout(self.connect_timeout);
        config.ssl_mode(self.tls.driver_mode());
        let connector = Connector::new(self.tls, self.roots.as_ref())?;
        // The driver's time-out is for the socket alone; a server may take that and then say nothing.
        let hosts = u32::try_from(config.get_hosts().len().max(1)).unwrap_or(u32::MAX);
        let connecting = self.connect_timeout.saturating_mul(hosts);
        let pool = Pool::builder(connector.manager(config))
            .max_size(self.pool_size)
            .wait_timeout(Some(self.timeout))
            .create_timeout(Some(connecting))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|_| Error::new(ErrorKind::Other, "the pool of connections could not be built"))?;
        // Not less than connecting takes: a short `timeout` must not keep the pool from ever filling.
        let patience = self.timeout.saturating_add(connecting);
        Ok(Driver::new(pool, true, self.statements, self.timeout, patience, Some(connector)))
    }
}

impl fmt::Debug for PostgresBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither the driver's configuration nor the pool: they know the password.
        f.debug_struct("PostgresBuilder")
            .field("table", &self.table_name().quoted())
            .field("layout", &self.layout())
            .field("setup", &self.setup)
            .field("statements", &self.statements)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}
