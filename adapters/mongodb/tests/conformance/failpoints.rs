//! Errors that the server returns on demand.

use larder_core::{Applied, Change, ErrorKind, Expiry, Key, Outcome, ReadOptions, Result, Store};
use larder_test_servers::{Kind, Server};
use larder_testkit::{Context, Fails, Must};
use mongodb::{
    Database,
    bson::{Document, doc},
};

use crate::places::{Place, client, key, open, private};

/// A server that supports fail points, and its database for them.
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

async fn write(storage: &Store, key: &Key) -> Result<()> {
    storage.write(key, "v").await.map(drop)
}

pub(crate) async fn errors(context: Context<Place>) {
    let Some((server, admin)) = server().await else { return };
    // After "not primary" the driver waits for the next heartbeat of the server, by default up to 10 s.
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
    // A failed query affects only its own keys.
    let keys: Vec<Key> = (0..1_500).map(|number| crate::places::key(format!("k{number}"))).collect();
    fail(&admin, "aggregate", 1, doc! { "errorCode": 8 }).await;
    let read = storage.read_many(&keys, &ReadOptions::new()).await;
    let failed = read.iter().filter(|record| record.is_err()).count();
    assert!([500, 1_000].contains(&failed), "{failed} of {}", read.len());
    // A lost connection.
    for (operation, command) in
        [("conditional write", "update"), ("read", "aggregate"), ("delete", "delete"), ("ttl", "aggregate")]
    {
        fail(&admin, command, 1, doc! { "closeConnection": true }).await;
        let error = match operation {
            "conditional write" => storage.write(&key, "v").if_absent().await.map(drop),
            "read" => storage.read(&key).await.map(drop),
            "delete" => storage.delete(&key).await.map(drop),
            _ => storage.ttl(&key).await.map(drop),
        };
        let error = error.fails(ErrorKind::Unavailable, "a lost connection");
        assert_eq!(error.outcome(), Outcome::Unknown);
        assert!(error.is_retryable());
        storage.ping().await.must("go on");
    }
    // A write that too few servers have confirmed is not acknowledged.
    let unconfirmed =
        doc! { "writeConcernError": { "code": 64, "codeName": "WriteConcernTimeout", "errmsg": "slow" } };
    fail(&admin, "update", 1, unconfirmed.clone()).await;
    write(&storage, &key).await.fails(ErrorKind::Timeout, "an unconfirmed write");
    let writes = || {
        let write = |key: &Key| Change::put(key.clone(), "v", Expiry::Never);
        vec![write(&key), write(&crate::places::key("b"))]
    };
    fail(&admin, "bulkWrite", 1, unconfirmed).await;
    for result in storage.apply(writes()).await {
        let error = result.fails(ErrorKind::Timeout, "an unconfirmed batch");
        assert_eq!(error.outcome(), Outcome::Unknown);
    }
    for result in storage.apply(writes()).await {
        result.must("write the batch again");
    }
    // A rejected batch, and a batch on a lost connection.
    for (how, kind) in [
        (doc! { "errorCode": 13 }, ErrorKind::PermissionDenied),
        (doc! { "errorCode": 11_600 }, ErrorKind::Unavailable),
        (doc! { "closeConnection": true }, ErrorKind::Unavailable),
    ] {
        fail(&admin, "bulkWrite", 1, how).await;
        for result in storage.apply(writes()).await {
            result.fails(kind, "a batch that fails");
        }
    }
    // A server without the command receives the changes one by one.
    fail(&admin, "bulkWrite", 1, doc! { "errorCode": 59 }).await;
    let mut changes = writes();
    changes.push(Change::delete(crate::places::key("none")));
    let applied: Vec<_> =
        storage.apply(changes).await.into_iter().map(|result| result.must("apply")).collect();
    assert!(
        matches!(applied[..], [Applied::Put(_), Applied::Put(_), Applied::Deleted(false)]),
        "{applied:?}"
    );

    // The driver retries some writes once, and the server applies them once.
    let storage = open(&server, context.target.space(), "&heartbeatFrequencyMS=500").await;
    fail(&admin, "update", 1, doc! { "closeConnection": true }).await;
    write(&storage, &key).await.must("write past a lost connection");
    fail(&admin, "aggregate", 1, doc! { "closeConnection": true }).await;
    storage.read(&key).await.must("read past a lost connection");
    let version = storage.read(&key).await.must("read").must("find it").version.must("have a version");
    fail(&admin, "update", 1, doc! { "closeConnection": true }).await;
    let once = storage.write(&key, "w").if_at(version).await;
    once.must("compare and swap past a lost connection");
    fail(&admin, "bulkWrite", 1, doc! { "closeConnection": true }).await;
    for result in storage.apply(writes()).await {
        result.must("write a batch past a lost connection");
    }
}
