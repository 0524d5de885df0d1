//! Checks the collection, and creates its index.
//!
//! Looking comes first: an index is made only in a collection that is new, empty or of this layout. In
//! another program's collection it would delete documents (`expires_at`) or refuse them (`key`).
//!
//! Safe when several processes start at once: creating an index that is there already, with the same
//! options, does nothing.

use std::time::Duration;

use futures_util::TryStreamExt;
use larder_core::{ErrorKind, Result};
use mongodb::{
    Collection, IndexModel,
    bson::{Bson, Document, doc},
    error::Result as DriverResult,
    options::IndexOptions,
};

use crate::{
    config::Layout,
    driver::{Driver, Query},
    error::{self, NAMESPACE_NOT_FOUND, invalid_config},
    model::Model,
    shape::{self, Contents, Kind},
};

/// How many documents are looked at from either end of the index on `_id`.
const LOOKED_AT: i32 = 10;

/// Checks the collection and creates the index that the layout needs.
pub(crate) async fn set_up(driver: &Driver, model: Model) -> Result<()> {
    let found = Found::look(driver).await?;
    if check_for_writing(&found, model)? {
        return Ok(());
    }
    if !found.contents.is_empty() {
        check_all(driver, model.layout).await?;
    }
    let collection = driver.collection()?;
    let wanted = wanted(model.layout);
    match driver.read(async move { collection.create_index(wanted).await }).await {
        // Another process may have set the collection up for the other layout since.
        Ok(_) => check_for_writing(&Found::look(driver).await?, model).map(drop),
        Err(error) if error.kind() == ErrorKind::Conflict => Err(invalid_config(
            "several documents have the same `key`, so the unique index that layout=grammy needs cannot be \
             created; remove all but one of each (nothing has been changed), or leave the index out with \
             setup=false, where two writers may then create such documents again",
        )),
        Err(error) => Err(error),
    }
}

/// Checks that the collection is there and of this layout. Changes nothing.
pub(crate) async fn check_existing(driver: &Driver, model: Model) -> Result<()> {
    let found = Found::look(driver).await?;
    let Some(listed) = &found.listed else {
        let collection = driver.collection()?.namespace();
        return Err(invalid_config(format!(
            "there is no collection `{}` in the database `{}`; check both names",
            collection.coll, collection.db,
        )));
    };
    check_collation(listed)?;
    found.check_layout(model)
}

/// Checks that the documents, if there are some, are not of the other layout or format, where entries would
/// seem to be absent. Changes nothing. Documents of another program are left to the caller, who may leave
/// out the set-up to share a collection with it.
pub(crate) async fn check_contents(driver: &Driver, model: Model) -> Result<()> {
    match contents(driver).await {
        Ok(contents) if contents.is_foreign() => Ok(()),
        Ok(contents) => contents.check(model).map_err(invalid_config),
        // The user may have rights on single entries alone.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => driver.ping().await,
        Err(error) => Err(error),
    }
}

/// Refuses to create the index if any document is not of the layout. Reads the whole collection, as the
/// server does to create the index.
async fn check_all(driver: &Driver, layout: Layout) -> Result<()> {
    let stages = [doc! { "$match": shape::not_of(layout) }, doc! { "$limit": 1 }];
    match kinds(driver, stages).await?.first() {
        Some(kind) => Err(invalid_config(kind.beside(layout))),
        None => Ok(()),
    }
}

/// Whether the wanted index is there; an error if the collection cannot be used, or belongs to another
/// program.
fn check_for_writing(found: &Found, model: Model) -> Result<bool> {
    if let Some(listed) = &found.listed {
        check_writable(listed)?;
        check_collation(listed)?;
    }
    found.check_layout(model)?;
    found.check_other_uses(model.layout)?;
    check_indexes(&found.indexes, model.layout)
}

/// The contents of the collection.
struct Found {
    listed: Option<Document>,
    indexes: Vec<IndexModel>,
    contents: Contents,
}

impl Found {
    async fn look(driver: &Driver) -> Result<Self> {
        let (database, collection) = (driver.database()?, driver.collection()?);
        let listed = async move {
            let indexes = indexes(&collection).await?;
            let filter = doc! { "name": collection.name() };
            let command = doc! { "listCollections": 1, "filter": filter, "cursor": {} };
            Ok((indexes, database.run_command(command).await?))
        };
        let (indexes, reply) = driver.read(listed).await?;
        let listed = reply.get_document("cursor").and_then(|cursor| cursor.get_array("firstBatch")).ok();
        let listed = listed.and_then(|batch| batch.first()?.as_document().cloned());
        Ok(Self { listed, indexes, contents: contents(driver).await? })
    }

    /// Refuses what is of the other layout or of another program.
    fn check_layout(&self, model: Model) -> Result<()> {
        self.contents.check(model).map_err(invalid_config)?;
        let other = match model.layout {
            Layout::Larder => Layout::Grammy,
            Layout::Grammy => Layout::Larder,
        };
        if self.contents.is_empty() && self.indexes.iter().any(|index| is_right(index, other)) {
            return Err(invalid_config(match model.layout {
                Layout::Larder => {
                    "the collection is empty and has the unique index on `key` of grammY's layout; open it with \
                     layout=grammy, or drop that index"
                }
                Layout::Grammy => {
                    "the collection is empty and has the index on `expires_at` of Larder's own layout; open it \
                     without layout=grammy, or drop that index"
                }
            }));
        }
        Ok(())
    }

    /// Refuses an empty collection that is prepared for another program's documents, and an index that takes
    /// one document of this layout and no second.
    fn check_other_uses(&self, layout: Layout) -> Result<()> {
        let options = self.listed.as_ref().and_then(|listed| listed.get_document("options").ok());
        let empty = self.contents.is_empty();
        if empty && options.is_some_and(|options| options.contains_key("validator")) {
            return Err(invalid_config(
                "the collection is empty and has validation rules, so it may be meant for another program; \
                 name another collection, or open this one with setup=false",
            ));
        }
        let foreign = |index: &&IndexModel| !index.keys.keys().any(|name| is_own(name, layout));
        let Some(index) = self.indexes.iter().filter(foreign).find(|index| empty || is_unique(index)) else {
            return Ok(());
        };
        let name = index.options.as_ref().and_then(|options| options.name.as_deref()).unwrap_or("unnamed");
        Err(invalid_config(if empty {
            format!(
                "the collection is empty and has an index on other fields than Larder's (`{name}`), so it may \
                 be meant for another program; name another collection, or drop that index"
            )
        } else {
            format!(
                "the collection has a unique index on fields that its documents do not have (`{name}`), so it \
                 takes only one of them; drop that index"
            )
        }))
    }
}

/// Whether an index on this field, or on one within it, is one that documents of the layout can have.
fn is_own(name: &str, layout: Layout) -> bool {
    let fields: &[&str] = match layout {
        Layout::Larder => &["_id", "value", "version", "expires_at", "$**"],
        Layout::Grammy => &["_id", "key", "value", "$**"],
    };
    fields.contains(&name.split('.').next().unwrap_or(name))
}

/// The kinds of the documents at both ends: in the order of `_id`, those of different programs stand apart.
/// Numbers come before strings, ObjectIds after them.
async fn contents(driver: &Driver) -> Result<Contents> {
    let mut found = Vec::new();
    for direction in [1, -1] {
        let stages = [doc! { "$sort": { "_id": direction } }, doc! { "$limit": LOOKED_AT }];
        found.extend(kinds(driver, stages).await?);
    }
    Ok(Contents(found))
}

/// The kinds of the documents that `stages` find, which are at most [`LOOKED_AT`]. Only the names and types
/// of their fields leave the server.
async fn kinds(driver: &Driver, stages: [Document; 2]) -> Result<Vec<Kind>> {
    let fields = doc! { "$map": {
        "input": { "$objectToArray": "$$ROOT" },
        "as": "field",
        "in": { "name": "$$field.k", "type": { "$type": "$$field.v" } },
    } };
    let mut pipeline = stages.to_vec();
    pipeline.push(doc! { "$project": { "_id": 0, "fields": fields } });
    let query = Query { primary: true, ..Query::new(pipeline, LOOKED_AT as usize) };
    let found = driver.find(query).await?.into_iter();
    Ok(found.map(|fields| Kind::of(&Document::try_from(fields).unwrap_or_default())).collect())
}

fn check_writable(listed: &Document) -> Result<()> {
    let capped = listed.get_document("options").and_then(|options| options.get_bool("capped"));
    Err(invalid_config(match listed.get_str("type") {
        Ok("view") => "the collection is a view, which cannot be written",
        Ok("timeseries") => "the collection is a time series, whose documents cannot be replaced",
        _ if matches!(capped, Ok(true)) => "the collection is capped: it would drop its oldest entries",
        _ => return Ok(()),
    }))
}

fn check_collation(listed: &Document) -> Result<()> {
    let collation = listed.get_document("options").and_then(|options| options.get_document("collation"));
    if collation.is_ok_and(|collation| collation.get_str("locale").is_ok_and(|locale| locale != "simple")) {
        return Err(invalid_config(
            "the collection has a collation, by which different keys would be one; use another collection",
        ));
    }
    Ok(())
}

async fn indexes(collection: &Collection<Document>) -> DriverResult<Vec<IndexModel>> {
    match collection.list_indexes().await {
        Ok(indexes) => indexes.try_collect().await,
        Err(failed) if error::code(&failed) == Some(NAMESPACE_NOT_FOUND) => Ok(Vec::new()),
        Err(failed) => Err(failed),
    }
}

/// The field of the index that the layout needs beside the one on `_id`, which every collection has.
const fn index_field(layout: Layout) -> &'static str {
    match layout {
        Layout::Larder => "expires_at",
        Layout::Grammy => "key",
    }
}

fn wanted(layout: Layout) -> IndexModel {
    let options = match layout {
        Layout::Larder => IndexOptions::builder().expire_after(Duration::ZERO).build(),
        Layout::Grammy => IndexOptions::builder().unique(true).build(),
    };
    IndexModel::builder().keys(doc! { index_field(layout): 1 }).options(options).build()
}

/// Whether this is the wanted index, under whatever name.
fn is_right(index: &IndexModel, layout: Layout) -> bool {
    let expires =
        || index.options.as_ref().is_some_and(|options| options.expire_after == Some(Duration::ZERO));
    is_in_place(index, layout) && if layout == Layout::Larder { expires() } else { is_unique(index) }
}

/// Whether the index is on the field of the wanted one, and on no other.
fn is_in_place(index: &IndexModel, layout: Layout) -> bool {
    let direction = index.keys.get(index_field(layout));
    // Shells and drivers write it as whichever number type they like.
    matches!(direction, Some(Bson::Int32(1) | Bson::Int64(1) | Bson::Double(1.0))) && index.keys.len() == 1
}

/// Whether no two documents can have the same in the fields of the index.
fn is_unique(index: &IndexModel) -> bool {
    index.options.as_ref().is_some_and(|options| {
        options.unique == Some(true)
            && options.sparse != Some(true)
            && options.partial_filter_expression.is_none()
    })
}

/// Whether the wanted index is there; an error if another one is in its place.
fn check_indexes(found: &[IndexModel], layout: Layout) -> Result<bool> {
    if found.iter().any(|index| is_right(index, layout)) {
        return Ok(true);
    }
    if !found.iter().any(|index| is_in_place(index, layout)) {
        return Ok(false);
    }
    Err(invalid_config(match layout {
        Layout::Larder => {
            "the collection has an index on `expires_at` that does not remove expired documents; drop it, or \
             change its expireAfterSeconds to 0 with collMod"
        }
        Layout::Grammy => {
            "the collection has an index on `key` that is not unique; drop it, and it is created again"
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(keys: Document, options: IndexOptions) -> IndexModel {
        IndexModel::builder().keys(keys).options(options).build()
    }

    #[test]
    fn an_index_counts_by_what_it_does_not_by_its_name() {
        let id = index(doc! { "_id": 1 }, IndexOptions::default());
        assert!(!check_indexes(&[id], Layout::Larder).unwrap());
        let named = IndexOptions::builder().name("mine".to_owned()).expire_after(Duration::ZERO).build();
        assert!(check_indexes(&[index(doc! { "expires_at": 1.0 }, named)], Layout::Larder).unwrap());
        let late = IndexOptions::builder().expire_after(Duration::from_secs(60)).build();
        for wrong in [IndexOptions::default(), late] {
            let error = check_indexes(&[index(doc! { "expires_at": 1 }, wrong)], Layout::Larder).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        }
        let plain = index(doc! { "key": 1 }, IndexOptions::default());
        assert!(check_indexes(&[plain], Layout::Grammy).is_err());
        let compound = index(doc! { "key": 1, "value": 1 }, IndexOptions::default());
        assert!(!check_indexes(&[compound], Layout::Grammy).unwrap());
    }

    #[test]
    fn collections_that_would_lose_or_mix_up_entries_are_refused() {
        let check = |listed: &Document| check_writable(listed).and_then(|()| check_collation(listed));
        assert!(check(&doc! { "type": "collection", "options": {} }).is_ok());
        for listed in [
            doc! { "type": "view", "options": { "viewOn": "x" } },
            doc! { "type": "timeseries" },
            doc! { "type": "collection", "options": { "capped": true } },
            doc! { "type": "collection", "options": { "collation": { "locale": "de" } } },
        ] {
            assert_eq!(check(&listed).unwrap_err().kind(), ErrorKind::InvalidConfig);
        }
    }
}
