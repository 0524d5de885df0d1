//! The command on a real Redis: two layouts in one database, and copies that are interrupted.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)] // A test fails by panicking.

mod common;

use std::{
    io::{Read, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
};

use larder::{Change, Expiry, Key};
use larder_test_servers::{Kind, Server};
use serde_json::Value;

use common::{command, larder, stderr};

const KEYS: u64 = 20_000;

/// A Redis for this test alone. `None` if it is missing and not required.
async fn redis() -> Option<Server> {
    match Kind::Redis.private().await {
        Ok(server) => Some(server),
        Err(missing) if missing.required() => panic!("{missing}"),
        Err(missing) => {
            eprintln!("ignored: {missing}");
            None
        }
    }
}

#[track_caller]
fn report(arguments: &[&str]) -> Value {
    let output = larder(arguments);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

async fn fill(url: &str) {
    let store = larder::open(url).await.unwrap();
    let put = |number| Change::put(Key::new(format!("{number}")).unwrap(), vec![b'1'; 100], Expiry::Never);
    for first in (0..KEYS).step_by(1_000) {
        let written = store.apply((first..first + 1_000).map(put).collect()).await;
        assert!(written.iter().all(Result::is_ok));
    }
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn copy_between_two_layouts_of_one_database_copies_each_key_once() {
    let Some(server) = redis().await else { return };
    let larder_url = server.url().to_owned();
    let grammy = format!("{}?layout=grammy", larder_url.replace("127.0.0.1", "localhost"));
    fill(&grammy).await;

    let first = report(&["copy", "--json", "--verify", &grammy, &larder_url]);
    assert_eq!((&first["copied"], &first["failed"]), (&KEYS.into(), &0.into()), "{first}");
    assert_eq!(
        (&first["verified"]["equal"], &first["verified"]["extra"]),
        (&KEYS.into(), &0.into()),
        "{first}"
    );
    // The second copy gives the same result, although the source now also lists the entries of the target.
    let second = report(&["copy", "--json", "--resume", "--delete", "--verify", &grammy, &larder_url]);
    assert_eq!((&second["unchanged"], &second["deleted"]), (&KEYS.into(), &0.into()), "{second}");
    let listed = larder(&["ls", &grammy]);
    assert_eq!(listed.stdout.split(|&byte| byte == b'\n').count() as u64, 2 * KEYS + 1);

    // In the other direction, entries of the source do not count as extra entries of the target.
    assert_eq!(larder(&["rm", &larder_url, "1"]).status.code(), Some(0));
    let back = report(&["copy", "--json", "--delete", "--verify", &larder_url, &grammy]);
    assert_eq!((&back["copied"], &back["deleted"]), (&(KEYS - 1).into(), &1.into()), "{back}");
}

#[tokio::test(flavor = "multi_thread")]
async fn copy_recognizes_one_server_under_two_names() {
    let Some(server) = redis().await else { return };
    let (one, other) = (server.url().to_owned(), server.url().replace("127.0.0.1", "localhost"));
    assert_eq!(larder(&["put", &one, "a", "1"]).status.code(), Some(0));
    let refused = larder(&["copy", &one, &other]);
    assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("same store"), "{}", stderr(&refused));
    assert_eq!(larder(&["ls", &one]).stdout, b"a\n");
    assert_eq!(report(&["copy", "--json", &one, &format!("{other}?prefix=b")])["copied"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn copy_recognizes_an_escaped_prefix_within_the_database() {
    let Some(server) = redis().await else { return };
    // The adapter escapes the prefix `a:b%c`.
    let odd = format!("{}?prefix=a%3Ab%25c", server.url());
    let grammy = format!("{}?layout=grammy", server.url());
    assert_eq!(larder(&["put", &odd, "k", "1"]).status.code(), Some(0));
    assert_eq!(larder(&["ls", &grammy]).stdout, b"a%3Ab%25c:k\n");
    let copied = report(&["copy", "--json", "--delete", &odd, &grammy]);
    assert_eq!((&copied["copied"], &copied["deleted"]), (&1.into(), &0.into()), "{copied}");
    let back = report(&["copy", "--json", &grammy, &odd]);
    assert_eq!(back["copied"], 1, "{back}");
}

/// Forwards between client and server until the server has sent this many bytes. Then it keeps the connections
/// open, forwards no more, and sends one message to the receiver.
fn stalling_proxy(server: &str, bytes: usize) -> (u16, mpsc::Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, server) = (listener.local_addr().unwrap().port(), server.to_owned());
    let (stalled, is_stalled) = mpsc::channel();
    let sent = Arc::new(AtomicUsize::new(0));
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let upstream = TcpStream::connect(&server).unwrap();
            let (mut from_client, mut to_server) =
                (client.try_clone().unwrap(), upstream.try_clone().unwrap());
            thread::spawn(move || {
                let _ = std::io::copy(&mut from_client, &mut to_server);
                let _ = to_server.shutdown(Shutdown::Both);
            });
            let (sent, stalled) = (Arc::clone(&sent), stalled.clone());
            thread::spawn(move || {
                let (mut client, mut upstream, mut buffer) = (client, upstream, [0; 4096]);
                loop {
                    match upstream.read(&mut buffer) {
                        Ok(0) | Err(_) => return,
                        Ok(_) if sent.load(Ordering::Relaxed) >= bytes => {
                            let _ = stalled.send(());
                            // Until the client disconnects.
                            while matches!(upstream.read(&mut buffer), Ok(1..)) {}
                            return;
                        }
                        Ok(read) => {
                            sent.fetch_add(read, Ordering::Relaxed);
                            if client.write_all(&buffer[..read]).is_err() {
                                return;
                            }
                        }
                    }
                }
            });
        }
    });
    (port, is_stalled)
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_copy_keeps_the_copied_entries_in_a_snapshot() {
    let Some(server) = redis().await else { return };
    fill(server.url()).await;
    let address = server.url().trim_start_matches("redis://").trim_end_matches('/').to_owned();
    let directory = tempfile::tempdir().unwrap();
    let to = format!("file:{}", directory.path().join("to.json").display());
    let (port, _is_stalled) = stalling_proxy(&address, 1 << 20);
    let failed = larder(&["copy", &format!("redis://127.0.0.1:{port}/?timeout=2s"), &to]);
    assert_eq!(failed.status.code(), Some(3), "{}", stderr(&failed));
    assert!(stderr(&failed).contains("--resume"), "{}", stderr(&failed));
    let resumed = report(&["copy", "--json", "--resume", "--verify", server.url(), &to]);
    let unchanged = resumed["unchanged"].as_u64().unwrap();
    assert!(unchanged > 0 && unchanged < KEYS, "{resumed}");
    assert_eq!(resumed["verified"]["equal"], KEYS, "{resumed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn interrupted_copy_keeps_the_copied_entries_in_a_snapshot() {
    let Some(server) = redis().await else { return };
    fill(server.url()).await;
    let address = server.url().trim_start_matches("redis://").trim_end_matches('/').to_owned();
    // SIGHUP is ignored under `nohup`, and only Linux tells a process whether it is.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let hang_up = ignored.filter(|mask| mask & 1 == 0).map(|_| ("HUP", 129));
    for (signal, expected) in [("INT", 130), ("TERM", 143)].into_iter().chain(hang_up) {
        let directory = tempfile::tempdir().unwrap();
        let to = format!("file:{}", directory.path().join("to.json").display());
        let (port, is_stalled) = stalling_proxy(&address, 1 << 20);
        let from = format!("redis://127.0.0.1:{port}/?timeout=600s");
        let copying =
            command(&["copy", &from, &to]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        is_stalled.recv().unwrap();
        let killed = Command::new("kill").args([&format!("-{signal}"), &copying.id().to_string()]).status();
        assert!(killed.unwrap().success());
        let output = copying.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(expected), "{}", stderr(&output));
        assert!(stderr(&output).contains("--resume"), "{}", stderr(&output));

        let listed = larder(&["ls", &to]).stdout.split(|&byte| byte == b'\n').count() as u64 - 1;
        let said: u64 = stderr(&output)
            .split("at least ")
            .nth(1)
            .and_then(|rest| rest.split(' ').next()?.parse().ok())
            .expect("the number of entries copied");
        assert!(said > 0 && listed >= said && listed < KEYS, "{said} {listed}");
        let resumed = report(&["copy", "--json", "--resume", "--verify", server.url(), &to]);
        assert_eq!(resumed["unchanged"], listed, "{resumed}");
        assert_eq!(resumed["verified"]["equal"], KEYS, "{resumed}");
    }
}
