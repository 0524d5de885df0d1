//! A stand-in for WeChat's server.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    extract::{RawQuery, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::json;

use super::{APP_ID, APP_SECRET, OPEN_ID, OTHER_APP_ID, SESSION_KEY, UNION_ID, serve};

/// The queries so far, and the codes that are used up.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) queries: Vec<String>,
    used: HashSet<String>,
}

/// The stand-in. Its answer depends on the beginning of the code. A code works for one exchange.
pub(crate) struct Wechat {
    pub(crate) url: String,
    seen: Arc<Mutex<Seen>>,
}

impl Wechat {
    pub(crate) async fn start() -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let router = Router::new()
            .route("/sns/jscode2session", get(exchange))
            .fallback(|| async { StatusCode::NOT_FOUND })
            .with_state(Arc::clone(&seen));
        Self { url: serve(router).await, seen }
    }

    pub(crate) fn queries(&self) -> Vec<String> {
        self.seen.lock().unwrap().queries.clone()
    }
}

async fn exchange(State(seen): State<Arc<Mutex<Seen>>>, RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    let url = reqwest::Url::parse(&format!("http://host/?{query}")).unwrap();
    let parameter = |name: &str| {
        let values: Vec<_> =
            url.query_pairs().filter(|(key, _)| key == name).map(|pair| pair.1.into_owned()).collect();
        assert_eq!(values.len(), 1, "{name} occurs once");
        values.into_iter().next().unwrap()
    };
    let code = parameter("js_code");
    let asked = {
        let mut seen = seen.lock().unwrap();
        seen.queries.push(query.clone());
        seen.queries.iter().filter(|other| **other == query).count()
    };
    if ![APP_ID, OTHER_APP_ID].contains(&parameter("appid").as_str()) {
        return failure(40013, "invalid appid");
    }
    if parameter("secret") != APP_SECRET || parameter("grant_type") != "authorization_code" {
        return failure(40125, "invalid appsecret");
    }
    let (kind, rest) = code.split_once('-').unwrap_or((&code, ""));
    match kind {
        "invalid" => return failure(40029, "invalid code"),
        "limited" => return failure(45011, "api minute-quota reach limit"),
        // Busy this many times, then successful.
        "busy" if asked <= rest.parse().unwrap() => return failure(-1, "system error"),
        "hangs" => std::future::pending::<()>().await,
        "garbage" => return "<html>not JSON</html>".into_response(),
        "empty" => return "{}".into_response(),
        "large" => return format!("{{\"session_key\":\"{}\"}}", "x".repeat(1 << 20)).into_response(),
        "broken" => return (StatusCode::INTERNAL_SERVER_ERROR, "secret=secret").into_response(),
        "redirect" => {
            let to = [(header::LOCATION, format!("/sns/jscode2session?{}", query.replace("redirect", "ok")))];
            return (StatusCode::FOUND, to).into_response();
        }
        _ => {}
    }
    if !seen.lock().unwrap().used.insert(code.clone()) {
        return failure(40163, "code been used");
    }
    let key = if kind == "otherkey" { "AAAAAAAAAAAAAAAAAAAAAA==" } else { SESSION_KEY };
    let answer = match kind {
        "anonymous" => json!({ "session_key": key }),
        "nameless" => json!({ "session_key": key, "openid": "" }),
        "stranger" => json!({ "session_key": key, "openid": "oStranger" }),
        // The answer for a mini-program that is bound to others.
        "union" => json!({ "session_key": key, "openid": OPEN_ID, "unionid": UNION_ID }),
        _ => json!({ "session_key": key, "openid": OPEN_ID }),
    };
    // WeChat declares its JSON as text.
    answer.to_string().into_response()
}

fn failure(code: i64, message: &str) -> Response {
    json!({ "errcode": code, "errmsg": message }).to_string().into_response()
}
