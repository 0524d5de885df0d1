//! The website in a real browser: by mouse, and by keyboard alone.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A case fails by panicking.

#[path = "support/mod.rs"]
mod support;
#[path = "support/visitor.rs"]
mod visitor;

use std::{env, net::SocketAddr, pin::Pin};

use larder_processes::Stores;
use larder_test_servers::{Kind as Server, Relay};
use larder_testkit::{Context, Missing, Must, Runner, Suite};
use support::Site;
use visitor::{Driver, Hand, Kind, Visitor};

const ANN: (&str, &str) = ("ann", "correct horse");

fn main() {
    // In a build of the whole workspace, another crate switches off the one that WebDriver's client brings.
    rustls::crypto::ring::default_provider().install_default().expect("the first one");
    Runner::new()
        .suite(flows("mouse", Hand::Mouse))
        .suite(flows("keyboard", Hand::Keyboard))
        .suite(outage("redis", Server::Redis, Hand::Mouse))
        .suite(outage("postgres", Server::Postgres, Hand::Keyboard))
        .main()
}

fn flows(name: &str, hand: Hand) -> Suite<Stores> {
    let connect = async || {
        Driver::start().await?;
        Stores::sqlite()
    };
    Suite::connect(name, connect)
        .without_laws()
        .case("a_wrong_password_shows_one_message_and_a_right_one_signs_in", with(hand, signs_in))
        .case("an_action_shows_one_message", with(hand, counts))
        .case("a_device_signs_out_another", with(hand, signs_out_one))
        .case("a_device_signs_out_all_others", with(hand, signs_out_others))
        .case("a_device_signs_out_everywhere", with(hand, signs_out_everywhere))
        .case("a_form_of_another_site_is_refused", with(hand, is_attacked))
        .case("users_stay_signed_in_when_the_website_is_killed", with(hand, is_killed))
        .case("every_page_fits_a_phone", with(hand, fits_a_phone))
}

/// A case on an SQLite file.
fn with<B>(
    hand: Hand,
    flow: fn(Scene) -> B,
) -> impl FnOnce(Context<Stores>) -> Pin<Box<dyn Future<Output = ()> + Send>>
where
    B: Future<Output = ()> + Send + 'static,
{
    move |context| {
        Box::pin(async move {
            let url = context.factory.url(context.target.space());
            flow(Scene::open(url, hand).await).await;
        })
    }
}

fn outage(name: &str, server: Server, hand: Hand) -> Suite<Stores> {
    let connect = move || async move {
        Driver::start().await?;
        let variable = server.url_variable();
        if env::var_os(&variable).is_some() {
            return Err(Missing::new(format!("the case kills its server, which {variable} names"), false));
        }
        match server {
            Server::Redis => Stores::redis().await,
            _ => Stores::postgres("").await,
        }
    };
    Suite::connect(name, connect)
        .without_laws()
        .case("users_stay_signed_in_when_the_store_is_killed", move |_| store_is_killed(server, hand))
}

/// The website on an SQLite file, and a driver for browsers.
struct Scene {
    site: Site,
    /// The address for browsers, which stays when the website restarts at another port.
    relay: Relay,
    storage: String,
    driver: Driver,
    hand: Hand,
}

impl Scene {
    async fn open(storage: String, hand: Hand) -> Self {
        let driver = Driver::start().await.map_err(|missing| missing.reason).must("start the driver");
        let site = Site::start(&storage).await;
        let relay = Relay::to(&site.address().to_string(), |_| {}).await.must("start a relay");
        Self { site, relay, storage, driver, hand }
    }

    async fn kill_and_restart(&mut self) {
        self.site.kill().await;
        self.site = Site::start(&self.storage).await;
        self.relay.redirect(&self.site.address().to_string());
    }

    async fn visitor(&self, kind: Kind) -> Visitor {
        let address = self.relay.address().parse::<SocketAddr>().must("parse the address");
        Visitor::start(&self.driver, kind, self.hand, address).await
    }

    /// Starts a browser and signs in.
    async fn user(&self, kind: Kind) -> Visitor {
        let visitor = self.visitor(kind).await;
        visitor.sign_in(ANN.0, ANN.1).await;
        visitor.sees("Hello, ann!").await;
        visitor
    }
}

async fn signs_in(scene: Scene) {
    let ann = scene.visitor(Kind::Chromium).await;
    ann.open("/").await;
    assert_eq!(ann.path().await, "/sign-in");
    ann.can_be_used_by_all().await;
    ann.sign_in(ANN.0, "correct hores").await;
    assert_eq!(ann.path().await, "/sign-in");
    ann.sees("The name or the password is wrong.").await;
    ann.reload().await;
    ann.sees_no("The name or the password is wrong.").await;
    ann.open("/settings").await;
    assert_eq!(ann.path().await, "/sign-in");

    ann.sign_in(ANN.0, ANN.1).await;
    assert_eq!(ann.path().await, "/");
    ann.sees("Welcome, ann.").await;
    ann.open("/sign-in").await;
    assert_eq!(ann.path().await, "/");
    ann.sees_no("Welcome, ann.").await;

    ann.press("Sign out").await;
    assert_eq!(ann.path().await, "/sign-in");
    ann.sees("You are signed out.").await;
    ann.open("/").await;
    assert_eq!(ann.path().await, "/sign-in");
    ann.sees_no("You are signed out.").await;
    ann.leave().await;
}

async fn counts(scene: Scene) {
    let ann = scene.user(Kind::Chromium).await;
    for count in 1..=3 {
        ann.press("Count").await;
        ann.sees(&format!("Counted to {count}.")).await;
    }
    // The page is the answer to a GET: a reload does not count.
    ann.reload().await;
    ann.sees_no("Counted to").await;
    assert_eq!(counter(&ann).await, "3");
    // Another device has its own session.
    let other = scene.user(Kind::Firefox).await;
    assert_eq!(counter(&other).await, "0");
    ann.leave().await;
    other.leave().await;
}

async fn counter(visitor: &Visitor) -> String {
    visitor.open("/").await;
    visitor.part("//*[@id = 'count']").await
}

/// The item of a device in the settings.
fn item(label: &str) -> String {
    format!("//li[.//h3[contains(., '{label}')]]")
}

async fn signs_out_one(scene: Scene) {
    let phone = scene.user(Kind::Phone).await;
    let other = scene.user(Kind::Firefox).await;
    let ann = scene.user(Kind::Chromium).await;
    ann.press("Settings").await;
    ann.can_be_used_by_all().await;
    let (mine, its) = (ann.part(&item("Chrome on Linux")).await, ann.part(&item("Firefox on Windows")).await);
    assert!(mine.contains("This device") && mine.contains("Signed in on"), "{mine}");
    assert!(!its.contains("This device") && its.contains("Last used on"), "{its}");
    ann.sees("Safari on iPhone").await;
    if let Ok(path) = env::var("LARDER_SCREENSHOT") {
        ann.picture(&path).await;
    }
    ann.press_within(&item("Firefox on Windows"), "Sign out").await;
    assert_eq!(ann.path().await, "/settings");
    ann.sees("The device is signed out.").await;
    ann.sees_no("Firefox").await;

    // With its next request, the other device is signed out. The third is not.
    other.press("Count").await;
    assert_eq!(other.path().await, "/sign-in");
    phone.press("Count").await;
    phone.sees("Counted to 1.").await;
    ann.press_within(&item("Chrome on Linux"), "Sign out").await;
    assert_eq!(ann.path().await, "/sign-in");
    for visitor in [ann, other, phone] {
        visitor.leave().await;
    }
}

async fn signs_out_others(scene: Scene) {
    let (ann, other) = (scene.user(Kind::Chromium).await, scene.user(Kind::Firefox).await);
    ann.press("Settings").await;
    ann.press("Sign out everywhere else").await;
    ann.sees("One other device is signed out.").await;
    ann.sees("Chrome on Linux").await;
    ann.sees_no("Firefox").await;
    other.press("Settings").await;
    assert_eq!(other.path().await, "/sign-in");
    ann.press("Sign out everywhere else").await;
    ann.sees("You were not signed in anywhere else.").await;
    ann.leave().await;
    other.leave().await;
}

async fn signs_out_everywhere(scene: Scene) {
    let (ann, other) = (scene.user(Kind::Chromium).await, scene.user(Kind::Firefox).await);
    ann.press("Settings").await;
    ann.press("Sign out everywhere").await;
    assert_eq!(ann.path().await, "/sign-in");
    ann.sees("You are signed out everywhere.").await;
    for visitor in [&ann, &other] {
        visitor.open("/").await;
        assert_eq!(visitor.path().await, "/sign-in");
    }
    ann.leave().await;
    other.leave().await;
}

async fn is_attacked(scene: Scene) {
    let ann = scene.user(Kind::Chromium).await;
    for form in [
        "<form method=post action=SITE/count><button>Win</button></form>",
        "<form method=post action=SITE/sign-in><input name=name value=bob><input name=password \
         value='battery staple'><button>Win</button></form>",
    ] {
        ann.open_elsewhere(form).await;
        ann.press("Win").await;
        ann.sees("Not allowed").await;
        assert_eq!(ann.status().await, 403);
    }
    ann.press("Go to the home page").await;
    ann.sees("Hello, ann!").await;
    assert_eq!(counter(&ann).await, "0");
    ann.leave().await;
}

async fn is_killed(mut scene: Scene) {
    let ann = scene.user(Kind::Chromium).await;
    ann.press("Count").await;
    scene.kill_and_restart().await;
    ann.press("Count").await;
    ann.sees("Counted to 2.").await;
    ann.leave().await;
}

async fn fits_a_phone(scene: Scene) {
    let ann = scene.visitor(Kind::Phone).await;
    ann.open("/nothing").await;
    ann.can_be_used_by_all().await;
    ann.press("Go to the home page").await;
    ann.can_be_used_by_all().await;
    ann.sign_in(ANN.0, ANN.1).await;
    ann.can_be_used_by_all().await;
    ann.press("Settings").await;
    ann.can_be_used_by_all().await;
    ann.press("Sign out everywhere else").await;
    ann.sees("You were not signed in anywhere else.").await;
    ann.leave().await;
}

async fn store_is_killed(server: Server, hand: Hand) {
    let server = server.private().await.must("start a server for this case alone");
    let scene = Scene::open(server.url().to_owned(), hand).await;
    let ann = scene.user(Kind::Chromium).await;
    ann.press("Count").await;

    server.kill().await.must("kill the server");
    for action in ["Count", "Settings"] {
        ann.press(action).await;
        ann.sees("Please try again").await;
        assert_eq!(ann.status().await, 503, "{action}");
        ann.can_be_used_by_all().await;
        ann.press("Try again").await;
        assert_eq!(ann.status().await, 503);
        server.start().await.must("start the server");
        ann.press("Try again").await;
        assert_eq!(ann.status().await, 200, "{action}");
        if action == "Count" {
            // The form that failed was not sent again.
            assert_eq!(counter(&ann).await, "1");
            server.kill().await.must("kill the server");
        }
    }
    assert_eq!(ann.path().await, "/settings");
    ann.sees("Chrome on Linux").await;
    assert_eq!(counter(&ann).await, "1");
    ann.press("Count").await;
    ann.sees("Counted to 2.").await;
    ann.leave().await;
}
