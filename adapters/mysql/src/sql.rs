//! The statements.

use std::sync::Arc;

use larder_core::{Action, Change, Condition, Expiry, Key, Version};
use larder_kit::KeyRange;
use sqlx::{Arguments, AssertSqlSafe, Encode, MySql, SqlSafeStr, SqlStr, Type, mysql::MySqlArguments};

/// The maximum number of rows or keys in one statement.
pub(crate) const MAX_ROWS: usize = 256;

/// The numbers of rows or keys in a statement for many. Unused ones repeat the last.
const SIZES: [usize; 9] = [1, 2, 4, 8, 16, 32, 64, 128, MAX_ROWS];

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

    /// Adds keys, and repeats the last up to the size of the statement.
    fn bind_keys<'a>(self, keys: impl ExactSizeIterator<Item = &'a [u8]>) -> Self {
        let (again, mut last) = (repeated(keys.len()), None);
        let call = keys.fold(self, |call, key| call.bind(*last.insert(key)));
        (0..again).fold(call, |call, _| call.bind(last))
    }
}

/// Statements for each of [`SIZES`].
struct Sized([SqlStr; SIZES.len()]);

impl Sized {
    /// Begins a call for this number of rows or keys.
    fn call(&self, rows: usize) -> Call {
        Call::prepared(&self.0[SIZES.partition_point(|size| *size < rows).min(SIZES.len() - 1)])
    }
}

/// Returns the number of times that a statement for this number of rows or keys repeats the last.
pub(crate) fn repeated(rows: usize) -> usize {
    SIZES.iter().find(|size| **size >= rows).map_or(0, |size| size - rows)
}

/// All statements for one table. Each keeps its text, so each connection prepares it once. A time to live is in
/// milliseconds, or null.
pub(crate) struct Sql {
    read: Sized,
    range: SqlStr,
    lock: Sized,
    put: Sized,
    insert: SqlStr,
    update: SqlStr,
    delete: SqlStr,
    touch: SqlStr,
    remove: Sized,
    expired: SqlStr,
}

/// A row for [`Sql::put`].
pub(crate) struct Row<'a> {
    pub(crate) key: &'a [u8],
    /// Empty if the row exists with this version: its value stays.
    pub(crate) value: &'a [u8],
    pub(crate) version: Option<i64>,
    /// The time from which the time to live counts, in Unix milliseconds; `None` for the time of the statement.
    pub(crate) now: Option<i64>,
    pub(crate) ttl: Option<i64>,
}

impl Sql {
    /// Makes the statements for the table with this name, which is SQL.
    pub(crate) fn new(table: &str) -> Self {
        let one = |sql: &str| {
            // The table is last, because its name may contain the other words.
            let words = [("@live", LIVE), ("@left", LEFT), ("@now", NOW), ("@table", table)];
            let sql = words.iter().fold(sql.to_owned(), |sql, (word, text)| sql.replace(word, text));
            AssertSqlSafe(Arc::<str>::from(sql)).into_sql_str()
        };
        let many = |sql: &str, item: &str| {
            Sized(SIZES.map(|size| one(&sql.replace("@items", &vec![item; size].join(", ")))))
        };
        Self {
            // The key is first: of a row that begins with a large value, the driver would misread the length.
            read: many(
                "SELECT `key`, IF(?, CAST(value AS BINARY), NULL), version, @left FROM @table WHERE `key` IN (@items) AND @live",
                "?",
            ),
            range: one("SELECT `key`, IF(?, CAST(value AS BINARY), NULL), version, @left FROM @table \
                 WHERE `key` >= ? AND `key` < ? AND @live ORDER BY `key` LIMIT ?"),
            // Without the index, the server might also lock other rows of a small table.
            lock: many(
                "SELECT `key`, version, expires_at, @now FROM @table FORCE INDEX (PRIMARY) \
                 WHERE `key` IN (@items) ORDER BY `key` FOR UPDATE",
                "?",
            ),
            // The server makes the assignments in this order. A row that is repeated or touched keeps its value.
            put: many(
                "INSERT INTO @table (`key`, value, version, expires_at) VALUES @items ON DUPLICATE KEY UPDATE \
                 value = IF(VALUES(version) = version, value, VALUES(value)), \
                 version = VALUES(version), expires_at = VALUES(expires_at)",
                "(?, ?, ?, IFNULL(?, @now) + ?)",
            ),
            // `LAST_INSERT_ID` reports that the entry exists, and stays. No column that counts up reaches `~0`.
            insert: one("INSERT INTO @table (`key`, value, version, expires_at) VALUES (?, ?, ?, @now + ?) \
                 ON DUPLICATE KEY UPDATE value = IF(@live, value, VALUES(value)), \
                 version = CASE WHEN NOT @live THEN VALUES(version) WHEN LAST_INSERT_ID(~0) THEN version END, \
                 expires_at = IF(@live, expires_at, VALUES(expires_at))"),
            update: one("UPDATE @table SET value = ?, version = ?, expires_at = @now + ? \
                 WHERE `key` = ? AND (? OR version = ?) AND @live"),
            delete: one("DELETE FROM @table WHERE `key` = ? AND (? OR version = ?) AND @live"),
            touch: one(
                "UPDATE @table SET expires_at = @now + ? WHERE `key` = ? AND (? OR version = ?) AND @live",
            ),
            remove: many("DELETE FROM @table WHERE (? OR NOT @live) AND `key` IN (@items)", "?"),
            expired: one("SELECT `key` FROM @table WHERE expires_at <= @now LIMIT ?"),
        }
    }

    /// Reads entries: their keys, their values if requested, their versions and remaining milliseconds. This and the
    /// other statements for many take at most [`MAX_ROWS`].
    pub(crate) fn read(&self, keys: &[Key], values: bool) -> Call {
        self.read.call(keys.len()).bind(values).bind_keys(keys.iter().map(Key::as_bytes))
    }

    /// Locks the rows of the keys, in their order. Returns their keys, versions and times of expiry, and the time.
    pub(crate) fn lock(&self, changes: &[Change]) -> Call {
        self.lock.call(changes.len()).bind_keys(changes.iter().map(|change| change.key.as_bytes()))
    }

    /// Writes rows, in the order of their keys. The server counts one affected row for each new row and each
    /// [repeated](repeated) one, and two for each existing row that changes.
    pub(crate) fn put(&self, mut rows: Vec<Row<'_>>) -> Call {
        rows.sort_unstable_by_key(|row| row.key);
        let bind = |call: Call, Row { key, value, version, now, ttl }: &Row<'_>| {
            call.bind(*key).bind(*value).bind(version).bind(now).bind(ttl)
        };
        let call = rows.iter().fold(self.put.call(rows.len()), bind);
        let Some(last) = rows.last() else { return call };
        let again = Row { value: &[], ..*last };
        (0..repeated(rows.len())).fold(call, |call, _| bind(call, &again))
    }

    /// Deletes rows, or only those that have expired.
    pub(crate) fn remove<'a>(&self, keys: impl ExactSizeIterator<Item = &'a [u8]>, all: bool) -> Call {
        self.remove.call(keys.len()).bind(all).bind_keys(keys)
    }

    /// Reads the keys of expired rows.
    pub(crate) fn expired(&self) -> Call {
        Call::prepared(&self.expired).bind(MAX_ROWS as u64)
    }

    /// Reads the first entries of a range.
    pub(crate) fn range(&self, range: KeyRange<'_>) -> Call {
        // A NUL makes the next key in the order of bytes.
        let from = [range.from, &b"\0"[..range.after.into()]].concat();
        let call = Call::prepared(&self.range).bind(range.values).bind(from);
        call.bind(range.end.map_or(&END[..], str::as_bytes)).bind(range.limit as u64)
    }

    /// Makes a change if its condition holds. A written row gets the version.
    pub(crate) fn change(&self, change: &Change, version: Option<i64>) -> Call {
        let key = change.key.as_bytes();
        let seen = match &change.condition {
            Condition::At(seen) => Some(token(seen)),
            _ => None,
        };
        let at = |call: Call| call.bind(key).bind(seen.is_none()).bind(seen.flatten());
        match (&change.action, &change.condition) {
            (Action::Put(value, expiry), Condition::Any) => {
                self.put(vec![Row { key, value, version, now: None, ttl: ttl(*expiry) }])
            }
            (Action::Put(value, expiry), Condition::Absent) => {
                let call = Call::prepared(&self.insert).bind(key).bind(&value[..]);
                call.bind(version).bind(ttl(*expiry))
            }
            (Action::Put(value, expiry), _) => {
                at(Call::prepared(&self.update).bind(&value[..]).bind(version).bind(ttl(*expiry)))
            }
            (Action::Delete, _) => at(Call::prepared(&self.delete)),
            (Action::Touch(expiry), _) => at(Call::prepared(&self.touch).bind(ttl(*expiry))),
        }
    }
}

/// Returns a version as stored in a row. A version of another adapter is null, which no row has.
pub(crate) fn token(version: &Version) -> Option<i64> {
    version.as_token().map(u64::cast_signed)
}

/// Returns the time to live in milliseconds, for a statement to add to the current time; `None` for never.
pub(crate) fn ttl(expiry: Expiry) -> Option<i64> {
    expiry.deadline(0)
}
