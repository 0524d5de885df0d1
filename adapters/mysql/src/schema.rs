//! Creates the table, and checks an existing one.

use larder_core::{Error, ErrorKind, Operation, Result};
use larder_kit::{Configure, ValueFormat};
use sqlx::{Row, mysql::MySqlRow};

use crate::{
    config::{Config, invalid},
    driver::Driver,
    error::{NO_SUCH_TABLE, from_driver},
    sql::Call,
};
use std::sync::Arc;

impl Config {
    /// Returns the SQL that creates the table, for a user that may create it if the program's user may not. It can be
    /// run more than once. The program's user then needs `SELECT`, `INSERT`, `UPDATE` and `DELETE` on the table.
    ///
    /// ```
    /// let config = larder_mysql::Config::from_url("mysql://localhost/bot?table=sessions")?;
    /// assert!(config.setup_sql().contains("CREATE TABLE IF NOT EXISTS `bot`.`sessions` ("));
    /// # Ok::<(), larder_core::Error>(())
    /// ```
    #[must_use]
    pub fn setup_sql(&self) -> String {
        let value = match self.values {
            ValueFormat::Json => "LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
            _ => "LONGBLOB",
        };
        format!(
            "CREATE TABLE IF NOT EXISTS {} (\n    \
                 `key` VARBINARY(512) NOT NULL PRIMARY KEY,\n    \
                 value {value} NOT NULL,\n    \
                 version BIGINT NOT NULL,\n    \
                 expires_at BIGINT,\n    \
                 INDEX (expires_at)\n\
             ) ENGINE = InnoDB;\n",
            self.quoted()
        )
    }

    /// Creates the table if it is missing and the configuration allows it, and checks its columns. Many processes may
    /// do this at the same time.
    pub(crate) async fn set_up(&self, driver: &Arc<Driver>) -> Result<()> {
        if self.check(driver).await? {
            return Ok(());
        }
        if !self.creates() {
            return Err(invalid(format!(
                "the table {} does not exist: check its name, or create it with `setup=true` or with the SQL that \
                 `Config::setup_sql` returns",
                self.quoted()
            )));
        }
        let create = driver.change(|| Call::raw(self.setup_sql()));
        create.await.map_err(|error| match error.kind() {
            ErrorKind::PermissionDenied => Error::new(
                ErrorKind::PermissionDenied,
                "the table does not exist, and this user may not create it: have another user run the SQL of \
                 `Config::setup_sql`, and connect with `setup=false`",
            )
            .with_source(error),
            _ => error.with_operation(Operation::Setup),
        })?;
        // Checked because another process may have created it first, with other columns.
        self.check(driver).await.map(drop)
    }

    /// Returns whether the table exists, or an error if it cannot be used. Changes nothing.
    async fn check(&self, driver: &Arc<Driver>) -> Result<bool> {
        let show =
            format!("SHOW FULL COLUMNS FROM {table}; SHOW CREATE TABLE {table}", table = self.quoted());
        let rows = match driver.read(Call::raw(show)).await {
            Err(error) if error.message() == NO_SUCH_TABLE => return Ok(false),
            rows => rows?,
        };
        // The last row is the statement that creates the table.
        let Some((create, columns)) = rows.split_last() else { return Ok(false) };
        let columns = columns.iter().map(Column::from_row).collect::<Result<Vec<_>, _>>();
        let columns = columns.map_err(|error| from_driver(&error))?;
        let create: String = create.try_get_unchecked(1).map_err(|error| from_driver(&error))?;
        let problem = problem(&columns, self.values == ValueFormat::Json).or_else(|| {
            let transactional = create.contains("ENGINE=InnoDB");
            (!transactional).then(|| "its engine is not InnoDB, which has transactions".to_owned())
        });
        if let Some(problem) = problem {
            return Err(invalid(format!(
                "the table {} cannot be used: {problem}. Choose another with `table`, or change this one",
                self.quoted()
            )));
        }
        let indexed = columns.iter().any(|column| column.name == "expires_at" && !column.index.is_empty());
        if !indexed && self.creates() {
            // Creating it now could block the writers of a large table for long: leave the time to the owner.
            tracing::warn!(
                adapter = Self::ADAPTER,
                table = self.table,
                "the table has no index on expires_at, so each sweep reads the whole table; Config::setup_sql() \
                 returns the SQL for the index"
            );
        }
        Ok(true)
    }
}

/// A column of the table, as `SHOW FULL COLUMNS` describes it.
#[derive(Clone, Debug, Default)]
struct Column {
    name: String,
    type_name: String,
    collation: Option<String>,
    nullable: bool,
    /// `PRI` for a column of the primary key; empty for a column that is not first in an index.
    index: String,
    /// Whether an inserted row must have a value for this column.
    required: bool,
}

impl Column {
    fn from_row(row: &MySqlRow) -> Result<Self, sqlx::Error> {
        let nullable = row.try_get_unchecked::<String, _>("Null")? == "YES";
        let default: Option<String> = row.try_get_unchecked("Default")?;
        let extra: String = row.try_get_unchecked("Extra")?;
        let fills =
            ["auto_increment", "GENERATED", "DEFAULT_GENERATED"].iter().any(|word| extra.contains(word));
        Ok(Self {
            name: row.try_get_unchecked("Field")?,
            type_name: row.try_get_unchecked::<String, _>("Type")?.to_ascii_lowercase(),
            collation: row.try_get_unchecked("Collation")?,
            nullable,
            index: row.try_get_unchecked("Key")?,
            required: !nullable && default.is_none() && !fills,
        })
    }
}

/// Describes the first problem of the columns.
fn problem(columns: &[Column], json: bool) -> Option<String> {
    let value = if json { "longtext" } else { "longblob" };
    for (name, expected) in
        [("key", "varbinary(512)"), ("value", value), ("version", "bigint"), ("expires_at", "bigint")]
    {
        let Some(column) = columns.iter().find(|column| column.name.eq_ignore_ascii_case(name)) else {
            return Some(format!("it has no column `{name}` of type {expected}"));
        };
        let found = &column.type_name;
        let fits = match name {
            "key" => {
                let length = found.strip_prefix("varbinary(").and_then(|length| length.strip_suffix(')'));
                length.and_then(|length| length.parse().ok()).is_some_and(|length: u32| length >= 512)
            }
            "value" => {
                found == value && column.collation.as_ref().is_none_or(|name| name.starts_with("utf8mb4"))
            }
            // Some servers add a display width.
            _ => found.starts_with("bigint") && !found.contains("unsigned"),
        };
        if !fits {
            let hint = match (name, found.as_str()) {
                ("value", "longtext") => " (was it created with `values=json`?)",
                ("value", "longblob") => " (was it created with `values=bytes`?)",
                _ => "",
            };
            let collation = column.collation.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
            return Some(format!("its column `{name}` is {found}{collation} instead of {expected}{hint}"));
        }
        if (column.index == "PRI") != (name == "key") {
            return Some("its primary key is not the column `key` alone".to_owned());
        }
        if name == "expires_at" && !column.nullable {
            return Some("its column `expires_at` does not allow nulls".to_owned());
        }
    }
    let known = ["key", "value", "version", "expires_at"];
    let mut others =
        columns.iter().filter(|column| known.iter().all(|name| !column.name.eq_ignore_ascii_case(name)));
    others.find_map(|column| {
        let name = &column.name;
        if column.index == "PRI" {
            return Some("its primary key is not the column `key` alone".to_owned());
        }
        column.required.then(|| {
            format!("its column `{name}` is NOT NULL and has no default, so nothing can be inserted")
        })
    })
}
