//! The documents of grammY's MongoDB adapter: `{_id: ObjectId, key, value}`, with the value as BSON. Entries do not
//! expire, and versions are the content.

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

/// A storage on a collection in grammY's layout.
pub(crate) type GrammyStorage = DocumentStorage<Grammy>;

/// grammY's layout.
#[derive(Clone, Copy)]
pub(crate) struct Grammy;

impl Model for Grammy {
    const KEY: &'static str = "key";

    fn info(self) -> Info {
        model::info().with_versions(Versions::Content).with_values(Values::Json)
    }

    fn keyed(condition: impl Into<Bson>) -> Document {
        // The second condition excludes arrays that contain such a string.
        doc! { "key": condition.into(), "key.0": { "$exists": false } }
    }

    fn not_a_key() -> Document {
        doc! { "$expr": { "$ne": [{ "$type": "$key" }, "string"] } }
    }

    fn at(version: &Version) -> Result<Document> {
        // Not with serde, which would read `{$oid: "..."}` as an ObjectId.
        let value =
            |content: &Bytes| Bson::try_from(RawDocument::from_bytes(content).ok()?.get("value").ok()??).ok();
        let value = version.as_content().and_then(value).ok_or_else(Error::conflict)?;
        // An expression compares the whole value, while `{value: x}` would also match inside arrays. `$cmp` instead of
        // `$eq`, because in some stand-ins for MongoDB a NaN inside a document is not equal to itself.
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

    /// Without its index, the layout allows several documents with one key.
    fn check_page(names: &mut Vec<Result<String>>, more: bool) {
        // Whether two consecutive documents have the same key.
        let doubled = |pair: &[Result<String>]| matches!(pair, [Ok(before), Ok(name)] if before == name);
        let doubled: Vec<bool> = names.windows(2).map(doubled).collect();
        if more && doubled.last() == Some(&false) {
            // The next page starts with this document again, followed by others with the same key.
            names.pop();
        }
        for (name, _) in names.iter_mut().skip(1).zip(doubled).filter(|(_, doubled)| *doubled) {
            *name = Err(corrupt("several documents have the same `key`: delete all but one"));
        }
    }
}

/// Returns the version of a value, which is the value.
fn content_version(value: Bson) -> Result<Version> {
    let content = RawDocumentBuf::try_from(&doc! { "value": value }).map_err(malformed)?;
    Ok(Version::from_content(Bytes::from(content.into_bytes())))
}

impl Schema for Grammy {
    const WRONG_INDEX: &'static str =
        "the collection has an index on `key` that is not unique: drop it, and set-up creates it again";
    const OTHER_INDEX: &'static str = "the collection is empty and has the index on `expires_at` of Larder's own \
         layout: open it without `layout=grammy`, or drop that index";

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
            "the collection has documents of Larder's own layout: open it without `layout=grammy`"
        } else {
            "the collection has documents of another program (grammY's have the fields `_id`, `key` and `value`): use \
             another collection"
        })
    }

    fn beside(_: Kind) -> &'static str {
        "the collection also has documents that are not grammY's, which the unique index on `key` would restrict: move \
         them to another collection, or open this one with `setup=false`"
    }
}

#[cfg(test)]
mod tests {
    use larder_core::{Change, ErrorKind, Key};
    use larder_kit::ValueFormat;

    use super::*;

    #[test]
    fn a_prefix_is_a_range_of_keys() {
        let no_array = doc! { "$exists": false };
        let range = doc! { "key": { "$gt": "ab", "$lt": "b" }, "key.0": no_array };
        assert_eq!(Grammy::by_prefix("a", Some("ab")), range);
    }

    #[test]
    fn a_content_version_matches_the_same_content() {
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
    fn documents_with_the_same_key_are_reported() {
        let page = |names: &[&str], more| {
            let mut names: Vec<_> = names.iter().map(|name| Ok((*name).to_owned())).collect();
            Grammy::check_page(&mut names, more);
            names.into_iter().map(|name| name.unwrap_or_else(|_| "?".to_owned())).collect::<Vec<_>>()
        };
        assert_eq!(page(&["a", "a", "a", "b"], false), ["a", "?", "?", "b"]);
        // The last key may be repeated on the next page.
        assert_eq!(page(&["a", "a", "b"], true), ["a", "?"]);
        assert_eq!(page(&["a", "b", "b"], true), ["a", "b", "?"]);
        assert_eq!(page(&["a"], true), ["a"]);
        assert!(page(&[], false).is_empty());
    }

    #[test]
    fn documents_of_another_kind_are_rejected() {
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
