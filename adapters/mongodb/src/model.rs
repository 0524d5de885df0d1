//! Converts entries to documents: the parts that all layouts share. No I/O.

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

/// A layout, which converts entries to documents.
pub(crate) trait Model: Copy + Send + Sync + 'static {
    /// The field of the key.
    const KEY: &'static str;

    /// Returns the capabilities of the storage.
    fn info(self) -> Info;

    /// Returns the filter for documents whose key is a string that meets `condition`.
    fn keyed(condition: impl Into<Bson>) -> Document;

    /// Returns the filter for documents whose key is not a string.
    fn not_a_key() -> Document;

    /// Returns the expression for a document that has not expired; `None` if documents do not expire.
    fn is_live() -> Option<Document> {
        None
    }

    /// Returns the part of a filter for documents with this version.
    ///
    /// # Errors
    ///
    /// `Conflict` if no document can have this version.
    fn at(version: &Version) -> Result<Document>;

    /// Returns the update that stores a value, and the new version of the entry.
    ///
    /// # Errors
    ///
    /// `InvalidValue` or `TooLarge` if a document cannot contain the value.
    fn put(
        self,
        value: &Bytes,
        expiry: Expiry,
        condition: &Condition,
    ) -> Result<(UpdateModifications, Version)>;

    /// Returns the value and version of the entry in `document`, whose field `value` is `stored`. Both are parts of
    /// `bytes`.
    ///
    /// # Errors
    ///
    /// `Corrupt` if they were not written by this adapter.
    fn record(self, document: &RawDocument, stored: RawBsonRef<'_>, bytes: &Bytes) -> Result<Record>;

    /// Checks the keys on a page of a listing. `more` is whether another page follows.
    fn check_page(_names: &mut Vec<Result<String>>, _more: bool) {}

    /// Restricts a filter to entries that have not expired by the server's clock.
    fn live(mut filter: Document) -> Document {
        filter.extend(Self::is_live().map(|live| ("$expr".to_owned(), live.into())));
        filter
    }

    /// Returns the stages of a pipeline that find the live documents that match `filter`.
    ///
    /// These are two stages, although one filter would be enough: MongoDB combines them and uses the index of the key,
    /// but some stand-ins use no index for a filter with an expression.
    fn find_live(filter: Document) -> Vec<Document> {
        let live = Self::is_live().map(|live| doc! { "$match": { "$expr": live } });
        iter::once(doc! { "$match": filter }).chain(live).collect()
    }

    /// Returns the filter for the documents of these keys.
    fn by_keys(keys: &[Key]) -> Document {
        let keys: Vec<&str> = keys.iter().map(Key::as_str).collect();
        Self::keyed(doc! { "$in": keys })
    }

    /// Returns the filter for keys that begin with `prefix`, and come after `after` if that is given.
    ///
    /// MongoDB compares strings by bytes (set-up checks that the collection has no collation), so a prefix is a range.
    /// The lower bound also excludes keys that are not strings.
    fn by_prefix(prefix: &str, after: Option<&str>) -> Document {
        let mut range = match after.filter(|after| *after >= prefix) {
            Some(after) => doc! { "$gt": after },
            None => doc! { "$gte": prefix },
        };
        range.extend(prefix_end(prefix).map(|end| ("$lt".to_owned(), end.into())));
        Self::keyed(range)
    }

    /// Returns the stage that adds the remaining time, and excludes the value if it is not requested.
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

    /// Returns the statement that makes a change. [`applied`] evaluates its result.
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
        // An upsert must also match an expired document, to replace it.
        let filter = if upsert { filter } else { Self::live(filter) };
        Ok(Statement { filter, update, upsert, version })
    }

    /// Returns the entry in a document that was found with these options.
    ///
    /// # Errors
    ///
    /// `Corrupt` if it was not written by this adapter.
    fn entry(self, document: RawDocumentBuf, options: &ReadOptions) -> Result<Record> {
        // The value is a slice of the buffer that the driver received, without a copy.
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

    /// Returns the key of a document, as it is stored.
    fn key_of(document: &RawDocument) -> Result<String> {
        document.get_str(Self::KEY).map(str::to_owned).map_err(malformed)
    }
}

/// Returns the capabilities that all layouts share.
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
    /// The new version of the entry.
    pub(crate) version: Option<Version>,
}

/// The numbers of documents that a statement matched, and that it modified or inserted.
pub(crate) type Counts = (u64, u64);

pub(crate) fn updated(done: &UpdateResult) -> Counts {
    (done.matched_count, done.modified_count + u64::from(done.upserted_id.is_some()))
}

pub(crate) fn deleted(done: &DeleteResult) -> Counts {
    (done.deleted_count, 0)
}

/// Returns the result of a change from the counts of its statement.
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
        // The filter also matches a live document, which is then not modified.
        Condition::Absent => modified > 0,
        _ => matched + modified > 0,
    };
    change.applied(found, version)
}

/// Returns an update that sets the expiry of an entry, and changes nothing else.
pub(crate) fn new_expiry(expiry: Expiry) -> UpdateModifications {
    match expiry.as_millis() {
        Some(millis) => vec![doc! { "$set": { "expires_at": from_now(millis) } }].into(),
        None => doc! { "$unset": { "expires_at": "" } }.into(),
    }
}

pub(crate) fn from_now(millis: u64) -> Document {
    doc! { "$add": ["$$NOW", millis.cast_signed()] }
}

/// Returns the expression for a document with an expiry. An `expires_at` that is not a date is ignored, as MongoDB's
/// TTL monitor does.
pub(crate) fn expires() -> Document {
    doc! { "$eq": [{ "$type": "$expires_at" }, "date"] }
}

/// Returns the expression for the remaining milliseconds of an entry.
fn time_left() -> Document {
    let left = doc! { "$subtract": [{ "$toLong": "$expires_at" }, { "$toLong": "$$NOW" }] };
    doc! { "$cond": [expires(), left, null] }
}

/// Returns the expiry that [`time_left`] computed.
fn expiry_of(document: &RawDocument) -> Result<Expiry> {
    let left = document.get("left").map_err(malformed)?;
    let left = left.and_then(|left| left.as_i64().or_else(|| left.as_i32().map(i64::from)));
    Ok(left.map_or(Expiry::Never, |left| Expiry::after_millis(u64::try_from(left).unwrap_or(0))))
}

pub(crate) fn corrupt(message: &'static str) -> Error {
    Error::new(ErrorKind::Corrupt, message)
}

// The parser's message is dropped, because it may contain the invalid data.
pub(crate) fn malformed<E>(_: E) -> Error {
    corrupt("the document is not well-formed, or its key is not a string")
}
