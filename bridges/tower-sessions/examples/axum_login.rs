//! A web service with log-in, a counter and log-out. Its sessions survive a restart, in any store.

use anyhow::Context;
use axum::{
    Router,
    extract::Path,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use clap::Parser;
use larder_tower_sessions::LarderStore;
use tokio::{net::TcpListener, signal};
use tower_sessions::{Expiry, Session, SessionManagerLayer, cookie::time::Duration, session, session_store};

/// Counts, for each visitor, and knows who has logged in.
#[derive(Parser)]
struct Arguments {
    /// Where the sessions are kept, such as sqlite:FILE.db, file:DIR, memory: or redis://HOST
    /// (larder/URLS.md has them all)
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
    println!("Then /login/ann, /count again, /logout. Ctrl-C ends.");
    let interrupted = async {
        let _ = signal::ctrl_c().await;
    };
    axum::serve(listener, router(sessions, Duration::hours(1))).with_graceful_shutdown(interrupted).await?;
    store.close().await.context("cannot close the storage")
}

/// The service. A session lives for `lifetime` after it has last changed.
pub(crate) fn router(store: LarderStore, lifetime: Duration) -> Router {
    let sessions = SessionManagerLayer::new(store)
        .with_expiry(Expiry::OnInactivity(lifetime))
        // Only because this example speaks plain HTTP: leave it out, and the cookie needs HTTPS.
        .with_secure(false);
    Router::new()
        .route("/", get(greet))
        .route("/count", post(count))
        .route("/login/{name}", post(login))
        .route("/logout", post(logout))
        .layer(sessions)
}

async fn greet(session: Session) -> Result<String, Failure> {
    let name: Option<String> = session.get("name").await?;
    let count: Option<u64> = session.get("count").await?;
    Ok(format!("{}: {}\n", name.as_deref().unwrap_or("nobody"), count.unwrap_or(0)))
}

async fn count(session: Session) -> Result<String, Failure> {
    let count: Option<u64> = session.get("count").await?;
    session.insert("count", count.unwrap_or(0) + 1).await?;
    greet(session).await
}

async fn login(session: Session, Path(name): Path<String>) -> Result<String, Failure> {
    // Here the password would be checked. Then a new id: one that somebody has planted in the
    // browser before the log-in must be worth nothing after it.
    session.cycle_id().await?;
    session.insert("name", name).await?;
    greet(session).await
}

async fn logout(session: Session) -> Result<String, Failure> {
    session.flush().await?;
    greet(session).await
}

/// A session that could not be had.
struct Failure(session::Error);

impl From<session::Error> for Failure {
    fn from(error: session::Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        // For whoever runs the service; the visitor is told nothing of it.
        eprintln!("{}", self.0);
        match self.0 {
            session::Error::Store(session_store::Error::Backend(text)) if passes(&text) => {
                (StatusCode::SERVICE_UNAVAILABLE, "Please try again.\n").into_response()
            }
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "Something is wrong here.\n").into_response(),
        }
    }
}

/// Whether asking again may help. A wrong password of the storage, say, stays wrong until somebody has
/// put it right. The store's errors are texts, with their kind in brackets.
fn passes(text: &str) -> bool {
    ["(unavailable)", "(timeout)"].iter().any(|kind| text.contains(kind))
}
