//! The command as a script uses it: the real binary, its output and its exit codes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test fails by panicking.

use std::{
    collections::BTreeMap,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/grammy")
}

fn read_json<T: serde::de::DeserializeOwned>(name: &str) -> T {
    serde_json::from_slice(&std::fs::read(fixtures().join(name)).unwrap()).unwrap()
}

fn larder(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_larder")).args(arguments).stdin(Stdio::null()).output().unwrap()
}

#[track_caller]
fn code(output: &Output, expected: i32) {
    assert_eq!(output.status.code(), Some(expected), "{}", String::from_utf8_lossy(&output.stderr));
}

#[track_caller]
fn stdout(arguments: &[&str]) -> String {
    let output = larder(arguments);
    code(&output, 0);
    String::from_utf8(output.stdout).unwrap()
}

fn put_from_stdin(store: &str, key: &str, value: &[u8]) {
    let mut put = Command::new(env!("CARGO_BIN_EXE_larder"))
        .args(["put", store, key])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    put.stdin.take().unwrap().write_all(value).unwrap();
    assert!(put.wait().unwrap().success());
}

fn url(scheme: &str, directory: &tempfile::TempDir, name: &str) -> String {
    format!("{scheme}:{}", directory.path().join(name).display())
}

#[test]
fn sessions_of_a_grammy_bot_move_to_sqlite_unchanged() {
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (
        format!("file:{}?layout=grammy", fixtures().join("file").display()),
        url("sqlite", &directory, "sessions.db"),
    );
    let said = stdout(&["copy", "--verify", &from, &to]);
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let promised = format!("It says `{}`", said.trim_end());
    assert!(
        std::fs::read_to_string(readme).unwrap().contains(&promised),
        "the README says otherwise: {said}"
    );
    assert!(said.starts_with("5 copied") && said.contains("5 equal"), "{said}");

    let expected: BTreeMap<String, Value> = read_json("expected.json");
    let exact: BTreeMap<String, Value> = read_json("redis.json");
    let listed = stdout(&["ls", &to]);
    let mut keys: Vec<_> = listed.lines().collect();
    keys.sort_unstable();
    assert_eq!(keys, expected.keys().collect::<Vec<_>>());
    for (key, session) in &expected {
        let got = stdout(&["get", &to, key]);
        assert_eq!(&serde_json::from_str::<Value>(&got).unwrap(), session);
        // As JSON.stringify spells it, byte for byte.
        assert_eq!(got, exact[key]["value"].as_str().unwrap());
    }
}

#[test]
fn put_get_ttl_and_rm() {
    let directory = tempfile::tempdir().unwrap();
    let store = url("sqlite", &directory, "a.db");
    code(&larder(&["put", &store, "greeting", "{\"a\": 1}", "--ttl", "1h"]), 0);
    assert_eq!(stdout(&["get", &store, "greeting"]), "{\"a\": 1}");
    assert!(stdout(&["ttl", &store, "greeting"]).starts_with("59m"));
    assert_eq!(stdout(&["ttl", &store, "greeting", "--set", "never"]), "never\n");

    let entry: Value = serde_json::from_str(&stdout(&["get", "--json", &store, "greeting"])).unwrap();
    assert_eq!(entry, serde_json::json!({ "key": "greeting", "ttl_ms": null, "value": { "a": 1 } }));

    code(&larder(&["put", "--if-absent", &store, "greeting", "no"]), 1);
    code(&larder(&["put", "--if-absent", &store, "other", "yes"]), 0);
    code(&larder(&["rm", &store, "greeting", "absent"]), 0);
    code(&larder(&["rm", &store, "greeting"]), 1);
    code(&larder(&["get", &store, "greeting"]), 1);
    code(&larder(&["ttl", &store, "greeting"]), 1);
    assert_eq!(stdout(&["rm", "--json", &store, "--prefix", ""]), "{\"deleted\":1}\n");
}

#[test]
fn values_are_bytes_from_standard_input_to_standard_output() {
    let directory = tempfile::tempdir().unwrap();
    let store = url("file", &directory, "entries");
    let value = b"\xff\x00 not text";
    put_from_stdin(&store, "raw", value);
    assert_eq!(larder(&["get", &store, "raw"]).stdout, value);

    let line = stdout(&["get", "--json", "--prefix", "r", &store]);
    let entry: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(entry["value_base64"], "/wAgbm90IHRleHQ=");
    let line: Value = serde_json::from_str(&stdout(&["ls", "--json", &store])).unwrap();
    assert_eq!(line, serde_json::json!({ "key": "raw", "bytes": value.len(), "ttl_ms": null }));
}

#[test]
fn an_interrupted_copy_can_be_resumed_and_says_what_was_there() {
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (url("file", &directory, "from.json"), url("sqlite", &directory, "to.db"));
    for key in ["a", "b", "c"] {
        code(&larder(&["put", &from, key, "1"]), 0);
    }
    code(&larder(&["copy", "--prefix", "a", &from, &to]), 0);
    let report: Value =
        serde_json::from_str(&stdout(&["copy", "--resume", "--verify", "--json", &from, &to])).unwrap();
    assert_eq!(
        report,
        serde_json::json!({
            "copied": 2, "bytes": 2, "unchanged": 1, "expired": 0, "failed": 0,
            "verified": { "equal": 3, "different": 0, "failed": 0 },
        })
    );
}

#[test]
fn what_cannot_be_copied_is_named_and_the_rest_is_copied() {
    let directory = tempfile::tempdir().unwrap();
    let from = url("file", &directory, "from");
    code(&larder(&["put", &from, "fine", "1"]), 0);
    code(&larder(&["put", &from, "a/b", "2"]), 0);
    let to = format!("{}?layout=grammy", url("file", &directory, "to"));
    let output = larder(&["copy", &from, &to]);
    code(&output, 1);
    assert!(String::from_utf8_lossy(&output.stderr).contains("not copied: a/b"));
    assert_eq!(stdout(&["ls", &to]), "fine\n");
}

#[test]
fn exit_codes_tell_wrong_use_from_failure_from_try_again() {
    let directory = tempfile::tempdir().unwrap();
    code(&larder(&["ls"]), 2);
    code(&larder(&["ls", "nonsense"]), 2);
    code(&larder(&["get", "memory:", "line\nbreak"]), 2);
    code(&larder(&["ls", "env:LARDER_NO_SUCH_VARIABLE"]), 2);
    let same = url("sqlite", &directory, "a.db");
    code(&larder(&["ls", &same]), 2);
    code(&larder(&["copy", &same, "memory:"]), 2);
    assert!(!directory.path().join("a.db").exists(), "reading has made a store");
    code(&larder(&["put", &same, "-1001", "1"]), 0);
    code(&larder(&["copy", &same, &same]), 2);
    code(&larder(&["copy", &same, &url("sqlite", &directory, "../").replace("../", "./a.db")]), 2);

    let unknown = larder(&["ls", "mysql://localhost"]);
    code(&unknown, 2);
    let said = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(said.contains("mysql") && said.contains("postgres:") && said.contains("mongodb:"), "{said}");

    let unknown = larder(&["ls", &format!("{same}?colour=red")]);
    code(&unknown, 2);
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("colour"));

    let damaged = directory.path().join("damaged.json");
    std::fs::write(&damaged, "{").unwrap();
    code(&larder(&["ls", &format!("file:{}", damaged.display())]), 4);
    assert_eq!(std::fs::read(&damaged).unwrap(), b"{");

    // Nothing listens on the discard port.
    code(&larder(&["ls", "redis://127.0.0.1:9/?timeout=1s"]), 3);
}

#[test]
fn a_password_in_a_url_never_appears() {
    for url in [
        "redis://bot:hunter2@127.0.0.1:9",
        "postgres://bot:hunter2@127.0.0.1:9/bot",
        "postgres://bot:hunter2@127.0.0.1:9/bot?nonsense=hunter2",
        "mongodb://bot:hunter2@127.0.0.1:9/?serverSelectionTimeoutMS=300",
        "mysql://bot:hunter2@127.0.0.1:9",
        "postgres://bot:hunter2@[nonsense",
        "postgres:bot:hunter2@127.0.0.1:9/bot",
        "bot:hunter2@127.0.0.1",
    ] {
        for arguments in [&["ls", url][..], &["copy", url, "memory:"], &["copy", "memory:", url]] {
            let output = larder(arguments);
            assert_ne!(output.status.code(), Some(0), "{url}");
            let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
            assert!(!said.contains("hunter2"), "{said}");
        }
    }
}

#[test]
fn output_that_nobody_reads_to_the_end_is_no_error() {
    let directory = tempfile::tempdir().unwrap();
    let store = url("sqlite", &directory, "a.db");
    put_from_stdin(&store, "a", &vec![b'x'; 1 << 20]);
    let mut get = Command::new(env!("CARGO_BIN_EXE_larder"))
        .args(["get", &store, "a"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(get.stdout.take());
    let output = get.wait_with_output().unwrap();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}
