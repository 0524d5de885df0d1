//! The places of the cases: a server, with a table per space.

use std::{collections::HashMap, sync::Arc};

use aws_sdk_dynamodb::{
    Client,
    config::{BehaviorVersion, Builder, Credentials, Region},
    types::AttributeValue,
};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use larder_core::{Error, Key, Store, async_trait};
use larder_dynamodb::Config;
use larder_test_servers::{Kind, PASSWORD, Server, USER};
use larder_testkit::{Factory, Line, Missing, Must, Proxy, Suite};

pub(crate) type Item = HashMap<String, AttributeValue>;

/// A server, and the options of its stores.
#[derive(Clone)]
pub(crate) struct Place {
    url: String,
    options: String,
}

impl Place {
    pub(crate) fn of(server: &Server, options: &str) -> Self {
        Self { url: server.url().to_owned(), options: options.to_owned() }
    }

    /// The URL of a table, with the options of this place and further ones.
    pub(crate) fn url(&self, table: &str, more: &str) -> String {
        let (_, options) = self.url.split_once('?').must("the options");
        let mut url = format!("dynamodb:{table}?{options}");
        for options in [&self.options, more].iter().filter(|options| !options.is_empty()) {
            url = format!("{url}&{options}");
        }
        url
    }

    pub(crate) fn config(&self, space: &str, more: &str) -> Config {
        Config::from_url(&self.url(&table(space), more)).must("read the URL")
    }

    pub(crate) async fn store(&self, space: &str, more: &str) -> Store {
        self.config(space, more).connect().await.must("connect")
    }

    /// The host and port.
    pub(crate) fn server(&self) -> &str {
        let (_, after) = self.url.split_once("endpoint=http://").must("the endpoint");
        after.split_once('&').must("further options").0
    }

    /// The same on another server.
    pub(crate) fn at(&self, server: &str) -> Self {
        Self { url: self.url.replace(self.server(), server), options: self.options.clone() }
    }

    /// The SDK's configuration of a client.
    pub(crate) fn sdk(&self) -> Builder {
        let http = aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring));
        aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(http.build_https())
            .region(Region::new("us-east-1"))
            .endpoint_url(format!("http://{}", self.server()))
            .credentials_provider(Credentials::new(USER, PASSWORD, None, None, "test"))
    }

    /// A client of the test.
    pub(crate) fn client(&self) -> Client {
        Client::from_conf(self.sdk().build())
    }

    /// The item of a key, as stored.
    pub(crate) async fn item(&self, space: &str, key: &str) -> Option<Item> {
        let id = AttributeValue::S(key.to_owned());
        let get = self.client().get_item().table_name(table(space)).key("id", id).consistent_read(true);
        get.send().await.must("get an item").item
    }

    /// Stores an item without the adapter.
    pub(crate) async fn put(&self, space: &str, item: Item) {
        self.client()
            .put_item()
            .table_name(table(space))
            .set_item(Some(item))
            .send()
            .await
            .must("put an item");
    }

    /// Changes an attribute of the item of a key.
    pub(crate) async fn set(&self, space: &str, key: &str, attribute: &str, value: AttributeValue) {
        let mut item = self.item(space, key).await.must("find the item");
        item.insert(attribute.to_owned(), value);
        self.put(space, item).await;
    }
}

/// The table of a space.
pub(crate) fn table(space: &str) -> String {
    format!("test-{space}")
}

pub(crate) fn missing(missing: larder_test_servers::Missing) -> Missing {
    Missing::new(missing.to_string(), missing.required())
}

pub(crate) fn key(name: impl std::fmt::Display) -> Key {
    Key::new(name.to_string()).must("make a key")
}

#[async_trait]
impl Factory for Place {
    async fn open(&self, space: &str) -> Result<Store, Error> {
        self.config(space, "").connect().await
    }

    async fn open_over_line(&self, space: &str) -> Result<Option<(Store, Arc<dyn Line>)>, Error> {
        let proxy = Proxy::to(self.server()).await.must("start the proxy");
        // Long enough for a busy machine, and short enough to wait for.
        let place = self.at(&proxy.address().to_string());
        let store = place.config(space, "timeout=500ms").connect().await?;
        Ok(Some((store, Arc::new(proxy))))
    }

    async fn damage(&self, space: &str, key: &Key) -> Result<bool, Error> {
        self.set(space, key.as_str(), "value", AttributeValue::Bool(true)).await;
        Ok(true)
    }

    fn excuse(&self, law: &str) -> Option<String> {
        // The cases of a killed server test this.
        let not_sent = [
            "changes_that_cannot_be_sent_are_not_applied",
            "a_batch_that_cannot_be_sent_fails_change_by_change",
        ];
        let reason = "without TLS, a connection that is closed at once may have carried a request";
        not_sent.contains(&law).then(|| reason.to_owned())
    }

    async fn remove(&self, space: &str) -> Result<(), Error> {
        // A case that opens nothing has no table.
        let removed = self.client().delete_table().table_name(table(space)).send().await;
        let missing = |error: &aws_sdk_dynamodb::operation::delete_table::DeleteTableError| {
            error.is_resource_not_found_exception()
        };
        if let Err(error) = removed.map_err(aws_sdk_dynamodb::error::SdkError::into_service_error) {
            assert!(missing(&error), "delete a table: {error:?}");
        }
        Ok(())
    }
}

/// All laws, with these options, on the shared server.
pub(crate) fn suite(name: &str, options: &'static str) -> Suite<Place> {
    let find =
        move || async move { Ok(Place::of(&Kind::Dynamodb.shared().await.map_err(missing)?, options)) };
    Suite::connect(name, find).across_processes(
        |place: &Place, space: &str| place.url(&table(space), ""),
        |url| async move { larder_dynamodb::connect(&url).await },
    )
}
