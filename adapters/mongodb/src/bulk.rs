//! Several writes as one command; the driver has no call for that.

use larder_core::{Error, ErrorKind, Key, Result, Version};
use mongodb::{
    bson::{Bson, Document, doc},
    options::{UpdateModifications, WriteConcern},
};

use crate::{driver::Driver, error, model::Put};

/// How many writes one command holds.
pub(crate) const WRITES: usize = 500;
/// How many bytes of BSON values one command holds. MongoDB takes commands of 16 MiB.
pub(crate) const BYTES: usize = 8 * 1024 * 1024;

/// Sends unconditional writes of distinct `keys`; returns one result per write.
pub(crate) async fn send(driver: &Driver, keys: &[Key], puts: Vec<Put>) -> Result<Vec<Result<Version>>> {
    let collection = driver.collection()?;
    let mut results: Vec<_> = puts.iter().map(|put| Ok(put.version.clone())).collect();
    let update = |put: Put| {
        let update: Bson = match put.update {
            UpdateModifications::Document(operators) => operators.into(),
            UpdateModifications::Pipeline(stages) => stages.into(),
            _ => Bson::Null,
        };
        doc! { "q": put.filter, "u": update, "upsert": put.upsert }
    };
    let command = doc! {
        "update": collection.name(),
        "updates": puts.into_iter().map(update).collect::<Vec<_>>(),
        "ordered": false,
        "writeConcern": collection.write_concern().map(concern).unwrap_or_default(),
    };
    let database = driver.database()?;
    let reply = driver.write(keys, async move { database.run_command(command).await }).await?;
    if let Ok(failed) = reply.get_document("writeConcernError") {
        let (code, name) = code_of(failed);
        return Err(error::unconfirmed(code, name));
    }
    let failures = reply.get_array("writeErrors").map_or(&[][..], Vec::as_slice);
    for failure in failures.iter().filter_map(Bson::as_document) {
        let index = number(failure, "index").and_then(|index| usize::try_from(index).ok());
        let result = index.and_then(|index| results.get_mut(index)).ok_or_else(|| {
            Error::new(ErrorKind::Other, "the server names a write that was not in the batch")
        })?;
        let (code, name) = code_of(failure);
        *result = Err(error::from_code(code, name));
    }
    Ok(results)
}

fn code_of(error: &Document) -> (i32, Option<&str>) {
    let code = number(error, "code").and_then(|code| i32::try_from(code).ok()).unwrap_or_default();
    (code, error.get_str("codeName").ok())
}

fn number(document: &Document, name: &str) -> Option<i64> {
    match document.get(name)? {
        Bson::Int32(number) => Some(i64::from(*number)),
        Bson::Int64(number) => Some(*number),
        _ => None,
    }
}

/// The write concern as a command has it.
fn concern(concern: &WriteConcern) -> Document {
    serde_json::to_value(concern).and_then(serde_json::from_value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use mongodb::options::Acknowledgment;

    use super::*;

    #[test]
    fn write_concern_goes_into_the_command() {
        let durable = WriteConcern::builder().w(Acknowledgment::Majority).journal(true).build();
        assert_eq!(concern(&durable), doc! { "w": "majority", "j": true });
        let two = Acknowledgment::Nodes(2);
        let timed = WriteConcern::builder().w(two).w_timeout(std::time::Duration::from_secs(1)).build();
        let found = concern(&timed);
        // As some number.
        assert_eq!(number(&found, "w"), Some(2));
        assert_eq!(number(&found, "wtimeout"), Some(1_000));
    }
}
