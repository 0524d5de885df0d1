//! The sessions of a user, in the example's service.

#![allow(clippy::unwrap_used)] // A test fails by panicking.

#[allow(dead_code)] // Its `main`.
#[path = "../examples/counter.rs"]
mod example;

use larder_bridge_tests::{Browser, Probe};
use larder_tower_sessions::LarderStore;
use tokio::net::TcpListener;
use tower_sessions::cookie::time::Duration;

/// Starts the service; returns its storage, its store and a visitor.
async fn start() -> (Probe, LarderStore, Browser) {
    let probe = Probe::new();
    let store = LarderStore::new(probe.clone())
        .unwrap()
        .with_owner(|data| Some(data.get("name")?.as_str()?.to_owned()))
        .with_device(|data| Some(format!("{} clicks", data.get("count")?)))
        .with_max_per_owner(3);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let browser = Browser::new(listener.local_addr().unwrap());
    let router = example::router(store.clone(), Duration::hours(1));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (probe, store, browser)
}

async fn logged_in(browser: &Browser, name: &str) -> Browser {
    let mut browser = browser.with_cookie("other=1");
    browser.says("POST", "/count").await;
    browser.says("POST", &format!("/login/{name}")).await;
    browser
}

fn handle(browser: &Browser) -> String {
    LarderStore::handle(browser.cookie().unwrap().strip_prefix("id=").unwrap())
}

async fn sees(browser: &mut Browser, expected: &str) {
    assert_eq!(browser.says("GET", "/").await, expected);
}

#[tokio::test]
async fn a_user_logs_out_other_devices() {
    let (probe, store, visitor) = start().await;
    let mut devices = Vec::new();
    for name in ["ann", "ann", "bob", "ann"] {
        devices.push(logged_in(&visitor, name).await);
    }
    let [one, two, bob, three] = &mut devices[..] else { unreachable!() };

    let listed = store.sessions_of("ann").await.unwrap();
    let mut handles: Vec<_> = listed.iter().map(|session| session.handle().to_owned()).collect();
    let mut expected = [handle(one), handle(two), handle(three)];
    handles.sort();
    expected.sort();
    assert_eq!(handles, expected);
    assert!(listed.iter().all(|session| session.device() == Some("1 clicks")));

    assert!(!store.delete_session_of("ann", &handle(bob)).await.unwrap());
    assert!(store.delete_session_of("ann", &handle(two)).await.unwrap());
    sees(two, "guest: 0").await;
    sees(three, "ann: 1").await;
    assert_eq!(store.delete_others_by_owner("ann", &handle(three)).await.unwrap(), 1);
    sees(one, "guest: 0").await;
    assert_eq!(three.says("POST", "/count").await, "ann: 2");
    assert_eq!(store.delete_by_owner("ann").await.unwrap(), 1);
    sees(three, "guest: 0").await;
    sees(bob, "bob: 1").await;
    assert_eq!(bob.says("POST", "/logout").await, "guest: 0");
    assert_eq!(probe.entries(), 0, "nothing remains in the index");
}

#[tokio::test]
async fn the_fourth_device_replaces_the_first() {
    let (_, store, visitor) = start().await;
    let mut first = logged_in(&visitor, "ann").await;
    for _ in 0..3 {
        sees(&mut first, "ann: 1").await;
        // The next log-in is in another millisecond.
        let created = store.sessions_of("ann").await.unwrap().pop().unwrap().created();
        larder_testkit::until("the next millisecond", std::time::Duration::from_secs(60), || async {
            created.elapsed().is_ok_and(|passed| passed.as_millis() > 1)
        })
        .await;
        logged_in(&visitor, "ann").await;
    }
    sees(&mut first, "guest: 0").await;
    assert_eq!(store.sessions_of("ann").await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_running_request_does_not_restore_a_revoked_session() {
    let (probe, store, visitor) = start().await;
    let browser = logged_in(&visitor, "ann").await;
    let mut tab = browser.clone();
    let request = async move { tab.post("/count").await };
    let answer = probe
        .between(request, async {
            assert_eq!(store.delete_by_owner("ann").await.unwrap(), 1);
        })
        .await;
    assert_eq!((answer.status, answer.set_cookie), (500, None));
    sees(&mut browser.clone(), "guest: 0").await;
    assert!(store.sessions_of("ann").await.unwrap().is_empty());
}
