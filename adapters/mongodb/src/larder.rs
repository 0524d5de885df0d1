//! Larder's own layout: `{_id: key, value, version, expires_at}`.

use bytes::Bytes;
use larder_core::{
    Condition, Error, ErrorKind, Expiry, Info, Record, Result, Values, Version, Versions, unique,
};
use larder_kit::ValueFormat;
use mongodb::{
    IndexModel,
    bson::{Binary, Bson, Document, RawBsonRef, RawDocument, doc, spec::BinarySubtype},
    options::UpdateModifications,
};

use crate::{
    bson::{self, AsStored},
    model::{self, Model, corrupt, expires, from_now, malformed},
    schema::{Kind, Schema, key_index, ttl_index},
    value,
};

/// Larder's layout, with values in this format.
#[derive(Clone, Copy)]
pub(crate) struct Larder(pub(crate) ValueFormat);

impl Model for Larder {
    const KEY: &'static str = "_id";

    fn info(self) -> Info {
        let values = if self.0 == ValueFormat::Bytes { Values::Bytes } else { Values::Json };
        model::info().with_expiry().with_versions(Versions::Unique).with_values(values)
    }

    fn keyed(condition: impl Into<Bson>) -> Document {
        doc! { "_id": condition.into() }
    }

    fn not_a_key() -> Document {
        // All other types that `_id` can have. Listed, because this can use the index on `_id`.
        let types = "number object binData objectId bool date null timestamp minKey maxKey javascript \
                     javascriptWithScope symbol dbPointer";
        doc! { "_id": { "$type": types.split(' ').collect::<Vec<_>>() } }
    }

    fn is_live() -> Option<Document> {
        Some(is_live())
    }

    fn at(version: &Version) -> Result<Document> {
        if let Some(token) = version.as_token() {
            return Ok(doc! { "version": token.cast_signed() });
        }
        // A document that was created by hand has no version.
        let by_hand = version.as_content().is_some_and(Bytes::is_empty);
        by_hand.then(|| doc! { "version": { "$exists": false } }).ok_or_else(Error::conflict)
    }

    /// Replaces the document by an entry. If the entry must be absent and is not, the document is left unmodified.
    fn put(
        self,
        value: &Bytes,
        expiry: Expiry,
        condition: &Condition,
    ) -> Result<(UpdateModifications, Version)> {
        let (value, token) = (self.encode(value)?, unique::id64());
        // A literal, because in an expression a string such as `$x` would name a field.
        let mut entry =
            doc! { "_id": "$_id", "value": { "$literal": value }, "version": token.cast_signed() };
        entry.extend(expiry.as_millis().map(|millis| ("expires_at".to_owned(), from_now(millis).into())));
        if *condition == Condition::Absent {
            // In an upsert the pipeline starts from `{_id}`, so a document without a value is not an entry.
            let exists = doc! { "$and": [{ "$ne": [{ "$type": "$value" }, "missing"] }, is_live()] };
            entry = doc! { "$cond": [exists, "$$ROOT", entry] };
        }
        Ok((vec![doc! { "$replaceWith": entry }].into(), Version::from_token(token)))
    }

    fn record(self, document: &RawDocument, stored: RawBsonRef<'_>, bytes: &Bytes) -> Result<Record> {
        let binary = self.0 == ValueFormat::Bytes;
        let value = match stored {
            RawBsonRef::Binary(value) if binary && value.subtype == BinarySubtype::Generic => {
                bytes.slice_ref(value.bytes)
            }
            _ if binary => {
                return Err(corrupt("the value is not binary data: use `values=json` to read BSON values"));
            }
            RawBsonRef::Binary(_) => {
                return Err(corrupt("the value is binary data: use `values=bytes` to read it"));
            }
            _ => bson::to_json(stored, &AsStored)?.into(),
        };
        let version = match document.get("version").map_err(malformed)? {
            Some(RawBsonRef::Int64(token)) => Version::from_token(token.cast_unsigned()),
            None => Version::from_content(Bytes::new()),
            Some(_) => return Err(corrupt("the field `version` is not a 64-bit integer")),
        };
        Ok(Record::at(value, version))
    }
}

impl Larder {
    fn encode(self, value: &Bytes) -> Result<Bson> {
        if self.0 == ValueFormat::Bytes {
            return Ok(Bson::Binary(Binary { subtype: BinarySubtype::Generic, bytes: value.to_vec() }));
        }
        match value::to_bson(value, &AsStored)? {
            // It would look like a value of the other format.
            Bson::Binary(_) => Err(Error::new(
                ErrorKind::InvalidValue,
                "binary data cannot be the whole value with `values=json`",
            )),
            bson => Ok(bson),
        }
    }
}

/// Returns the expression for a document that has not expired.
///
/// The current time is converted to a number and back, because some stand-ins for MongoDB compare a stored date with
/// `$$NOW` itself incorrectly.
fn is_live() -> Document {
    let now = doc! { "$toDate": { "$toLong": "$$NOW" } };
    doc! { "$or": [{ "$gt": ["$expires_at", now] }, { "$not": [expires()] }] }
}

impl Schema for Larder {
    const WRONG_INDEX: &'static str = "the collection has an index on `expires_at` that does not remove expired \
         documents: drop it, or set its expireAfterSeconds to 0 with collMod";
    const OTHER_INDEX: &'static str = "the collection is empty and has the unique index on `key` of grammY's \
         layout: open it with `layout=grammy`, or drop that index";

    fn fields() -> Document {
        let of = |bson_type: &str| doc! { "bsonType": bson_type };
        doc! { "_id": of("string"), "value": {}, "version": of("long"), "expires_at": of("date") }
    }

    fn index() -> IndexModel {
        ttl_index()
    }

    fn other_index() -> IndexModel {
        key_index()
    }

    fn check(self, documents: &[Kind]) -> Result<(), &'static str> {
        let versioned = documents.iter().any(|kind| matches!(kind, Kind::Larder(_)));
        // A document without a version is ambiguous: among documents of another program it counts as one of them.
        let larder = versioned || documents.iter().all(|kind| kind.format().is_some());
        let of_this_format = documents.iter().any(|kind| kind.format() == Some(self.0));
        if documents.is_empty() || (larder && of_this_format) {
            return Ok(());
        }
        Err(match self.0 {
            ValueFormat::Bytes if larder => {
                "the values in the collection are BSON, not binary data: open it with `values=json`"
            }
            _ if larder => {
                "the values in the collection are binary data, not BSON: open it with `values=bytes`"
            }
            _ if documents.contains(&Kind::Grammy) => {
                "the collection has documents of grammY's layout: open it with `layout=grammy`"
            }
            _ => {
                "the collection has documents of another program (Larder's have the fields `_id`, `value`, \
                 `version` and `expires_at`): use another collection"
            }
        })
    }

    fn beside(other: Kind) -> &'static str {
        match other {
            Kind::Unversioned(_) => {
                "the collection has documents without `version`, which may be another program's: if they are for \
                 Larder, create the index by hand (on `expires_at`, with expireAfterSeconds 0), or open the \
                 collection with `setup=false`"
            }
            _ => {
                "the collection also has documents that are not Larder's, which the index on `expires_at` could \
                 remove: move them to another collection, or open this one with `setup=false`"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use larder_core::{Change, Key, ReadOptions};
    use mongodb::bson::RawDocumentBuf;

    use super::*;
    use crate::value::MAX_VALUE;

    const BINARY: Larder = Larder(ValueFormat::Bytes);
    const DOCUMENT: Larder = Larder(ValueFormat::Json);

    #[test]
    fn a_prefix_is_a_range_of_keys() {
        assert_eq!(Larder::by_prefix("", None), doc! { "_id": { "$gte": "" } });
        // The start key sorts before the prefix.
        assert_eq!(Larder::by_prefix("b", Some("a")), doc! { "_id": { "$gte": "b", "$lt": "c" } });
    }

    #[test]
    fn the_largest_value_fits_with_the_longest_key() {
        let value = BINARY.encode(&Bytes::from(vec![0; MAX_VALUE])).unwrap();
        let document = doc! {
            "_id": "k".repeat(Key::MAX_BYTES), "value": value, "version": 1_i64,
            "expires_at": mongodb::bson::DateTime::MAX,
        };
        let raw = RawDocumentBuf::try_from(&document).unwrap();
        assert!(raw.as_bytes().len() <= 16 * 1024 * 1024);
    }

    #[test]
    fn a_binary_value_is_a_slice_of_the_received_document() {
        let stored = doc! {
            "_id": "k", "version": -1_i64,
            "value": Binary { subtype: BinarySubtype::Generic, bytes: b"\0\xffvalue".to_vec() },
        };
        let record = BINARY.entry(RawDocumentBuf::try_from(&stored).unwrap(), &ReadOptions::new()).unwrap();
        assert_eq!(record.value.as_ref(), b"\0\xffvalue");
        assert_eq!(record.version.unwrap().as_token(), Some(u64::MAX));
    }

    #[test]
    fn documents_of_another_shape_are_corrupt() {
        for document in [doc! {}, doc! { "value": "text", "version": 1_i64 }] {
            let raw = RawDocumentBuf::try_from(&document).unwrap();
            assert_eq!(BINARY.entry(raw, &ReadOptions::new()).unwrap_err().kind(), ErrorKind::Corrupt);
        }
        let binary = Binary { subtype: BinarySubtype::Generic, bytes: vec![1] };
        for document in [doc! { "value": binary, "version": 1_i64 }, doc! { "value": 1, "version": "x" }] {
            let raw = RawDocumentBuf::try_from(&document).unwrap();
            assert_eq!(DOCUMENT.entry(raw, &ReadOptions::new()).unwrap_err().kind(), ErrorKind::Corrupt);
        }
    }

    #[test]
    fn a_whole_value_of_the_other_format_is_rejected() {
        let binary = Bytes::from_static(br#"{"$binary":{"base64":"AP8=","subType":"00"}}"#);
        let error = DOCUMENT.encode(&binary).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidValue);
    }

    #[test]
    fn a_version_of_another_layout_is_a_conflict() {
        let version = Version::from_content(Bytes::from_static(b"content"));
        let change = Change::delete(Key::new("k").unwrap()).on(Condition::At(version));
        assert_eq!(BINARY.statement(&change).map(drop).unwrap_err().kind(), ErrorKind::Conflict);
    }

    #[test]
    fn documents_of_another_kind_are_rejected() {
        let (ours, theirs) = (Kind::Larder(ValueFormat::Bytes), Kind::Grammy);
        for (kinds, larder, fits) in [
            (&[][..], BINARY, true),
            (&[ours], BINARY, true),
            (&[ours], DOCUMENT, false),
            (&[Kind::Larder(ValueFormat::Json)], DOCUMENT, true),
            (&[Kind::Larder(ValueFormat::Json)], BINARY, false),
            (&[Kind::Larder(ValueFormat::Json), ours], BINARY, true),
            (&[Kind::Unversioned(ValueFormat::Bytes)], BINARY, true),
            (&[Kind::Unversioned(ValueFormat::Bytes), ours], BINARY, true),
            (&[Kind::Unversioned(ValueFormat::Bytes), Kind::Other], BINARY, false),
            (&[Kind::Unversioned(ValueFormat::Bytes), theirs], BINARY, false),
            (&[theirs], BINARY, false),
            (&[Kind::Other], BINARY, false),
            (&[Kind::Other, ours], BINARY, true),
        ] {
            assert_eq!(larder.check(kinds).is_ok(), fits, "{kinds:?}");
        }
    }
}
