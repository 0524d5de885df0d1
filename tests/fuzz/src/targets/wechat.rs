//! WeChat: the requests of mini-programs, the answers of WeChat's server, and stored sessions.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    io::{Read, Write},
    net::TcpListener,
    pin::Pin,
    sync::{Arc, Mutex},
    thread,
};

use futures_util::StreamExt;
use http::{Request, Response};
use http_body::Body;
use larder_core::Store;
use larder_memory::MemoryStorage;
use larder_web_sessions::{Ids, Keys};
use larder_wechat::{Protocol, Session, SessionBody, WechatLayer};
use serde_json::{Value, value::RawValue};
use tower::{Layer, ServiceExt, service_fn};

use super::{block_on, parts, stored};
use crate::{SECRET, Verdict, laws::silent};

/// WeChat's published sample.
const APP_ID: &str = "wx4f4bc4dec97d474b";
const APP_SECRET: &str = "secret";
const SESSION_KEY: &str = "tiihtNczf5v6AKRyjwEUhQ==";
const SKEY: &str = "5979632ece7b73187705aab22951713a29ac031e";
const ID: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
/// The header that the service inside the layer sets.
const INNER: &str = "x-inner";

/// The layers of both protocols, and a stand-in for WeChat's server.
struct Bench {
    store: Store,
    layers: [WechatLayer; 2],
    answer: Arc<Mutex<Vec<u8>>>,
}

impl Bench {
    fn new() -> Self {
        let store = Store::new(MemoryStorage::new());
        let (listener, answer) =
            (TcpListener::bind("127.0.0.1:0").unwrap(), Arc::new(Mutex::new(Vec::new())));
        let url = format!("http://{}", listener.local_addr().unwrap());
        let answers = Arc::clone(&answer);
        thread::spawn(move || {
            for mut connection in listener.incoming().flatten() {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    match connection.read(&mut byte) {
                        Ok(1) => request.extend_from_slice(&byte),
                        _ => break,
                    }
                }
                let body = answers.lock().unwrap().clone();
                let head =
                    format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
                let _ = connection.write_all(&[head.as_bytes(), &body].concat());
            }
        });
        let layers = [Protocol::Wafer, Protocol::Wafer2].map(|protocol| {
            let builder = WechatLayer::builder(APP_ID, APP_SECRET).storage(&store).base_url(&url).attempts(1);
            let builder = builder.protocol(protocol);
            // The ids of version 1 are random, so only those of version 2 are hashed here.
            builder.hashed_ids(protocol == Protocol::Wafer2).build().unwrap()
        });
        Self { store, layers, answer }
    }

    fn get() -> &'static Self {
        thread_local! {
            static BENCH: &'static Bench = Box::leak(Box::new(Bench::new()));
        }
        BENCH.with(|bench| *bench)
    }

    /// Returns the key of the session of each protocol in [`session`].
    fn key(protocol: usize) -> larder_core::Key {
        let (id, ids) = [(ID, Ids::Plain), (SKEY, Ids::Hashed)][protocol];
        Keys { prefix: Arc::from("session:"), ids }.key(id).unwrap()
    }

    /// Sends a request. `field`: the service sets this field.
    async fn send(
        &self,
        protocol: usize,
        request: Request<()>,
        field: Option<&'static str>,
    ) -> Response<String> {
        let service = service_fn(move |request: Request<()>| async move {
            if let Some(session) = request.extensions().get::<Session>() {
                silent(&format!("{session:?}"));
                for name in session.fields() {
                    let _ = session.get::<Value>(&name);
                }
                if let Some(field) = field {
                    session.set(field, &1).unwrap();
                }
            }
            Ok::<_, Infallible>(Response::builder().header(INNER, "1").body(String::new()).unwrap())
        });
        let response = self.layers[protocol].layer(service).oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        Response::from_parts(parts, text(body).await)
    }
}

async fn text(body: SessionBody<String>) -> String {
    let mut body = Box::pin(body);
    let mut bytes = Vec::new();
    while let Some(frame) = std::future::poll_fn(|context| Pin::as_mut(&mut body).poll_frame(context)).await {
        bytes.extend_from_slice(&frame.unwrap().into_data().unwrap_or_default());
    }
    String::from_utf8(bytes).unwrap()
}

/// A stored session.
pub(super) fn session(input: &[u8]) -> Verdict {
    let bench = Bench::get();
    let mut verdict = Verdict::Refused;
    for protocol in 0..2 {
        let key = Bench::key(protocol);
        for field in [None, Some("n")] {
            block_on(async {
                bench.store.clear("").await.unwrap();
                bench.store.write(&key, input.to_vec()).await.unwrap();
                let request =
                    Request::get("/").header("x-wx-id", ID).header("x-wx-skey", SKEY).body(()).unwrap();
                let response = bench.send(protocol, request, field).await;
                let after = stored(&bench.store, &key).await.unwrap();
                if !response.headers().contains_key(INNER) {
                    silent(response.body());
                    assert_eq!(after, input, "a session was changed that cannot be read");
                } else if field.is_none() {
                    verdict = Verdict::Accepted;
                    assert_eq!(after, input, "a session was changed without a change");
                } else if response.status() != 200 {
                    silent(response.body());
                    assert_eq!(after, input, "a session was changed that cannot be saved");
                } else {
                    let fields = |bytes| {
                        let mut fields: BTreeMap<String, Box<RawValue>> =
                            serde_json::from_slice(bytes).unwrap();
                        fields.remove("n");
                        fields
                            .into_iter()
                            .map(|(name, value)| (name, value.get().to_owned()))
                            .collect::<Vec<_>>()
                    };
                    let own = |(name, _): &(String, String)| !["id", "skey", "sessionKey"].contains(&&**name);
                    let (before, after) = (fields(input), fields(&after));
                    assert!(
                        before.iter().filter(|field| own(field)).eq(after.iter().filter(|field| own(field)))
                    );
                }
            });
        }
    }
    verdict
}

/// The target and the headers of a request, and the answer of WeChat's server.
pub(super) fn request(input: &[u8]) -> Verdict {
    let [target, headers, answer] = parts(input);
    let bench = Bench::get();
    let mut builder = Request::get(target);
    for header in headers.split(|byte| *byte == b'\n') {
        if let Some(at) = header.iter().position(|byte| *byte == b':') {
            builder = builder.header(&header[..at], &header[at + 1..]);
        }
    }
    let Ok(request) = builder.body(()) else { return Verdict::Refused };
    answer.clone_into(&mut bench.answer.lock().unwrap());
    let mut verdict = Verdict::Refused;
    for protocol in 0..2 {
        block_on(async {
            bench.store.clear("").await.unwrap();
            let response = bench.send(protocol, request.clone(), None).await;
            let body = response.body();
            assert!(!body.contains(SESSION_KEY), "the session key was sent");
            if bench.store.keys("").next().await.is_some() {
                assert_eq!(response.status(), 200);
                verdict = Verdict::Accepted;
            } else {
                assert!(!body.contains(SECRET), "a refusal quotes the request");
            }
        });
    }
    verdict
}
