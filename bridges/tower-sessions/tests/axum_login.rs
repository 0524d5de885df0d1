//! axum-login on a service that is killed, where users stay logged in, and on a storage that is down.

#![allow(clippy::unwrap_used, clippy::expect_used)] // A case fails by panicking.

#[allow(dead_code)] // Its `main`.
#[path = "../examples/axum_login.rs"]
mod axum_login;

use std::{
    env::{self, consts::EXE_SUFFIX},
    net::SocketAddr,
    path::PathBuf,
};

use larder_bridge_tests::{Browser, Probe, Stores as Spaces, start_service};
use larder_core::Store;
use larder_processes::Stores;
use larder_testkit::{Must, Runner, Suite};
use tokio::{
    net::TcpListener,
    process::{Child, Command},
};

fn main() {
    Runner::new()
        .suite(
            Suite::new("memory", Spaces::memory())
                .without_laws()
                .case("a_storage_that_is_down_is_an_error_and_not_a_logout", |_| storage_is_down()),
        )
        .suite(cases(Suite::connect("sqlite", async || Stores::sqlite())))
        .suite(cases(Suite::connect("redis", Stores::redis)))
        .suite(cases(Suite::connect("postgres", async || Stores::postgres("").await)))
        .main()
}

fn cases(suite: Suite<Stores>) -> Suite<Stores> {
    suite.without_laws().case("users_stay_logged_in_when_the_service_is_killed", |context| async move {
        users_stay_logged_in(&context.factory.url(context.target.space())).await;
    })
}

/// The example's binary. `cargo test` builds it beside the directory of the tests.
fn example() -> PathBuf {
    let test = env::current_exe().unwrap();
    let path = test.ancestors().nth(2).unwrap().join("examples").join(format!("axum_login{EXE_SUFFIX}"));
    assert!(path.exists(), "{} is missing: build it with --example axum_login", path.display());
    path
}

/// Starts the example. Returns its process and its address.
async fn start(storage: &str) -> (Child, SocketAddr) {
    start_service(Command::new(example()).args(["--address", "127.0.0.1:0", "--storage", storage])).await
}

async fn users_stay_logged_in(storage: &str) {
    let (mut server, address) = start(storage).await;
    let mut browser = Browser::new(address);
    assert_eq!(browser.get("/protected").await.status, 307, "a guest is sent to the login");
    assert_eq!(browser.form("/login", "name=ann&password=wrong").await.status, 401);
    assert_eq!(browser.cookie(), None);
    assert_eq!(browser.form("/login", "name=ann&password=hunter2").await.status, 303);
    let cookie = browser.cookie().must("a cookie").to_owned();
    assert_eq!(browser.says("GET", "/protected").await, "Hello, ann!");

    // SIGKILL.
    server.kill().await.must("kill the service");
    let (_server, address) = start(storage).await;
    let mut browser = Browser::new(address).with_cookie(&cookie);
    assert_eq!(browser.says("GET", "/protected").await, "Hello, ann!");

    assert_eq!(browser.post("/logout").await.status, 303);
    assert_eq!(browser.cookie(), None, "the cookie is removed");
    for cookie in [cookie.as_str(), "id=AAAAAAAAAAAAAAAAAAAAAA", &cookie[..20], &format!("{cookie}A")] {
        let mut browser = browser.with_cookie(cookie);
        assert_eq!(browser.get("/protected").await.status, 307, "a replayed or forged cookie");
    }
}

async fn storage_is_down() {
    let probe = Probe::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.must("listen");
    let mut browser = Browser::new(listener.local_addr().must("its address"));
    let router = axum_login::router(&Store::new(probe.clone())).must("make the service");
    tokio::spawn(async move { axum::serve(listener, router).await });
    assert_eq!(browser.form("/login", "name=ann&password=hunter2").await.status, 303);

    probe.set_down(true);
    for path in ["/protected", "/login", "/logout"] {
        let answer = if path == "/logout" { browser.post(path).await } else { browser.get(path).await };
        assert_eq!((answer.status, answer.set_cookie), (500, None), "{path}");
    }
    probe.set_down(false);
    assert_eq!(browser.says("GET", "/protected").await, "Hello, ann!");
}
