//! A web service with login, "remember me", a counter and logout. Its sessions survive a restart, in any persistent store.

use anyhow::Context;
use axum::{
    Router,
    extract::{Path, Request},
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use clap::Parser;
use larder_tower_sessions::LarderStore;
use tokio::{net::TcpListener, signal};
use tower_sessions::{Expiry, Session, SessionManagerLayer, cookie::time::Duration, session, session_store};

/// Counts the visits of each visitor, and remembers the login.
#[derive(Parser)]
struct Arguments {
    /// Where to keep the sessions, such as sqlite:FILE.db, file:DIR, memory: or redis://HOST (larder/URLS.md
    /// lists all URLs)
    #[arg(long, value_name = "URL", default_value = "sqlite:sessions.db")]
    storage: String,
    /// Where to listen
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:3000")]
    address: String,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let store = larder::open(&arguments.storage)
        .await
        .with_context(|| format!("cannot open {}", larder::redact(&arguments.storage)))?;
    let sessions = LarderStore::new(&store)?;
    let listener = TcpListener::bind(&arguments.address).await.context("cannot listen")?;
    println!("Try: curl -c jar -b jar -X POST http://{}/count", listener.local_addr()?);
    println!("Then /login/ann, /remember, /count again, /logout. Ctrl-C ends.");
    let interrupted = async {
        let _ = signal::ctrl_c().await;
    };
    axum::serve(listener, router(sessions, Duration::hours(1))).with_graceful_shutdown(interrupted).await?;
    store.close().await.context("cannot close the storage")
}

/// Returns the service. A session expires `lifetime` after its last change, or 30 days after its last request if the
/// visitor wants to be remembered.
pub(crate) fn router(store: LarderStore, lifetime: Duration) -> Router {
    let sessions = SessionManagerLayer::new(store)
        .with_expiry(Expiry::OnInactivity(lifetime))
        // Only because this example uses plain HTTP. By default the cookie requires HTTPS.
        .with_secure(false);
    Router::new()
        .route("/", get(greet))
        .route("/count", post(count))
        .route("/login/{name}", post(login))
        .route("/remember", post(remember))
        .route("/logout", post(logout))
        .layer(middleware::from_fn(keep_remembered))
        .layer(sessions)
}

async fn greet(session: Session) -> Result<String, Failure> {
    let name: Option<String> = session.get("name").await?;
    let count: Option<u64> = session.get("count").await?;
    Ok(format!("{}: {}\n", name.as_deref().unwrap_or("guest"), count.unwrap_or(0)))
}

async fn count(session: Session) -> Result<String, Failure> {
    let count: Option<u64> = session.get("count").await?;
    session.insert("count", count.unwrap_or(0) + 1).await?;
    greet(session).await
}

async fn login(session: Session, Path(name): Path<String>) -> Result<String, Failure> {
    // A real service checks the password here. The session gets a new id, so that an id that an attacker
    // planted in the browser before the login is useless after it.
    session.cycle_id().await?;
    session.insert("name", name).await?;
    greet(session).await
}

async fn remember(session: Session) -> Result<String, Failure> {
    session.insert("remember", true).await?;
    greet(session).await
}

/// Sets the expiry of remembered sessions in every request. tower-sessions does not store the `Expiry` that
/// `set_expiry` sets: it holds for one request, and the next save would apply the layer's expiry.
async fn keep_remembered(session: Session, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    // After the handler, which may have logged out, and before the layer saves the session. A session that cannot be
    // loaded is not saved either.
    if let Ok(Some(true)) = session.get("remember").await {
        session.set_expiry(Some(Expiry::OnInactivity(Duration::days(30))));
    }
    response
}

async fn logout(session: Session) -> Result<String, Failure> {
    session.flush().await?;
    greet(session).await
}

/// A session that could not be read or saved.
struct Failure(session::Error);

impl From<session::Error> for Failure {
    fn from(error: session::Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        // The operator gets the reason; the visitor does not.
        eprintln!("{}", self.0);
        match self.0 {
            session::Error::Store(session_store::Error::Backend(text)) if passes(&text) => {
                (StatusCode::SERVICE_UNAVAILABLE, "Please try again.\n").into_response()
            }
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "Something is wrong here.\n").into_response(),
        }
    }
}

/// Returns whether a retry may help. A wrong password of the storage, for example, does not pass by itself.
/// The store's errors are texts that contain their kind in brackets.
fn passes(text: &str) -> bool {
    ["(unavailable)", "(timeout)"].iter().any(|kind| text.contains(kind))
}
