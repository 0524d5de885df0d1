//! Deleting all that is under a prefix.
//!
//! Page by page, each the keys of a listing deleted by name: a deletion that runs on after its caller
//! has gone then has known keys, and a later write of one of them waits for it as for any straggler.
//! One statement for the whole prefix would go on deleting what is written behind it.

use larder_core::{Key, Operation, Result};

use crate::{MongoStorage, batch, listing};

/// How many keys are deleted at once.
const KEYS_PER_PAGE: u32 = 500;

pub(crate) async fn clear(storage: &MongoStorage, prefix: &str) -> Result<u64> {
    let operation = Operation::Clear;
    storage.driver.check_open(operation)?;
    // A write that still runs may be of a key that no listing shows yet.
    storage.driver.settle(operation, prefix).await?;
    let mut deleted = 0;
    let mut after: Option<String> = None;
    loop {
        let page = listing::page(storage, operation, prefix, after.as_deref(), KEYS_PER_PAGE).await?;
        let more = page.full || page.documents.len() >= KEYS_PER_PAGE as usize;
        let names = page.documents.iter().map(|document| storage.model.key_of(document));
        let names = names.collect::<Result<Vec<String>>>()?;
        if names.is_empty() {
            return Ok(deleted);
        }
        // What somebody else put there under no valid key goes too; no write of ours can follow it.
        let keys: Vec<Key> = names.iter().filter_map(|name| Key::new(name).ok()).collect();
        let filter = storage.model.live(storage.model.by_keys(names.iter()));
        deleted += batch::delete(storage, operation, &keys, filter).await?;
        if !more {
            return Ok(deleted);
        }
        after = names.into_iter().next_back();
    }
}
