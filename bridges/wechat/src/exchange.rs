//! The exchange of a login code for a session key, with WeChat's server.
//!
//! <https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/user-login/code2Session.html>

use std::{fmt, sync::Arc, time::Duration};

use larder_core::{Error, ErrorKind, Result};
use reqwest::{Client, Response, Url, redirect};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use serde::Deserialize;

use crate::secret::Secret;

/// The path below the base URL.
const PATH: &str = "sns/jscode2session";
/// The maximal length of an answer, in bytes. WeChat's answers are shorter than 200.
const MAX_ANSWER: usize = 16 * 1024;
/// The maximal length of a code, in bytes. WeChat's codes have 32.
const MAX_CODE: usize = 512;
/// `errcode`: the system is busy, try again later.
const BUSY: i64 = -1;
/// The pause before the first retry; it doubles with each retry.
const PAUSE: Duration = Duration::from_millis(100);

/// Exchanges codes with WeChat's server.
pub(crate) struct Exchange {
    client: Client,
    url: Url,
    app_id: String,
    app_secret: Secret,
    grant_type: String,
    timeout: Duration,
    attempts: u32,
}

/// WeChat's answer to a code.
#[derive(Debug)]
pub(crate) struct Exchanged {
    pub(crate) session_key: Secret,
    /// Identifies the user within this mini-program.
    pub(crate) open_id: String,
    /// Identifies the user across all programs of one owner. WeChat returns it only if the mini-program is
    /// bound to others.
    pub(crate) union_id: Option<String>,
}

/// Why an exchange failed. Sources are left out: reqwest's errors print the URL, which contains the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExchangeError {
    /// The code is too long or contains a control character.
    Malformed,
    /// WeChat rejected the code with this `errcode`.
    Refused(i64),
    /// WeChat was busy at every attempt.
    Busy,
    TimedOut,
    Unreachable,
    /// The answer is not one of WeChat's.
    Unreadable,
}

#[derive(Deserialize)]
struct Answer {
    session_key: Option<String>,
    openid: Option<String>,
    unionid: Option<String>,
    errcode: Option<i64>,
}

impl Exchange {
    pub(crate) fn new(
        base_url: &str,
        app_id: &str,
        app_secret: Secret,
        grant_type: String,
        timeout: Duration,
        attempts: u32,
    ) -> Result<Self> {
        // Redirects are not followed: they would send the secret to another server.
        let client = Client::builder()
            .tls_backend_preconfigured(tls()?)
            .redirect(redirect::Policy::none())
            .build()
            .map_err(|_| configuration("the HTTP client cannot be created"))?;
        let url = address(base_url)?;
        Ok(Self { client, url, app_id: app_id.to_owned(), app_secret, grant_type, timeout, attempts })
    }

    /// Exchanges `code`. Retries only if the server is busy, because it has not used up the code then.
    pub(crate) async fn exchange(&self, code: &str) -> Result<Exchanged, ExchangeError> {
        if code.len() > MAX_CODE || code.chars().any(char::is_control) {
            return Err(ExchangeError::Malformed);
        }
        let url = self.address(code);
        let mut pause = PAUSE;
        for attempt in 1.. {
            match self.ask(url.clone()).await {
                Err(ExchangeError::Busy) if attempt < self.attempts => {
                    tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
                    pause *= 2;
                }
                answer => return answer,
            }
        }
        Err(ExchangeError::Busy)
    }

    fn address(&self, code: &str) -> Url {
        let mut url = self.url.clone();
        url.query_pairs_mut()
            .append_pair("appid", &self.app_id)
            .append_pair("secret", self.app_secret.expose())
            .append_pair("js_code", code)
            .append_pair("grant_type", &self.grant_type);
        url
    }

    async fn ask(&self, url: Url) -> Result<Exchanged, ExchangeError> {
        // The timeout includes the answer's body.
        let response = self.client.get(url).timeout(self.timeout).send().await.map_err(failed)?;
        let body = read(response).await?;
        let answer: Answer = serde_json::from_slice(&body).map_err(|_| ExchangeError::Unreadable)?;
        match answer.errcode.unwrap_or(0) {
            0 => answer.exchanged().ok_or(ExchangeError::Unreadable),
            BUSY => Err(ExchangeError::Busy),
            code => Err(ExchangeError::Refused(code)),
        }
    }
}

impl Answer {
    /// A session key without a user is useless: only this answer identifies the user reliably.
    fn exchanged(self) -> Option<Exchanged> {
        let given = |text: &String| !text.is_empty();
        Some(Exchanged {
            session_key: self.session_key.filter(given).map(Secret::new)?,
            open_id: self.openid.filter(given)?,
            union_id: self.unionid.filter(given),
        })
    }
}

async fn read(mut response: Response) -> Result<Vec<u8>, ExchangeError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if body.len() + chunk.len() > MAX_ANSWER {
            return Err(ExchangeError::Unreadable);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn failed(error: reqwest::Error) -> ExchangeError {
    if error.is_timeout() { ExchangeError::TimedOut } else { ExchangeError::Unreachable }
}

/// TLS with Mozilla's root certificates, for container images that have no certificates.
fn tls() -> Result<ClientConfig> {
    let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    Ok(ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|_| configuration("the TLS configuration cannot be created"))?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

fn address(base_url: &str) -> Result<Url> {
    let wrong = || {
        configuration(
            "`base_url` must be an http or https URL with a host, and without query, fragment and user",
        )
    };
    let mut url = Url::parse(base_url).map_err(|_| wrong())?;
    let plain = url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() || !plain {
        return Err(wrong());
    }
    let path = format!("{}/{PATH}", url.path().trim_end_matches('/'));
    url.set_path(&path);
    Ok(url)
}

fn configuration(message: &'static str) -> Error {
    Error::new(ErrorKind::InvalidConfig, message)
}

impl fmt::Display for ExchangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => f.write_str("the login code is malformed"),
            Self::Refused(code) => {
                let meaning = match code {
                    40013 => "the app id is not valid",
                    40029 => "the login code is not valid",
                    40125 => "the app secret is not valid",
                    40163 => "the login code has been used",
                    40226 => "the user is blocked",
                    45011 => "too many logins, try again later",
                    _ => "WeChat's server refused the login code",
                };
                write!(f, "{meaning} (errcode {code})")
            }
            Self::Busy => f.write_str("WeChat's server is busy, try again later (errcode -1)"),
            Self::TimedOut => f.write_str("WeChat's server did not answer in time"),
            Self::Unreachable => f.write_str("WeChat's server cannot be reached"),
            Self::Unreadable => f.write_str("WeChat's server returned an invalid answer"),
        }
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange")
            .field("url", &format_args!("{}", self.url))
            .field("app_id", &self.app_id)
            .field("grant_type", &self.grant_type)
            .field("timeout", &self.timeout)
            .field("attempts", &self.attempts)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_http_urls_are_base_urls() {
        for (base, expected) in [
            ("https://api.weixin.qq.com", "https://api.weixin.qq.com/sns/jscode2session"),
            ("https://api.weixin.qq.com/", "https://api.weixin.qq.com/sns/jscode2session"),
            ("http://127.0.0.1:8080/wechat/", "http://127.0.0.1:8080/wechat/sns/jscode2session"),
        ] {
            assert_eq!(address(base).unwrap().as_str(), expected);
        }
        for wrong in [
            "",
            "api.weixin.qq.com",
            "ftp://host",
            "https://host/?a=b",
            "https://host/#a",
            "https://u:p@host",
            "data:x",
        ] {
            assert_eq!(address(wrong).unwrap_err().kind(), ErrorKind::InvalidConfig, "{wrong}");
        }
    }

    #[test]
    fn a_code_cannot_add_parameters() {
        let exchange = Exchange::new(
            "https://api.weixin.qq.com",
            "wx",
            Secret::new("s&p=q"),
            "authorization_code".into(),
            Duration::from_secs(1),
            1,
        )
        .unwrap();
        let url = exchange.address("x&appid=evil#\u{e9}");
        let pairs: Vec<_> = url.query_pairs().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(
            pairs,
            ["appid=wx", "secret=s&p=q", "js_code=x&appid=evil#\u{e9}", "grant_type=authorization_code"]
        );
        assert!(url.fragment().is_none());
        assert!(!format!("{exchange:?}").contains("s&p"));
    }
}
