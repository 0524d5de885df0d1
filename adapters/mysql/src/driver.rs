//! Runs statements on connections of the pool.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::TryStreamExt;
use larder_core::{Error, ErrorKind, Result};
use sqlx::{
    Either, Executor,
    mysql::{MySqlQueryResult, MySqlRow},
};
use tokio::{
    runtime::Handle,
    time::{Instant, sleep, timeout_at},
};

use crate::{
    error::{from_driver, keeps_connection, was_rolled_back},
    pool::{Checkout, Connections, Fence},
    sql::Call,
    storage::column,
};

/// The maximum number of times that a change runs if the server rolls it back because of others.
const ATTEMPTS: u32 = 16;
/// The maximum number of suspects. The oldest of more are of servers that no longer answer.
const MAX_SUSPECTS: usize = 4_096;

/// The pool, and the connections that may still execute a change whose caller got an error.
pub(crate) struct Driver {
    pub(crate) connections: Connections,
    timeout: Duration,
    /// Whether a change waits until the [suspects](Self::suspects) have ended.
    pub(crate) fenced: bool,
    suspects: Mutex<Vec<Fence>>,
}

impl Driver {
    /// Connects for the first time, which may take longer than `timeout`.
    pub(crate) async fn open(connections: Connections, timeout: Duration) -> Result<Arc<Self>> {
        let fenced = connections.take().await.map_err(Error::not_applied)?.fence().is_some();
        Ok(Arc::new(Self { connections, timeout, fenced, suspects: Mutex::default() }))
    }

    /// Runs a statement that only reads, in a task, which finishes even if the caller's future is dropped. After an
    /// unfinished statement, the connection could not be used again.
    pub(crate) async fn read(self: &Arc<Self>, call: Call) -> Result<Vec<MySqlRow>> {
        let driver = Arc::clone(self);
        let deadline = self.deadline();
        let read = tokio::spawn(async move { driver.session(false, deadline).await?.send(call).await });
        let ended = |_| Err(Error::new(ErrorKind::Unavailable, "the runtime of the call has ended"));
        read.await.unwrap_or_else(ended).map(|reply| reply.rows)
    }

    /// Runs a statement that changes rows.
    pub(crate) async fn change(self: &Arc<Self>, call: impl Fn() -> Call) -> Result<MySqlQueryResult> {
        let (deadline, mut attempt) = (self.deadline(), 0);
        loop {
            let mut session = self.session(true, deadline).await?;
            let done = session.commit(call()).await;
            attempt += 1;
            if !session.should_run_again(attempt) {
                return done;
            }
        }
    }

    /// Returns the end of a call that begins now.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.timeout
    }

    /// Takes a connection. For changes, first ensures that no older change happens later. An error is not applied.
    pub(crate) async fn session(self: &Arc<Self>, changes: bool, deadline: Instant) -> Result<Session> {
        let driver = Arc::clone(self);
        let mut taking = Box::pin(async move { driver.connections.take().await });
        let Ok(checkout) = timeout_at(deadline, &mut taking).await else {
            // The connection is opened for a later call. If this call cancelled it, calls with short timeouts would
            // never get a connection.
            if matches!(self.connections, Connections::Own(_)) {
                tokio::spawn(taking);
            }
            return Err(self.timed_out("no connection became free").not_applied());
        };
        let mut session = Session {
            driver: Arc::clone(self),
            checkout: Some(checkout.map_err(Error::not_applied)?),
            deadline,
            state: State::Ready,
            sent: false,
            committed: false,
            runtime: Handle::current(),
        };
        if changes && self.fenced {
            session.end_suspects().await?;
        }
        Ok(session)
    }

    fn timed_out(&self, what: &str) -> Error {
        let message = format!("{what} within {:?} (the option `timeout`)", self.timeout);
        Error::new(ErrorKind::Timeout, message)
    }

    /// Closes a connection on which a statement may still run, and ends it on the server.
    fn abandon(self: &Arc<Self>, checkout: Checkout, sent: bool, runtime: &Handle) {
        self.connections.suspect_all();
        let Some(fence) = checkout.discard().filter(|_| sent) else { return };
        let mut suspects = self.suspects();
        if suspects.len() >= MAX_SUSPECTS {
            suspects.remove(0);
        }
        suspects.push(fence);
        if suspects.len() == 1 {
            // Now, not with the next change: the statement may wait for a lock, or hold one.
            let (driver, deadline) = (Arc::clone(self), self.deadline());
            runtime.spawn(async move { driver.session(true, deadline).await.map(drop) });
        }
    }

    /// Returns a suspect of this server. Those of other servers cannot change rows here, and stay until their server
    /// answers again.
    fn suspect(&self, server: &str) -> Option<Fence> {
        self.suspects().iter().find(|suspect| suspect.server == server).cloned()
    }

    /// A poisoned mutex is safe to use, because no code panics while it holds it.
    fn suspects(&self) -> MutexGuard<'_, Vec<Fence>> {
        self.suspects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection for one call, with its timeout. Dropping this returns the connection to the pool, or closes it if a
/// statement on it has no answer.
pub(crate) struct Session {
    driver: Arc<Driver>,
    /// `Some` until the drop.
    checkout: Option<Checkout>,
    deadline: Instant,
    state: State,
    /// Whether a statement was sent that reads or changes rows.
    sent: bool,
    /// Whether a statement was sent that commits changes.
    committed: bool,
    /// Stored because a call may be dropped outside its runtime.
    runtime: Handle,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// The last statement was answered.
    Ready,
    /// The server rolled back the transaction because of concurrent ones, or has not begun it.
    RolledBack,
    /// The last statement was not answered, or the connection is broken.
    Unusable,
}

/// The answer to a statement.
#[derive(Default)]
pub(crate) struct Reply {
    pub(crate) rows: Vec<MySqlRow>,
    pub(crate) done: MySqlQueryResult,
}

impl Session {
    /// Sends a statement that commits no changes, and waits for the answer.
    pub(crate) async fn send(&mut self, call: Call) -> Result<Reply> {
        self.run(call, false).await
    }

    /// Sends a statement that commits changes, and waits for the answer.
    pub(crate) async fn commit(&mut self, call: Call) -> Result<MySqlQueryResult> {
        self.run(call, true).await.map(|reply| reply.done)
    }

    async fn run(&mut self, Call { sql, arguments }: Call, commits: bool) -> Result<Reply> {
        self.state = State::Unusable;
        let Some(checkout) = &mut self.checkout else { unreachable!("set until the drop") };
        let (connection, sent, committed) = (checkout.connection(), &mut self.sent, &mut self.committed);
        let answer = async {
            if commits && arguments.is_some() {
                // Asks the server only the first time, and changes nothing.
                connection.prepare(sql.clone()).await?;
            }
            *sent |= arguments.is_some();
            *committed |= commits;
            let mut parts = match arguments {
                Some(arguments) => connection.fetch_many(sqlx::query_with(sql, arguments)),
                None => connection.fetch_many(sqlx::raw_sql(sql)),
            };
            let mut reply = Reply::default();
            while let Some(part) = parts.try_next().await? {
                match part {
                    Either::Left(done) => reply.done.extend([done]),
                    Either::Right(row) => reply.rows.push(row),
                }
            }
            Ok(reply)
        };
        let Ok(answer) = timeout_at(self.deadline, answer).await else {
            return Err(self.failed(self.driver.timed_out("the server did not answer")));
        };
        self.state = match &answer {
            Ok(_) => State::Ready,
            Err(error) if was_rolled_back(error) => State::RolledBack,
            Err(error) if keeps_connection(error) => State::Ready,
            Err(_) => State::Unusable,
        };
        answer.map_err(|error| self.failed(from_driver(error)))
    }

    /// Before a statement that commits changes was sent, nothing is applied.
    fn failed(&self, error: Error) -> Error {
        if self.committed { error } else { error.not_applied() }
    }

    /// Ends a transaction without its changes, unless the connection will be closed.
    pub(crate) async fn roll_back(&mut self) -> Result<()> {
        let state = self.state;
        if state != State::Unusable {
            self.send(Call::raw("ROLLBACK AND NO CHAIN NO RELEASE")).await?;
            self.state = state;
        }
        Ok(())
    }

    /// Returns whether to run the call again, on another session, after this number of attempts.
    pub(crate) fn should_run_again(&self, attempt: u32) -> bool {
        self.state == State::RolledBack && attempt < ATTEMPTS
    }

    /// Ensures that changes whose callers got an error cannot happen from now on: ends the connections that may still
    /// execute one, and waits until the server has released their locks.
    async fn end_suspects(&mut self) -> Result<()> {
        let Some(Fence { server, .. }) = self.checkout.as_ref().and_then(Checkout::fence) else {
            self.state = State::Unusable;
            let message = "the server no longer supports named locks (GET_LOCK), unlike when the storage was opened: \
                           open it again";
            return Err(Error::new(ErrorKind::InvalidConfig, message).not_applied());
        };
        let server = server.clone();
        while let Some(suspect) = self.driver.suspect(&server) {
            self.end(&suspect).await.map_err(|error| {
                let message = "this change was not applied: an earlier change was abandoned, and the server has not \
                               yet confirmed that its connection has ended; try again";
                Error::new(ErrorKind::Unavailable, message).with_source(error).not_applied()
            })?;
            self.driver.suspects().retain(|other| *other != suspect);
        }
        Ok(())
    }

    async fn end(&mut self, Fence { lock, .. }: &Fence) -> Result<()> {
        let mut pause = Duration::from_millis(1);
        loop {
            let reply = self.send(Call::raw(format!("SELECT IS_USED_LOCK('{lock}')"))).await?;
            let holder: Option<u64> = reply.rows.first().map_or(Ok(None), |row| column(row, 0))?;
            let Some(id) = holder else { return Ok(()) };
            let killed = self.send(Call::raw(format!("KILL {id}"))).await;
            // If the server refuses, the connection has ended in the meantime.
            if self.state == State::Unusable {
                killed?;
            }
            // The connection ends asynchronously, and the server does not report the end.
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(100));
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(checkout) = self.checkout.take_if(|_| self.state == State::Unusable) {
            self.driver.abandon(checkout, self.sent, &self.runtime);
        }
    }
}
