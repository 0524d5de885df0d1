//! Opening a storage.

use larder_core::{Result, Store};

use crate::{
    client::Client,
    config::RedisConfig,
    connection::Connection,
    driver::RedisStorage,
    error::{configuration, opening},
    keyspace::Keyspace,
    request::Features,
};

impl RedisStorage {
    /// Connects to the server or servers that `url` names. For the forms of URL and the options see
    /// the [crate's documentation](crate).
    ///
    /// ```no_run
    /// # async fn example() -> larder_core::Result<()> {
    /// use larder_redis::RedisStorage;
    ///
    /// let store = RedisStorage::connect("redis://localhost/0?prefix=shop-bot").await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`RedisConfig::from_url`] and [`RedisConfig::connect`].
    pub async fn connect(url: &str) -> Result<Store> {
        RedisConfig::from_url(url)?.connect().await
    }
}

impl RedisConfig {
    /// Connects.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](larder_core::ErrorKind::InvalidConfig) if there is no server to connect to
    /// or a certificate cannot be read, [`Unavailable`](larder_core::ErrorKind::Unavailable) if the
    /// host is unknown or nothing listens there,
    /// [`PermissionDenied`](larder_core::ErrorKind::PermissionDenied) if user or password are wrong,
    /// [`Timeout`](larder_core::ErrorKind::Timeout).
    pub async fn connect(self) -> Result<Store> {
        // Boxed: the future would otherwise nest too deep for the compiler in its callers.
        let client = Box::pin(Client::connect(&self)).await.map_err(opening)?;
        Ok(self.store(client))
    }

    /// A store on a connection of your own, with its own time-outs and its own way to reconnect.
    /// Closing the store leaves the connection open. Nothing is sent yet.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use larder_redis::{RedisConfig, redis};
    ///
    /// let client = redis::Client::open("redis://localhost")?;
    /// let manager = client.get_connection_manager().await?;
    /// let store = RedisConfig::new().prefix("shop-bot").connect_with(manager)?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](larder_core::ErrorKind::InvalidConfig) if the options are from a URL.
    pub fn connect_with(self, connection: impl Into<Connection>) -> Result<Store> {
        self.check().map_err(opening)?;
        if self.endpoint.is_some() {
            return Err(opening(configuration(
                "there is a URL and a connection: begin with `RedisConfig::new` to use the connection",
            )));
        }
        Ok(self.store(Client::borrow(connection.into())))
    }

    fn store(self, client: Client) -> Store {
        Store::new(RedisStorage {
            client,
            keyspace: Keyspace::new(self.key_prefix()),
            features: Features::new(self.cas),
            scan_count: self.scan_count,
        })
    }
}
