//! The migration, tested through its binary, its storage, and its output.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test fails by panicking.

use std::process::{Command, Output};

use tempfile::TempDir;

fn run(storage: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_migrate")).args(["--storage", storage]).output().unwrap()
}

/// Returns the output. The program must succeed.
#[track_caller]
fn shows(storage: &str) -> String {
    let output = run(storage);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn sqlite(directory: &TempDir) -> String {
    format!("sqlite:{}", directory.path().join("pets.db").display())
}

async fn store(storage: &str, entries: &[(&str, &'static str)]) {
    let storage = larder::open(storage).await.unwrap();
    for (key, value) in entries {
        storage.write(*key, *value).await.unwrap();
    }
    storage.close().await.unwrap();
}

async fn stored(storage: &str, key: &str) -> String {
    let storage = larder::open(storage).await.unwrap();
    let record = storage.read(key).await.unwrap().unwrap();
    storage.close().await.unwrap();
    String::from_utf8(record.value.to_vec()).unwrap()
}

#[test]
fn sessions_of_all_versions_are_migrated_once() {
    let directory = tempfile::tempdir().unwrap();
    let storage = sqlite(&directory);
    let first = shows(&storage);
    let (_, readme) = include_str!("../README.md").split_once("```text\n").unwrap();
    let (readme, _) = readme.split_once("```").unwrap();
    assert_eq!(first, readme, "the README shows another output");
    assert_eq!(first.matches("  after:  {\"v\":11,\"__d\":").count(), 3);

    let second = shows(&storage);
    assert_eq!(second.matches("  is up to date: {\"v\":11,\"__d\":").count(), 3, "{second}");
    assert!(!second.contains("wrote") && !second.contains("before"), "{second}");
}

#[tokio::test]
async fn existing_sessions_are_migrated() {
    let directory = tempfile::tempdir().unwrap();
    let storage = sqlite(&directory);
    store(&storage, &[("pets:9", r#"{"petNames":["Ada"]}"#), ("another", "of another program")]).await;
    let shown = shows(&storage);
    assert!(
        shown.starts_with("\npets:9: Ada is of unknown age\n  before: {\"petNames\":[\"Ada\"]}\n"),
        "{shown}"
    );
    assert_eq!(
        stored(&storage, "pets:9").await,
        r#"{"v":11,"__d":{"pets":[{"name":"Ada","age":null,"isFavorite":false}],"language":"en"}}"#
    );
    assert_eq!(stored(&storage, "another").await, "of another program");
}

#[tokio::test]
async fn a_failed_migration_is_reported_and_changes_nothing() {
    const NEWER: &str = r#"{"v":12,"__d":{"pets":{"hunter2":{}}}}"#;
    const DAMAGED: &str = r#"{"petNames":"hunter2"}"#;
    let directory = tempfile::tempdir().unwrap();
    let storage = sqlite(&directory);
    store(&storage, &[("pets:1", r#"{"petNames":[]}"#), ("pets:2", NEWER), ("pets:3", DAMAGED)]).await;
    let output = run(&storage);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stdout).unwrap().contains("pets:1"));
    let problems = String::from_utf8(output.stderr).unwrap();
    assert!(problems.contains("pets:2 is unchanged: ") && problems.contains("newer program"), "{problems}");
    assert!(
        problems.contains("pets:3 is unchanged: ") && problems.contains("migration step 1"),
        "{problems}"
    );
    assert!(problems.contains("2 of 3 sessions") && !problems.contains("hunter2"), "{problems}");
    assert_eq!(
        (stored(&storage, "pets:2").await, stored(&storage, "pets:3").await),
        (NEWER.into(), DAMAGED.into())
    );
}

#[test]
fn an_error_shows_the_url_without_its_password() {
    let output = run("mongodb:/bot:hunter2@127.0.0.1/bot");
    let problem = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(problem.contains("cannot open mongodb:***") && !problem.contains("hunter2"), "{problem}");
}
