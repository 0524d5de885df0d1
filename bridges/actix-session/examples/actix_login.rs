//! A web service with login, a counter, and logout. Its sessions survive a restart, in any persistent store.

use std::{
    io,
    net::{SocketAddr, ToSocketAddrs},
};

use actix_session::{Session, SessionMiddleware, config::PersistentSession};
use actix_web::{
    App, HttpServer,
    cookie::{Key, time::Duration},
    dev::Server,
    web,
};
use anyhow::Context;
use clap::Parser;
use larder_actix_session::LarderStore;

/// Counts the visits of each visitor, and remembers the login.
#[derive(Parser)]
struct Arguments {
    /// Where to keep the sessions, such as sqlite:FILE.db, file:DIR, memory: or redis://HOST (larder/URLS.md
    /// lists all URLs)
    #[arg(long, value_name = "URL", default_value = "sqlite:sessions.db")]
    storage: String,
    /// Where to listen
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8080")]
    address: String,
}

#[actix_web::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let store = larder::open(&arguments.storage)
        .await
        .with_context(|| format!("cannot open {}", larder::redact(&arguments.storage)))?;
    let sessions = LarderStore::new(&store)?.without_revival();
    // A real service keeps its secret private: it protects the cookies, and an attacker that has it can create
    // them. The example has a constant secret, so that the sessions survive a restart.
    let secret = Key::from(&[b'!'; 64]);
    // A session expires an hour after its last change. With `session_ttl_extension_policy`: after its last
    // use.
    let lifecycle = PersistentSession::default().session_ttl(Duration::hours(1));
    let (server, address) =
        serve(sessions, secret, lifecycle, &arguments.address).context("cannot listen")?;
    println!("Try: curl -c jar -b jar -X POST http://{address}/count");
    println!("Then /login/ann, /count again, /logout. Ctrl-C ends.");
    server.await?;
    store.close().await.context("cannot close the storage")
}

/// Starts the service. `lifecycle` sets the lifetime of a session.
pub(crate) fn serve(
    store: LarderStore,
    secret: Key,
    lifecycle: PersistentSession,
    address: impl ToSocketAddrs,
) -> io::Result<(Server, SocketAddr)> {
    let server = HttpServer::new(move || {
        let sessions = SessionMiddleware::builder(store.clone(), secret.clone())
            .session_lifecycle(lifecycle.clone())
            // Only because this example uses plain HTTP. By default the cookie requires HTTPS.
            .cookie_secure(false)
            .build();
        App::new()
            .wrap(sessions)
            .route("/", web::get().to(greet))
            .route("/count", web::post().to(count))
            .route("/login/{name}", web::post().to(login))
            .route("/logout", web::post().to(logout))
    })
    .workers(2)
    .bind(address)?;
    let address = server.addrs().first().copied().ok_or(io::ErrorKind::AddrNotAvailable)?;
    Ok((server.run(), address))
}

async fn greet(session: Session) -> actix_web::Result<String> {
    let name: Option<String> = session.get("name")?;
    let count: Option<u64> = session.get("count")?;
    Ok(format!("{}: {}\n", name.as_deref().unwrap_or("guest"), count.unwrap_or(0)))
}

async fn count(session: Session) -> actix_web::Result<String> {
    let count: Option<u64> = session.get("count")?;
    session.insert("count", count.unwrap_or(0) + 1)?;
    greet(session).await
}

async fn login(session: Session, name: web::Path<String>) -> actix_web::Result<String> {
    // A real service checks the password here. The session gets a new key, so that a key that an attacker
    // planted in the browser before the login is useless after it.
    session.renew();
    session.insert("name", name.into_inner())?;
    greet(session).await
}

async fn logout(session: Session) -> actix_web::Result<String> {
    session.purge();
    greet(session).await
}
