//! Headers that a normal HTTP client cannot send.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test fails by panicking.

mod support;

use larder_bridge_tests::Probe;
use support::{DATA, IV, SKEY, raw, service::Service};

/// Joins the parts and ends the last header line.
fn lines(parts: &[&[u8]]) -> Vec<u8> {
    [parts.concat(), b"\r\n".to_vec()].concat()
}

#[tokio::test]
async fn non_ascii_ids_and_folded_headers_are_rejected() {
    let storage = Probe::new();
    let service = Service::start(storage.clone()).await;
    let mut client = service.client();
    client.login().await.unwrap();
    let id = client.id();
    let (id, skey) = (id.as_bytes(), SKEY.as_bytes());

    // None of these reaches the store.
    storage.set_down(true);
    for (id, skey) in [
        (&[id, b"\x80"].concat()[..], skey),
        (&[b"\xff\xfe", &id[2..]].concat(), skey),
        (&b"\xe9".repeat(64), skey),
        (id, &[skey, b"\xc3\xa9"].concat()),
        (id, b"\xa0"),
    ] {
        let headers = lines(&[b"X-WX-Id: ", id, b"\r\nX-WX-Skey: ", skey]);
        let (status, answer) = raw::get(&service.url, "/open", &headers).await;
        assert_eq!(status, 200, "{answer}");
        assert!(answer.contains("ERR_INVALID_SESSION"), "{answer}");
    }
    let folded = lines(&[b"X-WX-Id: ", &id[..32], b"\r\n ", &id[32..], b"\r\nX-WX-Skey: ", skey]);
    assert_eq!(raw::get(&service.url, "/open", &folded).await.0, 400);

    let login = |code: &[u8], iv: &[u8]| {
        let data = DATA.as_bytes();
        lines(&[b"X-WX-Code: ", code, b"\r\nX-WX-IV: ", iv, b"\r\nX-WX-Encrypted-Data: ", data])
    };
    let (status, answer) = raw::get(&service.url, "/api/login", &login(b"ok-1", b"\xff\xff")).await;
    assert_eq!(status, 200, "{answer}");
    assert!(answer.contains("the user data cannot be decrypted"), "{answer}");
    let (status, _) = raw::get(&service.url, "/api/login", &login(b"ok-\r\n 2", IV.as_bytes())).await;
    assert_eq!(status, 400);
    assert_eq!(service.handled(), 0);

    storage.set_down(false);
    assert_eq!(client.get("/me").await.unwrap().data["nickName"], "Band");
}
