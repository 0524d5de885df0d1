//! How entries become documents: their filters, updates and values. No I/O.

use bytes::Bytes;
use larder_core::{
    Action, Applied, Change, Condition, Error, ErrorKind, Expiry, Key, ReadOptions, Record, Result, Version,
    Written, unique,
};
use larder_kit::prefix_end;
use mongodb::{
    bson::{
        Binary, Bson, Document, RawBsonRef, RawDocument, RawDocumentBuf, Timestamp, doc, spec::BinarySubtype,
    },
    options::UpdateModifications,
    results::{DeleteResult, UpdateResult},
};

use crate::{
    config::{Layout, ValueFormat},
    json::{self, Numbers},
};

/// The longest value: MongoDB's 16 MiB for a document, less what stands beside the value.
pub(crate) const MAX_VALUE: usize = 16 * 1024 * 1024 - 1024;
/// The longest value once it is BSON, length and terminator included. Key (512 bytes), version,
/// expiry and the names of all fields take less than what is left.
const MAX_BSON: usize = 16 * 1024 * 1024 - 640;
/// BSON is less than so many times as long as its JSON. The worst are short numbers in a list: `1,`
/// takes a type, an index of up to seven digits with a terminator, and four bytes.
pub(crate) const MAX_GROWTH: usize = 8;

/// How entries become documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Model {
    pub(crate) layout: Layout,
    pub(crate) format: ValueFormat,
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

impl Model {
    /// The field that holds the key.
    pub(crate) const fn key_field(self) -> &'static str {
        match self.layout {
            Layout::Larder => "_id",
            Layout::Grammy => "key",
        }
    }

    /// The document of the entry under `key`, expired or not, if it meets the condition as far as a
    /// filter can tell.
    ///
    /// # Errors
    ///
    /// `Conflict` if no document can meet it.
    fn on(self, key: &Key, condition: &Condition) -> Result<Document> {
        let mut filter = self.keyed(key.as_str());
        let Condition::At(seen) = condition else { return Ok(filter) };
        match (self.layout, seen.as_token(), seen.as_content()) {
            (Layout::Larder, Some(token), _) => drop(filter.insert("version", token.cast_signed())),
            // A document that was made by hand, without a version.
            (Layout::Larder, None, Some(content)) if content.is_empty() => {
                filter.insert("version", doc! { "$exists": false });
            }
            (Layout::Grammy, _, Some(content)) => {
                // Not by way of serde, which would take `{$oid: "..."}` for an ObjectId.
                let value = RawDocument::from_bytes(content)
                    .and_then(|content| content.get("value")?.map(Bson::try_from).transpose());
                let value = value.ok().flatten().ok_or_else(Error::conflict)?;
                // An expression compares the whole value; `{value: x}` would look into arrays. `$cmp`
                // rather than `$eq`: servers that stand in for MongoDB do not all take a NaN within a
                // document for equal to itself, as it does.
                let compared = doc! { "$cmp": ["$value", { "$literal": value }] };
                filter.insert("$expr", doc! { "$eq": [compared, 0] });
            }
            _ => return Err(Error::conflict()),
        }
        Ok(filter)
    }

    /// The filter for entries that have not expired by the server's clock.
    pub(crate) fn live(self, mut filter: Document) -> Document {
        if self.layout == Layout::Larder {
            filter.insert("$expr", is_live());
        }
        filter
    }

    /// The documents whose key is a string that meets `condition`.
    pub(crate) fn keyed(self, condition: impl Into<Bson>) -> Document {
        let mut filter = doc! { self.key_field(): condition.into() };
        if self.layout == Layout::Grammy {
            // An array with such a string in it would match too.
            filter.insert("key.0", doc! { "$exists": false });
        }
        filter
    }

    /// The documents of some keys.
    pub(crate) fn by_keys(self, keys: &[Key]) -> Document {
        let keys: Vec<&str> = keys.iter().map(Key::as_str).collect();
        self.keyed(doc! { "$in": keys })
    }

    /// The documents of all keys that begin with `prefix`; of those after `after`, if given.
    ///
    /// MongoDB compares strings byte by byte (the collection has no collation, the set-up checks
    /// that), so a prefix is a range. The lower bound also leaves out keys that are not strings.
    pub(crate) fn by_prefix(self, prefix: &str, after: Option<&str>) -> Document {
        let mut range = match after.filter(|after| *after >= prefix) {
            Some(after) => doc! { "$gt": after },
            None => doc! { "$gte": prefix },
        };
        if let Some(end) = prefix_end(prefix) {
            range.insert("$lt", end);
        }
        self.keyed(range)
    }

    /// The documents whose key is not a string.
    pub(crate) fn not_a_key(self) -> Document {
        match self.layout {
            // All types that `_id` can have, for the sake of its index.
            Layout::Larder => {
                let types = "number object binData objectId bool date null timestamp minKey maxKey javascript \
                             javascriptWithScope symbol dbPointer";
                doc! { "_id": { "$type": types.split(' ').collect::<Vec<_>>() } }
            }
            Layout::Grammy => doc! { "$expr": { "$ne": [{ "$type": "$key" }, "string"] } },
        }
    }

    /// The stages of a pipeline that find the live documents that match `filter`.
    ///
    /// Two stages, where one filter would do: MongoDB makes one of them and plans it by the key, but
    /// servers that stand in for it take no index for a filter that has an expression in it.
    pub(crate) fn find_live(self, filter: Document) -> Vec<Document> {
        let live = (self.layout == Layout::Larder).then(|| doc! { "$match": { "$expr": is_live() } });
        [doc! { "$match": filter }].into_iter().chain(live).collect()
    }

    /// The stage that adds the time left, and leaves out the value if it is not asked for.
    pub(crate) fn projection(self, options: &ReadOptions) -> Option<Document> {
        let mut fields = doc! {};
        if options.ttl && self.layout == Layout::Larder {
            fields.insert("left", time_left());
        }
        if options.value {
            return (!fields.is_empty()).then(|| doc! { "$set": fields });
        }
        fields.insert(self.key_field(), 1);
        Some(doc! { "$project": fields })
    }

    /// The statement that makes a change. What it did, [`Model::applied`] tells.
    pub(crate) fn statement(self, change: &Change) -> Result<Statement> {
        let Change { key, action, condition, .. } = change;
        let (update, version) = match (action, self.layout) {
            (Action::Put(value, expiry), Layout::Larder) => {
                let token = unique::id64();
                let update = replacement(self.encode(value)?, token, *expiry, condition);
                (Some(update), Some(Version::from_token(token)))
            }
            (Action::Put(value, _), Layout::Grammy) => {
                let value = self.encode(value)?;
                let version = content_version(value.clone())?;
                let operator = if *condition == Condition::Absent { "$setOnInsert" } else { "$set" };
                (Some(doc! { operator: { "value": value } }.into()), Some(version))
            }
            (Action::Delete, _) => (None, None),
            (Action::Touch(expiry), _) => (Some(new_expiry(*expiry)), None),
        };
        let upsert = version.is_some() && matches!(condition, Condition::Any | Condition::Absent);
        let filter = self.on(key, condition)?;
        // An upsert has to match an expired document too, so as to replace it.
        let filter = if upsert { filter } else { self.live(filter) };
        Ok(Statement { filter, update, upsert, version })
    }

    /// What a change has done, by the counts of its statement.
    ///
    /// # Errors
    ///
    /// `Conflict` if its condition did not hold.
    pub(crate) fn applied(
        self,
        change: &Change,
        version: Option<Version>,
        (matched, modified): Counts,
    ) -> Result<Applied> {
        let found = match change.condition {
            // The filter matches a live document too, which is then not modified.
            Condition::Absent => modified > 0,
            _ => matched + modified > 0,
        };
        if !found && change.condition != Condition::Any {
            return Err(Error::conflict());
        }
        Ok(match change.action {
            Action::Put(..) => Applied::Put(version.map(Written::at).unwrap_or_default()),
            Action::Delete => Applied::Deleted(found),
            Action::Touch(_) => Applied::Touched(found),
        })
    }

    /// The value as BSON.
    ///
    /// # Errors
    ///
    /// `InvalidValue` if it has to be JSON and is not; `TooLarge` if its BSON is.
    fn encode(self, value: &Bytes) -> Result<Bson> {
        if self.format == ValueFormat::Binary {
            return Ok(Bson::Binary(Binary { subtype: BinarySubtype::Generic, bytes: value.to_vec() }));
        }
        let bson = json::to_bson(value, self.numbers())?;
        let fits = || {
            let whole = RawDocumentBuf::try_from(&doc! { "": &bson });
            whole.is_ok_and(|whole| whole.as_bytes().len() <= MAX_BSON)
        };
        match bson {
            // The server puts the present time in the place of a field that is an empty timestamp.
            Bson::Timestamp(Timestamp { time: 0, increment: 0 }) => {
                Err(invalid("an empty timestamp cannot be the whole value"))
            }
            // It could not be told from a value of the other format.
            Bson::Binary(_) if self.layout == Layout::Larder => {
                Err(invalid("binary data cannot be the whole value with `values=document`"))
            }
            _ if value.len() > MAX_BSON / MAX_GROWTH && !fits() => Err(Error::new(
                ErrorKind::TooLarge,
                "as BSON the value does not fit into the 16 MiB of a document",
            )),
            _ => Ok(bson),
        }
    }

    /// The entry in a document that was found with these options.
    ///
    /// # Errors
    ///
    /// `Corrupt` if it is not as this adapter writes it.
    pub(crate) fn record(self, document: RawDocumentBuf, options: &ReadOptions) -> Result<Record> {
        // The value stays where the driver received it: a slice, not a copy.
        let bytes = Bytes::from(document.into_bytes());
        let document = RawDocument::from_bytes(&bytes).map_err(malformed)?;
        let mut record = Record::new(Bytes::new());
        if options.value {
            let stored = document.get("value").map_err(malformed)?;
            let stored = stored.ok_or_else(|| corrupt("the document has no field `value`"))?;
            record = Record::at(self.decode(stored, &bytes)?, self.version(document, stored)?);
        }
        if options.ttl {
            record = record.expires(options.touch.map_or_else(|| expiry_of(document), Ok)?);
        }
        Ok(record)
    }

    fn decode(self, stored: RawBsonRef<'_>, bytes: &Bytes) -> Result<Bytes> {
        match (self.format, stored) {
            (ValueFormat::Binary, RawBsonRef::Binary(binary)) if binary.subtype == BinarySubtype::Generic => {
                Ok(bytes.slice_ref(binary.bytes))
            }
            (ValueFormat::Binary, _) => {
                Err(corrupt("the value is not binary data; `values=document` reads BSON values"))
            }
            (ValueFormat::Document, RawBsonRef::Binary(_)) if self.layout == Layout::Larder => {
                Err(corrupt("the value is binary data; `values=binary` reads it"))
            }
            (ValueFormat::Document, stored) => json::to_json(stored, self.numbers()).map(Bytes::from),
        }
    }

    fn version(self, document: &RawDocument, value: RawBsonRef<'_>) -> Result<Version> {
        if self.layout == Layout::Grammy {
            return content_version(Bson::try_from(value).map_err(malformed)?);
        }
        match document.get("version").map_err(malformed)? {
            Some(RawBsonRef::Int64(token)) => Ok(Version::from_token(token.cast_unsigned())),
            None => Ok(Version::from_content(Bytes::new())),
            Some(_) => Err(corrupt("the field `version` is not a 64-bit integer")),
        }
    }

    const fn numbers(self) -> Numbers {
        match self.layout {
            Layout::Larder => Numbers::AsStored,
            Layout::Grammy => Numbers::JavaScript,
        }
    }

    /// The key out of a document, as it is stored.
    pub(crate) fn key_of(self, document: &RawDocument) -> Result<String> {
        document.get_str(self.key_field()).map(str::to_owned).map_err(malformed)
    }
}

/// An update that puts an entry of our own layout in the place of the document. If the entry is to be absent
/// and is not, the document stays as it is, and is not modified.
fn replacement(value: Bson, token: u64, expiry: Expiry, condition: &Condition) -> UpdateModifications {
    // A literal: in an expression a string such as `$x` would be the name of a field.
    let mut entry = doc! { "_id": "$_id", "value": { "$literal": value }, "version": token.cast_signed() };
    entry.extend(expiry.as_millis().map(|millis| ("expires_at".to_owned(), from_now(millis).into())));
    // On an upsert the pipeline starts from `{_id}`: a document without a value is not an entry.
    let exists = doc! { "$and": [{ "$ne": [{ "$type": "$value" }, "missing"] }, is_live()] };
    let replacement: Bson = match condition {
        Condition::Absent => doc! { "$cond": [exists, "$$ROOT", entry] }.into(),
        _ => entry.into(),
    };
    vec![doc! { "$replaceWith": replacement }].into()
}

/// An update that gives an entry a new expiry, and changes nothing else.
pub(crate) fn new_expiry(expiry: Expiry) -> UpdateModifications {
    match expiry.as_millis() {
        Some(millis) => vec![doc! { "$set": { "expires_at": from_now(millis) } }].into(),
        None => doc! { "$unset": { "expires_at": "" } }.into(),
    }
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

/// The version of a value in grammY's layout: the value.
fn content_version(value: Bson) -> Result<Version> {
    let content = RawDocumentBuf::try_from(&doc! { "value": value }).map_err(malformed)?;
    Ok(Version::from_content(Bytes::from(content.into_bytes())))
}

fn from_now(millis: u64) -> Document {
    doc! { "$add": ["$$NOW", millis.cast_signed()] }
}

/// Whether a document has not expired. An `expires_at` that is not a date is ignored, as MongoDB's TTL
/// monitor does.
///
/// The present comes by way of a number: servers that stand in for MongoDB do not all compare a date
/// that is stored with `$$NOW` itself as it does.
fn is_live() -> Document {
    let now = doc! { "$toDate": { "$toLong": "$$NOW" } };
    doc! { "$or": [{ "$gt": ["$expires_at", now] }, { "$not": [expires()] }] }
}

fn expires() -> Document {
    doc! { "$eq": [{ "$type": "$expires_at" }, "date"] }
}

fn invalid(what: &'static str) -> Error {
    Error::new(ErrorKind::InvalidValue, what)
}

fn corrupt(what: &'static str) -> Error {
    Error::new(ErrorKind::Corrupt, what)
}

// The parser's message may show what it stumbled over.
fn malformed<E>(_: E) -> Error {
    corrupt("the document is not well-formed, or its key is not a string")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LARDER: Model = Model { layout: Layout::Larder, format: ValueFormat::Binary };
    const GRAMMY: Model = Model { layout: Layout::Grammy, format: ValueFormat::Document };

    #[test]
    fn a_prefix_is_a_range() {
        assert_eq!(LARDER.by_prefix("", None), doc! { "_id": { "$gte": "" } });
        let no_array = doc! { "$exists": false };
        let range = doc! { "key": { "$gt": "ab", "$lt": "b" }, "key.0": no_array };
        assert_eq!(GRAMMY.by_prefix("a", Some("ab")), range);
        // After a key that sorts before the prefix.
        assert_eq!(LARDER.by_prefix("b", Some("a")), doc! { "_id": { "$gte": "b", "$lt": "c" } });
    }

    #[test]
    fn bson_is_less_than_so_many_times_as_long_as_its_json() {
        for item in ["1", "-0", "\"\"", "[]", "{}", "1e9", "null", "{\"a\":1}"] {
            for model in [GRAMMY, Model { layout: Layout::Larder, format: ValueFormat::Document }] {
                let text = format!("[{}]", vec![item; 200_000].join(","));
                let bson = model.encode(&Bytes::from(text.clone())).unwrap();
                let size = RawDocumentBuf::try_from(&doc! { "": bson }).unwrap().as_bytes().len();
                // The index of an item may have one digit more.
                assert!(size + 200_000 < text.len() * MAX_GROWTH, "{item}");
            }
        }
    }

    #[test]
    fn types_that_json_does_not_have_are_recognized() {
        let types = r#"{"a":{"$oid":"507f1f77bcf86cd799439011"},"b":{"$date":"2020-09-13T12:26:40Z"},
            "c":{"$binary":{"base64":"AP8=","subType":"02"}},"d":{"$symbol":"s"},"e":{"$undefined":true},
            "f":{"$regularExpression":{"pattern":"a+","options":"im"}},"g":{"$timestamp":{"t":1,"i":2}},
            "h":{"$code":"x"},"i":{"$code":"x","$scope":{"y":{"$minKey":1}}},"j":{"$maxKey":1},
            "k":{"$numberDecimal":"1.50"},"l":{"$numberDouble":"NaN"}}"#;
        let value = GRAMMY.encode(&Bytes::from_static(types.as_bytes())).unwrap();
        let Bson::Document(document) = value else { panic!("not a document") };
        assert!(document.values().all(|value| !matches!(value, Bson::Document(_))), "{document}");
    }

    #[test]
    fn whole_values_that_could_not_be_read_back_are_refused() {
        let document = Model { layout: Layout::Larder, format: ValueFormat::Document };
        let empty = br#"{"$timestamp":{"t":0,"i":0}}"#;
        let binary = br#"{"$binary":{"base64":"AP8=","subType":"00"}}"#;
        for (model, text) in [(document, &empty[..]), (GRAMMY, empty), (document, binary)] {
            let error = model.encode(&Bytes::copy_from_slice(text)).map(drop).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidValue);
        }
        let nested = format!("[{}]", std::str::from_utf8(empty).unwrap());
        assert!(GRAMMY.encode(&Bytes::from(nested)).is_ok());
        assert!(matches!(GRAMMY.encode(&Bytes::from_static(binary)).unwrap(), Bson::Binary(_)));
    }

    #[test]
    fn the_limit_leaves_room_for_the_longest_key() {
        let value = LARDER.encode(&Bytes::from(vec![0; MAX_VALUE])).unwrap();
        let document = doc! {
            "_id": "k".repeat(Key::MAX_BYTES), "value": value, "version": 1_i64,
            "expires_at": mongodb::bson::DateTime::MAX,
        };
        let raw = RawDocumentBuf::try_from(&document).unwrap();
        assert!(raw.as_bytes().len() <= 16 * 1024 * 1024);
        // Short numbers grow: each takes an index and four bytes.
        let numbers = format!("[{}1]", "1,".repeat(2_000_000));
        let error = GRAMMY.encode(&Bytes::from(numbers)).map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge);
    }

    #[test]
    fn a_binary_value_is_a_slice_of_what_came_in() {
        let stored = doc! {
            "_id": "k", "version": -1_i64,
            "value": Binary { subtype: BinarySubtype::Generic, bytes: b"\0\xffvalue".to_vec() },
        };
        let record = LARDER.record(RawDocumentBuf::try_from(&stored).unwrap(), &ReadOptions::new()).unwrap();
        assert_eq!(record.value.as_ref(), b"\0\xffvalue");
        assert_eq!(record.version.unwrap().as_token(), Some(u64::MAX));
    }

    #[test]
    fn documents_of_another_shape_are_corrupt() {
        for document in [doc! {}, doc! { "value": "text", "version": 1_i64 }] {
            let raw = RawDocumentBuf::try_from(&document).unwrap();
            assert_eq!(LARDER.record(raw, &ReadOptions::new()).unwrap_err().kind(), ErrorKind::Corrupt);
        }
        let binary = Binary { subtype: BinarySubtype::Generic, bytes: vec![1] };
        for document in [doc! { "value": binary, "version": 1_i64 }, doc! { "value": 1, "version": "x" }] {
            let raw = RawDocumentBuf::try_from(&document).unwrap();
            let model = Model { layout: Layout::Larder, format: ValueFormat::Document };
            assert_eq!(model.record(raw, &ReadOptions::new()).unwrap_err().kind(), ErrorKind::Corrupt);
        }
    }

    #[test]
    fn a_content_version_finds_the_same_content() {
        let key = Key::new("$k").unwrap();
        let value = GRAMMY.encode(&Bytes::from_static(br#"{"$a":[1,"$b"]}"#)).unwrap();
        let version = content_version(value.clone()).unwrap();
        let filter = GRAMMY.on(&key, &Condition::At(version.clone())).unwrap();
        let literal = doc! { "$literal": value };
        let same = doc! { "$eq": [{ "$cmp": ["$value", literal] }, 0] };
        assert_eq!(filter, doc! { "key": "$k", "key.0": { "$exists": false }, "$expr": same });
        for (model, version) in [(GRAMMY, Version::from_token(1)), (LARDER, version)] {
            let error = model.on(&key, &Condition::At(version)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Conflict);
        }
    }
}
