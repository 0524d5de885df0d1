//! How a storage is opened.

use std::sync::Arc;

use deadpool_postgres::{Pool, Runtime};
use larder_core::{Error, ErrorKind, Operation, Result, Storage, Store};
use larder_kit::{GroupCommit, Interval};

use crate::{
    PostgresStorage,
    config::{Layout, PostgresBuilder, Source, ValueFormat, named},
    driver::Driver,
    error::from_pool,
    grammy::{self, GrammyStorage},
    schema::{Schema, Shape},
    tls,
};

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
        self.table_schema().sql()
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
        self.check()?;
        let driver = self.driver().await?;
        let schema = self.table_schema();
        if self.existing {
            schema.find(&driver).await?;
        } else if self.setup {
            schema.set_up(&driver).await.map_err(|error| error.with_operation(Operation::Setup))?;
        }
        let table = schema.table.quoted();
        Ok(match self.layout {
            Layout::Larder => {
                let sweep = if self.existing { Interval::OFF } else { self.sweep };
                self.store(PostgresStorage::new(driver, &table, self.values.unwrap_or_default(), sweep))
            }
            Layout::Grammy => self.store(Arc::new(GrammyStorage::new(driver, &table))),
        })
    }

    fn store<S: Storage>(&self, storage: Arc<S>) -> Store {
        if self.group_commit {
            return GroupCommit::<S>::builder(storage).max_batches(self.max_batches).build().into();
        }
        Store::from(storage as Arc<dyn Storage>)
    }

    fn table_schema(&self) -> Schema {
        let table = self.table_name();
        let larder = |format| Shape::larder(&table, format);
        let shape = match self.layout {
            Layout::Larder => larder(self.values.unwrap_or_default()),
            Layout::Grammy => grammy::shape(&table),
        };
        let mut known: Vec<Shape> = ValueFormat::ALL.iter().map(|(_, format)| larder(*format)).collect();
        known.push(grammy::shape(&table));
        Schema { table, shape, known }
    }

    async fn driver(&self) -> Result<Driver> {
        let Self { statements, timeout, connect_timeout, .. } = *self;
        let mut config = match &self.source {
            Source::Pool(pool) => {
                return Driver::open(pool.clone(), None, statements, timeout).await;
            }
            Source::Config(config) => (**config).clone(),
        };
        let connector = tls::connector(self.tls, self.root_certificates.as_ref())?;
        config.connect_timeout(connect_timeout);
        // The driver's timeout is for the socket alone; a server may take that and then say nothing.
        let hosts = u32::try_from(config.get_hosts().len().max(1)).unwrap_or(u32::MAX);
        let pool = Pool::builder(tls::manager(config, self.tls, &connector))
            .max_size(self.pool_size)
            .wait_timeout(Some(timeout))
            .create_timeout(Some(connect_timeout.saturating_mul(hosts)))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|_| Error::new(ErrorKind::Other, "the pool of connections could not be built"))?;
        // The first connection has as long as `connect_timeout` lets it.
        drop(pool.get().await.map_err(from_pool)?);
        Driver::open(pool, Some(connector), statements, timeout).await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::ValueFormat;

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
