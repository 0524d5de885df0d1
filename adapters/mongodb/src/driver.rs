//! Sends calls to the server. Each call runs in its own task, because the driver's futures must not be dropped before
//! they end, and a caller may drop ours at any time.

use std::time::Duration;

use futures_util::{FutureExt, TryStreamExt, future::BoxFuture};
use larder_core::{Error, ErrorKind, Key, Result};
use mongodb::{
    Collection, Database,
    action::{Action, Aggregate},
    bson::{Document, RawDocumentBuf, doc},
    error::Result as DriverResult,
    options::{ReadPreference, SelectionCriteria},
};
use tokio::{runtime::Handle, task::JoinError};

use crate::{error, in_flight::InFlight};

/// The maximum number of documents that a query finds.
pub(crate) const DOCUMENTS: usize = 1_000;
/// The maximum number of concurrent commands of one operation.
pub(crate) const CONCURRENT: usize = 16;
/// The longest time that `close` waits for the driver to close its connections.
const SHUTDOWN: Duration = Duration::from_secs(5);

/// The driver's handle, and the state of its calls.
pub(crate) struct Driver {
    // `None` only while dropping.
    collection: Option<Collection<Document>>,
    /// Whether the client belongs to the storage, which then shuts it down.
    owned: bool,
    runtime: Handle,
    timeout: Duration,
    in_flight: InFlight,
}

/// A query for documents.
pub(crate) struct Query {
    pub(crate) pipeline: Vec<Document>,
    /// Stops reading when the documents have this many bytes.
    pub(crate) bytes: usize,
    /// Asks the primary regardless of the read preference, because other members may lag behind.
    pub(crate) primary: bool,
}

impl Query {
    /// Makes a query for all documents that `pipeline` finds.
    pub(crate) const fn new(pipeline: Vec<Document>) -> Self {
        Self { pipeline, bytes: usize::MAX, primary: false }
    }
}

impl Driver {
    pub(crate) fn new(
        collection: Collection<Document>,
        owned: bool,
        runtime: Handle,
        timeout: Duration,
    ) -> Self {
        Self { collection: Some(collection), owned, runtime, timeout, in_flight: InFlight::default() }
    }

    pub(crate) fn collection(&self) -> Result<Collection<Document>> {
        self.collection.clone().ok_or_else(Error::closed)
    }

    pub(crate) fn database(&self) -> Result<Database> {
        let collection = self.collection()?;
        Ok(collection.client().database(&collection.namespace().db))
    }

    pub(crate) async fn find(&self, query: Query) -> Result<Vec<RawDocumentBuf>> {
        let collection = self.collection()?;
        let primary = query.primary.then_some(SelectionCriteria::ReadPreference(ReadPreference::Primary));
        let call = async move {
            // One more than the maximum, because the driver asks again after a batch that is exactly full.
            let call = collection.aggregate(query.pipeline).batch_size(DOCUMENTS as u32 + 1);
            let call = call.optional(primary, Aggregate::selection_criteria);
            let mut cursor = call.with_type::<RawDocumentBuf>().await?;
            let (mut documents, mut bytes) = (Vec::new(), 0);
            while bytes < query.bytes && cursor.advance().await? {
                bytes += cursor.current().as_bytes().len();
                documents.push(cursor.current().to_owned());
            }
            Ok(documents)
        };
        self.run(&[], call).await
    }

    /// Runs a call that changes the entries under `keys`, if any. First waits for abandoned calls that change them.
    ///
    /// The future is boxed, because the types of the driver's futures are so deep that those of the callers would
    /// exceed the compiler's limit.
    pub(crate) fn run<'a, T: Send + 'static>(
        &'a self,
        keys: &'a [Key],
        call: impl Future<Output = DriverResult<T>> + Send + 'static,
    ) -> BoxFuture<'a, Result<T>> {
        let run = async move {
            let mut sent = false;
            let work = async {
                self.in_flight.wait(|key| keys.contains(key)).await;
                sent = true;
                let (running, _guard) = self.in_flight.guard(keys);
                let call = async move {
                    let outcome = call.await;
                    drop(running);
                    outcome
                };
                self.runtime.spawn(call).await
            };
            let outcome = self.in_time(work).await;
            let outcome = outcome.map_err(|late| if sent { late } else { late.not_applied() })?;
            outcome.map_err(|failed| broken(&failed))?.map_err(|failed| error::from_driver(&failed))
        };
        run.boxed()
    }

    /// Returns the reply of `listCollections` for the collection; `None` if it does not exist.
    pub(crate) async fn listed(&self) -> Result<Option<Document>> {
        let (database, collection) = (self.database()?, self.collection()?);
        let filter = doc! { "name": collection.name() };
        let command = doc! { "listCollections": 1, "filter": filter, "cursor": {} };
        self.run(&[], async move { database.run_cursor_command(command).await?.try_next().await }).await
    }

    pub(crate) async fn ping(&self) -> Result<()> {
        let database = self.database()?;
        self.run(&[], async move { database.run_command(doc! { "ping": 1 }).await }).await.map(drop)
    }

    /// Waits until no abandoned call changes a key that begins with `prefix`.
    pub(crate) async fn wait_for_abandoned(&self, prefix: &str) -> Result<()> {
        let settled = self.in_flight.wait(|key| key.as_str().starts_with(prefix));
        self.in_time(settled).await.map_err(Error::not_applied)
    }

    /// Returns the output of `work`, or an error after the timeout.
    async fn in_time<T>(&self, work: impl Future<Output = T>) -> Result<T> {
        let timed = {
            // A timer needs the runtime only when it is created.
            let _entered = self.runtime.enter();
            tokio::time::timeout(self.timeout, work)
        };
        timed.await.map_err(|_| {
            let message = "the server did not answer within the option `timeout`";
            Error::new(ErrorKind::Timeout, message)
        })
    }

    /// Shuts the client down, unless it is the caller's own.
    pub(crate) async fn close(&self) {
        if let Some(collection) = self.collection.clone().filter(|_| self.owned) {
            let shutdown = async move {
                // Running calls fail as closed, and the driver cleans up after them.
                let shutdown = collection.client().clone().shutdown().immediate(true);
                tokio::time::timeout(SHUTDOWN, shutdown.into_future()).await
            };
            let _ = self.runtime.spawn(shutdown).await;
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // The driver spawns a task when the last handle is dropped, which may be outside the runtime.
        let _entered = self.runtime.enter();
        drop(self.collection.take());
    }
}

fn broken(failed: &JoinError) -> Error {
    if failed.is_cancelled() {
        return Error::new(
            ErrorKind::Unavailable,
            "the Tokio runtime on which the storage was opened is shutting down",
        );
    }
    Error::new(ErrorKind::Other, "the MongoDB driver panicked")
}
