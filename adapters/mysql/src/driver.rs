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
};

/// The maximum number of times that a change runs if the server rolls it back because of others.
const ATTEMPTS: u32 = 16;
/// The number of suspects from which the oldest of another server is dropped for a new one.
const MAX_SUSPECTS: usize = 256;

/// The pool, and the connections that may still execute a change whose caller got an error.
pub(crate) struct Driver {
    connections: Connections,
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

    pub(crate) fn close(&self) {
        self.connections.close();
    }

    /// Runs a statement that only reads, in a task, which finishes even if the caller's future is dropped. After an
    /// unfinished statement, the connection could not be used again.
    pub(crate) async fn read(self: &Arc<Self>, call: Call) -> Result<Vec<MySqlRow>> {
        let driver = Arc::clone(self);
        let read = async move { driver.session(false).await?.send(call).await };
        let reply = tokio::spawn(read).await.unwrap_or_else(|error| {
            let (kind, message) = match error.is_panic() {
                true => (ErrorKind::Other, "the call panicked"),
                false => (ErrorKind::Unavailable, "the runtime is shutting down"),
            };
            Err(Error::new(kind, message))
        });
        reply.map(|reply| reply.rows)
    }

    /// Runs a statement that changes rows.
    pub(crate) async fn change(self: &Arc<Self>, call: impl Fn() -> Call) -> Result<MySqlQueryResult> {
        let mut attempt = 0;
        loop {
            let mut session = self.session(true).await?;
            let done = session.commit(call()).await;
            attempt += 1;
            if !session.should_run_again(attempt) {
                return done;
            }
        }
    }

    /// Takes a connection. For changes, first ensures that no older change happens later. An error is not applied.
    pub(crate) async fn session(self: &Arc<Self>, changes: bool) -> Result<Session> {
        let deadline = Instant::now() + self.timeout;
        let driver = Arc::clone(self);
        let mut taking = Box::pin(async move { driver.connections.take().await });
        let Ok(checkout) = timeout_at(deadline, &mut taking).await else {
            // The connection is opened for a later call. If this call cancelled it, calls with short timeouts would
            // never get a connection.
            tokio::spawn(taking);
            let most = self.timeout;
            let message = format!("no connection became free within {most:?} (the option `timeout`)");
            return Err(Error::new(ErrorKind::Timeout, message).not_applied());
        };
        let mut session = Session {
            driver: Arc::clone(self),
            checkout: Some(checkout.map_err(Error::not_applied)?),
            deadline,
            state: State::Ready,
            committed: false,
            runtime: Handle::current(),
        };
        if changes && self.fenced {
            session.end_suspects().await?;
        }
        Ok(session)
    }

    /// Closes a connection on which a statement may still run, and ends it on the server.
    fn abandon(self: &Arc<Self>, checkout: Checkout, runtime: &Handle) {
        self.connections.suspect_all();
        let fence = checkout.fence().cloned();
        checkout.discard();
        let Some(fence) = fence else { return };
        let mut suspects = self.suspects();
        if suspects.len() >= MAX_SUSPECTS
            && let Some(oldest) = suspects.iter().position(|old| old.server != fence.server)
        {
            suspects.remove(oldest);
        }
        suspects.push(fence);
        drop(suspects);
        // Now, not with the next change: the statement may wait for a lock, or hold one.
        let driver = Arc::clone(self);
        runtime.spawn(async move { driver.session(true).await.map(drop) });
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
    /// Sends a statement, and waits for the answer. If a statement fails before one that commits was sent, nothing was
    /// applied.
    pub(crate) async fn send(&mut self, call: Call) -> Result<Reply> {
        self.state = State::Unusable;
        let Some(checkout) = &mut self.checkout else { unreachable!("set until the drop") };
        let connection = checkout.connection();
        let answer = async {
            let mut reply = Reply::default();
            let mut parts = match call.arguments {
                Some(arguments) => connection.fetch_many(sqlx::query_with(call.sql, arguments)),
                None => connection.fetch_many(sqlx::raw_sql(call.sql)),
            };
            while let Some(part) = parts.try_next().await? {
                match part {
                    Either::Left(done) => reply.done.extend([done]),
                    Either::Right(row) => reply.rows.push(row),
                }
            }
            Ok(reply)
        };
        let answer = timeout_at(self.deadline, answer).await;
        self.received(answer)
    }

    /// Sends a statement that commits changes.
    pub(crate) async fn commit(&mut self, call: Call) -> Result<MySqlQueryResult> {
        if call.arguments.is_some() {
            // Asks the server only the first time, and changes nothing.
            self.state = State::Unusable;
            let Some(checkout) = &mut self.checkout else { unreachable!("set until the drop") };
            let prepared = timeout_at(self.deadline, checkout.connection().prepare(call.sql.clone())).await;
            self.received(prepared)?;
        }
        self.committed = true;
        self.send(call).await.map(|reply| reply.done)
    }

    /// Ends a transaction without its changes, unless the connection will be closed.
    pub(crate) async fn roll_back(&mut self) -> Result<()> {
        let state = self.state;
        if state != State::Unusable {
            self.send(Call::raw("ROLLBACK")).await?;
            self.state = state;
        }
        Ok(())
    }

    /// Returns whether to run the call again, on another session, after this number of attempts.
    pub(crate) fn should_run_again(&self, attempt: u32) -> bool {
        self.state == State::RolledBack && attempt < ATTEMPTS
    }

    fn received<T>(
        &mut self,
        answer: Result<Result<T, sqlx::Error>, tokio::time::error::Elapsed>,
    ) -> Result<T> {
        let error = match answer {
            Ok(Ok(value)) => {
                self.state = State::Ready;
                return Ok(value);
            }
            Ok(Err(error)) => {
                if was_rolled_back(&error) {
                    self.state = State::RolledBack;
                } else if keeps_connection(&error) {
                    self.state = State::Ready;
                }
                from_driver(&error)
            }
            Err(_) => {
                let most = self.driver.timeout;
                let message = format!("the server did not answer within {most:?} (the option `timeout`)");
                Error::new(ErrorKind::Timeout, message)
            }
        };
        Err(if self.committed { error } else { error.not_applied() })
    }

    /// Ensures that changes whose callers got an error cannot happen from now on: ends the connections that may still
    /// execute one, and waits until the server has released their locks.
    async fn end_suspects(&mut self) -> Result<()> {
        let Some(Fence { server, .. }) = self.checkout.as_ref().and_then(Checkout::fence) else {
            let message = "the server no longer supports named locks (GET_LOCK), unlike when the storage was opened: \
                           open it again";
            return Err(Error::new(ErrorKind::InvalidConfig, message).not_applied());
        };
        // Those of another server cannot change rows here, and stay until that server answers again.
        let suspects: Vec<_> = {
            let suspects = self.driver.suspects();
            suspects.iter().filter(|suspect| suspect.server == *server).cloned().collect()
        };
        for suspect in suspects {
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
            let Some(id) = reply.rows.first().and_then(Fence::holder) else { return Ok(()) };
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
            self.driver.abandon(checkout, &self.runtime);
        }
    }
}
