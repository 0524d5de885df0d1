//! The table of `@grammyjs/storage-psql`: keys and JSON texts, without expiry. Versions are the contents.

use std::sync::Arc;

use larder_core::{
    Applied, Bytes, Change, Condition, DeleteOptions, EntryStream, Expiry, Info, Key, ListOptions, Location,
    ReadOptions, Record, Result, Storage, Values, Version, Versions, WriteOptions, Written, async_trait,
};
use larder_kit::{check_json, pages, read_chunks};
use tokio_postgres::{Row, types::Type};

use crate::{
    batch,
    driver::Driver,
    listing::{Walk, clear},
    names::TableName,
    pool::Params,
    rows::{Put, Range, Rows, corrupt, expected},
    schema::Shape,
    sql::{MAX_KEYS, MAX_VALUE, Pages, Query, delete_many, in_order, query},
    value::{Stored, Value},
};

/// The shape of the table, as the package makes it.
pub(crate) fn shape(table: &TableName) -> Shape {
    // The package leaves the name of its index unquoted, so Postgres folds it to lower case.
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

/// Sessions in grammY's table.
pub(crate) struct GrammyStorage {
    driver: Driver,
    table: String,
    sql: Sql,
}

/// The statements. Those of one kind have the same parameters, and ignore those that they have no use for.
struct Sql {
    /// These two return entries: key and value. Parameters: the key, and whether to return the value (or a
    /// null).
    read: Query,
    /// With an array of keys.
    read_many: Query,
    /// These four change one entry, and return a row if they have. Parameters: key, value, and the value that
    /// the entry must have, null if it may have any.
    upsert: Query,
    insert: Query,
    update: Query,
    delete: Query,
    /// Parameters: keys, no key twice, and values.
    upsert_many: Query,
    /// Parameter: the keys. Column: each key that was there.
    delete_many: Query,
    /// The bound of the keys is their prefix: they have the database's collation, where only a filter finds a
    /// prefix by its bytes.
    pages: Pages,
}

impl GrammyStorage {
    /// The storage in the table with this name.
    pub(crate) fn new(driver: Driver, table: String) -> Self {
        let select = format!("SELECT key, CASE WHEN $2 THEN value END FROM {table} WHERE");
        let insert = format!("INSERT INTO {table} (key, value)");
        let replace = "ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value";
        let unchanged = "key = $1 AND ($3 IS NULL OR value = $3)";
        let change =
            |text: String| query(format!("{text} RETURNING 1"), &[Type::TEXT, Type::TEXT, Type::TEXT]);
        let upsert_many = format!("{insert} SELECT * FROM unnest($1, $2) {replace}");
        let sql = Sql {
            read: query(format!("{select} key = $1"), &[Type::TEXT, Type::BOOL]),
            read_many: query(format!("{select} key = ANY($1)"), &[Type::TEXT_ARRAY, Type::BOOL]),
            upsert: change(format!("{insert} VALUES ($1, $2) {replace}")),
            insert: change(format!("{insert} VALUES ($1, $2) ON CONFLICT (key) DO NOTHING")),
            update: change(format!("UPDATE {table} SET value = $2 WHERE {unchanged}")),
            delete: change(format!("DELETE FROM {table} WHERE {unchanged}")),
            upsert_many: query(upsert_many, &[Type::TEXT_ARRAY, Type::TEXT_ARRAY]),
            delete_many: delete_many(&table, &in_order(&table, "true")),
            pages: Pages::new(&table, "value", "octet_length(value)", "starts_with(key, $4)"),
        };
        Self { driver, table, sql }
    }

    /// Runs a statement that changes one entry if the condition holds; returns whether it has.
    async fn change(
        &self,
        query: &Query,
        key: &Key,
        value: Option<&Bytes>,
        condition: &Condition,
    ) -> Result<bool> {
        let expected = expected(condition, Version::as_content)?.map(|content| Value(content));
        let params: Params<'_> = &[&key.as_str(), &value.map(|value| Value(value)), &expected];
        self.driver.change_entry(query, condition, params).await
    }
}

impl Rows for GrammyStorage {
    fn driver(&self) -> &Driver {
        &self.driver
    }

    fn range(&self, prefix: &str) -> Range<'_> {
        Range { pages: &self.sql.pages, from: String::new(), bound: Some(prefix.to_owned()) }
    }

    fn record(row: &Row, with_value: bool) -> Result<Record> {
        if !with_value {
            return Ok(Record::new(Bytes::new()).expires(Expiry::Never));
        }
        let Stored(value) = row.try_get(1).map_err(corrupt)?;
        Ok(Record::at(value.clone(), Version::from_content(value)).expires(Expiry::Never))
    }

    fn check(&self, value: &[u8]) -> Result<()> {
        check_json(value)
    }

    async fn put_many(&self, puts: &[Put<'_>]) -> Result<Vec<Version>> {
        let (keys, values): (Vec<_>, Vec<_>) =
            puts.iter().map(|(key, value, _)| (key.as_str(), Value(value))).unzip();
        self.driver.change(&self.sql.upsert_many, &[&keys, &values]).await?;
        Ok(puts.iter().map(|(_, value, _)| Version::from_content(Bytes::clone(value))).collect())
    }

    fn delete_many(&self) -> &Query {
        &self.sql.delete_many
    }
}

#[async_trait]
impl Storage for GrammyStorage {
    async fn read(&self, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
        let rows = self.driver.query(&self.sql.read, &[&key.as_str(), &options.value]).await?;
        rows.first().map(|row| Self::record(row, options.value)).transpose()
    }

    async fn write(&self, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        check_json(&value)?;
        let query = match options.condition {
            Condition::Any => &self.sql.upsert,
            Condition::Absent => &self.sql.insert,
            _ => &self.sql.update,
        };
        self.change(query, key, Some(&value), &options.condition).await?;
        Ok(Written::at(Version::from_content(value)))
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<bool> {
        self.change(&self.sql.delete, key, None, &options.condition).await
    }

    fn info(&self) -> Info {
        let info = self.driver.info().with_listing().with_versions(Versions::Content);
        info.with_values(Values::JsonText).with_max_value(MAX_VALUE)
    }

    async fn read_many(&self, keys: &[Key], options: &ReadOptions) -> Vec<Result<Option<Record>>> {
        let read = async |keys: &[Key]| {
            let names: Vec<&str> = keys.iter().map(Key::as_str).collect();
            let rows = self.driver.query(&self.sql.read_many, &[&names, &options.value]).await?;
            Self::records(&rows, options.value)
        };
        read_chunks(keys, MAX_KEYS, 1, read).await
    }

    async fn apply(&self, changes: Vec<Change>) -> Vec<Result<Applied>> {
        batch::apply(self, changes).await
    }

    fn list(self: Arc<Self>, options: ListOptions) -> EntryStream {
        pages(Walk::new(self, options))
    }

    async fn clear(self: Arc<Self>, prefix: &str) -> Result<u64> {
        clear(&*self, prefix).await
    }

    async fn ping(&self) -> Result<()> {
        self.driver.ping().await
    }

    async fn location(&self) -> Result<Option<Location>> {
        self.driver.location(&self.table).await
    }

    async fn close(&self) -> Result<()> {
        self.driver.close();
        Ok(())
    }
}
