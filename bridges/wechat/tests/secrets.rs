//! Neither skey, session key, app secret nor id is in any log or `Debug`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test fails by panicking.

mod support;

use std::{
    fmt::Write as _,
    io,
    sync::{Arc, Mutex},
};

use larder_bridge_tests::Probe;
use larder_core::Storage;
use larder_wechat::WechatLayer;
use serde_json::json;
use support::{APP_ID, DATA, IV, SESSION_KEY, SKEY, service::Service};
use tracing_subscriber::fmt::MakeWriter;

/// Everything that was logged, through `tracing` and through `log`.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<String>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().push_str(&String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl log::Log for Log {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        writeln!(self.0.lock().unwrap(), "{} {}", record.target(), record.args()).unwrap();
    }

    fn flush(&self) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_secret_is_logged() {
    let log = Log::default();
    log::set_boxed_logger(Box::new(log.clone())).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(log.clone()).finish();
    tracing::subscriber::set_global_default(subscriber).unwrap();

    // The warning of the default storage.
    let layer = WechatLayer::builder(APP_ID, "secret").build().unwrap();
    let printed = format!("{layer:?} {:?}", WechatLayer::builder(APP_ID, "hush-hush"));
    assert!(printed.contains(APP_ID) && !printed.contains("hush"));
    assert!(log.0.lock().unwrap().contains("memory"));

    let storage = Probe::new();
    let service = Service::start(Arc::new(storage.clone())).await;
    let mut client = service.client();
    client.post("/set/cart", json!(1)).await.unwrap();
    let session = client.session.clone();
    let mut ids = vec![client.id()];
    for code in ["invalid", "garbage", "otherkey-1", "broken", "redirect", "large", "busy-9"] {
        let mut other = service.client();
        other.code = Box::new(move || code.to_owned());
        other.login().await.unwrap_err();
    }
    client.session = Some(json!({ "id": ids[0], "skey": "0".repeat(40) }));
    client.get("/me").await.unwrap();
    ids.push(client.id());
    storage
        .write(&support::service::key(&ids[0]), "{\"secret\":1}".into(), larder_core::Expiry::Never)
        .await
        .unwrap();
    client.session.clone_from(&session);
    client.get("/me").await.map(drop).unwrap_err();
    for break_it in [Probe::set_read_only, Probe::set_down] {
        break_it(&storage, true);
        client.session = None;
        client.login().await.unwrap_err();
        client.session.clone_from(&session);
        client.get("/me").await.map(drop).unwrap_err();
    }

    let log = log.0.lock().unwrap();
    assert!(log.contains("larder_wechat") && log.contains("a session could not be read or saved"));
    assert!(log.contains("a login was refused"));
    for secret in [SKEY, SESSION_KEY, "secret", &DATA[..40], IV, "ok-1"]
        .into_iter()
        .chain(ids.iter().map(String::as_str))
    {
        assert!(
            !log.contains(secret),
            "{secret} was logged:\n{}",
            log.lines().find(|line| line.contains(secret)).unwrap()
        );
    }
}
