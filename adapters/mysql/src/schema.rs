//! Creates the table, and checks an existing one.

use std::sync::Arc;

use larder_core::{Operation, Result};
use larder_kit::ValueFormat;

use crate::{
    config::{Config, invalid},
    driver::Driver,
    error::NO_SUCH_TABLE,
    sql::Call,
    storage::column,
};

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
        if !self.setup || self.existing {
            return Err(invalid(format!(
                "the table {} does not exist: check its name, or create it with `setup=true` or with the SQL that \
                 `Config::setup_sql` returns",
                self.quoted()
            )));
        }
        let create = driver.change(|| Call::raw(self.setup_sql()));
        create.await.map_err(|error| {
            let context = "the table does not exist, and could not be created; another user can create it with the \
                           SQL of `Config::setup_sql`";
            error.context(context).with_operation(Operation::Setup)
        })?;
        // Checked because another process may have created it first, with other columns.
        self.check(driver).await.map(drop)
    }

    /// Returns whether the table exists, or an error if it cannot be used. Changes nothing.
    async fn check(&self, driver: &Arc<Driver>) -> Result<bool> {
        let rows = match driver.read(Call::raw(format!("SHOW CREATE TABLE {}", self.quoted()))).await {
            Err(error) if error.message() == NO_SUCH_TABLE => return Ok(false),
            rows => rows?,
        };
        let created: String = rows.first().map_or_else(|| Ok(String::new()), |row| column(row, 1))?;
        // Some servers quote names with `"`. Names of columns ignore the case.
        let created = created.to_ascii_lowercase().replace('"', "`");
        // Comments are at the ends of lines.
        let created: String =
            created.lines().flat_map(|line| line.split(" comment").take(1).chain(["\n"])).collect();
        if let Some(problem) = problem(&created, self) {
            return Err(invalid(format!(
                "the table {} cannot be used: {problem}. Choose another with `table`, or change this one",
                self.quoted()
            )));
        }
        Ok(true)
    }
}

/// Describes the first problem of the table that this statement of the server creates, with one column or key per line.
fn problem(created: &str, config: &Config) -> Option<String> {
    let value = if config.values == ValueFormat::Json { "longtext" } else { "longblob" };
    let expected =
        [("key", "varbinary(512)"), ("value", value), ("version", "bigint"), ("expires_at", "bigint")];
    // The names of the columns, and their types and further properties.
    let columns = created.lines().filter_map(|line| line.trim_start().strip_prefix('`')?.split_once("` "));
    let columns: Vec<_> = columns.collect();
    for (name, expected) in expected {
        let Some((_, column)) = columns.iter().find(|column| column.0 == name) else {
            return Some(format!("it has no column `{name}` of type {expected}"));
        };
        // Some servers add a display width to a number.
        let found = column.split([' ', ',']).next().unwrap_or_default();
        if !found.starts_with(expected) || column.contains("unsigned") {
            let hint = match found {
                "longtext" if name == "value" => " (was it created with `values=json`?)",
                "longblob" if name == "value" => " (was it created with `values=bytes`?)",
                _ => "",
            };
            return Some(format!("its column `{name}` is {found} instead of {expected}{hint}"));
        }
        let of_table = !column.contains("character set") && created.contains("charset=utf8mb4");
        if found == "longtext" && !of_table && !column.contains("utf8mb4") {
            return Some(format!("its column `{name}` does not have the character set utf8mb4"));
        }
        if name == "expires_at" && column.contains("not null") {
            return Some(format!("its column `{name}` does not allow nulls"));
        }
    }
    let required = columns.iter().find(|(name, column)| {
        let filled = ["default", "auto_increment", "generated"].iter().any(|word| column.contains(word));
        column.contains("not null") && !filled && expected.iter().all(|(known, _)| known != name)
    });
    if let Some((name, _)) = required {
        return Some(format!("its column `{name}` has no default and does not allow nulls"));
    }
    for (holds, problem) in [
        (created.contains("primary key (`key`)"), "its primary key is not the column `key` alone"),
        (!created.contains("\n  unique key"), "another unique key could make a write replace another entry"),
        (config.existing || created.contains(" (`expires_at`"), "it has no index on the column `expires_at`"),
        // In some modes, the server does not tell the engine.
        (created.contains("engine=innodb") || !created.contains("engine="), "its engine is not InnoDB"),
    ] {
        if !holds {
            return Some(problem.to_owned());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use larder_kit::ValueFormat;

    use super::*;

    /// As MariaDB and MySQL describe the table.
    const MARIADB: &str = "CREATE TABLE `larder` (\n  `key` varbinary(512) NOT NULL,\n  `value` longblob NOT NULL,\n  \
        `version` bigint(20) NOT NULL,\n  `expires_at` bigint(20) DEFAULT NULL,\n  PRIMARY KEY (`key`),\n  \
        KEY `expires_at` (`expires_at`)\n) ENGINE=InnoDB DEFAULT CHARSET=latin1 COLLATE=latin1_swedish_ci";
    const MYSQL: &str = "CREATE TABLE `larder` (\n  `key` varbinary(512) NOT NULL,\n  `value` longtext CHARACTER SET \
        utf8mb4 COLLATE utf8mb4_bin NOT NULL,\n  `version` bigint NOT NULL,\n  `expires_at` bigint DEFAULT NULL,\n  \
        PRIMARY KEY (`key`),\n  KEY `expires_at` (`expires_at`)\n) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 \
        COLLATE=utf8mb4_0900_ai_ci";

    fn problem_of(created: &str, values: ValueFormat) -> Option<String> {
        problem(&created.to_ascii_lowercase(), &Config::new().values(values))
    }

    #[test]
    fn tables_of_both_servers_are_accepted() {
        assert_eq!(problem_of(MARIADB, ValueFormat::Bytes), None);
        assert_eq!(problem_of(MYSQL, ValueFormat::Json), None);
        let inherited = MYSQL.replace("CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ", "");
        assert_eq!(problem_of(&inherited, ValueFormat::Json), None);
        let more =
            MARIADB.replace("  PRIMARY", "  `note` int(11) DEFAULT NULL COMMENT 'is NOT NULL',\n  PRIMARY");
        assert_eq!(problem_of(&more, ValueFormat::Bytes), None);
    }

    #[test]
    fn the_first_problem_names_its_column() {
        for (old, new, named) in [
            ("`version` bigint(20) NOT NULL,", "", "`version`"),
            ("longblob", "blob", "`value` is blob"),
            ("longblob", "longtext", "values=json"),
            ("varbinary(512)", "varchar(512)", "`key` is varchar(512)"),
            ("bigint(20) NOT", "bigint(20) unsigned NOT", "`version`"),
            ("DEFAULT NULL,", "NOT NULL,", "`expires_at`"),
            ("  PRIMARY", "  `owner` int(11) NOT NULL,\n  PRIMARY", "`owner`"),
            ("(`key`)", "(`key`(100))", "primary key"),
            ("  KEY", "  UNIQUE KEY `version` (`version`),\n  KEY", "unique key"),
            ("KEY `expires_at` (`expires_at`)", "KEY `version` (`version`)", "index"),
            ("InnoDB", "MyISAM", "InnoDB"),
        ] {
            let problem = problem_of(&MARIADB.replacen(old, new, 1), ValueFormat::Bytes).expect(new);
            assert!(problem.contains(named), "{new}: {problem}");
        }
        let other = MYSQL.replace("CHARACTER SET utf8mb4 COLLATE utf8mb4_bin", "CHARACTER SET latin1");
        assert!(problem_of(&other, ValueFormat::Json).expect("latin1").contains("utf8mb4"));
    }

    #[test]
    fn the_sql_names_the_database_and_the_format() {
        let sql = |url: &str| Config::from_url(url).unwrap().setup_sql();
        let bytes = sql("mysql://h/a%60b?table=t");
        assert!(
            bytes.contains("EXISTS `a``b`.`t` (") && bytes.contains("value LONGBLOB NOT NULL"),
            "{bytes}"
        );
        assert!(sql("mysql://h/a?values=json").contains("value LONGTEXT CHARACTER SET utf8mb4"));
        assert!(Config::new().setup_sql().contains("EXISTS `larder` ("));
    }
}
