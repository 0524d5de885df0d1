//! Logs contain neither keys nor values, also those of the drivers: a key may be the id in a cookie.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test fails by panicking.

use futures_util::TryStreamExt;
use larder_bridge_tests::Log;
use larder_core::{Bytes, Change, Condition, ErrorKind, Expiry, Key, Operation};
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
        .suite(suite("mysql", &log, "", || Stores::mysql("")))
        .suite(suite("mysql_json", &log, "", || Stores::mysql("&values=json")))
        .suite(suite("redis", &log, "", Stores::redis))
        .suite(suite("mongodb", &log, "", || Stores::mongodb("")))
        .suite(suite("dynamodb", &log, "", Stores::dynamodb))
        .main()
}

/// `driver` is a text that the driver logs, or empty if it logs nothing.
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
    // Parts of every key and of every value.
    let (in_keys, in_values) = (format!("opensesame:{name}:"), format!("swordfish:{name}:"));
    Suite::connect(name, connect).without_laws().case(
        "neither_keys_nor_values_are_logged",
        move |context| async move {
            everything(&context.target, &in_keys, &in_values).await;
            assert!(log.line_with(driver).is_some(), "this test hears the driver");
            for secret in [&in_keys, &in_values] {
                assert_eq!(log.line_with(secret), None, "this was logged");
            }
        },
    )
}

/// The operation succeeds or is not supported.
fn done<T>(outcome: larder_core::Result<T>, operation: Operation) {
    match outcome {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::Unsupported => {}
        Err(error) => panic!("{operation}: {error}"),
    }
}

/// Every operation, with success and with failure.
async fn everything(target: &Target, in_keys: &str, in_values: &str) {
    let storage = target.open().await;
    let key = |name: &str| Key::new(format!("{in_keys}{name}")).unwrap();
    let value = |count: u32| Bytes::from(format!(r#"{{"{in_values}":{count}}}"#));
    let expiry = if storage.info().expiry { Expiry::after_secs(3600) } else { Expiry::Never };

    storage.write(key("a"), value(1)).expiry(expiry).await.must("write");
    let record = storage.read(key("a")).await.must("read").must("have it");
    let version = record.version.must("have a version");
    storage.write(key("a"), value(2)).expiry(expiry).if_at(version.clone()).await.must("write at a version");
    storage.write(key("b"), value(1)).expiry(expiry).if_absent().await.must("write if absent");
    storage.write(key("b"), value(1)).expiry(expiry).if_present().await.must("write if present");
    for condition in [Condition::Absent, Condition::At(version.clone())] {
        storage.write(key("a"), value(3)).expiry(expiry).condition(condition).await.map(drop).unwrap_err();
    }
    storage.delete(key("a")).if_at(version).await.unwrap_err();
    done(storage.touch(key("a"), expiry).await, Operation::Touch);
    done(storage.touch(key("a"), expiry).if_present().await, Operation::Touch);
    done(storage.read(key("a")).touching(expiry).with_ttl().await, Operation::Read);
    done(storage.ttl(&key("a")).await, Operation::Read);
    storage.contains(&key("a")).await.must("contains");
    storage.read_all(&[key("a"), key("b")], "read many").await;
    let put = |name: &str| Change::put(key(name), value(4), expiry);
    let conditional = put("c").on(Condition::Present);
    storage.apply_all(vec![put("c"), put("d"), conditional], "write many").await;
    storage.keys(in_keys).try_collect::<Vec<_>>().await.must("list keys");
    storage.entries(in_keys).try_collect::<Vec<_>>().await.must("list entries");
    // Only stores for JSON reject this value.
    let _ = storage.write(key("e"), Bytes::from(format!("{{{in_values}"))).expiry(expiry).await;
    storage.delete(key("a")).await.must("delete");
    storage.delete_all(&[key("b"), key("x")], "delete many").await;
    storage.clear(in_keys).await.must("clear");
    storage.purge_expired().await.must("purge");
    storage.ping().await.must("ping");
    storage.flush().await.must("flush");
}
