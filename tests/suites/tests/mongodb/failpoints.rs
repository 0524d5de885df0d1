//! Errors that a server gives on demand.

use larder_core::{Condition, ErrorKind, Expiry, Key, Storage, Write};
use larder_mongodb::MongoStorage;
use larder_test_servers::{Kind, Server};
use larder_testkit::{Context, Fails, Must};
use mongodb::{
    Database,
    bson::{Document, doc},
};

use crate::places::{Place, client, key, open, private};

/// A server that takes fail points, and its database for that.
async fn server() -> Option<(Server, Database)> {
    let server = private().await?;
    let admin = client(&server).await.database("admin");
    let off = doc! { "configureFailPoint": "failCommand", "mode": "off" };
    if admin.run_command(off).await.is_ok() {
        return Some((server, admin));
    }
    let options = ["--setParameter", "enableTestCommands=1"];
    let server = Kind::Mongodb.private_with(&options).await.must("start a server with fail points");
    let admin = client(&server).await.database("admin");
    Some((server, admin))
}

/// Makes the next `times` commands of that name fail.
async fn fail(admin: &Database, command: &str, times: i32, how: Document) {
    let mut data = doc! { "failCommands": [command] };
    data.extend(how);
    let arm = doc! { "configureFailPoint": "failCommand", "mode": { "times": times }, "data": data };
    admin.run_command(arm).await.must("arm the fail point");
}

async fn write(storage: &MongoStorage, key: &Key) -> larder_core::Result<()> {
    storage.write(key, "v".into(), Expiry::Never).await
}

pub(crate) async fn errors(context: Context<Place>) {
    let Some((server, admin)) = server().await else { return };
    // After "not primary" the driver waits for the server's next heartbeat: up to 10 s by default.
    let options = "&retryReads=false&retryWrites=false&heartbeatFrequencyMS=500";
    let storage = open(&server, context.target.space(), options).await;
    let key = key("hunter2");
    write(&storage, &key).await.must("write");
    for (code, kind) in [
        (13, ErrorKind::PermissionDenied),
        (50, ErrorKind::Timeout),
        (10_107, ErrorKind::Unavailable),
        (11_600, ErrorKind::Unavailable),
        (14_031, ErrorKind::StorageFull),
        (10_334, ErrorKind::TooLarge),
        (8, ErrorKind::Other),
    ] {
        fail(&admin, "update", 1, doc! { "errorCode": code }).await;
        let error = write(&storage, &key).await.fails(kind, &format!("a write with error {code}"));
        assert!(!format!("{error} {error:?}").contains("hunter2"), "prints a key");
        write(&storage, &key).await.must("write after that");
        fail(&admin, "aggregate", 1, doc! { "errorCode": code }).await;
        storage.read(&key).await.fails(kind, &format!("a read with error {code}"));
        storage.read(&key).await.must("read after that");
    }
    // A lost connection.
    for (operation, command) in
        [("write_if", "update"), ("read", "aggregate"), ("delete", "delete"), ("ttl", "aggregate")]
    {
        fail(&admin, command, 1, doc! { "closeConnection": true }).await;
        let error = match operation {
            "write_if" => {
                storage.write_if(&key, "v".into(), Expiry::Never, Condition::Absent).await.map(drop)
            }
            "read" => storage.read(&key).await.map(drop),
            "delete" => storage.delete(&key).await.map(drop),
            _ => storage.ttl(&key).await.map(drop),
        };
        let error = error.fails(ErrorKind::Unavailable, "a lost connection");
        assert!(error.is_retryable());
        storage.ping().await.must("go on");
    }
    // A write that not enough servers have confirmed is not acknowledged.
    let unconfirmed =
        doc! { "writeConcernError": { "code": 64, "codeName": "WriteConcernTimeout", "errmsg": "slow" } };
    fail(&admin, "update", 1, unconfirmed.clone()).await;
    write(&storage, &key).await.fails(ErrorKind::Timeout, "an unconfirmed write");
    let writes = [
        Write::new(key.clone(), "v", Expiry::Never),
        Write::new(crate::places::key("b"), "v", Expiry::Never),
    ];
    fail(&admin, "update", 1, unconfirmed).await;
    storage.write_many(&writes).await.fails(ErrorKind::Timeout, "an unconfirmed batch");
    storage.write_many(&writes).await.must("write the batch again");

    // Where the driver may, it tries once more, and the server sees to it that a write happens once.
    let storage = open(&server, context.target.space(), "&heartbeatFrequencyMS=500").await;
    fail(&admin, "update", 1, doc! { "closeConnection": true }).await;
    write(&storage, &key).await.must("write past a lost connection");
    fail(&admin, "aggregate", 1, doc! { "closeConnection": true }).await;
    storage.read(&key).await.must("read past a lost connection");
    let version = storage.read(&key).await.must("read").must("find it").version.must("have a version");
    fail(&admin, "update", 1, doc! { "closeConnection": true }).await;
    let once = storage.write_if(&key, "w".into(), Expiry::Never, Condition::At(version)).await;
    once.must("compare and swap past a lost connection");
}
