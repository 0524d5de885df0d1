//! The places of the cases: a server, with a table per space.

use std::sync::Arc;

use larder_core::{Error, Key, Store, async_trait};
use larder_postgres::Config;
use larder_test_servers::Kind;
use larder_testkit::{Factory, Line, Missing, Proxy, Suite};

use crate::admin::Admin;

/// A server, and the options of its stores.
pub(crate) struct Place {
    /// The URL of the server, for stores.
    url: String,
    /// The URL of the same server without a pooler.
    direct: String,
    /// The options of every store.
    options: String,
}

impl Place {
    pub(crate) async fn on(kind: Kind, options: &str) -> Result<Self, Missing> {
        let server = kind.shared().await.map_err(missing)?;
        let direct = server.direct_url().unwrap_or_else(|| server.url().to_owned());
        let mut options = options.to_owned();
        if let Some(ca) = server.ca_path() {
            options = with(&options, &format!("sslmode=verify-full&sslrootcert={}", ca.display()));
        }
        Ok(Self { url: server.url().to_owned(), direct, options })
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
        Config::from_url(&self.url(more)).expect("the URL is good")
    }

    pub(crate) async fn storage(&self, more: &str) -> Store {
        self.builder(more).connect().await.expect("the storage opens")
    }

    /// Opens a store behind a proxy that can hold up and cut its connections.
    pub(crate) async fn storage_over_line(&self, more: &str) -> Result<(Store, Arc<Proxy>), Error> {
        let server = self.server();
        let proxy = Proxy::to(server).await.expect("the proxy starts");
        let url = self.url.replace(server, &proxy.address().to_string());
        // Long enough for a busy machine, and short enough to wait for.
        let options = with(&self.options, &with("pool_size=3&timeout=1s", more));
        let storage = larder_postgres::connect(&with_options(&url, &options)).await?;
        Ok((storage, Arc::new(proxy)))
    }

    /// The same server, in another database and as another user.
    pub(crate) fn elsewhere(&self, database: &str, user: &str, password: &str) -> Self {
        let server = self.server();
        let direct = self.direct.rsplit_once('/').expect("the URL has a database").0;
        Self {
            url: format!("postgres://{user}:{password}@{server}/{database}"),
            direct: format!("{direct}/{database}"),
            options: self.options.clone(),
        }
    }

    /// The host and port in a server's URL.
    pub(crate) fn server_of(url: &str) -> &str {
        let (_, after_user) = url.rsplit_once('@').expect("the URL has a user");
        after_user.split_once('/').expect("the URL has a database").0
    }

    pub(crate) fn server(&self) -> &str {
        Self::server_of(&self.url)
    }

    /// The same user and database on another server.
    pub(crate) fn at(&self, server: &str) -> Self {
        let url = self.url.replace(self.server(), server);
        Self { direct: url.clone(), url, options: self.options.clone() }
    }

    /// A connection of the test with all rights.
    pub(crate) async fn admin(&self) -> Admin {
        Admin::connect(&self.direct).await
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
        let admin = self.admin().await;
        admin.run(&format!("ALTER TABLE \"{space}\" ALTER COLUMN value DROP NOT NULL")).await;
        let sql = format!("UPDATE \"{space}\" SET value = NULL WHERE key = $1");
        admin.rows(&sql, &[&key.as_str()]).await;
        Ok(true)
    }

    async fn remove(&self, space: &str) -> Result<(), Error> {
        // With everything that a case may have created under the name of its space.
        let admin = self.admin().await;
        admin.run(&format!("DROP TABLE IF EXISTS \"{space}\"")).await;
        Ok(())
    }
}

/// All laws, with these options, on the shared server.
pub(crate) fn suite(name: &str, options: &'static str) -> Suite<Place> {
    suite_on(name, Kind::Postgres, options)
}

pub(crate) fn suite_on(name: &str, kind: Kind, options: &'static str) -> Suite<Place> {
    across_processes(Suite::connect(name, move || Place::on(kind, options)))
}

/// The URL by which a second process opens a table.
pub(crate) fn across_processes(suite: Suite<Place>) -> Suite<Place> {
    let url = |place: &Place, space: &str| place.url(&format!("table={space}&pool_size=4"));
    suite.across_processes(url, |url| async move { larder_postgres::connect(&url).await })
}
