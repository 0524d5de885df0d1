//! A login that lasts 30 days for the visitors who ask for it, and an hour for the others.
//!
//! actix-session has one lifetime for all sessions, which each change of a session sets again. This store wraps
//! `LarderStore` and chooses the lifetime from the session, so it lasts.

use std::{
    collections::HashMap,
    io,
    net::{SocketAddr, ToSocketAddrs},
};

use actix_session::{
    Session, SessionMiddleware,
    config::{PersistentSession, TtlExtensionPolicy},
    storage::{LoadError, SaveError, SessionKey, SessionStore, UpdateError},
};
use actix_web::{
    App, HttpServer,
    cookie::{Key, time::Duration},
    dev::Server,
    web,
};
use larder_actix_session::LarderStore;

/// The lifetime of a cookie, and of the session of a visitor who wants to be remembered.
pub(crate) const LONG: Duration = Duration::days(30);
/// The lifetime of other sessions. The browser keeps the cookie longer, but it is useless then.
pub(crate) const SHORT: Duration = Duration::hours(1);

type State = HashMap<String, String>;

#[actix_web::main]
async fn main() -> anyhow::Result<()> {
    let store = larder::open("sqlite:sessions.db").await?;
    let sessions = LarderStore::new(&store)?.without_revival();
    // A real service keeps its secret private. The example has a constant secret, so that the sessions survive a
    // restart.
    let (server, address) = serve(sessions, Key::from(&[b'!'; 64]), "127.0.0.1:8080")?;
    println!("Try: curl -c jar -b jar -X POST http://{address}/login/ann/remember");
    server.await?;
    Ok(store.close().await?)
}

/// Starts the service.
pub(crate) fn serve(
    store: LarderStore,
    secret: Key,
    address: impl ToSocketAddrs,
) -> io::Result<(Server, SocketAddr)> {
    let server = HttpServer::new(move || {
        let lifecycle = PersistentSession::default()
            .session_ttl(LONG)
            // Each request sets the lifetime again.
            .session_ttl_extension_policy(TtlExtensionPolicy::OnEveryRequest);
        let sessions = SessionMiddleware::builder(RememberMe(store.clone()), secret.clone())
            .session_lifecycle(lifecycle)
            // Only because this example uses plain HTTP. By default the cookie requires HTTPS.
            .cookie_secure(false)
            .build();
        App::new()
            .wrap(sessions)
            .route("/", web::get().to(greet))
            .route("/visit", web::post().to(visit))
            .route("/login/{name}", web::post().to(login))
            .route("/login/{name}/remember", web::post().to(login_and_remember))
    })
    .workers(1)
    .bind(address)?;
    let address = server.addrs().first().copied().ok_or(io::ErrorKind::AddrNotAvailable)?;
    Ok((server.run(), address))
}

/// Stores a session for [`LONG`] if it has the field `remember`, and for [`SHORT`] otherwise.
struct RememberMe(LarderStore);

fn lifetime(state: &State) -> &'static Duration {
    if state.contains_key("remember") { &LONG } else { &SHORT }
}

impl SessionStore for RememberMe {
    async fn load(&self, key: &SessionKey) -> Result<Option<State>, LoadError> {
        self.0.load(key).await
    }

    async fn save(&self, state: State, _: &Duration) -> Result<SessionKey, SaveError> {
        let ttl = lifetime(&state);
        self.0.save(state, ttl).await
    }

    async fn update(&self, key: SessionKey, state: State, _: &Duration) -> Result<SessionKey, UpdateError> {
        let ttl = lifetime(&state);
        self.0.update(key, state, ttl).await
    }

    /// Only called with `TtlExtensionPolicy::OnEveryRequest`, without the session. So it reads the session again.
    async fn update_ttl(&self, key: &SessionKey, _: &Duration) -> anyhow::Result<()> {
        match self.0.load(key).await? {
            Some(state) => self.0.update_ttl(key, lifetime(&state)).await,
            None => Ok(()),
        }
    }

    async fn delete(&self, key: &SessionKey) -> anyhow::Result<()> {
        self.0.delete(key).await
    }
}

async fn greet(session: Session) -> actix_web::Result<String> {
    let name: Option<String> = session.get("name")?;
    Ok(format!("hello {}\n", name.as_deref().unwrap_or("guest")))
}

async fn visit(session: Session) -> actix_web::Result<String> {
    let visits: Option<u64> = session.get("visits")?;
    session.insert("visits", visits.unwrap_or(0) + 1)?;
    greet(session).await
}

async fn login(session: Session, name: web::Path<String>) -> actix_web::Result<String> {
    // A real service checks the password here.
    session.renew();
    session.remove("remember");
    session.insert("name", name.into_inner())?;
    greet(session).await
}

async fn login_and_remember(session: Session, name: web::Path<String>) -> actix_web::Result<String> {
    session.renew();
    session.insert("remember", true)?;
    session.insert("name", name.into_inner())?;
    greet(session).await
}
