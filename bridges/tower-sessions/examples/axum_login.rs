//! The example of axum-login's documentation, with sessions that survive a restart.

use std::{collections::HashMap, convert::Infallible};

use anyhow::Context;
use axum::{
    Form, Router,
    http::StatusCode,
    response::{IntoResponse, Redirect},
    routing::{get, post},
};
use axum_login::{
    AuthManagerLayerBuilder, AuthUser, AuthnBackend, UserId, login_required,
    tower_sessions::{Expiry, SessionManagerLayer},
};
use clap::Parser;
use larder::Store;
use larder_tower_sessions::LarderStore;
use serde::Deserialize;
use tokio::net::TcpListener;
use tower_sessions::cookie::time::Duration;

/// A page that only its users can see.
#[derive(Parser)]
struct Arguments {
    /// Where to keep the sessions, such as sqlite:FILE.db, file:DIR or redis://HOST (larder/URLS.md lists all URLs)
    #[arg(long, value_name = "URL", default_value = "sqlite:sessions.db")]
    storage: String,
    /// Where to listen
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:3000")]
    address: String,
}

#[derive(Clone, Debug)]
struct User {
    name: String,
    /// A real service stores a hash of the password, for example with the crate password-auth.
    password: String,
}

impl AuthUser for User {
    type Id = String;

    fn id(&self) -> String {
        self.name.clone()
    }

    // A new password ends the sessions of the old one.
    fn session_auth_hash(&self) -> &[u8] {
        self.password.as_bytes()
    }
}

#[derive(Clone)]
struct Users(HashMap<String, User>);

#[derive(Clone, Deserialize)]
struct Credentials {
    name: String,
    password: String,
}

impl AuthnBackend for Users {
    type User = User;
    type Credentials = Credentials;
    type Error = Infallible;

    async fn authenticate(
        &self,
        Credentials { name, password }: Credentials,
    ) -> Result<Option<User>, Infallible> {
        Ok(self.0.get(&name).filter(|user| user.password == password).cloned())
    }

    async fn get_user(&self, name: &UserId<Self>) -> Result<Option<User>, Infallible> {
        Ok(self.0.get(name).cloned())
    }
}

type AuthSession = axum_login::AuthSession<Users>;

async fn login(mut session: AuthSession, Form(credentials): Form<Credentials>) -> impl IntoResponse {
    let user = match session.authenticate(credentials).await {
        Ok(Some(user)) => user,
        Ok(None) => return StatusCode::UNAUTHORIZED.into_response(),
        Err(_) => return StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    };
    if session.login(&user).await.is_err() {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    Redirect::to("/protected").into_response()
}

async fn logout(mut session: AuthSession) -> impl IntoResponse {
    match session.logout().await {
        Ok(_) => Redirect::to("/login").into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn protected(session: AuthSession) -> String {
    session.user.map_or_else(String::new, |user| format!("Hello, {}!\n", user.name))
}

/// Returns the service, with its sessions in `storage`.
pub(crate) fn router(storage: &Store) -> larder::Result<Router> {
    // The only line that differs: `MemoryStore::default()` in axum-login's documentation.
    let session_store = LarderStore::new(storage)?;
    let session_layer = SessionManagerLayer::new(session_store)
        // Only because this example uses plain HTTP. By default the cookie requires HTTPS.
        .with_secure(false)
        .with_expiry(Expiry::OnInactivity(Duration::days(1)));

    let ann = User { name: "ann".to_owned(), password: "hunter2".to_owned() };
    let backend = Users(HashMap::from([(ann.name.clone(), ann)]));
    let auth_layer = AuthManagerLayerBuilder::new(backend, session_layer).build();

    Ok(Router::new()
        .route("/protected", get(protected))
        .route_layer(login_required!(Users, login_url = "/login"))
        .route("/login", post(login))
        .route("/login", get(async || "Please log in.\n"))
        .route("/logout", post(logout))
        .layer(auth_layer))
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let storage = larder::open(&arguments.storage)
        .await
        .with_context(|| format!("cannot open {}", larder::redact(&arguments.storage)))?;

    let listener = TcpListener::bind(&arguments.address).await.context("cannot listen")?;
    println!(
        "Try: curl -c jar -b jar -d name=ann -d password=hunter2 http://{}/login",
        listener.local_addr()?
    );
    println!("Then GET /protected, end this program, start it again and GET /protected again.");
    axum::serve(listener, router(&storage)?).await?;
    Ok(())
}
