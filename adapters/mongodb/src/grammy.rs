//! The documents of grammY's MongoDB adapter: `{_id: ObjectId, key, value}`, the value as BSON. There is no
//! expiry, and versions are the content.

use bytes::Bytes;
use larder_core::{Condition, Error, Expiry, Info, Record, Result, Values, Version, Versions};
use mongodb::{
    IndexModel,
    bson::{Bson, Document, RawBsonRef, RawDocument, RawDocumentBuf, doc},
    options::UpdateModifications,
};

use crate::{
    bson::{self, JavaScript},
    model::{self, Model, corrupt, malformed},
    schema::{Kind, Schema, key_index, ttl_index},
    storage::DocumentStorage,
    value,
};

/// A storage in a collection of grammY's.
pub(crate) type GrammyStorage = DocumentStorage<Grammy>;

/// The layout.
#[derive(Clone, Copy)]
pub(crate) struct Grammy;

impl Model for Grammy {
    const KEY: &'static str = "key";

    fn info(self) -> Info {
        model::info().with_versions(Versions::Content).with_values(Values::Json)
    }

    fn keyed(condition: impl Into<Bson>) -> Document {
        // An array with such a string in it would match too.
        doc! { "key": condition.into(), "key.0": { "$exists": false } }
    }

    fn not_a_key() -> Document {
        doc! { "$expr": { "$ne": [{ "$type": "$key" }, "string"] } }
    }

    fn at(version: &Version) -> Result<Document> {
        // Not by way of serde, which would take `{$oid: "..."}` for an ObjectId.
        let value =
            |content: &Bytes| Bson::try_from(RawDocument::from_bytes(content).ok()?.get("value").ok()??).ok();
        let value = version.as_content().and_then(value).ok_or_else(Error::conflict)?;
        // An expression compares the whole value; `{value: x}` would look into arrays. `$cmp` rather than
        // `$eq`: servers that stand in for MongoDB do not all take a NaN within a document for equal to
        // itself, as it does.
        let compared = doc! { "$cmp": ["$value", { "$literal": value }] };
        Ok(doc! { "$expr": { "$eq": [compared, 0] } })
    }

    fn put(self, value: &Bytes, _: Expiry, condition: &Condition) -> Result<(UpdateModifications, Version)> {
        let value = value::to_bson(value, &JavaScript)?;
        let version = content_version(value.clone())?;
        let operator = if *condition == Condition::Absent { "$setOnInsert" } else { "$set" };
        Ok((doc! { operator: { "value": value } }.into(), version))
    }

    fn record(self, _: &RawDocument, stored: RawBsonRef<'_>, _: &Bytes) -> Result<Record> {
        let version = content_version(Bson::try_from(stored).map_err(malformed)?)?;
        Ok(Record::at(bson::to_json(stored, &JavaScript)?.into(), version))
    }

    /// Without its index, the layout allows several documents of one key.
    fn check_page(names: &mut Vec<Result<String>>, more: bool) {
        // Whether the key is that of the document before.
        let doubled = |pair: &[Result<String>]| matches!(pair, [Ok(before), Ok(name)] if before == name);
        let doubled: Vec<bool> = names.windows(2).map(doubled).collect();
        if more && doubled.last() == Some(&false) {
            // It comes again with the next page, and with it others that have its key.
            names.pop();
        }
        for (name, _) in names.iter_mut().skip(1).zip(doubled).filter(|(_, doubled)| *doubled) {
            *name = Err(corrupt("several documents have the same `key`; remove all but one of them"));
        }
    }
}

/// The version of a value: the value.
fn content_version(value: Bson) -> Result<Version> {
    let content = RawDocumentBuf::try_from(&doc! { "value": value }).map_err(malformed)?;
    Ok(Version::from_content(Bytes::from(content.into_bytes())))
}

impl Schema for Grammy {
    const WRONG_INDEX: &'static str =
        "the collection has an index on `key` that is not unique; drop it, and it is created again";
    const OTHER_INDEX: &'static str = "the collection is empty and has the index on `expires_at` of Larder's own layout; \
         open it without layout=grammy, or drop that index";

    fn fields() -> Document {
        doc! { "_id": {}, "key": { "bsonType": "string" }, "value": {} }
    }

    fn index() -> IndexModel {
        key_index()
    }

    fn other_index() -> IndexModel {
        ttl_index()
    }

    fn check(self, documents: &[Kind]) -> Result<(), &'static str> {
        if documents.is_empty() || documents.contains(&Kind::Grammy) {
            return Ok(());
        }
        Err(if documents.iter().any(|kind| matches!(kind, Kind::Larder(_))) {
            "the collection holds documents of Larder's own layout; open it without layout=grammy"
        } else {
            "the collection holds documents of another program (grammY's have the fields `_id`, `key` and \
             `value`); name another collection"
        })
    }

    fn beside(_: Kind) -> &'static str {
        "the collection holds other documents beside grammY's, which the unique index on `key` would restrict; \
         move them to another collection, or open this one with setup=false"
    }
}

#[cfg(test)]
mod tests {
    use larder_core::{Change, ErrorKind, Key};
    use larder_kit::ValueFormat;

    use super::*;

    #[test]
    fn a_prefix_is_a_range() {
        let no_array = doc! { "$exists": false };
        let range = doc! { "key": { "$gt": "ab", "$lt": "b" }, "key.0": no_array };
        assert_eq!(Grammy::by_prefix("a", Some("ab")), range);
    }

    #[test]
    fn a_content_version_finds_the_same_content() {
        let key = Key::new("$k").unwrap();
        let filter = |version| {
            let change = Change::delete(key.clone()).on(Condition::At(version));
            Grammy.statement(&change).map(|statement| statement.filter)
        };
        let value = value::to_bson(&Bytes::from_static(br#"{"$a":[1,"$b"]}"#), &JavaScript).unwrap();
        let version = content_version(value.clone()).unwrap();
        let literal = doc! { "$literal": value };
        let same = doc! { "$eq": [{ "$cmp": ["$value", literal] }, 0] };
        let expected = doc! { "key": "$k", "key.0": { "$exists": false }, "$expr": same };
        assert_eq!(filter(version).unwrap(), expected);
        assert_eq!(filter(Version::from_token(1)).unwrap_err().kind(), ErrorKind::Conflict);
    }

    #[test]
    fn documents_of_one_key_are_reported() {
        let page = |names: &[&str], more| {
            let mut names: Vec<_> = names.iter().map(|name| Ok((*name).to_owned())).collect();
            Grammy::check_page(&mut names, more);
            names.into_iter().map(|name| name.unwrap_or_else(|_| "?".to_owned())).collect::<Vec<_>>()
        };
        assert_eq!(page(&["a", "a", "a", "b"], false), ["a", "?", "?", "b"]);
        // The last may have doubles on the next page.
        assert_eq!(page(&["a", "a", "b"], true), ["a", "?"]);
        assert_eq!(page(&["a", "b", "b"], true), ["a", "b", "?"]);
        assert_eq!(page(&["a"], true), ["a"]);
        assert!(page(&[], false).is_empty());
    }

    #[test]
    fn documents_of_another_kind_are_refused() {
        let (ours, theirs) = (Kind::Larder(ValueFormat::Bytes), Kind::Grammy);
        for (kinds, fits) in [
            (&[][..], true),
            (&[ours], false),
            (&[Kind::Unversioned(ValueFormat::Bytes)], false),
            (&[Kind::Unversioned(ValueFormat::Bytes), theirs], true),
            (&[theirs], true),
            (&[Kind::Other], false),
            (&[Kind::Other, theirs], true),
        ] {
            assert_eq!(Grammy.check(kinds).is_ok(), fits, "{kinds:?}");
        }
    }
}
