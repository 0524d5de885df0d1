//! Checks the collection, and creates its index.
//!
//! The check comes first: an index is created only in a collection that is new, empty or of this layout. In another
//! program's collection it would delete documents (`expires_at`) or reject them (`key`).
//!
//! Several processes may start at the same time: creating an index that already exists with the same options does
//! nothing.

mod shape;

use std::time::Duration;

use futures_util::TryStreamExt;
use larder_core::{ErrorKind, Result};
use mongodb::{
    IndexModel,
    bson::{Bson, Document, doc},
    options::IndexOptions,
};

pub(crate) use self::shape::Kind;
use crate::{
    driver::{Driver, Query},
    error::invalid_config,
};

/// The number of documents to look at from either end of the index on `_id`.
const LOOKED_AT: i32 = 10;

/// A layout's requirements for its collection, and the errors for other collections.
pub(crate) trait Schema: Copy {
    /// The error for an index that has the field of the required index, but other options.
    const WRONG_INDEX: &'static str;
    /// The error for an empty collection that has the other layout's index.
    const OTHER_INDEX: &'static str;

    /// Returns the fields of the documents, as the `properties` of a JSON schema.
    fn fields() -> Document;

    /// Returns the index that the layout needs besides the one on `_id`, which every collection has.
    fn index() -> IndexModel;

    /// Returns the index that the other layout needs.
    fn other_index() -> IndexModel;

    /// Checks that a collection of these documents can be opened. Some documents of other kinds are allowed: a listing
    /// reports each.
    fn check(self, documents: &[Kind]) -> Result<(), &'static str>;

    /// Returns the error for a document that is not of the layout and prevents the creation of the index, which would
    /// also affect it.
    fn beside(other: Kind) -> &'static str;
}

/// Returns the index of Larder's own layout: the server removes expired documents.
pub(crate) fn ttl_index() -> IndexModel {
    let options = IndexOptions::builder().expire_after(Duration::ZERO).build();
    IndexModel::builder().keys(doc! { "expires_at": 1 }).options(options).build()
}

/// Returns the index of grammY's layout: each key has one document.
pub(crate) fn key_index() -> IndexModel {
    let options = IndexOptions::builder().unique(true).build();
    IndexModel::builder().keys(doc! { "key": 1 }).options(options).build()
}

/// Checks the collection and creates the index that the layout needs.
pub(crate) async fn set_up<S: Schema>(driver: &Driver, schema: S) -> Result<()> {
    let found = Found::look(driver).await?;
    if found.check_for_writing(schema)? {
        return Ok(());
    }
    if !found.documents.is_empty() {
        // Reads the whole collection, as the server does to create the index.
        let others = [doc! { "$match": not_of::<S>() }, doc! { "$limit": 1 }];
        if let Some(other) = kinds(driver, others).await?.first() {
            return Err(invalid_config(S::beside(*other)));
        }
    }
    let collection = driver.collection()?;
    match driver.run(&[], async move { collection.create_index(S::index()).await }).await {
        // Another process may have set up the collection for the other layout in the meantime.
        Ok(_) => Found::look(driver).await?.check_for_writing(schema).map(drop),
        Err(error) if error.kind() == ErrorKind::Conflict => Err(invalid_config(
            "several documents have the same `key`, so the unique index that `layout=grammy` needs cannot be created; \
             nothing was changed: delete all but one of each, or use `setup=false`, with which two writers may create \
             such documents again",
        )),
        Err(error) => Err(error),
    }
}

/// Checks that the collection exists and has this layout. Changes nothing.
pub(crate) async fn check_existing(driver: &Driver, schema: impl Schema) -> Result<()> {
    let found = Found::look(driver).await?;
    if found.listed.is_none() {
        let collection = driver.collection()?.namespace();
        return Err(invalid_config(format!(
            "the collection `{}` does not exist in the database `{}`: check both names",
            collection.coll, collection.db,
        )));
    }
    found.check_collation()?;
    found.check_layout(schema)
}

/// Checks that the documents, if any, do not have the other layout or format, in which entries would seem to be absent.
/// Changes nothing. Documents of another program are allowed, because the caller may disable set-up to share its
/// collection.
pub(crate) async fn check_documents(driver: &Driver, schema: impl Schema) -> Result<()> {
    match documents(driver).await {
        Ok(documents) if shape::are_foreign(&documents) => Ok(()),
        Ok(documents) => schema.check(&documents).map_err(invalid_config),
        // The user may have permissions on single documents only.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => driver.ping().await,
        Err(error) => Err(error),
    }
}

/// The contents of the collection.
struct Found {
    /// The reply of `listCollections`; `None` if the collection does not exist.
    listed: Option<Document>,
    indexes: Vec<IndexModel>,
    /// The documents at both ends.
    documents: Vec<Kind>,
}

impl Found {
    async fn look(driver: &Driver) -> Result<Self> {
        let listed = driver.listed().await?;
        let indexes = match &listed {
            Some(_) => {
                let collection = driver.collection()?;
                let list = async move { collection.list_indexes().await?.try_collect().await };
                driver.run(&[], list).await?
            }
            None => Vec::new(),
        };
        Ok(Self { listed, indexes, documents: documents(driver).await? })
    }

    /// Returns whether the required index exists, or an error if the collection cannot be used or belongs to another
    /// program.
    fn check_for_writing<S: Schema>(&self, schema: S) -> Result<bool> {
        self.check_writable()?;
        self.check_collation()?;
        self.check_layout(schema)?;
        self.check_other_uses::<S>()?;
        check_indexes(&self.indexes, &S::index(), S::WRONG_INDEX)
    }

    /// Returns an option of the collection.
    fn option(&self, name: &str) -> Option<&Bson> {
        self.listed.as_ref()?.get_document("options").ok()?.get(name)
    }

    fn check_writable(&self) -> Result<()> {
        let kind = self.listed.as_ref().and_then(|listed| listed.get_str("type").ok());
        Err(invalid_config(match kind {
            Some("view") => "the collection is a view, which cannot be written",
            Some("timeseries") => "the collection is a time series, whose documents cannot be replaced",
            _ if self.option("capped") == Some(&Bson::Boolean(true)) => {
                "the collection is capped, so it would drop its oldest entries"
            }
            _ => return Ok(()),
        }))
    }

    fn check_collation(&self) -> Result<()> {
        let collation = self.option("collation").and_then(Bson::as_document);
        let locale = collation.and_then(|collation| collation.get_str("locale").ok());
        if locale.is_none_or(|locale| locale == "simple") {
            return Ok(());
        }
        Err(invalid_config(
            "the collection has a collation, so different keys could be equal: use another collection",
        ))
    }

    /// Rejects a collection of the other layout or of another program.
    fn check_layout<S: Schema>(&self, schema: S) -> Result<()> {
        schema.check(&self.documents).map_err(invalid_config)?;
        if self.documents.is_empty() && self.indexes.iter().any(|index| serves(index, &S::other_index())) {
            return Err(invalid_config(S::OTHER_INDEX));
        }
        Ok(())
    }

    /// Rejects an empty collection that is prepared for another program, and an index that allows only one document of
    /// this layout.
    fn check_other_uses<S: Schema>(&self) -> Result<()> {
        let empty = self.documents.is_empty();
        if empty && self.option("validator").is_some() {
            return Err(invalid_config(
                "the collection is empty and has validation rules, so it may be meant for another program: use another \
                 collection, or open this one with `setup=false`",
            ));
        }
        let fields = S::fields();
        let is_own = |name: &String| {
            let field = name.split('.').next().unwrap_or(name);
            field == "$**" || field == "_id" || fields.contains_key(field)
        };
        let foreign = |index: &&IndexModel| !index.keys.keys().any(is_own);
        let Some(index) = self.indexes.iter().filter(foreign).find(|index| empty || is_unique(index)) else {
            return Ok(());
        };
        let name = index.options.as_ref().and_then(|options| options.name.as_deref()).unwrap_or("unnamed");
        Err(invalid_config(if empty {
            format!(
                "the collection is empty and has an index on fields that are not Larder's (`{name}`), so it may be \
                 meant for another program: use another collection, or drop that index"
            )
        } else {
            format!(
                "the collection has a unique index on fields that its documents do not have (`{name}`), so it \
                 allows only one of them: drop that index"
            )
        }))
    }
}

/// Returns the kinds of the documents at both ends in the order of `_id`, which separates those of different programs:
/// numbers sort before strings, and ObjectIds after them.
async fn documents(driver: &Driver) -> Result<Vec<Kind>> {
    let mut found = Vec::new();
    for direction in [1, -1] {
        let stages = [doc! { "$sort": { "_id": direction } }, doc! { "$limit": LOOKED_AT }];
        found.extend(kinds(driver, stages).await?);
    }
    Ok(found)
}

/// Returns the kinds of the documents that `stages` find, at most [`LOOKED_AT`]. Reads only the names and types of
/// their fields.
async fn kinds(driver: &Driver, stages: [Document; 2]) -> Result<Vec<Kind>> {
    let fields = doc! { "$map": {
        "input": { "$objectToArray": "$$ROOT" },
        "as": "field",
        "in": { "name": "$$field.k", "type": { "$type": "$$field.v" } },
    } };
    let mut pipeline = stages.to_vec();
    pipeline.push(doc! { "$project": { "_id": 0, "fields": fields } });
    let query = Query { primary: true, ..Query::new(pipeline) };
    let found = driver.find(query).await?.into_iter();
    Ok(found.map(|fields| Kind::of(&Document::try_from(fields).unwrap_or_default())).collect())
}

/// Returns the filter for documents that do not have exactly the fields of the layout. Only the expiry is optional.
fn not_of<S: Schema>() -> Document {
    let fields = S::fields();
    let required: Vec<_> = fields.keys().filter(|name| *name != "expires_at").cloned().collect();
    let schema = doc! { "required": required, "properties": fields, "additionalProperties": false };
    doc! { "$nor": [{ "$jsonSchema": schema }] }
}

/// Returns whether the index is on the field of the wanted one, and on no other.
fn is_in_place(index: &IndexModel, wanted: &IndexModel) -> bool {
    // Shells and drivers use different types of numbers for the direction.
    let ascending =
        |field| matches!(index.keys.get(field), Some(Bson::Int32(1) | Bson::Int64(1) | Bson::Double(1.0)));
    index.keys.len() == 1 && wanted.keys.keys().all(ascending)
}

/// Returns whether the index has the same effect as the wanted one, under any name.
fn serves(index: &IndexModel, wanted: &IndexModel) -> bool {
    let expires_after = |index: &IndexModel| index.options.as_ref()?.expire_after;
    is_in_place(index, wanted)
        && (!is_unique(wanted) || is_unique(index))
        && expires_after(wanted).is_none_or(|wanted| expires_after(index) == Some(wanted))
}

/// Returns whether two documents cannot have the same values in the fields of the index.
fn is_unique(index: &IndexModel) -> bool {
    index.options.as_ref().is_some_and(|options| {
        options.unique == Some(true)
            && options.sparse != Some(true)
            && options.partial_filter_expression.is_none()
    })
}

/// Returns whether the wanted index exists, or an error if it exists with other options.
fn check_indexes(found: &[IndexModel], wanted: &IndexModel, wrong: &'static str) -> Result<bool> {
    let is_there = found.iter().any(|index| serves(index, wanted));
    if !is_there && found.iter().any(|index| is_in_place(index, wanted)) {
        return Err(invalid_config(wrong));
    }
    Ok(is_there)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(keys: Document, options: IndexOptions) -> IndexModel {
        IndexModel::builder().keys(keys).options(options).build()
    }

    #[test]
    fn an_index_is_recognized_by_its_effect() {
        let check = |index, wanted: IndexModel| check_indexes(&[index], &wanted, "wrong");
        let id = index(doc! { "_id": 1 }, IndexOptions::default());
        assert!(!check(id, ttl_index()).unwrap());
        let named = IndexOptions::builder().name("mine".to_owned()).expire_after(Duration::ZERO).build();
        assert!(check(index(doc! { "expires_at": 1.0 }, named), ttl_index()).unwrap());
        let late = IndexOptions::builder().expire_after(Duration::from_secs(60)).build();
        for wrong in [IndexOptions::default(), late] {
            let error = check(index(doc! { "expires_at": 1 }, wrong), ttl_index()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        }
        let plain = index(doc! { "key": 1 }, IndexOptions::default());
        assert!(check(plain, key_index()).is_err());
        let compound = index(doc! { "key": 1, "value": 1 }, IndexOptions::default());
        assert!(!check(compound, key_index()).unwrap());
    }

    #[test]
    fn collections_that_would_lose_or_confuse_entries_are_rejected() {
        let check = |listed: Document| {
            let found = Found { listed: Some(listed), indexes: Vec::new(), documents: Vec::new() };
            found.check_writable().and_then(|()| found.check_collation())
        };
        assert!(check(doc! { "type": "collection", "options": {} }).is_ok());
        for listed in [
            doc! { "type": "view", "options": { "viewOn": "x" } },
            doc! { "type": "timeseries" },
            doc! { "type": "collection", "options": { "capped": true } },
            doc! { "type": "collection", "options": { "collation": { "locale": "de" } } },
        ] {
            assert_eq!(check(listed).unwrap_err().kind(), ErrorKind::InvalidConfig);
        }
    }
}
