//! The steps of wafer-client-sdk and wafer2-client-sdk (`lib/login.js`, `lib/request.js`). The test plays the
//! part of `wx`.

use reqwest::{Client, Method, Url};
use serde_json::{Value, json};

use super::{DATA, IV, MAGIC, http};

/// Why a request or a login failed, as the mini-program sees it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failed {
    pub(crate) kind: String,
    pub(crate) message: String,
}

impl Failed {
    fn new(kind: &str, message: impl Into<String>) -> Self {
        Self { kind: kind.to_owned(), message: message.into() }
    }
}

/// A mini-program that uses the SDK.
pub(crate) struct MiniProgram {
    http: Client,
    base: String,
    /// The value in `wx.setStorageSync`.
    pub(crate) session: Option<Value>,
    /// The result of `wx.checkSession`.
    pub(crate) wechat_session_is_valid: bool,
    /// Returns the code of the next `wx.login`.
    pub(crate) code: Box<dyn FnMut() -> String + Send + Sync>,
    pub(crate) data: String,
    pub(crate) iv: String,
    pub(crate) user_agent: String,
    /// Sends query parameters instead of headers.
    pub(crate) by_query: bool,
    /// Damages every session that it receives.
    pub(crate) spoils_sessions: bool,
    pub(crate) logins: usize,
    pub(crate) requests: usize,
}

/// The result of `wx.request`: the status, and the body if it is JSON.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) data: Value,
}

impl MiniProgram {
    pub(crate) fn new(base: &str) -> Self {
        let mut number = 0;
        Self {
            http: http(),
            base: base.to_owned(),
            session: None,
            wechat_session_is_valid: true,
            code: Box::new(move || {
                number += 1;
                format!("ok-{number}-{}", fastrand::u64(..))
            }),
            data: DATA.to_owned(),
            iv: IV.to_owned(),
            user_agent: String::new(),
            by_query: false,
            spoils_sessions: false,
            logins: 0,
            requests: 0,
        }
    }

    /// `wx.request`.
    pub(crate) async fn wx_request(
        &self,
        method: Method,
        path: &str,
        names: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Answer {
        let mut url = Url::parse(&format!("{}{path}", self.base)).unwrap();
        if self.by_query {
            url.query_pairs_mut().extend_pairs(names);
        }
        let mut request = self.http.request(method, url).header("user-agent", &self.user_agent);
        if !self.by_query {
            for (name, value) in names {
                request = request.header(*name, *value);
            }
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        Answer { status, data: serde_json::from_str(&text).unwrap_or(Value::String(text)) }
    }

    /// `login` of version 1.
    pub(crate) async fn login(&mut self) -> Result<(), Failed> {
        if self.session.is_some() {
            if self.wechat_session_is_valid {
                return Ok(());
            }
            self.session = None;
        }
        self.logins += 1;
        let code = (self.code)();
        let names = [
            ("X-WX-Code", code.as_str()),
            ("X-WX-Encrypted-Data", self.data.as_str()),
            ("X-WX-IV", self.iv.as_str()),
        ];
        let answer = self.wx_request(Method::GET, "/api/login", &names, None).await;
        let data = answer.data;
        if !truthy(&data[MAGIC]) {
            return Err(Failed::new("ERR_LOGIN_MISSING_SESSION", "no session in the answer"));
        }
        if !truthy(&data["session"]) {
            let message = format!("{}: {}", text(&data["error"]), text(&data["message"]));
            return Err(Failed::new("ERR_LOGIN_MISSING_SESSION", message));
        }
        self.session = Some(data["session"].clone());
        if self.spoils_sessions {
            self.session.as_mut().unwrap()["skey"] = json!("0".repeat(40));
        }
        Ok(())
    }

    /// `request` of version 1. `login` is its option of the same name.
    pub(crate) async fn request(
        &mut self,
        method: Method,
        path: &str,
        body: Option<Value>,
        login: bool,
    ) -> Result<Answer, Failed> {
        let mut has_retried = false;
        if login {
            self.login().await?;
        }
        loop {
            self.requests += 1;
            let names = self.names();
            let names: Vec<_> = names.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let answer = self.wx_request(method.clone(), path, &names, body.as_ref()).await;
            if !truthy(&answer.data[MAGIC]) {
                return Ok(answer);
            }
            self.session = None;
            let error = text(&answer.data["error"]);
            if error != "ERR_INVALID_SESSION" {
                let message = format!("{error}: {}", text(&answer.data["message"]));
                return Err(Failed::new("ERR_CHECK_LOGIN_FAILED", message));
            }
            if has_retried {
                return Err(Failed::new(&error, "the session has expired"));
            }
            has_retried = true;
            self.login().await?;
        }
    }

    pub(crate) async fn get(&mut self, path: &str) -> Result<Answer, Failed> {
        self.request(Method::GET, path, None, true).await
    }

    pub(crate) async fn post(&mut self, path: &str, body: Value) -> Result<Answer, Failed> {
        self.request(Method::POST, path, Some(body), true).await
    }

    /// Returns the session's headers, if the client has a session.
    pub(crate) fn names(&self) -> Vec<(&'static str, String)> {
        self.session.as_ref().map_or_else(Vec::new, |session| {
            vec![("X-WX-Id", text(&session["id"])), ("X-WX-Skey", text(&session["skey"]))]
        })
    }

    pub(crate) fn id(&self) -> String {
        text(&self.session.as_ref().expect("logged in")["id"])
    }

    /// Version 2: `login` with user data, `loginWithCode` without.
    pub(crate) async fn login2(&mut self, with_data: bool) -> Result<Value, Failed> {
        self.logins += 1;
        let code = (self.code)();
        let mut names = vec![("X-WX-Code", code.as_str())];
        if with_data {
            names.extend([("X-WX-Encrypted-Data", self.data.as_str()), ("X-WX-IV", self.iv.as_str())]);
        }
        let answer = self.wx_request(Method::GET, "/api/login", &names, None).await;
        let data = answer.data;
        if data["code"] != 0 || !truthy(&data["data"]["skey"]) || !truthy(&data["data"]["userinfo"]) {
            return Err(Failed::new(&text(&data["error"]), text(&data["message"])));
        }
        self.session = Some(data["data"].clone());
        Ok(data["data"]["userinfo"].clone())
    }

    /// `request` of version 2.
    pub(crate) async fn request2(&mut self, path: &str) -> Result<Answer, Failed> {
        let mut has_retried = false;
        loop {
            self.requests += 1;
            let skey = self.session.as_ref().map(|session| text(&session["skey"]));
            let names: Vec<_> = skey.iter().map(|skey| ("X-WX-Skey", skey.as_str())).collect();
            let answer = self.wx_request(Method::GET, path, &names, None).await;
            if answer.data["code"] != -1 && answer.status != 401 {
                return Ok(answer);
            }
            self.session = None;
            if has_retried {
                return Err(Failed::new(&text(&answer.data["error"]), "the session has expired"));
            }
            has_retried = true;
            self.login2(false).await?;
        }
    }
}

/// Returns whether JavaScript treats the value as true.
fn truthy(value: &Value) -> bool {
    !matches!(value, Value::Null | Value::Bool(false)) && value != "" && value != 0
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
