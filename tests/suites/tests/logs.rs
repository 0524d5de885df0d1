//! Neither keys nor values are in any log, the drivers' own included: a key may be the id in a cookie.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test fails by panicking.

use futures_util::TryStreamExt;
use larder_bridge_tests::Log;
use larder_core::{Bytes, Condition, ErrorKind, Expiry, Key, Operation, Storage, Write};
use larder_processes::Stores;
use larder_testkit::{Missing, Must, Runner, Suite, Target};

fn main() {
    let log = Log::capture();
    Runner::new()
        .suite(suite("file", &log, "", || async { Stores::file() }))
        .suite(suite("sqlite", &log, "", || async { Stores::sqlite() }))
        .suite(suite("postgres", &log, "tokio_postgres", || Stores::postgres("")))
        .suite(suite("postgres_unnamed", &log, "tokio_postgres", || Stores::postgres("&statements=unnamed")))
        .suite(suite("postgres_jsonb", &log, "tokio_postgres", || Stores::postgres("&values=jsonb")))
        .suite(suite("postgres_grammy", &log, "tokio_postgres", || Stores::postgres("&layout=grammy")))
        .suite(suite("redis", &log, "", Stores::redis))
        .suite(suite("mongodb", &log, "", || Stores::mongodb("")))
        .main()
}

/// `driver` is in what the driver logs, where it logs anything.
fn suite<C>(
    name: &str,
    log: &Log,
    driver: &'static str,
    connect: impl Fn() -> C + Send + Sync + 'static,
) -> Suite<Stores>
where
    C: Future<Output = Result<Stores, Missing>> + Send + 'static,
{
    let log = log.clone();
    // In every key, and in every value.
    let (in_keys, in_values) = (format!("opensesame:{name}:"), format!("swordfish:{name}:"));
    Suite::connect(name, connect).without_laws().case(
        "no_key_and_no_value_is_logged",
        move |context| async move {
            everything(&context.target, &in_keys, &in_values).await;
            assert!(log.line_with(driver).is_some(), "this test hears the driver");
            for secret in [&in_keys, &in_values] {
                assert_eq!(log.line_with(secret), None, "this was logged");
            }
        },
    )
}

/// Where it is supported.
fn done<T>(outcome: larder_core::Result<T>, operation: Operation) {
    match outcome {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::Unsupported => {}
        Err(error) => panic!("{operation}: {error}"),
    }
}

/// Every operation there is, with success and without.
async fn everything(target: &Target, in_keys: &str, in_values: &str) {
    let storage = target.open().await;
    let key = |name: &str| Key::new(format!("{in_keys}{name}")).unwrap();
    let value = |count: u32| Bytes::from(format!(r#"{{"{in_values}":{count}}}"#));
    let expiry = if storage.capabilities().expiry { Expiry::after_secs(3600) } else { Expiry::Never };

    storage.write(key("a"), value(1)).expiry(expiry).await.must("write");
    let record = storage.read(key("a")).await.must("read").must("have it");
    let version = record.version.must("have a version");
    let next = storage.write_if(&key("a"), value(2), expiry, Condition::At(version.clone())).await;
    next.must("write if");
    storage.write_if(&key("b"), value(1), expiry, Condition::Absent).await.must("write if absent");
    for condition in [Condition::Absent, Condition::At(version.clone())] {
        storage.write_if(&key("a"), value(3), expiry, condition).await.map(drop).unwrap_err();
    }
    storage.delete_if(&key("a"), &version).await.unwrap_err();
    done(storage.touch(key("a"), expiry).await, Operation::Touch);
    done(storage.ttl(&key("a")).await, Operation::Ttl);
    storage.contains(&key("a")).await.must("contains");
    storage.read_all(&[key("a"), key("b")], "read many").await;
    let write = |name: &str| Write::new(key(name), value(4), expiry);
    storage.write_many(&[write("c"), write("d")]).await.must("write many");
    storage.keys(in_keys).try_collect::<Vec<_>>().await.must("list keys");
    storage.entries(in_keys).try_collect::<Vec<_>>().await.must("list entries");
    // What a store for JSON refuses, others take.
    let _ = storage.write(key("e"), Bytes::from(format!("{{{in_values}"))).expiry(expiry).await;
    storage.delete(key("a")).await.must("delete");
    storage.delete_many(&[key("b"), key("x")]).await.must("delete many");
    storage.clear(in_keys).await.must("clear");
    storage.purge_expired().await.must("purge");
    storage.ping().await.must("ping");
    storage.flush().await.must("flush");
}
