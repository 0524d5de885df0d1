//! Helpers that open stores on the server.

use std::sync::Arc;

use larder_core::{Error, Key, Result, Store, async_trait};
use larder_mongodb::Config;
use larder_test_servers::{Kind, Server};
use larder_testkit::{Factory, Line, Missing, Must, Proxy};
use mongodb::{
    Client, Collection, Database,
    bson::{Document, doc},
};

/// The database that all cases share; the spaces of the suite are collections.
pub(crate) const DATABASE: &str = "larder-tests";

/// A server with options.
pub(crate) struct Place {
    pub(crate) server: Server,
    options: &'static str,
    /// Whether the server is SecantusDB.
    stand_in: bool,
}

/// The shared server.
pub(crate) async fn place(options: &'static str) -> Result<Place, Missing> {
    let server = Kind::Mongodb.shared().await.map_err(missing)?;
    let about = database(&server).await.run_command(doc! { "buildInfo": 1 }).await.must("ask for its name");
    Ok(Place { server, options, stand_in: about.contains_key("secantusVersion") })
}

/// A server for a single case; without one the case passes.
pub(crate) async fn private() -> Option<Server> {
    match Kind::Mongodb.private().await {
        Ok(server) if server.is_ours() => Some(server),
        Ok(_) => None,
        Err(missing) if missing.required() => panic!("{missing}"),
        // The suite of the case needs the same server, and is reported as ignored.
        Err(missing) => {
            eprintln!("left out: {missing}");
            None
        }
    }
}

fn missing(missing: larder_test_servers::Missing) -> Missing {
    Missing::new(missing.to_string(), missing.required())
}

/// The storage URL of a server, ready for `&option=value`.
pub(crate) fn url(server: &Server, collection: &str) -> String {
    let (place, query) = server.url().split_once('?').unwrap_or((server.url(), ""));
    let and = if query.is_empty() { "" } else { "&" };
    format!("{place}?{query}{and}database={DATABASE}&collection={collection}")
}

/// Opens a store on a server, with further options (`&timeout=1s`).
pub(crate) async fn open(server: &Server, collection: &str, options: &str) -> Store {
    larder_mongodb::connect(&format!("{}{options}", url(server, collection))).await.must("connect")
}

/// A client of the test.
pub(crate) async fn client(server: &Server) -> Client {
    Client::with_uri_str(server.url()).await.must("connect past the storage")
}

/// The database, on a client of the test.
pub(crate) async fn database(server: &Server) -> Database {
    client(server).await.database(DATABASE)
}

/// A collection, on a client of the test.
pub(crate) async fn documents(server: &Server, collection: &str) -> Collection<Document> {
    database(server).await.collection(collection)
}

pub(crate) fn key(text: impl AsRef<str>) -> Key {
    Key::new(text).must("make a key")
}

impl Place {
    /// Opens an existing store, with the options of this place.
    pub(crate) async fn open_existing(&self, space: &str) -> Store {
        let config = Config::from_url(&self.url(space)).must("parse the URL");
        config.existing().connect().await.must("open an existing store")
    }

    /// The URL of a space.
    pub(crate) fn url(&self, space: &str) -> String {
        format!("{}{}", url(&self.server, space), self.options)
    }
}

#[async_trait]
impl Factory for Place {
    async fn open(&self, space: &str) -> Result<Store, Error> {
        // SecantusDB runs one command at a time, and values of 16 MB keep it busy for long.
        let timeout = if self.stand_in { "&timeout=2m" } else { "" };
        larder_mongodb::connect(&format!("{}{timeout}", self.url(space))).await
    }

    async fn open_over_line(&self, space: &str) -> Result<Option<(Store, Arc<dyn Line>)>, Error> {
        let url = self.url(space);
        let rest = url.strip_prefix("mongodb://").must("find the host");
        let host = rest.split(['/', '?']).next().must("find the host");
        let proxy = Proxy::to(host).await.must("start a proxy");
        let url = url.replacen(host, &proxy.address().to_string(), 1);
        let options = "setup=false&timeout=500ms&serverSelectionTimeoutMS=300";
        let url = format!("{url}&{options}");
        let mut opened = larder_mongodb::connect(&url).await;
        // Values of another case can keep SecantusDB busy for longer than this timeout.
        while self.stand_in && opened.as_ref().is_err_and(Error::is_retryable) {
            opened = larder_mongodb::connect(&url).await;
        }
        Ok(Some((opened?, Arc::new(proxy))))
    }

    async fn damage(&self, space: &str, key: &Key) -> Result<bool, Error> {
        let field = if self.options.contains("grammy") { "key" } else { "_id" };
        let change = doc! { "$unset": { "value": "" } };
        let collection = documents(&self.server, space).await;
        collection.update_one(doc! { field: key.as_str() }, change).await.must("damage an entry");
        Ok(true)
    }

    fn excuse(&self, law: &str) -> Option<String> {
        let of_one_moment = law == "value_and_ttl_are_of_one_moment";
        (self.stand_in && of_one_moment).then(|| {
            "SecantusDB takes `$$NOW` when a command arrives: a read that waits for a write finds more time \
             left than the write has given"
                .to_owned()
        })
    }

    async fn remove(&self, space: &str) -> Result<(), Error> {
        documents(&self.server, space).await.drop().await.must("drop the collection");
        Ok(())
    }
}
