//! Creates the table, and checks an existing one.

use larder_core::{Error, ErrorKind, Result};
use larder_kit::Configure;
use tokio_postgres::{Row, types::Type};

use crate::{
    config::{Config, ValueFormat, invalid},
    driver::Driver,
    error::{from_driver, state, unexpected},
    names::{TableName, quote},
    sql::query,
};

/// The table, and the shape that it must have.
pub(crate) struct Schema {
    pub(crate) table: TableName,
    pub(crate) shape: Shape,
    /// The shapes of all layouts, each with its owner and the options that open it. Used in the error about a table
    /// with another shape.
    pub(crate) known: Vec<(String, Shape)>,
}

/// The columns and the index of a table in one layout.
pub(crate) struct Shape {
    /// The columns: their names, declarations, and allowed types.
    pub(crate) columns: Vec<(&'static str, String, Vec<&'static str>)>,
    /// The statement that creates the index.
    pub(crate) index: String,
    /// The column that the sweeper searches.
    pub(crate) swept: Option<&'static str>,
}

/// The maximum number of checks by set-up, if other programs create the same objects at the same time.
const ATTEMPTS: u32 = 5;

/// The errors for an object that another program created at the same time, which `IF NOT EXISTS` does not prevent.
const RACES: &[&str] = &["23505", "42P06", "42P07", "42710"];

impl Schema {
    /// Returns the statements that create the schema, the table and its index. They can be run more than once.
    pub(crate) fn sql(&self) -> String {
        format!("{}{}", self.schema_sql(), self.table_sql("CREATE TABLE IF NOT EXISTS"))
    }

    fn table_sql(&self, create: &str) -> String {
        let columns =
            self.shape.columns.iter().map(|(name, declaration, _)| format!("    {name} {declaration}"));
        let columns = columns.collect::<Vec<_>>().join(",\n");
        format!("{create} {} (\n{columns}\n);\n{};\n", self.table.quoted(), self.shape.index)
    }

    fn schema_sql(&self) -> String {
        let create = |name: &String| format!("CREATE SCHEMA IF NOT EXISTS {};\n", quote(name));
        self.table.schema.as_ref().map(create).unwrap_or_default()
    }

    /// Creates the table if it does not exist, and checks its shape. Many processes may do this at the same time. An
    /// existing table needs no permission to create.
    pub(crate) async fn set_up(&self, driver: &Driver) -> Result<()> {
        for _ in 0..ATTEMPTS {
            if self.check(driver, true).await? {
                return Ok(());
            }
            let schema_sql =
                self.missing_schema(driver).await?.map(|_| self.schema_sql()).unwrap_or_default();
            // One message is one transaction. It fails if the table has been created in the meantime, so it never
            // creates an index in an unchecked table.
            let script = format!("{schema_sql}{}", self.table_sql("CREATE TABLE"));
            let Err(error) = driver.batch(&script).await? else { continue };
            match state(&error) {
                state if RACES.contains(&state) => {}
                "42501" => {
                    return Err(Error::new(
                        ErrorKind::PermissionDenied,
                        "the table does not exist, and this user may not create it: have another user run the SQL of \
                         `Config::setup_sql`, and connect with `setup=false`",
                    )
                    .with_source(from_driver(&error)));
                }
                _ => return Err(from_driver(&error)),
            }
        }
        Err(Error::new(ErrorKind::Unavailable, "other programs create and drop the table repeatedly"))
    }

    /// Checks that the table exists, and its shape. Changes nothing.
    pub(crate) async fn find(&self, driver: &Driver) -> Result<()> {
        if self.check(driver, false).await? {
            return Ok(());
        }
        let missing = match self.missing_schema(driver).await? {
            Some(schema) => format!("schema {}", quote(schema)),
            None => format!("table {}", self.table.quoted()),
        };
        Err(invalid(format!(
            "{missing} does not exist in this database: check the options `schema` and `table`"
        )))
    }

    /// Returns the name of the table's schema if it is set and the schema does not exist.
    async fn missing_schema(&self, driver: &Driver) -> Result<Option<&str>> {
        let Some(schema) = &self.table.schema else { return Ok(None) };
        let find = query("SELECT FROM pg_namespace WHERE nspname = $1", &[Type::NAME]);
        Ok(driver.query(&find, &[&schema]).await?.is_empty().then_some(schema))
    }

    /// Returns whether the table exists, or an error if it cannot be used (for writing, if `write` is set).
    async fn check(&self, driver: &Driver, write: bool) -> Result<bool> {
        let name = self.table.quoted();
        let table = query(TABLE, &[Type::TEXT, Type::TEXT]);
        let rows = driver.query(&table, &[&name, &self.shape.swept]).await?;
        let Some(row) = rows.first() else { return Ok(false) };
        let columns = driver.query(&query(COLUMNS, &[Type::TEXT]), &[&name]).await?;
        let columns =
            columns.iter().map(Column::from_row).collect::<Result<Vec<_>, _>>().map_err(unexpected)?;
        let flag = |at: usize| row.try_get::<_, bool>(at).map_err(unexpected);
        if !flag(0)? {
            return Err(self.wrong("is not a table, but a view, an index or similar", ""));
        }
        self.check_columns(&columns)?;
        if !flag(1)? {
            return Err(self.wrong("has no unique index on the column `key` alone", ""));
        }
        let (allowed, needed) = match write {
            false => (flag(2)?, "SELECT from"),
            true => (flag(2)? && flag(3)?, "SELECT, INSERT, UPDATE and DELETE in"),
        };
        if !allowed {
            return Err(Error::new(
                ErrorKind::PermissionDenied,
                format!("this user may not {needed} the table: GRANT these permissions"),
            ));
        }
        if let Some(column) = self.shape.swept.filter(|_| write)
            && !flag(4)?
        {
            // Creating it now could block the writers of a large table for long: leave the time to the owner.
            tracing::warn!(
                adapter = Config::ADAPTER,
                table = self.table.table,
                "the table has no index on {column}, so each sweep reads the whole table; Config::setup_sql() returns \
                 the SQL for the index"
            );
        }
        Ok(true)
    }

    fn check_columns(&self, columns: &[Column]) -> Result<()> {
        let Some(mismatch) = self.shape.mismatch(columns) else { return Ok(()) };
        let found: Vec<_> =
            columns.iter().map(|column| format!("{} {}", column.name, column.type_name)).collect();
        let found = if found.is_empty() { "none".to_owned() } else { found.join(", ") };
        let other = self.known.iter().find(|(_, shape)| shape.mismatch(columns).is_none());
        let hint = other.map(|(options, _)| format!("if it is {options}; ")).unwrap_or_default();
        Err(self.wrong(&format!("{mismatch} (its columns: {found})"), &hint))
    }

    fn wrong(&self, problem: &str, hint: &str) -> Error {
        let table = self.table.quoted();
        invalid(format!("the table {table} {problem}: {hint}choose another with `table`, or change this one"))
    }
}

impl Shape {
    /// Returns the shape of Larder's table with this format of values.
    pub(crate) fn larder(table: &TableName, format: ValueFormat) -> Self {
        let (value, ..) = format.column();
        Self {
            columns: vec![
                // Sorted by bytes: listings and prefixes rely on this order, and use the index.
                ("key", "text COLLATE \"C\" NOT NULL PRIMARY KEY".to_owned(), vec!["text COLLATE \"C\""]),
                ("value", format!("{value} NOT NULL"), vec![value]),
                ("version", "bigint NOT NULL".to_owned(), vec!["bigint"]),
                ("expires_at", "timestamptz".to_owned(), vec!["timestamp with time zone"]),
            ],
            index: format!(
                "CREATE INDEX IF NOT EXISTS {} ON {} (expires_at) WHERE expires_at IS NOT NULL",
                table.index("", "_expires_at_idx"),
                table.quoted()
            ),
            swept: Some("expires_at"),
        }
    }

    /// Describes the first column that does not match.
    fn mismatch(&self, columns: &[Column]) -> Option<String> {
        for (name, _, types) in &self.columns {
            let Some(Column { type_name, .. }) = columns.iter().find(|column| column.name == *name) else {
                return Some(format!("has no column `{name}` of type {}", types[0]));
            };
            if !types.contains(&&**type_name) {
                return Some(format!("has a column `{name}` of type {type_name} instead of {}", types[0]));
            }
        }
        let known = |column: &&Column| self.columns.iter().any(|(name, ..)| *name == column.name);
        let Column { name, .. } = columns.iter().find(|column| column.required && !known(column))?;
        Some(format!("has a column `{name}` that is NOT NULL and has no default, so nothing can be inserted"))
    }
}

/// Reads whether the object is a table, has a unique key, is readable, is writable, and has an index on the column
/// `$2`.
const TABLE: &str = "SELECT c.relkind IN ('r', 'p'), \
     EXISTS (SELECT FROM pg_index AS i JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = i.indkey[0] \
     WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL \
     AND i.indnkeyatts = 1 AND a.attname = 'key'), \
     has_table_privilege(c.oid, 'SELECT'), has_table_privilege(c.oid, 'INSERT') \
     AND has_table_privilege(c.oid, 'UPDATE') AND has_table_privilege(c.oid, 'DELETE'), \
     EXISTS (SELECT FROM pg_index AS i JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = i.indkey[0] \
     WHERE i.indrelid = c.oid AND i.indisvalid AND a.attname = $2) \
     FROM pg_class AS c WHERE c.oid = to_regclass($1)";

/// Reads the columns. The type of a key that is sorted by bytes includes the collation.
const COLUMNS: &str = "SELECT a.attname::text, format_type(a.atttypid, NULL) || CASE WHEN a.attname = 'key' \
     AND o.collname IN ('C', 'POSIX', 'ucs_basic', 'pg_c_utf8') THEN ' COLLATE \"C\"' ELSE '' END, \
     a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' \
     FROM pg_attribute AS a LEFT JOIN pg_collation AS o ON o.oid = a.attcollation \
     WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped";

struct Column {
    name: String,
    type_name: String,
    /// Whether the column is NOT NULL without a default.
    required: bool,
}

impl Column {
    fn from_row(row: &Row) -> Result<Self, tokio_postgres::Error> {
        Ok(Self { name: row.try_get(0)?, type_name: row.try_get(1)?, required: row.try_get(2)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, type_name: &str) -> Column {
        Column { name: name.to_owned(), type_name: type_name.to_owned(), required: false }
    }

    fn good() -> Vec<Column> {
        vec![
            column("key", "text COLLATE \"C\""),
            column("value", "bytea"),
            column("version", "bigint"),
            column("expires_at", "timestamp with time zone"),
            column("note", "text"),
        ]
    }

    #[test]
    fn errors_name_the_wrong_column() {
        let table = TableName::new(None, "larder");
        let shape = Shape::larder(&table, ValueFormat::Bytes);
        let schema = Schema { table, shape, known: Vec::new() };
        schema.check_columns(&good()).unwrap();
        type Spoil = fn(&mut Vec<Column>);
        let spoils: [(&str, Spoil); 5] = [
            ("`version`", |columns| columns.retain(|column| column.name != "version")),
            ("`value`", |columns| columns[1].type_name = "text".to_owned()),
            ("`key`", |columns| columns[0].type_name = "text".to_owned()),
            ("`expires_at`", |columns| columns[3].type_name = "timestamp without time zone".to_owned()),
            ("`note`", |columns| columns[4].required = true),
        ];
        for (named, spoil) in spoils {
            let mut columns = good();
            spoil(&mut columns);
            let error = schema.check_columns(&columns).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig);
            assert!(error.message().contains(named), "{error}");
        }
    }
}
