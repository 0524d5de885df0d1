//! The statements.

use std::sync::Arc;

use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};

/// How many rows one statement writes at most.
pub(crate) const MAX_ROWS: usize = 256;

/// The present in Unix milliseconds, by SQLite's clock, which is this machine's. SQLite asks for it
/// once in a statement, when that has the lock it had to wait for. Rounded, since it comes in seconds
/// with a fraction.
macro_rules! now {
    () => {
        "CAST(unixepoch('subsec') * 1000 + 0.5 AS INTEGER)"
    };
}

const NOW: &str = now!();

/// How many milliseconds a row has left. Text, which sorts after every number, does not count.
macro_rules! left {
    () => {
        concat!(
            "CASE WHEN typeof(expires_at) IN ('text', 'blob') THEN 'no time' \
             ELSE CAST(expires_at - ",
            now!(),
            " AS INTEGER) END"
        )
    };
}

/// A row that has not expired.
const LIVE: &str = concat!("(expires_at IS NULL OR expires_at > ", now!(), ")");

/// Every statement that is used, for one table. Each keeps its text, so that it is prepared once per
/// connection.
pub(crate) struct Sql {
    pub(crate) read: SqlStr,
    pub(crate) read_many: SqlStr,
    pub(crate) ttl: SqlStr,
    pub(crate) contains: SqlStr,
    pub(crate) write_absent: SqlStr,
    pub(crate) write_at: SqlStr,
    pub(crate) delete: SqlStr,
    pub(crate) delete_at: SqlStr,
    pub(crate) delete_many: SqlStr,
    pub(crate) touch: SqlStr,
    pub(crate) keys: Page,
    pub(crate) entries: Page,
    /// The keys by their index, expired ones included, which reads no row.
    pub(crate) index: Page,
    /// The keys that are blobs, and so no keys of Larder's.
    pub(crate) blobs: Page,
    /// How many rows have no key.
    pub(crate) nulls: SqlStr,
    pub(crate) clear: SqlStr,
    pub(crate) purge: SqlStr,
    pub(crate) ping: SqlStr,
    upserts: Vec<(usize, SqlStr)>,
}

/// The first page of a listing, the pages after it, and one row of them where their keys have an index.
pub(crate) struct Page {
    pub(crate) first: SqlStr,
    pub(crate) next: SqlStr,
    pub(crate) one: Option<SqlStr>,
}

impl Sql {
    pub(crate) fn new(table: &str) -> Self {
        let table = &quote(table);
        let sql = |text: String| AssertSqlSafe(Arc::<str>::from(text)).into_sql_str();
        // `?2` is text, or a blob where the prefix has no end: every text is less than a blob. The
        // beginning comes as a blob, since a foreign key need not be UTF-8 and must still be passed.
        let range = |compare: &str, live: &str| {
            format!("key {compare} CAST(?1 AS TEXT) AND key < ?2 AND {live} ORDER BY key LIMIT ?3")
        };
        let page = |columns: &str, live: &str| Page {
            first: sql(format!("SELECT {columns} FROM {table} WHERE {}", range(">=", live))),
            next: sql(format!("SELECT {columns} FROM {table} WHERE {}", range(">", live))),
            one: Some(sql(format!("SELECT {columns} FROM {table} WHERE key = CAST(?1 AS TEXT) AND {live}"))),
        };
        // The beginning comes as a blob, which is more than every text.
        let blobs = |compare: &str| {
            format!(
                "SELECT key FROM {table} WHERE key {compare} ?1 \
                 AND (typeof(?2) = 'blob' OR key < CAST(?2 AS BLOB)) AND {LIVE} ORDER BY key LIMIT ?3"
            )
        };
        let named = "key IN (SELECT value FROM json_each(?1))";
        Self {
            read: sql(format!("SELECT value, version FROM {table} WHERE key = ?1 AND {LIVE}")),
            read_many: sql(format!("SELECT key, value, version FROM {table} WHERE {named} AND {LIVE}")),
            ttl: sql(format!("SELECT {} FROM {table} WHERE key = ?1 AND {LIVE}", left!())),
            contains: sql(format!("SELECT 1 FROM {table} WHERE key = ?1 AND {LIVE}")),
            write_absent: sql(format!(
                "INSERT INTO {table} (key, value, version, expires_at) VALUES (?1, ?2, ?3, {NOW} + ?4) \
                 ON CONFLICT (key) DO UPDATE SET value = excluded.value, version = excluded.version, \
                 expires_at = excluded.expires_at WHERE {table}.expires_at <= {NOW}"
            )),
            write_at: sql(format!(
                "UPDATE {table} SET value = ?2, version = ?3, expires_at = {NOW} + ?4 \
                 WHERE key = ?1 AND version = ?5 AND {LIVE}"
            )),
            delete: sql(format!("DELETE FROM {table} WHERE key = ?1 AND {LIVE}")),
            delete_at: sql(format!("DELETE FROM {table} WHERE key = ?1 AND version = ?2 AND {LIVE}")),
            delete_many: sql(format!("DELETE FROM {table} WHERE {named} AND {LIVE}")),
            touch: sql(format!("UPDATE {table} SET expires_at = {NOW} + ?2 WHERE key = ?1 AND {LIVE}")),
            keys: page("CAST(key AS BLOB)", LIVE),
            index: page("CAST(key AS BLOB)", "TRUE"),
            entries: page(concat!("CAST(key AS BLOB), value, version, ", left!()), LIVE),
            blobs: Page { first: sql(blobs(">=")), next: sql(blobs(">")), one: None },
            nulls: sql(format!("SELECT count(*) FROM {table} WHERE key IS NULL AND {LIVE}")),
            clear: sql(format!(
                "DELETE FROM {table} WHERE key IN (SELECT key FROM {table} WHERE {}) RETURNING CAST(key AS BLOB)",
                range(">=", LIVE)
            )),
            purge: sql(format!(
                "DELETE FROM {table} WHERE key IN (SELECT key FROM {table} WHERE expires_at <= {NOW} LIMIT ?1)"
            )),
            ping: sql(format!("SELECT 1 FROM {table} LIMIT 1")),
            upserts: sizes().map(|rows| (rows, sql(upsert(table, rows)))).collect(),
        }
    }

    /// The statement that writes at least `rows` rows (of [`MAX_ROWS`] at most), and how many.
    pub(crate) fn upsert(&self, rows: usize) -> (usize, SqlStr) {
        let at = self.upserts.partition_point(|(size, _)| *size < rows).min(self.upserts.len() - 1);
        let (size, sql) = &self.upserts[at];
        (*size, sql.clone())
    }
}

/// 1, 2, 3, 4, 6, 8, 12 ... 256: few statements to prepare, and never more than a third to pad.
fn sizes() -> impl Iterator<Item = usize> {
    let powers = std::iter::successors(Some(1), |size| Some(size * 2));
    powers
        .flat_map(|power| [Some(power), (power > 1).then_some(power + power / 2)])
        .flatten()
        .take_while(|size| *size <= MAX_ROWS)
}

/// A row to write: key, value, version, and in how many milliseconds it expires.
const ROW: &str = concat!("(?, ?, ?, ", now!(), " + ?)");

fn upsert(table: &str, rows: usize) -> String {
    let values = vec![ROW; rows].join(", ");
    format!(
        "INSERT INTO {table} (key, value, version, expires_at) VALUES {values} \
         ON CONFLICT (key) DO UPDATE SET value = excluded.value, version = excluded.version, \
         expires_at = excluded.expires_at"
    )
}

/// `name` as an identifier, whatever is in it.
pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// What all texts that begin with `prefix` are less than; `None` if that is nothing. UTF-8 sorts as
/// its characters do, so it is the prefix with its last character replaced by the next one.
pub(crate) fn end_of(prefix: &str) -> Option<String> {
    let mut characters: Vec<char> = prefix.chars().collect();
    while let Some(last) = characters.pop() {
        if let Some(next) = (last..=char::MAX).nth(1) {
            characters.push(next);
            return Some(characters.into_iter().collect());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted() {
        assert_eq!(quote("a\"b; DROP TABLE x"), "\"a\"\"b; DROP TABLE x\"");
    }

    #[test]
    fn a_prefix_ends_before_the_next_character() {
        assert_eq!(end_of("").as_deref(), None);
        assert_eq!(end_of("a").as_deref(), Some("b"));
        assert_eq!(end_of("a%").as_deref(), Some("a&"));
        assert_eq!(end_of("\u{d7ff}").as_deref(), Some("\u{e000}"));
        assert_eq!(end_of("a\u{10ffff}").as_deref(), Some("b"));
        assert_eq!(end_of("\u{10ffff}").as_deref(), None);
    }

    #[test]
    fn sizes_cover_every_batch() {
        let sql = Sql::new("t");
        for rows in 1..=MAX_ROWS {
            let (size, text) = sql.upsert(rows);
            assert!(size >= rows && size <= rows * 3 / 2 + 1, "{rows} rows, {size} written");
            assert_eq!(text.as_str().matches(ROW).count(), size);
        }
        assert_eq!(sql.upserts.len(), 16);
    }
}
