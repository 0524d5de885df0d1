//! Commands per operation, as the driver reports them.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::TryStreamExt;
use larder_core::{Condition, Expiry, Key, Storage, Write};
use larder_mongodb::{Layout, MongoBuilder, MongoStorage};
use larder_testkit::{Context, Must};
use mongodb::{
    Client,
    event::{EventHandler, command::CommandEvent},
    options::ClientOptions,
};

use crate::places::{DATABASE, Place, key};

/// The names of the commands that a client has sent.
#[derive(Clone, Default)]
struct Commands(Arc<Mutex<Vec<String>>>);

impl Commands {
    /// Those since the last call.
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn handler(&self) -> EventHandler<CommandEvent> {
        let commands = self.clone();
        EventHandler::callback(move |event| {
            if let CommandEvent::Started(event) = event {
                let mut names = commands.0.lock().unwrap_or_else(PoisonError::into_inner);
                names.push(event.command_name);
            }
        })
    }
}

async fn watched(context: &Context<Place>, layout: Layout) -> (MongoStorage, Commands) {
    let commands = Commands::default();
    let mut options = ClientOptions::parse(context.factory.server.url()).await.must("parse the URL");
    options.command_event_handler = Some(commands.handler());
    let client = Client::with_options(options).must("make a client");
    let builder = MongoBuilder::from_client(client).database(DATABASE).collection(context.target.space());
    let storage = builder.layout(layout).connect().await.must("connect");
    commands.take();
    (storage, commands)
}

pub(crate) async fn larder(context: Context<Place>) {
    let (storage, commands) = watched(&context, Layout::Larder).await;
    let key = key("k");
    let hour = Expiry::after_secs(3_600);
    storage.write(&key, "1".into(), Expiry::Never).await.must("write");
    assert_eq!(commands.take(), ["update"]);
    storage.write(&key, "1".into(), hour).await.must("write with an expiry");
    assert_eq!(commands.take(), ["update"]);
    let version = storage.read(&key).await.must("read").must("find it").version.must("have a version");
    assert_eq!(commands.take(), ["aggregate"]);
    let at = Condition::At(version);
    let version = storage.write_if(&key, "2".into(), Expiry::Never, at.clone()).await.must("write if");
    assert_eq!(commands.take(), ["update"]);
    storage.write_if(&key, "3".into(), hour, at).await.err().must("conflict");
    assert_eq!(commands.take(), ["update"]);
    storage.write_if(&key, "3".into(), hour, Condition::Absent).await.err().must("conflict");
    assert_eq!(commands.take(), ["update"]);
    storage.touch(&key, hour).await.must("touch");
    assert_eq!(commands.take(), ["update"]);
    storage.touch(&key, Expiry::Never).await.must("touch");
    assert_eq!(commands.take(), ["update"]);
    storage.ttl(&key).await.must("ttl");
    assert_eq!(commands.take(), ["aggregate"]);
    storage.contains(&key).await.must("contains");
    assert_eq!(commands.take(), ["aggregate"]);
    storage.delete_if(&key, &version).await.must("delete if");
    assert_eq!(commands.take(), ["delete"]);
    storage.write_if(&key, "4".into(), hour, Condition::Absent).await.must("write if absent");
    assert_eq!(commands.take(), ["update"]);
    assert!(storage.delete(&key).await.must("delete"));
    assert_eq!(commands.take(), ["delete"]);
    storage.ping().await.must("ping");
    assert_eq!(commands.take(), ["ping"]);
    storage.clear("x").await.must("clear");
    assert_eq!(commands.take(), ["aggregate"]);
    storage.purge_expired().await.must("purge");
    storage.flush().await.must("flush");
    assert!(commands.take().is_empty());
}

pub(crate) async fn grammy(context: Context<Place>) {
    let (storage, commands) = watched(&context, Layout::Grammy).await;
    let key = key("k");
    storage.write(&key, "1".into(), Expiry::Never).await.must("write");
    assert_eq!(commands.take(), ["update"]);
    let version = storage.read(&key).await.must("read").must("find it").version.must("have a version");
    assert_eq!(commands.take(), ["aggregate"]);
    let at = Condition::At(version);
    let version = storage.write_if(&key, "2".into(), Expiry::Never, at).await.must("write if");
    assert_eq!(commands.take(), ["update"]);
    storage.delete_if(&key, &version).await.must("delete if");
    assert_eq!(commands.take(), ["delete"]);
    storage.write_if(&key, "3".into(), Expiry::Never, Condition::Absent).await.must("write if absent");
    assert_eq!(commands.take(), ["update"]);
    storage.delete(&key).await.must("delete");
    assert_eq!(commands.take(), ["delete"]);
}

pub(crate) async fn many(context: Context<Place>) {
    let (storage, commands) = watched(&context, Layout::Larder).await;
    let keys: Vec<Key> = (0..400).map(|number| key(format!("k{number}"))).collect();
    let expiry = |index| if index % 2 == 0 { Expiry::Never } else { Expiry::after_secs(3_600) };
    let writes: Vec<_> = keys
        .iter()
        .enumerate()
        .map(|(index, key)| Write::new(key.clone(), index.to_string(), expiry(index)))
        .collect();
    storage.write_many(&writes).await.must("write many");
    assert_eq!(commands.take(), ["update"]);
    let read = storage.read_many(&keys).await.must("read many");
    for (index, record) in read.into_iter().enumerate() {
        assert_eq!(record.must("find it").value, index.to_string());
    }
    assert_eq!(commands.take(), ["aggregate"]);
    let listed: Vec<Key> = storage.keys("").try_collect().await.must("list");
    assert_eq!(listed.len(), 400);
    // One for the keys, one for what is not a key.
    assert_eq!(commands.take(), ["aggregate", "aggregate"]);
    assert_eq!(storage.delete_many(&keys).await.must("delete many"), 400);
    assert_eq!(commands.take(), ["delete"]);
    storage.write_many(&writes).await.must("write many");
    commands.take();
    assert_eq!(storage.clear("k").await.must("clear"), 400);
    assert_eq!(commands.take(), ["aggregate", "delete"]);
}

/// Looking sends nothing that needs more than the right to read.
pub(crate) async fn existing(context: Context<Place>) {
    let (storage, _) = watched(&context, Layout::Larder).await;
    storage.write(&key("k"), "1".into(), Expiry::Never).await.must("write");
    let commands = Commands::default();
    let mut options = ClientOptions::parse(context.factory.server.url()).await.must("parse the URL");
    options.command_event_handler = Some(commands.handler());
    let client = Client::with_options(options).must("make a client");
    let builder = MongoBuilder::from_client(client).database(DATABASE).collection(context.target.space());
    let storage = builder.existing().connect().await.must("connect");
    storage.read(&key("k")).await.must("read").must("find it");
    storage.ttl(&key("k")).await.must("ask for the time left");
    let listed: Vec<Key> = storage.keys("").try_collect().await.must("list");
    assert_eq!(listed.len(), 1);
    let reads = ["listCollections", "listIndexes", "aggregate"];
    let sent = commands.take();
    assert!(sent.iter().all(|command| reads.contains(&command.as_str())), "{sent:?}");
}
