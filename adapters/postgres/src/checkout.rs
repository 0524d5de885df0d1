//! A connection while it is out of the pool, and how it goes back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
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
        let Some(connector) = &self.connector else {
            return;
        };
        if !matches!(timeout(self.timeout, connector.cancel(token)).await, Ok(Ok(()))) {
            tracing::debug!(adapter = NAME, "could not cancel a statement");
        }
    }
}

/// A connection taken out of the pool. It goes back when this is dropped, unless it was condemned;
/// if a statement on it was abandoned, only once that has ended.
pub(crate) struct Checkout {
    object: Option<Object>,
    condemned: AtomicBool,
    abandoned: AtomicBool,
    identity: Identity,
    canceller: Arc<Canceller>,
    /// Taken at the start: a call may be dropped outside the runtime that it ran in.
    runtime: Option<Handle>,
}

impl Checkout {
    pub(crate) fn new(object: Object, canceller: Arc<Canceller>) -> Self {
        Self {
            object: Some(object),
            condemned: false.into(),
            abandoned: false.into(),
            identity: Identity::default(),
            canceller,
            runtime: Handle::try_current().ok(),
        }
    }

    pub(crate) fn client(&self) -> Result<&ClientWrapper> {
        self.object.as_deref().ok_or_else(|| Error::new(ErrorKind::Other, "the connection was given back"))
    }

    pub(crate) fn condemn(&self) {
        self.condemned.store(true, Ordering::Relaxed);
    }

    pub(crate) const fn identity(&self) -> Identity {
        self.identity
    }

    pub(crate) const fn identify(&mut self, identity: Identity) {
        self.identity = identity;
    }

    /// A change was sent that may happen later than its caller is told.
    fn suspect(&self) {
        if let Some(backend) = self.identity.backend {
            self.canceller.suspects.add(backend);
        }
    }

    /// Draws the conclusions from an error of a statement on this connection.
    pub(crate) fn judge(&self, error: &tokio_postgres::Error, changes: bool) {
        if error::spoils_connection(error) {
            self.condemn();
            if changes && !error::is_refusal(error) {
                self.suspect();
            }
        }
    }

    pub(crate) fn is_usable(&self) -> bool {
        !self.condemned.load(Ordering::Relaxed)
            && self.object.as_deref().is_some_and(|client| !client.is_closed())
    }

    /// To be held while a statement is under way, and told when it has ended.
    pub(crate) const fn under_way(&self, changes: bool) -> UnderWay<'_> {
        UnderWay { checkout: self, changes, ended: false }
    }
}

impl Checkout {
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
        let Some(object) = self.object.take() else {
            return;
        };
        let condemned = *self.condemned.get_mut();
        let owes_an_answer = *self.abandoned.get_mut() && !condemned;
        if let (true, Some(runtime)) = (owes_an_answer, self.runtime.take()) {
            // What was sent goes on, and the next statement on the connection would wait behind it.
            let mut checkout = Self::new(object, Arc::clone(&self.canceller));
            checkout.identity = self.identity;
            checkout.condemn();
            runtime.spawn(checkout.drain());
        } else if condemned || owes_an_answer {
            // Out of the pool; the connection closes, and a new one takes its place when needed.
            drop(Object::take(object));
        }
    }
}

/// A statement under way. Dropped before its end it leaves a connection that owes an answer.
pub(crate) struct UnderWay<'a> {
    checkout: &'a Checkout,
    /// Whether it changes anything.
    changes: bool,
    ended: bool,
}

impl UnderWay<'_> {
    pub(crate) fn ended(mut self) {
        self.ended = true;
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.checkout.abandoned.store(true, Ordering::Relaxed);
            if self.changes {
                self.checkout.suspect();
            }
        }
    }
}
