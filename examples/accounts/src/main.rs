//! A website with accounts. Users stay signed in when it restarts, see their devices and sign them out.

mod app;
mod devices;
mod guard;
mod pages;
mod users;

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use tokio::{net::TcpListener, signal};

/// Serves a website whose users see the devices on which they are signed in, and sign them out.
#[derive(Parser)]
#[command(version, after_help = users::DEMO)]
struct Arguments {
    /// Where to keep the sessions, such as sqlite:FILE.db, file:DIR or redis://HOST (larder/URLS.md lists all
    /// URLs)
    #[arg(long, value_name = "URL", default_value = "sqlite:accounts.db")]
    storage: String,
    /// Where to listen
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:3000")]
    listen: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    // tower-sessions warns of every cookie whose session has ended.
    tracing_subscriber::fmt().with_max_level(tracing::Level::ERROR).with_writer(std::io::stderr).init();
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("accounts: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let storage = larder::open(&arguments.storage)
        .await
        .with_context(|| format!("cannot open {}", larder::redact(&arguments.storage)))?;
    let served = serve(&arguments.listen, &storage).await;
    // Closed even after an error, because some stores write delayed changes only then.
    let closed = storage.close().await.context("cannot close the storage");
    served.and(closed)
}

/// Answers requests until Ctrl-C or SIGTERM. Requests that are under way then still get their answer.
async fn serve(address: &str, storage: &larder::Store) -> anyhow::Result<()> {
    let router = app::router(storage)?;
    let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
    println!("Listening on http://{}", listener.local_addr()?);
    Ok(axum::serve(listener, router).with_graceful_shutdown(stopped()).await?)
}

async fn stopped() {
    let interrupt = async {
        // Without a handler, the signal ends the process anyway.
        if signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    #[cfg(unix)]
    let terminate = async {
        match signal::unix::signal(signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => signal.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    #[cfg(not(unix))]
    let terminate = std::future::pending::<Option<()>>();
    tokio::select! {
        () = interrupt => {}
        _ = terminate => {}
    }
}
