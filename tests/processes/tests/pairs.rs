//! Copies grammY's sessions from each store to each other store: they arrive unchanged.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test fails by panicking.

use std::{collections::BTreeMap, path::Path, time::Duration};

use larder::{
    Expiry, Key, Store, Values,
    transfer::{self, CopyOptions, VerifyOptions},
};
use larder_processes::Stores;
use larder_testkit::{Context, Factory, Missing, Runner, Suite};
use serde_json::Value;

type Connecting = std::pin::Pin<Box<dyn Future<Output = Result<Stores, Missing>> + Send>>;

/// A store to copy from or to.
#[derive(Clone, Copy)]
struct Kind {
    name: &'static str,
    connect: fn() -> Connecting,
}

const KINDS: [Kind; 15] = [
    Kind { name: "file", connect: || Box::pin(async { Stores::file() }) },
    Kind { name: "file_snapshot", connect: || Box::pin(async { Stores::snapshot() }) },
    Kind { name: "file_grammy", connect: || Box::pin(async { Stores::grammy_file() }) },
    Kind { name: "sqlite", connect: || Box::pin(async { Stores::sqlite() }) },
    Kind { name: "postgres", connect: || Box::pin(Stores::postgres("")) },
    Kind { name: "postgres_jsonb", connect: || Box::pin(Stores::postgres("&values=jsonb")) },
    Kind { name: "postgres_grammy", connect: || Box::pin(Stores::postgres("&layout=grammy")) },
    Kind { name: "mysql", connect: || Box::pin(Stores::mysql("")) },
    Kind { name: "mysql_json", connect: || Box::pin(Stores::mysql("&values=json")) },
    Kind { name: "redis", connect: || Box::pin(Stores::redis()) },
    Kind { name: "valkey", connect: || Box::pin(Stores::valkey()) },
    Kind { name: "mongodb", connect: || Box::pin(Stores::mongodb("")) },
    Kind { name: "mongodb_document", connect: || Box::pin(Stores::mongodb("&values=json")) },
    Kind { name: "mongodb_grammy", connect: || Box::pin(Stores::mongodb("&layout=grammy")) },
    Kind { name: "dynamodb", connect: || Box::pin(Stores::dynamodb()) },
];

fn main() {
    let mut runner = Runner::new();
    for from in KINDS {
        let mut suite = Suite::connect(format!("from_{}", from.name), from.connect).without_laws();
        for to in KINDS {
            suite = suite.case(format!("to_{}", to.name), move |context| sessions_arrive(context, to));
        }
        runner = runner.suite(suite);
    }
    runner.main()
}

async fn sessions_arrive(context: Context<Stores>, to: Kind) {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/grammy");
    let written_by_grammy = format!("file:{}?layout=grammy", fixtures.join("file").display());
    let grammy = larder::open(&written_by_grammy).await.expect("open grammY's files");
    let from = context.target.open().await;
    let targets = (to.connect)().await.expect("connect to the target's server");
    let space = format!("{}x", context.target.space());
    let target = targets.open(&space).await.expect("open the target");

    let report =
        transfer::copy(&grammy, &from, &CopyOptions::default(), |_| {}).await.expect("copy to the source");
    assert_eq!((report.copied, report.failed), (5, 0));
    let expires = from.info().expiry && target.info().expiry;
    if expires {
        let entry = Key::new("expires").expect("make a key");
        from.write_as(&entry, &1, Expiry::after_secs(1000)).await.expect("write an entry that expires");
    }

    let report =
        transfer::copy(&from, &target, &CopyOptions::default(), |_| {}).await.expect("copy to the target");
    assert_eq!((report.copied, report.failed), (5 + u64::from(expires), 0));
    let options = VerifyOptions::default();
    let verified = transfer::verify(&from, &target, &options, |difference| {
        panic!("{difference:?}");
    });
    assert_eq!(verified.await.expect("verify").equal, report.copied);

    check_sessions(&target, from.info().values, &fixtures).await;
    if expires {
        let left = target.ttl(&Key::new("expires").expect("make a key")).await.expect("read the time left");
        let Some(Expiry::After(left)) = left else {
            panic!("the entry no longer expires: {left:?}");
        };
        assert!(left <= Duration::from_secs(1000) && left > Duration::from_secs(900), "{left:?}");
    }
    target.close().await.expect("close the target");
    targets.remove(&space).await.expect("remove the target");
}

/// Checks that every session exists and equals the one that the bot assigned: as JSON, and also byte for byte as
/// written by JavaScript, unless one of the stores has its own form of JSON.
async fn check_sessions(target: &Store, came_through: Values, fixtures: &Path) {
    let read = |name: &str| std::fs::read(fixtures.join(name)).expect("read the fixtures");
    let expected: BTreeMap<String, Value> =
        serde_json::from_slice(&read("expected.json")).expect("parse JSON");
    let spelled: BTreeMap<String, Value> = serde_json::from_slice(&read("redis.json")).expect("parse JSON");
    let exact = [came_through, target.info().values].iter().all(|&values| values != Values::Json);
    for (key, session) in expected {
        let name = Key::new(&key).expect("make a key");
        let record = target.read(&name).await.expect("read").unwrap_or_else(|| panic!("{key} is missing"));
        assert_eq!(serde_json::from_slice::<Value>(&record.value).expect("parse JSON"), session, "{key}");
        if exact {
            assert_eq!(record.value, spelled[&key]["value"].as_str().expect("find a string"), "{key}");
        }
    }
}
