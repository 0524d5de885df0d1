//! A web service with log-in, a counter and log-out. Its sessions survive a restart, in any store.

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

/// Counts, for each visitor, and knows who has logged in.
#[derive(Parser)]
struct Arguments {
    /// Where the sessions are kept, such as sqlite:FILE.db, file:DIR, memory: or redis://HOST
    /// (larder/URLS.md has them all)
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
    // A service that is meant keeps its secret: cookies are signed with it, and whoever has it can
    // make them. This one is the same in every copy of the example, so that a restart ends no session.
    let secret = Key::from(&[b'!'; 64]);
    // An hour after a session has last changed. `session_ttl_extension_policy` makes that: last been used.
    let lifecycle = PersistentSession::default().session_ttl(Duration::hours(1));
    let (server, address) =
        serve(sessions, secret, lifecycle, &arguments.address).context("cannot listen")?;
    println!("Try: curl -c jar -b jar -X POST http://{address}/count");
    println!("Then /login/ann, /count again, /logout. Ctrl-C ends.");
    server.await?;
    store.close().await.context("cannot close the storage")
}

/// The service. `lifecycle` says how long a session lives.
pub(crate) fn serve(
    store: LarderStore,
    secret: Key,
    lifecycle: PersistentSession,
    address: impl ToSocketAddrs,
) -> io::Result<(Server, SocketAddr)> {
    let server = HttpServer::new(move || {
        let sessions = SessionMiddleware::builder(store.clone(), secret.clone())
            .session_lifecycle(lifecycle.clone())
            // Only because this example speaks plain HTTP: leave it out, and the cookie needs HTTPS.
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
    Ok(format!("{}: {}\n", name.as_deref().unwrap_or("nobody"), count.unwrap_or(0)))
}

async fn count(session: Session) -> actix_web::Result<String> {
    let count: Option<u64> = session.get("count")?;
    session.insert("count", count.unwrap_or(0) + 1)?;
    greet(session).await
}

async fn login(session: Session, name: web::Path<String>) -> actix_web::Result<String> {
    // Here the password would be checked. Then a new key: one that somebody has planted in the
    // browser before the log-in must be worth nothing after it.
    session.renew();
    session.insert("name", name.into_inner())?;
    greet(session).await
}

async fn logout(session: Session) -> actix_web::Result<String> {
    session.purge();
    greet(session).await
}
