//! Recognizes the kind of documents in a collection by the names and types of their fields. No I/O.

use mongodb::bson::{Bson, Document};

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
        let fields: Vec<_> = fields
            .filter_map(|field| Some((field.get_str("name").ok()?, field.get_str("type").ok()?)))
            .collect();
        let type_of = |name: &str| fields.iter().find(|field| field.0 == name).map(|field| field.1);
        let only = |names: &[&str]| fields.iter().all(|field| names.contains(&field.0));
        let Some(value) = type_of("value") else {
            return Self::Other;
        };
        if type_of("key") == Some("string") && only(&["_id", "key", "value"]) {
            return Self::Grammy;
        }
        let entry = type_of("_id") == Some("string") && only(&["_id", "value", "version", "expires_at"]);
        let format = if value == "binData" { ValueFormat::Binary } else { ValueFormat::Document };
        match type_of("version") {
            _ if !entry || type_of("expires_at").is_some_and(|expires_at| expires_at != "date") => {
                Self::Other
            }
            Some("long") => Self::Larder(format),
            Some(_) => Self::Other,
            None => Self::Unversioned(format),
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

/// The kinds of the documents looked at.
#[derive(Debug)]
pub(crate) struct Contents(pub(crate) Vec<Kind>);

impl Contents {
    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn any(&self, is: impl Fn(Kind) -> bool) -> bool {
        self.0.iter().any(|kind| is(*kind))
    }

    /// Says what is wrong with opening a collection of these documents in the layout and format of
    /// `model`. Some documents of other kinds do no harm: a listing reports each.
    pub(crate) fn check(&self, model: Model) -> Result<(), &'static str> {
        let versioned = self.any(|kind| matches!(kind, Kind::Larder(_)));
        let grammy = self.any(|kind| kind == Kind::Grammy);
        let entries = || self.0.iter().filter_map(|kind| kind.format());
        // Without a version a document says little: beside others it is one of theirs.
        let larder = versioned || !self.any(|kind| kind.format().is_none());
        match model.layout {
            _ if self.is_empty() => Ok(()),
            Layout::Larder if larder => match model.format {
                ValueFormat::Binary if entries().all(|format| format != ValueFormat::Binary) => Err(
                    "the values in the collection are BSON, not binary data; open it with values=document",
                ),
                ValueFormat::Document if entries().all(|format| format == ValueFormat::Binary) => Err(
                    "the values in the collection are binary data, not BSON; open it without values=document",
                ),
                _ => Ok(()),
            },
            Layout::Larder if grammy => {
                Err("the collection holds documents of grammY's layout; open it with layout=grammy")
            }
            Layout::Larder => Err(
                "the collection holds documents of another program (Larder's have the fields `_id`, `value`, \
                 `version` and `expires_at`); name another collection",
            ),
            Layout::Grammy if grammy => Ok(()),
            Layout::Grammy if versioned => {
                Err("the collection holds documents of Larder's own layout; open it without layout=grammy")
            }
            Layout::Grammy => Err(
                "the collection holds documents of another program (grammY's have the fields `_id`, `key` and \
                 `value`); name another collection",
            ),
        }
    }

    /// Says why the layout's index must not be made here: it would act on documents of another
    /// program too.
    pub(crate) fn check_pure(&self, layout: Layout) -> Result<(), &'static str> {
        match layout {
            Layout::Larder if self.any(|kind| kind.format().is_none()) => Err(
                "the collection holds other documents beside Larder's, which the index on `expires_at` could \
                 remove; move them to another collection, or open this one with setup=false",
            ),
            Layout::Larder if !self.is_empty() && !self.any(|kind| matches!(kind, Kind::Larder(_))) => Err(
                "the documents in the collection have no `version`, so they may be another program's; if they \
                 are meant for Larder, create the index by hand (expireAfterSeconds 0 on `expires_at`), or \
                 open the collection with setup=false",
            ),
            Layout::Grammy if self.any(|kind| kind != Kind::Grammy) => Err(
                "the collection holds other documents beside grammY's, which the unique index on `key` would \
                 restrict; move them to another collection, or open this one with setup=false",
            ),
            _ => Ok(()),
        }
    }
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
        for (kinds, model, fits, pure) in [
            (&[][..], larder, true, true),
            (&[], grammy, true, true),
            (&[ours], larder, true, true),
            (&[ours], document, false, true),
            (&[ours], grammy, false, false),
            (&[Kind::Larder(ValueFormat::Document)], document, true, true),
            (&[Kind::Larder(ValueFormat::Document)], larder, false, true),
            (&[Kind::Larder(ValueFormat::Document), ours], larder, true, true),
            (&[Kind::Unversioned(ValueFormat::Binary)], larder, true, false),
            (&[Kind::Unversioned(ValueFormat::Binary), ours], larder, true, true),
            (&[Kind::Unversioned(ValueFormat::Binary)], grammy, false, false),
            (&[Kind::Unversioned(ValueFormat::Binary), Kind::Other], larder, false, false),
            (&[Kind::Unversioned(ValueFormat::Binary), theirs], larder, false, false),
            (&[Kind::Unversioned(ValueFormat::Binary), theirs], grammy, true, false),
            (&[theirs], grammy, true, true),
            (&[theirs], larder, false, false),
            (&[Kind::Other], larder, false, false),
            (&[Kind::Other], grammy, false, false),
            (&[Kind::Other, ours], larder, true, false),
            (&[Kind::Other, theirs], grammy, true, false),
        ] {
            let contents = Contents(kinds.to_vec());
            assert_eq!(contents.check(model).is_ok(), fits, "{kinds:?} {model:?}");
            assert_eq!(contents.check_pure(model.layout).is_ok(), pure, "{kinds:?} {model:?}");
        }
    }
}
