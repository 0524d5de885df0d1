//! A minimal browser for session tests: it sends HTTP/1.1 requests and keeps one cookie.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// A visitor. A clone is another tab, with the same cookie at first.
#[derive(Clone, Debug)]
pub struct Browser {
    address: SocketAddr,
    /// The cookie as sent: `name=value`.
    cookie: Option<String>,
    /// Further headers, as sent.
    headers: String,
}

/// The response to a request.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: String,
    /// The cookie that the response sets; empty if the response removes the cookie.
    pub set_cookie: Option<String>,
}

impl Browser {
    /// Returns a visitor of the service at `address`, without a cookie.
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        Self { address, cookie: None, headers: String::new() }
    }

    /// Returns a visitor that sends `cookie`.
    #[must_use]
    pub fn with_cookie(&self, cookie: impl Into<String>) -> Self {
        Self { cookie: Some(cookie.into()), ..self.clone() }
    }

    /// Returns the same visitor with further headers, each as `name: value`.
    #[must_use]
    pub fn with_headers(&self, headers: &[&str]) -> Self {
        let headers = headers.iter().map(|header| format!("{header}\r\n")).collect();
        Self { headers, ..self.clone() }
    }

    /// Returns the cookie as `name=value`.
    #[must_use]
    pub fn cookie(&self) -> Option<&str> {
        self.cookie.as_deref()
    }

    /// Sends a GET request.
    pub async fn get(&mut self, path: &str) -> Answer {
        self.request("GET", path, None).await
    }

    /// Sends a POST request with an empty body.
    pub async fn post(&mut self, path: &str) -> Answer {
        self.request("POST", path, None).await
    }

    /// Sends a POST request with the fields of a form, `name=value&...`.
    pub async fn form(&mut self, path: &str, fields: &str) -> Answer {
        self.request("POST", path, Some(fields)).await
    }

    /// Sends a request that must succeed; returns the body.
    pub async fn says(&mut self, method: &str, path: &str) -> String {
        let answer = self.request(method, path, None).await;
        assert_eq!(answer.status, 200, "{method} {path}: {}", answer.body);
        answer.body.trim_end().to_owned()
    }

    async fn request(&mut self, method: &str, path: &str, form: Option<&str>) -> Answer {
        let cookie = self.cookie.as_ref().map(|cookie| format!("Cookie: {cookie}\r\n")).unwrap_or_default();
        let kind = form.map_or("", |_| "Content-Type: application/x-www-form-urlencoded\r\n");
        let body = form.unwrap_or_default();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n{kind}{cookie}{}\r\n{body}",
            body.len(),
            self.headers
        );
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let answer = Answer::parse(&answer);
        match answer.set_cookie.as_deref() {
            Some("") => self.cookie = None,
            Some(cookie) => self.cookie = Some(cookie.to_owned()),
            None => {}
        }
        answer
    }
}

impl Answer {
    fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").expect("an answer has a head");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let fields: Vec<_> = head.lines().skip(1).filter_map(|line| line.split_once(": ")).collect();
        let all = |name: &str| {
            let found = fields.iter().filter(|field| field.0.eq_ignore_ascii_case(name));
            found.map(|field| field.1.to_owned()).collect::<Vec<_>>()
        };
        assert!(all("transfer-encoding").is_empty(), "this browser reads plain bodies only");
        let mut cookies = all("set-cookie");
        assert!(cookies.len() <= 1, "one cookie at most");
        let set_cookie = cookies.pop().map(|cookie| {
            let (pair, attributes) = cookie.split_once(';').unwrap_or((&cookie, ""));
            assert!(attributes.contains("HttpOnly") || attributes.contains("Max-Age=0"));
            if attributes.contains("Max-Age=0;") || attributes.ends_with("Max-Age=0") {
                String::new()
            } else {
                pair.to_owned()
            }
        });
        Self { status, body: body.to_owned(), set_cookie }
    }
}
