//! The command as a script uses it: the binary, its output and its exit codes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test fails by panicking.

mod common;

use std::{
    collections::BTreeMap,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;

use common::{command, larder, stderr};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/grammy")
}

fn read_json<T: serde::de::DeserializeOwned>(name: &str) -> T {
    serde_json::from_slice(&std::fs::read(fixtures().join(name)).unwrap()).unwrap()
}

#[track_caller]
fn code(output: &Output, expected: i32) {
    assert_eq!(output.status.code(), Some(expected), "{}", stderr(output));
}

#[track_caller]
fn stdout(arguments: &[&str]) -> String {
    let output = larder(arguments);
    code(&output, 0);
    String::from_utf8(output.stdout).unwrap()
}

fn put_from_stdin(store: &str, key: &str, value: &[u8]) {
    let mut put = command(&["put", store, key]).stdin(Stdio::piped()).spawn().unwrap();
    put.stdin.take().unwrap().write_all(value).unwrap();
    assert!(put.wait().unwrap().success());
}

fn url(scheme: &str, directory: &tempfile::TempDir, name: &str) -> String {
    format!("{scheme}:{}", directory.path().join(name).display())
}

#[test]
fn copy_moves_the_sessions_of_a_grammy_bot_to_sqlite_unchanged() {
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (
        format!("file:{}?layout=grammy", fixtures().join("file").display()),
        url("sqlite", &directory, "sessions.db"),
    );
    let said = stdout(&["copy", "--verify", &from, &to]);
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let promised = format!("prints `{}`", said.trim_end());
    assert!(
        std::fs::read_to_string(readme).unwrap().contains(&promised),
        "the README shows another output: {said}"
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
        // Byte for byte the output of JSON.stringify.
        assert_eq!(got, exact[key]["value"].as_str().unwrap());
    }
}

#[test]
fn put_get_ttl_and_rm_work_on_one_entry() {
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
    assert_eq!(stdout(&["rm", "--json", &store, "--all"]), "{\"deleted\":1}\n");
}

#[test]
fn any_bytes_pass_from_standard_input_to_standard_output() {
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
fn resumed_copy_reports_the_entries_already_in_the_target() {
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
            "dry_run": false, "copied": 2, "bytes": 2, "unchanged": 1, "kept": 0, "expired": 0, "deleted": 0,
            "failed": 0, "verified": { "equal": 3, "different": 0, "extra": 0, "failed": 0 },
        })
    );
}

#[test]
fn failed_entry_is_reported_and_the_others_are_copied() {
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
fn exit_codes_distinguish_usage_errors_failures_and_retryable_errors() {
    let directory = tempfile::tempdir().unwrap();
    code(&larder(&["ls"]), 2);
    code(&larder(&["ls", "nonsense"]), 2);
    code(&larder(&["get", "memory:", "line\nbreak"]), 2);
    code(&larder(&["ls", "env:LARDER_NO_SUCH_VARIABLE"]), 2);
    let same = url("sqlite", &directory, "a.db");
    code(&larder(&["ls", &same]), 2);
    code(&larder(&["copy", &same, "memory:"]), 2);
    assert!(!directory.path().join("a.db").exists(), "reading has created a store");
    code(&larder(&["put", &same, "-1001", "1"]), 0);
    code(&larder(&["copy", &same, &same]), 2);
    code(&larder(&["copy", &same, &url("sqlite", &directory, "../").replace("../", "./a.db")]), 2);

    let unknown = larder(&["ls", "oracle://localhost"]);
    code(&unknown, 2);
    let said = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(said.contains("oracle") && said.contains("postgres:") && said.contains("mongodb:"), "{said}");

    let unknown = larder(&["ls", &format!("{same}?colour=red")]);
    code(&unknown, 2);
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("colour"));

    let damaged = directory.path().join("damaged.json");
    std::fs::write(&damaged, "{").unwrap();
    code(&larder(&["ls", &format!("file:{}", damaged.display())]), 4);
    assert_eq!(std::fs::read(&damaged).unwrap(), b"{");

    // No server listens on the discard port.
    code(&larder(&["ls", "redis://127.0.0.1:9/?timeout=1s"]), 3);
}

#[test]
fn password_in_a_url_is_never_printed() {
    for url in [
        "redis://bot:hunter2@127.0.0.1:9",
        "postgres://bot:hunter2@127.0.0.1:9/bot",
        "postgres://bot:hunter2@127.0.0.1:9/bot?nonsense=hunter2",
        "mongodb://bot:hunter2@127.0.0.1:9/?serverSelectionTimeoutMS=300",
        "dynamodb:bot?endpoint=http://127.0.0.1:9&region=r&access_key_id=bot&secret_access_key=hunter2",
        "dynamodb:bot?secret_access_key=hunter2",
        "mysql://bot:hunter2@127.0.0.1:9/bot",
        "mysql://bot:hunter2@127.0.0.1:9/bot?ssl-mode=hunter2",
        "oracle://bot:hunter2@127.0.0.1:9",
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
fn closed_output_pipe_is_not_an_error() {
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

#[test]
fn rm_with_an_empty_prefix_deletes_nothing_and_suggests_all() {
    let directory = tempfile::tempdir().unwrap();
    let store = url("sqlite", &directory, "a.db");
    for key in ["a", "b"] {
        code(&larder(&["put", &store, key, "1"]), 0);
    }
    let refused = larder(&["rm", &store, "--prefix", ""]);
    code(&refused, 2);
    assert!(stderr(&refused).contains("--all"), "{}", stderr(&refused));
    code(&larder(&["rm", &store]), 2);
    code(&larder(&["rm", &store, "a", "--all"]), 2);
    assert_eq!(stdout(&["ls", &store]).lines().count(), 2);
    assert_eq!(stdout(&["rm", &store, "--json", "--prefix", "a"]), "{\"deleted\":1}\n");
    assert_eq!(stdout(&["rm", &store, "--json", "--all"]), "{\"deleted\":1}\n");
}

#[test]
fn line_feed_after_a_url_never_creates_a_second_store() {
    let directory = tempfile::tempdir().unwrap();
    let store = url("sqlite", &directory, "a.db");
    code(&larder(&["put", &store, "a", "1"]), 0);

    let listed = command(&["ls", "env:STORE"]).env("STORE", format!("{store}\n")).output().unwrap();
    code(&listed, 0);
    assert_eq!(listed.stdout, b"a\n");
    let refused = larder(&["put", &format!("{store}\n"), "b", "1"]);
    code(&refused, 2);
    assert!(stderr(&refused).contains("control character"), "{}", stderr(&refused));
    let names: Vec<_> =
        std::fs::read_dir(directory.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| !name.to_string_lossy().contains('\n')), "{names:?}");
}

#[test]
fn options_can_follow_the_name_of_an_environment_variable() {
    let directory = tempfile::tempdir().unwrap();
    let store = url("sqlite", &directory, "a.db");
    let with = |url: &str, arguments: &[&str]| {
        let output = command(arguments).env("STORE", url).output().unwrap();
        code(&output, 0);
        String::from_utf8(output.stdout).unwrap()
    };
    with(&store, &["put", "env:STORE?table=other", "a", "1"]);
    with(&format!("{store}?sweep=off"), &["put", "env:STORE?table=other", "b", "1"]);
    with(&store, &["put", "env:STORE", "c", "1"]);
    assert_eq!(stdout(&["ls", &format!("{store}?table=other")]), "a\nb\n");
    assert_eq!(stdout(&["ls", &store]), "c\n");
}

#[test]
fn tilde_in_a_url_never_creates_a_directory() {
    let directory = tempfile::tempdir().unwrap();
    for store in ["file:~/sessions", "file:~/a.json", "sqlite:~/a.db", "sqlite://~/a.db"] {
        let refused = command(&["put", store, "a", "1"]).current_dir(&directory).output().unwrap();
        code(&refused, 2);
        assert!(stderr(&refused).contains("$HOME"), "{}", stderr(&refused));
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn key_that_begins_with_a_minus_and_a_digit_needs_no_escape() {
    let directory = tempfile::tempdir().unwrap();
    let store = url("sqlite", &directory, "a.db");
    let key = "-1001234/42";
    code(&larder(&["put", &store, key, "-5", "--ttl", "1h"]), 0);
    assert_eq!(stdout(&["get", &store, key]), "-5");
    assert!(stdout(&["ttl", &store, key, "--json"]).contains(key));
    assert_eq!(stdout(&["ls", &store, "--prefix", "-1001234/"]), format!("{key}\n"));
    assert_eq!(stdout(&["get", &store, "--json", "--prefix", "-1001234/"]).lines().count(), 1);
    code(&larder(&["put", &store, "--", "-other", "1"]), 0);
    // A mistyped option is not taken as a key.
    code(&larder(&["rm", &store, "--prefx", key]), 2);
    assert_eq!(stdout(&["rm", &store, key, "-7", "--json"]), "{\"deleted\":1}\n");
    assert_eq!(stdout(&["rm", &store, "--json", "--", "-other"]), "{\"deleted\":1}\n");
}

#[test]
fn copy_into_a_store_without_expiry_suggests_drop_ttl() {
    let directory = tempfile::tempdir().unwrap();
    let from = url("sqlite", &directory, "a.db");
    code(&larder(&["put", &from, "a", "1", "--ttl", "1h"]), 0);
    let to = format!("{}?layout=grammy", url("file", &directory, "to"));
    let refused = larder(&["copy", &from, &to]);
    code(&refused, 1);
    assert!(stderr(&refused).contains("--drop-ttl"), "{}", stderr(&refused));
    code(&larder(&["copy", "--drop-ttl", &from, &to]), 0);
}

#[cfg(target_os = "linux")]
#[test]
fn failed_output_never_panics() {
    let directory = tempfile::tempdir().unwrap();
    let from = url("file", &directory, "from");
    code(&larder(&["put", &from, "fine", "1"]), 0);
    code(&larder(&["put", &from, "a/b", "2"]), 0);
    let to = format!("{}?layout=grammy", url("file", &directory, "to"));
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let broken = || std::io::pipe().unwrap().1;

    // One entry fails and is reported on standard error; the other is copied.
    code(&command(&["copy", &from, &to]).stderr(full()).output().unwrap(), 1);
    assert_eq!(stdout(&["ls", &to]), "fine\n");
    code(&command(&["copy", &from, &to]).stderr(broken()).output().unwrap(), 1);
    code(&command(&["get", &from, "absent"]).stderr(full()).output().unwrap(), 1);
    code(&command(&["ls", "nonsense"]).stderr(full()).output().unwrap(), 2);
    code(&command(&["nonsense"]).stderr(full()).output().unwrap(), 2);
    code(&command(&["ls", &from]).stdout(full()).stderr(full()).output().unwrap(), 4);
    let failed = command(&["ls", &from]).stdout(full()).output().unwrap();
    code(&failed, 4);
    assert!(stderr(&failed).contains("larder: "), "{}", stderr(&failed));
    code(&command(&["ls", &from]).stdout(broken()).output().unwrap(), 0);
    code(&command(&["rm", &from, "fine"]).stderr(full()).output().unwrap(), 0);
}

#[test]
fn damaged_entry_is_reported_and_the_others_are_listed_and_copied() {
    let directory = tempfile::tempdir().unwrap();
    let from = url("file", &directory, "from");
    for key in ["a", "b", "c"] {
        code(&larder(&["put", &from, key, "{}"]), 0);
    }
    damage(&directory.path().join("from"), "b");
    for arguments in [&["ls", "--json", &from][..], &["get", "--json", "--prefix", "", &from]] {
        let output = larder(arguments);
        code(&output, 1);
        let keys: Vec<_> = output
            .stdout
            .split(|&byte| byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice::<Value>(line).unwrap()["key"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(sorted(keys), ["a", "c"]);
        assert!(stderr(&output).contains("unreadable: b: "), "{}", stderr(&output));
    }
    let to = url("sqlite", &directory, "to.db");
    let output = larder(&["copy", "--verify", "--delete", "--json", &from, &to]);
    code(&output, 1);
    assert!(stderr(&output).contains("unreadable: b: "), "{}", stderr(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["copied"], &report["failed"]), (&2.into(), &1.into()), "{report}");
    assert_eq!((&report["verified"]["equal"], &report["verified"]["failed"]), (&2.into(), &1.into()));
    assert_eq!(stdout(&["ls", &to]), "a\nc\n");
}

/// Damages the file of the entry under `key`.
fn damage(directory: &Path, key: &str) {
    let mut files = vec![directory.to_owned()];
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(std::fs::read_dir(path).unwrap().map(|file| file.unwrap().path()));
        } else if path.file_name().unwrap().to_string_lossy().starts_with(key) {
            std::fs::write(path, "damaged").unwrap();
            return;
        }
    }
    panic!("no file for `{key}`");
}

fn sorted(mut keys: Vec<String>) -> Vec<String> {
    keys.sort_unstable();
    keys
}

#[test]
fn resumed_copy_never_overwrites_an_entry_of_the_target() {
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (url("sqlite", &directory, "from.db"), url("sqlite", &directory, "to.db"));
    for key in ["changed", "missing", "same"] {
        code(&larder(&["put", &from, key, "old"]), 0);
    }
    code(&larder(&["put", &to, "changed", "new"]), 0);
    code(&larder(&["put", &to, "same", "old"]), 0);
    let output = larder(&["copy", "--resume", "--json", &from, &to]);
    code(&output, 1);
    assert!(stderr(&output).contains("kept in the target: changed"), "{}", stderr(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&report["copied"], &report["unchanged"], &report["kept"]),
        (&1.into(), &1.into(), &1.into()),
        "{report}"
    );
    assert_eq!(stdout(&["get", &to, "changed"]), "new");
    assert_eq!(stdout(&["get", &to, "missing"]), "old");
}

#[test]
fn verify_finds_extra_entries_and_delete_removes_them_only_below_the_prefix() {
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (url("sqlite", &directory, "from.db"), url("file", &directory, "to.json"));
    for key in ["chat:1", "chat:2"] {
        code(&larder(&["put", &from, key, "1"]), 0);
        code(&larder(&["put", &to, key, "1"]), 0);
    }
    code(&larder(&["put", &to, "chat:3", "1"]), 0);
    code(&larder(&["put", &to, "user:1", "1"]), 0);

    let output = larder(&["copy", "--verify", &from, &to]);
    code(&output, 1);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("verified: 2 equal, 2 extra"), "{said}");
    assert!(stderr(&output).contains("only in the target: chat:3"), "{}", stderr(&output));

    let before = stdout(&["ls", &to]);
    let output = larder(&["copy", "--delete", "--dry-run", "--prefix", "chat:", &from, &to]);
    code(&output, 0);
    assert!(stderr(&output).contains("would delete: chat:3"), "{}", stderr(&output));
    assert!(!stderr(&output).contains("user:1"), "{}", stderr(&output));
    assert_eq!(stdout(&["ls", &to]), before);

    let said = stdout(&["copy", "--delete", "--verify", "--prefix", "chat:", &from, &to]);
    assert!(said.contains("1 deleted") && said.contains("verified: 2 equal"), "{said}");
    let left = stdout(&["ls", &to]).lines().map(str::to_owned).collect();
    assert_eq!(sorted(left), ["chat:1", "chat:2", "user:1"]);
}

#[test]
fn delete_never_empties_a_target_for_an_empty_or_unreadable_source() {
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (url("file", &directory, "from"), url("sqlite", &directory, "to.db"));
    for key in ["a", "b"] {
        code(&larder(&["put", &from, key, "{}"]), 0);
    }
    code(&larder(&["put", &to, "extra", "1"]), 0);

    let refused = larder(&["copy", "--delete", "--prefix", "typo", &from, &to]);
    code(&refused, 2);
    assert!(stderr(&refused).contains("the source has no entries"), "{}", stderr(&refused));
    damage(&directory.path().join("from"), "b");
    let output = larder(&["copy", "--delete", &from, &to]);
    code(&output, 1);
    assert!(stderr(&output).contains("no entry was deleted"), "{}", stderr(&output));
    assert_eq!(stdout(&["ls", &to]), "a\nextra\n");
}

#[test]
fn dry_run_creates_and_writes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (url("sqlite", &directory, "from.db"), url("sqlite", &directory, "to.db"));
    code(&larder(&["put", &from, "a", "1"]), 0);
    code(&larder(&["copy", "--dry-run", &from, &to]), 2);
    assert!(!directory.path().join("to.db").exists());
    code(&larder(&["put", &to, "b", "1"]), 0);
    assert_eq!(stdout(&["copy", "--dry-run", &from, &to]), "dry run: 1 copied (1 B)\n");
    assert_eq!(stdout(&["ls", &to]), "b\n");
}

#[cfg(unix)]
#[test]
fn copy_recognizes_one_store_under_several_urls_and_two_tables_as_two_stores() {
    let directory = tempfile::tempdir().unwrap();
    let store = url("sqlite", &directory, "a.db");
    code(&larder(&["put", &store, "a", "1"]), 0);
    std::os::unix::fs::symlink(directory.path().join("a.db"), directory.path().join("link.db")).unwrap();
    code(&larder(&["put", &url("file", &directory, "dir"), "a", "1"]), 0);

    let same = [
        ("sqlite:a.db", "sqlite://a.db"),
        ("sqlite:a.db", "sqlite:link.db"),
        ("sqlite:a.db", "sqlite:a.db?table=larder"),
        ("sqlite:a.db?table=LARDER", "sqlite:./a.db"),
        ("sqlite:a.db?mode=rw", "sqlite:a.db"),
        ("file:dir", "file:./dir/"),
    ];
    for (from, to) in same {
        let refused = command(&["copy", from, to]).current_dir(&directory).output().unwrap();
        code(&refused, 2);
        assert!(stderr(&refused).contains("same store"), "{from} {to}: {}", stderr(&refused));
    }
    let copied = command(&["copy", "--verify", "sqlite:a.db", "sqlite:a.db?table=other"])
        .current_dir(&directory)
        .output()
        .unwrap();
    code(&copied, 0);
    assert_eq!(stdout(&["ls", &format!("{store}?table=other")]), "a\n");
}

#[test]
fn ls_finds_the_key_with_a_fingerprint() {
    let directory = tempfile::tempdir().unwrap();
    let store = url("sqlite", &directory, "a.db");
    for key in ["chat:41", "chat:42"] {
        code(&larder(&["put", &store, key, "{}"]), 0);
    }
    // The documentation of `Key` has this fingerprint of `chat:42`.
    assert_eq!(stdout(&["ls", &store, "--fingerprint", "1b1e1c23"]), "chat:42\n");
    assert_eq!(stdout(&["ls", &store, "--json", "--fingerprint", "1B1E1C23"]).lines().count(), 1);
    code(&larder(&["ls", &store, "--fingerprint", "00000000"]), 1);
    code(&larder(&["ls", &store, "--fingerprint", "secret"]), 2);
}
