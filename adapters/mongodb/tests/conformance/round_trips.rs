//! Commands per operation, as the driver reports them.

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::TryStreamExt;
use larder_core::{
    Applied, Change, Condition, Expiry, Key, ListOptions, ReadOptions, Store, Version, Written,
};
use larder_mongodb::{Config, Layout};
use larder_testkit::{Context, Must};
use mongodb::{
    Client,
    event::{EventHandler, command::CommandEvent},
    options::ClientOptions,
};

use crate::places::{DATABASE, Place, key};

/// The names of the commands that the client has sent.
#[derive(Clone, Default)]
struct Commands(Arc<Mutex<Vec<String>>>);

impl Commands {
    /// The names since the last call.
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

async fn watched(context: &Context<Place>, layout: Layout) -> (Store, Commands) {
    let commands = Commands::default();
    let mut options = ClientOptions::parse(context.factory.server.url()).await.must("parse the URL");
    options.command_event_handler = Some(commands.handler());
    let client = Client::with_options(options).must("make a client");
    let config = Config::new().database(DATABASE).collection(context.target.space()).layout(layout);
    let storage = config.connect_with(client).await.must("connect");
    commands.take();
    (storage, commands)
}

/// The version of a write.
fn version(written: Written) -> Version {
    written.version.must("have a version")
}

pub(crate) async fn larder(context: Context<Place>) {
    let (store, commands) = watched(&context, Layout::Larder).await;
    let key = key("k");
    let hour = Expiry::after_secs(3_600);
    store.write(&key, "1").await.must("write");
    assert_eq!(commands.take(), ["update"]);
    store.write(&key, "1").expiry(hour).await.must("write with an expiry");
    assert_eq!(commands.take(), ["update"]);
    let record = store.read(&key).await.must("read").must("find it");
    assert_eq!(commands.take(), ["aggregate"]);
    let left = store.read(&key).with_ttl().await.must("read").must("find it").expiry;
    assert!(matches!(left, Some(Expiry::After(left)) if left.as_secs() > 3_500), "{left:?}");
    assert_eq!(commands.take(), ["aggregate"]);
    let touched = store.read(&key).touching(hour).with_ttl().await.must("read").must("find it");
    assert_eq!(touched, record.clone().expires(hour));
    assert_eq!(commands.take(), ["findAndModify"]);
    let touched = store.read(&key).touching(Expiry::Never).without_value().await.must("touch");
    assert!(touched.must("find it").value.is_empty());
    assert_eq!(commands.take(), ["findAndModify"]);
    let old = record.version.must("have a version");
    store.write(&key, "2").if_at(old.clone()).await.must("write at a version");
    assert_eq!(commands.take(), ["update"]);
    store.write(&key, "3").expiry(hour).if_at(old.clone()).await.err().must("conflict");
    assert_eq!(commands.take(), ["update"]);
    store.write(&key, "3").expiry(hour).if_absent().await.err().must("conflict");
    assert_eq!(commands.take(), ["update"]);
    let new = version(store.write(&key, "3").if_present().await.must("write if present"));
    assert_eq!(commands.take(), ["update"]);
    store.touch(&key, hour).await.must("touch");
    assert_eq!(commands.take(), ["update"]);
    store.touch(&key, Expiry::Never).if_at(new.clone()).await.must("touch at a version");
    assert_eq!(commands.take(), ["update"]);
    store.touch(&key, hour).if_at(old.clone()).await.err().must("conflict");
    assert_eq!(commands.take(), ["update"]);
    store.ttl(&key).await.must("ttl");
    assert_eq!(commands.take(), ["aggregate"]);
    store.contains(&key).await.must("contains");
    assert_eq!(commands.take(), ["aggregate"]);
    store.delete(&key).if_at(old).await.err().must("conflict");
    assert_eq!(commands.take(), ["delete"]);
    store.delete(&key).if_at(new).await.must("delete at a version");
    assert_eq!(commands.take(), ["delete"]);
    store.write(&key, "4").expiry(hour).if_absent().await.must("write if absent");
    assert_eq!(commands.take(), ["update"]);
    assert!(store.delete(&key).await.must("delete"));
    assert_eq!(commands.take(), ["delete"]);
    store.delete(&key).if_present().await.err().must("conflict");
    assert_eq!(commands.take(), ["delete"]);
    store.ping().await.must("ping");
    assert_eq!(commands.take(), ["ping"]);
    store.clear("x").await.must("clear");
    assert_eq!(commands.take(), ["aggregate"]);
    store.purge_expired().await.must("purge");
    store.flush().await.must("flush");
    assert!(commands.take().is_empty());
}

pub(crate) async fn grammy(context: Context<Place>) {
    let (store, commands) = watched(&context, Layout::Grammy).await;
    let key = key("k");
    store.write(&key, "1").await.must("write");
    assert_eq!(commands.take(), ["update"]);
    let seen = store.read(&key).await.must("read").must("find it").version.must("have a version");
    assert_eq!(commands.take(), ["aggregate"]);
    let seen = version(store.write(&key, "2").if_at(seen).await.must("write at a version"));
    assert_eq!(commands.take(), ["update"]);
    // Also with the same value.
    assert_eq!(version(store.write(&key, "2").if_present().await.must("write if present")), seen);
    assert_eq!(commands.take(), ["update"]);
    store.delete(&key).if_at(seen).await.must("delete at a version");
    assert_eq!(commands.take(), ["delete"]);
    store.write(&key, "3").if_present().await.err().must("conflict");
    assert_eq!(commands.take(), ["update"]);
    store.write(&key, "3").if_absent().await.must("write if absent");
    assert_eq!(commands.take(), ["update"]);
    store.write(&key, "3").if_absent().await.err().must("conflict");
    assert_eq!(commands.take(), ["update"]);
    store.delete(&key).await.must("delete");
    assert_eq!(commands.take(), ["delete"]);
}

pub(crate) async fn many(context: Context<Place>) {
    let (store, commands) = watched(&context, Layout::Larder).await;
    let keys: Vec<Key> = (0..400).map(|number| key(format!("k{number:03}"))).collect();
    let expiry = |index| if index % 2 == 0 { Expiry::Never } else { Expiry::after_secs(3_600) };
    let put = |(index, key): (usize, &Key)| Change::put(key.clone(), index.to_string(), expiry(index));
    let write = async || {
        for result in store.apply(keys.iter().enumerate().map(put).collect()).await {
            assert!(matches!(result.must("write many"), Applied::Put(_)));
        }
    };
    write().await;
    assert_eq!(commands.take(), ["bulkWrite"]);
    for options in [ReadOptions::new(), ReadOptions::new().with_ttl()] {
        for (index, record) in store.read_many(&keys, &options).await.into_iter().enumerate() {
            let record = record.must("read many").must("find it");
            assert_eq!(record.value, index.to_string());
            assert_eq!(record.expiry.is_some(), options.ttl);
        }
        assert_eq!(commands.take(), ["aggregate"]);
    }
    let listed: Vec<Key> = store.keys("").try_collect().await.must("list");
    assert_eq!(listed, keys);
    // One for the keys, and one for the invalid keys.
    assert_eq!(commands.take(), ["aggregate", "aggregate"]);
    let rest = ListOptions::new().start_after(keys[389].clone()).limit(NonZeroUsize::MIN.saturating_add(4));
    let listed: Vec<Key> = store.list(rest).map_ok(|entry| entry.key).try_collect().await.must("list");
    assert_eq!(listed, keys[390..395]);
    assert_eq!(commands.take(), ["aggregate"]);
    assert_eq!(store.clear("k").await.must("clear"), 400);
    assert_eq!(commands.take(), ["aggregate", "delete"]);
    // For all kinds of changes: the server reports a count for each.
    for change in [Change::delete, |key| Change::touch(key, Expiry::after_secs(60)).on(Condition::Present)] {
        write().await;
        commands.take();
        let mut changes: Vec<Change> = keys.iter().cloned().map(change).collect();
        changes.push(Change::delete(key("none")));
        let mut applied: Vec<_> =
            store.apply(changes).await.into_iter().map(|result| result.must("change many")).collect();
        assert_eq!(applied.pop(), Some(Applied::Deleted(false)));
        let done = |applied| matches!(applied, Applied::Deleted(true) | Applied::Touched(true));
        assert!(applied.into_iter().all(done));
        assert_eq!(commands.take(), ["bulkWrite"]);
    }
}

/// Opening an existing collection needs only the right to read.
pub(crate) async fn existing(context: Context<Place>) {
    let (storage, _) = watched(&context, Layout::Larder).await;
    storage.write(key("k"), "1").await.must("write");
    let commands = Commands::default();
    let mut options = ClientOptions::parse(context.factory.server.url()).await.must("parse the URL");
    options.command_event_handler = Some(commands.handler());
    let client = Client::with_options(options).must("make a client");
    let config = Config::new().database(DATABASE).collection(context.target.space()).existing();
    let storage = config.connect_with(client).await.must("connect");
    storage.read(key("k")).await.must("read").must("find it");
    storage.ttl(&key("k")).await.must("ask for the time left");
    let listed: Vec<Key> = storage.keys("").try_collect().await.must("list");
    assert_eq!(listed.len(), 1);
    let reads = ["listCollections", "listIndexes", "aggregate"];
    let sent = commands.take();
    assert!(sent.iter().all(|command| reads.contains(&command.as_str())), "{sent:?}");
}
