//! If the storage cannot read, the visitor must not seem to be logged out.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test fails by panicking.

#[allow(dead_code)] // Its `main`.
#[path = "../examples/actix_login.rs"]
mod example;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use actix_session::{
    config::PersistentSession,
    storage::{LoadError, SessionStore, UpdateError, generate_session_key},
};
use actix_web::cookie::{Cookie, CookieJar, Key as Secret, time::Duration};
use larder_actix_session::LarderStore;
use larder_bridge_tests::Browser;
use larder_core::{
    Bytes, DeleteOptions, Error, ErrorKind, Expiry, Info, Key, ReadOptions, Record, Result, Storage,
    TouchOptions, Version, Versions, WriteOptions, Written, async_trait,
};

const HOUR: Duration = Duration::hours(1);
const KINDS: [ErrorKind; 4] =
    [ErrorKind::Corrupt, ErrorKind::VersionTooNew, ErrorKind::PermissionDenied, ErrorKind::Unavailable];

/// A storage that cannot read. It counts the attempts to change it.
#[derive(Clone, Debug)]
struct Unreadable {
    kind: ErrorKind,
    changes: Arc<AtomicUsize>,
}

impl Unreadable {
    fn new(kind: ErrorKind) -> Self {
        Self { kind, changes: Arc::default() }
    }

    fn change(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
    }

    fn changes(&self) -> usize {
        self.changes.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Storage for Unreadable {
    fn info(&self) -> Info {
        Info::minimal("unreadable").with_expiry().with_versions(Versions::Unique)
    }

    async fn read(&self, _: &Key, _: &ReadOptions) -> Result<Option<Record>> {
        Err(Error::new(self.kind, "it cannot be read"))
    }

    async fn write(&self, _: &Key, _: Bytes, _: &WriteOptions) -> Result<Written> {
        self.change();
        Ok(Written::at(Version::unique()))
    }

    async fn delete(&self, _: &Key, _: &DeleteOptions) -> Result<bool> {
        self.change();
        Ok(true)
    }

    async fn touch(&self, _: &Key, _: Expiry, _: &TouchOptions) -> Result<bool> {
        self.change();
        Ok(true)
    }
}

fn kind(error: &anyhow::Error) -> ErrorKind {
    error.downcast_ref::<Error>().expect("Larder's error is the source").kind()
}

#[tokio::test]
async fn a_failure_keeps_its_kind_and_changes_nothing() {
    for expected in KINDS {
        let storage = Unreadable::new(expected);
        let store = LarderStore::new(storage.clone()).unwrap();
        let Err(LoadError::Other(error)) = store.load(&generate_session_key()).await else {
            panic!("another outcome");
        };
        assert_eq!(kind(&error), expected);
        let outcome = store.update(generate_session_key(), HashMap::new(), &HOUR).await;
        let Err(UpdateError::Other(error)) = outcome else { panic!("another outcome") };
        assert_eq!(kind(&error), expected);
        assert_eq!(storage.changes(), 0);
    }
}

#[tokio::test]
async fn an_unreadable_session_does_not_log_out_its_visitor() {
    for kind in KINDS {
        let (storage, secret) = (Unreadable::new(kind), Secret::from(&[7; 64]));
        let mut jar = CookieJar::new();
        jar.private_mut(&secret).add(Cookie::new("id", String::from(generate_session_key())));
        let cookie = jar.get("id").unwrap().encoded().to_string();

        let store = LarderStore::new(storage.clone()).unwrap();
        let lifecycle = PersistentSession::default().session_ttl(HOUR);
        let (server, address) = example::serve(store, secret, lifecycle, "127.0.0.1:0").unwrap();
        tokio::spawn(server);
        let mut browser = Browser::new(address).with_cookie(cookie);
        assert_eq!(browser.get("/").await.status, 500, "{kind}");
        for path in ["/count", "/login/ann", "/logout"] {
            let answer = browser.post(path).await;
            assert_eq!((answer.status, answer.set_cookie), (500, None), "{kind} {path}");
        }
        assert_eq!(storage.changes(), 0);
    }
}
