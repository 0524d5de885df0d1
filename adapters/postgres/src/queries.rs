//! Every statement that runs after set-up, as SQL with the types of its parameters.

use tokio_postgres::types::Type;

use crate::{layout::Layout, names::TableName};

/// Rows of one page of a listing.
pub(crate) const PAGE: usize = 500;
/// Bytes of values of one page of a listing, roughly: a page holds at least one entry.
const PAGE_BYTES: usize = 4 << 20;
/// Rows that one statement of `clear` or `purge_expired` deletes.
pub(crate) const DELETE_CHUNK: u64 = 1_000;

/// One statement.
#[derive(Debug)]
pub(crate) struct Query {
    pub(crate) text: String,
    pub(crate) types: Vec<Type>,
}

/// Makes sure that the server answers.
pub(crate) fn ping() -> Query {
    query("SELECT 1".to_owned(), &[])
}

fn query(text: String, types: &[Type]) -> Query {
    Query { text, types: types.to_vec() }
}

/// A statement over a range of keys, with and without an end.
#[derive(Debug)]
pub(crate) struct Ranged {
    /// Parameters: from (inclusive), except (or null), and the end (exclusive); in grammY's layout the prefix
    /// instead of the end.
    pub(crate) bounded: Query,
    /// Parameters: from (inclusive), except (or null).
    pub(crate) unbounded: Query,
}

/// All of them. What a layout cannot do is `None`.
#[derive(Debug)]
pub(crate) struct Queries {
    /// key -> value, version
    pub(crate) read: Query,
    /// keys -> key, value, version
    pub(crate) read_many: Query,
    pub(crate) contains: Query,
    /// key -> remaining milliseconds
    pub(crate) ttl: Option<Query>,
    /// key, value and (Larder's layout) version, time to live in milliseconds; likewise below
    pub(crate) write: Query,
    /// The same as arrays; no key may be there twice.
    pub(crate) write_many: Query,
    pub(crate) write_absent: Query,
    /// As `write`, then the version or content expected.
    pub(crate) write_at: Query,
    pub(crate) delete: Query,
    pub(crate) delete_many: Query,
    /// key, version or content expected
    pub(crate) delete_at: Query,
    /// key, milliseconds
    pub(crate) touch: Option<Query>,
    pub(crate) purge: Option<Query>,
    /// -> key
    pub(crate) keys: Ranged,
    /// -> key, value, version, remaining milliseconds
    pub(crate) entries: Ranged,
    /// -> deleted, seen, the last key seen
    pub(crate) clear: Ranged,
}

// The server's clock at the very moment, not at the beginning of the transaction: a statement that
// has waited for another's lock must not see an entry that has expired meanwhile.
const LIVE: &str = "(expires_at IS NULL OR expires_at > clock_timestamp())";
const REMAINING: &str = "CASE WHEN expires_at IS NULL OR NOT isfinite(expires_at) THEN NULL ELSE \
     greatest(1, ceil(extract(epoch FROM expires_at - clock_timestamp()) * 1000))::bigint END";

fn deadline(millis: &str) -> String {
    format!("clock_timestamp() + {millis} * interval '1 millisecond'")
}

impl Queries {
    pub(crate) fn new(table: &TableName, layout: Layout) -> Self {
        match layout {
            Layout::Larder(_) => Self::larder(&table.quoted(), layout),
            Layout::Grammy => Self::grammy(&table.quoted(), layout),
        }
    }

    fn larder(table: &str, layout: Layout) -> Self {
        let (value, values) = (layout.column().value_type(), layout.column().array_type());
        let entry = [Type::TEXT, value, Type::INT8, Type::INT8];
        let entry_at = [&entry[..], &[Type::INT8]].concat();
        let (until, until_each) = (deadline("$4"), deadline("ttl"));
        let columns = "(key, value, version, expires_at)";
        let replace = "value = EXCLUDED.value, version = EXCLUDED.version, expires_at = EXCLUDED.expires_at";
        let insert =
            format!("INSERT INTO {table} AS t {columns} VALUES ($1, $2, $3, {until}) ON CONFLICT (key)");
        Self {
            read: query(
                format!("SELECT value, version FROM {table} WHERE key = $1 AND {LIVE}"),
                &[Type::TEXT],
            ),
            read_many: query(
                format!("SELECT key, value, version FROM {table} WHERE key = ANY($1) AND {LIVE}"),
                &[Type::TEXT_ARRAY],
            ),
            contains: query(format!("SELECT 1 FROM {table} WHERE key = $1 AND {LIVE}"), &[Type::TEXT]),
            ttl: Some(query(
                format!("SELECT {REMAINING} FROM {table} WHERE key = $1 AND {LIVE}"),
                &[Type::TEXT],
            )),
            write: query(format!("{insert} DO UPDATE SET {replace}"), &entry),
            write_many: query(
                format!(
                    "INSERT INTO {table} {columns} SELECT key, value, version, {until_each} \
                     FROM unnest($1, $2, $3, $4) AS given (key, value, version, ttl) \
                     ON CONFLICT (key) DO UPDATE SET {replace}"
                ),
                &[Type::TEXT_ARRAY, values, Type::INT8_ARRAY, Type::INT8_ARRAY],
            ),
            // An expired row is no entry: it is replaced.
            write_absent: query(
                format!("{insert} DO UPDATE SET {replace} WHERE t.expires_at <= clock_timestamp()"),
                &entry,
            ),
            write_at: query(
                format!(
                    "UPDATE {table} SET value = $2, version = $3, expires_at = {until} \
                     WHERE key = $1 AND version = $5 AND {LIVE}"
                ),
                &entry_at,
            ),
            delete: query(format!("DELETE FROM {table} WHERE key = $1 AND {LIVE}"), &[Type::TEXT]),
            delete_many: delete_many(table, LIVE),
            delete_at: query(
                format!("DELETE FROM {table} WHERE key = $1 AND version = $2 AND {LIVE}"),
                &[Type::TEXT, Type::INT8],
            ),
            touch: Some(query(
                format!("UPDATE {table} SET expires_at = {} WHERE key = $1 AND {LIVE}", deadline("$2")),
                &[Type::TEXT, Type::INT8],
            )),
            // now(), since an index can be searched with it. The condition stands in both places
            // because a ctid is unique only within one partition of a partitioned table.
            purge: Some(query(
                format!(
                    "DELETE FROM {table} WHERE expires_at <= now() AND ctid = ANY(ARRAY(SELECT ctid \
                     FROM {table} WHERE expires_at <= now() LIMIT {DELETE_CHUNK} FOR UPDATE SKIP LOCKED))"
                ),
                &[],
            )),
            keys: keys(table, LIVE, "key < $3"),
            entries: entries(table, LIVE, "key < $3", "version", REMAINING, layout),
            clear: clear(table, LIVE, "key < $3"),
        }
    }

    fn grammy(table: &str, layout: Layout) -> Self {
        let entry = [Type::TEXT, Type::TEXT];
        // Its keys have the database's collation: only a filter finds a prefix by its bytes.
        let prefixed = "starts_with(key, $3)";
        let version = "NULL::bigint";
        Self {
            read: query(format!("SELECT value, {version} FROM {table} WHERE key = $1"), &[Type::TEXT]),
            read_many: query(
                format!("SELECT key, value, {version} FROM {table} WHERE key = ANY($1)"),
                &[Type::TEXT_ARRAY],
            ),
            contains: query(format!("SELECT 1 FROM {table} WHERE key = $1"), &[Type::TEXT]),
            ttl: None,
            write: query(
                format!(
                    "INSERT INTO {table} (key, value) VALUES ($1, $2) \
                     ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value"
                ),
                &entry,
            ),
            write_many: query(
                format!(
                    "INSERT INTO {table} (key, value) SELECT * FROM unnest($1, $2) \
                     ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value"
                ),
                &[Type::TEXT_ARRAY, Type::TEXT_ARRAY],
            ),
            write_absent: query(
                format!("INSERT INTO {table} (key, value) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING"),
                &entry,
            ),
            write_at: query(
                format!("UPDATE {table} SET value = $2 WHERE key = $1 AND value = $3"),
                &[Type::TEXT, Type::TEXT, Type::TEXT],
            ),
            delete: query(format!("DELETE FROM {table} WHERE key = $1"), &[Type::TEXT]),
            delete_many: delete_many(table, "true"),
            delete_at: query(format!("DELETE FROM {table} WHERE key = $1 AND value = $2"), &entry),
            touch: None,
            purge: None,
            keys: keys(table, "true", prefixed),
            entries: entries(table, "true", prefixed, version, version, layout),
            clear: clear(table, "true", prefixed),
        }
    }
}

// Rows are locked in the order of their keys, as batches of writes lock them: no deadlock.
fn delete_many(table: &str, live: &str) -> Query {
    query(
        format!(
            "DELETE FROM {table} WHERE key IN (SELECT key FROM {table} WHERE key = ANY($1) AND {live} \
             ORDER BY key FOR UPDATE)"
        ),
        &[Type::TEXT_ARRAY],
    )
}

fn ranged(end: &str, text: impl Fn(&str) -> String) -> Ranged {
    let start = "key >= $1 AND key IS DISTINCT FROM $2";
    Ranged {
        bounded: query(text(&format!("{start} AND {end}")), &[Type::TEXT, Type::TEXT, Type::TEXT]),
        unbounded: query(text(start), &[Type::TEXT, Type::TEXT]),
    }
}

fn keys(table: &str, live: &str, end: &str) -> Ranged {
    ranged(end, |range| format!("SELECT key FROM {table} WHERE {range} AND {live} ORDER BY key LIMIT {PAGE}"))
}

fn entries(table: &str, live: &str, end: &str, version: &str, remaining: &str, layout: Layout) -> Ranged {
    // The size of a jsonb value is only known by writing it out; its stored size will do.
    let size = match layout {
        Layout::Larder(crate::ValueColumn::Jsonb) => "pg_column_size(value)",
        Layout::Larder(crate::ValueColumn::Json) => "octet_length(value::text)",
        _ => "octet_length(value)",
    };
    ranged(end, |range| {
        format!(
            "SELECT key, value, version, remaining FROM (SELECT key, value, {version} AS version, \
             {remaining} AS remaining, row_number() OVER so_far AS number, sum({size}) OVER so_far AS bytes \
             FROM (SELECT * FROM {table} WHERE {range} AND {live} ORDER BY key LIMIT {PAGE}) AS page \
             WINDOW so_far AS (ORDER BY key ROWS UNBOUNDED PRECEDING)) AS sized \
             WHERE number = 1 OR bytes <= {PAGE_BYTES} ORDER BY key"
        )
    })
}

fn clear(table: &str, live: &str, end: &str) -> Ranged {
    ranged(end, |range| {
        format!(
            "WITH doomed AS (SELECT key FROM {table} WHERE {range} AND {live} ORDER BY key \
             LIMIT {DELETE_CHUNK} FOR UPDATE), gone AS (DELETE FROM {table} AS t USING doomed \
             WHERE t.key = doomed.key RETURNING 1) \
             SELECT (SELECT count(*) FROM gone), count(*), max(key) FROM doomed"
        )
    })
}
