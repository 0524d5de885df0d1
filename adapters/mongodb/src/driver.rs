//! Calls into the driver. The only place that awaits its futures, and always in a task of their own:
//! they must not be dropped midway, and a caller may drop ours at any point.

use std::{
    future::Future,
    pin::pin,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use futures_util::future::{Either, select};
use larder_core::{Error, ErrorKind, Key, Operation, Result};
use mongodb::{
    Client, Collection, Database,
    bson::{Document, RawDocumentBuf},
    error::Result as DriverResult,
    options::WriteConcern,
};
use tokio::runtime::Handle;

use crate::{NAME, error, stragglers::Stragglers};

/// How long `close` waits for the driver to wind up its connections.
const SHUTDOWN: Duration = Duration::from_secs(5);
/// How many bytes of a page are gathered before it is handed on.
const PAGE_BYTES: usize = 8 * 1024 * 1024;

/// The driver's handles, and how they are called.
#[derive(Debug)]
pub(crate) struct Driver {
    // `None` only while dropping.
    handles: Option<Handles>,
    runtime: Handle,
    timeout: Duration,
    owned: bool,
    closed: AtomicBool,
    stragglers: Stragglers,
}

struct Handles {
    client: Client,
    database: Database,
    collection: Collection<Document>,
    write_concern: WriteConcern,
}

impl std::fmt::Debug for Handles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handles").field("namespace", &self.collection.namespace()).finish_non_exhaustive()
    }
}

impl Driver {
    pub(crate) fn new(
        client: Client,
        database: Database,
        collection: Collection<Document>,
        write_concern: WriteConcern,
        runtime: Handle,
        timeout: Duration,
        owned: bool,
    ) -> Self {
        Self {
            handles: Some(Handles { client, database, collection, write_concern }),
            runtime,
            timeout,
            owned,
            closed: AtomicBool::new(false),
            stragglers: Stragglers::default(),
        }
    }

    fn handles(&self, operation: Operation) -> Result<&Handles> {
        match &self.handles {
            Some(handles) if !self.closed.load(Ordering::Acquire) => Ok(handles),
            _ => Err(Error::closed().with_adapter(NAME).with_operation(operation)),
        }
    }

    /// Says so if the storage is closed.
    pub(crate) fn check_open(&self, operation: Operation) -> Result<()> {
        self.handles(operation).map(drop)
    }

    /// The collection, unless the storage is closed.
    pub(crate) fn collection(&self, operation: Operation) -> Result<Collection<Document>> {
        Ok(self.handles(operation)?.collection.clone())
    }

    /// The same for documents that come as bytes.
    pub(crate) fn raw_collection(&self, operation: Operation) -> Result<Collection<RawDocumentBuf>> {
        Ok(self.handles(operation)?.collection.clone_with_type())
    }

    /// The database, unless the storage is closed.
    pub(crate) fn database(&self, operation: Operation) -> Result<Database> {
        Ok(self.handles(operation)?.database.clone())
    }

    /// The write concern, for commands that the driver does not give one.
    pub(crate) fn write_concern(&self, operation: Operation) -> Result<&WriteConcern> {
        Ok(&self.handles(operation)?.write_concern)
    }

    /// Runs a call that changes nothing.
    pub(crate) async fn run<T, F>(&self, operation: Operation, call: F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = DriverResult<T>> + Send + 'static,
    {
        self.call(operation, &[], call).await?.map_err(|failed| error::from_driver(operation, &failed))
    }

    /// Runs a call that changes the entries under `keys`, once no earlier one whose caller has gone
    /// is still at it. The driver's error comes out as it is.
    pub(crate) async fn call<T, F>(
        &self,
        operation: Operation,
        keys: &[Key],
        call: F,
    ) -> Result<DriverResult<T>>
    where
        T: Send + 'static,
        F: Future<Output = DriverResult<T>> + Send + 'static,
    {
        let work = async {
            self.stragglers.wait(keys).await;
            let (running, guard) = self.stragglers.guard(keys, &self.runtime);
            let outcome = self
                .runtime
                .spawn(async move {
                    let outcome = call.await;
                    drop(running);
                    outcome
                })
                .await;
            guard.finish();
            outcome
        };
        self.in_time(operation, work).await?.map_err(|failed| broken(operation, &failed))
    }

    /// Waits until no call whose caller has gone changes a key that begins with `prefix`.
    pub(crate) async fn settle(&self, operation: Operation, prefix: &str) -> Result<()> {
        self.in_time(operation, self.stragglers.wait_under(prefix)).await
    }

    /// What comes of `work`, if that is within the storage's time-out.
    async fn in_time<T>(&self, operation: Operation, work: impl Future<Output = T>) -> Result<T> {
        let timer = {
            // A timer needs the runtime only where it is made.
            let _entered = self.runtime.enter();
            tokio::time::sleep(self.timeout)
        };
        match select(pin!(work), pin!(timer)).await {
            Either::Left((outcome, _)) => Ok(outcome),
            Either::Right(((), _)) => Err(Error::new(
                ErrorKind::Timeout,
                "the server did not answer within the storage's time-out (the option `timeout`)",
            )
            .with_adapter(NAME)
            .with_operation(operation)),
        }
    }

    /// Ends the use of the storage; of the client too, if it is our own.
    pub(crate) async fn close(&self) {
        if self.closed.swap(true, Ordering::AcqRel) || !self.owned {
            return;
        }
        if let Some(handles) = &self.handles {
            let client = handles.client.clone();
            // Calls under way fail as closed; what is left of them the driver cleans up.
            let shutdown = self.runtime.spawn(async move {
                let _ =
                    tokio::time::timeout(SHUTDOWN, async { client.shutdown().immediate(true).await }).await;
            });
            let _ = shutdown.await;
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // The driver spawns its farewell when the last handle goes, wherever that happens.
        let _entered = self.runtime.enter();
        drop(self.handles.take());
    }
}

fn broken(operation: Operation, failed: &tokio::task::JoinError) -> Error {
    let error = if failed.is_cancelled() {
        Error::new(
            ErrorKind::Unavailable,
            "the Tokio runtime that the storage was opened on is shutting down",
        )
    } else {
        Error::new(ErrorKind::Other, "the MongoDB driver panicked")
    };
    error.with_adapter(NAME).with_operation(operation)
}

/// Reads a cursor's first documents: as many as there are, or as make a full page.
pub(crate) async fn page(mut cursor: mongodb::Cursor<RawDocumentBuf>) -> DriverResult<Page> {
    let mut documents = Vec::new();
    let mut bytes = 0;
    while cursor.advance().await? {
        let document = cursor.current().to_owned();
        bytes += document.as_bytes().len();
        documents.push(document);
        if bytes >= PAGE_BYTES {
            return Ok(Page { documents, full: true });
        }
    }
    Ok(Page { documents, full: false })
}

/// Reads the first document that a cursor has; the query is to be one that has no second.
pub(crate) async fn first(
    mut cursor: mongodb::Cursor<RawDocumentBuf>,
) -> DriverResult<Option<RawDocumentBuf>> {
    Ok(if cursor.advance().await? { Some(cursor.current().to_owned()) } else { None })
}

/// Reads all that a cursor has.
pub(crate) async fn drain(mut cursor: mongodb::Cursor<RawDocumentBuf>) -> DriverResult<Vec<RawDocumentBuf>> {
    let mut documents = Vec::new();
    while cursor.advance().await? {
        documents.push(cursor.current().to_owned());
    }
    Ok(documents)
}

/// Documents of a listing, one after the other.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) documents: Vec<RawDocumentBuf>,
    /// The page ended because it was full, not because the server had no more for it.
    pub(crate) full: bool,
}
