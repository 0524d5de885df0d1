//! The statements after set-up, as SQL with the types of their parameters.

use larder_core::{Action, Change, Condition};
use tokio_postgres::types::Type;

use crate::config::ValueFormat;

/// The maximum size of a value: Postgres limits a message and a field to 1 GiB, and the message contains more.
pub(crate) const MAX_VALUE: u64 = 1_000_000_000;
/// The maximum number of keys in one statement.
pub(crate) const MAX_KEYS: usize = 1_000;
/// The maximum number of rows in one page of a listing.
pub(crate) const PAGE: usize = 500;
/// The maximum size of the values in one page of a listing. A page has at least one entry.
const PAGE_BYTES: usize = 4 << 20;
/// The maximum number of rows that one statement of `clear` or `purge_expired` deletes.
pub(crate) const DELETE_CHUNK: i64 = 1_000;

/// One statement.
pub(crate) struct Query {
    pub(crate) text: String,
    pub(crate) types: Vec<Type>,
}

pub(crate) fn query(text: impl Into<String>, types: &[Type]) -> Query {
    Query { text: text.into(), types: types.to_vec() }
}

/// The statements for a table of Larder's. Those of one kind have the same parameters, and ignore those that they do
/// not need. A time to live is in milliseconds, or null.
pub(crate) struct Sql {
    /// The first four return entries: key, value, version, deadline and the server's clock. Parameters: the key,
    /// whether to return the value (or null), and the new time to live.
    pub(crate) read: Query,
    pub(crate) read_and_touch: Query,
    /// The same with an array of keys.
    pub(crate) read_many: Query,
    pub(crate) read_and_touch_many: Query,
    /// The next five change one entry, and return a row if they did. Parameters: key, value, version, time to live, and
    /// the version that the entry must have (null for any).
    pub(crate) upsert: Query,
    pub(crate) insert: Query,
    pub(crate) update: Query,
    pub(crate) delete: Query,
    pub(crate) touch: Query,
    /// Writes entries without conditions. Parameters: distinct keys in order, values, versions and times to live.
    pub(crate) upsert_many: Query,
    /// Makes changes of any [kind](Kind). Parameters: the same, then the kinds and the versions that the entries must
    /// have. Column: the key of each changed entry.
    pub(crate) change_many: Query,
    /// The same for changes that are all of the kind [`Update`](Kind::Update), as in sessions.
    // Takes the server three quarters of the time.
    pub(crate) update_many: Query,
    /// Parameter: the maximum number of rows to delete. Column: the number of deleted rows.
    pub(crate) purge: Query,
    /// Pages of keys before a bound.
    pub(crate) bounded: Pages,
    /// Pages of keys without a bound. A condition for both cases would prevent the use of the index.
    pub(crate) unbounded: Pages,
}

/// The kinds of changes, numbered as in `change_many`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Upsert,
    Insert,
    Update,
    Delete,
    Touch,
}

impl Kind {
    pub(crate) const fn of(change: &Change) -> Self {
        match (&change.action, &change.condition) {
            (Action::Put(..), Condition::Any) => Self::Upsert,
            (Action::Put(..), Condition::Absent) => Self::Insert,
            (Action::Put(..), _) => Self::Update,
            (Action::Delete, _) => Self::Delete,
            (Action::Touch(_), _) => Self::Touch,
        }
    }
}

// The current time of the server, not that at the start of the transaction: a statement that has waited for a lock must
// not return an entry that has expired in the meantime.
const LIVE: &str = "(t.expires_at IS NULL OR t.expires_at > clock_timestamp())";
// The client subtracts: with numeric arithmetic in the server, the reads of 64 tasks are 0.85 times as fast.
const DEADLINE: &str = "t.expires_at, clock_timestamp()";

impl Sql {
    /// Returns the statements for a range of keys with this bound.
    pub(crate) const fn pages(&self, bound: &Option<String>) -> &Pages {
        if bound.is_some() { &self.bounded } else { &self.unbounded }
    }

    /// Makes the statements for a table, whose name is SQL.
    pub(crate) fn new(table: &str, format: ValueFormat) -> Self {
        let (_, value, values) = format.column();
        let key = format!("key = $1 AND {LIVE}");
        let unchanged = format!("{key} AND ($5 IS NULL OR version = $5)");
        let locked = in_order(table, LIVE);
        let deadline = |millis: &str| format!("clock_timestamp() + {millis} * interval '1 millisecond'");
        let expires_at = deadline("$4");

        let found = format!("t.key, CASE WHEN $2 THEN t.value END, t.version, {DEADLINE}");
        let find = |text: String, keys| query(text, &[keys, Type::BOOL, Type::INT8]);
        let read = |rows: &str| format!("SELECT {found} FROM {table} AS t WHERE {rows}");
        let read_and_touch = |rows: &str| {
            format!("UPDATE {table} AS t SET expires_at = {} WHERE {rows} RETURNING {found}", deadline("$3"))
        };

        let entry = [Type::TEXT, value, Type::INT8, Type::INT8, Type::INT8];
        let change = |text: String| query(format!("{text} RETURNING 1"), &entry);
        let insert = format!("INSERT INTO {table} AS t (key, value, version, expires_at)");
        let replace = "ON CONFLICT (key) DO UPDATE \
             SET value = EXCLUDED.value, version = EXCLUDED.version, expires_at = EXCLUDED.expires_at";
        let upsert = format!("{insert} VALUES ($1, $2, $3, {expires_at}) {replace}");
        let update = format!("UPDATE {table} AS t SET value = $2, version = $3, expires_at = {expires_at}");
        let upsert_many = format!(
            "{insert} SELECT key, value, version, {} \
             FROM unnest($1, $2, $3, $4) AS given (key, value, version, ttl) {replace}",
            deadline("ttl")
        );
        let entries = [Type::TEXT_ARRAY, values, Type::INT8_ARRAY, Type::INT8_ARRAY];
        let given = Given {
            table,
            entries: &entries,
            expected: Type::INT8_ARRAY,
            insert: &format!("{insert} SELECT key, value, version, {}", deadline("ttl")),
            replace,
            replace_absent: &format!("{replace} WHERE NOT {LIVE}"),
            set: &format!("value = given.value, version = given.version, expires_at = {}", deadline("ttl")),
            unchanged: &format!("{LIVE} AND (expected IS NULL OR t.version = expected)"),
        };
        let touched = given.rows(Kind::Touch);
        let touched = format!(
            "UPDATE {table} AS t SET expires_at = {} FROM {touched} RETURNING t.key",
            deadline("ttl")
        );

        // Uses now() because an index can be searched with it. The condition is in both places because a ctid is unique
        // only within one partition of a partitioned table.
        let purge = format!(
            "WITH gone AS (DELETE FROM {table} WHERE expires_at <= now() AND ctid = ANY(ARRAY(SELECT ctid \
             FROM {table} WHERE expires_at <= now() LIMIT $1 FOR UPDATE SKIP LOCKED)) RETURNING 1) \
             SELECT count(*) FROM gone"
        );
        // The exact size of a jsonb value needs its text form; the stored size is close enough.
        let size = match format {
            ValueFormat::Jsonb => "pg_column_size(value)",
            ValueFormat::Json => "octet_length(value::text)",
            ValueFormat::Bytes | ValueFormat::Text => "octet_length(value)",
        };
        let record = format!("value, version, {DEADLINE}");
        Self {
            read: find(read(&key), Type::TEXT),
            read_and_touch: find(read_and_touch(&key), Type::TEXT),
            read_many: find(read(&format!("key = ANY($1) AND {LIVE}")), Type::TEXT_ARRAY),
            read_and_touch_many: find(read_and_touch(&format!("key IN ({locked})")), Type::TEXT_ARRAY),
            // Replaces an existing row only if it has expired.
            insert: change(format!("{upsert} WHERE NOT {LIVE}")),
            upsert: change(upsert),
            update: change(format!("{update} WHERE {unchanged}")),
            delete: change(format!("DELETE FROM {table} AS t WHERE {unchanged}")),
            touch: change(format!("UPDATE {table} AS t SET expires_at = {expires_at} WHERE {unchanged}")),
            upsert_many: query(upsert_many, &entries),
            change_many: given.change_many(&touched),
            update_many: given.update_many(),
            purge: query(purge, &[Type::INT8]),
            bounded: Pages::new(table, &record, size, &format!("key < $4 AND {LIVE}")),
            unbounded: Pages::new(table, &record, size, LIVE),
        }
    }
}

/// Locks the rows of the keys in `$1` that fulfil a condition, in the order of the keys. Batches of writes lock them in
/// the same order, so this prevents deadlocks.
pub(crate) fn in_order(table: &str, condition: &str) -> String {
    format!("SELECT key FROM {table} AS t WHERE key = ANY($1) AND {condition} ORDER BY key FOR UPDATE")
}

/// The parts of `change_many`. There, a row of `given` is a change, and `t` is the table.
pub(crate) struct Given<'a> {
    pub(crate) table: &'a str,
    /// The types of the parameters of `upsert_many`.
    pub(crate) entries: &'a [Type],
    /// The type of the expected versions.
    pub(crate) expected: Type,
    pub(crate) insert: &'a str,
    /// The `ON CONFLICT` clause that replaces an existing row.
    pub(crate) replace: &'a str,
    /// The same for an entry that must be absent.
    pub(crate) replace_absent: &'a str,
    pub(crate) set: &'a str,
    /// The condition for a live row with the expected version.
    pub(crate) unchanged: &'a str,
}

/// A condition that is always true, but waits until all rows are locked.
const HELD: &str = "(SELECT count(*) FROM held) >= 0";

impl Given<'_> {
    /// Returns the `FROM` items and the condition that join the changes of this kind with their rows.
    pub(crate) fn rows(&self, kind: Kind) -> String {
        let kind = kind as i16;
        format!("given WHERE kind = {kind} AND {HELD} AND t.key = given.key AND {}", self.unchanged)
    }

    /// Returns the statement for changes of any kind. A change whose condition does not hold changes nothing. `touched`
    /// is the part that touches entries.
    ///
    /// First the statement locks the existing rows in the order of the changes, which is that of their keys. So batches
    /// can deadlock only over rows that are inserted in the meantime; then the driver repeats the one that the server
    /// rolls back. The conditions are checked after locking, on the newest versions of the rows, because each part
    /// waits for the locks.
    // The lock prevents the planner from pulling up the subquery, so each change looks up its own row, in this order.
    pub(crate) fn change_many(&self, touched: &str) -> Query {
        let Self { table, insert, replace, replace_absent, .. } = self;
        let insert = |kind: Kind, replace: &str| {
            format!("{insert} FROM given WHERE kind = {} AND {HELD} {replace}", kind as i16)
        };
        self.query(&format!(
            ", upserted AS ({} RETURNING t.key), inserted AS ({} RETURNING t.key), updated AS ({}), \
             deleted AS (DELETE FROM {table} AS t USING {} RETURNING t.key), touched AS ({touched}) \
             SELECT key FROM upserted UNION ALL SELECT key FROM inserted UNION ALL SELECT key FROM updated \
             UNION ALL SELECT key FROM deleted UNION ALL SELECT key FROM touched",
            insert(Kind::Upsert, replace),
            insert(Kind::Insert, replace_absent),
            self.update(),
            self.rows(Kind::Delete),
        ))
    }

    /// Returns the statement for updates only.
    pub(crate) fn update_many(&self) -> Query {
        self.query(&self.update())
    }

    fn update(&self) -> String {
        format!(
            "UPDATE {} AS t SET {} FROM {} RETURNING t.key",
            self.table,
            self.set,
            self.rows(Kind::Update)
        )
    }

    /// Returns a statement that reads the changes, locks their rows, and continues with `rest`.
    // The planner estimates one row for a limit that it does not know. So it keeps one plan for batches of all sizes,
    // with an index lookup per change, instead of planning each small batch again. This makes session updates of 8
    // tasks
    // 1.4 times as fast.
    fn query(&self, rest: &str) -> Query {
        let text = format!(
            "WITH given AS MATERIALIZED (SELECT * FROM unnest($1, $2, $3, $4, $5, $6) \
             AS given (key, value, version, ttl, kind, expected) LIMIT cardinality($1)), \
             held AS MATERIALIZED (SELECT FROM given, \
             LATERAL (SELECT FROM {} AS t WHERE t.key = given.key FOR UPDATE) AS t) {rest}",
            self.table
        );
        let types = self.entries.iter().cloned().chain([Type::INT2_ARRAY, self.expected.clone()]);
        Query { text, types: types.collect() }
    }
}

/// The statements for one page of a listing. Parameters: the first key, whether that key is excluded, the maximum
/// number of rows, and the bound of the keys.
pub(crate) struct Pages {
    /// Column: key.
    pub(crate) keys: Query,
    /// Columns: key, then those of a record.
    pub(crate) entries: Query,
    /// Deletes the page. Columns: the number of deleted rows, and the last key if the page was full.
    pub(crate) clear: Query,
}

/// The condition for a key that is valid in Larder: not empty, not too long, without control characters, and UTF-8. A
/// database without an encoding (SQL_ASCII) does not check UTF-8, so this checks it byte by byte.
const NAMEABLE: &str = "octet_length(key) BETWEEN 1 AND 512 AND CASE WHEN getdatabaseencoding() = 'UTF8' \
     THEN key COLLATE \"C\" !~ $re$[\\u0001-\\u001f\\u007f-\\u009f]$re$ \
     ELSE key COLLATE \"C\" ~ $re$^([\\x20-\\x7e]|\\xc2[\\xa0-\\xbf]|[\\xc3-\\xdf][\\x80-\\xbf]\
     |\\xe0[\\xa0-\\xbf][\\x80-\\xbf]|[\\xe1-\\xec\\xee\\xef][\\x80-\\xbf]{2}|\\xed[\\x80-\\x9f][\\x80-\\xbf]\
     |\\xf0[\\x90-\\xbf][\\x80-\\xbf]{2}|[\\xf1-\\xf3][\\x80-\\xbf]{3}|\\xf4[\\x80-\\x8f][\\x80-\\xbf]{2})*\\Z$re$ END";

impl Pages {
    /// Makes the statements for the rows in `range`, with the columns `record` and a value of the size `size`.
    pub(crate) fn new(table: &str, record: &str, size: &str, range: &str) -> Self {
        let page = |columns: &str, range: &str| {
            format!(
                "SELECT {columns} FROM {table} AS t \
                 WHERE key >= $1 AND NOT ($2 AND key = $1) AND {range} ORDER BY key LIMIT $3"
            )
        };
        let entries = format!(
            "SELECT * FROM (SELECT key, {record}, row_number() OVER so_far AS number, sum({size}) OVER so_far AS bytes \
             FROM ({}) AS t WINDOW so_far AS (ORDER BY key ROWS UNBOUNDED PRECEDING)) AS sized \
             WHERE number = 1 OR bytes <= {PAGE_BYTES} ORDER BY key",
            page("*", range)
        );
        // A trigger or a policy may prevent the deletion of a row.
        let clear = format!(
            "WITH page AS ({} FOR UPDATE), \
             gone AS (DELETE FROM {table} WHERE key IN (SELECT key FROM page) RETURNING 1) \
             SELECT (SELECT count(*) FROM gone), CASE WHEN count(*) = $3 THEN max(key) END FROM page",
            page("key", &format!("{range} AND {NAMEABLE}"))
        );
        let types = [Type::TEXT, Type::BOOL, Type::INT8, Type::TEXT];
        Self {
            keys: query(page("key", range), &types),
            entries: query(entries, &types),
            clear: query(clear, &types),
        }
    }
}
