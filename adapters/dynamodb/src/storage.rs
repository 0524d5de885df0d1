//! The storage.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use aws_sdk_dynamodb::{
    Client,
    types::{KeysAndAttributes, ReturnValue},
};
use larder_core::{
    Action, Applied, Bytes, Change, DeleteOptions, EntryStream, Expiry, Info, Key, ListOptions, Location,
    ReadOptions, Record, Result, Storage, TouchOptions, Version, Versions, WriteOptions, Written,
    async_trait, clock::unix_millis,
};
use larder_kit::{Configure, pages, read_chunks, side_by_side};

use crate::{
    batch,
    config::Config,
    error::{from_sdk, incomplete, met, unprocessed},
    item::{self, ID, Item, MAX_VALUE, WITHOUT_VALUE},
    listing::Listing,
    pauses::Pauses,
    quiet::quiet,
};

/// The maximum number of concurrent requests of one call.
pub(crate) const CONCURRENT: usize = 16;

/// The maximum number of keys in one request.
const KEYS: usize = 100;

/// A storage in a DynamoDB table.
pub(crate) struct DynamoStorage {
    pub(crate) client: Client,
    pub(crate) table: String,
    pub(crate) consistent: bool,
    pub(crate) timeout: Duration,
}

impl DynamoStorage {
    /// Makes one change with one request.
    pub(crate) async fn change(&self, change: &Change) -> Result<Applied> {
        let (client, table, now) = (&self.client, &self.table, unix_millis());
        let mut version = None;
        let changed = match &change.action {
            Action::Put(value, expiry) => {
                let (condition, values) = item::condition(change, now);
                let new = version.insert(Version::unique());
                let item = item::item(&change.key, value, new, *expiry, now);
                let put = client.put_item().table_name(table).set_item(Some(item));
                let put = put.set_condition_expression(condition).set_expression_attribute_values(values);
                met(quiet(put.send()).await)?.is_some()
            }
            Action::Delete => {
                let (condition, values) = item::condition(change, now);
                let delete = client.delete_item().table_name(table).key(ID, item::id(&change.key));
                let delete =
                    delete.set_condition_expression(condition).set_expression_attribute_values(values);
                met(quiet(delete.send()).await)?.is_some()
            }
            Action::Touch(expiry) => self.touch_item(change, *expiry, ReturnValue::None).await?.is_some(),
        };
        change.applied(changed, version)
    }

    /// Touches an entry. Returns `None` if the condition of the change does not hold, otherwise the attributes that
    /// were requested.
    async fn touch_item(
        &self,
        change: &Change,
        expiry: Expiry,
        returned: ReturnValue,
    ) -> Result<Option<Item>> {
        let now = unix_millis();
        let (condition, tested) = item::condition(change, now);
        let (update, mut values) = item::touch(expiry, now);
        values.extend(tested.into_iter().flatten());
        let touch = self.client.update_item().table_name(&self.table).key(ID, item::id(&change.key));
        let touch = touch.set_condition_expression(condition).update_expression(update);
        let touch = touch.set_expression_attribute_values(Some(values)).return_values(returned);
        Ok(met(quiet(touch.send()).await)?.map(|output| output.attributes.unwrap_or_default()))
    }

    async fn read_and_touch(
        &self,
        key: &Key,
        options: &ReadOptions,
        expiry: Expiry,
    ) -> Result<Option<Record>> {
        let returned = if options.value { ReturnValue::AllNew } else { ReturnValue::None };
        let touch = Change::touch(key.clone(), expiry);
        let Some(mut item) = self.touch_item(&touch, expiry, returned).await? else { return Ok(None) };
        if !options.value {
            return Ok(Some(Record::new(Bytes::new()).expires(expiry)));
        }
        // The entry was live when it was touched, even if it has expired since then.
        let record = item::record(&mut item, true, i64::MIN)?;
        Ok(record.map(|record| record.expires(expiry)))
    }

    /// Reads the records that exist. Returns them by key.
    async fn read_together(
        &self,
        keys: &[Key],
        options: &ReadOptions,
    ) -> Result<HashMap<String, Result<Record>>> {
        // DynamoDB rejects a request that names a key twice.
        let distinct: HashSet<&Key> = keys.iter().collect();
        let mut waiting: Vec<Item> =
            distinct.into_iter().map(|key| Item::from([(ID.to_owned(), item::id(key))])).collect();
        let (mut records, mut pauses) = (HashMap::new(), Pauses::within(self.timeout));
        loop {
            let requested = waiting.len();
            let wanted = KeysAndAttributes::builder()
                .set_keys(Some(waiting))
                .consistent_read(self.consistent)
                .set_projection_expression((!options.value).then(|| WITHOUT_VALUE.to_owned()))
                .build()
                .map_err(incomplete)?;
            let get = self.client.batch_get_item().request_items(&self.table, wanted);
            let read = quiet(get.send()).await.map_err(from_sdk)?;
            let now = unix_millis();
            for mut item in read.responses.into_iter().flat_map(HashMap::into_values).flatten() {
                let key = item::stored_id(&mut item)?;
                if let Some(record) = item::record(&mut item, options.value, now).transpose() {
                    records.insert(key, record);
                }
            }
            // A part of the keys, if the table is throttled or the values have more than 16 MB.
            waiting = read
                .unprocessed_keys
                .into_iter()
                .flat_map(HashMap::into_values)
                .flat_map(|rest| rest.keys)
                .collect();
            if waiting.is_empty() {
                return Ok(records);
            }
            // The rest may only be beyond the 16 MB, which is not a failure.
            if waiting.len() < requested {
                pauses = Pauses::within(self.timeout);
            }
            if !pauses.next().await {
                return Err(unprocessed());
            }
        }
    }
}

#[async_trait]
impl Storage for DynamoStorage {
    async fn read(&self, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
        let record = match options.touch {
            Some(expiry) => self.read_and_touch(key, options, expiry).await,
            None => {
                let get = self.client.get_item().table_name(&self.table).key(ID, item::id(key));
                let fields = (!options.value).then(|| WITHOUT_VALUE.to_owned());
                let get = get.consistent_read(self.consistent).set_projection_expression(fields);
                let found = quiet(get.send()).await.map_err(from_sdk)?.item;
                found.map_or(Ok(None), |mut item| item::record(&mut item, options.value, unix_millis()))
            }
        };
        record.map_err(|error| error.with_key(key))
    }

    async fn write(&self, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        let put = Change::put(key.clone(), value, options.expiry).on(options.condition.clone());
        Ok(self.change(&put).await?.written())
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<bool> {
        let delete = Change::delete(key.clone()).on(options.condition.clone());
        Ok(self.change(&delete).await?.existed())
    }

    fn info(&self) -> Info {
        Info::minimal(Config::ADAPTER)
            .with_persistence()
            .with_sharing()
            .with_expiry()
            .with_versions(Versions::Unique)
            .with_listing()
            .with_max_value(MAX_VALUE as u64)
    }

    async fn touch(&self, key: &Key, expiry: Expiry, options: &TouchOptions) -> Result<bool> {
        let touch = Change::touch(key.clone(), expiry).on(options.condition.clone());
        Ok(self.change(&touch).await?.existed())
    }

    async fn read_many(&self, keys: &[Key], options: &ReadOptions) -> Vec<Result<Option<Record>>> {
        if options.touch.is_some() {
            return side_by_side(keys.iter().map(|key| self.read(key, options)), CONCURRENT).await;
        }
        read_chunks(keys, KEYS, CONCURRENT, |chunk| self.read_together(chunk, options)).await
    }

    async fn apply(&self, changes: Vec<Change>) -> Vec<Result<Applied>> {
        batch::apply(self, changes).await
    }

    fn list(self: Arc<Self>, options: ListOptions) -> EntryStream {
        pages(Listing::new(self, options))
    }

    async fn location(&self) -> Result<Option<Location>> {
        let id = self.describe().await?.and_then(|table| table.table_id);
        Ok(id.map(|id| Location::new(format!("{}:{id}", Config::ADAPTER))))
    }
}
