//! A user with all rights, with a connection of the test.

use std::time::Duration;

use larder_mysql::sqlx::{
    self, AssertSqlSafe, ConnectOptions, Executor, MySqlConnection, Row,
    mysql::{MySqlConnectOptions, MySqlRow},
};
use larder_testkit::{Must, until};
use tokio::sync::Mutex;

pub(crate) struct Admin(Mutex<MySqlConnection>);

impl Admin {
    pub(crate) async fn connect(url: &str) -> Self {
        let options: MySqlConnectOptions = url.parse().must("read the URL");
        // Only the statements of stores are logged.
        let connection = options.disable_statement_logging().connect().await.must("connect as the admin");
        Self(Mutex::new(connection))
    }

    /// Runs SQL of one or more statements.
    pub(crate) async fn run(&self, sql: impl Into<String>) {
        drop(self.rows(sql).await);
    }

    pub(crate) async fn rows(&self, sql: impl Into<String>) -> Vec<MySqlRow> {
        let sql = sql.into();
        self.try_rows(sql.clone()).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"))
    }

    pub(crate) async fn try_rows(&self, sql: String) -> sqlx::Result<Vec<MySqlRow>> {
        self.0.lock().await.fetch_all(sqlx::raw_sql(AssertSqlSafe(sql))).await
    }

    /// The first column of the first row.
    pub(crate) async fn number(&self, sql: impl Into<String>) -> i64 {
        self.rows(sql).await[0].try_get_unchecked(0).must("read a number")
    }

    /// A column of all rows.
    pub(crate) async fn texts(&self, sql: impl Into<String>, column: usize) -> Vec<String> {
        let text = |row: &MySqlRow| {
            let bytes: Option<Vec<u8>> = row.try_get_unchecked(column).must("read a text");
            String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
        };
        self.rows(sql).await.iter().map(text).collect()
    }

    pub(crate) async fn connections_of(&self, database: &str) -> i64 {
        let sql = "SELECT COUNT(*) FROM information_schema.processlist WHERE db =";
        self.number(format!("{sql} '{database}'")).await
    }

    /// Ends every connection that uses a database, and waits until they are gone. Returns their number.
    pub(crate) async fn end_connections_of(&self, database: &str) -> usize {
        let sql = format!("SELECT id FROM information_schema.processlist WHERE db = '{database}'");
        let ids = self.texts(sql, 0).await;
        for id in &ids {
            // It may have ended by itself.
            drop(self.try_rows(format!("KILL {id}")).await);
        }
        let all = ids.join(", ");
        let left = format!("SELECT COUNT(*) FROM information_schema.processlist WHERE id IN ({all})");
        until("the connections are gone", Duration::from_secs(10), || async {
            all.is_empty() || self.number(&left).await == 0
        })
        .await;
        ids.len()
    }

    /// Waits until `count` statements of connections that use a database wait for locks of rows.
    pub(crate) async fn until_locked(&self, database: &str, count: i64) {
        // The server renews this table only if nobody has read it for a tenth of a second.
        static READER: Mutex<()> = Mutex::const_new(());
        let sql = format!(
            "SELECT COUNT(*) FROM information_schema.innodb_trx AS t \
             JOIN information_schema.processlist AS p ON p.id = t.trx_mysql_thread_id \
             WHERE p.db = '{database}' AND t.trx_state = 'LOCK WAIT'"
        );
        until("a statement waits for a lock", Duration::from_secs(20), || async {
            let _only = READER.lock().await;
            tokio::time::sleep(Duration::from_millis(110)).await;
            self.number(&sql).await == count
        })
        .await;
    }
}
