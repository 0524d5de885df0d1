//! Set-up, and collections that are rejected.

use std::time::Duration;

use larder_core::{ErrorKind, Expiry, Result, Store};
use larder_mongodb::Config;
use larder_testkit::{Context, Fails, Must, race, until};
use mongodb::{
    IndexModel,
    bson::{Binary, Bson, DateTime, Document, doc, spec::BinarySubtype},
    options::{Collation, IndexOptions},
};

use crate::places::{Place, database, documents, key, open, url};

async fn connect(context: &Context<Place>, options: &str) -> Result<Store> {
    let url = url(&context.factory.server, context.target.space());
    larder_mongodb::connect(&format!("{url}{options}")).await
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
            async move { larder_mongodb::connect(&url).await.must("start among ten") }
        })
        .await;
        for storage in &storages {
            storage.write(key("k"), "1").await.must("write");
            storage.close().await.must("close");
        }
        let collection = documents(&context.factory.server, target.space()).await;
        let names = collection.list_index_names().await.must("list the indexes");
        assert_eq!(names, ["_id_", index]);
        // A second start changes nothing.
        larder_mongodb::connect(&url).await.must("start again").close().await.must("close");
        collection.drop().await.must("drop the collection");
    }
}

pub(crate) async fn switched_off(context: Context<Place>) {
    let storage = connect(&context, "&setup=false").await.must("connect");
    storage.write(key("k"), "1").expiry(Expiry::after_millis(1)).await.must("write");
    assert_eq!(index_names(&context).await, ["_id_"]);
    // It is hidden, and stays stored.
    until("the entry has expired", Duration::from_secs(30), || async {
        storage.read(key("k")).await.must("read").is_none()
    })
    .await;
}

async fn create(context: &Context<Place>, keys: Document, options: IndexOptions) {
    let collection = documents(&context.factory.server, context.target.space()).await;
    let index = IndexModel::builder().keys(keys).options(options).build();
    collection.create_index(index).await.must("create an index");
}

pub(crate) async fn other_index(context: Context<Place>) {
    let late = IndexOptions::builder().expire_after(Duration::from_secs(3_600)).build();
    create(&context, doc! { "expires_at": 1 }, late).await;
    let error = connect(&context, "").await.fails(ErrorKind::InvalidConfig, "an index that expires late");
    assert!(error.message().contains("expires_at"), "{error}");
    create(&context, doc! { "key": 1 }, IndexOptions::default()).await;
    let error = connect(&context, "&layout=grammy").await;
    error.fails(ErrorKind::InvalidConfig, "an index that is not unique");
    // Without set-up the collection is accepted.
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
    let error = connect(&context, "").await.fails(ErrorKind::InvalidConfig, "a collation");
    assert!(error.message().contains("collation"), "{error}");
}

pub(crate) async fn doubled_keys(context: Context<Place>) {
    let collection = documents(&context.factory.server, context.target.space()).await;
    let doubled = [doc! { "key": "hunter2", "value": 1 }, doc! { "key": "hunter2", "value": 2 }];
    collection.insert_many(doubled).await.must("insert doubled keys");
    let error = connect(&context, "&layout=grammy").await.fails(ErrorKind::InvalidConfig, "doubled keys");
    assert!(!format!("{error} {error:?}").contains("hunter2"), "prints a key");
    assert_eq!(collection.count_documents(doc! {}).await.must("count"), 2);
    let storage = open(&context.factory.server, context.target.space(), "&layout=grammy&setup=false").await;
    assert!(storage.read(key("hunter2")).await.must("read").is_some());
}

const LAYOUTS: [&str; 3] = ["", "&values=json", "&layout=grammy"];

async fn existing(context: &Context<Place>, options: &str) -> Result<Store> {
    let url = url(&context.factory.server, context.target.space());
    Config::from_url(&format!("{url}{options}"))?.existing().connect().await
}

async fn insert(context: &Context<Place>, all: impl IntoIterator<Item = Document>) {
    let collection = documents(&context.factory.server, context.target.space()).await;
    collection.insert_many(all).await.must("insert past the storage");
}

async fn reset(context: &Context<Place>) {
    let collection = documents(&context.factory.server, context.target.space()).await;
    collection.drop().await.must("drop the collection");
}

/// Documents of other programs, which Larder's indexes would harm.
fn foreign() -> [Vec<Document>; 4] {
    let past = DateTime::from_millis(0);
    [
        // A login session and a job.
        vec![doc! { "user": 7, "expires_at": past }, doc! { "_id": "job", "expires_at": past, "value": 1 }],
        // A dictionary.
        vec![doc! { "key": "hunter2", "value": "a", "lang": "en" }],
        // Counters.
        vec![doc! { "_id": "hunter2", "seq": 5 }],
        vec![doc! { "_id": 7, "value": "x", "version": 1_i64 }],
    ]
}

pub(crate) async fn looking_at_nothing(context: Context<Place>) {
    for options in LAYOUTS {
        let error = existing(&context, options).await.fails(ErrorKind::InvalidConfig, "no collection");
        assert!(error.message().contains(context.target.space()), "{error}");
        let database = database(&context.factory.server).await;
        let names = database.list_collection_names().await.must("list the collections");
        assert!(!names.iter().any(|name| name == context.target.space()), "makes the collection");
    }
}

pub(crate) async fn looking_at_foreign_documents(context: Context<Place>) {
    for all in foreign() {
        let count = all.len() as u64;
        insert(&context, all).await;
        for options in LAYOUTS {
            let error =
                existing(&context, options).await.fails(ErrorKind::InvalidConfig, "foreign documents");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "prints a value");
            assert!(error.message().contains("documents"), "{error}");
        }
        assert_eq!(index_names(&context).await, ["_id_"]);
        let collection = documents(&context.factory.server, context.target.space()).await;
        assert_eq!(collection.count_documents(doc! {}).await.must("count"), count);
        reset(&context).await;
    }
}

pub(crate) async fn looking_at_larders_documents(context: Context<Place>) {
    for options in LAYOUTS {
        let writer = connect(&context, &format!("{options}&setup=false")).await.must("connect");
        writer.write(key("k"), "1").await.must("write");
        let storage = existing(&context, options).await.must("open an existing collection");
        assert_eq!(storage.read(key("k")).await.must("read").must("find it").value, "1");
        storage.write(key("k"), "2").await.must("write");
        assert!(storage.delete(key("k")).await.must("delete"));
        assert_eq!(index_names(&context).await, ["_id_"], "{options}");
        // An empty collection can be opened, too.
        existing(&context, options).await.must("open an empty collection");
        assert_eq!(index_names(&context).await, ["_id_"], "{options}");
        reset(&context).await;
    }
}

pub(crate) async fn writing_to_foreign_documents(context: Context<Place>) {
    for all in foreign() {
        insert(&context, all.clone()).await;
        for options in LAYOUTS {
            let error = connect(&context, options).await.fails(ErrorKind::InvalidConfig, "foreign documents");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "prints a value");
        }
        assert_eq!(index_names(&context).await, ["_id_"]);
        reset(&context).await;
        // Among Larder's own documents they are kept, too.
        let storage = connect(&context, "&setup=false").await.must("connect");
        storage.write(key("k"), "v").await.must("write");
        insert(&context, all).await;
        connect(&context, "").await.fails(ErrorKind::InvalidConfig, "documents of two programs");
        assert_eq!(index_names(&context).await, ["_id_"]);
        existing(&context, "").await.must("look at documents of two programs");
        reset(&context).await;
    }
}

pub(crate) async fn layout_that_does_not_fit(context: Context<Place>) {
    for own in LAYOUTS {
        let storage = connect(&context, own).await.must("connect");
        for content in ["documents", "nothing but the index"] {
            if content == "documents" {
                storage.write(key("k"), "1").await.must("write");
            } else {
                storage.clear("").await.must("clear");
            }
            let indexes = index_names(&context).await;
            for other in LAYOUTS.into_iter().filter(|other| *other != own) {
                // An empty collection has no layout yet.
                let fits = content != "documents" && !format!("{own}{other}").contains("grammy");
                for opened in [connect(&context, other).await, existing(&context, other).await] {
                    if fits {
                        opened.must("open an empty collection");
                    } else {
                        let error = opened.fails(ErrorKind::InvalidConfig, &format!("{own} as {other}"));
                        assert!(error.message().contains("open it with"), "{error}");
                    }
                }
            }
            assert_eq!(index_names(&context).await, indexes, "{own} {content}");
            existing(&context, own).await.must("look at it");
            connect(&context, own).await.must("open it again");
        }
        // The failed attempt changed nothing.
        for name in ["a", "b"] {
            storage.write(key(name), "1").await.must("write");
        }
        reset(&context).await;
    }
}

pub(crate) async fn empty_collection_of_another_program(context: Context<Place>) {
    let unique = || IndexOptions::builder().unique(true).build();
    create(&context, doc! { "email": 1 }, unique()).await;
    for options in LAYOUTS {
        let error = connect(&context, options).await.fails(ErrorKind::InvalidConfig, "a foreign index");
        assert!(error.message().contains("email_1"), "{error}");
    }
    assert_eq!(index_names(&context).await, ["_id_", "email_1"]);
    // Larder's own documents do not fit either: the second would also lack `email`.
    let storage = connect(&context, "&setup=false").await.must("connect");
    storage.write(key("k"), "v").await.must("write");
    connect(&context, "").await.fails(ErrorKind::InvalidConfig, "a unique index on a foreign field");
    reset(&context).await;

    create(&context, doc! { "value.name": 1 }, IndexOptions::default()).await;
    connect(&context, "&values=json").await.must("open with an index on a member");
    reset(&context).await;

    // A new collection: the deletion of one with the same name may still be running.
    let target = context.target.beside("-rules");
    let context = Context { factory: context.factory, target };
    let database = database(&context.factory.server).await;
    let rules = doc! { "$jsonSchema": { "required": ["email"] } };
    let created = database.create_collection(context.target.space()).validator(rules).await;
    created.must("create a collection with rules");
    let error = connect(&context, "").await.fails(ErrorKind::InvalidConfig, "validation rules");
    assert!(error.message().contains("rules"), "{error}");
    assert_eq!(index_names(&context).await, ["_id_"]);
    reset(&context).await;
}

/// Two layouts set up at the same time never both succeed on one collection.
pub(crate) async fn two_layouts_at_once(context: Context<Place>) {
    for round in 0..5 {
        let target = context.target.beside(&format!("-{round}"));
        let url = url(&context.factory.server, target.space());
        let opened = race(2, |which| {
            let url = format!("{url}{}", if which == 0 { "" } else { "&layout=grammy" });
            async move { larder_mongodb::connect(&url).await.is_ok() }
        })
        .await;
        assert_ne!(opened, [true, true], "round {round}");
        documents(&context.factory.server, target.space()).await.drop().await.must("drop the collection");
    }
}

/// Foreign documents are detected although they are neither first nor last in the order of `_id`.
pub(crate) async fn foreign_documents_between_own_ones(context: Context<Place>) {
    let (past, later) = (DateTime::from_millis(0), DateTime::from_millis(4_000_000_000_000));
    let value = || Binary { subtype: BinarySubtype::Generic, bytes: vec![1] };
    let own: [(&str, Vec<Document>); 2] = [
        (
            "",
            ["a", "z"]
                .into_iter()
                .flat_map(|end| (0..15).map(move |number| format!("{end}{number:02}")))
                .map(|key| doc! { "_id": key, "value": value(), "version": 1_i64, "expires_at": later })
                .collect(),
        ),
        (
            "&layout=grammy",
            [0, 2]
                .into_iter()
                .flat_map(|end| (0..15).map(move |number| end * 100 + number))
                .map(|id| doc! { "_id": id, "key": format!("k{id}"), "value": 1 })
                .collect(),
        ),
    ];
    let foreign = [
        ("", doc! { "expires_at": past }),
        ("", doc! { "value": value(), "expires_at": past }),
        ("", doc! { "value": value(), "version": 1_i64, "expires_at": past, "owner": "hunter2" }),
        ("", doc! { "value": value(), "version": 1_i64, "expires_at": [past] }),
        ("", doc! { "value": value(), "version": [1_i64], "expires_at": past }),
        ("&layout=grammy", doc! { "name": "hunter2" }),
        ("&layout=grammy", doc! { "key": "hunter2", "value": 1, "lang": "en" }),
        ("&layout=grammy", doc! { "key": ["hunter2"], "value": 1 }),
    ];
    for (layout, foreign) in foreign {
        for (_, own) in own.iter().filter(|(of, _)| *of == layout) {
            insert(&context, own.clone()).await;
        }
        let between = (0..30).map(|number| {
            let mut document = foreign.clone();
            let id = if layout.is_empty() { format!("m{number}").into() } else { Bson::Int32(100 + number) };
            document.insert("_id", id);
            if document.get_str("key").is_ok() {
                document.insert("key", format!("m{number}"));
            }
            document
        });
        insert(&context, between).await;
        let opened = connect(&context, layout).await;
        assert_eq!(index_names(&context).await, ["_id_"], "beside {foreign}");
        let error = opened.fails(ErrorKind::InvalidConfig, &format!("opening beside {foreign}"));
        assert!(!format!("{error} {error:?}").contains("hunter2"), "prints a value");
        reset(&context).await;
    }
    // Without them the index is created.
    for (layout, own) in own {
        insert(&context, own).await;
        connect(&context, layout).await.must("open a collection of its own");
        assert_eq!(index_names(&context).await.len(), 2, "{layout}");
        reset(&context).await;
    }
}

/// Without set-up, another layout would read as an empty store.
pub(crate) async fn layout_that_does_not_fit_without_setup(context: Context<Place>) {
    for own in LAYOUTS {
        let storage = connect(&context, &format!("{own}&setup=false")).await.must("connect");
        storage.write(key("k"), "1").await.must("write");
        for other in LAYOUTS.into_iter().filter(|other| *other != own) {
            let opened = connect(&context, &format!("{other}&setup=false")).await;
            let error = opened.fails(ErrorKind::InvalidConfig, &format!("{own} as {other}"));
            assert!(error.message().contains("open it with"), "{error}");
        }
        connect(&context, &format!("{own}&setup=false")).await.must("open it as it is");
        assert_eq!(index_names(&context).await, ["_id_"], "{own}");
        reset(&context).await;
    }
    // A collection may be shared with another program on purpose.
    insert(&context, [doc! { "_id": 7, "seq": 5 }]).await;
    for options in LAYOUTS {
        connect(&context, &format!("{options}&setup=false")).await.must("open beside another program");
    }
}
