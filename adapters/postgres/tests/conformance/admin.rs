//! The owner of the database, with a connection of the test.

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

    /// Ends every connection of an application, and waits until they are gone. Returns their
    /// number.
    pub(crate) async fn end_connections_of(&self, application: &str) -> usize {
        let sql = "SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1";
        let ended = self.rows(sql, &[&application]).await;
        let ended: Vec<i32> = ended.iter().map(|row| row.get(0)).collect();
        until("the connections are gone", Duration::from_secs(10), || async {
            let sql = "SELECT count(*) FROM pg_stat_activity WHERE pid = ANY($1) AND application_name = $2";
            self.count(sql, &[&ended, &application]).await == 0
        })
        .await;
        ended.len()
    }

    pub(crate) async fn connections_of(&self, application: &str) -> i64 {
        self.count("SELECT count(*) FROM pg_stat_activity WHERE application_name = $1", &[&application]).await
    }
}
