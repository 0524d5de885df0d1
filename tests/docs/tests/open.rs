//! A registry opens an external adapter by its URL, like the adapters that come with Larder.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test fails by panicking.

use larder::Registry;
use larder::transfer::{CopyOptions, copy};
use larder_core::{ErrorKind, Outcome};
use larder_docs_tests::embedded;

fn registry() -> Registry {
    Registry::builtin().with(embedded::Adapter)
}

#[tokio::test]
async fn the_scheme_selects_the_adapter() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("redb:{}/sessions.redb", directory.path().display());
    assert_eq!(registry().open_existing(&url).await.unwrap_err().kind(), ErrorKind::InvalidConfig);
    let redb = registry().open(&url).await.unwrap();
    let memory = registry().open("memory:").await.unwrap();
    assert_eq!((redb.info().name, memory.info().name), ("redb", "memory"));
    memory.write("chat:42", "hello").await.unwrap();
    let report = copy(&memory, &redb, &CopyOptions::default(), |_| {}).await.unwrap();
    assert_eq!(report.copied, 1);
    redb.close().await.unwrap();
    let redb = registry().open_existing(&url).await.unwrap();
    assert_eq!(redb.read("chat:42").await.unwrap().unwrap().value, "hello");
    redb.close().await.unwrap();
    let error = registry().open("elsewhere:").await.unwrap_err();
    assert!(error.message().ends_with(" redb:"), "{error}");
}

#[tokio::test]
async fn a_file_can_be_open_only_once() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("redb:{}/sessions.redb?sweep=off", directory.path().display());
    let first = registry().open(&url).await.unwrap();
    let error = registry().open(&url).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Outcome::NotApplied));
    first.close().await.unwrap();
    registry().open(&url).await.unwrap().close().await.unwrap();
}
