//! The database's owner, who looks at tables and breaks things behind the adapter's back.

use std::time::Duration;

use larder_postgres::tokio_postgres::{Client, NoTls, Row, SimpleQueryMessage, types::ToSql};
use larder_testkit::until;

pub(crate) struct Admin {
    pub(crate) client: Client,
}

impl Admin {
    /// # Panics
    ///
    /// If the server cannot be reached.
    pub(crate) async fn connect(url: &str) -> Self {
        let (client, connection) =
            larder_postgres::tokio_postgres::connect(url, NoTls).await.expect("the owner connects");
        tokio::spawn(connection);
        Self { client }
    }

    /// Runs SQL.
    pub(crate) async fn run(&self, sql: &str) {
        if let Err(error) = self.client.batch_execute(sql).await {
            panic!("{sql}: {error:?}");
        }
    }

    pub(crate) async fn rows(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Vec<Row> {
        match self.client.query(sql, params).await {
            Ok(rows) => rows,
            Err(error) => panic!("{sql}: {error:?}"),
        }
    }

    pub(crate) async fn count(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> i64 {
        self.rows(sql, params).await[0].get(0)
    }

    /// The first column of the first row, as text.
    pub(crate) async fn text(&self, sql: &str) -> Option<String> {
        let messages = self.client.simple_query(sql).await.expect("the query runs");
        messages.into_iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        })
    }

    /// Ends every connection of the application of that name, and waits until they are gone.
    pub(crate) async fn end_connections_of(&self, application: &str) -> i64 {
        let ended = self
            .count(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = $1",
                &[&application],
            )
            .await;
        until("the connections are gone", Duration::from_secs(10), || async {
            self.connections_of(application).await == 0
        })
        .await;
        ended
    }

    pub(crate) async fn connections_of(&self, application: &str) -> i64 {
        self.count("SELECT count(*) FROM pg_stat_activity WHERE application_name = $1", &[&application]).await
    }
}
