//! The statements that run after set-up, as SQL with the types of their parameters.

use larder_core::{Action, Change, Condition};
use tokio_postgres::types::Type;

use crate::config::ValueFormat;

/// The largest value: Postgres stops at 1 GiB for a message and for a field, and the message has more in it.
pub(crate) const MAX_VALUE: u64 = 1_000_000_000;
/// Keys that one statement names.
pub(crate) const MAX_KEYS: usize = 1_000;
/// Rows of one page of a listing.
pub(crate) const PAGE: usize = 500;
/// Bytes of values of one page of a listing, roughly: a page holds at least one entry.
const PAGE_BYTES: usize = 4 << 20;
/// Rows that one statement of `clear` or `purge_expired` deletes.
pub(crate) const DELETE_CHUNK: i64 = 1_000;

/// One statement.
pub(crate) struct Query {
    pub(crate) text: String,
    pub(crate) types: Vec<Type>,
}

pub(crate) fn query(text: impl Into<String>, types: &[Type]) -> Query {
    Query { text: text.into(), types: types.to_vec() }
}

/// The statements for a table of Larder's. Those of one kind have the same parameters, and ignore those that
/// they have no use for. A time to live is in milliseconds, or null.
pub(crate) struct Sql {
    /// These four return entries: key, value, version, deadline and the server's clock. Parameters: the key,
    /// whether to return the value (or a null), and the new time to live.
    pub(crate) read: Query,
    pub(crate) read_and_touch: Query,
    /// With an array of keys.
    pub(crate) read_many: Query,
    pub(crate) read_and_touch_many: Query,
    /// These five change one entry, and return a row if they have. Parameters: key, value, version, time to
    /// live, and the version that the entry must have, null if it may have any.
    pub(crate) upsert: Query,
    pub(crate) insert: Query,
    pub(crate) update: Query,
    pub(crate) delete: Query,
    pub(crate) touch: Query,
    /// Writes entries, whatever is there. Parameters: keys in order, no key twice, values, versions and times
    /// to live.
    pub(crate) upsert_many: Query,
    /// Makes changes of any [kind](Kind). The same parameters, then the kinds and the versions that the entries
    /// must have. Column: each key that was changed.
    pub(crate) change_many: Query,
    /// The same for changes that are all of the kind [`Update`](Kind::Update), as those of sessions are.
    // It takes the server three quarters of the time.
    pub(crate) update_many: Query,
    /// Parameter: how many rows to delete at most. Column: how many were.
    pub(crate) purge: Query,
    /// The keys before a bound.
    pub(crate) bounded: Pages,
    /// The keys without a bound: a condition that says so would keep the server from using the index.
    pub(crate) unbounded: Pages,
}

/// The kinds of changes, as `change_many` numbers them.
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

// The server's clock at the very moment, not at the beginning of the transaction: a statement that
// has waited for another's lock must not see an entry that has expired meanwhile.
const LIVE: &str = "(t.expires_at IS NULL OR t.expires_at > clock_timestamp())";
// The client subtracts: with the server's arithmetic in numeric, 64 tasks read 0.85 as much.
const DEADLINE: &str = "t.expires_at, clock_timestamp()";

impl Sql {
    /// The statements for a range of keys with this bound.
    pub(crate) const fn pages(&self, bound: &Option<String>) -> &Pages {
        if bound.is_some() { &self.bounded } else { &self.unbounded }
    }

    /// The statements for the table with this name, as SQL.
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

        // now(), since an index can be searched with it. The condition stands in both places
        // because a ctid is unique only within one partition of a partitioned table.
        let purge = format!(
            "WITH gone AS (DELETE FROM {table} WHERE expires_at <= now() AND ctid = ANY(ARRAY(SELECT ctid \
             FROM {table} WHERE expires_at <= now() LIMIT $1 FOR UPDATE SKIP LOCKED)) RETURNING 1) \
             SELECT count(*) FROM gone"
        );
        // The size of a jsonb value is only known by writing it out; its stored size will do.
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
            // A row that is there must have expired.
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

/// Locks those of the keys in `$1` whose rows fulfil a condition, in the order of the keys, as batches of
/// writes lock them: no deadlock.
pub(crate) fn in_order(table: &str, condition: &str) -> String {
    format!("SELECT key FROM {table} AS t WHERE key = ANY($1) AND {condition} ORDER BY key FOR UPDATE")
}

/// The parts of `change_many`, in which a row `given` is a change, and `t` is the table.
pub(crate) struct Given<'a> {
    pub(crate) table: &'a str,
    /// The types of the parameters of `upsert_many`.
    pub(crate) entries: &'a [Type],
    /// The type of the versions that entries must have.
    pub(crate) expected: Type,
    pub(crate) insert: &'a str,
    /// What to do if there is a row.
    pub(crate) replace: &'a str,
    /// The same, if the entry must be absent.
    pub(crate) replace_absent: &'a str,
    pub(crate) set: &'a str,
    /// Whether a row is an entry with the expected version.
    pub(crate) unchanged: &'a str,
}

/// All rows are locked.
const HELD: &str = "(SELECT count(*) FROM held) >= 0";

impl Given<'_> {
    /// The changes of this kind and their rows.
    pub(crate) fn rows(&self, kind: Kind) -> String {
        let kind = kind as i16;
        format!("given WHERE kind = {kind} AND {HELD} AND t.key = given.key AND {}", self.unchanged)
    }

    /// One statement, in which a change whose condition does not hold changes nothing. `touched` touches entries.
    ///
    /// First it locks the rows that are there, in the order of the changes, which is that of their keys: batches
    /// deadlock only over rows that are inserted meanwhile, and then the driver repeats the one that the server
    /// undoes. The conditions are checked on the rows as they are then, since each part waits for the
    /// locks, and finds the newest version of a row that has changed since the statement began.
    // The subquery is not pulled up because of its lock, so each change looks its own row up, in this order.
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

    /// The part of [`change_many`](Self::change_many) for updates.
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

    /// The statement that goes on like this once it has the changes, and has locked their rows.
    // For the planner a limit that it does not know yet is one row. So it keeps one plan for batches of all sizes,
    // with a look at the index per change, instead of planning each small batch again: 8 tasks update sessions
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

/// The statements for one page of a listing. Parameters: where the keys begin, whether that key is left
/// out, the number of rows at most, and the bound of the keys.
pub(crate) struct Pages {
    /// Column: key.
    pub(crate) keys: Query,
    /// Columns: key, then those of a record.
    pub(crate) entries: Query,
    /// Deletes the page. Columns: how many rows were deleted, and the last key if the page was full.
    pub(crate) clear: Query,
}

/// Whether the key is one for Larder: not empty, not too long, without control characters, and UTF-8, which a
/// database without an encoding (SQL_ASCII) leaves to be checked byte by byte.
const NAMEABLE: &str = "octet_length(key) BETWEEN 1 AND 512 AND CASE WHEN getdatabaseencoding() = 'UTF8' \
     THEN key COLLATE \"C\" !~ $re$[\\u0001-\\u001f\\u007f-\\u009f]$re$ \
     ELSE key COLLATE \"C\" ~ $re$^([\\x20-\\x7e]|\\xc2[\\xa0-\\xbf]|[\\xc3-\\xdf][\\x80-\\xbf]\
     |\\xe0[\\xa0-\\xbf][\\x80-\\xbf]|[\\xe1-\\xec\\xee\\xef][\\x80-\\xbf]{2}|\\xed[\\x80-\\x9f][\\x80-\\xbf]\
     |\\xf0[\\x90-\\xbf][\\x80-\\xbf]{2}|[\\xf1-\\xf3][\\x80-\\xbf]{3}|\\xf4[\\x80-\\x8f][\\x80-\\xbf]{2})*\\Z$re$ END";

impl Pages {
    /// The statements for the rows `range`, with the columns `record` and a value of the size `size`.
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
        // A row that is there may yet not be deleted, for a trigger or a policy.
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
