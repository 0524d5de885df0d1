//! Connections and statements: how a query gets to the server and back.

use std::{
    pin::pin,
    sync::{Arc, Mutex, Weak},
    time::{Duration, SystemTime},
};

use deadpool_postgres::{ClientWrapper, Pool};
use futures_util::TryStreamExt;
use larder_core::{Condition, Error, ErrorKind, Info, Result};
use tokio::time::timeout;
use tokio_postgres::{
    Row,
    types::{ToSql, Type},
};

use crate::{
    backend::{END, IDENTIFY, Identities, Identity, Suspects, lock},
    checkout::{Canceller, Checkout},
    config::{NAME, Statements},
    error,
    sql::{Query, query},
    tls::Connector,
    value::Unlogged,
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
    statements: Statements,
    /// For a connection, be it returned by another call or new.
    patience: Duration,
    /// Whether every connection has a process of its own at the server, which can be ended. Then nothing
    /// happens late: see [`settle`](Self::settle).
    fenced: bool,
    identities: Identities,
    canceller: Arc<Canceller>,
    readers: Mutex<Vec<Weak<Checkout>>>,
    opening: tokio::sync::Mutex<()>,
}

/// The server's answer to a statement.
pub(crate) struct Answer {
    pub(crate) rows: Vec<Row>,
    /// How many rows the statement changed.
    pub(crate) changed: u64,
}

impl Driver {
    /// Connects for the first time, and finds out what connections of this pool are like. `connector`:
    /// if the pool is the caller's, it is absent.
    pub(crate) async fn open(
        pool: Pool,
        connector: Option<Connector>,
        statements: Statements,
        timeout: Duration,
        patience: Duration,
    ) -> Result<Self> {
        let mut driver = Self {
            pool,
            statements,
            patience,
            fenced: false,
            identities: Identities::default(),
            canceller: Arc::new(Canceller { timeout, connector, suspects: Suspects::default() }),
            readers: Mutex::default(),
            opening: tokio::sync::Mutex::default(),
        };
        driver.fenced = driver.check_out(false).await?.identity.backend.is_some();
        Ok(driver)
    }

    /// Closes the pool if it is ours.
    pub(crate) fn close(&self) {
        if self.canceller.connector.is_some() {
            self.pool.close();
        }
    }

    /// What every storage on this server does natively.
    pub(crate) fn info(&self) -> Info {
        let info = Info::minimal(NAME).with_persistence().with_sharing();
        if self.fenced { info.with_fencing() } else { info }
    }

    /// Asks for an answer.
    pub(crate) async fn ping(&self) -> Result<()> {
        self.query(&query("SELECT 1", &[]), &[]).await.map(drop)
    }

    /// Runs a statement that changes one row if the condition holds; returns whether it has.
    pub(crate) async fn change_entry(
        &self,
        query: &Query,
        condition: &Condition,
        params: Params<'_>,
    ) -> Result<bool> {
        let changed = self.change(query, params).await?.changed > 0;
        if changed || *condition == Condition::Any { Ok(changed) } else { Err(Error::conflict()) }
    }

    /// Runs a statement that changes rows.
    pub(crate) async fn change(&self, query: &Query, params: Params<'_>) -> Result<Answer> {
        self.run(true, query, params).await
    }

    /// Runs a statement that only reads.
    pub(crate) async fn query(&self, query: &Query, params: Params<'_>) -> Result<Vec<Row>> {
        Ok(self.run(false, query, params).await?.rows)
    }

    async fn send(
        &self,
        client: &ClientWrapper,
        identity: Identity,
        query: &Query,
        params: Params<'_>,
    ) -> Result<Answer, tokio_postgres::Error> {
        let Query { text, types } = query;
        let params = params.iter().map(|param| Unlogged(*param));
        // By name only where the server itself hears the name.
        let rows = if self.statements == Statements::Prepared && identity.direct {
            let statement = client.prepare_typed_cached(text, types).await?;
            client.query_raw(&statement, params).await?
        } else {
            client.query_typed_raw(text, params.zip(types.iter().cloned())).await?
        };
        let mut stream = pin!(rows);
        let rows = stream.as_mut().try_collect().await?;
        Ok(Answer { rows, changed: stream.rows_affected().unwrap_or(0) })
    }

    /// Runs several statements, without parameters, as one transaction in one message. The inner error
    /// is the server's.
    pub(crate) async fn batch(&self, sql: &str) -> Result<Result<(), tokio_postgres::Error>> {
        let checkout = self.check_out(true).await?;
        checkout.run(checkout.client()?.batch_execute(sql)).await
    }

    async fn run(&self, changes: bool, query: &Query, params: Params<'_>) -> Result<Answer> {
        let mut attempts = ATTEMPTS;
        loop {
            // Nothing was sent yet, or nothing that the server has not undone.
            let checkout = self.check_out(changes).await.map_err(Error::not_applied)?;
            let sent = self.send(checkout.client()?, checkout.identity, query, params);
            attempts -= 1;
            match checkout.run(sent).await? {
                Ok(answer) => return Ok(answer),
                Err(error) if attempts > 0 && error::may_run_again(&error) => {}
                Err(error) => return Err(error::from_driver(&error)),
            }
        }
    }

    /// Makes sure that no earlier change happens from now on that its caller has been told has failed.
    /// The server must confirm that the processes have ended that may still receive or run one.
    async fn settle(&self, checkout: &Checkout) -> Result<()> {
        let Some(backend) = checkout.identity.backend else { return Ok(()) };
        let suspects = self.canceller.suspects.end(backend.server);
        if suspects.is_empty() {
            return Ok(());
        }
        let (pids, started): (Vec<i32>, Vec<SystemTime>) =
            suspects.iter().map(|suspect| (suspect.pid, suspect.started)).unzip();
        let end = query(END, &[Type::INT4_ARRAY, Type::TIMESTAMPTZ_ARRAY]);
        let client = checkout.client()?;
        let end_all = async {
            let mut pause = Duration::from_millis(1);
            while !self.send(client, checkout.identity, &end, &[&pids, &started]).await?.rows.is_empty() {
                // It takes a moment, and the server says nothing when it is over.
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_millis(100));
            }
            Ok(())
        };
        let ended = checkout.run(end_all).await;
        ended.and_then(|ended| ended.map_err(|error| error::from_driver(&error))).map_err(|error| {
            Error::new(
                ErrorKind::Unavailable,
                "this change was not applied: an earlier one was given up, and the server has not confirmed \
                 yet that its connection has ended; try again",
            )
            .with_source(error)
        })?;
        self.canceller.suspects.remove(&suspects);
        Ok(())
    }

    /// A connection: for a change one of its own, for a read one that others may share.
    async fn check_out(&self, changes: bool) -> Result<Arc<Checkout>> {
        let checkout = async {
            if changes {
                return self.take(changes).await.map(Arc::new);
            }
            if let Some(checkout) = self.join() {
                return Ok(checkout);
            }
            // One at a time, so that a crowd of readers does not empty the pool at once.
            let _opening = self.opening.lock().await;
            if let Some(checkout) = self.join() {
                return Ok(checkout);
            }
            let checkout = Arc::new(self.take(changes).await?);
            lock(&self.readers).push(Arc::downgrade(&checkout));
            Ok(checkout)
        };
        let checkout = timeout(self.patience, checkout).await.map_err(|_| {
            Error::new(ErrorKind::Timeout, format!("no connection became free within {:?}", self.patience))
        })??;
        if changes {
            self.settle(&checkout).await?;
        }
        Ok(checkout)
    }

    async fn take(&self, changes: bool) -> Result<Checkout> {
        let object = self.pool.get().await.map_err(error::from_pool)?;
        let mut checkout = Checkout::new(object, changes, Arc::clone(&self.canceller));
        checkout.identity = self.identity(&checkout).await?;
        Ok(checkout)
    }

    /// Returns the facts about the connection. Asks the server if the connection is new.
    async fn identity(&self, checkout: &Checkout) -> Result<Identity> {
        let client = checkout.client()?;
        if let Some(identity) = self.identities.get(client) {
            return Ok(identity);
        }
        let identify = query(IDENTIFY, &[]);
        let sent = self.send(client, checkout.identity, &identify, &[]);
        let identity = match checkout.run(sent).await? {
            Ok(answer) => Identity::new(&answer.rows, &client.cancel_token()).await?,
            // It is not for this user to know: nothing is taken for granted then.
            Err(error) if error::state(&error).starts_with("42") => Identity::default(),
            Err(error) => return Err(error::from_driver(&error)),
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
    fn join(&self) -> Option<Arc<Checkout>> {
        let mut readers = lock(&self.readers);
        readers.retain(|checkout| checkout.strong_count() > 0);
        let usable = readers.iter().filter_map(Weak::upgrade).filter(|checkout| checkout.is_usable());
        let calmest = usable.min_by_key(Arc::strong_count)?;
        let most = MAX_READ_CONNECTIONS.min(self.pool.status().max_size.div_ceil(2));
        // The count includes the one just made here.
        (readers.len() >= most || Arc::strong_count(&calmest) <= READS_PER_CONNECTION).then_some(calmest)
    }
}
