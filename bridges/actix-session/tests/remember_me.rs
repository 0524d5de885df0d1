//! The example of a lifetime for each session.

#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

#[allow(dead_code)] // Its `main`.
#[path = "../examples/remember_me.rs"]
mod example;

use std::time::Duration;

use actix_web::cookie::Key as Secret;
use example::{LONG, SHORT};
use futures_util::TryStreamExt as _;
use larder_actix_session::LarderStore;
use larder_bridge_tests::{Browser, Probe};
use larder_core::Expiry;

#[tokio::test]
async fn each_session_keeps_its_lifetime() {
    for (login, lifetime) in [("/login/ann", SHORT), ("/login/ann/remember", LONG)] {
        let lifetime = Duration::try_from(lifetime).unwrap();
        let probe = Probe::new();
        let store = LarderStore::new(probe.clone()).unwrap();
        let (server, address) = example::serve(store, Secret::from(&[7; 64]), "127.0.0.1:0").unwrap();
        tokio::spawn(server);
        let mut browser = Browser::new(address);
        // A login, a change of the session, a request that only reads it, and another login.
        for request in [("POST", login), ("POST", "/visit"), ("GET", "/"), ("POST", login)] {
            assert_eq!(browser.says(request.0, request.1).await, "hello ann");
            let keys: Vec<_> = probe.storage().keys("").try_collect().await.unwrap();
            let [key] = &keys[..] else { panic!("one session") };
            let left = probe.storage().ttl(key).await.unwrap();
            let is_set = matches!(left, Some(Expiry::After(left)) if left <= lifetime && left > lifetime / 2);
            assert!(is_set, "{request:?}: {left:?}");
            // The next request sets it again.
            probe.storage().touch(key, Expiry::After(lifetime / 2)).await.unwrap();
        }
    }
}
