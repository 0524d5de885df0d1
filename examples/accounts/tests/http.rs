//! The website over plain HTTP: other sites, forged cookies and odd requests.

#![allow(clippy::panic)] // A test fails by panicking.

mod support;

use larder_bridge_tests::Browser;
use larder_testkit::Must;
use support::Site;
use tempfile::TempDir;

const ANN: &str = "name=ann&password=correct%20horse";
const BOB: &str = "name=bob&password=battery%20staple";

/// Every change that a page can request.
const CHANGES: [&str; 6] = [
    "/sign-in",
    "/count",
    "/sign-out",
    "/settings/sign-out",
    "/settings/sign-out-others",
    "/settings/sign-out-everywhere",
];

/// The website on an SQLite file, which is removed on drop.
struct Local {
    site: Site,
    directory: TempDir,
}

impl Local {
    async fn start() -> Self {
        let directory = tempfile::tempdir().must("make a directory");
        let site = Site::start(&storage(&directory)).await;
        Self { site, directory }
    }

    fn guest(&self) -> Browser {
        Browser::new(self.site.address())
    }

    async fn user(&self, fields: &str) -> Browser {
        let mut browser = self.guest();
        sign_in(&mut browser, fields).await;
        browser
    }
}

fn storage(directory: &TempDir) -> String {
    format!("sqlite:{}/accounts.db", directory.path().display())
}

async fn sign_in(browser: &mut Browser, fields: &str) {
    assert_eq!(browser.form("/sign-in", fields).await.status, 303);
    assert!(is_signed_in(browser).await);
}

async fn is_signed_in(browser: &mut Browser) -> bool {
    match browser.get("/").await.status {
        200 => true,
        303 => false,
        status => panic!("the home page answered {status}"),
    }
}

async fn count(browser: &mut Browser) -> String {
    let page = browser.says("GET", "/").await;
    let (_, rest) = page.split_once(r#"<p id="count">"#).must("find the counter");
    rest.split('<').next().must("find the count").to_owned()
}

/// The handles in the forms of the settings.
async fn handles(browser: &mut Browser) -> Vec<String> {
    let page = browser.says("GET", "/settings").await;
    let values = page.split(r#"name="handle" value=""#).skip(1);
    values.map(|rest| rest.split('"').next().must("find a handle").to_owned()).collect()
}

#[tokio::test]
async fn changes_that_another_site_requests_are_refused() {
    let local = Local::start().await;
    let mut ann = local.user(ANN).await;
    for headers in [
        &["Sec-Fetch-Site: cross-site", "Origin: https://evil.example"][..],
        // A forged `Origin` is not possible in a browser, but the stronger header decides.
        &["Sec-Fetch-Site: cross-site", "Origin: http://localhost"],
        &["Sec-Fetch-Site: same-site", "Origin: http://other.localhost"],
        // Browsers send only `Origin` over plain HTTP.
        &["Origin: https://evil.example"],
        &["Origin: http://localhost.evil.example"],
        &["Origin: http://localhost:1234"],
        &["Origin: null"],
    ] {
        let mut evil = ann.with_headers(headers);
        for path in CHANGES {
            let answer = evil.form(path, BOB).await;
            assert_eq!((answer.status, answer.set_cookie), (403, None), "{path} with {headers:?}");
        }
        // A link to the site works.
        assert_eq!(count(&mut evil).await, "0");
    }
    assert_eq!(handles(&mut ann).await.len(), 1);
    for headers in [
        &["Sec-Fetch-Site: same-origin", "Origin: http://localhost"][..],
        &["Sec-Fetch-Site: none"],
        &["Origin: http://localhost"],
        &[],
    ] {
        assert_eq!(ann.with_headers(headers).post("/count").await.status, 303, "{headers:?}");
    }
    assert_eq!(count(&mut ann).await, "4");
}

#[tokio::test]
async fn the_text_of_a_user_agent_is_escaped() {
    let local = Local::start().await;
    let mut ann = local.guest().with_headers(&[r#"User-Agent: "><script>alert('&')</script>"#]);
    sign_in(&mut ann, ANN).await;
    let page = ann.says("GET", "/settings").await;
    assert!(page.contains("<h3>&quot;&gt;&lt;script&gt;alert('&amp;')&lt; "), "{page}");
    assert!(!page.contains("<script"), "{page}");
}

#[tokio::test]
async fn a_forged_or_damaged_cookie_is_a_guest() {
    let local = Local::start().await;
    let mut ann = local.user(ANN).await;
    let cookie = ann.cookie().must("a cookie").to_owned();
    let changed = if cookie.ends_with('w') { "Q" } else { "w" };
    for cookie in [
        "accounts=AAAAAAAAAAAAAAAAAAAAAA".to_owned(),
        cookie[..20].to_owned(),
        format!("{cookie}A"),
        format!("{}{changed}", &cookie[..cookie.len() - 1]),
        format!("accounts={}", handles(&mut ann).await[0]),
        cookie.to_ascii_lowercase(),
        "accounts=".to_owned(),
        "accounts".to_owned(),
        ";;=;".to_owned(),
        "accounts=%00%ff%2e%2e/..; accounts='\"{}".to_owned(),
        format!("accounts={}", "A".repeat(8_000)),
        format!("accounts={}", "A".repeat(300_000)),
        format!("{}accounts={}", "a=b; ".repeat(5_000), "A".repeat(22)),
    ] {
        let start: String = cookie.chars().take(40).collect();
        for path in ["/", "/settings"] {
            assert_eq!(ann.with_cookie(&cookie).get(path).await.status, 303, "{path} with {start}");
        }
        for path in CHANGES {
            let status = ann.with_cookie(&cookie).form(path, "name=ann&password=no&handle=x").await.status;
            assert_eq!(status, 303, "{path} with {start}");
        }
        assert_eq!(ann.with_cookie(&cookie).get("/sign-in").await.status, 200, "{start}");
    }
    assert!(is_signed_in(&mut ann).await);
}

#[tokio::test]
async fn a_cookie_from_before_a_sign_out_is_a_guest() {
    let local = Local::start().await;
    for path in ["/sign-out", "/settings/sign-out-everywhere"] {
        let mut ann = local.user(ANN).await;
        let old = ann.clone();
        assert_eq!(ann.post(path).await.status, 303);
        assert_ne!(ann.cookie(), old.cookie(), "the message is in a new session");
        let page = ann.says("GET", "/sign-in").await;
        assert!(page.contains("You are signed out"), "{page}");
        let mut replayed = old.clone();
        assert!(!is_signed_in(&mut replayed).await, "{path}");
        assert_eq!(replayed.cookie(), None, "the cookie is removed");
        // Again, now that the browser has signed in again.
        sign_in(&mut ann, ANN).await;
        assert!(!is_signed_in(&mut old.clone()).await, "{path}");
    }
}

/// An attacker can plant the cookie of a guest in another browser.
#[tokio::test]
async fn a_sign_in_replaces_the_id_of_the_session() {
    let local = Local::start().await;
    let mut planted = local.guest();
    planted.form("/sign-in", "name=ann&password=no").await;
    let mut ann = planted.clone();
    sign_in(&mut ann, ANN).await;
    assert!(planted.cookie().is_some() && ann.cookie() != planted.cookie());
    assert!(!is_signed_in(&mut planted).await);
}

#[tokio::test]
async fn a_sign_in_as_another_user_takes_nothing_along() {
    let local = Local::start().await;
    let mut browser = local.user(ANN).await;
    browser.post("/count").await;
    assert_eq!(count(&mut browser).await, "1");
    let mut ann = browser.clone();
    sign_in(&mut browser, BOB).await;
    assert!(browser.says("GET", "/").await.contains("Hello, bob!"));
    assert_eq!(count(&mut browser).await, "0");
    assert_eq!(handles(&mut browser).await.len(), 1);
    assert!(!is_signed_in(&mut ann).await);
}

#[tokio::test]
async fn an_unknown_name_is_answered_like_a_wrong_password() {
    let local = Local::start().await;
    let mut pages = Vec::new();
    for fields in ["name=ann&password=battery%20staple", "name=nobody&password=no", "name=&password="] {
        let mut browser = local.guest();
        assert_eq!(browser.form("/sign-in", fields).await.status, 303);
        assert!(!is_signed_in(&mut browser.clone()).await);
        pages.push(browser.says("GET", "/sign-in").await);
    }
    assert!(pages[0].contains("The name or the password is wrong."));
    assert!(pages.iter().all(|page| *page == pages[0]));
}

#[tokio::test]
async fn a_guest_gets_no_cookie() {
    let local = Local::start().await;
    for (path, status) in
        [("/", 303), ("/settings", 303), ("/sign-in", 200), ("/style.css", 200), ("/nothing", 404)]
    {
        let answer = local.guest().get(path).await;
        assert_eq!((answer.status, answer.set_cookie), (status, None), "{path}");
    }
}

#[tokio::test]
async fn a_user_signs_out_only_own_devices() {
    let local = Local::start().await;
    let (mut ann, mut bob) = (local.user(ANN).await, local.user(BOB).await);
    let hers = &handles(&mut ann).await[0];
    assert_eq!(bob.form("/settings/sign-out", &format!("handle={hers}")).await.status, 303);
    assert!(bob.says("GET", "/settings").await.contains("The device was already signed out."));
    for path in ["/settings/sign-out-others", "/settings/sign-out-everywhere"] {
        assert_eq!(bob.post(path).await.status, 303);
    }
    assert!(is_signed_in(&mut ann).await && !is_signed_in(&mut bob).await);
    // The form of this device is a sign-out.
    assert_eq!(ann.form("/settings/sign-out", &format!("handle={hers}")).await.status, 303);
    assert!(!is_signed_in(&mut ann).await);
}

#[tokio::test]
async fn the_sixth_sign_in_signs_out_the_oldest_device() {
    let local = Local::start().await;
    let mut oldest = local.user(ANN).await;
    let mut second = local.user(ANN).await;
    for count in 3..=6 {
        assert!(is_signed_in(&mut oldest).await);
        let mut next = local.user(ANN).await;
        assert_eq!(handles(&mut next).await.len(), count.min(5));
    }
    assert!(!is_signed_in(&mut oldest).await && is_signed_in(&mut second).await);
}

#[tokio::test]
async fn odd_requests_are_refused() {
    let local = Local::start().await;
    let mut ann = local.user(ANN).await;
    for (path, fields, status) in [
        ("/sign-in", format!("name=ann&password={}", "x".repeat(10_000)), 413),
        ("/sign-in", "name=ann".to_owned(), 422),
        ("/settings/sign-out", "other=1".to_owned(), 422),
        ("/settings", String::new(), 405),
        ("/nothing", String::new(), 404),
    ] {
        assert_eq!(ann.form(path, &fields).await.status, status, "{path}");
    }
    assert_eq!(ann.get("/count").await.status, 405);
    assert!(is_signed_in(&mut ann).await);
}

#[cfg(unix)]
#[tokio::test]
async fn a_signal_ends_the_website_and_users_stay_signed_in() {
    use tokio::net::TcpStream;

    for signal in ["TERM", "INT"] {
        let Local { site, directory } = Local::start().await;
        let mut ann = Browser::new(site.address());
        sign_in(&mut ann, ANN).await;
        // Browsers connect before they have a request.
        let idle = TcpStream::connect(site.address()).await.must("connect");
        assert!(site.end(signal).await);
        drop(idle);
        let site = Site::start(&storage(&directory)).await;
        let mut ann = Browser::new(site.address()).with_cookie(ann.cookie().must("a cookie"));
        assert!(is_signed_in(&mut ann).await);
    }
}

#[tokio::test]
async fn an_error_at_the_start_is_said_without_the_password() {
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_accounts"))
        .args(["--listen", "127.0.0.1:0", "--storage", "redis://ann:hunter2@127.0.0.1:1"])
        .output();
    let output = output.await.must("run the website");
    let said = String::from_utf8(output.stderr).must("read what it says");
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("redis://ann:***@127.0.0.1:1") && !said.contains("hunter2"), "{said}");
}
