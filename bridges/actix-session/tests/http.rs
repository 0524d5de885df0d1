//! The example's service, tested with a browser.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test fails by panicking.

#[allow(dead_code)] // Its `main`.
#[path = "../examples/actix_login.rs"]
mod example;
mod support;

use std::collections::HashMap;

use actix_session::config::{PersistentSession, TtlExtensionPolicy};
use actix_web::cookie::{Cookie, CookieJar, Key as Secret, time::Duration};
use futures_util::TryStreamExt;
use larder_actix_session::LarderStore;
use larder_bridge_tests::{Answer, Browser, OCCUPIED, Probe};
use larder_core::{Expiry, Key, ListOptions, Operation};
use larder_testkit::{race, until};
use support::{hashed, plain};

const FOREIGN: &[u8] = br#"{"cookie":{"path":"/"},"user":"ann"}"#;
const HOUR: Duration = Duration::hours(1);
const HALF_AN_HOUR: std::time::Duration = std::time::Duration::from_secs(1_800);
/// All requests that the service handles.
const REQUESTS: [(&str, &str); 4] =
    [("GET", "/"), ("POST", "/count"), ("POST", "/login/bob"), ("POST", "/logout")];
/// The timeout for an expected event.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// Starts the service on a storage that the test can break; returns both the storage and a visitor.
async fn start() -> (Probe, Browser) {
    start_with(lasting(HOUR), |store| store).await
}

/// Sets the lifetime of a session after its last change.
fn lasting(lifetime: Duration) -> PersistentSession {
    PersistentSession::default().session_ttl(lifetime)
}

async fn start_with(
    lifecycle: PersistentSession,
    set: impl FnOnce(LarderStore) -> LarderStore,
) -> (Probe, Browser) {
    let probe = Probe::new();
    let store = set(LarderStore::new(probe.clone()).unwrap());
    let (server, address) = example::serve(store, secret(), lifecycle, "127.0.0.1:0").unwrap();
    tokio::spawn(server);
    (probe, Browser::new(address))
}

/// The key with which the service encrypts its cookies.
fn secret() -> Secret {
    Secret::from(&[7; 64])
}

/// Returns the cookie in which the service would store `text`.
fn sealed(text: &str) -> String {
    let mut jar = CookieJar::new();
    jar.private_mut(&secret()).add(Cookie::new("id", text.to_owned()));
    jar.get("id").unwrap().encoded().to_string()
}

/// Returns the session's key from the browser's cookie.
fn session(browser: &Browser) -> String {
    let mut jar = CookieJar::new();
    jar.add_original(Cookie::parse_encoded(browser.cookie().expect("a cookie").to_owned()).unwrap());
    jar.private(&secret()).get("id").expect("the session's cookie").value().to_owned()
}

/// Returns the session's key in the storage.
fn key(browser: &Browser) -> Key {
    hashed(session(browser))
}

/// Sends one of [`REQUESTS`].
async fn ask(browser: &mut Browser, (method, path): (&str, &str)) -> Answer {
    if method == "GET" { browser.get(path).await } else { browser.post(path).await }
}

#[tokio::test]
async fn counting_login_and_logout_work() {
    let (probe, mut browser) = start().await;
    assert_eq!(browser.says("GET", "/").await, "guest: 0");
    assert_eq!(browser.cookie(), None, "a read creates no session");
    assert_eq!(browser.says("POST", "/count").await, "guest: 1");
    let before = browser.clone();
    assert_eq!(browser.says("POST", "/count").await, "guest: 2");
    assert_eq!(key(&browser), key(&before));

    assert_eq!(browser.says("POST", "/login/ann").await, "ann: 2");
    assert_ne!(key(&browser), key(&before), "a login gets a new key");
    assert_eq!(before.clone().says("GET", "/").await, "guest: 0", "the old key is useless");
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
async fn a_replayed_cookie_is_useless_after_a_logout() {
    let sets: [fn(LarderStore) -> LarderStore; 3] =
        [|store| store, LarderStore::with_plain_ids, LarderStore::migrating_plain_ids];
    for set in sets {
        let (probe, mut browser) = start_with(lasting(HOUR), set).await;
        browser.says("POST", "/login/ann").await;
        let mut replayed = browser.clone();
        browser.says("POST", "/logout").await;
        assert_eq!(probe.entries(), 0);
        assert_eq!(replayed.says("GET", "/").await, "guest: 0");
        let old = session(&replayed);
        assert_eq!(replayed.says("POST", "/count").await, "guest: 1");
        assert_ne!(session(&replayed), old, "the visitor cannot choose the key");
    }
}

#[tokio::test]
async fn a_copy_of_the_storage_logs_in_nobody() {
    let sets: [fn(LarderStore) -> LarderStore; 2] = [|store| store, LarderStore::migrating_plain_ids];
    for set in sets {
        let owner = |state: &HashMap<String, String>| serde_json::from_str(state.get("name")?).ok();
        let (probe, mut browser) = start_with(lasting(HOUR), |store| set(store).with_owner(owner)).await;
        browser.says("POST", "/login/ann").await;
        let entries: Vec<_> = probe.storage().list(ListOptions::new()).try_collect().await.unwrap();
        assert_eq!(entries.len(), 2, "the session, and an entry of the index");
        for entry in entries {
            let value = entry.record.unwrap().value;
            assert!(!String::from_utf8_lossy(&value).contains(&session(&browser)));
            assert!(!entry.key.as_str().contains(&session(&browser)));
        }
        let key = key(&browser);
        // The attacker even has the secret of the cookies.
        let (prefixed, hash) = (key.as_str(), key.as_str().strip_prefix("session:#").unwrap());
        let stored = [prefixed.to_owned(), format!("#{hash}"), hash.to_owned(), format!("session:{hash}")];
        for text in stored {
            let mut attacker = browser.with_cookie(sealed(&text));
            assert_eq!(attacker.says("GET", "/").await, "guest: 0", "{text}");
            assert_eq!(attacker.says("POST", "/count").await, "guest: 1", "{text}");
        }
        assert_eq!(browser.says("GET", "/").await, "ann: 0");
    }
}

#[tokio::test]
async fn a_request_takes_the_documented_round_trips() {
    use Operation::{Delete, Read, Touch, Write};

    let (probe, mut browser) = start().await;
    let mut unknown = browser.with_cookie(sealed(&"A".repeat(64)));
    for (method, path, calls) in [
        ("GET", "/", &[][..]),
        ("POST", "/count", &[Write]),
        ("GET", "/", &[Read]),
        ("POST", "/count", &[Read, Write]),
        ("POST", "/login/ann", &[Read, Delete, Write]),
        ("POST", "/count", &[Read, Write]),
        ("POST", "/logout", &[Read, Delete]),
    ] {
        browser.says(method, path).await;
        assert_eq!(probe.calls(), calls, "{method} {path}");
    }
    unknown.says("GET", "/").await;
    assert_eq!(probe.calls(), [Read]);

    // Another request updates the session in the meantime.
    browser.says("POST", "/count").await;
    let mut tab = browser.clone();
    let request = async move { tab.says("POST", "/count").await };
    let _ = probe.calls();
    let during = async {
        browser.says("POST", "/count").await;
        assert_eq!(probe.calls(), [Read, Write, Read, Write]);
    };
    probe.between(request, during).await;
    assert_eq!(probe.calls(), [Read, Write]);

    let rolling = lasting(HOUR).session_ttl_extension_policy(TtlExtensionPolicy::OnEveryRequest);
    let (probe, mut browser) = start_with(rolling, |store| store).await;
    browser.says("POST", "/count").await;
    let _ = probe.calls();
    browser.says("GET", "/").await;
    assert_eq!(probe.calls(), [Read, Touch]);
    browser.says("POST", "/count").await;
    assert_eq!(probe.calls(), [Read, Write]);
}

#[tokio::test]
async fn a_migration_takes_the_documented_round_trips() {
    use Operation::{Delete, Read, Touch, Write};

    let rolling = lasting(HOUR).session_ttl_extension_policy(TtlExtensionPolicy::OnEveryRequest);
    let (probe, mut browser) = start_with(rolling, LarderStore::migrating_plain_ids).await;
    let mut browser = old(&probe, &mut browser).await;
    let mut unknown = browser.with_cookie(sealed(&"A".repeat(64)));
    let _ = probe.calls();
    for (method, path, calls) in [
        ("GET", "/", &[Read, Read, Touch, Touch][..]),
        ("POST", "/count", &[Read, Read, Read, Write, Read, Write, Delete]),
        ("GET", "/", &[Read, Touch, Touch]),
        ("POST", "/count", &[Read, Write]),
        ("POST", "/login/ann", &[Read, Delete, Delete, Write]),
        ("POST", "/logout", &[Read, Delete, Delete]),
    ] {
        browser.says(method, path).await;
        assert_eq!(probe.calls(), calls, "{method} {path}");
    }
    unknown.says("GET", "/").await;
    assert_eq!(probe.calls(), [Read, Read, Read]);
}

/// Returns a visitor who is logged in, and whose session is under its plain key.
async fn old(probe: &Probe, browser: &mut Browser) -> Browser {
    browser.says("POST", "/login/ann").await;
    let (hashed, plain) = (key(browser), plain(session(browser)));
    let record = probe.storage().read(&hashed).await.unwrap().unwrap();
    probe.storage().write(&plain, record.value).expiry(Expiry::After(HALF_AN_HOUR)).await.unwrap();
    probe.storage().delete(&hashed).await.unwrap();
    browser.clone()
}

/// The steps of a move that change the storage: the announcement, the session and the deletion of the plain key.
const STEPS: [usize; 3] = [1, 2, 3];

#[tokio::test]
async fn a_session_that_fails_to_move_is_not_lost() {
    for step in STEPS {
        let (probe, mut browser) = start_with(lasting(HOUR), LarderStore::migrating_plain_ids).await;
        let mut browser = old(&probe, &mut browser).await;
        let mut tab = browser.clone();
        let request = async move { tab.post("/count").await };
        let answer = probe.before(step, request, async { probe.set_down(true) }).await;
        assert_eq!((answer.status, answer.set_cookie), (500, None));
        probe.set_down(false);
        let count = usize::from(step == 3);
        assert_eq!(browser.says("GET", "/").await, format!("ann: {count}"), "step {step}");
        assert_eq!(browser.says("POST", "/count").await, format!("ann: {}", count + 1), "step {step}");
        browser.says("POST", "/logout").await;
        assert_eq!(probe.entries(), 0, "a logout removes both entries");
    }
}

#[tokio::test]
async fn two_requests_that_move_a_session_keep_it() {
    for step in STEPS {
        let (probe, mut browser) = start_with(lasting(HOUR), LarderStore::migrating_plain_ids).await;
        let mut browser = old(&probe, &mut browser).await;
        let mut tab = browser.clone();
        let request = async move { tab.says("POST", "/count").await };
        let update = async {
            browser.says("POST", "/count").await;
        };
        assert_eq!(probe.before(step, request, update).await, "ann: 1", "step {step}");
        // The last update wins. Before the third step, the first one is complete.
        let count = if step == 3 { 2 } else { 1 };
        assert_eq!(browser.says("GET", "/").await, format!("ann: {count}"), "step {step}");
        assert_eq!(probe.entries(), 1, "step {step}");
    }
}

#[tokio::test]
async fn a_logout_during_a_move_is_final() {
    for step in STEPS {
        let set = |store: LarderStore| store.migrating_plain_ids().without_revival();
        let (probe, mut browser) = start_with(lasting(HOUR), set).await;
        let mut browser = old(&probe, &mut browser).await;
        let mut tab = browser.clone();
        let request = async move { tab.post("/count").await };
        let logout = async {
            browser.says("POST", "/logout").await;
        };
        let answer = probe.before(step, request, logout).await;
        // Before the third step, the session was saved, and the logout has deleted it.
        assert_eq!(answer.status, if step == 3 { 200 } else { 500 }, "step {step}");
        assert_eq!(probe.entries(), 0, "step {step}");
    }
}

#[tokio::test]
async fn a_session_that_is_too_large_is_an_error() {
    let (probe, mut browser) =
        start_with(lasting(HOUR), |store| store.with_max_size(r#"{"count":"9"}"#.len())).await;
    for count in 1..=9 {
        assert_eq!(browser.says("POST", "/count").await, format!("guest: {count}"));
    }
    let answer = browser.post("/count").await;
    assert_eq!((answer.status, answer.set_cookie, answer.body.as_str()), (500, None, ""));
    assert_eq!(browser.says("GET", "/").await, "guest: 9", "nothing has changed");
    let answer = browser.with_cookie("other=1").post("/login/ann").await;
    assert_eq!((answer.status, answer.set_cookie), (500, None));
    assert_eq!(probe.entries(), 1);
}

#[tokio::test]
async fn a_taken_key_is_not_overwritten() {
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

    // A storage where no key is ever free is broken; the request fails and does not wait for one.
    probe.occupy(usize::MAX);
    let answer = browser.with_cookie("other=1").post("/count").await;
    assert_eq!((answer.status, answer.set_cookie), (500, None));
}

#[tokio::test]
async fn a_session_expires() {
    let (_, mut browser) = start_with(lasting(Duration::milliseconds(1_500)), |store| store).await;
    assert_eq!(browser.says("POST", "/count").await, "guest: 1");
    let old = browser.clone();
    until("the session expires", PATIENCE, || async { old.clone().says("GET", "/").await == "guest: 0" })
        .await;
    browser = old.clone();
    assert_eq!(browser.says("POST", "/count").await, "guest: 1");
    assert_ne!(key(&browser), key(&old), "an expired key is not reused");
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
    // The last update wins, as actix-session defines it, but the session stays intact.
    let said = browser.says("GET", "/").await;
    let count: u64 = said.strip_prefix("ann: ").and_then(|count| count.parse().ok()).unwrap();
    assert!((1..=12).contains(&count), "{said}");

    let mut keys = race(12, |_| {
        let mut visitor = browser.with_cookie("other=1");
        async move {
            assert_eq!(visitor.says("POST", "/count").await, "guest: 1");
            key(&visitor)
        }
    })
    .await;
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 12, "each visitor has a session of their own");
}

/// Ends the session of a request that is running.
async fn end(probe: &Probe, browser: &mut Browser, logs_out: bool) {
    let key = key(browser);
    if logs_out {
        browser.says("POST", "/logout").await;
    } else {
        probe.storage().touch(&key, Expiry::after_millis(1)).await.unwrap();
        until("the session expires", PATIENCE, || async { !probe.storage().contains(&key).await.unwrap() })
            .await;
    }
}

#[tokio::test]
async fn a_request_whose_session_ends_gets_a_new_session() {
    for logs_out in [true, false] {
        let (probe, mut browser) = start().await;
        browser.says("POST", "/login/ann").await;
        let (old, mut tab) = (key(&browser), browser.clone());
        let request = async move {
            assert_eq!(tab.says("POST", "/count").await, "ann: 1");
            tab
        };
        let mut tab = probe.between(request, end(&probe, &mut browser, logs_out)).await;
        assert_ne!(key(&tab), old);
        assert!(!probe.storage().contains(&old).await.unwrap());
        assert_eq!(tab.says("GET", "/").await, "ann: 1");
    }
}

#[tokio::test]
async fn without_revival_a_request_whose_session_ends_fails() {
    for logs_out in [true, false] {
        let (probe, mut browser) = start_with(lasting(HOUR), LarderStore::without_revival).await;
        browser.says("POST", "/login/ann").await;
        let mut tab = browser.clone();
        let request = async move { tab.post("/count").await };
        let answer = probe.between(request, end(&probe, &mut browser, logs_out)).await;
        assert_eq!((answer.status, answer.set_cookie), (500, None));
        assert_eq!(probe.storage().clear("").await.unwrap(), 0, "no session is stored");
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
    let (_, mut elsewhere) = start().await;
    browser.says("POST", "/login/ann").await;
    elsewhere.says("POST", "/count").await;
    let (real, bare) = (browser.cookie().unwrap().to_owned(), session(&browser));
    let cookies = [
        // First: a valid cookie from a service with the same secret and another storage. Then: values that
        // are not keys.
        elsewhere.cookie().unwrap().to_owned(),
        sealed(&bare[1..]),
        sealed(&format!("{bare}A")),
        sealed("../../../etc/passwd"),
        sealed("line\nbreak"),
        sealed(""),
        sealed(&"A".repeat(4_000)),
        // Cookies that the service did not create, and damaged ones.
        format!("id={bare}"),
        real[..real.len() - 1].to_owned(),
        format!("{real}A"),
        real[..real.len() / 2].to_owned(),
        "id=".to_owned(),
        format!("id={}", "A".repeat(6_000)),
        "id=../../../etc/passwd".to_owned(),
        "id='%20OR%201=1--".to_owned(),
        "id=%00%ff".to_owned(),
        "id=\"".to_owned(),
    ];
    let known = [bare, session(&elsewhere)];
    for cookie in &cookies {
        assert_eq!(browser.with_cookie(cookie).says("GET", "/").await, "guest: 0", "{cookie}");
        let mut visitor = browser.with_cookie(cookie);
        assert_eq!(visitor.says("POST", "/count").await, "guest: 1", "{cookie}");
        assert!(!known.contains(&session(&visitor)), "the visitor cannot choose the key");
    }
    assert_eq!(browser.says("GET", "/").await, "ann: 0");

    // Only well-formed keys reach the storage, so the other cookies do not reveal whether it works.
    probe.set_down(true);
    let [key, others @ ..] = &cookies;
    assert_eq!(browser.with_cookie(key).get("/").await.status, 500);
    for cookie in others {
        assert_eq!(browser.with_cookie(cookie).says("GET", "/").await, "guest: 0", "{cookie}");
    }
}

#[tokio::test]
async fn a_store_that_is_down_does_not_look_like_an_empty_session() {
    let (probe, mut browser) = start().await;
    browser.says("POST", "/login/ann").await;
    let cookie = browser.cookie().map(str::to_owned);

    probe.set_down(true);
    for request in REQUESTS {
        let answer = ask(&mut browser, request).await;
        assert_eq!((answer.status, answer.set_cookie), (500, None), "{request:?}");
        assert_eq!(answer.body, "", "the visitor does not see the reason");
    }
    // A visitor without a session sees an error too if the session cannot be saved.
    let answer = browser.with_cookie("other=1").post("/count").await;
    assert_eq!((answer.status, answer.set_cookie), (500, None));
    probe.set_down(false);

    probe.set_read_only(true);
    for path in ["/count", "/login/bob", "/logout"] {
        let answer = browser.post(path).await;
        assert_eq!((answer.status, answer.set_cookie), (500, None));
    }
    probe.set_read_only(false);

    assert_eq!(browser.cookie(), cookie.as_deref());
    assert_eq!(browser.says("POST", "/count").await, "ann: 1", "nothing has changed");
}

#[tokio::test]
async fn reads_extend_a_session_only_with_on_every_request() {
    for (policy, is_extended) in
        [(TtlExtensionPolicy::OnEveryRequest, true), (TtlExtensionPolicy::OnStateChanges, false)]
    {
        let lifecycle = lasting(HOUR).session_ttl_extension_policy(policy);
        let (probe, mut browser) = start_with(lifecycle, |store| store).await;
        browser.says("POST", "/login/ann").await;
        let key = key(&browser);
        let before = probe.storage().read(&key).await.unwrap();
        assert!(probe.storage().touch(&key, Expiry::After(HALF_AN_HOUR)).await.unwrap());

        assert_eq!(browser.says("GET", "/").await, "ann: 0");
        let left = probe.storage().ttl(&key).await.unwrap();
        let grown = matches!(left, Some(Expiry::After(left)) if left > HALF_AN_HOUR);
        assert_eq!(grown, is_extended, "{left:?}");
        assert_eq!(probe.storage().read(&key).await.unwrap(), before, "value and version are unchanged");
        assert_eq!(self::key(&browser), key);
    }
}

#[tokio::test]
async fn data_of_another_framework_are_an_error_and_unchanged() {
    for policy in [TtlExtensionPolicy::OnStateChanges, TtlExtensionPolicy::OnEveryRequest] {
        let lifecycle = lasting(HOUR).session_ttl_extension_policy(policy);
        let (probe, mut browser) = start_with(lifecycle, |store| store).await;
        browser.says("POST", "/count").await;
        let (key, cookie) = (key(&browser), browser.cookie().map(str::to_owned));
        probe.storage().write(&key, FOREIGN).await.unwrap();
        let before = probe.storage().read(&key).await.unwrap();
        for request in REQUESTS {
            let answer = ask(&mut browser, request).await;
            assert_eq!((answer.status, answer.set_cookie), (500, None), "{request:?}");
            assert_eq!(answer.body, "", "the visitor does not see the reason");
            assert_eq!(probe.storage().read(&key).await.unwrap(), before, "{request:?}");
            assert_eq!(probe.storage().ttl(&key).await.unwrap(), Some(Expiry::Never), "{request:?}");
        }
        assert_eq!(browser.cookie(), cookie.as_deref());
        // After the operator deletes the value, the service works again.
        assert_eq!(probe.storage().clear("").await.unwrap(), 1, "no other entry was saved");
        assert_eq!(browser.says("POST", "/count").await, "guest: 1");
    }
}

#[tokio::test]
async fn foreign_data_written_during_a_request_are_unchanged() {
    let sets: [fn(LarderStore) -> LarderStore; 2] = [|store| store, LarderStore::without_revival];
    for set in sets {
        let (probe, mut browser) = start_with(lasting(HOUR), set).await;
        browser.says("POST", "/login/ann").await;
        let (key, mut tab) = (key(&browser), browser.clone());
        let request = async move { tab.post("/count").await };
        let answer = probe
            .between(request, async {
                probe.storage().write(&key, FOREIGN).await.unwrap();
            })
            .await;
        assert_eq!((answer.status, answer.set_cookie), (500, None));
        assert_eq!(probe.storage().read(&key).await.unwrap().unwrap().value, FOREIGN);
        assert_eq!(probe.storage().ttl(&key).await.unwrap(), Some(Expiry::Never));
        assert_eq!(probe.storage().clear("").await.unwrap(), 1, "no other entry was saved");
    }
}
