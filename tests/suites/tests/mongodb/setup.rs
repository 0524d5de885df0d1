//! What a storage sets up, and what it refuses to work with.

use std::time::Duration;

use larder_core::{ErrorKind, Expiry, Storage};
use larder_mongodb::MongoStorage;
use larder_testkit::{Context, Fails, Must, race};
use mongodb::{
    IndexModel,
    bson::{Document, doc},
    options::{Collation, IndexOptions},
};

use crate::places::{Place, database, documents, key, open, url};

async fn connect(context: &Context<Place>, options: &str) -> larder_core::Result<MongoStorage> {
    let url = url(&context.factory.server, context.target.space());
    MongoStorage::connect(&format!("{url}{options}")).await
}

async fn index_names(context: &Context<Place>) -> Vec<String> {
    let collection = documents(&context.factory.server, context.target.space()).await;
    collection.list_index_names().await.must("list the indexes")
}

pub(crate) async fn at_once(context: Context<Place>) {
    for (options, index) in [("", "expires_at_1"), ("&layout=grammy", "key_1")] {
        let target = context.target.beside(if options.is_empty() { "-a" } else { "-b" });
        let url = format!("{}{options}", url(&context.factory.server, target.space()));
        let storages = race(10, |_| {
            let url = url.clone();
            async move { MongoStorage::connect(&url).await.must("start among ten") }
        })
        .await;
        for storage in &storages {
            storage.write(&key("k"), "1".into(), Expiry::Never).await.must("write");
            storage.close().await.must("close");
        }
        let collection = documents(&context.factory.server, target.space()).await;
        let names = collection.list_index_names().await.must("list the indexes");
        assert_eq!(names, ["_id_", index]);
        // A second start finds all there.
        MongoStorage::connect(&url).await.must("start again").close().await.must("close");
        collection.drop().await.must("drop the collection");
    }
}

pub(crate) async fn switched_off(context: Context<Place>) {
    let storage = connect(&context, "&setup=false").await.must("connect");
    storage.write(&key("k"), "1".into(), Expiry::after_millis(1)).await.must("write");
    assert_eq!(index_names(&context).await, ["_id_"]);
    // Nobody removes it, and nobody sees it.
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(storage.read(&key("k")).await.must("read").is_none());
}

async fn create(context: &Context<Place>, keys: Document, options: IndexOptions) {
    let collection = documents(&context.factory.server, context.target.space()).await;
    let index = IndexModel::builder().keys(keys).options(options).build();
    collection.create_index(index).await.must("create an index");
}

pub(crate) async fn other_index(context: Context<Place>) {
    let late = IndexOptions::builder().expire_after(Duration::from_secs(3_600)).build();
    create(&context, doc! { "expires_at": 1 }, late).await;
    let error = connect(&context, "").await.fails(ErrorKind::Configuration, "an index that expires late");
    assert!(error.message().contains("expires_at"), "{error}");
    create(&context, doc! { "key": 1 }, IndexOptions::default()).await;
    let error = connect(&context, "&layout=grammy").await;
    error.fails(ErrorKind::Configuration, "an index that is not unique");
    // Who knows better leaves the set-up out.
    connect(&context, "&setup=false").await.must("connect without set-up");
}

pub(crate) async fn same_index(context: Context<Place>) {
    let ttl = IndexOptions::builder().name("mine".to_owned()).expire_after(Duration::ZERO).build();
    create(&context, doc! { "expires_at": 1 }, ttl).await;
    connect(&context, "").await.must("connect");
    assert_eq!(index_names(&context).await, ["_id_", "mine"]);
}

pub(crate) async fn collation(context: Context<Place>) {
    let database = database(&context.factory.server).await;
    let collation = Collation::builder().locale("en".to_owned()).build();
    let created = database.create_collection(context.target.space()).collation(collation).await;
    created.must("create a collection with a collation");
    let error = connect(&context, "").await.fails(ErrorKind::Configuration, "a collation");
    assert!(error.message().contains("collation"), "{error}");
}

pub(crate) async fn doubled_keys(context: Context<Place>) {
    let collection = documents(&context.factory.server, context.target.space()).await;
    let doubled = [doc! { "key": "hunter2", "value": 1 }, doc! { "key": "hunter2", "value": 2 }];
    collection.insert_many(doubled).await.must("insert doubled keys");
    let error = connect(&context, "&layout=grammy").await.fails(ErrorKind::Configuration, "doubled keys");
    assert!(!format!("{error} {error:?}").contains("hunter2"), "prints a key");
    assert_eq!(collection.count_documents(doc! {}).await.must("count"), 2);
    let storage = open(&context.factory.server, context.target.space(), "&layout=grammy&setup=false").await;
    assert!(storage.read(&key("hunter2")).await.must("read").is_some());
}
