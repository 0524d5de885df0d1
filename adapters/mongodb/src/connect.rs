//! How a storage is opened.

use std::{sync::Arc, time::Duration};

use larder_core::{Error, Operation, Result, Store};
use mongodb::{
    Client, Collection, Namespace,
    error::Result as DriverResult,
    options::{Acknowledgment, ClientOptions, CollectionOptions, ConnectionString, WriteConcern},
};
use tokio::runtime::Handle;

use crate::{
    config::{self, ClientSource, Layout, MongoBuilder, ValueFormat},
    driver::Driver,
    error::{self, invalid_config},
    grammy::{Grammy, GrammyStorage},
    larder::Larder,
    model::{Model, NAME},
    schema::{self, Schema},
    storage::DocumentStorage,
};

/// Database and collection, unless they are named.
const DEFAULT_NAME: &str = "larder";

/// How long to look for a server, unless the URL says otherwise. The driver's 30 s are long to wait
/// for a wrong port.
const SERVER_SELECTION: Duration = Duration::from_secs(5);

/// Opens a store in a MongoDB collection; [`MongoBuilder`] does it with more options.
#[derive(Debug)]
pub struct MongoStorage(());

impl MongoStorage {
    /// Connects to the URL, with its [options](crate#options), and sets up what is missing.
    ///
    /// ```no_run
    /// # async fn example() -> larder_core::Result<()> {
    /// use larder_mongodb::MongoStorage;
    ///
    /// let store = MongoStorage::connect("mongodb://localhost:27017/bot?collection=sessions").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](larder_core::ErrorKind::InvalidConfig) for a wrong URL, for an index or collection
    /// in the way, and for a collection that holds other data,
    /// [`Unavailable`](larder_core::ErrorKind::Unavailable) if no server can be reached or its name cannot be
    /// resolved, [`PermissionDenied`](larder_core::ErrorKind::PermissionDenied) for wrong credentials or a
    /// missing permission.
    pub async fn connect(url: &str) -> Result<Store> {
        MongoBuilder::from_url(url)?.connect().await
    }

    /// Connects to an existing collection, and sets nothing up: see [`MongoBuilder::existing`].
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect); also [`InvalidConfig`](larder_core::ErrorKind::InvalidConfig) if there
    /// is no such collection.
    pub async fn connect_existing(url: &str) -> Result<Store> {
        MongoBuilder::from_url(url)?.existing().connect().await
    }
}

impl MongoBuilder {
    /// A store at a URL, with its [options](crate#options). Does not connect yet.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](larder_core::ErrorKind::InvalidConfig) if the URL or one of its options is wrong. The
    /// message prints no part of the URL that may be a password.
    pub fn from_url(url: &str) -> Result<Self> {
        Self::parse(url).map_err(named)
    }

    /// A store on a client of the caller's, with its read and write concern. Closing the store leaves
    /// the client open.
    pub fn from_client(client: Client) -> Self {
        Self::with_defaults(ClientSource::Client(client, CollectionOptions::default()), false)
    }

    /// A store in a collection of the caller's, with its read and write concern and read preference.
    /// Closing the store leaves the client open.
    pub fn from_collection<T: Send + Sync>(collection: &Collection<T>) -> Self {
        let Namespace { db, coll, .. } = collection.namespace();
        let mut concerns = CollectionOptions::default();
        concerns.selection_criteria = collection.selection_criteria().cloned();
        concerns.read_concern = collection.read_concern().cloned();
        concerns.write_concern = collection.write_concern().cloned();
        let source = ClientSource::Client(collection.client().clone(), concerns);
        Self::with_defaults(source, false).database(db).collection(coll)
    }

    /// Opens only what exists: creates neither the collection nor an index, whatever
    /// [`setup`](Self::setup) says, and needs no more than the right to read. Connecting fails with
    /// [`InvalidConfig`](larder_core::ErrorKind::InvalidConfig) if there is no such collection, or if it holds
    /// other data. Reads and writes work as usual.
    pub const fn existing(mut self) -> Self {
        self.existing = true;
        self
    }

    /// Connects, and sets up what is missing.
    ///
    /// # Errors
    ///
    /// As [`MongoStorage::connect`].
    pub async fn connect(self) -> Result<Store> {
        // Boxed: the future would otherwise nest too deep for the compiler in its callers.
        Box::pin(self.open()).await.map_err(named)
    }

    async fn open(self) -> Result<Store> {
        self.check_options()?;
        let format = self.values;
        match self.layout {
            Layout::Larder => self.open_in(Larder(format.unwrap_or_default())).await.map(Store::from),
            Layout::Grammy if format == Some(ValueFormat::Binary) => {
                Err(invalid_config("layout=grammy stores BSON; it does not go with values=binary"))
            }
            Layout::Grammy => {
                let storage: GrammyStorage = self.open_in(Grammy).await?;
                Ok(Store::from(storage))
            }
        }
    }

    async fn open_in<M: Model + Schema>(self, model: M) -> Result<DocumentStorage<M>> {
        let runtime = Handle::try_current()
            .map_err(|_| invalid_config("the MongoDB driver needs a Tokio runtime; call this on one"))?;
        let owned = matches!(self.source, ClientSource::Url(_));
        let (client, mut concerns) = match self.source {
            ClientSource::Url(connection) => {
                let client = own_client(*connection).await.map_err(|failed| error::from_driver(&failed))?;
                (client, CollectionOptions::default())
            }
            ClientSource::Client(client, concerns) => (client, concerns),
        };
        let default = || client.default_database().map(|database| database.name().to_owned());
        let database = self.database.or_else(default).unwrap_or_else(|| DEFAULT_NAME.to_owned());
        let collection = self.collection.unwrap_or_else(|| DEFAULT_NAME.to_owned());
        config::check_names(&database, &collection)?;
        let write_concern = concerns.write_concern.or_else(|| client.write_concern().cloned());
        concerns.write_concern = Some(durable(write_concern)?);
        let collection = client.database(&database).collection_with_options(&collection, concerns);

        let driver = Arc::new(Driver::new(collection, owned, runtime, self.timeout));
        let ready = if self.existing {
            schema::check_existing(&driver, model).await
        } else if self.setup {
            schema::set_up(&driver, model).await
        } else {
            schema::check_documents(&driver, model).await
        };
        if ready.is_err() {
            driver.close().await;
        }
        ready.map(|()| DocumentStorage { driver, model })
    }
}

async fn own_client(connection: ConnectionString) -> DriverResult<Client> {
    // Only the look-up of a `mongodb+srv:` name takes time here, and it may be dropped midway.
    let mut options = ClientOptions::parse(connection).await?;
    options.server_selection_timeout.get_or_insert(SERVER_SELECTION);
    Client::with_options(options)
}

/// The write concern with which an acknowledged write is durable, unless another one is given.
fn durable(given: Option<WriteConcern>) -> Result<WriteConcern> {
    let mut concern = given.unwrap_or_default();
    if concern.w == Some(Acknowledgment::Nodes(0)) {
        return Err(invalid_config(
            "w=0 asks for no acknowledgement, but a storage has to know whether a write happened",
        ));
    }
    if concern.w.is_none() && concern.journal.is_none() {
        concern.w = Some(Acknowledgment::Majority);
        concern.journal = Some(true);
    }
    Ok(concern)
}

fn named(error: Error) -> Error {
    error.with_adapter(NAME).with_operation(Operation::Connect)
}

#[cfg(test)]
mod tests {
    use larder_core::ErrorKind;

    use super::*;

    #[test]
    fn default_write_concern_is_durable_and_a_given_one_is_kept() {
        let default = durable(None).unwrap();
        assert_eq!((default.w, default.journal), (Some(Acknowledgment::Majority), Some(true)));
        let one = WriteConcern::builder().w(Acknowledgment::Nodes(1)).build();
        assert_eq!(durable(Some(one.clone())).unwrap(), one);
        let timed = WriteConcern::builder().w_timeout(Duration::from_secs(1)).build();
        assert_eq!(durable(Some(timed)).unwrap().journal, Some(true));
        let none = WriteConcern::builder().w(Acknowledgment::Nodes(0)).build();
        assert_eq!(durable(Some(none)).unwrap_err().kind(), ErrorKind::InvalidConfig);
    }

    #[test]
    fn debug_prints_no_password() {
        let builder = MongoBuilder::from_url("mongodb://u:hunter2@h/db").unwrap();
        assert!(!format!("{builder:?}").contains("hunter2"));
    }

    #[tokio::test]
    async fn grammys_layout_has_one_format() {
        let builder = MongoBuilder::from_url("mongodb://h/?layout=grammy&values=binary").unwrap();
        let error = builder.connect().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        assert!(error.message().contains("values=binary"), "{error}");
    }
}
