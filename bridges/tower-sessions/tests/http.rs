//! The example's service, tested with a browser.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test fails by panicking.

#[allow(dead_code)] // Its `main`.
#[path = "../examples/counter.rs"]
mod example;

mod common;

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::TryStreamExt as _;
use larder_bridge_tests::{Browser, OCCUPIED, Probe};
use larder_core::{Expiry, Key, ListOptions};
use larder_testkit::{race, until};
use larder_tower_sessions::LarderStore;
use tokio::net::TcpListener;
use tower_sessions::{cookie::time, session::Id};

const FOREIGN: &[u8] = br#"{"cookie":{"path":"/"},"user":"ann"}"#;

/// Starts the service on a storage that the test can break; returns both the storage and a visitor.
async fn start() -> (Probe, Browser) {
    start_with(time::Duration::hours(1)).await
}

async fn start_with(lifetime: time::Duration) -> (Probe, Browser) {
    start_on(|store| store, lifetime).await
}

async fn start_on(
    with: impl FnOnce(LarderStore) -> LarderStore,
    lifetime: time::Duration,
) -> (Probe, Browser) {
    let probe = Probe::new();
    let store = with(LarderStore::new(probe.clone()).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, example::router(store, lifetime)).await });
    (probe, Browser::new(address))
}

/// Returns the id in the browser's cookie.
fn id(browser: &Browser) -> String {
    browser.cookie().expect("a cookie").strip_prefix("id=").expect("the session's cookie").to_owned()
}

fn key(browser: &Browser) -> Key {
    common::hashed("session:", &id(browser))
}

#[tokio::test]
async fn counting_login_and_logout_work() {
    let (probe, mut browser) = start().await;
    assert_eq!(browser.says("GET", "/").await, "guest: 0");
    assert_eq!(browser.cookie(), None, "a read creates no session");
    assert_eq!(browser.says("POST", "/count").await, "guest: 1");
    let before = browser.clone();
    assert_eq!(browser.says("POST", "/count").await, "guest: 2");
    assert_eq!(browser.cookie(), before.cookie());

    assert_eq!(browser.says("POST", "/login/ann").await, "ann: 2");
    assert_ne!(browser.cookie(), before.cookie(), "a login gets a new id");
    assert_eq!(before.clone().says("GET", "/").await, "guest: 0", "the old id is useless");
    assert_eq!(before.clone().says("POST", "/count").await, "guest: 1");
    assert!(!probe.storage().contains(&key(&before)).await.unwrap());
    assert_eq!(browser.says("POST", "/count").await, "ann: 3");

    let logged_in = browser.clone();
    assert_eq!(browser.says("POST", "/logout").await, "guest: 0");
    assert_eq!(browser.cookie(), None, "the cookie is removed");
    assert_eq!(logged_in.clone().says("GET", "/").await, "guest: 0", "a replayed cookie is useless");
    assert!(!probe.storage().contains(&key(&logged_in)).await.unwrap());
}

#[tokio::test]
async fn a_taken_id_is_not_overwritten() {
    let (probe, mut browser) = start().await;
    probe.occupy(3);
    assert_eq!(browser.says("POST", "/count").await, "guest: 1");
    let occupied = probe.occupied();
    assert_eq!(occupied.len(), 3);
    for taken in occupied {
        assert_ne!(taken, key(&browser));
        let record = probe.storage().read(&taken).await.unwrap().unwrap();
        assert_eq!(record.value, OCCUPIED.as_bytes());
    }
    assert_eq!(browser.says("POST", "/count").await, "guest: 2");

    // A storage where no id is ever free is broken; the request fails and does not wait for one.
    probe.occupy(usize::MAX);
    let mut other = browser.with_cookie("other=1");
    let answer = other.post("/count").await;
    assert_eq!((answer.status, answer.set_cookie), (500, None));
}

#[tokio::test]
async fn a_session_expires() {
    let (_, mut browser) = start_with(time::Duration::milliseconds(1_500)).await;
    assert_eq!(browser.says("POST", "/count").await, "guest: 1");
    let old = browser.clone();
    until("the session expires", Duration::from_secs(60), || async {
        old.clone().says("GET", "/").await == "guest: 0"
    })
    .await;
    browser = old.clone();
    assert_eq!(browser.says("POST", "/count").await, "guest: 1");
    assert_ne!(browser.cookie(), old.cookie(), "an expired id is not reused");
}

#[tokio::test]
async fn a_remembered_session_keeps_its_longer_expiry() {
    let (probe, mut browser) = start().await;
    let days = async |browser: &Browser| match probe.storage().ttl(&key(browser)).await.unwrap() {
        Some(Expiry::After(left)) => left.as_secs_f64() / 86_400.0,
        left => panic!("{left:?}"),
    };
    browser.says("POST", "/login/ann").await;
    assert!(days(&browser).await < 1.0, "the layer's expiry");
    for (method, path) in [("POST", "/remember"), ("POST", "/count"), ("GET", "/"), ("POST", "/login/bob")] {
        browser.says(method, path).await;
        assert!(days(&browser).await > 29.0, "{path}");
    }
    assert_eq!(browser.says("POST", "/logout").await, "guest: 0");
    assert_eq!(probe.entries(), 0);
    browser.says("POST", "/login/ann").await;
    assert!(days(&browser).await < 1.0, "the logout has forgotten it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_requests_keep_sessions_intact() {
    let (_, mut browser) = start().await;
    browser.says("POST", "/login/ann").await;
    race(12, |_| {
        let mut tab = browser.clone();
        async move {
            let said = tab.says("POST", "/count").await;
            assert!(said.starts_with("ann: "), "{said}");
        }
    })
    .await;
    // The last save wins, as tower-sessions defines it, but the session stays intact.
    let said = browser.says("GET", "/").await;
    let count: u64 = said.strip_prefix("ann: ").and_then(|count| count.parse().ok()).unwrap();
    assert!((1..=12).contains(&count), "{said}");

    let mut ids = race(12, |_| {
        let mut visitor = browser.with_cookie("other=1");
        async move {
            assert_eq!(visitor.says("POST", "/count").await, "guest: 1");
            id(&visitor)
        }
    })
    .await;
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 12, "each visitor has a session of their own");
}

#[tokio::test]
async fn a_request_does_not_restore_an_ended_session() {
    for logs_out in [true, false] {
        let (probe, mut browser) = start().await;
        browser.says("POST", "/login/ann").await;
        let key = key(&browser);
        let mut tab = browser.clone();
        let request = async move { tab.post("/count").await };
        let answer = probe
            .between(request, async {
                if logs_out {
                    browser.says("POST", "/logout").await;
                } else {
                    probe.storage().touch(&key, Expiry::after_millis(1)).await.unwrap();
                    until("the session expires", Duration::from_secs(60), || async {
                        !probe.storage().contains(&key).await.unwrap()
                    })
                    .await;
                }
            })
            .await;
        assert_eq!((answer.status, answer.set_cookie), (500, None));
        assert!(!probe.storage().contains(&key).await.unwrap());
    }
}

#[tokio::test]
async fn the_last_of_two_requests_wins() {
    let (probe, mut browser) = start().await;
    browser.says("POST", "/count").await;
    let mut tab = browser.clone();
    let request = async move { tab.says("POST", "/count").await };
    let said = probe
        .between(request, async {
            browser.says("POST", "/count").await;
        })
        .await;
    assert_eq!(said, "guest: 2");
    assert_eq!(browser.says("GET", "/").await, "guest: 2");
}

#[tokio::test]
async fn foreign_cookies_identify_no_session() {
    let (probe, mut browser) = start().await;
    browser.says("POST", "/login/ann").await;
    let real = id(&browser);
    let unknown = Id(42).to_string();
    let values = [
        unknown.clone(),
        String::new(),
        real[..21].to_owned(),
        format!("{real}A"),
        format!("{}é", &real[..20]),
        real.to_ascii_lowercase(),
        "A".repeat(6_000),
        "../../../etc/passwd".to_owned(),
        "'%20OR%201=1--".to_owned(),
        "session:x".to_owned(),
        "*".repeat(22),
        "\"".to_owned(),
    ];
    for value in values {
        let cookie = format!("id={value}");
        assert_eq!(browser.with_cookie(&cookie).says("GET", "/").await, "guest: 0", "{value}");
        let mut visitor = browser.with_cookie(&cookie);
        assert_eq!(visitor.says("POST", "/count").await, "guest: 1", "{value}");
        assert_ne!(id(&visitor), value, "the visitor cannot choose the id");
    }
    let planted = common::hashed("session:", &unknown);
    assert!(!probe.storage().contains(&planted).await.unwrap());
    assert_eq!(browser.says("GET", "/").await, "ann: 0");
}

#[tokio::test]
async fn a_session_above_the_maximum_size_is_an_error() {
    let (probe, mut browser) = start_on(|store| store.with_max_size(100), time::Duration::hours(1)).await;
    browser.says("POST", "/login/ann").await;
    let answer = browser.post(&format!("/login/{}", "ann".repeat(30))).await;
    assert_eq!((answer.status, answer.set_cookie), (500, None));
    assert_eq!(probe.entries(), 0, "the login has ended the old session");
}

#[tokio::test]
async fn a_stolen_backup_logs_nobody_in() {
    let with_owner =
        |store: LarderStore| store.with_owner(|data| Some(data.get("name")?.as_str()?.to_owned()));
    let (probe, mut browser) = start_on(with_owner, time::Duration::hours(1)).await;
    browser.says("POST", "/login/ann").await;
    let entries: Vec<_> = probe.storage().list(ListOptions::new()).try_collect().await.unwrap();
    assert_eq!(entries.len(), 2, "the session, and an entry of the index");
    for entry in &entries {
        let value = entry.record.as_ref().unwrap().value.to_vec();
        assert!(!entry.key.as_str().contains(&id(&browser)));
        assert!(!String::from_utf8(value).unwrap().contains(&id(&browser)));
    }
    let stored =
        entries.iter().map(|entry| entry.key.as_str()).find(|key| key.starts_with("session:")).unwrap();
    let hash = stored.strip_prefix("session:#").unwrap();
    let bytes = URL_SAFE_NO_PAD.decode(hash).unwrap();
    let halves = bytes.chunks(16).map(|half| URL_SAFE_NO_PAD.encode(half));
    let mut cookies = vec![stored.to_owned(), format!("session:{hash}"), format!("#{hash}"), hash.to_owned()];
    cookies.extend([hash[..22].to_owned(), hash[21..].to_owned()]);
    cookies.extend(halves);
    for cookie in cookies {
        let mut thief = browser.with_cookie(format!("id={cookie}"));
        assert_eq!(thief.says("GET", "/").await, "guest: 0", "{cookie}");
        assert_eq!(thief.says("POST", "/count").await, "guest: 1", "{cookie}");
        assert_ne!(id(&thief), cookie);
    }
    assert_eq!(browser.says("GET", "/").await, "ann: 0");
}

#[tokio::test]
async fn a_store_that_is_down_does_not_look_like_an_empty_session() {
    let (probe, mut browser) = start().await;
    browser.says("POST", "/login/ann").await;
    let cookie = browser.cookie().map(str::to_owned);

    probe.set_down(true);
    for (method, path) in [("GET", "/"), ("POST", "/count"), ("POST", "/login/bob"), ("POST", "/logout")] {
        let answer = if method == "GET" { browser.get(path).await } else { browser.post(path).await };
        assert_eq!((answer.status, answer.set_cookie), (503, None), "{method} {path}");
        assert!(!answer.body.contains("guest"), "{}", answer.body);
    }
    // A visitor without a session sees an error too if the session cannot be saved.
    let answer = browser.with_cookie("other=1").post("/count").await;
    assert_eq!((answer.status, answer.set_cookie), (500, None));
    probe.set_down(false);

    probe.set_read_only(true);
    let answer = browser.post("/count").await;
    assert_eq!((answer.status, answer.set_cookie), (500, None));
    probe.set_read_only(false);

    assert_eq!(browser.cookie(), cookie.as_deref());
    assert_eq!(browser.says("POST", "/count").await, "ann: 1", "nothing has changed");
}

#[tokio::test]
async fn data_of_another_framework_are_an_error_and_unchanged_until_logout() {
    let (probe, mut browser) = start().await;
    browser.says("POST", "/count").await;
    let key = key(&browser);
    probe.storage().write(&key, FOREIGN).await.unwrap();
    for path in ["/count", "/login/bob"] {
        let answer = browser.post(path).await;
        assert_eq!((answer.status, answer.set_cookie), (500, None));
    }
    assert_eq!(browser.get("/").await.status, 500);
    assert_eq!(probe.storage().read(&key).await.unwrap().unwrap().value, FOREIGN);
    assert_eq!(probe.storage().ttl(&key).await.unwrap(), Some(Expiry::Never));
    // A logout is final: it deletes any value.
    assert_eq!(browser.says("POST", "/logout").await, "guest: 0");
    assert_eq!(browser.cookie(), None);
    assert_eq!(probe.storage().clear("").await.unwrap(), 0, "no entry remains");
}
