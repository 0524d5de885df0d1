//! Creates the table, and checks an existing one.

use larder_core::Result;
use sqlx::{AssertSqlSafe, SqliteConnection};

use crate::{
    config::{Config, invalid},
    error::from_driver,
    sql::{ROW_ID, quote},
};

impl Config {
    /// Returns the SQL that creates the configured table, to run by hand.
    // The table has row ids: without them, the primary key's tree would hold the values, and finding a key among large
    // values would read overflow pages. The value is last, so that reading the columns before it skips those pages. The
    // deadline has no index, which each write would change: see the module `purge`.
    #[must_use]
    pub fn setup_sql(&self) -> String {
        format!(
            "CREATE TABLE IF NOT EXISTS {} (\n  \
               key TEXT NOT NULL PRIMARY KEY,\n  \
               version INTEGER NOT NULL,\n  \
               expires_at INTEGER,\n  \
               value {} NOT NULL\n\
             );\n",
            quote(&self.table),
            self.column_type(),
        )
    }
}

/// Returns whether the table exists. Changes nothing.
///
/// # Errors
///
/// [`InvalidConfig`](larder_core::ErrorKind::InvalidConfig) if a table of that name exists but is not Larder's.
pub(crate) async fn exists(connection: &mut SqliteConnection, config: &Config) -> Result<bool> {
    let encoding: String =
        sqlx::query_scalar("PRAGMA encoding").fetch_one(&mut *connection).await.map_err(from_driver)?;
    if encoding != "UTF-8" {
        // Keys would be in another order, and differ from those written.
        let message =
            format!("the text encoding of the database is {encoding}, but must be UTF-8: name another file");
        return Err(invalid(message));
    }
    let columns = columns(connection, &config.table).await?;
    if columns.is_empty() {
        return Ok(false);
    }
    let found = match problem(&columns, config.column_type()) {
        None => without_row_ids(connection, &config.table).await?,
        found => found,
    };
    match found {
        None => Ok(true),
        Some(problem) => Err(invalid(format!(
            "table {} does not have Larder's columns: {problem}. Name another table, or change this one",
            quote(&config.table)
        ))),
    }
}

/// Returns whether the database has tables besides this one.
pub(crate) async fn has_other_tables(connection: &mut SqliteConnection, table: &str) -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type IN ('table', 'view') \
               AND name <> ?1 COLLATE NOCASE AND name NOT LIKE 'sqlite^_%' ESCAPE '^')";
    sqlx::query_scalar(sql).bind(table).fetch_one(connection).await.map_err(from_driver)
}

/// Creates the table.
pub(crate) async fn set_up(connection: &mut SqliteConnection, config: &Config) -> Result<()> {
    let outcome = sqlx::raw_sql(AssertSqlSafe(config.setup_sql())).execute(&mut *connection).await;
    outcome.map_err(|error| match &error {
        // For example, an index of that name exists.
        sqlx::Error::Database(database) if database.code().as_deref() == Some("1") => {
            invalid("SQLite cannot create the table: choose another name").with_source(error)
        }
        _ => from_driver(error),
    })?;
    // Checked because another process may have created it first, with other columns.
    exists(connection, config).await.map(drop)
}

/// Returns the file of the main database; `None` for a database in memory.
pub(crate) async fn file(connection: &mut SqliteConnection) -> Result<Option<String>> {
    let sql = "SELECT nullif(file, '') FROM pragma_database_list WHERE name = 'main'";
    sqlx::query_scalar(sql).fetch_one(connection).await.map_err(from_driver)
}

/// A column of the table: its name; the affinity of its declared type, by the rules of
/// <https://www.sqlite.org/datatype3.html>; whether it is not null, has a default, and is in the primary key; and the
/// collation of the primary key.
type Column = (String, String, bool, bool, bool, Option<String>);

/// Returns the columns of the table; none if the table does not exist.
async fn columns(connection: &mut SqliteConnection, table: &str) -> Result<Vec<Column>> {
    let sql = "SELECT name, \
               CASE WHEN type LIKE '%INT%' THEN 'INTEGER' \
                    WHEN type LIKE '%CHAR%' OR type LIKE '%CLOB%' OR type LIKE '%TEXT%' THEN 'TEXT' \
                    WHEN type LIKE '%BLOB%' OR type = '' THEN 'BLOB' ELSE 'NUMERIC' END, \
               \"notnull\", dflt_value IS NOT NULL, pk > 0, \
               (SELECT part.coll FROM pragma_index_list(?1) AS list, pragma_index_xinfo(list.name) AS part \
                WHERE list.origin = 'pk' AND part.key = 1 AND part.name = info.name) \
               FROM (SELECT name, upper(type) AS type, \"notnull\", dflt_value, pk \
                     FROM pragma_table_info(?1)) AS info";
    sqlx::query_as(sql).bind(table).fetch_all(connection).await.map_err(from_driver)
}

/// Returns a problem if the table has no row ids, which sweeps need.
async fn without_row_ids(connection: &mut SqliteConnection, table: &str) -> Result<Option<String>> {
    let sql = "SELECT EXISTS (SELECT 1 FROM pragma_table_list(?1) WHERE schema = 'main' AND wr)";
    let without = sqlx::query_scalar(sql).bind(table).fetch_one(connection).await.map_err(from_driver)?;
    Ok(if without { Some("it was created WITHOUT ROWID".to_owned()) } else { None })
}

/// Returns the first problem of the table.
fn problem(columns: &[Column], value: &str) -> Option<String> {
    let expected = [("key", "TEXT"), ("value", value), ("version", "INTEGER"), ("expires_at", "INTEGER")];
    for (name, affinity) in expected {
        let column = columns.iter().find(|(column, ..)| column.eq_ignore_ascii_case(name));
        let Some((_, found, not_null, _, primary, collation)) = column else {
            return Some(format!("it has no column `{name}`"));
        };
        if found != affinity {
            let hint = match (name, found.as_str()) {
                ("value", "TEXT") => " (was it created with `values=json`?)",
                ("value", "BLOB") => " (was it created with `values=bytes`?)",
                _ => "",
            };
            return Some(format!("its column `{name}` is not {affinity}{hint}"));
        }
        if *primary != (name == "key") {
            return Some("its primary key is not the column `key`".to_owned());
        }
        if collation.as_ref().is_some_and(|collation| !collation.eq_ignore_ascii_case("BINARY")) {
            return Some("its column `key` does not compare bytes (COLLATE BINARY)".to_owned());
        }
        if name == "expires_at" && *not_null {
            return Some("its column `expires_at` does not allow nulls".to_owned());
        }
    }
    let is_expected = |name: &str| expected.iter().any(|(expected, _)| name.eq_ignore_ascii_case(expected));
    for (name, _, not_null, has_default, primary, _) in columns.iter().filter(|(name, ..)| !is_expected(name))
    {
        if *primary {
            return Some("its primary key is not the column `key` alone".to_owned());
        }
        if name.eq_ignore_ascii_case(ROW_ID) {
            return Some(format!("its column `{name}` hides the row ids"));
        }
        if *not_null && !has_default {
            return Some(format!("its column `{name}` has no default and does not allow nulls"));
        }
    }
    None
}
