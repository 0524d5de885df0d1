//! Names in a store that are not valid keys: commands report them, continue, and exit with 1.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)] // A test fails by panicking.

mod common;

use std::{
    ffi::OsStr,
    io::{Read, Write},
    net::TcpStream,
    os::unix::ffi::OsStrExt,
};

use larder_test_servers::Kind;
use serde_json::Value;

use common::{larder, stderr};

/// Checks that each command that lists `store` reports `names`, and handles the entry `fine`.
#[track_caller]
fn are_reported(store: &str, names: &[&str], target: &str) {
    let checked = |arguments: &[&str]| {
        let output = larder(arguments);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        for name in names {
            assert!(said.contains(name), "{arguments:?} does not report {name}: {said}");
        }
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(checked(&["ls", store]), "fine\n");
    for arguments in [&["ls", "--json", store][..], &["get", "--json", "--prefix", "", store]] {
        assert_eq!(checked(arguments).lines().count(), 1);
    }
    let report: Value =
        serde_json::from_str(&checked(&["copy", "--json", "--verify", "--delete", store, target])).unwrap();
    let failed = names.len();
    assert_eq!((&report["copied"], &report["failed"]), (&1.into(), &failed.into()), "{report}");
    assert_eq!(
        (&report["verified"]["equal"], &report["verified"]["failed"]),
        (&1.into(), &failed.into()),
        "{report}"
    );
    assert_eq!(checked(&["rm", "--json", "--all", store]), "{\"deleted\":1}\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_keys_in_redis_are_reported() {
    let server = match Kind::Redis.private().await {
        Ok(server) => server,
        Err(missing) if missing.required() => panic!("{missing}"),
        Err(missing) => return eprintln!("ignored: {missing}"),
    };
    let address = server.url().trim_start_matches("redis://").trim_end_matches('/');
    let mut connection = TcpStream::connect(address).unwrap();
    for name in [&b"fine"[..], b"a\nb", &[b'x'; 600], b"\xff", b""] {
        let key = [b"larder:", name].concat();
        let command = format!("*3\r\n$3\r\nSET\r\n${}\r\n", key.len());
        connection.write_all(&[command.as_bytes(), &key, b"\r\n$2\r\n{}\r\n"].concat()).unwrap();
        let mut reply = [0; 5];
        connection.read_exact(&mut reply).unwrap();
        assert_eq!(&reply, b"+OK\r\n");
    }
    let directory = tempfile::tempdir().unwrap();
    let target = format!("sqlite:{}", directory.path().join("to.db").display());
    are_reported(server.url(), &["\"a\\nb\"", "(600 bytes)", "\"\\xff\"", "\"\""], &target);
}

#[test]
fn invalid_file_names_are_reported() {
    let directory = tempfile::tempdir().unwrap();
    let sessions = directory.path().join("sessions");
    // The name of the directory is the last two characters of the key.
    for name in [&b"ne/fine"[..], b"zz/a\\b-zz", b"zz/a\nb-zz", b"zz/\xff-zz"] {
        let path = sessions.join(OsStr::from_bytes(&[name, b".json"].concat()));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "{}").unwrap();
    }
    let store = format!("file:{}?layout=grammy", sessions.display());
    let target = format!("sqlite:{}", directory.path().join("to.db").display());
    are_reported(&store, &["a\\\\b-zz", "a\\nb-zz", "\\xff-zz"], &target);
}
