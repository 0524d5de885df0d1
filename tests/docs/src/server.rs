//! An adapter for a database server: PostgreSQL, with one table and a pool.

use std::{collections::HashMap, error::Error as StdError, io, sync::Arc, time::Duration};

use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod};
use futures_util::future::join_all;
use larder_core::{
    Action, Applied, Bytes, Change, Condition, DeleteOptions, EntryStream, Error, ErrorKind, Expiry, Info,
    Key, ListOptions, Location, Purge, ReadOptions, Record, Result, Storage, Store, TouchOptions, Version,
    Versions, WriteOptions, Written, async_trait,
};
use larder_kit::{
    Batch, Configure, Interval, KeyRange, Limits, Ranged, StoreUrl, StoredEntry, Sweeper, Timeout, ranges,
};
use tokio::time::{error::Elapsed, timeout};
use tokio_postgres::{NoTls, Row, error::SqlState, types::ToSql};

const INFO: Info = Info::minimal(Config::ADAPTER)
    .with_expiry()
    .with_purge(Purge::Sweep)
    .with_versions(Versions::Unique)
    .with_ordered_listing()
    .with_persistence()
    .with_sharing()
    .with_max_value(256 << 20);

const LIMITS: Limits = Limits { entries: 500, bytes: 1 << 20 };

/// A storage in a table.
pub(crate) struct Table {
    pool: Pool,
    name: String,
    timeout: Duration,
    sweeper: Sweeper,
}

larder_kit::config! {
    /// The configuration of a table in PostgreSQL.
    #[derive(Debug)]
    pub struct Config for "example" {
        driver: tokio_postgres::Config,
    }

    options {
        /// The table.
        table: String = "sessions";
        /// The timeout of a statement.
        timeout: Timeout = "5s";
        /// The interval between removals of expired rows, or `off`.
        sweep: Interval = "1m";
    }
}

impl Config {
    /// Takes the server's address. The remaining options are the driver's.
    fn locate(&mut self, url: &mut StoreUrl) -> Result<()> {
        self.driver = url.driver_url(|_| true).parse().map_err(|_| {
            // The driver's message may quote the URL, and with it the password.
            Error::new(
                ErrorKind::InvalidConfig,
                "the URL is not a valid PostgreSQL URL; see the driver's documentation",
            )
        })?;
        Ok(())
    }

    /// Opens the table.
    ///
    /// # Errors
    ///
    /// The server's error, mapped to an [`ErrorKind`].
    pub async fn connect(self) -> Result<Store> {
        let timeout = self.timeout.get();
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let pool = Pool::builder(Manager::from_config(self.driver, NoTls, recycling))
            .wait_timeout(Some(timeout))
            .create_timeout(Some(timeout))
            .runtime(deadpool_postgres::Runtime::Tokio1)
            .build()
            .map_err(|_| Error::new(ErrorKind::InvalidConfig, "the pool cannot be created"))?;
        let name = format!("\"{}\"", self.table.replace('"', "\"\""));
        let purge = |table: Arc<Table>| async move { table.purge_expired().await };
        let table = Arc::new_cyclic(|table| {
            let sweeper = Sweeper::start(Self::ADAPTER, table.clone(), self.sweep, purge);
            Table { pool, name, timeout, sweeper }
        });
        table.set_up().await.map_err(Self::named)?;
        Ok(Store::from(table as Arc<dyn Storage>))
    }
}

/// Opens the table that `url` names: `postgres://user:password@host/database?table=sessions`, with the options of
/// [`Config`] and the driver's own.
///
/// # Errors
///
/// [`InvalidConfig`](ErrorKind::InvalidConfig) for a wrong URL; otherwise the server's error.
pub async fn connect(url: &str) -> Result<Store> {
    Config::from_url(url)?.connect().await
}

/// Whether an entry has not expired, by the server's clock.
const LIVE: &str = "(t.expires_at IS NULL OR t.expires_at > clock_timestamp())";
/// The deadline of an entry that is written now. `$N` is its time to live in milliseconds.
const DEADLINE: &str = "clock_timestamp() + $N * interval '1 millisecond'";
/// The time that is left, in milliseconds.
const LEFT: &str = "ceil(extract(epoch FROM t.expires_at - clock_timestamp()) * 1000)::bigint";

impl Table {
    async fn set_up(&self) -> Result<()> {
        let Self { name, .. } = self;
        // The collation "C" compares bytes, whatever the database's collation is.
        let sql = format!(
            "CREATE TABLE IF NOT EXISTS {name} (key text COLLATE \"C\" PRIMARY KEY, value bytea NOT NULL, \
             version bigint NOT NULL, expires_at timestamptz)"
        );
        let client = self.client().await?;
        let done = timeout(self.timeout, client.batch_execute(&sql)).await;
        in_time(client, done.map(|done| done.map_err(from_driver)))
    }

    /// Takes a connection from the pool. If this fails, nothing was sent.
    async fn client(&self) -> Result<Object> {
        self.pool.get().await.map_err(|error| match error {
            PoolError::Backend(error) => from_driver(error).not_applied(),
            PoolError::Timeout(_) => {
                Error::new(ErrorKind::Timeout, "no connection was free in time; increase the pool's size")
                    .not_applied()
            }
            _ => Error::new(ErrorKind::Unavailable, "the pool returned no connection").not_applied(),
        })
    }

    async fn query(
        &self,
        client: &Object,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>> {
        let sql = sql.replace("{t}", &self.name);
        // If this fails, the statement was not executed.
        let prepared = client.prepare_cached(&sql).await;
        let statement = prepared.map_err(|error| from_driver(error).not_applied())?;
        client.query(&statement, parameters).await.map_err(from_driver)
    }

    async fn put(
        &self,
        client: &Object,
        key: &Key,
        value: &[u8],
        expiry: Expiry,
        on: &Condition,
    ) -> Result<Written> {
        let version = Version::unique();
        let (token, millis) = (token(&version), millis(expiry));
        let (key, value) = (key.as_str(), value);
        let deadline = DEADLINE.replace("$N", "$4::double precision");
        let values = format!("SET value = $2, version = $3, expires_at = {deadline}");
        let insert = format!(
            "INSERT INTO {{t}} AS t (key, value, version, expires_at) VALUES ($1, $2, $3, {deadline}) \
             ON CONFLICT (key) DO UPDATE {values}"
        );
        let rows = match on {
            Condition::Any => {
                self.query(client, &format!("{insert} RETURNING 1"), &[&key, &value, &token, &millis]).await?
            }
            Condition::Absent => {
                let sql = format!("{insert} WHERE NOT {LIVE} RETURNING 1");
                self.query(client, &sql, &[&key, &value, &token, &millis]).await?
            }
            _ => {
                let sql = format!(
                    "UPDATE {{t}} t {values} WHERE t.key = $1 AND {LIVE} AND t.version = coalesce($5, t.version) \
                     RETURNING 1"
                );
                self.query(client, &sql, &[&key, &value, &token, &millis, &expected(on)]).await?
            }
        };
        if rows.is_empty() { Err(Error::conflict()) } else { Ok(Written::at(version)) }
    }

    async fn change(&self, client: &Object, change: &Change) -> Result<Applied> {
        let (key, expected) = (change.key.as_str(), expected(&change.condition));
        let entry = format!("t.key = $1 AND {LIVE} AND t.version = coalesce($2, t.version)");
        match &change.action {
            Action::Put(value, expiry) => {
                self.put(client, &change.key, value, *expiry, &change.condition).await.map(Applied::Put)
            }
            Action::Delete => {
                let sql = format!("DELETE FROM {{t}} t WHERE {entry} RETURNING 1");
                let rows = self.query(client, &sql, &[&key, &expected]).await?;
                change.applied(!rows.is_empty(), None)
            }
            Action::Touch(expiry) => {
                let deadline = DEADLINE.replace("$N", "$3::double precision");
                let sql = format!("UPDATE {{t}} t SET expires_at = {deadline} WHERE {entry} RETURNING 1");
                let rows = self.query(client, &sql, &[&key, &expected, &millis(*expiry)]).await?;
                change.applied(!rows.is_empty(), None)
            }
        }
    }

    async fn read_keys(&self, keys: &[&str], options: &ReadOptions) -> Result<Vec<Row>> {
        let columns = format!("t.key, t.value, t.version, {LEFT}");
        let deadline = DEADLINE.replace("$N", "$2::double precision");
        let read = format!("SELECT {columns} FROM {{t}} t WHERE t.key = ANY($1) AND {LIVE}");
        let touch = format!(
            "UPDATE {{t}} t SET expires_at = {deadline} WHERE t.key = ANY($1) AND {LIVE} RETURNING {columns}"
        );
        let client = self.client().await?;
        let rows = async {
            match options.touch {
                None => self.query(&client, &read, &[&keys]).await,
                Some(expiry) => self.query(&client, &touch, &[&keys, &millis(expiry)]).await,
            }
        };
        let done = timeout(self.timeout, rows).await;
        in_time(client, done)
    }

    async fn change_one(&self, change: &Change) -> Result<Applied> {
        let client = self.client().await?;
        let done = timeout(self.timeout, self.change(&client, change)).await;
        in_time(client, done)
    }
}

/// The result of work on `client`. After a timeout, the connection is closed.
fn in_time<T>(client: Object, done: std::result::Result<Result<T>, Elapsed>) -> Result<T> {
    done.unwrap_or_else(|_| {
        drop(Object::take(client));
        Err(Error::new(ErrorKind::Timeout, "the server did not answer in time"))
    })
}

#[async_trait]
impl Storage for Table {
    fn info(&self) -> Info {
        INFO
    }

    async fn read(&self, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
        self.read_keys(&[key.as_str()], options).await?.first().map(record).transpose()
    }

    async fn read_many(&self, keys: &[Key], options: &ReadOptions) -> Vec<Result<Option<Record>>> {
        let names: Vec<&str> = keys.iter().map(Key::as_str).collect();
        match self.read_keys(&names, options).await {
            Err(error) => keys.iter().map(|_| Err(error.clone())).collect(),
            Ok(rows) => {
                let name = |row: &Row| row.try_get::<_, String>(0).unwrap_or_default();
                let found: HashMap<String, &Row> = rows.iter().map(|row| (name(row), row)).collect();
                keys.iter().map(|key| found.get(key.as_str()).copied().map(record).transpose()).collect()
            }
        }
    }

    async fn write(&self, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        let change = Change::put(key.clone(), value, options.expiry).on(options.condition.clone());
        Ok(self.change_one(&change).await?.written())
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<bool> {
        let change = Change::delete(key.clone()).on(options.condition.clone());
        Ok(self.change_one(&change).await?.existed())
    }

    async fn touch(&self, key: &Key, expiry: Expiry, options: &TouchOptions) -> Result<bool> {
        let change = Change::touch(key.clone(), expiry).on(options.condition.clone());
        Ok(self.change_one(&change).await?.existed())
    }

    async fn apply(&self, changes: Vec<Change>) -> Vec<Result<Applied>> {
        let mut batch = Batch::new(changes, LIMITS);
        while let Some(round) = batch.next_round() {
            let outcome = match self.client().await {
                Err(error) => Err(error),
                // The driver sends all of them before it waits, so this is one round trip.
                Ok(client) => {
                    let changes = join_all(round.changes().iter().map(|change| self.change(&client, change)));
                    let done = timeout(self.timeout, changes).await;
                    in_time(client, done.map(Ok))
                }
            };
            batch.done(round, outcome);
        }
        batch.into_results()
    }

    fn list(self: Arc<Self>, options: ListOptions) -> EntryStream {
        ranges(self, options, 500)
    }

    async fn purge_expired(&self) -> Result<u64> {
        let sql = format!("DELETE FROM {{t}} t WHERE NOT {LIVE} RETURNING 1");
        let client = self.client().await?;
        let done = timeout(self.timeout, self.query(&client, &sql, &[])).await;
        in_time(client, done).map(|rows| rows.len() as u64)
    }

    async fn location(&self) -> Result<Option<Location>> {
        let client = self.client().await?;
        let sql = "SELECT format('example:%s/%s', system_identifier, $1::text::regclass::oid) \
                   FROM pg_control_system()";
        let done = timeout(self.timeout, self.query(&client, sql, &[&self.name])).await;
        let rows = in_time(client, done)?;
        Ok(rows.first().and_then(|row| row.try_get::<_, String>(0).ok()).map(Location::new))
    }

    async fn close(&self) -> Result<()> {
        self.sweeper.stop();
        self.pool.close();
        Ok(())
    }
}

impl Ranged for Table {
    async fn read_range(&self, range: KeyRange<'_>) -> Result<Vec<StoredEntry>> {
        let columns = if range.values { "t.value, t.version" } else { "NULL::bytea, 0::bigint" };
        let sql = format!(
            "SELECT t.key, {columns}, {LEFT} FROM {{t}} t WHERE t.key >= $1 AND NOT ($2 AND t.key = $1) \
             AND ($3::text IS NULL OR t.key < $3) AND {LIVE} ORDER BY t.key LIMIT $4"
        );
        // The server returns only texts.
        let from = str::from_utf8(range.from).map_err(|_| corrupt())?;
        let client = self.client().await?;
        let page: [&(dyn ToSql + Sync); 4] = [&from, &range.after, &range.end, &(range.limit as i64)];
        let done = timeout(self.timeout, self.query(&client, &sql, &page)).await;
        let entry = |row: &Row| {
            let key: String = row.try_get(0).map_err(|_| corrupt())?;
            Ok((key.into_bytes(), range.values.then(|| record(row))))
        };
        in_time(client, done)?.iter().map(entry).collect()
    }
}

fn record(row: &Row) -> Result<Record> {
    let value: Vec<u8> = row.try_get(1).map_err(|_| corrupt())?;
    let version: i64 = row.try_get(2).map_err(|_| corrupt())?;
    let left: Option<i64> = row.try_get(3).map_err(|_| corrupt())?;
    // The row was live when the server looked, so at least a millisecond was left.
    let expiry = left.map_or(Expiry::Never, |millis| Expiry::after_millis(millis.max(1).cast_unsigned()));
    Ok(Record::at(value.into(), Version::from_token(version.cast_unsigned())).expires(expiry))
}

fn corrupt() -> Error {
    Error::new(ErrorKind::Corrupt, "the row was not written by Larder; delete it, or use another table")
}

fn token(version: &Version) -> i64 {
    version.as_token().unwrap_or_default().cast_signed()
}

/// The version that a condition requires; `None` matches any version.
fn expected(condition: &Condition) -> Option<i64> {
    match condition {
        Condition::At(version) => Some(token(version)),
        _ => None,
    }
}

fn millis(expiry: Expiry) -> Option<f64> {
    expiry.as_millis().map(|millis| millis as f64)
}

/// Maps the driver's error. Keeps the code, but no text that could quote a key or a value.
fn from_driver(error: tokio_postgres::Error) -> Error {
    let Some(server) = error.as_db_error() else {
        let is_io = error.source().is_some_and(<dyn StdError>::is::<io::Error>);
        let kind = if is_io || error.is_closed() { ErrorKind::Unavailable } else { ErrorKind::Other };
        return Error::new(kind, "the connection to the server failed");
    };
    let (kind, message) = match server.code() {
        &SqlState::DISK_FULL => (ErrorKind::StorageFull, "the server's disk is full"),
        &SqlState::INVALID_PASSWORD => {
            (ErrorKind::PermissionDenied, "the server refused this user or password")
        }
        &SqlState::INSUFFICIENT_PRIVILEGE => (ErrorKind::PermissionDenied, "the user lacks a permission"),
        &SqlState::UNDEFINED_TABLE => (ErrorKind::InvalidConfig, "the table does not exist"),
        // Shutdown, start-up, no free connection, a deadlock: the same call may work later.
        code if ["57", "53", "40", "08"].iter().any(|class| code.code().starts_with(class)) => {
            (ErrorKind::Unavailable, "the server cannot do this now")
        }
        _ => (ErrorKind::Other, "the server refused the statement"),
    };
    Error::new(kind, message).with_source(format!("SQLSTATE {}", server.code().code()))
}
