//! Runs statements on connections of the pool.

use std::{
    sync::{Arc, Mutex, Weak},
    time::{Duration, SystemTime},
};

use deadpool_postgres::Pool;
use larder_core::{Error, ErrorKind, Info, Location, Result};
use larder_kit::Configure;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::{Row, types::Type};

use crate::{
    backend::{END, IDENTIFY, Identities, Identity, Suspects, lock},
    config::{Config, Statements},
    error,
    pool::{Canceller, Checkout, Params},
    sql::{Query, query},
    tls::Connector,
};

/// The number of reads that share a connection before another one is taken. Each connection has its own server process:
/// with 48, so on two connections, 64 tasks read 1.15 times as fast as on one.
const READS_PER_CONNECTION: usize = 48;
/// The maximum number of connections for reads; the others are left for writes.
const MAX_READ_CONNECTIONS: usize = 4;
/// The maximum number of times that a statement runs if the server rolls it back because of others.
const ATTEMPTS: u32 = 8;

/// The identifier of the database cluster, which restarts do not change, and those of the database and the table. Null
/// if the table is missing.
const LOCATE: &str = "SELECT \
     'postgres:' || s.system_identifier::text || '/' || d.oid::text || '/' || to_regclass($1)::oid::text \
     FROM pg_control_system() AS s, pg_catalog.pg_database AS d WHERE d.datname = current_database()";

/// The pool, and the state of its connections.
///
/// A write has its own connection: it may wait for another's lock, and later statements on the same connection would
/// wait with it. Reads never wait for locks, so concurrent reads share connections, on which they are pipelined.
pub(crate) struct Driver {
    pool: Pool,
    statements: Statements,
    /// Whether every connection has its own server process, which this user may end. Then no change happens late: see
    /// [`end_suspects`](Self::end_suspects).
    fenced: bool,
    identities: Identities,
    canceller: Arc<Canceller>,
    /// The connections that reads share, and the times when they were taken.
    readers: Mutex<Vec<(Weak<Checkout>, Instant)>>,
    opening: tokio::sync::Mutex<()>,
}

impl Driver {
    /// Connects for the first time, and detects whether connections of this pool are fenced. The caller's own pool has
    /// no `connector`.
    pub(crate) async fn open(
        pool: Pool,
        connector: Option<Connector>,
        statements: Statements,
        timeout: Duration,
    ) -> Result<Self> {
        let mut driver = Self {
            pool,
            statements,
            fenced: false,
            identities: Identities::default(),
            canceller: Arc::new(Canceller { timeout, connector, suspects: Suspects::default() }),
            readers: Mutex::default(),
            opening: tokio::sync::Mutex::default(),
        };
        driver.fenced = driver.take(false, Instant::now()).await?.identity.backend.is_some();
        Ok(driver)
    }

    /// Closes the pool, unless it is the caller's own.
    pub(crate) fn close(&self) {
        if self.canceller.connector.is_some() {
            self.pool.close();
        }
    }

    /// Returns the capabilities that all storages on this server have.
    pub(crate) fn info(&self) -> Info {
        let info = Info::minimal(Config::ADAPTER).with_persistence().with_sharing();
        if self.fenced { info.with_fencing() } else { info }
    }

    /// Sends a statement and waits for the answer.
    pub(crate) async fn ping(&self) -> Result<()> {
        self.query(&query("SELECT 1", &[]), &[]).await.map(drop)
    }

    /// Returns the location of the table, whose name is SQL. `None` if the server does not reveal it or the table does
    /// not exist.
    pub(crate) async fn location(&self, table: &str) -> Result<Option<Location>> {
        let located = self.query(&query(LOCATE, &[Type::TEXT]), &[&table]).await;
        let rows = match located.as_ref().map_err(Error::kind) {
            // This user may not call the function, or the server does not have it.
            Err(ErrorKind::PermissionDenied | ErrorKind::InvalidConfig) => return Ok(None),
            _ => located?,
        };
        let id: Option<String> = rows.first().and_then(|row| row.try_get(0).ok());
        Ok(id.map(Location::new))
    }

    /// Runs a statement that only reads. Returns its rows.
    pub(crate) async fn query(&self, query: &Query, params: Params<'_>) -> Result<Vec<Row>> {
        self.run(false, query, params).await
    }

    /// Runs a statement that changes rows. Returns its rows.
    pub(crate) async fn change(&self, query: &Query, params: Params<'_>) -> Result<Vec<Row>> {
        self.run(true, query, params).await
    }

    /// Runs several statements without parameters in one message, as one transaction. The inner error is the server's.
    pub(crate) async fn batch(&self, sql: &str) -> Result<Result<(), tokio_postgres::Error>> {
        let begun = Instant::now();
        let checkout = self.take(true, begun).await?;
        checkout.run(begun, checkout.client().batch_execute(sql)).await
    }

    async fn run(&self, changes: bool, query: &Query, params: Params<'_>) -> Result<Vec<Row>> {
        let begun = Instant::now();
        let mut attempts = ATTEMPTS;
        loop {
            // Not applied: nothing was sent before, or the server has rolled it back.
            let checkout = self.check_out(changes, begun).await.map_err(Error::not_applied)?;
            attempts -= 1;
            let prepared = checkout.run(begun, checkout.prepare(query)).await.map_err(Error::not_applied)?;
            let (sent, answer) = match prepared {
                Ok(prepared) => (true, checkout.run(begun, checkout.send(prepared, query, params)).await?),
                Err(error) => (false, Err(error)),
            };
            match answer {
                Ok(rows) => return Ok(rows),
                Err(error) if attempts > 0 && error::may_run_again(&error) => {}
                Err(error) if sent => return Err(error::from_driver(&error)),
                Err(error) => return Err(error::from_driver(&error).not_applied()),
            }
        }
    }

    /// Takes a connection: for a change its own, for a read one that others may share.
    async fn check_out(&self, changes: bool, begun: Instant) -> Result<Arc<Checkout>> {
        if changes {
            let checkout = Arc::new(self.take(true, begun).await?);
            self.end_suspects(&checkout, begun).await?;
            return Ok(checkout);
        }
        if let Some(checkout) = self.join(begun) {
            return Ok(checkout);
        }
        // One at a time, so that many readers do not empty the pool at once.
        let _opening = self.opening.lock().await;
        if let Some(checkout) = self.join(begun) {
            return Ok(checkout);
        }
        let checkout = Arc::new(self.take(false, begun).await?);
        lock(&self.readers).push((Arc::downgrade(&checkout), Instant::now()));
        Ok(checkout)
    }

    /// Returns a connection that other readers use, if a read that began at `begun` may join one.
    fn join(&self, begun: Instant) -> Option<Arc<Checkout>> {
        let mut readers = lock(&self.readers);
        readers.retain(|(checkout, _)| checkout.strong_count() > 0);
        let status = self.pool.status();
        // If others wait, only reads that have waited as well may join, so that the connection becomes free.
        let others_wait = status.size + status.waiting > status.max_size;
        let open = readers.iter().filter(|(_, since)| !others_wait || begun < *since);
        let usable =
            open.filter_map(|(checkout, _)| checkout.upgrade()).filter(|checkout| checkout.is_usable());
        let calmest = usable.min_by_key(Arc::strong_count)?;
        let most = MAX_READ_CONNECTIONS.min(status.max_size.div_ceil(2));
        // The count includes the reference made here.
        (readers.len() >= most || Arc::strong_count(&calmest) <= READS_PER_CONNECTION).then_some(calmest)
    }

    async fn take(&self, changes: bool, begun: Instant) -> Result<Checkout> {
        let pool = self.pool.clone();
        let mut connecting = Box::pin(async move { pool.get().await });
        let Ok(object) = timeout(self.canceller.left(begun), &mut connecting).await else {
            // The connection is opened for a later call. If this call cancelled it, calls with short timeouts would
            // never get a connection.
            tokio::spawn(connecting);
            let most = self.canceller.timeout;
            return Err(Error::new(
                ErrorKind::Timeout,
                format!("no connection became free within {most:?} (the option `timeout`)"),
            ));
        };
        let mut checkout =
            Checkout::new(object.map_err(error::from_pool)?, changes, Arc::clone(&self.canceller));
        checkout.identity = self.identity(&checkout, begun).await?;
        Ok(checkout)
    }

    /// Returns the identity of the connection. Asks the server if the connection is new.
    async fn identity(&self, checkout: &Checkout, begun: Instant) -> Result<Identity> {
        let client = checkout.client();
        if let Some(identity) = self.identities.get(client) {
            return Ok(identity);
        }
        let identify = query(IDENTIFY, &[]);
        let mut identity = match checkout.run(begun, checkout.send(None, &identify, &[])).await? {
            Ok(rows) => Identity::new(&rows, &client.cancel_token()).await?,
            // This user may not read it: assume nothing.
            Err(error) if error::state(&error).starts_with("42") => Identity::default(),
            Err(error) => return Err(error::from_driver(&error)),
        };
        identity.prepares &= self.statements == Statements::Prepared;
        if self.fenced && identity.backend.is_none() {
            return Err(Error::new(
                ErrorKind::InvalidConfig,
                "a new connection uses a pooler, or this user may no longer end its own connections, unlike when \
                 the storage was opened: open it again",
            ));
        }
        self.identities.insert(client, identity);
        Ok(identity)
    }

    /// Ensures that changes whose callers got an error cannot happen from now on. The server must confirm that the
    /// processes that may still receive or run such a change have ended.
    async fn end_suspects(&self, checkout: &Checkout, begun: Instant) -> Result<()> {
        let Some(backend) = checkout.identity.backend else { return Ok(()) };
        let suspects = self.canceller.suspects.of(backend.server);
        if suspects.is_empty() {
            return Ok(());
        }
        let (pids, started): (Vec<i32>, Vec<SystemTime>) =
            suspects.iter().map(|suspect| (suspect.pid, suspect.started)).unzip();
        let end = query(END, &[Type::INT4_ARRAY, Type::TIMESTAMPTZ_ARRAY]);
        let end_all = async {
            let mut pause = Duration::from_millis(1);
            while !checkout.send(None, &end, &[&pids, &started]).await?.is_empty() {
                // The processes end asynchronously, and the server does not report the end.
                sleep(pause).await;
                pause = (pause * 2).min(Duration::from_millis(100));
            }
            Ok(())
        };
        let ended = checkout.run(begun, end_all).await;
        ended.and_then(|ended| ended.map_err(|error| error::from_driver(&error))).map_err(|error| {
            Error::new(
                ErrorKind::Unavailable,
                "this change was not applied: an earlier change was abandoned, and the server has not yet \
                 confirmed that its connection has ended; try again",
            )
            .with_source(error)
        })?;
        self.canceller.suspects.remove(&suspects);
        Ok(())
    }
}
