//! Opens a store.

use std::sync::Arc;

use deadpool_postgres::{Pool, Runtime};
use larder_core::{Error, ErrorKind, Operation, Result, Storage, Store};
use larder_kit::{Configure, GroupCommit, Interval, Layout};

use crate::{
    config::{Config, ValueFormat},
    driver::Driver,
    error::from_pool,
    grammy::{self, Grammy, GrammyStorage},
    larder::Larder,
    schema::{Schema, Shape},
    sql::Sql,
    table::TableStorage,
    tls,
};

impl Config {
    /// Returns the SQL that creates the schema, the table and its index, for a user that may create them if the
    /// program's user may not. It can be run more than once. The program's user then needs `USAGE` on the schema, and
    /// `SELECT`, `INSERT`, `UPDATE` and `DELETE` on the table.
    ///
    /// ```
    /// let config = larder_postgres::Config::from_url("postgres://localhost?table=bot.sessions")?;
    /// assert!(config.setup_sql().contains(r#"CREATE TABLE IF NOT EXISTS "bot"."sessions" ("#));
    /// # Ok::<(), larder_core::Error>(())
    /// ```
    #[must_use]
    pub fn setup_sql(&self) -> String {
        self.table_schema().sql()
    }

    /// Connects, creates the table if `setup` is on and it is missing, and opens the store.
    ///
    /// # Errors
    ///
    /// - [`InvalidConfig`](ErrorKind::InvalidConfig) if an option is invalid, the certificate is not trusted, the
    ///   database does not exist, or the table has other columns (the message names one).
    /// - [`PermissionDenied`](ErrorKind::PermissionDenied) if the password is wrong or a permission is missing.
    /// - [`Unavailable`](ErrorKind::Unavailable) or [`Timeout`](ErrorKind::Timeout) if the server cannot be reached, or
    ///   its host is unknown.
    pub async fn connect(self) -> Result<Store> {
        self.open(None).await.map_err(Self::named)
    }

    /// Opens the store on your own pool. The pool keeps its TLS settings, and stays open when the store is closed. The
    /// options for making connections (TLS, pool size, connect timeout) have no effect.
    ///
    /// A statement that takes longer than [`timeout`](Self::timeout) fails, and its connection leaves the pool. It is
    /// not cancelled on the server, because that needs a connection with the pool's settings: if it waits for a lock,
    /// it is executed when the lock is free, unless the next change [ends](crate#changes-that-time-out) it. The same
    /// applies to a change whose caller has dropped it. To end both, set the server's `statement_timeout` in the
    /// options of the pool's connections.
    ///
    /// # Errors
    ///
    /// Fails as [`connect`](Self::connect) does.
    pub async fn connect_with(self, pool: Pool) -> Result<Store> {
        self.open(Some(pool)).await.map_err(Self::named)
    }

    async fn open(self, pool: Option<Pool>) -> Result<Store> {
        self.check()?;
        // Boxed because the future would nest too deep for the compiler in its callers.
        let driver = Box::pin(self.driver(pool)).await?;
        let schema = self.table_schema();
        if self.existing {
            schema.find(&driver).await?;
        } else if self.setup {
            schema.set_up(&driver).await.map_err(|error| error.with_operation(Operation::Setup))?;
        }
        let table = schema.table.quoted();
        if self.layout == Layout::Grammy {
            let sql = grammy::sql(&table);
            return Ok(self.store(GrammyStorage::new(driver, table, sql, Grammy, Interval::OFF)));
        }
        let values = self.values.unwrap_or_default();
        let sql = Sql::new(&table, values);
        let sweep = if self.existing { Interval::OFF } else { self.sweep };
        Ok(self.store(TableStorage::new(driver, table, sql, Larder(values), sweep)))
    }

    fn store<S: Storage>(&self, storage: Arc<S>) -> Store {
        if self.group_commit {
            return GroupCommit::<S>::builder(storage).max_batches(self.max_batches).build().into();
        }
        Store::from(storage as Arc<dyn Storage>)
    }

    fn table_schema(&self) -> Schema {
        let table = self.table_name();
        let shape = match self.layout {
            Layout::Grammy => grammy::shape(&table),
            _ => Shape::larder(&table, self.values.unwrap_or_default()),
        };
        let larder = ValueFormat::ALL.iter().map(|(name, format)| {
            let options = format!("Larder's, open it with `values={name}` and without `layout=grammy`");
            (options, Shape::larder(&table, *format))
        });
        let grammy = "grammY's, open it with `layout=grammy` and without `values`".to_owned();
        let known = larder.chain([(grammy, grammy::shape(&table))]).collect();
        Schema { table, shape, known }
    }

    async fn driver(&self, pool: Option<Pool>) -> Result<Driver> {
        let timeout = self.timeout.get();
        if let Some(pool) = pool {
            return Driver::open(pool, None, self.statements, timeout).await;
        }
        let connector = tls::connector(self.sslmode, self.sslrootcert.as_ref())?;
        let mut server = self.server.clone();
        let connect_timeout = self.connect_timeout.get();
        server.connect_timeout(connect_timeout);
        // The driver's timeout covers only the socket. A server may accept that, and then not answer.
        let hosts = u32::try_from(server.get_hosts().len().max(1)).unwrap_or(u32::MAX);
        let pool = Pool::builder(tls::manager(server, self.sslmode, &connector))
            .max_size(self.pool_size)
            .wait_timeout(Some(timeout))
            .create_timeout(Some(connect_timeout.saturating_mul(hosts)))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|_| Error::new(ErrorKind::Other, "could not create the connection pool"))?;
        // The first connection may take `connect_timeout`, even if `timeout` is shorter.
        drop(pool.get().await.map_err(from_pool)?);
        Driver::open(pool, Some(connector), self.statements, timeout).await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn invalid_urls_are_rejected_without_printing_secrets() {
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
            "postgres://u:hunter2@h/db?layout=grammy&values=bytes",
            "postgres://u:hunter2@h/db?table=a.",
        ] {
            let error = Config::from_url(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{url}");
            assert_eq!(error.adapter(), Some("postgres"));
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        }
        let error = Config::from_url("postgres://h/db?tabel=x").unwrap_err();
        assert!(error.message().contains("`tabel`") && error.message().contains("sslrootcert"));
    }

    #[tokio::test]
    async fn invalid_options_are_rejected_before_connecting() {
        let config = || Config::from_url("postgres://u:hunter2@h/db").unwrap();
        assert!(!format!("{:?}", config()).contains("hunter2"));
        for config in [
            config().layout(Layout::Grammy).values(ValueFormat::Bytes),
            config().table("a."),
            config().timeout(Duration::ZERO),
            config().pool_size(0),
        ] {
            let error = config.connect().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        }
    }
}
