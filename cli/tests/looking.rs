//! Commands that only open an existing store create and change nothing, and fail if the store does not exist.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)] // A test fails by panicking.

mod common;

use std::{
    collections::BTreeMap,
    path::Path,
    process::{self, Output},
    time::{SystemTime, UNIX_EPOCH},
};

use larder_test_servers::Kind;

use common::{command, stderr};

/// The commands that open an existing store at `url`. Without it, each exits with the code 2.
fn opening(url: &str) -> [Vec<&str>; 6] {
    [
        vec!["ls", url],
        vec!["get", url, "a"],
        vec!["ttl", url, "a"],
        vec!["rm", url, "a"],
        vec!["rm", url, "--all"],
        vec!["copy", url, "memory:", "--verify"],
    ]
}

fn larder(directory: &Path, arguments: &[&str]) -> Output {
    command(arguments).current_dir(directory).output().unwrap()
}

/// The files below `directory` with their contents.
fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut left = vec![directory.to_owned()];
    while let Some(path) = left.pop() {
        let name = path.display().to_string();
        if path.is_dir() {
            left.extend(std::fs::read_dir(path).unwrap().map(|file| file.unwrap().path()));
            found.insert(name, Vec::new());
        } else {
            found.insert(name, std::fs::read(path).unwrap());
        }
    }
    found
}

#[track_caller]
fn finds_no_store(directory: &Path, url: &str) {
    for arguments in opening(url) {
        let output = larder(directory, &arguments);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains("does not exist"), "{arguments:?}: {said}");
    }
}

#[test]
fn missing_file_is_reported_and_not_created() {
    let directory = tempfile::tempdir().unwrap();
    for url in ["file:missing", "file:missing.json", "file:missing?layout=grammy", "sqlite:missing.db"] {
        finds_no_store(directory.path(), url);
    }
    assert_eq!(files(directory.path()).len(), 1);
}

#[test]
fn missing_table_of_an_sqlite_file_is_reported_and_the_file_is_unchanged() {
    let directory = tempfile::tempdir().unwrap();
    // An empty file is a database without tables, in the default journal mode.
    std::fs::write(directory.path().join("app.db"), "").unwrap();
    let before = files(directory.path());
    finds_no_store(directory.path(), "sqlite:app.db");
    assert_eq!(files(directory.path()), before);
}

#[test]
fn files_of_other_programs_are_unchanged() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("session.json"), r#"{"not":"ours"}"#).unwrap();
    std::fs::create_dir(directory.path().join("notes")).unwrap();
    std::fs::write(directory.path().join("notes/todo.txt"), "milk").unwrap();
    let before = files(directory.path());
    for url in ["file:session.json", "file:notes"] {
        for arguments in opening(url) {
            let output = larder(directory.path(), &arguments);
            assert_ne!(output.status.code(), Some(101), "{arguments:?}: {}", stderr(&output));
            assert_eq!(files(directory.path()), before, "{arguments:?}: {}", stderr(&output));
        }
    }
}

/// A name that is new in each run of this test.
fn unique() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    format!("larder_missing_{}_{now}", process::id())
}

/// The URL of a server that tests share. `None` if it is missing and not required.
async fn shared(kind: Kind) -> Option<String> {
    match kind.shared().await {
        Ok(server) => Some(server.url().to_owned()),
        Err(missing) if missing.required() => panic!("{missing}"),
        Err(missing) => {
            eprintln!("ignored: {missing}");
            None
        }
    }
}

#[tokio::test]
async fn missing_table_or_schema_of_postgres_is_reported_and_not_created() {
    let Some(url) = shared(Kind::Postgres).await else { return };
    let directory = tempfile::tempdir().unwrap();
    let missing = unique();
    // A command would find the table or schema that an earlier one had created.
    finds_no_store(directory.path(), &format!("{url}?table={missing}"));
    finds_no_store(directory.path(), &format!("{url}?schema={missing}"));
}

#[tokio::test]
async fn missing_table_of_mysql_is_reported_and_not_created() {
    let Some(url) = shared(Kind::Mariadb).await else { return };
    let directory = tempfile::tempdir().unwrap();
    // A command would find the table that an earlier one had created.
    finds_no_store(directory.path(), &format!("{url}?table={}", unique()));
}

#[tokio::test]
async fn missing_table_of_dynamodb_is_reported_and_not_created() {
    let Some(url) = shared(Kind::Dynamodb).await else { return };
    let directory = tempfile::tempdir().unwrap();
    // A command would find the table that an earlier one had created.
    finds_no_store(directory.path(), &format!("{url}&table={}", unique()));
}

#[tokio::test]
async fn missing_collection_of_mongodb_is_reported_and_not_created() {
    let Some(url) = shared(Kind::Mongodb).await else { return };
    let directory = tempfile::tempdir().unwrap();
    let missing = unique();
    // A command would find the collection that an earlier one had created.
    finds_no_store(directory.path(), &format!("{url}&collection={missing}"));
    finds_no_store(directory.path(), &format!("{url}&layout=grammy&collection={missing}"));
}
