//! MongoDB: the driver's own calls, and the store of tower-sessions.

use std::time::Duration;

use bytes::Bytes;
use mongodb::{
    Client, Collection, IndexModel,
    bson::{Binary, DateTime, Document, doc, spec::BinarySubtype},
    options::IndexOptions,
};

use super::Place;
use crate::{
    contenders::{Raw, Set, fill, fill_peer, fill_raw},
    data::{deadline, fresh, key},
    measure::Kind,
    peers::OlderTower,
};

/// All contenders wait for the journal of the majority.
const DURABLE: &str = "w=majority&journal=true";

pub async fn open(place: Place) -> Set {
    let data = place.data;
    let mut set = Set::new(data);
    let server = larder_test_servers::mongodb().await.unwrap();
    let url = place.url(&server).await;
    let separator = if url.contains('?') { '&' } else { '?' };
    let url = format!("{url}{separator}{DURABLE}");
    let database = format!("bench_{}", place.space);

    let client = Client::with_uri_str(&url).await.unwrap();
    client.database(&database).drop().await.unwrap();
    let raw = Documents(client.database(&database).collection("raw"));
    // The TTL index, as in Larder, because each write has to maintain it.
    let options = IndexOptions::builder().expire_after(Duration::ZERO).build();
    let index = IndexModel::builder().keys(doc! { "expires_at": 1 }).options(options).build();
    raw.0.create_index(index).await.unwrap();
    fill_raw(&raw, data, 8).await;
    set.raw(Kind::Raw, "mongodb", &raw);

    let ours = larder_mongodb::connect(&format!("{url}&database={database}")).await.unwrap();
    fill(&ours, data).await;
    set.larder("larder-mongodb", &ours);

    if place.peers {
        let client = mongodb_store::mongodb::Client::with_uri_str(&url).await.unwrap();
        let peer = OlderTower(mongodb_store::MongoDBStore::new(client, database), data);
        fill_peer(&peer, data, 8).await;
        set.peer("tower-sessions, mongodb", &peer);
    }
    set.keep(server);
    set
}

#[derive(Clone)]
struct Documents(Collection<Document>);

fn change(value: &[u8]) -> Document {
    let value = Binary { subtype: BinarySubtype::Generic, bytes: value.to_vec() };
    let deadline = DateTime::from_millis(deadline());
    doc! { "$set": { "value": value, "version": fresh(), "expires_at": deadline } }
}

impl Raw for Documents {
    type Seen = i64;

    async fn read(&self, number: u64) -> (Bytes, i64) {
        let found = self.0.find_one(doc! { "_id": key(number).as_str() }).await.unwrap().unwrap();
        let value = found.get_binary_generic("value").unwrap().clone();
        (value.into(), found.get_i64("version").unwrap())
    }

    async fn write(&self, number: u64, value: &Bytes) {
        let update = self.0.update_one(doc! { "_id": key(number).as_str() }, change(value));
        update.upsert(true).await.unwrap();
    }

    async fn swap(&self, number: u64, value: Bytes, seen: i64) -> bool {
        let at = doc! { "_id": key(number).as_str(), "version": seen };
        self.0.update_one(at, change(&value)).await.unwrap().matched_count == 1
    }
}
