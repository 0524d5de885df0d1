//! A connection while it is out of the pool, and how it goes back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use deadpool_postgres::{ClientWrapper, Object};
use larder_core::{Error, ErrorKind, Result};
use tokio::{runtime::Handle, time::timeout};
use tokio_postgres::CancelToken;

use crate::{
    backend::{Identity, Suspects},
    config::NAME,
    error,
    tls::Connector,
};

/// How long a statement goes on whose caller has gone, before it is cancelled.
const GRACE: Duration = Duration::from_millis(100);

/// Deals with statements that have lost their callers.
pub(crate) struct Canceller {
    /// For a statement.
    pub(crate) timeout: Duration,
    /// To cancel it; `None` for a pool whose TLS we do not know.
    pub(crate) connector: Option<Connector>,
    /// The processes that may still carry out such a statement.
    pub(crate) suspects: Suspects,
}

impl Canceller {
    /// Asks the server to stop what the connection of this token runs.
    pub(crate) async fn cancel(&self, token: &CancelToken) {
        let Some(connector) = &self.connector else { return };
        let cancelled = timeout(self.timeout, token.cancel_query(Connector::clone(connector))).await;
        if !matches!(cancelled, Ok(Ok(()))) {
            tracing::debug!(adapter = NAME, "could not cancel a statement");
        }
    }
}

/// A connection taken out of the pool. It goes back when this is dropped, unless it was condemned;
/// if a statement on it was abandoned, only once that has ended.
pub(crate) struct Checkout {
    object: Option<Object>,
    /// Whether it is for a statement that changes anything.
    changes: bool,
    condemned: AtomicBool,
    /// How many statements are under way, or were abandoned.
    owed: AtomicUsize,
    /// Nothing is taken for granted until the server was asked.
    pub(crate) identity: Identity,
    canceller: Arc<Canceller>,
    /// Taken at the start: a call may be dropped outside the runtime that it ran in.
    runtime: Option<Handle>,
}

impl Checkout {
    pub(crate) fn new(object: Object, changes: bool, canceller: Arc<Canceller>) -> Self {
        Self {
            object: Some(object),
            changes,
            condemned: false.into(),
            owed: 0.into(),
            identity: Identity::default(),
            canceller,
            runtime: Handle::try_current().ok(),
        }
    }

    pub(crate) fn client(&self) -> Result<&ClientWrapper> {
        self.object.as_deref().ok_or_else(|| Error::new(ErrorKind::Other, "the connection was given back"))
    }

    fn condemn(&self) {
        self.condemned.store(true, Ordering::Relaxed);
    }

    /// Runs statements on this connection, as long as they may take, and draws the conclusions from an error.
    /// Dropped before that it leaves a connection that owes an answer. The inner error is the server's or the
    /// driver's.
    pub(crate) async fn run<T>(
        &self,
        statements: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<Result<T, tokio_postgres::Error>> {
        let most = self.canceller.timeout;
        self.owed.fetch_add(1, Ordering::Relaxed);
        let answer = timeout(most, statements).await.map_err(|_| {
            // The last one to use the connection asks the server to stop what has timed out.
            self.condemn();
            Error::new(
                ErrorKind::Timeout,
                format!("the server did not answer within {most:?} (the option `timeout`)"),
            )
        })?;
        self.owed.fetch_sub(1, Ordering::Relaxed);
        if let Err(error) = &answer
            && error::spoils_connection(error)
        {
            self.condemn();
            if !error::is_refusal(error) {
                self.suspect();
            }
        }
        Ok(answer)
    }

    /// A change may have been sent that happens later than its caller is told.
    fn suspect(&self) {
        if let Some(backend) = self.identity.backend.filter(|_| self.changes) {
            self.canceller.suspects.add(backend);
        }
    }

    pub(crate) fn is_usable(&self) -> bool {
        !self.condemned.load(Ordering::Relaxed)
            && self.object.as_deref().is_some_and(|client| !client.is_closed())
    }

    /// Waits until the connection has answered everything. If it does not within the time for a statement,
    /// it stays condemned.
    async fn drain(mut self) {
        let Ok(client) = self.client() else { return };
        // The answers come in order, so this one comes when nothing is under way any more.
        let answered = client.simple_query("");
        let drained = timeout(self.canceller.timeout, async {
            tokio::pin!(answered);
            if let Ok(answered) = timeout(GRACE, &mut answered).await {
                return answered.is_ok();
            }
            // It waits, for a lock perhaps. Nothing else can be hit: the connection is still ours.
            self.canceller.cancel(&client.cancel_token()).await;
            answered.await.is_ok()
        })
        .await;
        let is_free = || self.identity.backend.is_none_or(|backend| self.canceller.suspects.acquit(backend));
        if drained == Ok(true) && is_free() {
            self.condemned = false.into();
        }
    }
}

impl Drop for Checkout {
    fn drop(&mut self) {
        let Some(object) = self.object.take() else { return };
        let condemned = *self.condemned.get_mut();
        if *self.owed.get_mut() == 0 {
            if condemned {
                // Out of the pool; the connection closes, and a new one takes its place when needed.
                drop(Object::take(object));
            }
            return;
        }
        self.suspect();
        let canceller = Arc::clone(&self.canceller);
        match self.runtime.take() {
            // What was sent goes on, and the next statement on the connection would wait behind it.
            Some(runtime) if !condemned => {
                let mut checkout = Self::new(object, false, canceller);
                checkout.identity = self.identity;
                checkout.condemn();
                runtime.spawn(checkout.drain());
            }
            // A statement that waits for a lock would otherwise still happen, whenever the lock is free.
            runtime => {
                let token = Object::take(object).cancel_token();
                runtime.map(|runtime| runtime.spawn(async move { canceller.cancel(&token).await }));
            }
        }
    }
}
