//! Listings, which scan the table.

use std::sync::Arc;

use aws_sdk_dynamodb::types::AttributeValue;
use larder_core::{Entry, ListOptions, Result, clock::unix_millis};
use larder_kit::{Pager, stored_key};

use crate::{
    error::from_sdk,
    item::{self, Item, WITHOUT_VALUE},
    quiet::quiet,
    storage::DynamoStorage,
};

/// The minimum number of items that a request reads, so that expired items do not cause many requests.
const SMALLEST_PAGE: i32 = 100;

pub(crate) struct Listing {
    storage: Arc<DynamoStorage>,
    options: ListOptions,
    /// The key of the last item of the page before; `None` once the last page was read.
    after: Option<Option<Item>>,
}

impl Listing {
    pub(crate) const fn new(storage: Arc<DynamoStorage>, options: ListOptions) -> Self {
        Self { storage, options, after: Some(None) }
    }

    fn entry(&self, mut item: Item, now: i64) -> Option<Result<Entry>> {
        let values = self.options.values;
        let mut read = || {
            let key = stored_key(item::stored_id(&mut item)?)?;
            match item::record(&mut item, values, now) {
                Ok(record) => {
                    Ok(record.map(|record| if values { Entry::new(key, record) } else { Entry::key(key) }))
                }
                Err(error) => Err(error.with_key(&key)),
            }
        };
        read().transpose()
    }
}

impl Pager for Listing {
    /// Reads a page of up to 1 MB, before DynamoDB leaves out the items without the prefix.
    async fn next_page(&mut self) -> Result<Option<Vec<Result<Entry>>>> {
        let Some(after) = self.after.take() else { return Ok(None) };
        let (storage, options) = (&self.storage, &self.options);
        let mut scan = storage
            .client
            .scan()
            .table_name(&storage.table)
            .consistent_read(storage.consistent)
            .set_exclusive_start_key(after)
            .set_projection_expression((!options.values).then(|| WITHOUT_VALUE.to_owned()));
        if !options.prefix.is_empty() {
            scan = scan
                .filter_expression("begins_with(id, :prefix)")
                .expression_attribute_values(":prefix", AttributeValue::S(options.prefix.clone()));
        } else if let Some(limit) = options.limit {
            // Counts all items, also those that have expired. `Store` leaves out the entries beyond the limit.
            scan = scan.limit(i32::try_from(limit.get()).unwrap_or(i32::MAX).max(SMALLEST_PAGE));
        }
        let page = quiet(scan.send()).await.map_err(from_sdk)?;
        self.after = page.last_evaluated_key.map(Some);
        let now = unix_millis();
        let items = page.items.unwrap_or_default();
        Ok(Some(items.into_iter().filter_map(|item| self.entry(item, now)).collect()))
    }
}
