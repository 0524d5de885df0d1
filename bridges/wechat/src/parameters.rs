//! The protocol's headers, or query parameters with the same names.

use http::Request;
use percent_encoding::percent_decode_str;

use crate::{names, secret::Secret};

/// The session that a request claims.
#[derive(Debug)]
pub(crate) struct Claim {
    /// Version 1 only.
    pub(crate) id: Option<Secret>,
    pub(crate) skey: Option<Secret>,
}

impl Claim {
    pub(crate) fn of<B>(request: &Request<B>) -> Self {
        Self { id: parameter(request, names::ID), skey: parameter(request, names::SKEY) }
    }
}

/// The parameters of a login.
#[derive(Debug)]
pub(crate) struct Ticket {
    pub(crate) code: Option<Secret>,
    pub(crate) data: Option<Secret>,
    pub(crate) iv: Option<Secret>,
}

impl Ticket {
    pub(crate) fn of<B>(request: &Request<B>) -> Self {
        Self {
            code: parameter(request, names::CODE),
            data: parameter(request, names::ENCRYPTED_DATA),
            iv: parameter(request, names::IV),
        }
    }
}

/// Returns the header of this name, or else the query parameter. An empty one counts as missing, as with
/// wafer-node-session. Duplicates are joined with a comma, as in Node, and so are never valid: a proxy in
/// front may have checked only one of them.
fn parameter<B>(request: &Request<B>, name: &str) -> Option<Secret> {
    header(request, name).or_else(|| query(request, name)).map(Secret::new)
}

fn header<B>(request: &Request<B>, name: &str) -> Option<String> {
    join(request.headers().get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()).into()))
}

/// A `+` is not decoded to a space, because base64 in a query may contain one.
fn query<B>(request: &Request<B>, name: &str) -> Option<String> {
    let pairs = request.uri().query()?.split('&').filter_map(|pair| pair.split_once('='));
    join(
        pairs
            .filter(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| percent_decode_str(value).decode_utf8_lossy().into()),
    )
}

fn join(values: impl Iterator<Item = String>) -> Option<String> {
    values
        .reduce(|mut all, value| {
            all.push_str(", ");
            all.push_str(&value);
            all
        })
        .filter(|text| !text.is_empty())
}

/// Marks the headers as sensitive, so that a `Debug` of the request inside the service does not print them.
pub(crate) fn hide<B>(request: &mut Request<B>) {
    for name in names::PARAMETERS {
        if let http::header::Entry::Occupied(mut entry) = request.headers_mut().entry(name) {
            entry.iter_mut().for_each(|value| value.set_sensitive(true));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(request: &Request<()>, name: &str) -> Option<String> {
        parameter(request, name).map(|secret| secret.expose().to_owned())
    }

    #[test]
    fn headers_win_over_the_query_and_case_is_ignored() {
        let request = Request::get("/?x-wx-id=query&X-WX-SKEY=a%2Bb+c%3D%3D&x-wx-iv=")
            .header("X-WX-Id", "header")
            .header("X-Wx-Code", "")
            .body(())
            .unwrap();
        assert_eq!(found(&request, names::ID).unwrap(), "header");
        assert_eq!(found(&request, names::SKEY).unwrap(), "a+b+c==");
        assert_eq!(found(&request, names::IV), None);
        assert_eq!(found(&request, names::CODE), None);
        assert_eq!(found(&request, names::ENCRYPTED_DATA), None);
    }

    #[test]
    fn duplicate_parameters_are_never_valid() {
        let request =
            Request::get("/?X-WX-Skey=c&x-wx-skey=d").header("X-WX-Id", "a").header("X-WX-Id", "b").body(());
        let request = request.unwrap();
        assert_eq!(found(&request, names::ID).unwrap(), "a, b");
        assert_eq!(found(&request, names::SKEY).unwrap(), "c, d");
    }

    #[test]
    fn hidden_headers_are_not_printed() {
        let mut request =
            Request::get("/").header("X-WX-Skey", "hush").header("X-WX-Skey", "hush").body(()).unwrap();
        hide(&mut request);
        assert!(!format!("{request:?}").contains("hush"));
    }
}
