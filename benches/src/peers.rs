//! Other libraries that store sessions or bytes.

use std::{collections::HashMap, fmt::Debug, path::Path, sync::Arc};

use actix_session::storage::{RedisSessionStore, SessionKey, SessionStore as _};
use bytes::Bytes;
use object_store::{ObjectStoreExt, local::LocalFileSystem};
use opendal::Operator;
use teloxide::{dispatching::dialogue::Storage, types::ChatId};

use crate::{
    contenders::{Peer, Raw},
    data::{Chat, Data, TTL, key},
};

/// A store of tower-sessions. Sessions are maps of JSON values, stored as MessagePack.
#[derive(Clone)]
pub struct Tower<S>(pub S, pub Data);

/// The same, for the older version of tower-sessions' trait that the store for MongoDB implements.
#[derive(Clone)]
pub struct OlderTower<S>(pub S, pub Data);

macro_rules! tower {
    ($tower:ident, $sessions:ident) => {
        impl<S: $sessions::SessionStore + Clone> Peer for $tower<S> {
            type Session = $sessions::session::Record;

            fn session(&self, number: u64) -> Self::Session {
                let Chat { pizzas, notes } = self.1.chat();
                let data =
                    HashMap::from([("pizzas".to_owned(), pizzas.into()), ("notes".to_owned(), notes.into())]);
                let id = $sessions::session::Id(i128::from(number) + 1);
                Self::Session { id, data, expiry_date: time::OffsetDateTime::now_utc() + TTL }
            }

            fn change(session: &mut Self::Session) {
                let pizzas = session.data.get_mut("pizzas").unwrap();
                *pizzas = (pizzas.as_u64().unwrap() + 1).into();
                session.expiry_date = time::OffsetDateTime::now_utc() + TTL;
            }

            async fn load(&self, number: u64) -> Self::Session {
                let id = $sessions::session::Id(i128::from(number) + 1);
                self.0.load(&id).await.unwrap().unwrap()
            }

            async fn save(&self, _: u64, session: Self::Session) {
                self.0.save(&session).await.unwrap();
            }
        }
    };
}

tower!(Tower, sessions);
tower!(OlderTower, sessions_011);

/// A storage of teloxide, which stores dialogues as JSON without expiry.
pub struct Dialogues<S>(pub Arc<S>, pub Data);

impl<S> Clone for Dialogues<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0), self.1)
    }
}

impl<S: Storage<Chat, Error: Debug> + Send + Sync + 'static> Peer for Dialogues<S> {
    type Session = Chat;

    fn session(&self, _: u64) -> Chat {
        self.1.chat()
    }

    fn change(session: &mut Chat) {
        session.change();
    }

    async fn load(&self, number: u64) -> Chat {
        Arc::clone(&self.0).get_dialogue(ChatId(number as i64 + 1)).await.unwrap().unwrap()
    }

    async fn save(&self, number: u64, session: Chat) {
        Arc::clone(&self.0).update_dialogue(ChatId(number as i64 + 1), session).await.unwrap();
    }
}

/// actix-session's store in Redis, which generates the keys of its sessions itself.
#[derive(Clone)]
pub struct Actix {
    store: RedisSessionStore,
    keys: Arc<Vec<String>>,
    data: Data,
}

impl Actix {
    pub async fn filled(url: &str, data: Data) -> Self {
        let store = RedisSessionStore::new(url).await.unwrap();
        let mut made = Self { store, keys: Arc::default(), data };
        let mut keys = Vec::new();
        for number in 0..data.keys {
            keys.push(made.store.save(made.session(number), &ttl()).await.unwrap().into());
        }
        made.keys = Arc::new(keys);
        made
    }

    fn key(&self, number: u64) -> SessionKey {
        self.keys[number as usize].clone().try_into().unwrap()
    }
}

fn ttl() -> actix_web::cookie::time::Duration {
    actix_web::cookie::time::Duration::seconds(TTL.as_secs() as i64)
}

impl Peer for Actix {
    type Session = HashMap<String, String>;

    fn session(&self, _: u64) -> Self::Session {
        let Chat { pizzas, notes } = self.data.chat();
        HashMap::from([("pizzas".to_owned(), pizzas.to_string()), ("notes".to_owned(), notes)])
    }

    fn change(session: &mut Self::Session) {
        let pizzas = session.get_mut("pizzas").unwrap();
        *pizzas = (pizzas.parse::<u64>().unwrap() + 1).to_string();
    }

    async fn load(&self, number: u64) -> Self::Session {
        self.store.load(&self.key(number)).await.unwrap().unwrap()
    }

    async fn save(&self, number: u64, session: Self::Session) {
        self.store.update(self.key(number), session, &ttl()).await.unwrap();
    }
}

/// OpenDAL, which stores bytes without versions and deadlines.
#[derive(Clone)]
pub struct Opendal(pub Operator);

impl Raw for Opendal {
    type Seen = ();

    async fn read(&self, number: u64) -> (Bytes, ()) {
        (self.0.read(key(number).as_str()).await.unwrap().to_bytes(), ())
    }

    async fn write(&self, number: u64, value: &Bytes) {
        self.0.write(key(number).as_str(), value.clone()).await.unwrap();
    }

    async fn swap(&self, number: u64, value: Bytes, (): ()) -> bool {
        self.write(number, &value).await;
        true
    }
}

/// OpenDAL's files. OpenDAL syncs the file but not the directory, so this does the latter.
#[derive(Clone)]
pub struct OpendalFiles(pub Opendal, pub Arc<Path>);

impl Raw for OpendalFiles {
    type Seen = ();

    async fn read(&self, number: u64) -> (Bytes, ()) {
        self.0.read(number).await
    }

    async fn write(&self, number: u64, value: &Bytes) {
        self.0.write(number, value).await;
        let directory = Arc::clone(&self.1);
        let sync = move || std::fs::File::open(directory).unwrap().sync_all().unwrap();
        tokio::task::spawn_blocking(sync).await.unwrap();
    }

    async fn swap(&self, number: u64, value: Bytes, (): ()) -> bool {
        self.write(number, &value).await;
        true
    }
}

/// object_store's files.
#[derive(Clone)]
pub struct Objects(pub Arc<LocalFileSystem>);

impl Raw for Objects {
    type Seen = ();

    async fn read(&self, number: u64) -> (Bytes, ()) {
        let found = self.0.get(&object(number)).await.unwrap();
        (found.bytes().await.unwrap(), ())
    }

    async fn write(&self, number: u64, value: &Bytes) {
        self.0.put(&object(number), value.clone().into()).await.unwrap();
    }

    async fn swap(&self, number: u64, value: Bytes, (): ()) -> bool {
        self.write(number, &value).await;
        true
    }
}

fn object(number: u64) -> object_store::path::Path {
    key(number).as_str().into()
}
