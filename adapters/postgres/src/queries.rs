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

/// The statements that read entries. Parameters: the key or keys, and whether to read the value (or a null).
/// Columns: value, version, remaining milliseconds, key.
pub(crate) struct Read {
    pub(crate) plain: Query,
    /// One parameter more: the new time to live in milliseconds (or null).
    pub(crate) touching: Query,
}

/// A change, as one statement per condition. `at` has one parameter more, the version or content expected.
pub(crate) struct Conditional {
    pub(crate) any: Query,
    pub(crate) absent: Query,
    pub(crate) present: Query,
    pub(crate) at: Query,
}

/// A page of a listing. Parameters: where the keys begin, whether that key is left out, the number of rows at
/// most, and the end of the range (exclusive) or null; in grammY's layout the prefix instead of the end.
pub(crate) struct Page {
    bounded: Query,
    /// Ignores the last parameter.
    unbounded: Query,
}

impl Page {
    pub(crate) const fn to(&self, bound: &Option<String>) -> &Query {
        if bound.is_some() { &self.bounded } else { &self.unbounded }
    }
}

/// The statements for one table. Both layouts have the same parameters; grammY's ignores versions and times
/// to live, and has no use for those statements that are about expiry only.
pub(crate) struct Queries {
    pub(crate) read: Read,
    pub(crate) read_many: Read,
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
    /// Absent in grammY's layout.
    pub(crate) purge: Option<Query>,
    /// Column: key.
    pub(crate) keys: Page,
    /// Columns: as those of [`Read`].
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

fn dialect(layout: Layout) -> Dialect {
    match layout {
        Layout::Larder => Dialect {
            live: LIVE,
            version: "t.version",
            remaining: REMAINING,
            at: ("version", Type::INT8),
            columns: "key, value, version, expires_at",
            row: format!("$1, $2, $3, {}", deadline("$4")),
            rows: format!("key, value, version, {}", deadline("ttl")),
            set: format!("value = $2, version = $3, expires_at = {}", deadline("$4")),
            replace: "UPDATE SET value = EXCLUDED.value, version = EXCLUDED.version, expires_at = EXCLUDED.expires_at",
            bound: "key < $4",
        },
        Layout::Grammy => Dialect {
            live: "true",
            version: "NULL::bigint",
            remaining: "NULL::bigint",
            at: ("value", Type::TEXT),
            columns: "key, value",
            row: "$1, $2".to_owned(),
            rows: "key, value".to_owned(),
            set: "value = $2".to_owned(),
            replace: "UPDATE SET value = EXCLUDED.value",
            // Its keys have the database's collation: only a filter finds a prefix by its bytes.
            bound: "starts_with(key, $4)",
        },
    }
}

impl Queries {
    /// The statements for the table with this name, as SQL.
    pub(crate) fn new(table: &str, layout: Layout, values: ValueFormat) -> Self {
        let dialect = dialect(layout);
        let Dialect { live, version, remaining, columns, row, rows, set, replace, .. } = &dialect;
        let (_, value, values_type) = values.column();
        let entry = [Type::TEXT, value, Type::INT8, Type::INT8];
        let entries = [Type::TEXT_ARRAY, values_type, Type::INT8_ARRAY, Type::INT8_ARRAY];
        let insert = format!("INSERT INTO {table} AS t ({columns})");
        let replace = format!("ON CONFLICT (key) DO {replace}");
        let write = format!("{insert} VALUES ({row}) {replace}");
        let given = "unnest($1, $2, $3, $4) AS given (key, value, version, ttl)";
        let update = conditional(&dialect, &format!("UPDATE {table} AS t SET {set}"), &entry);
        // Rows are locked in the order of their keys, as batches of writes lock them: no deadlock.
        let locked =
            format!("SELECT key FROM {table} AS t WHERE key = ANY($1) AND {live} ORDER BY key FOR UPDATE");
        let found = format!("CASE WHEN $2 THEN t.value END, {version}, {remaining}, t.key");
        let select = format!("SELECT {found} FROM {table} AS t WHERE {live} AND");
        // now(), since an index can be searched with it. The condition stands in both places
        // because a ctid is unique only within one partition of a partitioned table.
        let purge = format!(
            "DELETE FROM {table} WHERE expires_at <= now() AND ctid = ANY(ARRAY(SELECT ctid \
             FROM {table} WHERE expires_at <= now() LIMIT {DELETE_CHUNK} FOR UPDATE SKIP LOCKED))"
        );
        // The size of a jsonb value is only known by writing it out; its stored size will do.
        let size = match values {
            ValueFormat::Jsonb => "pg_column_size(value)",
            ValueFormat::Json => "octet_length(value::text)",
            ValueFormat::Bytea | ValueFormat::Text => "octet_length(value)",
        };
        let touch = |until: &str| format!("UPDATE {table} AS t SET expires_at = {}", deadline(until));
        let touching = |rows: &str| format!("{} WHERE {rows} RETURNING {found}", touch("$3"));
        Self {
            read: read(format!("{select} key = $1"), touching(&format!("{live} AND key = $1")), Type::TEXT),
            read_many: read(
                format!("{select} key = ANY($1)"),
                touching(&format!("key IN ({locked})")),
                Type::TEXT_ARRAY,
            ),
            write: Conditional {
                any: query(&write, &entry),
                // A row that is there must have expired.
                absent: query(format!("{write} WHERE NOT {live}"), &entry),
                ..update
            },
            write_many: query(format!("{insert} SELECT {rows} FROM {given} {replace}"), &entries),
            delete: conditional(&dialect, &format!("DELETE FROM {table} AS t"), &[Type::TEXT]),
            delete_many: query(
                format!("DELETE FROM {table} WHERE key IN ({locked}) RETURNING key"),
                &[Type::TEXT_ARRAY],
            ),
            touch: conditional(&dialect, &touch("$2"), &[Type::TEXT, Type::INT8]),
            purge: (layout == Layout::Larder).then(|| query(purge, &[])),
            keys: page(dialect.bound, |range| {
                format!("SELECT key FROM {table} AS t WHERE {range} AND {live} ORDER BY key LIMIT $3")
            }),
            entries: page(dialect.bound, |range| {
                format!(
                    "SELECT value, version, remaining, key FROM (SELECT value, {version} AS version, \
                     {remaining} AS remaining, key, row_number() OVER so_far AS number, \
                     sum({size}) OVER so_far AS bytes \
                     FROM (SELECT * FROM {table} AS t WHERE {range} AND {live} ORDER BY key LIMIT $3) AS t \
                     WINDOW so_far AS (ORDER BY key ROWS UNBOUNDED PRECEDING)) AS sized \
                     WHERE number = 1 OR bytes <= {PAGE_BYTES} ORDER BY key"
                )
            }),
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

fn read(plain: String, touching: String, keys: Type) -> Read {
    Read {
        plain: query(plain, &[keys.clone(), Type::BOOL]),
        touching: query(touching, &[keys, Type::BOOL, Type::INT8]),
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

fn page(bound: &str, text: impl Fn(&str) -> String) -> Page {
    let start = "key >= $1 AND NOT ($2 AND key = $1)";
    let types = [Type::TEXT, Type::BOOL, Type::INT8, Type::TEXT];
    Page {
        bounded: query(text(&format!("{start} AND {bound}")), &types),
        unbounded: query(text(start), &types),
    }
}
