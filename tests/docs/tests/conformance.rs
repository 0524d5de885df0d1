//! The adapters of "Writing an adapter" pass the suite.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test fails by panicking.

use std::sync::Arc;

use larder_core::{Key, Result, Store, async_trait};
use larder_docs_tests::{embedded, server};
use larder_testkit::{Factory, Line, Missing, Proxy, Runner, SingleOpener, Suite};
use tempfile::TempDir;

/// A table per space, on a server.
struct Tables {
    server: String,
}

impl Tables {
    /// Finds the server, or says that it is missing.
    async fn find() -> std::result::Result<Self, Missing> {
        match larder_test_servers::postgres().await {
            Ok(server) => Ok(Self { server: server.url().to_owned() }),
            Err(missing) => Err(Missing::new(missing.to_string(), missing.required())),
        }
    }

    fn url(&self, space: &str) -> String {
        format!("{}?table={space}&sweep=off", self.server)
    }

    /// Runs a statement without the adapter.
    async fn run(&self, sql: &str) {
        let connected = tokio_postgres::connect(&self.server, tokio_postgres::NoTls).await;
        let (client, connection) = connected.expect("connect to the server");
        let connection = tokio::spawn(connection);
        client.batch_execute(sql).await.expect("run a statement");
        connection.abort();
    }
}

#[async_trait]
impl Factory for Tables {
    async fn open(&self, space: &str) -> Result<Store> {
        server::connect(&self.url(space)).await
    }

    async fn open_over_line(&self, space: &str) -> Result<Option<(Store, Arc<dyn Line>)>> {
        let url = self.url(space);
        let (_, place) = url.rsplit_once('@').expect("find the host");
        let (host, _) = place.split_once('/').expect("find the host");
        let proxy = Proxy::to(host).await.expect("start a proxy");
        let url = url.replace(host, &proxy.address().to_string());
        let store = server::connect(&format!("{url}&timeout=500ms")).await?;
        Ok(Some((store, Arc::new(proxy))))
    }

    async fn damage(&self, space: &str, key: &Key) -> Result<bool> {
        let null = "ALTER COLUMN value DROP NOT NULL";
        self.run(&format!(
            "ALTER TABLE \"{space}\" {null}; UPDATE \"{space}\" SET value = NULL WHERE key = '{key}'"
        ))
        .await;
        Ok(true)
    }

    async fn remove(&self, space: &str) -> Result<()> {
        self.run(&format!("DROP TABLE \"{space}\"")).await;
        Ok(())
    }
}

/// A file per space, in a directory that is removed at the end.
struct Files {
    directory: TempDir,
}

impl Files {
    async fn create() -> std::result::Result<SingleOpener<Self>, Missing> {
        Ok(SingleOpener::new(Self { directory: TempDir::new().expect("make a directory") }))
    }

    fn url(&self, space: &str) -> String {
        format!("redb:{}/{space}.redb?sweep=off", self.directory.path().display())
    }
}

#[async_trait]
impl Factory for Files {
    async fn open(&self, space: &str) -> Result<Store> {
        embedded::connect(&self.url(space)).await
    }
}

fn main() {
    Runner::new()
        .suite(
            Suite::connect("server", Tables::find)
                .across_processes(Tables::url, |url| async move { server::connect(&url).await }),
        )
        .suite(Suite::connect("embedded", Files::create).across_processes(
            |files, space| files.url(space),
            |url| async move { embedded::connect(&url).await },
        ))
        .main()
}
