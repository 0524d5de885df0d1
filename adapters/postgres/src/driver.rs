//! Connections and statements: how a query gets to the server and back.

use std::{
    fmt,
    future::Future,
    pin::pin,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, SystemTime},
};

use deadpool_postgres::{ClientWrapper, Pool};
use futures_util::TryStreamExt;
use larder_core::{Error, ErrorKind, Result};
use tokio::time::timeout;
use tokio_postgres::{Row, types::ToSql};

use crate::{
    backend::{self, Backend, Identities, Identity, Suspects},
    config::Statements,
    error::{self, After},
    lease::{Lease, Salvage},
    queries::Query,
    tls::Connector,
    unlogged::Unlogged,
};

pub(crate) type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

/// How many reads share a connection before another one is taken.
const READS_PER_CONNECTION: usize = 16;
/// How many connections reads take at most; the others are left to writes.
const MAX_READ_CONNECTIONS: usize = 4;
/// How often a statement is run that the server undoes for the sake of others.
const ATTEMPTS: u32 = 8;

/// The pool, and how to use it.
///
/// A write has a connection to itself: it may have to wait for another's lock, and whatever is sent
/// after it on the same connection would wait with it. Reads never wait for locks, so concurrent ones
/// share connections, where they travel back to back without waiting for each other's answers.
pub(crate) struct Driver {
    pool: Pool,
    /// Whether the pool is ours to close.
    owned: bool,
    statements: Statements,
    /// For a statement.
    timeout: Duration,
    /// For a connection, be it given back by another call or made anew.
    patience: Duration,
    /// Whether every connection has a process of its own at the server, which can be ended.
    fenced: bool,
    identities: Identities,
    identify: Query,
    end: Query,
    salvage: Arc<Salvage>,
    readers: Mutex<Vec<Weak<Lease>>>,
    opening: tokio::sync::Mutex<()>,
}

/// Whether an operation needs a connection to itself.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Shared,
    Exclusive,
}

/// What a caller wants of a statement.
#[derive(Clone, Copy)]
enum Wanted {
    Count,
    Rows,
}

enum Outcome {
    Count(u64),
    Rows(Vec<Row>),
}

impl Outcome {
    fn rows(self) -> Vec<Row> {
        match self {
            Self::Rows(rows) => rows,
            Self::Count(_) => Vec::new(),
        }
    }
}

impl Driver {
    pub(crate) fn new(
        pool: Pool,
        owned: bool,
        statements: Statements,
        timeout: Duration,
        patience: Duration,
        connector: Option<Connector>,
    ) -> Self {
        Self {
            pool,
            owned,
            statements,
            timeout,
            patience,
            fenced: false,
            identities: Identities::default(),
            identify: backend::query(),
            end: backend::end(),
            salvage: Arc::new(Salvage { timeout, connector, suspects: Suspects::default() }),
            readers: Mutex::default(),
            opening: tokio::sync::Mutex::default(),
        }
    }

    /// Connects for the first time, and finds out what connections of this pool are like.
    pub(crate) async fn open(&mut self) -> Result<()> {
        let identity = self.lease(Use::Shared).await?.identity();
        self.fenced = identity.backend.is_some();
        Ok(())
    }

    /// Whether nothing happens late: see [`settle`](Self::settle).
    pub(crate) const fn is_fenced(&self) -> bool {
        self.fenced
    }

    pub(crate) fn close(&self) {
        if self.owned {
            self.pool.close();
        }
    }

    /// Runs a statement that changes rows; returns how many.
    pub(crate) async fn execute(&self, query: &Query, params: Params<'_>) -> Result<u64> {
        match self.run(Use::Exclusive, Wanted::Count, query, params).await? {
            Outcome::Count(count) => Ok(count),
            Outcome::Rows(rows) => Ok(rows.len() as u64),
        }
    }

    /// Runs a statement that changes rows and returns some.
    pub(crate) async fn change(&self, query: &Query, params: Params<'_>) -> Result<Vec<Row>> {
        self.run(Use::Exclusive, Wanted::Rows, query, params).await.map(Outcome::rows)
    }

    /// Runs a statement that only reads.
    pub(crate) async fn query(&self, query: &Query, params: Params<'_>) -> Result<Vec<Row>> {
        self.run(Use::Shared, Wanted::Rows, query, params).await.map(Outcome::rows)
    }

    async fn send(
        &self,
        client: &ClientWrapper,
        identity: Identity,
        wanted: Wanted,
        query: &Query,
        params: Params<'_>,
    ) -> Result<Outcome, tokio_postgres::Error> {
        let Query { text, types } = query;
        let params = params.iter().map(|param| Unlogged(*param));
        let rows = match self.statements {
            // By name only where the server itself hears the name.
            Statements::Prepared if identity.direct => {
                let statement = client.prepare_typed_cached(text, types).await?;
                client.query_raw(&statement, params).await?
            }
            Statements::Prepared | Statements::Unnamed => {
                client.query_typed_raw(text, params.zip(types.iter().cloned())).await?
            }
        };
        let mut rows = pin!(rows);
        match wanted {
            Wanted::Rows => rows.try_collect().await.map(Outcome::Rows),
            Wanted::Count => {
                while rows.try_next().await?.is_some() {}
                Ok(Outcome::Count(rows.rows_affected().unwrap_or(0)))
            }
        }
    }

    /// Runs several statements, without parameters, as one transaction in one message.
    pub(crate) async fn batch(&self, sql: &str) -> Result<(), BatchError> {
        let lease = self.lease(Use::Exclusive).await.map_err(BatchError::before)?;
        let client = lease.client().map_err(BatchError::before)?;
        let outcome = self.within(&lease, true, client.batch_execute(sql)).await;
        outcome.map_err(BatchError::before)?.map_err(|error| {
            if error::after(&error) == After::Discard {
                lease.condemn();
                lease.suspect();
            }
            BatchError {
                state: error.code().map(|code| code.code().to_owned()),
                error: error::from_driver(&error),
            }
        })
    }

    async fn run(&self, kind: Use, wanted: Wanted, query: &Query, params: Params<'_>) -> Result<Outcome> {
        let mut attempt = 1;
        let changes = kind == Use::Exclusive;
        loop {
            let lease = self.lease(kind).await?;
            let sent = self.send(lease.client()?, lease.identity(), wanted, query, params);
            let error = match self.within(&lease, changes, sent).await? {
                Ok(outcome) => return Ok(outcome),
                Err(error) => error,
            };
            let after = error::after(&error);
            if matches!(after, After::Discard | After::AgainElsewhere) {
                lease.condemn();
            }
            if changes && after == After::Discard {
                lease.suspect();
            }
            // Neither leaves anything done: the statement is a transaction of its own.
            let again = matches!(after, After::Again | After::AgainElsewhere);
            if !again || attempt >= ATTEMPTS {
                return Err(error::from_driver(&error));
            }
            attempt += 1;
        }
    }

    async fn within<T>(&self, lease: &Arc<Lease>, changes: bool, work: impl Future<Output = T>) -> Result<T> {
        let under_way = lease.under_way(changes);
        match timeout(self.timeout, work).await {
            Ok(done) => {
                under_way.ended();
                Ok(done)
            }
            Err(_) => {
                self.give_up(lease);
                Err(Error::new(
                    ErrorKind::Timeout,
                    format!("the server did not answer within {:?} (the option `timeout`)", self.timeout),
                ))
            }
        }
    }

    /// Makes sure that no earlier change happens from now on that its caller has been told has failed.
    /// The server must confirm that the processes have ended that may still receive or run one.
    async fn settle(&self, lease: &Arc<Lease>) -> Result<()> {
        let Some(backend) = lease.identity().backend else { return Ok(()) };
        let suspects = self.salvage.suspects.end(backend.server);
        if suspects.is_empty() {
            return Ok(());
        }
        let end_all = self.end_all(lease.client()?, lease.identity(), &suspects);
        let ended = match self.within(lease, false, end_all).await {
            Ok(Err(error)) => {
                if error::after(&error) == After::Discard {
                    lease.condemn();
                }
                Err(error::from_driver(&error))
            }
            Ok(Ok(())) => Ok(()),
            Err(timed_out) => Err(timed_out),
        };
        ended.map_err(|error| {
            Error::new(
                ErrorKind::Unavailable,
                "this change was not applied: an earlier one was given up, and the server has not confirmed \
                 yet that its connection has ended; try again",
            )
            .with_source(error)
        })?;
        self.salvage.suspects.remove(&suspects);
        Ok(())
    }

    async fn end_all(
        &self,
        client: &ClientWrapper,
        identity: Identity,
        suspects: &[Backend],
    ) -> Result<(), tokio_postgres::Error> {
        let pids: Vec<i32> = suspects.iter().map(|backend| backend.pid).collect();
        let started: Vec<SystemTime> = suspects.iter().map(|backend| backend.started).collect();
        let mut pause = Duration::from_millis(1);
        loop {
            let params: Params<'_> = &[&pids, &started];
            let answer = self.send(client, identity, Wanted::Rows, &self.end, params).await?;
            if answer.rows().is_empty() {
                return Ok(());
            }
            // It takes a moment, and the server says nothing when it is over.
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(100));
        }
    }

    /// Asks the server, at most, to stop what has timed out: a statement that waits for a lock would
    /// otherwise still happen, whenever the lock is free.
    fn give_up(&self, lease: &Arc<Lease>) {
        let alone = {
            // Nobody joins in between.
            let _readers = self.lock_readers();
            lease.condemn();
            Arc::strong_count(lease) == 1
        };
        // What others run on the connection may yet be answered: the last of them cancels.
        let (true, Ok(client)) = (alone, lease.client()) else {
            return;
        };
        let (salvage, token) = (Arc::clone(&self.salvage), client.cancel_token());
        tokio::spawn(async move { salvage.cancel(&token).await });
    }

    async fn lease(&self, kind: Use) -> Result<Arc<Lease>> {
        let lease = async {
            if kind == Use::Exclusive {
                return self.take().await.map(Arc::new);
            }
            if let Some(lease) = self.join() {
                return Ok(lease);
            }
            // One at a time, so that a crowd of readers does not empty the pool at once.
            let _opening = self.opening.lock().await;
            if let Some(lease) = self.join() {
                return Ok(lease);
            }
            let lease = Arc::new(self.take().await?);
            self.lock_readers().push(Arc::downgrade(&lease));
            Ok(lease)
        };
        let lease = timeout(self.patience, lease).await.map_err(|_| {
            Error::new(ErrorKind::Timeout, format!("no connection became free within {:?}", self.patience))
        })??;
        if kind == Use::Exclusive {
            self.settle(&lease).await?;
        }
        Ok(lease)
    }

    async fn take(&self) -> Result<Lease> {
        let object = self.pool.get().await.map_err(error::from_pool)?;
        let mut lease = Lease::new(object, Arc::clone(&self.salvage));
        let identity = self.identity(&lease).await?;
        lease.identify(identity);
        Ok(lease)
    }

    /// Returns the facts about the connection. Asks the server if the connection is new.
    async fn identity(&self, lease: &Lease) -> Result<Identity> {
        let client = lease.client()?;
        if let Some(identity) = self.identities.get(client) {
            return Ok(identity);
        }
        let under_way = lease.under_way(false);
        let answer = self.send(client, Identity::default(), Wanted::Rows, &self.identify, &[]).await;
        under_way.ended();
        let identity = match answer {
            Ok(answer) => Identity::new(&answer.rows(), &client.cancel_token()).await?,
            // It is not for this user to know: nothing is taken for granted then.
            Err(error) if error.code().is_some_and(|code| code.code().starts_with("42")) => {
                Identity::default()
            }
            Err(error) => {
                lease.condemn();
                return Err(error::from_driver(&error));
            }
        };
        if self.fenced && identity.backend.is_none() {
            return Err(Error::new(
                ErrorKind::InvalidConfig,
                "a new connection goes through a pooler, or this user may no longer end its own connections, \
                 unlike when the storage was opened: open it again",
            ));
        }
        self.identities.insert(client, identity);
        Ok(identity)
    }

    /// A connection that other readers are using, if there is one with room.
    fn join(&self) -> Option<Arc<Lease>> {
        let mut readers = self.lock_readers();
        readers.retain(|lease| lease.strong_count() > 0);
        let usable = readers.iter().filter_map(Weak::upgrade).filter(|lease| lease.is_usable());
        let calmest = usable.min_by_key(Arc::strong_count)?;
        let most = MAX_READ_CONNECTIONS.min(self.pool.status().max_size.div_ceil(2));
        // The count includes the one just made here.
        (readers.len() >= most || Arc::strong_count(&calmest) <= READS_PER_CONNECTION).then_some(calmest)
    }

    fn lock_readers(&self) -> std::sync::MutexGuard<'_, Vec<Weak<Lease>>> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver")
            .field("pool", &self.pool.status())
            .field("owned", &self.owned)
            .field("statements", &self.statements)
            .field("fenced", &self.fenced)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// Why set-up failed, with the SQLSTATE if the server said it.
#[derive(Debug)]
pub(crate) struct BatchError {
    pub(crate) state: Option<String>,
    pub(crate) error: Error,
}

impl BatchError {
    const fn before(error: Error) -> Self {
        Self { state: None, error }
    }
}
