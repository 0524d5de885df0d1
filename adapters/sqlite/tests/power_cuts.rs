//! Power cuts: runs a process on a database under `strace`, and opens the states that the file system may leave after
//! each of its system calls.
//!
//! The calls of SQLite's own code are those that matter here, so the process is traced from outside. The index of the
//! log (`-shm`) is left out, because SQLite rebuilds it. Without `strace` these tests are skipped, unless
//! `LARDER_TEST_REQUIRE` names `strace` or is `all`.
//!
//! ```sh
//! cargo test -p larder-sqlite --test power_cuts -- --nocapture             # some states of each cut
//! LARDER_POWER_CUTS=all cargo test --release -p larder-sqlite --test power_cuts -- --nocapture
//! ```
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

use std::{
    collections::{BTreeMap, HashMap},
    env,
    fs::{self, File, OpenOptions},
    io::{Seek, SeekFrom, Write},
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use futures_util::TryStreamExt;
use larder_core::{Change, Expiry, Key, ListOptions};
use larder_power_cuts::{Bounds, Bug, Log, Model, Recorder, record, scratch};
use larder_sqlite::{Config, Synchronous};
use larder_test_servers::Tool;

/// The environment of the traced process: its database, and `synchronous`.
const DATABASE: &str = "LARDER_POWER_CUTS_DATABASE";
const SYNCHRONOUS: &str = "LARDER_POWER_CUTS_SYNCHRONOUS";

type Entries = BTreeMap<String, String>;

/// The puts and deletes of each operation. A close and a new connection follow after an empty one.
const OPERATIONS: &[&[(&str, Option<&str>)]] = &[
    &[("a", Some("1"))],
    &[("b", Some("2")), ("c", Some("2"))],
    &[("a", Some("3"))],
    &[("b", None)],
    &[],
    &[("c", Some("4")), ("a", None)],
    &[("b", Some("5"))],
];

fn config(database: &Path, synchronous: Synchronous) -> Config {
    Config::new().file(database).synchronous(synchronous).sweep(None)
}

/// The traced process. Announces each operation that was acknowledged.
#[tokio::test]
#[ignore = "runs in the traced process"]
async fn process() {
    let Some(database) = env::var_os(DATABASE).map(PathBuf::from) else { return };
    let normal = env::var_os(SYNCHRONOUS).is_some_and(|value| value == "normal");
    let synchronous = if normal { Synchronous::Normal } else { Synchronous::Full };
    let mut store = config(&database, synchronous).connect().await.unwrap();
    for operation in OPERATIONS {
        let change = |(key, value): &(&str, Option<&'static str>)| {
            let key = Key::new(*key).unwrap();
            value.map_or_else(
                || Change::delete(key.clone()),
                |value| Change::put(key.clone(), value, Expiry::Never),
            )
        };
        if operation.is_empty() {
            store.close().await.unwrap();
            store = config(&database, synchronous).connect().await.unwrap();
        }
        for applied in store.apply(operation.iter().map(change).collect()).await {
            applied.unwrap();
        }
        std::io::stderr().write_all(b"acknowledged\n").unwrap();
    }
    store.close().await.unwrap();
}

/// The calls of the process, and the number of calls before each acknowledgement.
struct Trace {
    log: Log,
    acknowledged: Vec<usize>,
}

/// The calls that change files. A name with a question mark does not exist on every architecture.
const CALLS: &str = "trace=?open,openat,?creat,write,pwrite64,writev,pwritev,?pwritev2,truncate,ftruncate,fsync,fdatasync,\
                     ?unlink,unlinkat,?rename,?renameat,renameat2,?link,linkat,fallocate,?copy_file_range";

/// Runs the process under `strace`; `None` if there is none, or it may not trace.
fn trace(synchronous: &str) -> Option<Trace> {
    let probe = Command::new("strace").args(["-o", "/dev/null", "true"]).stderr(Stdio::null()).status();
    if !probe.is_ok_and(|status| status.success()) {
        assert!(!Tool::Strace.required(), "strace is not installed, or may not trace");
        eprintln!("skipped: strace is not installed, or may not trace");
        return None;
    }
    let dir = scratch().unwrap();
    // `strace` shows paths without links.
    let base = fs::canonicalize(dir.path()).unwrap();
    let (root, replica, text) = (base.join("traced"), base.join("replica"), base.join("trace"));
    fs::create_dir(&root).unwrap();
    let output = Command::new("strace")
        .args(["-f", "-y", "-xx", "-s", "1000000", "-e", CALLS, "-o"])
        .arg(&text)
        .arg(env::current_exe().unwrap())
        .args(["--exact", "process", "--ignored", "--nocapture"])
        .env(DATABASE, root.join("s.db"))
        .env(SYNCHRONOUS, synchronous)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the traced process failed: {errors}");
    let trace = replay(&fs::read_to_string(text).unwrap(), &root, &replica);
    assert!(fs::read(root.join("s.db")).unwrap() == fs::read(replica.join("s.db")).unwrap());
    Some(trace)
}

/// Repeats the traced calls in `replica`, to record them.
fn replay(text: &str, root: &Path, replica: &Path) -> Trace {
    fs::create_dir(replica).unwrap();
    let recorder = Recorder::start(replica).unwrap();
    let mut unfinished: HashMap<&str, &str> = HashMap::new();
    let mut files: HashMap<PathBuf, File> = HashMap::new();
    let mut acknowledged = Vec::new();
    for line in text.lines() {
        let (process, line) = line.split_once(' ').unwrap();
        let line = line.trim_start();
        if let Some(start) = line.strip_suffix(" <unfinished ...>") {
            unfinished.insert(process, start);
            continue;
        }
        let line = match line.split_once(" resumed>") {
            Some((_, end)) => format!("{}{end}", unfinished.remove(process).unwrap_or_default()),
            None => line.to_owned(),
        };
        let Some((name, rest)) = line.split_once('(') else { continue };
        let Some((arguments, result)) = rest.rsplit_once(") ") else { continue };
        let result = result.trim_start().trim_start_matches("= ");
        if result.starts_with('-') {
            continue;
        }
        let arguments: Vec<_> = arguments.split(", ").collect();
        if name == "write" && text_of(arguments[1]) == b"acknowledged\n" {
            acknowledged.push(recorder.len());
            continue;
        }
        // The path of the handle, or of the name.
        let path = match name {
            "openat" => path_of(result),
            "unlinkat" => path_of(arguments[1]),
            "pwrite64" | "write" | "ftruncate" | "fsync" | "fdatasync" | "unlink" => path_of(arguments[0]),
            other => {
                let is_inside = |text: &&str| path_of(text).starts_with(root);
                let inside = [&arguments[..], &[result]].concat().iter().any(is_inside);
                assert!(!inside, "SQLite called {other}, which this test does not repeat");
                continue;
            }
        };
        assert!(path.is_absolute() || !name.starts_with("unlink"), "the path of {name} is relative");
        let Ok(inner) = path.strip_prefix(root) else { continue };
        if inner.as_os_str().as_encoded_bytes().ends_with(b"-shm") {
            continue;
        }
        let copy = if inner.as_os_str().is_empty() { replica.to_owned() } else { replica.join(inner) };
        match name {
            "openat" if copy.is_dir() => {}
            "openat" => {
                let mut options = OpenOptions::new();
                let truncates = arguments[2].contains("O_TRUNC");
                options.write(true).create(true).truncate(truncates);
                files.insert(copy.clone(), record::open(&copy, || options.open(&copy)).unwrap());
            }
            "pwrite64" | "write" => {
                let mut file = &files[&copy];
                let bytes = text_of(arguments[1]);
                if let Some(at) = arguments.get(3) {
                    file.seek(SeekFrom::Start(at.parse().unwrap())).unwrap();
                }
                assert_eq!(record::write(file, &bytes, |bytes| file.write(bytes)).unwrap(), bytes.len());
            }
            "ftruncate" => {
                let length = arguments[1].parse().unwrap();
                record::set_len(&files[&copy], length, || files[&copy].set_len(length)).unwrap();
            }
            "fsync" | "fdatasync" if copy.is_dir() => record::sync_directory(&copy, || Ok(())).unwrap(),
            "fsync" | "fdatasync" => record::sync(&files[&copy], || Ok(())).unwrap(),
            _ => record::remove_file(&copy, || fs::remove_file(&copy)).unwrap(),
        }
    }
    assert_eq!(acknowledged.len(), OPERATIONS.len());
    recorder.check().unwrap();
    Trace { log: recorder.log(), acknowledged }
}

/// Returns the path of a name, or the one that `strace` adds to a handle: `3<...>`.
fn path_of(text: &str) -> PathBuf {
    std::ffi::OsString::from_vec(text_of(text)).into()
}

/// Returns the bytes of the hexadecimal text.
fn text_of(text: &str) -> Vec<u8> {
    let hexadecimal = |byte: &str| u8::from_str_radix(byte.get(..2)?, 16).ok();
    text.split("\\x").skip(1).filter_map(hexadecimal).collect()
}

/// Returns the entries after each operation; the first is before all of them.
fn expected() -> Vec<Entries> {
    let mut all = vec![Entries::new()];
    for operation in OPERATIONS {
        let mut entries = all[all.len() - 1].clone();
        for (key, value) in *operation {
            match value {
                Some(value) => drop(entries.insert((*key).to_owned(), (*value).to_owned())),
                None => drop(entries.remove(*key)),
            }
        }
        all.push(entries);
    }
    all
}

/// Opens the states of all cuts, at most `limit` of each. Returns the first violation per model.
async fn violations(
    Trace { log, acknowledged }: &Trace,
    bug: Option<Bug>,
    limit: usize,
) -> BTreeMap<Model, String> {
    let log = bug.map_or_else(|| log.clone(), |bug| log.with_bug(bug));
    let bounds = Bounds { all: 256, pairs: false, random: 16, seed: 1 };
    let (dir, expected) = (scratch().unwrap(), expected());
    let mut random = fastrand::Rng::with_seed(1);
    let mut found = BTreeMap::new();
    for model in Model::ALL {
        let (mut states, mut opened) = (0, 0);
        'cuts: for cut in 0..=log.len() {
            let done = acknowledged.iter().filter(|calls| **calls <= cut).count();
            let mut trees: Vec<_> = log.states(model, cut, &bounds).trees.into_iter().collect();
            trees.sort_unstable();
            random.shuffle(&mut trees);
            states += trees.len();
            for tree in trees.into_iter().take(limit) {
                opened += 1;
                let root = dir.path().join("state");
                fs::create_dir(&root).unwrap();
                tree.create(&root).unwrap();
                let read = reads(&root.join("s.db")).await;
                fs::remove_dir_all(&root).unwrap();
                let next = expected.get(done + 1).unwrap_or(&expected[done]);
                let is_expected = |entries: &Entries| {
                    let either = [&expected[done], next];
                    entries
                        .keys()
                        .chain(expected[done].keys())
                        .chain(next.keys())
                        .all(|key| either.iter().any(|state| state.get(key) == entries.get(key)))
                };
                if !read.as_ref().is_ok_and(is_expected) {
                    let wanted = &expected[done];
                    found.insert(
                        model,
                        format!("cut {cut}: {read:?} instead of {wanted:?} or {next:?}\n{tree:?}"),
                    );
                    break 'cuts;
                }
            }
        }
        let calls = log.len();
        eprintln!("{model:?}, {bug:?}: {calls} calls, {states} states, {opened} opened");
        assert!(states > calls || found.contains_key(&model));
    }
    found
}

/// Reads all entries, and makes a change.
async fn reads(database: &Path) -> larder_core::Result<Entries> {
    let store = config(database, Synchronous::Off).connect().await?;
    let entries: Vec<_> = store.list(ListOptions::new()).try_collect().await?;
    store.write("d", "6").await?;
    assert_eq!(store.read("d").await?.unwrap().value, "6");
    store.close().await?;
    let value = |entry: larder_core::Entry| {
        let value = entry.record.unwrap().value;
        (entry.key.as_str().to_owned(), String::from_utf8_lossy(&value).into_owned())
    };
    Ok(entries.into_iter().map(value).collect())
}

/// The number of states of each cut that are opened.
fn limit() -> usize {
    if env::var_os("LARDER_POWER_CUTS").is_some_and(|value| value == "all") { usize::MAX } else { 8 }
}

#[tokio::test]
async fn acknowledged_changes_survive() {
    let Some(trace) = trace("full") else { return };
    if let Some((model, violation)) = violations(&trace, None, limit()).await.into_iter().next() {
        panic!("{model:?}: {violation}");
    }
}

#[tokio::test]
async fn changes_that_are_not_synced_are_lost() {
    let Some(normal) = trace("normal") else { return };
    let found: Vec<_> = violations(&normal, None, 8).await.into_keys().collect();
    assert_eq!(found, Model::ALL);
}

#[tokio::test]
async fn planted_bugs_are_found() {
    let Some(trace) = trace("full") else { return };
    for bug in [Bug::NoDirectorySync, Bug::NoSyncInPlace] {
        assert!(violations(&trace, Some(bug), 16).await.contains_key(&Model::Posix), "{bug:?}");
    }
}
