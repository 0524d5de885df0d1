//! Recognizes the kind of documents in a collection by the names and types of their fields. No I/O.

use mongodb::bson::{Bson, Document, doc};

use crate::{
    config::{Layout, ValueFormat},
    model::Model,
};

/// The shape of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `{_id: key, value, version}` and perhaps `expires_at`.
    Larder(ValueFormat),
    /// The same without a version: made by hand for Larder, or by another program.
    Unversioned(ValueFormat),
    /// `{_id, key, value}`.
    Grammy,
    Other,
}

impl Kind {
    /// The kind of a document with `fields`, a list of `{name, type}`.
    pub(crate) fn of(document: &Document) -> Self {
        let fields = document.get_array("fields").map_or(&[][..], Vec::as_slice);
        let fields = fields.iter().filter_map(Bson::as_document);
        let mut fields: Vec<_> = fields
            .filter_map(|field| Some((field.get_str("name").ok()?, field.get_str("type").ok()?)))
            .collect();
        fields.sort_unstable();
        let format = |value| if value == "binData" { ValueFormat::Binary } else { ValueFormat::Document };
        match fields.as_slice() {
            [("_id", _), ("key", "string"), ("value", _)] => Self::Grammy,
            [("_id", "string"), ("expires_at", "date"), rest @ ..] | [("_id", "string"), rest @ ..] => {
                match *rest {
                    [("value", value), ("version", "long")] => Self::Larder(format(value)),
                    [("value", value)] => Self::Unversioned(format(value)),
                    _ => Self::Other,
                }
            }
            _ => Self::Other,
        }
    }

    /// Says why the index of `layout` must not be created beside such a document, which is not of the
    /// layout: it would act on the documents of another program too.
    pub(crate) const fn beside(self, layout: Layout) -> &'static str {
        match (layout, self) {
            (Layout::Larder, Self::Unversioned(_)) => {
                "documents in the collection have no `version`, so they may be another program's; if they are \
                 meant for Larder, create the index by hand (expireAfterSeconds 0 on `expires_at`), or open \
                 the collection with setup=false"
            }
            (Layout::Larder, _) => {
                "the collection holds other documents beside Larder's, which the index on `expires_at` could \
                 remove; move them to another collection, or open this one with setup=false"
            }
            (Layout::Grammy, _) => {
                "the collection holds other documents beside grammY's, which the unique index on `key` would \
                 restrict; move them to another collection, or open this one with setup=false"
            }
        }
    }

    /// The format of the value in a document of Larder's own layout.
    const fn format(self) -> Option<ValueFormat> {
        match self {
            Self::Larder(format) | Self::Unversioned(format) => Some(format),
            Self::Grammy | Self::Other => None,
        }
    }
}

/// Says what is wrong with opening a collection of these documents in the layout and format of `model`. Some
/// documents of other kinds do no harm: a listing reports each.
pub(crate) fn check(documents: &[Kind], model: Model) -> Result<(), &'static str> {
    let versioned = documents.iter().any(|kind| matches!(kind, Kind::Larder(_)));
    let grammy = documents.contains(&Kind::Grammy);
    // Without a version a document says little: beside others it is one of theirs.
    let larder = versioned || documents.iter().all(|kind| kind.format().is_some());
    let fits = match model.layout {
        Layout::Larder => larder && documents.iter().any(|kind| kind.format() == Some(model.format)),
        Layout::Grammy => grammy,
    };
    if fits || documents.is_empty() {
        return Ok(());
    }
    Err(match (model.layout, model.format) {
        (Layout::Larder, ValueFormat::Binary) if larder => {
            "the values in the collection are BSON, not binary data; open it with values=document"
        }
        (Layout::Larder, ValueFormat::Document) if larder => {
            "the values in the collection are binary data, not BSON; open it without values=document"
        }
        (Layout::Larder, _) if grammy => {
            "the collection holds documents of grammY's layout; open it with layout=grammy"
        }
        (Layout::Larder, _) => {
            "the collection holds documents of another program (Larder's have the fields `_id`, `value`, \
             `version` and `expires_at`); name another collection"
        }
        (Layout::Grammy, _) if versioned => {
            "the collection holds documents of Larder's own layout; open it without layout=grammy"
        }
        (Layout::Grammy, _) => {
            "the collection holds documents of another program (grammY's have the fields `_id`, `key` and \
             `value`); name another collection"
        }
    })
}

/// Whether all documents that say something are another program's.
pub(crate) fn are_foreign(documents: &[Kind]) -> bool {
    let own = |kind: &Kind| matches!(kind, Kind::Larder(_) | Kind::Grammy);
    documents.contains(&Kind::Other) && !documents.iter().any(own)
}

/// The documents that do not have exactly the fields of the layout.
pub(crate) fn not_of(layout: Layout) -> Document {
    let of = |bson_type: &str| doc! { "bsonType": bson_type };
    let (required, fields) = match layout {
        Layout::Larder => (
            ["_id", "value", "version"],
            doc! { "_id": of("string"), "value": {}, "version": of("long"), "expires_at": of("date") },
        ),
        Layout::Grammy => (["_id", "key", "value"], doc! { "_id": {}, "key": of("string"), "value": {} }),
    };
    let required = required.to_vec();
    let schema = doc! { "required": required, "properties": fields, "additionalProperties": false };
    doc! { "$nor": [{ "$jsonSchema": schema }] }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(fields: &[(&str, &str)]) -> Kind {
        let fields: Vec<Bson> =
            fields.iter().map(|(name, of)| doc! { "name": *name, "type": *of }.into()).collect();
        Kind::of(&doc! { "fields": fields })
    }

    const LARDER: &[(&str, &str)] = &[("_id", "string"), ("value", "binData"), ("version", "long")];

    #[test]
    fn documents_are_told_by_their_fields() {
        assert_eq!(kind(LARDER), Kind::Larder(ValueFormat::Binary));
        assert_eq!(kind(&[LARDER, &[("expires_at", "date")]].concat()), Kind::Larder(ValueFormat::Binary));
        assert_eq!(
            kind(&[("_id", "string"), ("value", "object"), ("version", "long")]),
            Kind::Larder(ValueFormat::Document)
        );
        assert_eq!(kind(&[("_id", "string"), ("value", "int")]), Kind::Unversioned(ValueFormat::Document));
        assert_eq!(kind(&[("_id", "objectId"), ("key", "string"), ("value", "object")]), Kind::Grammy);
        for other in [
            &[][..],
            &[("_id", "objectId"), ("value", "binData"), ("version", "long")],
            &[("_id", "string"), ("value", "binData"), ("version", "int")],
            &[("_id", "string"), ("value", "binData"), ("version", "long"), ("expires_at", "string")],
            &[("_id", "string"), ("value", "binData"), ("version", "long"), ("owner", "string")],
            &[("_id", "string"), ("expires_at", "date")],
            &[("_id", "objectId"), ("key", "string"), ("value", "object"), ("lang", "string")],
            &[("_id", "objectId"), ("key", "int"), ("value", "object")],
        ] {
            assert_eq!(kind(other), Kind::Other, "{other:?}");
        }
    }

    #[test]
    fn documents_of_another_kind_are_refused() {
        let larder = Model { layout: Layout::Larder, format: ValueFormat::Binary };
        let document = Model { layout: Layout::Larder, format: ValueFormat::Document };
        let grammy = Model { layout: Layout::Grammy, format: ValueFormat::Document };
        let (ours, theirs) = (Kind::Larder(ValueFormat::Binary), Kind::Grammy);
        for (kinds, model, fits) in [
            (&[][..], larder, true),
            (&[], grammy, true),
            (&[ours], larder, true),
            (&[ours], document, false),
            (&[ours], grammy, false),
            (&[Kind::Larder(ValueFormat::Document)], document, true),
            (&[Kind::Larder(ValueFormat::Document)], larder, false),
            (&[Kind::Larder(ValueFormat::Document), ours], larder, true),
            (&[Kind::Unversioned(ValueFormat::Binary)], larder, true),
            (&[Kind::Unversioned(ValueFormat::Binary), ours], larder, true),
            (&[Kind::Unversioned(ValueFormat::Binary)], grammy, false),
            (&[Kind::Unversioned(ValueFormat::Binary), Kind::Other], larder, false),
            (&[Kind::Unversioned(ValueFormat::Binary), theirs], larder, false),
            (&[Kind::Unversioned(ValueFormat::Binary), theirs], grammy, true),
            (&[theirs], grammy, true),
            (&[theirs], larder, false),
            (&[Kind::Other], larder, false),
            (&[Kind::Other], grammy, false),
            (&[Kind::Other, ours], larder, true),
            (&[Kind::Other, theirs], grammy, true),
        ] {
            assert_eq!(check(kinds, model).is_ok(), fits, "{kinds:?} {model:?}");
        }
    }
}
