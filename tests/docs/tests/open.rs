//! A program opens an external adapter by its URL, like the stores that come with Larder.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test fails by panicking.

use larder::transfer::{CopyOptions, copy};
use larder_core::{ErrorKind, Outcome, Result, Store};
use larder_docs_tests::embedded;
use larder_kit::StoreUrl;

/// Opens a store by its URL: `redb:` or one that comes with Larder.
async fn open(url: &str) -> Result<Store> {
    match StoreUrl::parse(url)?.scheme() {
        "redb" => embedded::connect(url).await,
        _ => larder::open(url).await,
    }
}

#[tokio::test]
async fn the_scheme_chooses_the_adapter() {
    let directory = tempfile::tempdir().unwrap();
    let redb = open(&format!("redb:{}/sessions.redb", directory.path().display())).await.unwrap();
    let memory = open("memory:").await.unwrap();
    assert_eq!((redb.info().name, memory.info().name), ("redb", "memory"));
    memory.write("chat:42", "hello").await.unwrap();
    let report = copy(&memory, &redb, &CopyOptions::default(), |_| {}).await.unwrap();
    assert_eq!(report.copied, 1);
    assert_eq!(redb.read("chat:42").await.unwrap().unwrap().value, "hello");
    redb.close().await.unwrap();
    assert_eq!(open("elsewhere:").await.unwrap_err().kind(), ErrorKind::InvalidConfig);
}

#[tokio::test]
async fn a_file_can_be_open_only_once() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("redb:{}/sessions.redb?sweep=off", directory.path().display());
    let first = open(&url).await.unwrap();
    let error = open(&url).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Outcome::NotApplied));
    first.close().await.unwrap();
    open(&url).await.unwrap().close().await.unwrap();
}
