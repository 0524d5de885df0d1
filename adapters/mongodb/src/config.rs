//! How a storage is configured and opened.

use std::{fmt, sync::Arc, time::Duration};

use larder_core::{Error, ErrorKind, Operation, Result, Storage};
use mongodb::{
    Client, Collection, Namespace,
    bson::Document,
    options::{Acknowledgment, ClientOptions, CollectionOptions, ConnectionString, WriteConcern},
};
use tokio::runtime::Handle;

use crate::{MongoStorage, NAME, driver::Driver, error, model::Model, options, setup};

/// Database and collection, where nobody names one.
const DEFAULT_NAME: &str = "larder";
/// How long to look for a server, unless the URL says otherwise. The driver's 30 s are long to wait
/// for a wrong port.
const SERVER_SELECTION: Duration = Duration::from_secs(5);
/// How long a call may take in all.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What values become in a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// BSON binary data: any bytes, as they are.
    Binary,
    /// BSON that says what the JSON says, to be read and queried with MongoDB's own tools. Values
    /// must be JSON, and come back as an equal JSON value.
    Document,
}

/// How documents are laid out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Layout {
    /// `{_id: key, value, version, expires_at}`.
    #[default]
    Larder,
    /// What grammY's MongoDB adapter reads and writes: `{_id: ObjectId, key, value}`, the value as
    /// BSON. No expiry; compare-and-swap by content.
    Grammy,
}

/// Opens a [`MongoStorage`].
///
/// ```no_run
/// # async fn example(client: mongodb::Client) -> larder_core::Result<()> {
/// use std::time::Duration;
/// use larder_mongodb::{Form, MongoBuilder};
///
/// // A client of your own; it stays open when the storage is closed.
/// let storage = MongoBuilder::from_client(client)
///     .database("bot")
///     .collection("sessions")
///     .values(Form::Document)
///     .timeout(Duration::from_secs(10))
///     .connect()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[must_use]
pub struct MongoBuilder {
    place: Place,
    database: Option<String>,
    collection: Option<String>,
    form: Option<Form>,
    layout: Layout,
    setup: bool,
    existing: bool,
    timeout: Duration,
}

enum Place {
    Url(Box<ConnectionString>),
    Client(Client),
    Collection(Collection<Document>),
}

impl MongoBuilder {
    /// A storage at a URL, with its [options](crate#options). Connects nothing yet.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`] if the URL or one of its options is wrong. The message prints no
    /// part of the URL that may be a password.
    pub fn from_url(url: &str) -> Result<Self> {
        let (options, connection) = options::parse(url)?;
        let mut builder = Self::new(Place::Url(Box::new(connection)));
        builder.database = options.database;
        builder.collection = options.collection;
        builder.form = options.form;
        builder.layout = options.layout.unwrap_or_default();
        builder.setup = options.setup.unwrap_or(true);
        builder.timeout = options.timeout.unwrap_or(TIMEOUT);
        Ok(builder)
    }

    /// A storage on a client of the caller's, with its read and write concern. Closing the storage
    /// leaves the client open.
    pub fn from_client(client: Client) -> Self {
        Self::new(Place::Client(client))
    }

    /// A storage in a collection of the caller's, with its read and write concern and read
    /// preference. Closing the storage leaves the client open.
    pub fn from_collection<T: Send + Sync>(collection: &Collection<T>) -> Self {
        Self::new(Place::Collection(collection.clone_with_type()))
    }

    const fn new(place: Place) -> Self {
        Self {
            place,
            database: None,
            collection: None,
            form: None,
            layout: Layout::Larder,
            setup: true,
            existing: false,
            timeout: TIMEOUT,
        }
    }

    /// The database. Default: the one in the URL's path or of the given collection, else `larder`.
    pub fn database(mut self, name: impl Into<String>) -> Self {
        self.database = Some(name.into());
        self
    }

    /// The collection. Default: the given one, else `larder`.
    pub fn collection(mut self, name: impl Into<String>) -> Self {
        self.collection = Some(name.into());
        self
    }

    /// What values become. Default: [`Form::Binary`], and [`Form::Document`] in grammY's layout,
    /// which knows nothing else.
    pub const fn values(mut self, form: Form) -> Self {
        self.form = Some(form);
        self
    }

    /// How documents are laid out. Default: [`Layout::Larder`].
    pub const fn layout(mut self, layout: Layout) -> Self {
        self.layout = layout;
        self
    }

    /// Whether to check the collection and create its index. Default: yes. Without, nobody removes
    /// expired documents unless the [index](crate#what-is-stored) is there (they are never seen
    /// either way).
    pub const fn setup(mut self, setup: bool) -> Self {
        self.setup = setup;
        self
    }

    /// Opens only what is there: creates neither the collection nor an index, whatever
    /// [`setup`](Self::setup) says, and needs no more than the right to read. Connecting fails with
    /// [`ErrorKind::InvalidConfig`] if there is no such collection, or if it holds other data. Reads
    /// and writes work as usual.
    pub const fn existing(mut self) -> Self {
        self.existing = true;
        self
    }

    /// How long any one call may take, connecting included. Default: 30 s. A call that takes longer
    /// is a [`Timeout`](ErrorKind::Timeout); a write may then still happen.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Connects, and sets up what is missing.
    ///
    /// # Errors
    ///
    /// As [`MongoStorage::connect`].
    pub async fn connect(self) -> Result<MongoStorage> {
        let runtime = Handle::try_current().map_err(|_| {
            options::configuration("the MongoDB driver needs a Tokio runtime; call this on one")
        })?;
        if self.timeout.is_zero() {
            return Err(options::configuration("the time-out is zero: no call could end in time"));
        }
        let model = self.model()?;
        let owned = matches!(self.place, Place::Url(_));
        let (client, namespace, concerns) = match self.place {
            Place::Url(connection) => {
                // Nothing but the look-up of a `mongodb+srv:` name is awaited here.
                let options = runtime.spawn(async move { ClientOptions::parse(*connection).await }).await;
                let options = options.map_err(|_| failed_start())?.map_err(refused)?;
                let (client, database) = own_client(options)?;
                let concerns = CollectionOptions::default();
                (client, (database, None), concerns)
            }
            Place::Client(client) => {
                let database = client.default_database().map(|database| database.name().to_owned());
                (client, (database, None), CollectionOptions::default())
            }
            Place::Collection(collection) => {
                let Namespace { db, coll, .. } = collection.namespace();
                let mut concerns = CollectionOptions::default();
                concerns.selection_criteria = collection.selection_criteria().cloned();
                concerns.read_concern = collection.read_concern().cloned();
                concerns.write_concern = collection.write_concern().cloned();
                (collection.client().clone(), (Some(db), Some(coll)), concerns)
            }
        };
        let name = |given: Option<String>, other: Option<String>| {
            given.or(other).unwrap_or_else(|| DEFAULT_NAME.to_owned())
        };
        let database = name(self.database, namespace.0);
        let collection = name(self.collection, namespace.1);
        options::check_names(&database, &collection)?;

        let write_concern =
            durable(concerns.write_concern.clone().or_else(|| client.write_concern().cloned()))?;
        let mut concerns = concerns;
        concerns.write_concern = Some(write_concern.clone());
        let database = client.database(&database);
        let collection = database.collection_with_options(&collection, concerns);
        let driver = Driver::new(client, database, collection, write_concern, runtime, self.timeout, owned);
        let storage = MongoStorage { driver: Arc::new(driver), model };
        let ready = if self.existing {
            setup::look(&storage.driver, model).await
        } else if self.setup {
            setup::set_up(&storage.driver, model).await
        } else {
            storage.ping().await
        };
        match ready {
            Ok(()) => Ok(storage),
            Err(error) => {
                storage.driver.close().await;
                Err(error)
            }
        }
    }

    fn model(&self) -> Result<Model> {
        let form = match (self.layout, self.form) {
            (Layout::Grammy, Some(Form::Binary)) => {
                return Err(options::configuration(
                    "layout=grammy stores BSON; it does not go with values=binary",
                ));
            }
            (Layout::Grammy, _) => Form::Document,
            (Layout::Larder, form) => form.unwrap_or(Form::Binary),
        };
        Ok(Model { layout: self.layout, form })
    }
}

fn own_client(mut options: ClientOptions) -> Result<(Client, Option<String>)> {
    options.server_selection_timeout.get_or_insert(SERVER_SELECTION);
    let database = options.default_database.clone();
    let client = Client::with_options(options).map_err(refused)?;
    Ok((client, database))
}

/// The write concern with which an acknowledged write is durable, unless another one is given.
fn durable(given: Option<WriteConcern>) -> Result<WriteConcern> {
    let mut concern = given.unwrap_or_default();
    if concern.w == Some(Acknowledgment::Nodes(0)) {
        return Err(options::configuration(
            "w=0 asks for no acknowledgement, but a storage has to know whether a write happened",
        ));
    }
    if concern.w.is_none() && concern.journal.is_none() {
        concern.w = Some(Acknowledgment::Majority);
        concern.journal = Some(true);
    }
    Ok(concern)
}

fn refused(failed: mongodb::error::Error) -> Error {
    error::from_driver(Operation::Connect, &failed)
}

fn failed_start() -> Error {
    Error::new(ErrorKind::Unavailable, "the Tokio runtime is shutting down")
        .with_adapter(NAME)
        .with_operation(Operation::Connect)
}

impl fmt::Debug for MongoBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither the connection string nor the client's options: they hold the password.
        f.debug_struct("MongoBuilder")
            .field("database", &self.database)
            .field("collection", &self.collection)
            .field("form", &self.form)
            .field("layout", &self.layout)
            .field("setup", &self.setup)
            .field("existing", &self.existing)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_write_concern_is_durable_and_a_given_one_is_kept() {
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
    fn grammy_s_layout_has_one_form() {
        let url = "mongodb://h/?layout=grammy&values=binary";
        let error = MongoBuilder::from_url(url).unwrap().model().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        let builder = MongoBuilder::from_url("mongodb://h/?layout=grammy").unwrap();
        assert_eq!(builder.model().unwrap(), Model { layout: Layout::Grammy, form: Form::Document });
    }
}
