//! The table of `@grammyjs/storage-psql`: keys and JSON texts, without expiry. Versions are the contents.

use larder_core::{Bytes, Expiry, Info, Record, Result, Values, Version, Versions};
use larder_kit::check_json;
use tokio_postgres::{Row, types::Type};

use crate::{
    model::{Model, corrupt},
    names::TableName,
    schema::Shape,
    sql::{Given, Kind, MAX_VALUE, Pages, Sql, query},
    table::TableStorage,
    value::Stored,
};

/// A storage on grammY's table.
pub(crate) type GrammyStorage = TableStorage<Grammy>;

/// grammY's layout.
pub(crate) struct Grammy;

/// The columns and the index of the table, as the package creates it.
pub(crate) fn shape(table: &TableName) -> Shape {
    // The package does not quote the name of its index, so Postgres folds it to lower case.
    let index = table.index("idx_", "").to_ascii_lowercase();
    let keys = vec!["character varying", "text", "character varying COLLATE \"C\"", "text COLLATE \"C\""];
    Shape {
        columns: vec![
            ("key", "VARCHAR NOT NULL".to_owned(), keys),
            ("value", "TEXT".to_owned(), vec!["text", "character varying"]),
        ],
        index: format!("CREATE UNIQUE INDEX IF NOT EXISTS {index} ON {} (key)", table.quoted()),
        swept: None,
    }
}

/// The statements, with the same parameters as those for Larder's table. They ignore versions and times to live.
pub(crate) fn sql(table: &str) -> Sql {
    let find = |keys: &str, key_type| {
        let text = format!("SELECT key, CASE WHEN $2 THEN value END FROM {table} WHERE {keys}");
        query(text, &[key_type, Type::BOOL, Type::INT8])
    };
    let entry = [Type::TEXT, Type::TEXT, Type::INT8, Type::INT8, Type::TEXT];
    let change = |text: String| query(format!("{text} RETURNING 1"), &entry);
    let insert = format!("INSERT INTO {table} AS t (key, value)");
    let replace = "ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value";
    let unchanged = "key = $1 AND ($5 IS NULL OR value = $5)";
    let entries = [Type::TEXT_ARRAY, Type::TEXT_ARRAY, Type::INT8_ARRAY, Type::INT8_ARRAY];
    let given = Given {
        table,
        entries: &entries,
        expected: Type::TEXT_ARRAY,
        insert: &format!("{insert} SELECT key, value"),
        replace,
        replace_absent: "ON CONFLICT (key) DO NOTHING",
        set: "value = given.value",
        unchanged: "(expected IS NULL OR t.value = expected)",
    };
    // Entries do not expire.
    let touched = format!("SELECT t.key FROM {table} AS t, {}", given.rows(Kind::Touch));
    let pages = |range: &str| Pages::new(table, "value", "octet_length(value)", range);
    Sql {
        read: find("key = $1", Type::TEXT),
        read_many: find("key = ANY($1)", Type::TEXT_ARRAY),
        upsert: change(format!("{insert} VALUES ($1, $2) {replace}")),
        insert: change(format!("{insert} VALUES ($1, $2) ON CONFLICT (key) DO NOTHING")),
        update: change(format!("UPDATE {table} SET value = $2 WHERE {unchanged}")),
        delete: change(format!("DELETE FROM {table} WHERE {unchanged}")),
        upsert_many: query(format!("{insert} SELECT * FROM unnest($1, $2) {replace}"), &entries),
        change_many: given.change_many(&touched),
        update_many: given.update_many(),
        // Keys have the database's collation, which cannot find a prefix by its bytes in the index: filter instead.
        bounded: pages("starts_with(key, $4)"),
        unbounded: pages("true"),
        // Entries do not expire.
        read_and_touch: find("key = $1", Type::TEXT),
        read_and_touch_many: find("key = ANY($1)", Type::TEXT_ARRAY),
        touch: query(format!("SELECT 1 FROM {table} WHERE {unchanged}"), &entry),
        purge: query("SELECT 0::bigint", &[Type::INT8]),
    }
}

impl Model for Grammy {
    fn info(&self, driver: Info) -> Info {
        let info = driver.with_listing().with_versions(Versions::Content);
        info.with_values(Values::JsonText).with_max_value(MAX_VALUE)
    }

    fn check(&self, value: &[u8]) -> Result<()> {
        check_json(value)
    }

    fn version(value: &Bytes) -> Version {
        Version::from_content(Bytes::clone(value))
    }

    fn record(row: &Row, with_value: bool) -> Result<Record> {
        if !with_value {
            return Ok(Record::new(Bytes::new()).expires(Expiry::Never));
        }
        let Stored(value) = row.try_get(1).map_err(corrupt)?;
        Ok(Record::at(value.clone(), Version::from_content(value)).expires(Expiry::Never))
    }

    fn range(prefix: &str) -> (String, Option<String>) {
        (String::new(), (!prefix.is_empty()).then(|| prefix.to_owned()))
    }
}
