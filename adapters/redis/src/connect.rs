//! Opens a store.

use larder_core::{Result, Store};
use larder_kit::Configure;

use crate::{
    client::Client, config::Config, connection::Connection, driver::Driver, error::configuration,
    keyspace::Keyspace, request::Features,
};

impl Config {
    /// Connects.
    ///
    /// # Errors
    ///
    /// - [`InvalidConfig`](larder_core::ErrorKind::InvalidConfig) if the configuration has no URL, an option does not
    ///   fit the URL or the other options, or a certificate cannot be read.
    /// - [`Unavailable`](larder_core::ErrorKind::Unavailable) if the host is unknown, or no server listens there.
    /// - [`PermissionDenied`](larder_core::ErrorKind::PermissionDenied) if user or password is wrong.
    /// - [`Timeout`](larder_core::ErrorKind::Timeout) if connecting takes longer than `connect_timeout`.
    pub async fn connect(self) -> Result<Store> {
        // Boxed because the future would nest too deep for the compiler in its callers.
        let client = Box::pin(Client::connect(&self)).await.map_err(Self::named)?;
        Ok(self.store(client))
    }

    /// Makes a store on your own connection, which keeps its own timeouts and way of reconnecting. Closing the store
    /// leaves the connection open. Sends nothing.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use larder_redis::{Config, redis};
    ///
    /// let client = redis::Client::open("redis://localhost")?;
    /// let manager = client.get_connection_manager().await?;
    /// let store = Config::new().prefix("shop-bot").connect_with(manager).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](larder_core::ErrorKind::InvalidConfig) if the configuration has a URL, or options for
    /// connecting.
    pub async fn connect_with(self, connection: impl Into<Connection>) -> Result<Store> {
        self.check().map_err(Self::named)?;
        if self.endpoint.is_some() {
            return Err(Self::named(configuration(
                "the configuration has a URL, but `connect_with` uses a connection: start from `Config::new`",
            )));
        }
        Ok(self.store(Client::borrow(connection.into())))
    }

    fn store(self, client: Client) -> Store {
        Store::new(Driver {
            client,
            keyspace: Keyspace::new(self.key_prefix()),
            features: Features::new(self.cas),
            scan_count: self.scan_count,
        })
    }
}
