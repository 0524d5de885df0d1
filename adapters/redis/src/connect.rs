//! Opening a store.

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
    /// [`InvalidConfig`](larder_core::ErrorKind::InvalidConfig) if there is no server to connect to, an option
    /// does not go with the URL or the other options, or a certificate cannot be read,
    /// [`Unavailable`](larder_core::ErrorKind::Unavailable) if the host is unknown or nothing listens there,
    /// [`PermissionDenied`](larder_core::ErrorKind::PermissionDenied) if user or password are wrong,
    /// [`Timeout`](larder_core::ErrorKind::Timeout).
    pub async fn connect(self) -> Result<Store> {
        // Boxed: the future would otherwise nest too deep for the compiler in its callers.
        let client = Box::pin(Client::connect(&self)).await.map_err(Self::named)?;
        Ok(self.store(client))
    }

    /// A store on a connection of your own, with its own time-outs and its own way to reconnect.
    /// Closing the store leaves the connection open. Nothing is sent yet.
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
                "there is a URL and a connection: begin with `Config::new` to use the connection",
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
