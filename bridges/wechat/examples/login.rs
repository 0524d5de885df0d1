//! A service for a mini-program. It contains a stand-in for WeChat's server, so it runs without one:
//!
//! ```sh
//! cargo run -p larder-wechat --example login --features axum [-- --storage redis://localhost]
//! ```
//!
//! It prints the commands to type. If `WECHAT_APP_ID` and `WECHAT_APP_SECRET` are set in the environment, it
//! asks WeChat's own server.

use std::{env, io, time::Duration};

use anyhow::Context;
use axum::{
    Json, Router,
    extract::Query,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use clap::Parser;
use larder_wechat::{Error, Session, WechatLayer};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{net::TcpListener, signal};

/// The sample that WeChat publishes: a user's data, encrypted for this app with this session key.
/// <https://developers.weixin.qq.com/miniprogram/dev/framework/open-ability/signature.html>
mod sample {
    pub(super) const APP_ID: &str = "wx4f4bc4dec97d474b";
    pub(super) const SECRET: &str = "secret";
    pub(super) const SESSION_KEY: &str = "tiihtNczf5v6AKRyjwEUhQ==";
    pub(super) const IV: &str = "r7BXXKkLb8qrSNn05n0qiA==";
    pub(super) const DATA: &str = "CiyLU1Aw2KjvrjMdj8YKliAjtP4gsMZMQmRzooG2xrDcvSnxIMXFufNstNGTyaGS9uT5geRa0W4oTOb1WT7fJlAC+oNPdbB+3hVbJSRgv+4lGOETKUQz6OYStslQ142dNCuabNPGBzlooOmB231qMM85d2/fV6ChevvXvQP8Hkue1poOFtnEtpyxVLW1zAo6/1Xx1COxFvrc2d7UL/lmHInNlxuacJXwu0fjpXfz/YqYzBIBzD6WUfTIF9GRHpOn/Hz7saL8xz+W//FRAUid1OksQaQx4CMs8LOddcQhULW4ucetDf96JcR3g0gfRK4PC7E/r7Z6xNrXd2UIeorGj5Ef7b1pJAYB6Y5anaHqZ9J6nKEBvB4DnNLIVWSgARns/8wR2SiRS7MNACwTyrGvt9ts8p12PKFdlqYTopNHR1Vf7XjfhQlVsAJdNiKdYmYVoKlaRv85IfVunYzO0IKXsyl7JCUjCpoG20f0a04COwfneQAGGwd5oa+T8yO5hzuyDb/XcxxmK01EpqOyuxINew==";
}

/// Logs mini-programs in, and counts how often each user comes.
#[derive(Parser)]
struct Arguments {
    /// Where to keep the sessions, such as sqlite:FILE.db, file:DIR, memory: or redis://HOST (larder/URLS.md
    /// lists all URLs)
    #[arg(long, value_name = "URL", default_value = "memory:")]
    storage: String,
    /// Where to listen
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:3000")]
    address: String,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let url = larder::redact(&arguments.storage);
    let store = larder::open(&arguments.storage).await.with_context(|| format!("cannot open {url}"))?;
    let listener = TcpListener::bind(&arguments.address).await.context("cannot listen")?;
    let base = format!("http://{}", listener.local_addr()?);

    let real = env::var("WECHAT_APP_ID").ok().zip(env::var("WECHAT_APP_SECRET").ok());
    let is_real = real.is_some();
    let layer = match real {
        Some((app_id, secret)) => WechatLayer::builder(app_id, secret),
        None => WechatLayer::builder(sample::APP_ID, sample::SECRET).base_url(stand_in().await?),
    }
    .storage(&store)
    .cover_time(Duration::from_secs(300))
    .build()?;

    println!("Serving {base} with sessions in {url}. Ctrl-C ends.\n");
    if !is_real {
        print_commands(&base);
    }
    let app = Router::new().route("/me", get(me)).route("/logout", get(logout)).layer(layer);
    let interrupted = async {
        let _ = signal::ctrl_c().await;
    };
    axum::serve(listener, app).with_graceful_shutdown(interrupted).await?;
    store.close().await.context("cannot close the storage")
}

/// Returns the user's name, the time left, and the number of visits. Without a session the response is 401.
async fn me(session: Session) -> Result<Json<Value>, Failure> {
    let visits = session.update("visits", |visits: Option<u64>| Some(visits.unwrap_or(0) + 1))?;
    let user: Value = session.user_info()?.unwrap_or_default();
    let remaining = session.remaining().await?.unwrap_or_default();
    Ok(Json(json!({
        "nickName": user["nickName"],
        "remaining": remaining.as_secs(),
        "visits": visits,
    })))
}

async fn logout(session: Session) -> &'static str {
    session.destroy();
    "bye\n"
}

/// A session that could not be read or changed.
struct Failure(Error);

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        // The operator gets the reason; the user does not.
        eprintln!("{}", self.0);
        let status = if self.0.is_retryable() {
            StatusCode::SERVICE_UNAVAILABLE
        } else {
            StatusCode::INTERNAL_SERVER_ERROR
        };
        (status, "Please try again later.\n").into_response()
    }
}

/// Starts a server that answers every code with the sample's session key, as WeChat's server would; returns
/// its URL.
async fn stand_in() -> io::Result<String> {
    #[derive(Deserialize)]
    struct Ask {
        appid: String,
        secret: String,
    }
    async fn exchange(Query(ask): Query<Ask>) -> Json<Value> {
        Json(if ask.appid == sample::APP_ID && ask.secret == sample::SECRET {
            json!({ "openid": "oGZUI0egBJY1zhBYw2KhdUfwVJJE", "session_key": sample::SESSION_KEY })
        } else {
            json!({ "errcode": 40125, "errmsg": "invalid appsecret" })
        })
    }
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let router = Router::new().route("/sns/jscode2session", get(exchange));
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(url)
}

fn print_commands(base: &str) {
    let (iv, data) = (sample::IV, sample::DATA);
    println!("Log in:\n");
    println!(
        "curl -s {base}/api/login -H 'X-WX-Code: any' -H 'X-WX-IV: {iv}' -H 'X-WX-Encrypted-Data: {data}'\n"
    );
    println!("Then, with the id that came back:\n");
    println!("curl -s {base}/me -H 'X-WX-Skey: 5979632ece7b73187705aab22951713a29ac031e' -H 'X-WX-Id: '");
}
