//! DynamoDB: the SDK's own calls, and the store of tower-sessions.

use std::collections::HashMap;

use bytes::Bytes;
use dynamodb_store::{DynamoDBStore, DynamoDBStoreKey, DynamoDBStoreProps};
use larder_core::clock::unix_millis;
use larder_dynamodb::aws_sdk_dynamodb::{
    Client,
    config::{BehaviorVersion, Credentials, Region},
    primitives::Blob,
    types::{
        AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
    },
};
use larder_test_servers::{PASSWORD, USER};

use super::Place;
use crate::{
    contenders::{Raw, Set, fill, fill_peer, fill_raw},
    data::{deadline, fresh, key},
    measure::Kind,
    peers::Tower,
};

pub async fn open(place: Place) -> Set {
    let data = place.data;
    let mut set = Set::new(data);
    let server = larder_test_servers::dynamodb().await.unwrap();
    let url = place.url(&server).await;
    let client = client(&url);
    let table = |name: &str| format!("bench-{}-{name}", place.space);

    let raw = Items { client: client.clone(), table: table("raw") };
    create(&client, &raw.table, "id").await;
    fill_raw(&raw, data, 8).await;
    set.raw(Kind::Raw, "the SDK", &raw);

    let ours = table("ours");
    create(&client, &ours, "id").await;
    let ours = larder_dynamodb::connect(&format!("{url}&table={ours}")).await.unwrap();
    fill(&ours, data).await;
    set.larder("larder-dynamodb", &ours);

    if place.peers {
        let name = "session_id";
        let partition_key = DynamoDBStoreKey { name: name.to_owned(), ..DynamoDBStoreKey::default() };
        let props =
            DynamoDBStoreProps { table_name: table("tower"), partition_key, ..DynamoDBStoreProps::default() };
        create(&client, &props.table_name, name).await;
        let peer = Tower(DynamoDBStore::new(client, props), data);
        fill_peer(&peer, data, 8).await;
        set.peer("tower-sessions, DynamoDB", &peer);
    }
    set.keep(server);
    set
}

/// A client of the server at a URL of Larder.
fn client(url: &str) -> Client {
    let (_, endpoint) = url.split_once("endpoint=").unwrap();
    let endpoint = endpoint.split('&').next().unwrap();
    let config = larder_dynamodb::aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(endpoint)
        .credentials_provider(Credentials::new(USER, PASSWORD, None, None, "bench"));
    Client::from_conf(config.build())
}

/// Creates an empty table with this partition key.
async fn create(client: &Client, table: &str, key: &str) {
    let exists = client.describe_table().table_name(table).send().await.is_ok();
    if exists {
        client.delete_table().table_name(table).send().await.unwrap();
    }
    while client.describe_table().table_name(table).send().await.is_ok() {}
    let attribute = AttributeDefinition::builder().attribute_name(key).attribute_type(ScalarAttributeType::S);
    let element = KeySchemaElement::builder().attribute_name(key).key_type(KeyType::Hash);
    let create = client.create_table().table_name(table).billing_mode(BillingMode::PayPerRequest);
    let create = create.attribute_definitions(attribute.build().unwrap());
    create.key_schema(element.build().unwrap()).send().await.unwrap();
    let is_ready = async || {
        let described = client.describe_table().table_name(table).send().await.unwrap();
        described.table.unwrap().table_status.unwrap().as_str() == "ACTIVE"
    };
    while !is_ready().await {}
}

/// Items as Larder stores them.
#[derive(Clone)]
struct Items {
    client: Client,
    table: String,
}

fn number(number: i64) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

fn id(number: u64) -> AttributeValue {
    AttributeValue::S(key(number).to_string())
}

fn item(number_of_key: u64, value: &Bytes) -> HashMap<String, AttributeValue> {
    let deadline = deadline();
    HashMap::from([
        ("id".to_owned(), id(number_of_key)),
        ("value".to_owned(), AttributeValue::B(Blob::new(value.to_vec()))),
        ("version".to_owned(), number(fresh())),
        ("expires_at".to_owned(), number(deadline)),
        ("remove_at".to_owned(), number(deadline / 1000 + 300)),
    ])
}

impl Raw for Items {
    type Seen = AttributeValue;

    async fn read(&self, number: u64) -> (Bytes, AttributeValue) {
        let get = self.client.get_item().table_name(&self.table).key("id", id(number)).consistent_read(true);
        let mut item = get.send().await.unwrap().item.unwrap();
        let lives = item["expires_at"].as_n().unwrap().parse::<i64>().unwrap() > unix_millis();
        assert!(lives);
        let AttributeValue::B(value) = item.remove("value").unwrap() else { panic!("no value") };
        (value.into_inner().into(), item.remove("version").unwrap())
    }

    async fn write(&self, number: u64, value: &Bytes) {
        let put = self.client.put_item().table_name(&self.table).set_item(Some(item(number, value)));
        put.send().await.unwrap();
    }

    async fn swap(&self, number: u64, value: Bytes, seen: AttributeValue) -> bool {
        let put = self.client.put_item().table_name(&self.table).set_item(Some(item(number, &value)));
        let lives = "(attribute_not_exists(expires_at) OR expires_at > :now)";
        let put = put.condition_expression(format!("version = :seen AND {lives}"));
        let put = put.expression_attribute_values(":seen", seen);
        put.expression_attribute_values(":now", self::number(unix_millis())).send().await.is_ok()
    }
}
