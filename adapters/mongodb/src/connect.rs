//! How a storage is opened.

use std::{fmt, time::Duration};

use larder_core::{Error, ErrorKind, Operation, Result, Store};
use mongodb::{
    Client, Collection, Namespace,
    bson::Document,
    options::{Acknowledgment, ClientOptions, CollectionOptions, ConnectionString, WriteConcern},
};
use tokio::runtime::Handle;

use crate::{
    config::{self, Layout, Options, ValueFormat},
    driver::Driver,
    error::{self, invalid_config},
    model::Model,
    setup,
    storage::{MongoStorage, NAME},
};

/// Database and collection, unless they are named.
const DEFAULT_NAME: &str = "larder";
/// How long to look for a server, unless the URL says otherwise. The driver's 30 s are long to wait
/// for a wrong port.
const SERVER_SELECTION: Duration = Duration::from_secs(5);
/// How long a call may take in all.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Opens a store in a MongoDB collection.
///
/// ```no_run
/// # async fn example(client: mongodb::Client) -> larder_core::Result<()> {
/// use std::time::Duration;
/// use larder_mongodb::{MongoBuilder, ValueFormat};
///
/// // A client of your own; it stays open when the store is closed.
/// let store = MongoBuilder::from_client(client)
///     .database("bot")
///     .collection("sessions")
///     .values(ValueFormat::Document)
///     .timeout(Duration::from_secs(10))
///     .connect()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[must_use]
pub struct MongoBuilder {
    source: ClientSource,
    options: Options,
}

enum ClientSource {
    Url(Box<ConnectionString>),
    Client(Client),
    Collection(Collection<Document>),
}

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
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) for a wrong URL, for an index or collection in the
    /// way, and for a collection that holds other data, [`Unavailable`](ErrorKind::Unavailable) if no
    /// server can be reached or its name cannot be resolved,
    /// [`PermissionDenied`](ErrorKind::PermissionDenied) for wrong credentials or a missing permission.
    pub async fn connect(url: &str) -> Result<Store> {
        MongoBuilder::from_url(url)?.connect().await
    }

    /// Connects to an existing collection, and sets nothing up: see [`MongoBuilder::existing`].
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect); also [`InvalidConfig`](ErrorKind::InvalidConfig) if there is no
    /// such collection.
    pub async fn connect_existing(url: &str) -> Result<Store> {
        MongoBuilder::from_url(url)?.existing().connect().await
    }
}

impl MongoBuilder {
    /// A store at a URL, with its [options](crate#options). Does not connect yet.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`] if the URL or one of its options is wrong. The message prints no
    /// part of the URL that may be a password.
    pub fn from_url(url: &str) -> Result<Self> {
        let (options, connection) = config::parse(url).map_err(named)?;
        Ok(Self { source: ClientSource::Url(Box::new(connection)), options })
    }

    /// A store on a client of the caller's, with its read and write concern. Closing the store leaves
    /// the client open.
    pub fn from_client(client: Client) -> Self {
        Self { source: ClientSource::Client(client), options: Options::default() }
    }

    /// A store in a collection of the caller's, with its read and write concern and read preference.
    /// Closing the store leaves the client open.
    pub fn from_collection<T: Send + Sync>(collection: &Collection<T>) -> Self {
        Self { source: ClientSource::Collection(collection.clone_with_type()), options: Options::default() }
    }

    /// The database. Default: the one in the URL's path or of the given collection, else `larder`.
    pub fn database(mut self, name: impl Into<String>) -> Self {
        self.options.database = Some(name.into());
        self
    }

    /// The collection. Default: the given one, else `larder`.
    pub fn collection(mut self, name: impl Into<String>) -> Self {
        self.options.collection = Some(name.into());
        self
    }

    /// How values are stored. Default: [`ValueFormat::Binary`], and [`ValueFormat::Document`] in
    /// grammY's layout, which has no other.
    pub const fn values(mut self, format: ValueFormat) -> Self {
        self.options.format = Some(format);
        self
    }

    /// How documents are laid out. Default: [`Layout::Larder`].
    pub const fn layout(mut self, layout: Layout) -> Self {
        self.options.layout = layout;
        self
    }

    /// Whether to check the collection and create its index. Default: yes. Without the
    /// [index](crate#what-is-stored) the server does not remove expired documents (they are never seen
    /// either way), and the collection may hold documents of another program. Documents of the other layout
    /// or format are refused either way, if the user may read the collection.
    pub const fn setup(mut self, setup: bool) -> Self {
        self.options.setup = Some(setup);
        self
    }

    /// Opens only what exists: creates neither the collection nor an index, whatever
    /// [`setup`](Self::setup) says, and needs no more than the right to read. Connecting fails with
    /// [`ErrorKind::InvalidConfig`] if there is no such collection, or if it holds other data. Reads
    /// and writes work as usual.
    pub const fn existing(mut self) -> Self {
        self.options.existing = true;
        self
    }

    /// How long any one call may take, connecting included. Default: 30 s. A call that takes longer
    /// is a [`Timeout`](ErrorKind::Timeout); a write may then still happen.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.options.timeout = Some(timeout);
        self
    }

    /// Connects, and sets up what is missing.
    ///
    /// # Errors
    ///
    /// As [`MongoStorage::connect`].
    pub async fn connect(self) -> Result<Store> {
        // Boxed: the future would otherwise nest too deep for the compiler in its callers.
        Box::pin(self.open()).await.map(Store::from).map_err(named)
    }

    async fn open(self) -> Result<MongoStorage> {
        let runtime = Handle::try_current()
            .map_err(|_| invalid_config("the MongoDB driver needs a Tokio runtime; call this on one"))?;
        let timeout = self.options.timeout.unwrap_or(TIMEOUT);
        if timeout.is_zero() {
            return Err(invalid_config("the option `timeout` is zero; no call can end in no time"));
        }
        let model = model(&self.options)?;
        let owned = matches!(self.source, ClientSource::Url(_));
        let mut concerns = CollectionOptions::default();
        let (client, database, collection) = match self.source {
            ClientSource::Url(connection) => {
                // Only the look-up of a `mongodb+srv:` name takes time here.
                let options = runtime.spawn(async move { ClientOptions::parse(*connection).await }).await;
                let stopping = |_| {
                    Error::new(ErrorKind::Unavailable, "the Tokio runtime is shutting down").not_applied()
                };
                let options = options.map_err(stopping)?.map_err(|failed| error::from_driver(&failed))?;
                let database = options.default_database.clone();
                (own_client(options)?, database, None)
            }
            ClientSource::Client(client) => {
                let database = client.default_database().map(|database| database.name().to_owned());
                (client, database, None)
            }
            ClientSource::Collection(collection) => {
                let Namespace { db, coll, .. } = collection.namespace();
                concerns.selection_criteria = collection.selection_criteria().cloned();
                concerns.read_concern = collection.read_concern().cloned();
                concerns.write_concern = collection.write_concern().cloned();
                (collection.client().clone(), Some(db), Some(coll))
            }
        };
        let database = self.options.database.or(database).unwrap_or_else(|| DEFAULT_NAME.to_owned());
        let collection = self.options.collection.or(collection).unwrap_or_else(|| DEFAULT_NAME.to_owned());
        config::check_names(&database, &collection)?;
        let write_concern = concerns.write_concern.or_else(|| client.write_concern().cloned());
        concerns.write_concern = Some(durable(write_concern)?);
        let collection = client.database(&database).collection_with_options(&collection, concerns);

        let storage = MongoStorage::new(Driver::new(collection, owned, runtime, timeout), model);
        let ready = match self.options {
            Options { existing: true, .. } => setup::check_existing(&storage.driver, model).await,
            Options { setup: Some(false), .. } => setup::check_contents(&storage.driver, model).await,
            _ => setup::set_up(&storage.driver, model).await,
        };
        if ready.is_err() {
            storage.driver.close().await;
        }
        ready.map(|()| storage)
    }
}

fn model(options: &Options) -> Result<Model> {
    let format = match (options.layout, options.format) {
        (Layout::Grammy, Some(ValueFormat::Binary)) => {
            return Err(invalid_config("layout=grammy stores BSON; it does not go with values=binary"));
        }
        (Layout::Grammy, _) => ValueFormat::Document,
        (Layout::Larder, format) => format.unwrap_or(ValueFormat::Binary),
    };
    Ok(Model { layout: options.layout, format })
}

fn own_client(mut options: ClientOptions) -> Result<Client> {
    options.server_selection_timeout.get_or_insert(SERVER_SELECTION);
    Client::with_options(options).map_err(|failed| error::from_driver(&failed))
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

impl fmt::Debug for MongoBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither the connection string nor the client's options: they hold the password.
        f.debug_struct("MongoBuilder").field("options", &self.options).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn grammys_layout_has_one_format() {
        let model = |url: &str| super::model(&MongoBuilder::from_url(url).unwrap().options);
        let error = model("mongodb://h/?layout=grammy&values=binary").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        let grammy = Model { layout: Layout::Grammy, format: ValueFormat::Document };
        assert_eq!(model("mongodb://h/?layout=grammy").unwrap(), grammy);
    }
}
