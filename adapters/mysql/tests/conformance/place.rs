//! The places of the cases: a server, with a table per space.

use std::sync::Arc;

use larder_core::{Error, Key, Store, async_trait};
use larder_testkit::{Factory, Line, Missing, Proxy, Suite};
use sqlx::{AssertSqlSafe, Connection, Executor, MySqlConnection};

/// A server, and the options of its stores.
pub(crate) struct Place {
    url: String,
    options: String,
}

impl Place {
    async fn find(options: &str) -> Result<Self, Missing> {
        Ok(Self { url: std::env::var("MYSQL_URL").unwrap(), options: options.to_owned() })
    }

    /// The server's URL with the options of this place and further ones.
    pub(crate) fn url(&self, more: &str) -> String {
        with_options(&self.url, &with(&self.options, more))
    }

    fn server(&self) -> &str {
        let (_, after_user) = self.url.rsplit_once('@').expect("the URL has a user");
        after_user.split_once('/').expect("the URL has a database").0
    }

    /// Opens a store behind a proxy that can hold up and cut its connections.
    pub(crate) async fn storage_over_line(&self, more: &str) -> Result<(Store, Arc<Proxy>), Error> {
        let server = self.server();
        let proxy = Proxy::to(server).await.expect("the proxy starts");
        let url = self.url.replace(server, &proxy.address().to_string());
        // Long enough for a busy machine, and short enough to wait for.
        let options = with(&self.options, &with("pool_size=3&timeout=500ms", more));
        let storage = larder_mysql::connect(&with_options(&url, &options)).await?;
        Ok((storage, Arc::new(proxy)))
    }

    /// Runs SQL on a connection of the test.
    pub(crate) async fn run(&self, sql: String) {
        let mut connection = MySqlConnection::connect(&self.url).await.expect("connect");
        connection.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await.expect("run the SQL");
        connection.close().await.expect("disconnect");
    }
}

fn with(options: &str, more: &str) -> String {
    [options, more].iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join("&")
}

fn with_options(url: &str, options: &str) -> String {
    match options {
        "" => url.to_owned(),
        options => format!("{url}{}{options}", if url.contains('?') { '&' } else { '?' }),
    }
}

#[async_trait]
impl Factory for Place {
    async fn open(&self, space: &str) -> Result<Store, Error> {
        // Few connections: the suite opens many stores on one server.
        larder_mysql::connect(&self.url(&format!("table={space}&pool_size=3"))).await
    }

    async fn open_over_line(&self, space: &str) -> Result<Option<(Store, Arc<dyn Line>)>, Error> {
        let (storage, proxy) = self.storage_over_line(&format!("table={space}")).await?;
        Ok(Some((storage, proxy)))
    }

    async fn damage(&self, space: &str, key: &Key) -> Result<bool, Error> {
        let column = if self.options.contains("json") { "LONGTEXT" } else { "LONGBLOB" };
        let key: String = key.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        let sql = format!(
            "ALTER TABLE `{space}` MODIFY value {column} NULL; UPDATE `{space}` SET value = NULL WHERE `key` = X'{key}'"
        );
        self.run(sql).await;
        Ok(true)
    }

    async fn remove(&self, space: &str) -> Result<(), Error> {
        self.run(format!("DROP TABLE IF EXISTS `{space}`")).await;
        Ok(())
    }
}

/// All laws, with these options.
pub(crate) fn suite(name: &str, options: &'static str) -> Suite<Place> {
    let url = |place: &Place, space: &str| place.url(&format!("table={space}&pool_size=4"));
    Suite::connect(name, move || Place::find(options))
        .across_processes(url, |url| async move { larder_mysql::connect(&url).await })
}
