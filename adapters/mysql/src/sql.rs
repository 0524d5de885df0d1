//! The statements.

use std::sync::Arc;

use larder_core::{Action, Change, Condition, Expiry, Key, Version};
use sqlx::{Arguments, AssertSqlSafe, Encode, MySql, SqlSafeStr, SqlStr, Type, mysql::MySqlArguments};

/// The numbers of rows or keys in a statement for many. Unused ones repeat the last.
const SIZES: [usize; 8] = [2, 4, 8, 16, 32, 64, 128, MAX_ROWS];

/// The maximum number of rows or keys in one statement.
pub(crate) const MAX_ROWS: usize = 256;

/// The current time in Unix milliseconds, by the server's clock. The server reads the clock once per statement.
const NOW: &str = "(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(3)) DIV 1000)";

/// The remaining milliseconds of a row. Its deadline may come from a statement that began after this one, so the time
/// since then counts.
const LEFT: &str = "expires_at - @now - TIMESTAMPDIFF(MICROSECOND, NOW(3), SYSDATE(3)) DIV 1000";

/// The condition for a row that has not expired.
const LIVE: &str = "(expires_at IS NULL OR expires_at > @now)";

/// A key that is greater than every stored one: the server's indexes hold at most 3,072 bytes.
const END: [u8; 3_073] = [0xff; 3_073];

/// A statement with its parameters.
pub(crate) struct Call {
    pub(crate) sql: SqlStr,
    /// `None` for statements that are not prepared, of which there may be several.
    pub(crate) arguments: Option<MySqlArguments>,
}

impl Call {
    /// Statements without keys and values, which the driver of a caller's pool may log.
    pub(crate) fn raw(sql: impl Into<Arc<str>>) -> Self {
        Self { sql: AssertSqlSafe(sql.into()).into_sql_str(), arguments: None }
    }

    pub(crate) fn prepared(sql: &SqlStr) -> Self {
        Self { sql: sql.clone(), arguments: Some(MySqlArguments::default()) }
    }

    /// Adds a parameter.
    pub(crate) fn bind<'t>(mut self, value: impl Encode<'t, MySql> + Type<MySql>) -> Self {
        // Encoding a number or bytes does not fail. Without the parameter, the server would reject the statement.
        let _ = self.arguments.as_mut().map(|arguments| arguments.add(value));
        self
    }
}

/// All statements for one table. Each keeps its text, so each connection prepares it once. A time to live is in
/// milliseconds, or null.
pub(crate) struct Sql {
    read: SqlStr,
    upsert: SqlStr,
    insert: SqlStr,
    update: SqlStr,
    delete: SqlStr,
    touch: SqlStr,
    /// The next five have one statement for each of [`SIZES`].
    read_many: [SqlStr; SIZES.len()],
    lock_many: [SqlStr; SIZES.len()],
    put_many: [SqlStr; SIZES.len()],
    delete_many: [SqlStr; SIZES.len()],
    purge_many: [SqlStr; SIZES.len()],
    pub(crate) keys: SqlStr,
    pub(crate) entries: SqlStr,
    expired: SqlStr,
}

/// A row for [`Sql::put_many`].
pub(crate) struct Row<'a> {
    pub(crate) key: &'a [u8],
    /// Without a value, the row must exist with this version. Its value stays.
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) version: Option<i64>,
    /// The time of expiry, from `now`; `None` for never.
    pub(crate) ttl: Option<i64>,
    /// The time from which `ttl` counts, in Unix milliseconds; `None` for the time of the statement.
    pub(crate) now: Option<i64>,
}

impl Sql {
    /// Makes the statements for the table with this name, which is SQL.
    pub(crate) fn new(table: &str) -> Self {
        let sql = |text: String| AssertSqlSafe(Arc::<str>::from(text.replace("@now", NOW))).into_sql_str();
        let many = |text: &dyn Fn(&str) -> String, item: &str| {
            SIZES.map(|size| sql(text(&vec![item; size].join(", "))))
        };
        // The key is first: of a row that begins with a large value, the driver would misread the length.
        let record = format!("`key`, IF(?, value, NULL), version, {LEFT}");
        let insert = format!("INSERT INTO {table} (`key`, value, version, expires_at)");
        let at = format!("`key` = ? AND (? OR version = ?) AND {LIVE}");
        let page = |columns: &str| {
            format!(
                "SELECT {columns} FROM {table} WHERE `key` >= ? AND `key` < ? AND {LIVE} ORDER BY `key` LIMIT ?"
            )
        };
        Self {
            read: sql(format!("SELECT {record} FROM {table} WHERE `key` = ? AND {LIVE}")),
            upsert: sql(format!(
                "{insert} VALUES (?, ?, ?, @now + ?) ON DUPLICATE KEY UPDATE \
                 value = VALUES(value), version = VALUES(version), expires_at = VALUES(expires_at)"
            )),
            // The server makes the assignments in this order. `LAST_INSERT_ID(1)` reports that the row stays.
            insert: sql(format!(
                "{insert} VALUES (?, ?, ?, @now + ?) ON DUPLICATE KEY UPDATE \
                 value = IF({LIVE}, value, VALUES(value)), \
                 version = CASE WHEN NOT {LIVE} THEN VALUES(version) WHEN LAST_INSERT_ID(1) THEN version END, \
                 expires_at = IF({LIVE}, expires_at, VALUES(expires_at))"
            )),
            update: sql(format!(
                "UPDATE {table} SET value = ?, version = ?, expires_at = @now + ? WHERE {at}"
            )),
            delete: sql(format!("DELETE FROM {table} WHERE {at}")),
            touch: sql(format!("UPDATE {table} SET expires_at = @now + ? WHERE {at}")),
            read_many: many(
                &|keys| format!("SELECT {record} FROM {table} WHERE `key` IN ({keys}) AND {LIVE}"),
                "?",
            ),
            lock_many: many(
                &|keys| {
                    format!(
                        "SELECT `key`, version, expires_at, @now FROM {table} WHERE `key` IN ({keys}) \
                         ORDER BY `key` FOR UPDATE"
                    )
                },
                "?",
            ),
            // A row with the current version, which only repeats or touches it, keeps the value.
            put_many: many(
                &|rows| {
                    format!(
                        "{insert} VALUES {rows} ON DUPLICATE KEY UPDATE \
                         value = IF(VALUES(version) = version, value, VALUES(value)), \
                         version = VALUES(version), expires_at = VALUES(expires_at)"
                    )
                },
                "(?, ?, ?, IFNULL(?, @now) + ?)",
            ),
            delete_many: many(&|keys| format!("DELETE FROM {table} WHERE `key` IN ({keys})"), "?"),
            purge_many: many(
                &|keys| format!("DELETE FROM {table} WHERE `key` IN ({keys}) AND NOT {LIVE}"),
                "?",
            ),
            keys: sql(page("`key`")),
            entries: sql(page(&format!("`key`, value, version, {LEFT}"))),
            expired: sql(format!("SELECT `key` FROM {table} WHERE expires_at <= @now LIMIT {MAX_ROWS}")),
        }
    }

    /// Reads the key, the value if requested, the version and the remaining milliseconds of an entry.
    pub(crate) fn read(&self, key: &Key, value: bool) -> Call {
        Call::prepared(&self.read).bind(value).bind(key.as_bytes())
    }

    /// Reads the same columns of at most [`MAX_ROWS`] entries.
    pub(crate) fn read_many(&self, keys: &[Key], value: bool) -> Call {
        let (sql, size) = sized(&self.read_many, keys.len());
        bind_keys(Call::prepared(sql).bind(value), keys.iter().map(Key::as_bytes), size)
    }

    /// Locks the rows of at most [`MAX_ROWS`] keys. Returns their keys, versions and times of expiry, and the current
    /// time.
    pub(crate) fn lock_many<'a>(&self, keys: impl ExactSizeIterator<Item = &'a Key>) -> Call {
        let (sql, size) = sized(&self.lock_many, keys.len());
        bind_keys(Call::prepared(sql), keys.map(Key::as_bytes), size)
    }

    /// Deletes the rows of at most [`MAX_ROWS`] keys.
    pub(crate) fn delete_many(&self, keys: &[&Key]) -> Call {
        let (sql, size) = sized(&self.delete_many, keys.len());
        bind_keys(Call::prepared(sql), keys.iter().map(|key| key.as_bytes()), size)
    }

    /// Reads the keys of at most [`MAX_ROWS`] expired rows.
    pub(crate) fn expired(&self) -> Call {
        Call::prepared(&self.expired)
    }

    /// Deletes those of at most [`MAX_ROWS`] rows that have expired.
    pub(crate) fn purge_many(&self, keys: &[Vec<u8>]) -> Call {
        let (sql, size) = sized(&self.purge_many, keys.len());
        bind_keys(Call::prepared(sql), keys.iter().map(Vec::as_slice), size)
    }

    /// Writes at most [`MAX_ROWS`] rows. The server counts one affected row for each new row and each
    /// [repeated](repeated) one, and two for each existing row that changes.
    pub(crate) fn put_many(&self, rows: &[Row<'_>]) -> Call {
        let (sql, size) = sized(&self.put_many, rows.len());
        let mut call = Call::prepared(sql);
        for row in rows {
            let value = row.value.unwrap_or_default();
            call = call.bind(row.key).bind(value);
            call = call.bind(row.version).bind(row.now).bind(row.ttl);
        }
        if let Some(last) = rows.last() {
            for _ in rows.len()..size {
                call = call.bind(last.key).bind(b"".as_slice());
                call = call.bind(last.version).bind(last.now).bind(last.ttl);
            }
        }
        call
    }

    /// Reads a page of at most `limit` keys or entries from the key `from` to before the key `end`.
    pub(crate) fn page(&self, values: bool, from: &[u8], end: Option<&str>, limit: usize) -> Call {
        let sql = if values { &self.entries } else { &self.keys };
        let end = end.map_or(&END[..], str::as_bytes);
        let limit = u64::try_from(limit).unwrap_or(u64::MAX);
        Call::prepared(sql).bind(from).bind(end).bind(limit)
    }

    /// Makes a change if its condition holds. A written row gets the version.
    pub(crate) fn change(&self, change: &Change, version: Option<i64>) -> Call {
        let key = change.key.as_bytes();
        let seen = match &change.condition {
            Condition::At(seen) => Some(token(seen)),
            _ => None,
        };
        let at = |call: Call, key: &[u8]| call.bind(key).bind(seen.is_none()).bind(seen.flatten());
        match (&change.action, &change.condition) {
            (Action::Put(value, expiry), condition @ (Condition::Any | Condition::Absent)) => {
                let sql = if *condition == Condition::Any { &self.upsert } else { &self.insert };
                Call::prepared(sql).bind(key).bind(&value[..]).bind(version).bind(ttl(*expiry))
            }
            (Action::Put(value, expiry), _) => {
                let call = Call::prepared(&self.update).bind(&value[..]);
                at(call.bind(version).bind(ttl(*expiry)), key)
            }
            (Action::Delete, _) => at(Call::prepared(&self.delete), key),
            (Action::Touch(expiry), _) => at(Call::prepared(&self.touch).bind(ttl(*expiry)), key),
        }
    }
}

/// Returns the statement for this number of rows or keys, and the number that it has.
fn sized(statements: &[SqlStr; SIZES.len()], rows: usize) -> (&SqlStr, usize) {
    let place = SIZES.partition_point(|size| *size < rows).min(SIZES.len() - 1);
    (&statements[place], SIZES[place])
}

/// Returns the number of times that a statement for this number of rows repeats the last one.
pub(crate) fn repeated(rows: usize) -> usize {
    SIZES.iter().find(|size| **size >= rows).map_or(0, |size| size - rows)
}

/// Binds the keys, and repeats the last up to `size`.
fn bind_keys<'a>(mut call: Call, keys: impl Iterator<Item = &'a [u8]>, size: usize) -> Call {
    let (mut bound, mut last) = (0, &[][..]);
    for key in keys {
        call = call.bind(key);
        (bound, last) = (bound + 1, key);
    }
    (bound..size).fold(call, |call, _| call.bind(last))
}

/// Returns a version as stored in a row. A version of another adapter is null, which no row has.
pub(crate) fn token(version: &Version) -> Option<i64> {
    version.as_token().map(u64::cast_signed)
}

/// Returns the time to live in milliseconds, for a statement to add to the current time; `None` for never.
pub(crate) fn ttl(expiry: Expiry) -> Option<i64> {
    expiry.deadline(0)
}
