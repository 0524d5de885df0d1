//! Recognizes the kind of documents in a collection by the names and types of their fields. No I/O.

use larder_kit::ValueFormat;
use mongodb::bson::{Bson, Document};

/// The kind of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `{_id: key, value, version}`, with an optional `expires_at`.
    Larder(ValueFormat),
    /// The same without a version: created by hand for Larder, or by another program.
    Unversioned(ValueFormat),
    /// `{_id, key, value}`.
    Grammy,
    Other,
}

impl Kind {
    /// Returns the kind of a document. `document` has a list `fields` of `{name, type}`.
    pub(crate) fn of(document: &Document) -> Self {
        let fields = document.get_array("fields").map_or(&[][..], Vec::as_slice);
        let fields = fields.iter().filter_map(Bson::as_document);
        let mut fields: Vec<_> = fields
            .filter_map(|field| Some((field.get_str("name").ok()?, field.get_str("type").ok()?)))
            .collect();
        fields.sort_unstable();
        let format = |value| if value == "binData" { ValueFormat::Bytes } else { ValueFormat::Json };
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

    /// Returns the format of the value, for a document of Larder's own layout.
    pub(crate) const fn format(self) -> Option<ValueFormat> {
        match self {
            Self::Larder(format) | Self::Unversioned(format) => Some(format),
            Self::Grammy | Self::Other => None,
        }
    }
}

/// Returns whether all unambiguous documents are another program's.
pub(crate) fn are_foreign(documents: &[Kind]) -> bool {
    let own = |kind: &Kind| matches!(kind, Kind::Larder(_) | Kind::Grammy);
    documents.contains(&Kind::Other) && !documents.iter().any(own)
}

#[cfg(test)]
mod tests {
    use mongodb::bson::doc;

    use super::*;

    fn kind(fields: &[(&str, &str)]) -> Kind {
        let fields: Vec<Bson> =
            fields.iter().map(|(name, of)| doc! { "name": *name, "type": *of }.into()).collect();
        Kind::of(&doc! { "fields": fields })
    }

    const LARDER: &[(&str, &str)] = &[("_id", "string"), ("value", "binData"), ("version", "long")];

    #[test]
    fn documents_are_recognized_by_their_fields() {
        assert_eq!(kind(LARDER), Kind::Larder(ValueFormat::Bytes));
        assert_eq!(kind(&[LARDER, &[("expires_at", "date")]].concat()), Kind::Larder(ValueFormat::Bytes));
        assert_eq!(
            kind(&[("_id", "string"), ("value", "object"), ("version", "long")]),
            Kind::Larder(ValueFormat::Json)
        );
        assert_eq!(kind(&[("_id", "string"), ("value", "int")]), Kind::Unversioned(ValueFormat::Json));
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
}
