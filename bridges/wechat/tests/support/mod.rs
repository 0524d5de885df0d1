//! Shared by the tests: a service, a stand-in for WeChat's server, and the client's protocol.

#![allow(dead_code)] // Each test uses only a part.

pub(crate) mod cipher;
pub(crate) mod claims;
pub(crate) mod client;
mod failing;
pub(crate) mod raw;
pub(crate) mod service;
pub(crate) mod wechat;

/// WeChat's published sample.
pub(crate) const APP_ID: &str = "wx4f4bc4dec97d474b";
/// Another mini-program that the stand-in accepts.
pub(crate) const OTHER_APP_ID: &str = "wx0000000000000000";
pub(crate) const APP_SECRET: &str = "secret";
pub(crate) const SESSION_KEY: &str = "tiihtNczf5v6AKRyjwEUhQ==";
pub(crate) const SKEY: &str = "5979632ece7b73187705aab22951713a29ac031e";
pub(crate) const OPEN_ID: &str = "oGZUI0egBJY1zhBYw2KhdUfwVJJE";
pub(crate) const UNION_ID: &str = "ocMvos6NjeKLIBqg5Mr9QjxrP1FA";
pub(crate) const IV: &str = "r7BXXKkLb8qrSNn05n0qiA==";
pub(crate) const DATA: &str = "CiyLU1Aw2KjvrjMdj8YKliAjtP4gsMZMQmRzooG2xrDcvSnxIMXFufNstNGTyaGS9uT5geRa0W4oTOb1WT7fJlAC+oNPdbB+3hVbJSRgv+4lGOETKUQz6OYStslQ142dNCuabNPGBzlooOmB231qMM85d2/fV6ChevvXvQP8Hkue1poOFtnEtpyxVLW1zAo6/1Xx1COxFvrc2d7UL/lmHInNlxuacJXwu0fjpXfz/YqYzBIBzD6WUfTIF9GRHpOn/Hz7saL8xz+W//FRAUid1OksQaQx4CMs8LOddcQhULW4ucetDf96JcR3g0gfRK4PC7E/r7Z6xNrXd2UIeorGj5Ef7b1pJAYB6Y5anaHqZ9J6nKEBvB4DnNLIVWSgARns/8wR2SiRS7MNACwTyrGvt9ts8p12PKFdlqYTopNHR1Vf7XjfhQlVsAJdNiKdYmYVoKlaRv85IfVunYzO0IKXsyl7JCUjCpoG20f0a04COwfneQAGGwd5oa+T8yO5hzuyDb/XcxxmK01EpqOyuxINew==";

pub(crate) const MAGIC: &str = "F2C224D4-2BCE-4C64-AF9F-A6D872000D1A";

/// Returns an HTTP client without proxy and root certificates, so it reaches only this machine.
pub(crate) fn http() -> reqwest::Client {
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy().build().unwrap()
}

/// Serves `router` on a local port; returns the base URL.
pub(crate) async fn serve(router: axum::Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}
