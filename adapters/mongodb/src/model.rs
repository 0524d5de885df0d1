//! What is stored, and the filters and updates that speak of it. No I/O.

use bytes::Bytes;
use larder_core::{Error, ErrorKind, Key, Record, Result, Version, Write};
use mongodb::bson::{
    Binary, Bson, Document, RawBsonRef, RawDocument, RawDocumentBuf, Timestamp, doc, spec::BinarySubtype,
};

use crate::{
    Form, Layout,
    json::{self, Numbers},
};

/// The longest value: MongoDB's 16 MiB for a document, less what stands beside the value.
pub(crate) const MAX_VALUE: usize = 16 * 1024 * 1024 - 1024;
/// The longest value once it is BSON, length and terminator included. Key (512 bytes), version,
/// expiry and the names of all fields take less than what is left.
const MAX_BSON: usize = 16 * 1024 * 1024 - 640;

/// How entries become documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Model {
    pub(crate) layout: Layout,
    pub(crate) form: Form,
}

/// A value on its way into a document.
#[derive(Clone)]
pub(crate) struct Value {
    pub(crate) bson: Bson,
    /// Its size within the document, in bytes.
    pub(crate) size: usize,
}

impl Model {
    /// The field that holds the key.
    pub(crate) const fn key_field(self) -> &'static str {
        match self.layout {
            Layout::Larder => "_id",
            Layout::Grammy => "key",
        }
    }

    /// The document of one key, expired or not.
    pub(crate) fn by_key(self, key: &Key) -> Document {
        doc! { self.key_field(): key.as_str() }
    }

    /// The documents of some keys.
    pub(crate) fn by_keys<'a, K: AsRef<str> + 'a>(self, keys: impl Iterator<Item = &'a K>) -> Document {
        let keys: Vec<&str> = keys.map(AsRef::as_ref).collect();
        doc! { self.key_field(): { "$in": keys } }
    }

    /// The documents of all keys that begin with `prefix`; of those beyond `after`, if given.
    ///
    /// MongoDB compares strings byte by byte (the collection has no collation, set-up sees to
    /// that), so a prefix is a range. The lower bound also leaves out keys that are not strings.
    pub(crate) fn by_prefix(self, prefix: &str, after: Option<&str>) -> Document {
        let mut range = match after {
            Some(after) => doc! { "$gt": after },
            None => doc! { "$gte": prefix },
        };
        if let Some(end) = end_of(prefix) {
            range.insert("$lt", end);
        }
        doc! { self.key_field(): range }
    }

    /// The documents whose key is not a string.
    pub(crate) fn not_a_key(self) -> Document {
        match self.layout {
            // All types that `_id` can have, for the sake of its index.
            Layout::Larder => {
                let types = [
                    "number",
                    "object",
                    "binData",
                    "objectId",
                    "bool",
                    "date",
                    "null",
                    "timestamp",
                    "minKey",
                    "maxKey",
                    "javascript",
                    "javascriptWithScope",
                    "symbol",
                    "dbPointer",
                ];
                doc! { "_id": { "$type": types.as_slice() } }
            }
            Layout::Grammy => doc! { "$expr": { "$ne": [{ "$type": "$key" }, "string"] } },
        }
    }

    /// The stages of a pipeline that finds what matches `filter` and has not expired by the server's
    /// clock.
    ///
    /// Two stages, where one filter would say the same: MongoDB makes one of them and plans it by the
    /// key, but servers that stand in for it take no index for a filter that has an expression in it.
    pub(crate) fn find_live(self, filter: Document) -> Vec<Document> {
        let mut stages = vec![doc! { "$match": filter }];
        if self.layout == Layout::Larder {
            stages.push(doc! { "$match": { "$expr": is_live() } });
        }
        stages
    }

    /// The same filter for entries that have not expired by the server's clock, for what changes them:
    /// there a filter is all there is.
    pub(crate) fn live(self, mut filter: Document) -> Document {
        if self.layout == Layout::Larder {
            filter.insert("$expr", is_live());
        }
        filter
    }

    /// The filter for the entry under `key` at `version`, expired or not; `None` if nothing can match.
    pub(crate) fn at(self, key: &Key, version: &Version) -> Option<Document> {
        let mut filter = self.by_key(key);
        match (self.layout, version.as_token(), version.as_content()) {
            (Layout::Larder, Some(token), _) => {
                filter.insert("version", token.cast_signed());
            }
            // A document that somebody made by hand, without a version.
            (Layout::Larder, None, Some(content)) if content.is_empty() => {
                filter.insert("version", doc! { "$exists": false });
            }
            (Layout::Grammy, _, Some(content)) => {
                // Not by way of serde, which would take `{$oid: "..."}` for an ObjectId.
                let content = RawDocument::from_bytes(content).ok()?;
                let value = doc! { "$literal": Bson::try_from(content.get("value").ok()??).ok()? };
                // An expression compares the whole value; `{value: x}` would look into arrays. `$cmp`
                // rather than `$eq`: servers that stand in for MongoDB do not all take a NaN within a
                // document for equal to itself, as it does.
                filter.insert("$expr", doc! { "$eq": [{ "$cmp": ["$value", value] }, 0] });
            }
            _ => return None,
        }
        Some(filter)
    }

    /// The value as BSON.
    ///
    /// # Errors
    ///
    /// `TooLarge`; `InvalidValue` if it has to be JSON and is not.
    pub(crate) fn encode(self, value: &Bytes) -> Result<Value> {
        if value.len() > MAX_VALUE {
            return Err(too_large());
        }
        let bson = match self.form {
            Form::Binary => Bson::Binary(Binary { subtype: BinarySubtype::Generic, bytes: value.to_vec() }),
            Form::Document => json::to_bson(value, self.numbers())?,
        };
        match (self.form, &bson) {
            // The server puts the present time in the place of a field that is an empty timestamp.
            (_, Bson::Timestamp(Timestamp { time: 0, increment: 0 })) => {
                return Err(invalid("an empty timestamp cannot be the whole value"));
            }
            // It could not be told from a value of the other form.
            (Form::Document, Bson::Binary(_)) if self.layout == Layout::Larder => {
                return Err(invalid("binary data cannot be the whole value with `values=document`"));
            }
            _ => {}
        }
        let size = size_of(&bson);
        if size > MAX_BSON { Err(too_large()) } else { Ok(Value { bson, size }) }
    }

    /// The value (and the version) out of a document.
    ///
    /// # Errors
    ///
    /// `Corrupt` if it is not as this adapter writes it.
    pub(crate) fn record(self, document: RawDocumentBuf) -> Result<Record> {
        // The value stays where the driver received it: a slice, not a copy.
        let bytes = Bytes::from(document.into_bytes());
        let document = RawDocument::from_bytes(&bytes).map_err(malformed)?;
        let stored = document.get("value").map_err(malformed)?;
        let stored = stored.ok_or_else(|| corrupt("the document has no field `value`"))?;
        let value = match (self.form, stored) {
            (Form::Binary, RawBsonRef::Binary(binary)) if binary.subtype == BinarySubtype::Generic => {
                bytes.slice_ref(binary.bytes)
            }
            (Form::Binary, _) => {
                return Err(corrupt("the value is not binary data; `values=document` reads BSON values"));
            }
            (Form::Document, RawBsonRef::Binary(_)) if self.layout == Layout::Larder => {
                return Err(corrupt("the value is binary data; `values=binary` reads it"));
            }
            (Form::Document, stored) => {
                let mut text = Vec::new();
                json::to_json(stored, self.numbers(), &mut text)?;
                Bytes::from(text)
            }
        };
        let version = match self.layout {
            Layout::Larder => match document.get("version").map_err(malformed)? {
                Some(RawBsonRef::Int64(token)) => Version::from_token(token.cast_unsigned()),
                None => Version::from_content(Bytes::new()),
                Some(_) => return Err(corrupt("the field `version` is not a 64-bit integer")),
            },
            Layout::Grammy => content_version(Bson::try_from(stored).map_err(malformed)?)?,
        };
        Ok(Record::at(value, version))
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

/// A document of our own layout to put in the place of what is there.
pub(crate) fn replacement(value: Value, version: &Version) -> Document {
    doc! { "value": value.bson, "version": token(version) }
}

/// The same with an expiry, which the server counts from its own clock.
pub(crate) fn replacement_expiring(value: Value, version: &Version, millis: u64) -> Vec<Document> {
    vec![doc! { "$replaceWith": expression(value, version, Some(millis)) }]
}

/// The same where there is no live entry; what is live stays as it is, and is not modified.
pub(crate) fn replacement_if_absent(value: Value, version: &Version, millis: Option<u64>) -> Vec<Document> {
    // On an upsert the pipeline starts from `{_id}`: a document without a value is no entry.
    let there = doc! { "$and": [{ "$ne": [{ "$type": "$value" }, "missing"] }, is_live()] };
    let new = expression(value, version, millis);
    vec![doc! { "$replaceWith": { "$cond": [there, "$$ROOT", new] } }]
}

/// The same where there is a live entry; what has expired stays as it is, and is not modified.
pub(crate) fn replacement_if_live(value: Value, version: &Version, millis: Option<u64>) -> Vec<Document> {
    let new = expression(value, version, millis);
    vec![doc! { "$replaceWith": { "$cond": [is_live(), new, "$$ROOT"] } }]
}

/// An update that gives an entry a new expiry, and nothing else.
pub(crate) fn expiry_in(millis: u64) -> Vec<Document> {
    vec![doc! { "$set": { "expires_at": from_now(millis) } }]
}

/// What a listing and `ttl` ask for beside the entry: the milliseconds that it has left.
pub(crate) fn time_left() -> Document {
    let left = doc! { "$subtract": [{ "$toLong": "$expires_at" }, { "$toLong": "$$NOW" }] };
    doc! { "$cond": [expires(), left, null] }
}

/// The milliseconds that [`time_left`] found; `None` if the entry does not expire.
pub(crate) fn left_of(document: &RawDocument) -> Result<Option<u64>> {
    match document.get("left").map_err(malformed)? {
        Some(RawBsonRef::Int64(left)) => Ok(Some(u64::try_from(left).unwrap_or(0))),
        Some(RawBsonRef::Int32(left)) => Ok(Some(u64::try_from(left).unwrap_or(0))),
        _ => Ok(None),
    }
}

/// The version of a value in grammY's layout: the value.
pub(crate) fn content_version(value: Bson) -> Result<Version> {
    let content = RawDocumentBuf::try_from(&doc! { "value": value }).map_err(malformed)?;
    Ok(Version::from_content(Bytes::from(content.into_bytes())))
}

/// The places in a batch that count: of several writes of one key the last.
pub(crate) fn last_of_each(writes: &[Write], candidates: impl Iterator<Item = usize>) -> Vec<usize> {
    let mut last = std::collections::HashMap::new();
    for index in candidates {
        last.insert(&writes[index].key, index);
    }
    let mut indices: Vec<usize> = last.into_values().collect();
    indices.sort_unstable();
    indices
}

fn expression(value: Value, version: &Version, millis: Option<u64>) -> Document {
    // A literal: in an expression a string such as `$x` would be the name of a field.
    let mut expression =
        doc! { "_id": "$_id", "value": { "$literal": value.bson }, "version": token(version) };
    if let Some(millis) = millis {
        expression.insert("expires_at", from_now(millis));
    }
    expression
}

fn token(version: &Version) -> i64 {
    version.as_token().unwrap_or_default().cast_signed()
}

fn from_now(millis: u64) -> Document {
    doc! { "$add": ["$$NOW", i64::try_from(millis).unwrap_or(i64::MAX)] }
}

/// Whether a document has not expired. What somebody else put in the place of a time is none: the TTL
/// monitor takes it for none too.
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

/// The least text that is greater than all that begin with `prefix`.
fn end_of(prefix: &str) -> Option<String> {
    let mut end = prefix.to_owned();
    while let Some(last) = end.pop() {
        // The order of UTF-8 bytes is the order of code points; surrogates are none.
        let next = match last {
            '\u{d7ff}' => Some('\u{e000}'),
            char::MAX => None,
            last => char::from_u32(u32::from(last) + 1),
        };
        if let Some(next) = next {
            end.push(next);
            return Some(end);
        }
    }
    None
}

/// How long BSON is inside a document, its own length field and terminator included.
fn size_of(value: &Bson) -> usize {
    // An element is its type, its name with a terminator, and its value.
    let member = |name: usize, value: &Bson| 2 + name + size_of(value);
    match value {
        Bson::Binary(binary) => {
            5 + binary.bytes.len() + if binary.subtype == BinarySubtype::BinaryOld { 4 } else { 0 }
        }
        Bson::String(text) | Bson::Symbol(text) | Bson::JavaScriptCode(text) => 5 + text.len(),
        Bson::RegularExpression(regex) => 2 + regex.pattern.len() + regex.options.len(),
        Bson::JavaScriptCodeWithScope(code) => {
            let scope = code.scope.iter().map(|(name, value)| member(name.len(), value)).sum::<usize>();
            4 + 5 + code.code.len() + 5 + scope
        }
        Bson::Document(document) => {
            5 + document.iter().map(|(name, value)| member(name.len(), value)).sum::<usize>()
        }
        Bson::Array(items) => {
            let name = |index: usize| index.checked_ilog10().map_or(1, |digits| digits as usize + 1);
            5 + items.iter().enumerate().map(|(index, item)| member(name(index), item)).sum::<usize>()
        }
        Bson::Null | Bson::Undefined | Bson::MinKey | Bson::MaxKey => 0,
        Bson::Boolean(_) => 1,
        Bson::Int32(_) => 4,
        Bson::Double(_) | Bson::Int64(_) | Bson::DateTime(_) | Bson::Timestamp(_) => 8,
        Bson::ObjectId(_) => 12,
        _ => 16,
    }
}

fn too_large() -> Error {
    Error::new(
        ErrorKind::TooLarge,
        format!("the value does not fit into the 16 MiB of a document; the limit is {MAX_VALUE} bytes"),
    )
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

    const LARDER: Model = Model { layout: Layout::Larder, form: Form::Binary };
    const GRAMMY: Model = Model { layout: Layout::Grammy, form: Form::Document };

    #[test]
    fn a_prefix_is_a_range() {
        assert_eq!(end_of("app").as_deref(), Some("apq"));
        assert_eq!(end_of("a\u{10ffff}").as_deref(), Some("b"));
        assert_eq!(end_of("\u{d7ff}").as_deref(), Some("\u{e000}"));
        assert_eq!(end_of("\u{7f}").as_deref(), Some("\u{80}"));
        assert_eq!(end_of("\u{10ffff}"), None);
        assert_eq!(end_of(""), None);
        assert_eq!(LARDER.by_prefix("", None), doc! { "_id": { "$gte": "" } });
        assert_eq!(GRAMMY.by_prefix("a", Some("ab")), doc! { "key": { "$gt": "ab", "$lt": "b" } });
    }

    #[test]
    fn sizes_are_those_of_the_bytes() {
        let items: Vec<Bson> = (0..1_200).map(Bson::Int32).collect();
        let value = doc! {
            "text": "é", "list": items, "none": null, "yes": true, "double": 1.5, "long": 5_i64,
            "deep": { "": [[], {}] }, "bytes": Binary { subtype: BinarySubtype::Generic, bytes: vec![0; 9] },
        };
        let raw = RawDocumentBuf::try_from(&value).unwrap();
        assert_eq!(size_of(&Bson::Document(value)), raw.as_bytes().len());
        let types = r#"{"a":{"$oid":"507f1f77bcf86cd799439011"},"b":{"$date":"2020-09-13T12:26:40Z"},
            "c":{"$binary":{"base64":"AP8=","subType":"02"}},"d":{"$symbol":"s"},"e":{"$undefined":true},
            "f":{"$regularExpression":{"pattern":"a+","options":"im"}},"g":{"$timestamp":{"t":1,"i":2}},
            "h":{"$code":"x"},"i":{"$code":"x","$scope":{"y":{"$minKey":1}}},"j":{"$maxKey":1},
            "k":{"$numberDecimal":"1.50"},"l":{"$numberDouble":"NaN"}}"#;
        let value = GRAMMY.encode(&Bytes::from_static(types.as_bytes())).unwrap();
        let Bson::Document(document) = value.bson else { panic!("not a document") };
        assert!(document.values().all(|value| !matches!(value, Bson::Document(_))), "{document}");
        assert_eq!(value.size, RawDocumentBuf::try_from(&document).unwrap().as_bytes().len());
    }

    #[test]
    fn whole_values_that_could_not_be_read_back_are_refused() {
        let document = Model { layout: Layout::Larder, form: Form::Document };
        let empty = br#"{"$timestamp":{"t":0,"i":0}}"#;
        let binary = br#"{"$binary":{"base64":"AP8=","subType":"00"}}"#;
        for (model, text) in [(document, &empty[..]), (GRAMMY, empty), (document, binary)] {
            let error = model.encode(&Bytes::copy_from_slice(text)).map(drop).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidValue);
        }
        let nested = format!("[{}]", std::str::from_utf8(empty).unwrap());
        assert!(GRAMMY.encode(&Bytes::from(nested)).is_ok());
        assert!(matches!(GRAMMY.encode(&Bytes::from_static(binary)).unwrap().bson, Bson::Binary(_)));
    }

    #[test]
    fn the_limit_leaves_room_for_the_longest_key() {
        let value = LARDER.encode(&Bytes::from(vec![0; MAX_VALUE])).unwrap();
        let document = doc! {
            "_id": "k".repeat(Key::MAX_BYTES), "value": value.bson, "version": 1_i64,
            "expires_at": mongodb::bson::DateTime::MAX,
        };
        let raw = RawDocumentBuf::try_from(&document).unwrap();
        assert!(raw.as_bytes().len() <= 16 * 1024 * 1024);
        let error = LARDER.encode(&Bytes::from(vec![0; MAX_VALUE + 1])).map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge);
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
        let record = LARDER.record(RawDocumentBuf::try_from(&stored).unwrap()).unwrap();
        assert_eq!(record.value.as_ref(), b"\0\xffvalue");
        assert_eq!(record.version.unwrap().as_token(), Some(u64::MAX));
    }

    #[test]
    fn documents_of_another_shape_are_corrupt() {
        for document in [doc! {}, doc! { "value": "text", "version": 1_i64 }] {
            let raw = RawDocumentBuf::try_from(&document).unwrap();
            assert_eq!(LARDER.record(raw).unwrap_err().kind(), ErrorKind::Corrupt);
        }
        let binary = Binary { subtype: BinarySubtype::Generic, bytes: vec![1] };
        for document in [doc! { "value": binary, "version": 1_i64 }, doc! { "value": 1, "version": "x" }] {
            let raw = RawDocumentBuf::try_from(&document).unwrap();
            let model = Model { layout: Layout::Larder, form: Form::Document };
            assert_eq!(model.record(raw).unwrap_err().kind(), ErrorKind::Corrupt);
        }
    }

    #[test]
    fn a_content_version_finds_the_same_content() {
        let key = Key::new("$k").unwrap();
        let value = GRAMMY.encode(&Bytes::from_static(br#"{"$a":[1,"$b"]}"#)).unwrap();
        let version = content_version(value.bson.clone()).unwrap();
        let filter = GRAMMY.at(&key, &version).unwrap();
        let literal = doc! { "$literal": value.bson };
        let same = doc! { "$eq": [{ "$cmp": ["$value", literal] }, 0] };
        assert_eq!(filter, doc! { "key": "$k", "$expr": same });
        assert!(GRAMMY.at(&key, &Version::from_token(1)).is_none());
        assert!(LARDER.at(&key, &version).is_none());
    }
}
