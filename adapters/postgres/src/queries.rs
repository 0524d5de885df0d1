//! Every statement that runs after set-up, as SQL with the types of its parameters.

use tokio_postgres::types::Type;

use crate::config::{Layout, ValueFormat};

/// Rows of one page of a listing.
pub(crate) const PAGE: usize = 500;
/// Bytes of values of one page of a listing, roughly: a page holds at least one entry.
const PAGE_BYTES: usize = 4 << 20;
/// Rows that one statement of `clear` or `purge_expired` deletes.
pub(crate) const DELETE_CHUNK: u64 = 1_000;

/// One statement.
#[derive(Clone)]
pub(crate) struct Query {
    pub(crate) text: String,
    pub(crate) types: Vec<Type>,
}

pub(crate) fn query(text: impl Into<String>, types: &[Type]) -> Query {
    Query { text: text.into(), types: types.to_vec() }
}

/// The statements that read one or several entries. Parameters: the key or keys, and whether to read the value
/// (or a null); with a touch the new time to live in milliseconds (or null). Columns: value, version, remaining
/// milliseconds, key.
pub(crate) struct Reads {
    pub(crate) one: Query,
    pub(crate) many: Query,
    pub(crate) touch_one: Query,
    pub(crate) touch_many: Query,
}

/// A change, as one statement per condition. `at` has one parameter more, the version or content expected.
pub(crate) struct Conditional {
    pub(crate) any: Query,
    pub(crate) absent: Query,
    pub(crate) present: Query,
    pub(crate) at: Query,
}

/// A page of a listing. Parameters: the first key, a key to leave out (or null), the number of rows at
/// most, and the end of the range (exclusive); in grammY's layout the prefix instead of the end.
pub(crate) struct Page {
    pub(crate) bounded: Query,
    /// Without the last parameter.
    pub(crate) unbounded: Query,
}

/// The statements for one table. Both layouts have the same parameters; grammY's ignores versions and times
/// to live, and has no use for those statements that are about expiry only.
pub(crate) struct Queries {
    pub(crate) read: Reads,
    /// Parameters: key, value, version, time to live.
    pub(crate) write: Conditional,
    /// Parameters: those of `write` as arrays, with no key twice.
    pub(crate) write_many: Query,
    /// Parameter: the key.
    pub(crate) delete: Conditional,
    /// Parameter: the keys. Column: each key that was there.
    pub(crate) delete_many: Query,
    /// Parameters: the key, the time to live.
    pub(crate) touch: Conditional,
    pub(crate) purge: Query,
    /// Column: key.
    pub(crate) keys: Page,
    /// Columns: as those of [`Reads`].
    pub(crate) entries: Page,
    /// Deletes the page. Columns: how many rows were deleted, how many there were, the last key.
    pub(crate) clear: Page,
}

/// What differs between the layouts.
struct Dialect {
    /// Whether the row is an entry.
    live: &'static str,
    version: &'static str,
    remaining: &'static str,
    /// The column that a condition compares.
    at: (&'static str, Type),
    columns: &'static str,
    /// The new values of the columns, from the parameters of a write.
    row: String,
    /// The same, from the arrays of a batch.
    rows: String,
    set: String,
    replace: &'static str,
    /// What to do about a row that is there where there must be no entry: an expired one is replaced.
    replace_expired: String,
    /// Whether a key is before the end of a range.
    bound: &'static str,
}

// The server's clock at the very moment, not at the beginning of the transaction: a statement that
// has waited for another's lock must not see an entry that has expired meanwhile.
const LIVE: &str = "(t.expires_at IS NULL OR t.expires_at > clock_timestamp())";
const REMAINING: &str = "CASE WHEN isfinite(t.expires_at) THEN \
     greatest(1, ceil(extract(epoch FROM t.expires_at - clock_timestamp()) * 1000))::bigint END";

/// Whether the key is one for Larder: not empty, not too long, without control characters, and UTF-8, which a
/// database without an encoding (SQL_ASCII) leaves to be checked byte by byte.
const NAMEABLE: &str = "octet_length(key) BETWEEN 1 AND 512 AND CASE WHEN getdatabaseencoding() = 'UTF8' \
     THEN key COLLATE \"C\" !~ $re$[\\u0001-\\u001f\\u007f-\\u009f]$re$ \
     ELSE key COLLATE \"C\" ~ $re$^([\\x20-\\x7e]|\\xc2[\\xa0-\\xbf]|[\\xc3-\\xdf][\\x80-\\xbf]\
     |\\xe0[\\xa0-\\xbf][\\x80-\\xbf]|[\\xe1-\\xec\\xee\\xef][\\x80-\\xbf]{2}|\\xed[\\x80-\\x9f][\\x80-\\xbf]\
     |\\xf0[\\x90-\\xbf][\\x80-\\xbf]{2}|[\\xf1-\\xf3][\\x80-\\xbf]{3}|\\xf4[\\x80-\\x8f][\\x80-\\xbf]{2})*\\Z$re$ END";

fn deadline(millis: &str) -> String {
    format!("clock_timestamp() + {millis} * interval '1 millisecond'")
}

fn larder() -> Dialect {
    let until = deadline("$4");
    let replace =
        "UPDATE SET value = EXCLUDED.value, version = EXCLUDED.version, expires_at = EXCLUDED.expires_at";
    Dialect {
        live: LIVE,
        version: "t.version",
        remaining: REMAINING,
        at: ("version", Type::INT8),
        columns: "key, value, version, expires_at",
        row: format!("$1, $2, $3, {until}"),
        rows: format!("key, value, version, {}", deadline("ttl")),
        set: format!("value = $2, version = $3, expires_at = {until}"),
        replace,
        replace_expired: format!("{replace} WHERE t.expires_at <= clock_timestamp()"),
        bound: "key < $4",
    }
}

fn grammy() -> Dialect {
    Dialect {
        live: "true",
        version: "NULL::bigint",
        remaining: "NULL::bigint",
        at: ("value", Type::TEXT),
        columns: "key, value",
        row: "$1, $2".to_owned(),
        rows: "key, value".to_owned(),
        set: "value = $2".to_owned(),
        replace: "UPDATE SET value = EXCLUDED.value",
        replace_expired: "NOTHING".to_owned(),
        // Its keys have the database's collation: only a filter finds a prefix by its bytes.
        bound: "starts_with(key, $4)",
    }
}

impl Queries {
    /// The statements for the table with this name, as SQL.
    pub(crate) fn new(table: &str, layout: Layout, values: ValueFormat) -> Self {
        let dialect = match layout {
            Layout::Larder => larder(),
            Layout::Grammy => grammy(),
        };
        let Dialect { live, columns, row, rows, set, replace, replace_expired, .. } = &dialect;
        let (_, value, values_type) = values.column();
        let entry = [Type::TEXT, value, Type::INT8, Type::INT8];
        let entries = [Type::TEXT_ARRAY, values_type, Type::INT8_ARRAY, Type::INT8_ARRAY];
        let insert = format!("INSERT INTO {table} AS t ({columns}) VALUES ({row}) ON CONFLICT (key) DO");
        let update = conditional(&dialect, &format!("UPDATE {table} AS t SET {set}"), &entry);
        let until = deadline("$2");
        Self {
            read: reads(table, &dialect),
            write: Conditional {
                any: query(format!("{insert} {replace}"), &entry),
                absent: query(format!("{insert} {replace_expired}"), &entry),
                ..update
            },
            write_many: query(
                format!(
                    "INSERT INTO {table} ({columns}) SELECT {rows} \
                     FROM unnest($1, $2, $3, $4) AS given (key, value, version, ttl) \
                     ON CONFLICT (key) DO {replace}"
                ),
                &entries,
            ),
            delete: conditional(&dialect, &format!("DELETE FROM {table} AS t"), &[Type::TEXT]),
            delete_many: query(
                format!("DELETE FROM {table} WHERE key IN ({}) RETURNING key", locked(table, live)),
                &[Type::TEXT_ARRAY],
            ),
            touch: conditional(
                &dialect,
                &format!("UPDATE {table} AS t SET expires_at = {until}"),
                &[Type::TEXT, Type::INT8],
            ),
            // now(), since an index can be searched with it. The condition stands in both places
            // because a ctid is unique only within one partition of a partitioned table.
            purge: query(
                format!(
                    "DELETE FROM {table} WHERE expires_at <= now() AND ctid = ANY(ARRAY(SELECT ctid \
                     FROM {table} WHERE expires_at <= now() LIMIT {DELETE_CHUNK} FOR UPDATE SKIP LOCKED))"
                ),
                &[],
            ),
            keys: page(dialect.bound, |range| {
                format!("SELECT key FROM {table} AS t WHERE {range} AND {live} ORDER BY key LIMIT $3")
            }),
            entries: entries_page(table, &dialect, values),
            // A row that is there may yet not be deleted, for a trigger or a policy.
            clear: page(dialect.bound, |range| {
                format!(
                    "WITH page AS (SELECT key FROM {table} AS t WHERE {range} AND {live} AND {NAMEABLE} \
                     ORDER BY key LIMIT $3 FOR UPDATE), \
                     gone AS (DELETE FROM {table} WHERE key IN (SELECT key FROM page) RETURNING 1) \
                     SELECT (SELECT count(*) FROM gone), count(*), max(key) FROM page"
                )
            }),
        }
    }
}

fn reads(table: &str, dialect: &Dialect) -> Reads {
    let Dialect { live, version, remaining, .. } = dialect;
    let columns = format!("CASE WHEN $2 THEN t.value END, {version}, {remaining}, t.key");
    let select = format!("SELECT {columns} FROM {table} AS t WHERE {live} AND");
    let touch = format!("UPDATE {table} AS t SET expires_at = {} WHERE", deadline("$3"));
    let (one, many) = ([Type::TEXT, Type::BOOL, Type::INT8], [Type::TEXT_ARRAY, Type::BOOL, Type::INT8]);
    Reads {
        one: query(format!("{select} key = $1"), &one[..2]),
        many: query(format!("{select} key = ANY($1)"), &many[..2]),
        touch_one: query(format!("{touch} {live} AND key = $1 RETURNING {columns}"), &one),
        touch_many: query(format!("{touch} key IN ({}) RETURNING {columns}", locked(table, live)), &many),
    }
}

/// A change of a row that is there.
fn conditional(dialect: &Dialect, change: &str, types: &[Type]) -> Conditional {
    let (column, column_type) = &dialect.at;
    let present = format!("{change} WHERE key = $1 AND {}", dialect.live);
    let at = format!("{present} AND {column} = ${}", types.len() + 1);
    let present = query(present, types);
    Conditional {
        any: present.clone(),
        absent: present.clone(),
        present,
        at: query(at, &[types, std::slice::from_ref(column_type)].concat()),
    }
}

/// Rows are locked in the order of their keys, as batches of writes lock them: no deadlock.
fn locked(table: &str, live: &str) -> String {
    format!("SELECT key FROM {table} AS t WHERE key = ANY($1) AND {live} ORDER BY key FOR UPDATE")
}

fn page(bound: &str, text: impl Fn(&str) -> String) -> Page {
    let start = "key >= $1 AND key IS DISTINCT FROM $2";
    let types = [Type::TEXT, Type::TEXT, Type::INT8, Type::TEXT];
    Page {
        bounded: query(text(&format!("{start} AND {bound}")), &types),
        unbounded: query(text(start), &types[..3]),
    }
}

fn entries_page(table: &str, dialect: &Dialect, values: ValueFormat) -> Page {
    let Dialect { live, version, remaining, .. } = dialect;
    // The size of a jsonb value is only known by writing it out; its stored size will do.
    let size = match values {
        ValueFormat::Jsonb => "pg_column_size(value)",
        ValueFormat::Json => "octet_length(value::text)",
        ValueFormat::Bytea | ValueFormat::Text => "octet_length(value)",
    };
    page(dialect.bound, |range| {
        format!(
            "SELECT value, version, remaining, key FROM (SELECT value, {version} AS version, \
             {remaining} AS remaining, key, row_number() OVER so_far AS number, sum({size}) OVER so_far AS bytes \
             FROM (SELECT * FROM {table} AS t WHERE {range} AND {live} ORDER BY key LIMIT $3) AS t \
             WINDOW so_far AS (ORDER BY key ROWS UNBOUNDED PRECEDING)) AS sized \
             WHERE number = 1 OR bytes <= {PAGE_BYTES} ORDER BY key"
        )
    })
}
