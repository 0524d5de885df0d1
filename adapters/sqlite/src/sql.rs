//! The statements.

use std::sync::Arc;

use larder_core::{Action, Change, Condition, Expiry, Key, Version};
use serde_json::Value;
use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr, Sqlite, query::Query, sqlite::SqliteArguments};

/// The numbers of rows in a statement that writes many. Unused rows are null, and the statement skips them.
const SIZES: [usize; 6] = [8, 16, 32, 64, 128, MAX_ROWS];

/// The maximum number of rows that one statement writes.
pub(crate) const MAX_ROWS: usize = 256;

/// The current time in Unix milliseconds, by the clock of SQLite, which is that of the machine. SQLite reads the clock
/// once per statement, after it has waited for its lock. As a subquery, this is computed once for all rows. Rounded
/// because `unixepoch` returns seconds with a fraction.
const NOW: &str = "(SELECT CAST(unixepoch('subsec') * 1000 + 0.5 AS INTEGER))";

/// The row id, by the name that is least likely to be a column of the table.
pub(crate) const ROW_ID: &str = "_rowid_";

pub(crate) type Call<'q> = Query<'q, Sqlite, SqliteArguments>;

/// All statements for one table. Each keeps its text, so each connection prepares it once.
pub(crate) struct Sql {
    read: SqlStr,
    /// The statements for many take a JSON array of keys, and return the key in the last column.
    pub(crate) read_many: SqlStr,
    pub(crate) read_and_touch_many: SqlStr,
    upsert: SqlStr,
    insert: SqlStr,
    update: SqlStr,
    delete: SqlStr,
    touch: SqlStr,
    /// One for each of [`SIZES`].
    upsert_many: [SqlStr; SIZES.len()],
    /// Like `upsert_many`, with a condition for each row. These and the following two return the keys of the changed
    /// rows. Conditions and returned keys make 64 rows of 512 bytes a fifth slower.
    put_many: [SqlStr; SIZES.len()],
    /// The next two take a JSON array of [`listed`] changes.
    delete_many: SqlStr,
    touch_many: SqlStr,
    /// Pages of a listing, with the key as the last column. Parameters: the first key of the page, as a blob; the end
    /// of the range, or null; the number of rows.
    pub(crate) keys: SqlStr,
    pub(crate) entries: SqlStr,
    /// The keys from the index, including expired ones. Reads no rows.
    pub(crate) index: SqlStr,
    /// The keys that are not text, and so not Larder's: blobs, and null keys in the first page of an unbounded
    /// listing.
    pub(crate) others: SqlStr,
    /// The last row id of a slice, and whether any of its rows has expired. Returns no row for an empty slice.
    /// Parameters: the first possible row id; the number of rows.
    pub(crate) slice: SqlStr,
    /// Deletes the expired rows of a slice. Parameters: its first and last row id.
    pub(crate) purge: SqlStr,
}

impl Sql {
    /// Makes the statements for a table whose column `value` has the type `value`.
    pub(crate) fn new(table: &str, value: &str) -> Self {
        let table = &quote(table);
        let sql = |text: String| AssertSqlSafe(Arc::<str>::from(text)).into_sql_str();
        // The condition for a row that has not expired.
        let live = &format!("(expires_at IS NULL OR expires_at > {NOW})");
        // The remaining milliseconds of a row. Text compares greater than every number, so it is not an expiry.
        let left = &format!(
            "CASE WHEN typeof(expires_at) IN ('text', 'blob') THEN 'no time' \
             ELSE CAST(expires_at - {NOW} AS INTEGER) END"
        );
        // The columns of a record. SQLite reads the value's pages only if `?2` asks for it, and reads the clock once
        // unless `?3` asks for the TTL.
        let record = &format!("CASE WHEN ?2 THEN value END, version, CASE WHEN ?3 THEN {left} END");
        // Another program's key may be invalid UTF-8, and a listing must continue past it: keys are passed as blobs.
        let key = "CAST(key AS BLOB)";
        let page = |columns: &str, range: &str, live: &str| {
            format!("SELECT {columns} FROM {table} WHERE {range} AND {live} ORDER BY key LIMIT ?3")
        };
        // In SQLite's order, every text is less than every blob.
        let texts = "key >= CAST(?1 AS TEXT) AND key < coalesce(?2, x'')";
        let blobs = "key >= ?1 AND (?2 IS NULL OR key < CAST(?2 AS BLOB))";
        let insert = |rows: &str| {
            format!(
                "INSERT INTO {table} (key, value, version, expires_at) {rows} ON CONFLICT (key) DO UPDATE \
                 SET value = excluded.value, version = excluded.version, expires_at = excluded.expires_at"
            )
        };
        let one = &insert(&format!("VALUES (?1, CAST(?2 AS {value}), ?3, {NOW} + ?4)"));
        // All names are qualified, because the table may have further columns of any name.
        let many = |rows: usize, row: &str, condition: &str| {
            insert(&format!(
                "SELECT put.column1, CAST(put.column2 AS {value}), put.column3, {NOW} + put.column4 \
                 FROM (VALUES {}) AS put {condition}",
                vec![row; rows].join(", ")
            ))
        };
        let given = "put.column1 IS NOT NULL";
        // `column5`: whether the row must exist; `column6`: its version. Null means any.
        let condition = &format!(
            "LEFT JOIN {table} AS t ON t.key = put.column1 AND {live} WHERE {given} \
             AND (put.column5 IS NULL OR put.column5 = (t.key IS NOT NULL)) \
             AND (put.column6 IS NULL OR put.column6 = t.version)"
        );
        let listed = "(SELECT value ->> 0 AS name, value ->> 1 AS seen, value ->> 2 AS ttl FROM json_each(?1)) \
                      AS change";
        let matches =
            &format!("t.key = change.name AND (change.seen IS NULL OR change.seen = t.version) AND {live}");
        let named = "key IN (SELECT value FROM json_each(?1))";
        // At any version, or at the given one.
        let at = "key = ?1 AND (?2 OR version = ?3)";
        Self {
            read: sql(format!("SELECT {record} FROM {table} WHERE key = ?1 AND {live}")),
            read_many: sql(format!("SELECT {record}, key FROM {table} WHERE {named} AND {live}")),
            read_and_touch_many: sql(format!(
                "UPDATE {table} SET expires_at = {NOW} + ?4 WHERE {named} AND {live} RETURNING {record}, key"
            )),
            upsert: sql(one.clone()),
            insert: sql(format!("{one} WHERE {table}.expires_at <= {NOW}")),
            update: sql(format!(
                "UPDATE {table} SET value = CAST(?4 AS {value}), version = ?5, expires_at = {NOW} + ?6 \
                 WHERE {at} AND {live}"
            )),
            delete: sql(format!("DELETE FROM {table} WHERE {at} AND {live}")),
            touch: sql(format!("UPDATE {table} SET expires_at = {NOW} + ?4 WHERE {at} AND {live}")),
            upsert_many: SIZES.map(|rows| sql(many(rows, "(?, ?, ?, ?)", &format!("WHERE {given}")))),
            put_many: SIZES
                .map(|rows| sql(format!("{} RETURNING key", many(rows, "(?, ?, ?, ?, ?, ?)", condition)))),
            delete_many: sql(format!(
                "DELETE FROM {table} WHERE {ROW_ID} IN (SELECT t.{ROW_ID} FROM {listed} CROSS JOIN {table} AS t \
                 WHERE {matches}) RETURNING key"
            )),
            touch_many: sql(format!(
                "UPDATE {table} AS t SET expires_at = {NOW} + change.ttl FROM {listed} WHERE {matches} RETURNING key"
            )),
            keys: sql(page(key, texts, live)),
            entries: sql(page(&format!("value, version, {left}, {key}"), texts, live)),
            index: sql(page(key, texts, "TRUE")),
            others: sql(format!(
                "SELECT key FROM {table} WHERE ?1 = x'' AND key IS NULL AND {live} UNION ALL SELECT * FROM ({})",
                page("key", blobs, live)
            )),
            slice: sql(format!(
                "SELECT max(id), total(expires_at <= {NOW}) > 0 FROM (SELECT {ROW_ID} AS id, expires_at FROM {table} \
                 WHERE {ROW_ID} >= ?1 ORDER BY {ROW_ID} LIMIT ?2) HAVING count(*) > 0"
            )),
            // The plus sign prevents the use of an index on the deadline, which a table may have.
            purge: sql(format!(
                "DELETE FROM {table} WHERE {ROW_ID} BETWEEN ?1 AND ?2 AND +expires_at <= {NOW}"
            )),
        }
    }

    /// Reads the record under `key`, with its value and TTL if requested.
    pub(crate) fn read<'q>(&self, key: &'q Key, value: bool, ttl: bool) -> Call<'q> {
        sqlx::query(self.read.clone()).bind(key.as_str()).bind(value).bind(ttl)
    }

    /// Changes one row if the condition holds. A written row gets the version.
    pub(crate) fn change<'q>(
        &self,
        key: &'q Key,
        action: Action,
        condition: &Condition,
        version: Option<&Version>,
    ) -> Call<'q> {
        let keyed = |sql: &SqlStr| sqlx::query(sql.clone()).bind(key.as_str());
        let at = |sql| keyed(sql).bind(seen(condition).is_none()).bind(seen(condition).flatten());
        match action {
            Action::Put(value, expiry) => {
                let call = match condition {
                    Condition::Any => keyed(&self.upsert),
                    Condition::Absent => keyed(&self.insert),
                    _ => at(&self.update),
                };
                call.bind(Vec::from(value)).bind(version.and_then(token)).bind(ttl(expiry))
            }
            Action::Delete => at(&self.delete),
            Action::Touch(expiry) => at(&self.touch).bind(ttl(expiry)),
        }
    }

    /// Makes at most [`MAX_ROWS`] changes of different keys, with one statement per kind of change. Each statement
    /// returns the keys of the rows that it changes, except a statement of puts without conditions.
    pub(crate) fn change_many<'q>(&self, changes: &'q [Change], versions: &[Version]) -> Vec<Call<'q>> {
        let (mut puts, mut deletes, mut touches) = (Vec::new(), Vec::new(), Vec::new());
        for (change, version) in changes.iter().zip(versions) {
            match &change.action {
                Action::Put(value, expiry) => puts.push((change, value, *expiry, version)),
                Action::Delete => deletes.push(listed(change, Expiry::Never)),
                Action::Touch(expiry) => touches.push(listed(change, *expiry)),
            }
        }
        let mut calls = Vec::new();
        if !puts.is_empty() {
            let place = SIZES.partition_point(|size| *size < puts.len());
            let plain = puts.iter().all(|(change, ..)| change.condition == Condition::Any);
            let sql = if plain { &self.upsert_many[place] } else { &self.put_many[place] };
            let mut call = sqlx::query(sql.clone());
            for (change, value, expiry, version) in puts {
                call = call.bind(change.key.as_str()).bind(value.to_vec());
                call = call.bind(token(version)).bind(ttl(expiry));
                if !plain {
                    let seen = seen(&change.condition);
                    let there = match change.condition {
                        Condition::Any => None,
                        Condition::Absent => Some(0),
                        // Matches neither case: no row has that version.
                        _ if seen == Some(None) => Some(2),
                        _ => Some(1),
                    };
                    call = call.bind(there).bind(seen.flatten());
                }
            }
            // Unbound parameters are null.
            calls.push(call);
        }
        for (sql, list) in [(&self.delete_many, deletes), (&self.touch_many, touches)] {
            if !list.is_empty() {
                calls.push(sqlx::query(sql.clone()).bind(Value::from(list).to_string()));
            }
        }
        calls
    }
}

/// Returns the version that the condition requires, as stored in a row.
fn seen(condition: &Condition) -> Option<Option<i64>> {
    if let Condition::At(seen) = condition { Some(token(seen)) } else { None }
}

/// Returns a change as JSON: its key; the required version, which is null for any version and a text, which no row
/// has, for a version of another adapter; its TTL.
fn listed(change: &Change, expiry: Expiry) -> Value {
    let seen = seen(&change.condition).map(|seen| seen.map_or(Value::from(""), Value::from));
    Value::from_iter([Value::from(change.key.as_str()), Value::from(seen), Value::from(ttl(expiry))])
}

/// Returns the version as stored in a row. A version of another adapter is null, which no row has.
fn token(version: &Version) -> Option<i64> {
    version.as_token().map(u64::cast_signed)
}

/// Returns the TTL in milliseconds, for a statement to add to the current time; `None` for never.
pub(crate) fn ttl(expiry: Expiry) -> Option<i64> {
    expiry.deadline(0)
}

/// Returns a JSON array of the keys.
pub(crate) fn names<'a>(keys: impl IntoIterator<Item = &'a str>) -> String {
    Value::from_iter(keys).to_string()
}

/// Returns `name` as a quoted identifier.
pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted() {
        assert_eq!(quote("a\"b; DROP TABLE x"), "\"a\"\"b; DROP TABLE x\"");
    }
}
