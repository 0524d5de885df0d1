//! The places of the cases: a server, with a table per space.

use std::sync::Arc;

use larder_core::{Error, Key, Store, async_trait};
use larder_mysql::Config;
use larder_test_servers::{Kind, Server};
use larder_testkit::{Factory, Fails, Line, Missing, Must, Proxy, Suite};

use crate::admin::Admin;

/// A server, and the options of its stores.
pub(crate) struct Place {
    url: String,
    /// The URL of the primary, if this is a replica.
    primary: Option<String>,
    options: String,
}

impl Place {
    pub(crate) async fn on(kind: Kind, options: &str) -> Result<Self, Missing> {
        Ok(Self::of(&kind.shared().await.map_err(missing)?, options))
    }

    pub(crate) fn of(server: &Server, options: &str) -> Self {
        let (url, primary) = (server.url().to_owned(), server.direct_url());
        Self { url, primary, options: options.to_owned() }
    }

    pub(crate) fn primary(&self) -> Option<Self> {
        self.primary.clone().map(|url| self.moved(url))
    }

    fn moved(&self, url: String) -> Self {
        Self { url, primary: None, options: self.options.clone() }
    }

    /// The server's URL, without options.
    pub(crate) fn bare_url(&self) -> &str {
        &self.url
    }

    /// The server's URL with the options of this place and further ones.
    pub(crate) fn url(&self, more: &str) -> String {
        with_options(&self.url, &with(&self.options, more))
    }

    pub(crate) fn builder(&self, more: &str) -> Config {
        Config::from_url(&self.url(more)).must("read the URL")
    }

    pub(crate) async fn storage(&self, more: &str) -> Store {
        self.builder(more).connect().await.must(more)
    }

    /// Opens a store behind a proxy that can hold up and cut its connections.
    pub(crate) async fn storage_over_line(&self, more: &str) -> Result<(Store, Arc<Proxy>), Error> {
        let proxy = Proxy::to(self.server()).await.must("start the proxy");
        // Long enough for a busy machine, and short enough to wait for.
        let options = with("pool_size=3&timeout=1s", more);
        let storage = self.at(&proxy.address().to_string()).builder(&options).connect().await?;
        Ok((storage, Arc::new(proxy)))
    }

    /// The host and port.
    pub(crate) fn server(&self) -> &str {
        let (_, after_user) = self.url.rsplit_once('@').must("the user");
        after_user.split_once('/').must("the database").0
    }

    /// The same user and database on another server.
    pub(crate) fn at(&self, server: &str) -> Self {
        self.moved(self.url.replace(self.server(), server))
    }

    /// The same server, as another user, whose name is the password.
    pub(crate) fn user(&self, user: &str) -> Self {
        let (_, place) = self.url.rsplit_once('@').must("the user");
        self.moved(format!("mysql://{user}:{user}@{place}"))
    }

    /// Another database of the same server, by its name in a URL.
    pub(crate) fn database(&self, name: &str) -> Self {
        let (server, _) = self.url.rsplit_once('/').must("the database");
        self.moved(format!("{server}/{name}"))
    }

    /// A new database with the name of the space, whose connections can be distinguished from others.
    pub(crate) async fn own_database(&self, space: &str) -> Self {
        self.admin().await.run(format!("CREATE DATABASE IF NOT EXISTS `{space}`")).await;
        self.database(space)
    }

    /// A connection of the test with all rights.
    pub(crate) async fn admin(&self) -> Admin {
        Admin::connect(&self.url).await
    }
}

pub(crate) fn with(options: &str, more: &str) -> String {
    [options, more].iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join("&")
}

pub(crate) fn with_options(url: &str, options: &str) -> String {
    match options {
        "" => url.to_owned(),
        options => format!("{url}{}{options}", if url.contains('?') { '&' } else { '?' }),
    }
}

pub(crate) fn missing(missing: larder_test_servers::Missing) -> Missing {
    Missing::new(missing.to_string(), missing.required())
}

pub(crate) fn key(name: impl std::fmt::Display) -> Key {
    Key::new(name.to_string()).must("make a key")
}

pub(crate) async fn holds(store: &Store, name: &str, value: Option<&str>) {
    let found = store.read(key(name)).await.must("read").map(|record| record.value);
    assert_eq!(found.as_deref(), value.map(str::as_bytes), "{name}");
}

/// Opening fails like this, with an error that shows no password and no URL.
pub(crate) async fn refused(config: Config, kind: larder_core::ErrorKind, why: &str) -> Error {
    let error = config.connect().await.fails(kind, why);
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains(larder_test_servers::PASSWORD) && !shown.contains("://"), "{why}");
    assert_eq!(error.adapter(), Some("mysql"));
    error
}

#[async_trait]
impl Factory for Place {
    async fn open(&self, space: &str) -> Result<Store, Error> {
        // Few connections: the suite opens many stores on one server.
        self.builder(&format!("table={space}&pool_size=3")).connect().await
    }

    async fn open_over_line(&self, space: &str) -> Result<Option<(Store, Arc<dyn Line>)>, Error> {
        let (storage, proxy) = self.storage_over_line(&format!("table={space}")).await?;
        Ok(Some((storage, proxy)))
    }

    async fn damage(&self, space: &str, key: &Key) -> Result<bool, Error> {
        let column = if self.options.contains("json") { "LONGTEXT" } else { "LONGBLOB" };
        let key: String = key.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        let sql = format!(
            "ALTER TABLE `{space}` MODIFY value {column} NULL; \
             UPDATE `{space}` SET value = NULL WHERE `key` = X'{key}'"
        );
        self.admin().await.run(sql).await;
        Ok(true)
    }

    async fn remove(&self, space: &str) -> Result<(), Error> {
        // With everything that a case may have created under the name of its space.
        let sql = format!("DROP TABLE IF EXISTS `{space}`; DROP DATABASE IF EXISTS `{space}`");
        self.admin().await.run(sql).await;
        Ok(())
    }
}

/// All laws, with these options, on the shared server.
pub(crate) fn suite(name: &str, options: &'static str) -> Suite<Place> {
    suite_on(name, Kind::Mariadb, options)
}

pub(crate) fn suite_on(name: &str, kind: Kind, options: &'static str) -> Suite<Place> {
    let url = |place: &Place, space: &str| place.url(&format!("table={space}&pool_size=4"));
    Suite::connect(name, move || Place::on(kind, options))
        .across_processes(url, |url| async move { larder_mysql::connect(&url).await })
}
