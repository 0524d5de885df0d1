//! What the collection needs, and making it.
//!
//! Safe when several processes start at once: creating an index that is there already, with the same
//! options, does nothing.

use std::time::Duration;

use larder_core::{Error, ErrorKind, Operation, Result};
use mongodb::{
    Collection, Database, IndexModel,
    bson::{Document, doc},
    error::Result as DriverResult,
    options::IndexOptions,
};

use crate::{
    Layout, NAME,
    driver::Driver,
    error::{self, DUPLICATE_KEY, NAMESPACE_NOT_FOUND},
};

const OPERATION: Operation = Operation::Setup;

/// Checks the collection and creates the index that the layout needs.
pub(crate) async fn set_up(driver: &Driver, layout: Layout) -> Result<()> {
    let database = driver.database(OPERATION)?;
    let collection = driver.collection(OPERATION)?;
    let name = collection.name().to_owned();
    let options = driver.run(OPERATION, async move { collection_options(&database, &name).await }).await?;
    check_collection(options.as_ref())?;

    let listed = collection.clone();
    let indexes = driver.run(OPERATION, async move { indexes(&listed).await }).await?;
    let wanted = wanted(layout);
    if check_indexes(&indexes, &wanted, layout)? {
        return Ok(());
    }
    let created = driver.call(OPERATION, &[], async move { collection.create_index(wanted).await }).await?;
    match created {
        Ok(_) => Ok(()),
        Err(failed) if error::code(&failed) == Some(DUPLICATE_KEY) => Err(configuration(
            "several documents have the same `key`, so the unique index that layout=grammy needs cannot be \
             created; remove all but one of each (nothing has been changed), or leave the index out with \
             setup=false, where two writers may then create such documents again",
        )),
        Err(failed) => Err(error::from_driver(OPERATION, &failed)),
    }
}

/// The type and the options of the collection, as the server lists them; `None` if there is none.
async fn collection_options(database: &Database, name: &str) -> DriverResult<Option<Document>> {
    let command = doc! { "listCollections": 1, "filter": { "name": name }, "cursor": {} };
    let reply = database.run_command(command).await?;
    let first = reply.get_document("cursor").and_then(|cursor| cursor.get_array("firstBatch")).ok();
    Ok(first.and_then(|batch| batch.first()?.as_document().cloned()))
}

fn check_collection(listed: Option<&Document>) -> Result<()> {
    let Some(listed) = listed else {
        return Ok(());
    };
    match listed.get_str("type") {
        Ok("view") => return Err(configuration("the collection is a view, which cannot be written")),
        Ok("timeseries") => {
            return Err(configuration("the collection is a time series, whose documents cannot be replaced"));
        }
        _ => {}
    }
    let Ok(options) = listed.get_document("options") else {
        return Ok(());
    };
    if options.get_bool("capped").is_ok_and(|capped| capped) {
        return Err(configuration("the collection is capped: it would drop its oldest entries"));
    }
    let locale = options.get_document("collation").and_then(|collation| collation.get_str("locale"));
    if locale.is_ok_and(|locale| locale != "simple") {
        return Err(configuration(
            "the collection has a collation, by which different keys would be one; use another collection",
        ));
    }
    Ok(())
}

async fn indexes(collection: &Collection<Document>) -> DriverResult<Vec<IndexModel>> {
    let mut cursor = match collection.list_indexes().await {
        Ok(cursor) => cursor,
        Err(failed) if error::code(&failed) == Some(NAMESPACE_NOT_FOUND) => return Ok(Vec::new()),
        Err(failed) => return Err(failed),
    };
    let mut indexes = Vec::new();
    while cursor.advance().await? {
        indexes.push(cursor.deserialize_current()?);
    }
    Ok(indexes)
}

/// The index that the layout needs beside the one on `_id`, which every collection has.
fn wanted(layout: Layout) -> IndexModel {
    match layout {
        Layout::Larder => IndexModel::builder()
            .keys(doc! { "expires_at": 1 })
            .options(IndexOptions::builder().expire_after(Duration::ZERO).build())
            .build(),
        Layout::Grammy => IndexModel::builder()
            .keys(doc! { "key": 1 })
            .options(IndexOptions::builder().unique(true).build())
            .build(),
    }
}

/// Whether the wanted index is there, under whatever name.
fn check_indexes(found: &[IndexModel], wanted: &IndexModel, layout: Layout) -> Result<bool> {
    let same_key = found.iter().filter(|index| same_keys(&index.keys, &wanted.keys));
    let mut other = false;
    for index in same_key {
        let Some(options) = &index.options else {
            other = true;
            continue;
        };
        let whole = options.partial_filter_expression.is_none() && options.sparse != Some(true);
        let right = match layout {
            Layout::Larder => options.expire_after == Some(Duration::ZERO),
            Layout::Grammy => options.unique == Some(true) && whole,
        };
        if right {
            return Ok(true);
        }
        other = true;
    }
    if !other {
        return Ok(false);
    }
    Err(configuration(match layout {
        Layout::Larder => {
            "the collection has an index on `expires_at` that does not remove expired documents; drop it, or \
             change its expireAfterSeconds to 0 with collMod"
        }
        Layout::Grammy => {
            "the collection has an index on `key` that is not unique; drop it, and it is made anew"
        }
    }))
}

fn same_keys(one: &Document, other: &Document) -> bool {
    // Shells and drivers write the direction as whichever number type they like.
    let ascending = |document: &Document| {
        document.values().all(|direction| match direction {
            mongodb::bson::Bson::Int32(direction) => *direction == 1,
            mongodb::bson::Bson::Int64(direction) => *direction == 1,
            mongodb::bson::Bson::Double(direction) => *direction > 0.0,
            _ => false,
        })
    };
    one.keys().eq(other.keys()) && ascending(one) && ascending(other)
}

fn configuration(message: &'static str) -> Error {
    Error::new(ErrorKind::Configuration, message).with_adapter(NAME).with_operation(OPERATION)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(keys: Document, options: IndexOptions) -> IndexModel {
        IndexModel::builder().keys(keys).options(options).build()
    }

    #[test]
    fn an_index_counts_by_what_it_does_not_by_its_name() {
        let ttl = wanted(Layout::Larder);
        let id = index(doc! { "_id": 1 }, IndexOptions::default());
        assert!(!check_indexes(&[id], &ttl, Layout::Larder).unwrap());
        let named = IndexOptions::builder().name("mine".to_owned()).expire_after(Duration::ZERO).build();
        assert!(check_indexes(&[index(doc! { "expires_at": 1.0 }, named)], &ttl, Layout::Larder).unwrap());
        let late = IndexOptions::builder().expire_after(Duration::from_secs(60)).build();
        for wrong in [IndexOptions::default(), late] {
            let error =
                check_indexes(&[index(doc! { "expires_at": 1 }, wrong)], &ttl, Layout::Larder).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Configuration);
        }
        let unique = wanted(Layout::Grammy);
        let plain = index(doc! { "key": 1 }, IndexOptions::default());
        assert!(check_indexes(&[plain], &unique, Layout::Grammy).is_err());
        let compound = index(doc! { "key": 1, "value": 1 }, IndexOptions::default());
        assert!(!check_indexes(&[compound], &unique, Layout::Grammy).unwrap());
    }

    #[test]
    fn collections_that_would_lose_or_mix_up_entries_are_refused() {
        assert!(check_collection(None).is_ok());
        assert!(check_collection(Some(&doc! { "type": "collection", "options": {} })).is_ok());
        for listed in [
            doc! { "type": "view", "options": { "viewOn": "x" } },
            doc! { "type": "timeseries" },
            doc! { "type": "collection", "options": { "capped": true } },
            doc! { "type": "collection", "options": { "collation": { "locale": "de" } } },
        ] {
            assert_eq!(check_collection(Some(&listed)).unwrap_err().kind(), ErrorKind::Configuration);
        }
    }
}
