//! How entries become documents: what all layouts share. No I/O.

use std::iter;

use bytes::Bytes;
use larder_core::{
    Action, Applied, Change, Condition, Error, ErrorKind, Expiry, Info, Key, Purge, ReadOptions, Record,
    Result, Version,
};
use larder_kit::{Configure as _, prefix_end};
use mongodb::{
    bson::{Bson, Document, RawBsonRef, RawDocument, RawDocumentBuf, doc},
    options::UpdateModifications,
    results::{DeleteResult, UpdateResult},
};

use crate::{config::Config, value::MAX_VALUE};

/// How a layout makes documents of entries.
pub(crate) trait Model: Copy + Send + Sync + 'static {
    /// The field that holds the key.
    const KEY: &'static str;

    /// What the storage does natively.
    fn info(self) -> Info;

    /// The documents whose key is a string that meets `condition`.
    fn keyed(condition: impl Into<Bson>) -> Document;

    /// The documents whose key is not a string.
    fn not_a_key() -> Document;

    /// Whether a document has not expired, as an expression; `None` if documents do not expire.
    fn is_live() -> Option<Document> {
        None
    }

    /// What a filter says of a document with this version.
    ///
    /// # Errors
    ///
    /// `Conflict` if no document can have it.
    fn at(version: &Version) -> Result<Document>;

    /// The update that stores a value, and the version that the entry then has.
    ///
    /// # Errors
    ///
    /// `InvalidValue` or `TooLarge` if a document cannot hold the value.
    fn put(
        self,
        value: &Bytes,
        expiry: Expiry,
        condition: &Condition,
    ) -> Result<(UpdateModifications, Version)>;

    /// The value and version of the entry in `document`, whose field `value` is `stored`. They are a part of
    /// `bytes`.
    ///
    /// # Errors
    ///
    /// `Corrupt` if they are not as this adapter writes them.
    fn record(self, document: &RawDocument, stored: RawBsonRef<'_>, bytes: &Bytes) -> Result<Record>;

    /// Looks through the keys on a page of a listing, which more pages follow or not.
    fn check_page(_names: &mut Vec<Result<String>>, _more: bool) {}

    /// The filter for entries that have not expired by the server's clock.
    fn live(mut filter: Document) -> Document {
        filter.extend(Self::is_live().map(|live| ("$expr".to_owned(), live.into())));
        filter
    }

    /// The stages of a pipeline that find the live documents that match `filter`.
    ///
    /// Two stages, where one filter would do: MongoDB makes one of them and plans it by the key, but
    /// servers that stand in for it take no index for a filter that has an expression in it.
    fn find_live(filter: Document) -> Vec<Document> {
        let live = Self::is_live().map(|live| doc! { "$match": { "$expr": live } });
        iter::once(doc! { "$match": filter }).chain(live).collect()
    }

    /// The documents of some keys.
    fn by_keys(keys: &[Key]) -> Document {
        let keys: Vec<&str> = keys.iter().map(Key::as_str).collect();
        Self::keyed(doc! { "$in": keys })
    }

    /// The documents of all keys that begin with `prefix`; of those after `after`, if given.
    ///
    /// MongoDB compares strings byte by byte (the collection has no collation, the set-up checks
    /// that), so a prefix is a range. The lower bound also leaves out keys that are not strings.
    fn by_prefix(prefix: &str, after: Option<&str>) -> Document {
        let mut range = match after.filter(|after| *after >= prefix) {
            Some(after) => doc! { "$gt": after },
            None => doc! { "$gte": prefix },
        };
        range.extend(prefix_end(prefix).map(|end| ("$lt".to_owned(), end.into())));
        Self::keyed(range)
    }

    /// The stage that adds the time left, and leaves out the value if it is not asked for.
    fn projection(options: &ReadOptions) -> Option<Document> {
        let expires = options.ttl && Self::is_live().is_some();
        let mut fields = if expires {
            doc! { "left": time_left() }
        } else {
            doc! {}
        };
        if options.value {
            return expires.then(|| doc! { "$set": fields });
        }
        fields.insert(Self::KEY, 1);
        Some(doc! { "$project": fields })
    }

    /// The statement that makes a change. What it did, [`applied`] tells.
    fn statement(self, change: &Change) -> Result<Statement> {
        let Change { key, action, condition, .. } = change;
        let (update, version) = match action {
            Action::Put(value, expiry) => {
                let (update, version) = self.put(value, *expiry, condition)?;
                (Some(update), Some(version))
            }
            Action::Delete => (None, None),
            Action::Touch(expiry) => (Some(new_expiry(*expiry)), None),
        };
        let mut filter = Self::keyed(key.as_str());
        if let Condition::At(version) = condition {
            filter.extend(Self::at(version)?);
        }
        let upsert = version.is_some() && matches!(condition, Condition::Any | Condition::Absent);
        // An upsert has to match an expired document too, so as to replace it.
        let filter = if upsert { filter } else { Self::live(filter) };
        Ok(Statement { filter, update, upsert, version })
    }

    /// The entry in a document that was found with these options.
    ///
    /// # Errors
    ///
    /// `Corrupt` if it is not as this adapter writes it.
    fn entry(self, document: RawDocumentBuf, options: &ReadOptions) -> Result<Record> {
        // The value stays where the driver received it: a slice, not a copy.
        let bytes = Bytes::from(document.into_bytes());
        let document = RawDocument::from_bytes(&bytes).map_err(malformed)?;
        let mut record = Record::new(Bytes::new());
        if options.value {
            let stored = document.get("value").map_err(malformed)?;
            let stored = stored.ok_or_else(|| corrupt("the document has no field `value`"))?;
            record = self.record(document, stored, &bytes)?;
        }
        if options.ttl {
            record = record.expires(options.touch.map_or_else(|| expiry_of(document), Ok)?);
        }
        Ok(record)
    }

    /// The key out of a document, as it is stored.
    fn key_of(document: &RawDocument) -> Result<String> {
        document.get_str(Self::KEY).map(str::to_owned).map_err(malformed)
    }
}

/// What storages of all layouts do natively.
pub(crate) fn info() -> Info {
    Info::minimal(Config::ADAPTER)
        .with_ordered_listing()
        .with_persistence()
        .with_sharing()
        .with_purge(Purge::Store)
        .with_max_value(MAX_VALUE as u64)
}

/// A change, as one statement.
pub(crate) struct Statement {
    pub(crate) filter: Document,
    /// `None` deletes the document.
    pub(crate) update: Option<UpdateModifications>,
    pub(crate) upsert: bool,
    /// The version of the entry once it is written.
    pub(crate) version: Option<Version>,
}

/// How many documents a statement has found, and how many it has modified or inserted.
pub(crate) type Counts = (u64, u64);

pub(crate) fn updated(done: &UpdateResult) -> Counts {
    (done.matched_count, done.modified_count + u64::from(done.upserted_id.is_some()))
}

pub(crate) fn deleted(done: &DeleteResult) -> Counts {
    (done.deleted_count, 0)
}

/// What a change has done, by the counts of its statement.
///
/// # Errors
///
/// `Conflict` if its condition did not hold.
pub(crate) fn applied(
    change: &Change,
    version: Option<Version>,
    (matched, modified): Counts,
) -> Result<Applied> {
    let found = match change.condition {
        // The filter matches a live document too, which is then not modified.
        Condition::Absent => modified > 0,
        _ => matched + modified > 0,
    };
    change.applied(found, version)
}

/// An update that gives an entry a new expiry, and changes nothing else.
pub(crate) fn new_expiry(expiry: Expiry) -> UpdateModifications {
    match expiry.as_millis() {
        Some(millis) => vec![doc! { "$set": { "expires_at": from_now(millis) } }].into(),
        None => doc! { "$unset": { "expires_at": "" } }.into(),
    }
}

pub(crate) fn from_now(millis: u64) -> Document {
    doc! { "$add": ["$$NOW", millis.cast_signed()] }
}

/// Whether a document has an expiry. An `expires_at` that is not a date is ignored, as MongoDB's TTL monitor
/// does.
pub(crate) fn expires() -> Document {
    doc! { "$eq": [{ "$type": "$expires_at" }, "date"] }
}

/// The milliseconds that an entry has left.
fn time_left() -> Document {
    let left = doc! { "$subtract": [{ "$toLong": "$expires_at" }, { "$toLong": "$$NOW" }] };
    doc! { "$cond": [expires(), left, null] }
}

/// The expiry that [`time_left`] found.
fn expiry_of(document: &RawDocument) -> Result<Expiry> {
    let left = document.get("left").map_err(malformed)?;
    let left = left.and_then(|left| left.as_i64().or_else(|| left.as_i32().map(i64::from)));
    Ok(left.map_or(Expiry::Never, |left| Expiry::after_millis(u64::try_from(left).unwrap_or(0))))
}

pub(crate) fn corrupt(what: &'static str) -> Error {
    Error::new(ErrorKind::Corrupt, what)
}

// The parser's message may show what it stumbled over.
pub(crate) fn malformed<E>(_: E) -> Error {
    corrupt("the document is not well-formed, or its key is not a string")
}
