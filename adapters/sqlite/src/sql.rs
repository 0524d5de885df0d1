//! The statements.

use std::sync::Arc;

use larder_core::{Action, Condition, Expiry, Key, Version};
use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr, Sqlite, query::Query, sqlite::SqliteArguments};

/// How many rows a statement writes: few statements to prepare, and never more than a third to pad.
const SIZES: [usize; 16] = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, MAX_ROWS];

/// How many rows one statement writes at most.
pub(crate) const MAX_ROWS: usize = 256;

/// The present in Unix milliseconds, by SQLite's clock, which is this machine's. SQLite asks for it
/// once in a statement, when that has the lock it had to wait for, and as a subquery it computes this once for
/// all rows. Rounded, since it comes in seconds with a fraction.
const NOW: &str = "(SELECT CAST(unixepoch('subsec') * 1000 + 0.5 AS INTEGER))";

/// The row id, by the one of its names that hardly a table has as a column.
pub(crate) const ROW_ID: &str = "_rowid_";

pub(crate) type Call<'q> = Query<'q, Sqlite, SqliteArguments>;

/// Every statement that is used, for one table. Each keeps its text, so that it is prepared once per
/// connection.
pub(crate) struct Sql {
    read: SqlStr,
    /// Those for many take a JSON array of keys, and return the key in the last column.
    pub(crate) read_many: SqlStr,
    pub(crate) read_and_touch_many: SqlStr,
    /// One for each of the [`SIZES`].
    upserts: [SqlStr; SIZES.len()],
    insert: SqlStr,
    update: SqlStr,
    delete: SqlStr,
    pub(crate) delete_many: SqlStr,
    touch: SqlStr,
    /// Pages of a listing, with the key as their last column. Parameters: the first key that a page may
    /// have, as a blob; the end of the range, or null; how many rows.
    pub(crate) keys: SqlStr,
    pub(crate) entries: SqlStr,
    /// The keys by their index, expired ones included, which reads no row.
    pub(crate) index: SqlStr,
    /// The keys that are not texts, and so not keys of Larder's: blobs and, with the first page of all of
    /// them, those that are null.
    pub(crate) others: SqlStr,
    pub(crate) purge: SqlStr,
}

/// A row to write: key, value, expiry and version.
pub(crate) type Row<'a> = (&'a str, &'a [u8], Expiry, &'a Version);

impl Sql {
    /// The last row id of a slice, and whether any of its rows has expired; no row if the slice has none.
    /// Parameters: the first row id that it may have; how many rows.
    pub(crate) slice: SqlStr,
    /// Deletes the expired rows of a slice, given its first and its last row id.
    /// The statements for a table whose column `value` is of the type `value`.
    pub(crate) fn new(table: &str, value: &str) -> Self {
        let table = &quote(table);
        let sql = |text: String| AssertSqlSafe(Arc::<str>::from(text)).into_sql_str();
        // A row that has not expired.
        let live = &format!("(expires_at IS NULL OR expires_at > {NOW})");
        // How many milliseconds a row has left. Text, which sorts after every number, does not count.
        let left = &format!(
            "CASE WHEN typeof(expires_at) IN ('text', 'blob') THEN 'no time' \
             ELSE CAST(expires_at - {NOW} AS INTEGER) END"
        );
        // The columns of a record. SQLite does not read the value's pages unless `?2` asks for it.
        let record = &format!("CASE WHEN ?2 THEN value END, version, {left}");
        // A foreign key need not be UTF-8 and must still be passed, so keys come and go as blobs.
        let key = "CAST(key AS BLOB)";
        let page = |columns: &str, range: &str, live: &str| {
            format!("SELECT {columns} FROM {table} WHERE {range} AND {live} ORDER BY key LIMIT ?3")
        };
        // Every text is less than a blob.
        let texts = "key >= CAST(?1 AS TEXT) AND key < coalesce(?2, x'')";
        let blobs = "key >= ?1 AND (?2 IS NULL OR key < CAST(?2 AS BLOB))";
        let row = &format!("(?, CAST(? AS {value}), ?, {NOW} + ?)");
        let insert = |rows| {
            let rows = vec![row.as_str(); rows].join(", ");
            format!(
                "INSERT INTO {table} (key, value, version, expires_at) VALUES {rows} ON CONFLICT (key) DO UPDATE \
                 SET value = excluded.value, version = excluded.version, expires_at = excluded.expires_at"
            )
        };
        let named = "key IN (SELECT value FROM json_each(?1))";
        // At any version, or at this one.
        let at = "key = ?1 AND (?2 OR version = ?3)";
        Self {
            read: sql(format!("SELECT {record} FROM {table} WHERE key = ?1 AND {live}")),
            read_many: sql(format!("SELECT {record}, key FROM {table} WHERE {named} AND {live}")),
            read_and_touch_many: sql(format!(
                "UPDATE {table} SET expires_at = {NOW} + ?3 WHERE {named} AND {live} RETURNING {record}, key"
            )),
            upserts: SIZES.map(|rows| sql(insert(rows))),
            insert: sql(format!("{} WHERE {table}.expires_at <= {NOW}", insert(1))),
            update: sql(format!(
                "UPDATE {table} SET value = CAST(?4 AS {value}), version = ?5, expires_at = {NOW} + ?6 \
                 WHERE {at} AND {live}"
            )),
            delete: sql(format!("DELETE FROM {table} WHERE {at} AND {live}")),
            delete_many: sql(format!("DELETE FROM {table} WHERE {named} AND {live} RETURNING key")),
            touch: sql(format!("UPDATE {table} SET expires_at = {NOW} + ?4 WHERE {at} AND {live}")),
            keys: sql(page(key, texts, live)),
            entries: sql(page(&format!("value, version, {left}, {key}"), texts, live)),
            index: sql(page(key, texts, "TRUE")),
            others: sql(format!(
                "SELECT key FROM {table} WHERE ?1 = x'' AND key IS NULL AND {live} UNION ALL SELECT * FROM ({})",
                page("key", blobs, live)
            )),
            purge: sql(format!(
                "DELETE FROM {table} WHERE {ROW_ID} BETWEEN ?1 AND ?2 AND +expires_at <= {NOW}"
            )),
        }
    }

    /// Reads the record under `key`, with its value if `value`.
    pub(crate) fn read<'q>(&self, key: &'q Key, value: bool) -> Call<'q> {
        sqlx::query(self.read.clone()).bind(key.as_str()).bind(value)
    }

    /// Changes one row if the condition holds. A row that is written gets the version.
    pub(crate) fn change<'q>(
        &self,
        key: &'q Key,
        action: Action,
        condition: &Condition,
        version: Option<&Version>,
    ) -> Call<'q> {
        let keyed = |sql: &SqlStr| sqlx::query(sql.clone()).bind(key.as_str());
        let seen = if let Condition::At(seen) = condition { Some(seen) } else { None };
        let at = |sql| keyed(sql).bind(seen.is_none()).bind(seen.and_then(token));
        match action {
            Action::Put(value, expiry) => {
                let call = match condition {
                    Condition::Any => keyed(&self.upserts[0]),
            slice: sql(format!(
                "SELECT max(id), total(expires_at <= {NOW}) > 0 FROM (SELECT {ROW_ID} AS id, expires_at FROM {table} \
                 WHERE {ROW_ID} >= ?1 ORDER BY {ROW_ID} LIMIT ?2) HAVING count(*) > 0"
            )),
            // The plus keeps an index on the deadline, which a table may have, out of the plan.
                    Condition::Absent => keyed(&self.insert),
                    _ => at(&self.update),
                };
                call.bind(Vec::from(value)).bind(version.and_then(token)).bind(ttl(expiry))
            }
            Action::Delete => at(&self.delete),
            Action::Touch(expiry) => at(&self.touch).bind(ttl(expiry)),
        }
    }

    /// Writes rows with different keys, at least one and at most [`MAX_ROWS`].
    pub(crate) fn upsert<'q>(&self, rows: &[Row<'q>]) -> Call<'q> {
        let place = SIZES.partition_point(|size| *size < rows.len());
        // The smallest row pads the statement: SQLite may write a row twice.
        let padding = rows.iter().min_by_key(|(_, value, ..)| value.len()).into_iter().cycle();
        let bind = |call: Call<'q>, &(key, value, expiry, version): &Row<'q>| {
            call.bind(key).bind(value.to_vec()).bind(token(version)).bind(ttl(expiry))
        };
        rows.iter().chain(padding).take(SIZES[place]).fold(sqlx::query(self.upserts[place].clone()), bind)
    }
}

/// The version as a row holds it. One that is not this adapter's is null, which no row has.
fn token(version: &Version) -> Option<i64> {
    version.as_token().map(u64::cast_signed)
}

/// The time to live as a statement adds it to the present, in milliseconds; `None` for never.
pub(crate) fn ttl(expiry: Expiry) -> Option<i64> {
    expiry.deadline(0)
}

/// A JSON array of the keys.
pub(crate) fn names<'a>(keys: impl IntoIterator<Item = &'a str>) -> String {
    serde_json::Value::from_iter(keys).to_string()
}

/// `name` as an identifier, whatever is in it.
pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use sqlx::{Arguments, Execute};

    use super::*;

    #[test]
    fn names_are_quoted() {
        assert_eq!(quote("a\"b; DROP TABLE x"), "\"a\"\"b; DROP TABLE x\"");
    }

    #[test]
    fn sizes_cover_every_batch() {
        let sql = Sql::new("t", "BLOB");
        let version = Version::unique();
        let row: Row<'_> = ("k", b"", Expiry::Never, &version);
        for rows in 1..=MAX_ROWS {
            let mut call = sql.upsert(&vec![row; rows]);
            let size = call.take_arguments().unwrap().unwrap().len() / 4;
            assert!(size >= rows && size <= rows * 3 / 2 + 1, "{rows} rows, {size} written");
            assert_eq!(call.sql().as_str().matches("(?, CAST(? AS BLOB), ?, ").count(), size);
        }
    }
}
