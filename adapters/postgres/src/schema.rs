//! The table: made if it is not there, and looked at before it is used.

use larder_core::{Error, ErrorKind, Result};
use tokio_postgres::types::Type;

use crate::{
    driver::Driver,
    layout::{Layout, ValueColumn},
    names::{TableName, quote},
    queries::Query,
};

/// How often set-up looks again after another program has made something at the same moment.
const ATTEMPTS: u32 = 5;

/// Objects that exist already, or that appeared between the question and the answer: `IF NOT EXISTS`
/// does not keep them away.
const RACES: &[&str] = &["23505", "42P06", "42P07", "42710"];

/// The user of the SQL that makes the table.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunBy {
    Person,
    SetUp,
}

/// The rights that the storage needs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rights {
    Read,
    Write,
}

/// The statements that make the table and its index. A person may run them twice. Set-up fails if the
/// table has appeared in between, before it makes an index in a table that it has not looked at.
pub(crate) fn sql(table: &TableName, layout: Layout, run_by: RunBy) -> String {
    let name = table.quoted();
    let create = match run_by {
        RunBy::Person => "CREATE TABLE IF NOT EXISTS",
        RunBy::SetUp => "CREATE TABLE",
    };
    match layout {
        Layout::Larder(column) => format!(
            "{create} {name} (\n    \
                 key text COLLATE \"C\" NOT NULL PRIMARY KEY,\n    \
                 value {} NOT NULL,\n    \
                 version bigint NOT NULL,\n    \
                 expires_at timestamptz\n\
             );\n\
             CREATE INDEX IF NOT EXISTS {} ON {name} (expires_at) WHERE expires_at IS NOT NULL;\n",
            column.sql(),
            table.index("", "_expires_at_idx"),
        ),
        // As @grammyjs/storage-psql does. It leaves the name of its index unquoted, so Postgres folds
        // it to lower case.
        Layout::Grammy => format!(
            "{create} {name} (\n    \
                 \"key\" VARCHAR NOT NULL,\n    \
                 \"value\" TEXT\n\
             );\n\
             CREATE UNIQUE INDEX IF NOT EXISTS {} ON {name} (\"key\");\n",
            table.index("idx_", "").to_ascii_lowercase(),
        ),
    }
}

/// The statement that makes the schema; empty where none is named.
pub(crate) fn schema_sql(table: &TableName) -> String {
    table.schema().map(|name| format!("CREATE SCHEMA IF NOT EXISTS {};\n", quote(name))).unwrap_or_default()
}

/// Makes the table unless it is there, and checks its shape. Any number of processes may do this at
/// once. What exists already needs no permission to create.
pub(crate) async fn set_up(driver: &Driver, table: &TableName, layout: Layout) -> Result<()> {
    for _ in 0..ATTEMPTS {
        if check(driver, table, layout, Rights::Write).await? {
            return Ok(());
        }
        // One message, hence one transaction, which holds the lock to its end.
        let schema =
            if missing_schema(driver, table).await?.is_some() { schema_sql(table) } else { String::new() };
        let table_sql = sql(table, layout, RunBy::SetUp);
        let script = format!("SELECT pg_advisory_xact_lock({});\n{schema}{table_sql}", table.lock());
        if let Err(failed) = driver.batch(&script).await {
            match failed.state.as_deref() {
                Some(state) if RACES.contains(&state) => {}
                Some("42501") => {
                    return Err(Error::new(
                        ErrorKind::PermissionDenied,
                        "the table is not there and this user may not create it: let somebody who may run the \
                         SQL that PostgresBuilder::setup_sql() returns, and connect with `setup=false`",
                    )
                    .with_source(failed.error));
                }
                _ => return Err(failed.error),
            }
        }
    }
    Err(Error::new(ErrorKind::Unavailable, "the table keeps being made and removed by others"))
}

/// Checks that the table is there, and its shape. Changes nothing.
pub(crate) async fn find(driver: &Driver, table: &TableName, layout: Layout) -> Result<()> {
    if check(driver, table, layout, Rights::Read).await? {
        return Ok(());
    }
    let missing = match missing_schema(driver, table).await? {
        Some(schema) => format!("schema {}", quote(schema)),
        None => format!("table {}", table.quoted()),
    };
    Err(Error::new(
        ErrorKind::InvalidConfig,
        format!("there is no {missing} in this database; check the options `schema` and `table`"),
    ))
}

/// The table's schema, if one is named that is not there.
async fn missing_schema<'a>(driver: &Driver, table: &'a TableName) -> Result<Option<&'a str>> {
    let Some(schema) = table.schema() else {
        return Ok(None);
    };
    let query =
        Query { text: "SELECT FROM pg_namespace WHERE nspname = $1".to_owned(), types: vec![Type::NAME] };
    let rows = driver.query(&query, &[&schema]).await?;
    Ok(rows.is_empty().then_some(schema))
}

const TABLE: &str = "SELECT c.relkind::text, has_table_privilege(c.oid, 'SELECT'), \
     has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT') \
     AND has_table_privilege(c.oid, 'UPDATE') AND has_table_privilege(c.oid, 'DELETE'), \
     EXISTS (SELECT FROM pg_index AS i JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = i.indkey[0] \
     WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL \
     AND i.indnkeyatts = 1 AND a.attname = 'key'), \
     EXISTS (SELECT FROM pg_index AS i JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = i.indkey[0] \
     WHERE i.indrelid = c.oid AND i.indisvalid AND a.attname = 'expires_at') \
     FROM pg_class AS c WHERE c.oid = to_regclass($1)";

const COLUMNS: &str = "SELECT a.attname::text, a.atttypid, format_type(a.atttypid, a.atttypmod), \
     a.attnotnull AND NOT a.atthasdef AND a.attidentity = '', coalesce(o.collname::text, '') \
     FROM pg_attribute AS a LEFT JOIN pg_collation AS o ON o.oid = a.attcollation \
     WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped";

/// Whether the table is there; an error if it is, but cannot be used.
async fn check(driver: &Driver, table: &TableName, layout: Layout, rights: Rights) -> Result<bool> {
    let name = table.quoted();
    let about = |text: &str| Query { text: text.to_owned(), types: vec![Type::TEXT] };
    let rows = driver.query(&about(TABLE), &[&name]).await?;
    let Some(row) = rows.first() else {
        return Ok(false);
    };
    let columns = driver.query(&about(COLUMNS), &[&name]).await?;
    let columns: Vec<Column> = columns.iter().map(Column::from_row).collect::<Result<_>>()?;
    let unexpected = |_| Error::new(ErrorKind::Other, "the server's catalogue is not as expected");
    let kind: String = row.try_get(0).map_err(unexpected)?;
    let [may_read, may_write, has_unique_key, has_index] = {
        let mut flags = [false; 4];
        for (at, flag) in (1..).zip(&mut flags) {
            *flag = row.try_get(at).map_err(unexpected)?;
        }
        flags
    };
    if !matches!(kind.as_str(), "r" | "p") {
        return Err(wrong(table, "is a view, an index or the like, not a table", ""));
    }
    check_columns(table, layout, &columns)?;
    if !has_unique_key {
        return Err(wrong(table, "has no unique index on the column `key` alone", ""));
    }
    match rights {
        Rights::Read if !may_read => Err(Error::new(
            ErrorKind::PermissionDenied,
            "this user may not SELECT from the table: GRANT it SELECT",
        )),
        Rights::Write if !may_write => Err(Error::new(
            ErrorKind::PermissionDenied,
            "this user may not SELECT, INSERT, UPDATE and DELETE in the table: GRANT it all four",
        )),
        Rights::Write if !has_index && matches!(layout, Layout::Larder(_)) => {
            // Making it now could block a large table's writers for long: that is for its owner to time.
            tracing::warn!(
                adapter = crate::NAME,
                table = table.table(),
                "the table has no index on expires_at, so sweeping reads all of it; see \
                 PostgresBuilder::setup_sql()"
            );
            Ok(true)
        }
        _ => Ok(true),
    }
}

#[derive(Debug)]
struct Column {
    name: String,
    type_oid: u32,
    type_name: String,
    /// NOT NULL, with nothing to fill it.
    demanding: bool,
    collation: String,
}

impl Column {
    fn from_row(row: &tokio_postgres::Row) -> Result<Self> {
        let read = || -> Result<Self, tokio_postgres::Error> {
            Ok(Self {
                name: row.try_get(0)?,
                type_oid: row.try_get(1)?,
                type_name: row.try_get(2)?,
                demanding: row.try_get(3)?,
                collation: row.try_get(4)?,
            })
        };
        read().map_err(|_| Error::new(ErrorKind::Other, "the server's catalogue is not as expected"))
    }
}

fn check_columns(table: &TableName, layout: Layout, columns: &[Column]) -> Result<()> {
    let wanted: &[(&str, &[Type], &str)] = match layout {
        Layout::Larder(column) => &[
            ("key", &[Type::TEXT], "text"),
            ("value", &[column.value_type()], column.sql()),
            ("version", &[Type::INT8], "bigint"),
            ("expires_at", &[Type::TIMESTAMPTZ], "timestamp with time zone"),
        ],
        Layout::Grammy => &[
            ("key", &[Type::VARCHAR, Type::TEXT], "character varying"),
            ("value", &[Type::TEXT, Type::VARCHAR], "text"),
        ],
    };
    let mismatch = |what: &str| {
        let found: Vec<String> =
            columns.iter().map(|column| format!("{} {}", column.name, column.type_name)).collect();
        let found = if found.is_empty() { "none".to_owned() } else { found.join(", ") };
        let what = format!("{what} (its columns: {found})");
        wrong(table, &what, &way_out(layout, columns))
    };
    for (name, types, type_name) in wanted {
        let Some(column) = columns.iter().find(|column| column.name == *name) else {
            return Err(mismatch(&format!("has no column `{name}` of type {type_name}")));
        };
        if !types.iter().any(|wanted| wanted.oid() == column.type_oid) {
            let found = &column.type_name;
            return Err(mismatch(&format!("has a column `{name}` of type {found} instead of {type_name}")));
        }
        // By bytes, so that listings and prefixes can use the index.
        let by_bytes = ["C", "POSIX", "ucs_basic", "pg_c_utf8"].contains(&&*column.collation);
        if *name == "key" && matches!(layout, Layout::Larder(_)) && !by_bytes {
            let found = &column.collation;
            return Err(mismatch(&format!(
                "has a column `key` with the collation \"{found}\" instead of \"C\""
            )));
        }
    }
    let known = |column: &&Column| wanted.iter().any(|(name, ..)| *name == column.name);
    match columns.iter().find(|column| column.demanding && !known(column)) {
        Some(column) => Err(mismatch(&format!(
            "has a column `{}` that is NOT NULL and has no default, so nothing can be inserted",
            column.name
        ))),
        None => Ok(()),
    }
}

/// The options that would open the table, where it looks like one of the other layouts.
fn way_out(layout: Layout, columns: &[Column]) -> String {
    let has = |name: &str, types: &[Type]| {
        columns.iter().any(|column| column.name == name && types.iter().any(|ty| ty.oid() == column.type_oid))
    };
    let text = [Type::TEXT, Type::VARCHAR];
    if has("version", &[Type::INT8]) && has("expires_at", &[Type::TIMESTAMPTZ]) {
        if layout == Layout::Grammy {
            return "if it is Larder's, open it without `layout=grammy`; ".to_owned();
        }
        let other = ValueColumn::ALL.iter().find(|column| has("value", &[column.value_type()]));
        return match other {
            Some(other) if *other != layout.column() => {
                format!("if it is Larder's, open it with `values={}`; ", other.sql())
            }
            _ => String::new(),
        };
    }
    if layout != Layout::Grammy && columns.len() == 2 && has("key", &text) && has("value", &text) {
        return "if it is grammY's, open it with `layout=grammy`; ".to_owned();
    }
    String::new()
}

fn wrong(table: &TableName, what: &str, way_out: &str) -> Error {
    Error::new(
        ErrorKind::InvalidConfig,
        format!(
            "the table {} {what}: {way_out}choose another with `table`, or change this one",
            table.quoted()
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, ty: &Type, collation: &str) -> Column {
        Column {
            name: name.to_owned(),
            type_oid: ty.oid(),
            type_name: ty.name().to_owned(),
            demanding: false,
            collation: collation.to_owned(),
        }
    }

    fn good() -> Vec<Column> {
        vec![
            column("key", &Type::TEXT, "C"),
            column("value", &Type::BYTEA, ""),
            column("version", &Type::INT8, ""),
            column("expires_at", &Type::TIMESTAMPTZ, ""),
            column("note", &Type::TEXT, "default"),
        ]
    }

    #[test]
    fn the_wrong_column_is_named() {
        let table = TableName::new(None, "larder");
        let layout = Layout::Larder(ValueColumn::Bytea);
        check_columns(&table, layout, &good()).unwrap();
        type Spoil = fn(&mut Vec<Column>);
        let spoils: [(&str, Spoil); 5] = [
            ("`version`", |columns| columns.retain(|column| column.name != "version")),
            ("`value`", |columns| columns[1].type_oid = Type::TEXT.oid()),
            ("`key`", |columns| columns[0].collation = "default".to_owned()),
            ("`expires_at`", |columns| columns[3].type_oid = Type::TIMESTAMP.oid()),
            ("`note`", |columns| columns[4].demanding = true),
        ];
        for (named, spoil) in spoils {
            let mut columns = good();
            spoil(&mut columns);
            let error = check_columns(&table, layout, &columns).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig);
            assert!(error.message().contains(named), "{error}");
        }
    }
}
