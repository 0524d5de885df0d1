//! Failures of the storage, and the example's responses to them.

#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

#[allow(dead_code)] // Its `main`.
#[path = "../examples/counter.rs"]
mod example;

use larder_bridge_tests::Browser;
use larder_core::{
    Bytes, DeleteOptions, Error, ErrorKind, Info, Key, ReadOptions, Record, Result, Storage, Versions,
    WriteOptions, Written, async_trait,
};
use larder_tower_sessions::LarderStore;
use tokio::net::TcpListener;
use tower_sessions::{SessionStore, cookie::time::Duration, session::Id, session_store};

/// A storage where every operation fails.
#[derive(Debug)]
struct Refuses(ErrorKind);

impl Refuses {
    fn refusal(&self) -> Error {
        Error::new(self.0, "no")
    }
}

#[async_trait]
impl Storage for Refuses {
    fn info(&self) -> Info {
        Info::minimal("refuses").with_expiry().with_versions(Versions::Unique)
    }

    async fn read(&self, _: &Key, _: &ReadOptions) -> Result<Option<Record>> {
        Err(self.refusal())
    }

    async fn write(&self, _: &Key, _: Bytes, _: &WriteOptions) -> Result<Written> {
        Err(self.refusal())
    }

    async fn delete(&self, _: &Key, _: &DeleteOptions) -> Result<bool> {
        Err(self.refusal())
    }
}

#[tokio::test]
async fn an_unreadable_entry_differs_from_an_unreachable_store() {
    for (kind, unreadable) in [
        (ErrorKind::Corrupt, true),
        (ErrorKind::VersionTooNew, true),
        (ErrorKind::PermissionDenied, false),
        (ErrorKind::Unavailable, false),
    ] {
        let outcome = LarderStore::new(Refuses(kind)).unwrap().load(&Id(7)).await;
        match outcome {
            Err(session_store::Error::Decode(_)) => assert!(unreadable, "{kind}"),
            Err(session_store::Error::Backend(_)) => assert!(!unreadable, "{kind}"),
            outcome => panic!("{kind}: {outcome:?}"),
        }
    }
}

#[tokio::test]
async fn only_transient_failures_ask_for_a_retry() {
    let (passes, stays) = ((503, "Please try again.\n"), (500, "Something is wrong here.\n"));
    for (kind, expected) in [
        (ErrorKind::Unavailable, passes),
        (ErrorKind::Timeout, passes),
        (ErrorKind::PermissionDenied, stays),
        (ErrorKind::InvalidConfig, stays),
        (ErrorKind::Unsupported, stays),
        (ErrorKind::Closed, stays),
        (ErrorKind::Corrupt, stays),
        (ErrorKind::VersionTooNew, stays),
        (ErrorKind::Other, stays),
    ] {
        let store = LarderStore::new(Refuses(kind)).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = example::router(store, Duration::hours(1));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let mut browser = Browser::new(address).with_cookie(format!("id={}", Id(7)));
        let mut answers = vec![browser.get("/").await];
        for path in ["/count", "/login/ann", "/logout"] {
            answers.push(browser.post(path).await);
        }
        for answer in answers {
            assert_eq!((answer.status, answer.body.as_str()), expected, "{kind}");
            assert_eq!(answer.set_cookie, None, "{kind}");
        }
    }
}
