//! Opens a store.

use std::{sync::Arc, time::Duration};

use larder_core::{Result, Store};
use larder_kit::{Configure as _, Layout, ValueFormat};
use mongodb::{
    Client,
    options::{Acknowledgment, ClientOptions, CollectionOptions, ConnectionString, WriteConcern},
};
use tokio::runtime::Handle;

use crate::{
    config::{self, Config},
    driver::Driver,
    error::{from_driver, invalid_config},
    grammy::{Grammy, GrammyStorage},
    larder::Larder,
    model::Model,
    schema::{self, Schema},
    storage::DocumentStorage,
};

/// The default database.
const DATABASE: &str = "larder";

/// The default time to find a server. The driver's 30 s is too long to wait for a wrong port.
const SERVER_SELECTION: Duration = Duration::from_secs(5);

impl Config {
    /// Sets options of the collection, such as another write concern than the client's.
    #[must_use]
    pub fn collection_options(mut self, options: CollectionOptions) -> Self {
        self.collection_options = options;
        self
    }

    /// Opens only an existing collection. Creates neither the collection nor an index, regardless of
    /// [`setup`](Self::setup), and needs only the permission to read. Connecting fails with
    /// [`InvalidConfig`](larder_core::ErrorKind::InvalidConfig) if the collection does not exist, or has other data.
    /// Reads and writes work as usual.
    #[must_use]
    pub const fn existing(mut self) -> Self {
        self.existing = true;
        self
    }

    /// Connects to the URL, and creates the index if it is missing.
    ///
    /// # Errors
    ///
    /// - [`InvalidConfig`](larder_core::ErrorKind::InvalidConfig) for an invalid URL or option, for an index or
    ///   collection that prevents set-up, and for a collection with other data.
    /// - [`Unavailable`](larder_core::ErrorKind::Unavailable) if no server can be reached, or its name cannot be
    ///   resolved.
    /// - [`PermissionDenied`](larder_core::ErrorKind::PermissionDenied) for wrong credentials or a missing permission.
    pub async fn connect(self) -> Result<Store> {
        // Boxed because the future would nest too deep for the compiler in its callers.
        Box::pin(self.open(None)).await.map_err(Self::named)
    }

    /// Opens the store on your own client, with its read concern, write concern and read preference, and creates the
    /// index if it is missing. Closing the store leaves the client open.
    ///
    /// # Errors
    ///
    /// Fails as [`connect`](Self::connect) does.
    pub async fn connect_with(self, client: Client) -> Result<Store> {
        Box::pin(self.open(Some(client))).await.map_err(Self::named)
    }

    async fn open(self, client: Option<Client>) -> Result<Store> {
        self.check_options()?;
        if self.layout != Layout::Grammy {
            let format = self.values.unwrap_or_default();
            return self.open_in(Larder(format), client).await.map(Store::from);
        }
        if self.values == Some(ValueFormat::Bytes) {
            return Err(invalid_config(
                "`layout=grammy` stores BSON: it cannot be combined with `values=bytes`",
            ));
        }
        let storage: GrammyStorage = self.open_in(Grammy, client).await?;
        Ok(Store::from(storage))
    }

    async fn open_in<M: Model + Schema>(
        self,
        model: M,
        client: Option<Client>,
    ) -> Result<DocumentStorage<M>> {
        let runtime = Handle::try_current()
            .map_err(|_| invalid_config("the MongoDB driver needs a Tokio runtime: call this inside one"))?;
        let owned = client.is_none();
        let client = match client {
            Some(client) => client,
            None => own_client(self.connection).await?,
        };
        let default = || client.default_database().map(|database| database.name().to_owned());
        let database = self.database.or_else(default).unwrap_or_else(|| DATABASE.to_owned());
        config::check_names(&database, &self.collection)?;
        let mut options = self.collection_options;
        let write_concern = options.write_concern.or_else(|| client.write_concern().cloned());
        options.write_concern = Some(durable(write_concern)?);
        let collection = client.database(&database).collection_with_options(&self.collection, options);

        let driver = Arc::new(Driver::new(collection, owned, runtime, self.timeout.get()));
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

async fn own_client(connection: Option<ConnectionString>) -> Result<Client> {
    let connection = connection.ok_or_else(|| {
        invalid_config(
            "the configuration has no server: set a URL such as `mongodb://localhost`, or pass a client",
        )
    })?;
    // Only the DNS lookup of a `mongodb+srv:` name takes time here, and it may be dropped.
    let options = ClientOptions::parse(connection).await;
    let client = options.and_then(|mut options| {
        options.server_selection_timeout.get_or_insert(SERVER_SELECTION);
        Client::with_options(options)
    });
    client.map_err(|failed| from_driver(&failed))
}

/// Returns the given write concern, or by default one with which an acknowledged write is durable.
fn durable(given: Option<WriteConcern>) -> Result<WriteConcern> {
    let mut concern = given.unwrap_or_default();
    if concern.w == Some(Acknowledgment::Nodes(0)) {
        return Err(invalid_config(
            "`w=0` disables acknowledgements, but a storage needs to know whether a write was applied",
        ));
    }
    if concern.w.is_none() && concern.journal.is_none() {
        concern.w = Some(Acknowledgment::Majority);
        concern.journal = Some(true);
    }
    Ok(concern)
}

#[cfg(test)]
mod tests {
    use larder_core::ErrorKind;

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
        let config = Config::from_url("mongodb://u:hunter2@h/db").unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[tokio::test]
    async fn grammys_layout_rejects_binary_values() {
        let config = Config::from_url("mongodb://h/?layout=grammy&values=bytes").unwrap();
        let error = config.connect().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        assert!(error.message().contains("values=bytes"), "{error}");
        let error = Config::new().connect().await.unwrap_err();
        assert!(error.message().contains("set a URL"), "{error}");
    }
}
