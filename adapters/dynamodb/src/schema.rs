//! The table: its key, and how it is created.

use std::time::Duration;

use aws_sdk_dynamodb::{
    error::ProvideErrorMetadata,
    types::{
        AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType, TableDescription,
        TableStatus, TimeToLiveSpecification,
    },
};
use larder_core::{Error, ErrorKind, Result};

use crate::{
    config::invalid,
    error::{self, NO_SUCH_TABLE, NOT_FOUND, from_sdk},
    item::{ID, REMOVE_AT},
    pauses::Pauses,
    quiet::quiet,
    storage::DynamoStorage,
};

/// The longest time until a table is ready. A new one usually takes some seconds.
const CREATION: Duration = Duration::from_secs(60);

const WITHOUT_TTL: &str =
    "the table was created, but time to live for `remove_at` is not enabled: enable it yourself";

impl DynamoStorage {
    /// Checks the table. Creates it if it is missing and `create` is set.
    pub(crate) async fn set_up(&self, create: bool) -> Result<()> {
        let mut created = false;
        let ready = self.make_ready(create, &mut created).await;
        if !created {
            return ready;
        }
        let enabled = if ready.is_ok() { self.enable_ttl().await } else { ready };
        enabled.map_err(|error| error.context(WITHOUT_TTL))
    }

    /// Waits until the table is ready. Creates it if it is missing and `create` is set; then sets `created`.
    async fn make_ready(&self, create: bool, created: &mut bool) -> Result<()> {
        let mut pauses = Pauses::within(CREATION);
        loop {
            match self.describe().await? {
                Some(table)
                    if matches!(table.table_status, Some(TableStatus::Creating | TableStatus::Deleting)) => {}
                Some(table) => return check(&table),
                None if !create => return Err(invalid(NO_SUCH_TABLE)),
                None if !*created => *created = self.create().await?,
                // For a moment, DynamoDB may not describe a new table yet.
                None => {}
            }
            if !pauses.next().await {
                return Err(Error::new(ErrorKind::Timeout, "the table is not ready yet: try again"));
            }
        }
    }

    /// Returns the description of the table, if it exists.
    pub(crate) async fn describe(&self) -> Result<Option<TableDescription>> {
        let describe = self.client.describe_table().table_name(&self.table);
        match quiet(describe.send()).await {
            Ok(output) => Ok(output.table),
            Err(error) if error.code() == Some(NOT_FOUND) => Ok(None),
            Err(error) => Err(from_sdk(error)),
        }
    }

    /// Creates the table. Returns `false` if another client has created it, or it is being deleted.
    async fn create(&self) -> Result<bool> {
        let id = AttributeDefinition::builder().attribute_name(ID).attribute_type(ScalarAttributeType::S);
        let key = KeySchemaElement::builder().attribute_name(ID).key_type(KeyType::Hash);
        let table = self
            .client
            .create_table()
            .table_name(&self.table)
            .attribute_definitions(id.build().map_err(error::incomplete)?)
            .key_schema(key.build().map_err(error::incomplete)?)
            .billing_mode(BillingMode::PayPerRequest);
        match quiet(table.send()).await {
            Ok(_) => Ok(true),
            Err(error) if error.code() == Some("ResourceInUseException") => Ok(false),
            Err(error) => Err(from_sdk(error).context("the table does not exist, and cannot be created")),
        }
    }

    /// Lets DynamoDB remove expired entries.
    async fn enable_ttl(&self) -> Result<()> {
        let ttl = TimeToLiveSpecification::builder().attribute_name(REMOVE_AT).enabled(true);
        let ttl = ttl.build().map_err(error::incomplete)?;
        let update =
            self.client.update_time_to_live().table_name(&self.table).time_to_live_specification(ttl);
        match quiet(update.send()).await {
            Ok(_) => Ok(()),
            // A server for tests without this operation, such as dynalite: expired entries stay there.
            Err(error) if error.code() == Some("UnknownOperationException") => Ok(()),
            Err(error) => Err(from_sdk(error)),
        }
    }
}

/// Checks that the table has Larder's key.
fn check(table: &TableDescription) -> Result<()> {
    let is_key = |key: &KeySchemaElement| key.attribute_name == ID && key.key_type == KeyType::Hash;
    let is_text = |attribute: &AttributeDefinition| {
        attribute.attribute_name == ID && attribute.attribute_type == ScalarAttributeType::S
    };
    if matches!(table.key_schema(), [key] if is_key(key)) && table.attribute_definitions().iter().any(is_text)
    {
        return Ok(());
    }
    Err(invalid(
        "the table has another key: Larder needs the partition key `id` of type String, and no sort key",
    ))
}
