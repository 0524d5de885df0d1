//! The file adapter: the files of entries, their names, the marker of a directory, and the snapshot.

use std::{
    env, fs,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use futures_util::{StreamExt, TryStreamExt};
use larder_core::{Bytes, ErrorKind, Expiry, Key, Record, Store};
use larder_file::{Config, SnapshotConfig};
use larder_kit::{Layout, ValueFormat};
use percent_encoding::percent_decode;
use serde::Deserialize;
use tempfile::TempDir;

use super::{block_on, parts, secret_key};
use crate::{SECRET, Verdict, refused};

/// A directory with an entry under the secret key.
struct Directory {
    root: TempDir,
    store: Store,
    /// The file of the entry.
    file: PathBuf,
}

impl Directory {
    fn new(config: Config) -> Self {
        let root = temporary();
        let store = block_on(config.directory(root.path()).sync(false).connect()).unwrap();
        block_on(async { store.write(secret_key(), "{}").await }).unwrap();
        let file = files(root.path()).into_iter().find(|file| is_entry(file)).unwrap();
        Self { root, store, file }
    }
}

macro_rules! directories {
    ($($name:ident: $config:expr;)+) => {$(
        fn $name<T>(use_it: impl FnOnce(&Directory) -> T) -> T {
            thread_local! {
                static DIRECTORY: Directory = Directory::new($config);
            }
            DIRECTORY.with(use_it)
        }
    )+};
}

directories! {
    bytes: Config::new().sweep(None);
    json: Config::new().sweep(None).values(ValueFormat::Json);
    grammy: Config::new().layout(Layout::Grammy);
}

/// Returns a new directory: in `TMPDIR`, or else in memory, where the system has such a place.
fn temporary() -> TempDir {
    let memory = Path::new("/dev/shm");
    let chosen = env::var_os("TMPDIR").is_some() || !memory.is_dir();
    if chosen { tempfile::tempdir() } else { tempfile::tempdir_in(memory) }.unwrap()
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

fn is_entry(file: &Path) -> bool {
    file.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(SECRET.as_bytes()))
}

pub(super) fn entry(input: &[u8]) -> Verdict {
    bytes(|directory| read(directory, input))
}

/// With the lengths as they are, and the right checksums: the other checks have to find the damage.
pub(super) fn entry_repaired(input: &[u8]) -> Verdict {
    let mut file = input.to_vec();
    if let Some((head, rest)) = file.split_at_mut_checked(48) {
        let key = usize::from(u16::from_le_bytes([head[24], head[25]])).min(rest.len());
        head[28..32].copy_from_slice(&crc32fast::hash(&rest[key..]).to_le_bytes());
        let sum = crc32fast::hash(&[&head[..32], &rest[..key]].concat());
        head[32..36].copy_from_slice(&sum.to_le_bytes());
        let sum = crc32fast::hash(&head[40..48]);
        head[36..40].copy_from_slice(&sum.to_le_bytes());
    }
    bytes(|directory| read(directory, &file))
}

pub(super) fn entry_json(input: &[u8]) -> Verdict {
    json(|directory| read(directory, input))
}

pub(super) fn entry_grammy(input: &[u8]) -> Verdict {
    grammy(|directory| read(directory, input))
}

/// Returns whether the expiry in the file of an entry has passed.
fn has_expired(file: &Path, content: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Envelope {
        expires_at: Option<i64>,
    }
    let deadline = if file.extension().unwrap() == "json" {
        serde_json::from_slice(content).ok().and_then(|Envelope { expires_at }| expires_at)
    } else {
        content.get(40..48).map(|bytes| i64::from_le_bytes(bytes.try_into().unwrap())).filter(|at| *at != 0)
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    deadline.is_some_and(|at| u128::try_from(at).unwrap_or(0) <= now)
}

/// Reads an entry whose file is `input`, and writes it again.
fn read(Directory { root, store, file }: &Directory, input: &[u8]) -> Verdict {
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, input).unwrap();
    let (key, expiry) = (&secret_key(), store.info().expiry);
    let touched = expiry.then_some(Expiry::Never);
    block_on(async {
        let found = if expiry { store.read(key).with_ttl().await } else { store.read(key).await };
        let listed: Vec<_> = store.list(Default::default()).collect().await;
        for error in listed.iter().filter_map(|entry| entry.as_ref().err()) {
            refused(error, &[ErrorKind::Corrupt, ErrorKind::InvalidKey]);
        }
        let Record { value, version, expiry, .. } = match found {
            Err(error) => {
                let verdict = refused(&error, &[ErrorKind::Corrupt]);
                // An entry that has expired is absent, also if only its value is damaged.
                if !matches!(store.contains(key).await, Ok(false)) {
                    assert!(store.write(key, "{}").if_absent().await.is_err());
                }
                assert_eq!(fs::read(file).unwrap(), input, "a damaged file was changed");
                store.delete(key).await.unwrap();
                assert!(!file.exists(), "a damaged entry can be deleted");
                return verdict;
            }
            Ok(None) => {
                assert!(expiry && has_expired(file, input), "a stored entry is absent");
                assert!(listed.iter().all(Result::is_err), "an absent entry is listed");
                return Verdict::Accepted;
            }
            Ok(Some(record)) => record,
        };
        let version = version.unwrap();
        assert!(listed.into_iter().any(|entry| entry.is_ok_and(|entry| entry.key == *key)));
        if let Some(touched) = touched {
            assert!(store.touch(key, touched).if_at(version.clone()).await.unwrap());
            let record = store.read(key).await.unwrap().unwrap();
            assert_eq!((&record.value, record.version.as_ref()), (&value, Some(&version)));
        }
        let write = store.write(key, value.clone()).if_at(version);
        let write = match expiry {
            // It may end before it is read.
            Some(expiry @ Expiry::After(left)) if left.as_secs() > 60 => write.expiry(expiry),
            _ => write,
        };
        write.await.unwrap();
        assert_eq!(store.read(key).await.unwrap().unwrap().value, value);
        assert_eq!(files(root.path()).iter().filter(|file| is_entry(file)).count(), 1);
        Verdict::Accepted
    })
}

/// The name of a file, in the directory where a read looks for it, and its content.
pub(super) fn name(input: &[u8]) -> Verdict {
    let [name, content] = parts(input);
    let key: Vec<u8> = percent_decode(name).collect();
    let shard = format!("{:02x}", crc32fast::hash(&key).to_le_bytes()[0]);
    bytes(|directory| listed(directory, &shard, name, content, &key))
}

/// The name of a directory and that of a file in it.
pub(super) fn name_grammy(input: &[u8]) -> Verdict {
    let [shard, name] = parts(input);
    let Ok(shard) = str::from_utf8(shard) else { return Verdict::Refused };
    grammy(|directory| listed(directory, shard, name, b"{}", name))
}

/// Lists a directory with one file, whose name is completed by the extension. If it is the name of a key, then of `key`.
fn listed(
    Directory { root, store, file }: &Directory,
    shard: &str,
    name: &[u8],
    content: &[u8],
    key: &[u8],
) -> Verdict {
    let extension = file.extension().unwrap().to_str().unwrap();
    let Ok(name) = str::from_utf8(name).map(|name| format!("{name}.{extension}")) else {
        return Verdict::Refused;
    };
    if [shard, &name].iter().any(|part| part.is_empty() || part.starts_with('.') || part.contains('/')) {
        return Verdict::Refused;
    }
    let _ = fs::remove_file(file);
    let place = root.path().join(shard);
    let path = place.join(&name);
    // The system refuses some names.
    if fs::create_dir_all(&place).is_err() || fs::write(&path, content).is_err() {
        return Verdict::Refused;
    }
    let verdict = block_on(async {
        let keys: Vec<_> = store.keys("").collect().await;
        assert!(keys.len() <= 1, "{keys:?}");
        match keys.into_iter().next() {
            None => {
                if let Ok(Ok(key)) = str::from_utf8(key).map(Key::new) {
                    fs::remove_file(&path).unwrap();
                    let written = store.write(&key, "[1]").await.is_ok();
                    let expired = store.info().expiry && has_expired(&path, content);
                    assert!(!path.exists() || expired, "the file of a key is not listed");
                    assert!(!written || store.delete(&key).await.unwrap());
                }
                Verdict::Refused
            }
            Some(Err(error)) => refused(&error, &[ErrorKind::Corrupt, ErrorKind::InvalidKey]),
            Some(Ok(key)) => {
                // A listed entry is found. Writing it changes this file.
                let found = store.read(&key).await;
                assert!(!matches!(found, Ok(None)), "a listed entry is not found");
                store.write(&key, "[1]").await.unwrap();
                assert_ne!(fs::read(&path).unwrap(), content, "the entry is in another file");
                assert!(store.delete(&key).await.unwrap());
                Verdict::Accepted
            }
        }
    });
    let _ = fs::remove_file(&path);
    for directory in fs::read_dir(root.path()).unwrap().map(|entry| entry.unwrap().path()) {
        // Only if it is empty.
        if directory != file.parent().unwrap() {
            let _ = fs::remove_dir(directory);
        }
    }
    verdict
}

/// The file that marks a directory as Larder's.
pub(super) fn marker(input: &[u8]) -> Verdict {
    let root = temporary();
    let marker = root.path().join(".larder/format.json");
    fs::create_dir(root.path().join(".larder")).unwrap();
    fs::write(&marker, input).unwrap();
    let mut verdict = Verdict::Refused;
    for existing in [true, false] {
        let config = Config::new().directory(root.path()).sweep(None);
        match block_on(if existing { config.existing() } else { config }.connect()) {
            Ok(_) => verdict = Verdict::Accepted,
            Err(error) => drop(refused(&error, &[ErrorKind::Corrupt, ErrorKind::InvalidConfig])),
        }
        assert_eq!(fs::read(&marker).unwrap(), input, "the marker was changed");
    }
    verdict
}

pub(super) fn snapshot(input: &[u8]) -> Verdict {
    let root = temporary();
    let path = root.path().join("snapshot.json");
    fs::write(&path, input).unwrap();
    block_on(async {
        let looked = SnapshotConfig::new().file(&path).existing().connect().await;
        assert_eq!(fs::read(&path).unwrap(), input, "looking has changed the snapshot");
        let before = match looked {
            Err(error) => {
                let error = (error, SnapshotConfig::new().file(&path).connect().await.unwrap_err());
                assert_eq!(fs::read(&path).unwrap(), input, "a damaged snapshot was changed");
                refused(&error.1, &[ErrorKind::Corrupt]);
                return refused(&error.0, &[ErrorKind::Corrupt]);
            }
            Ok(store) => entries(&store).await,
        };
        // A change makes the store write the whole snapshot.
        let store = SnapshotConfig::new().file(&path).connect().await.unwrap();
        let key = Key::new("fuzz:new").unwrap();
        let was = store.read(&key).await.unwrap();
        store.write(&key, "1").await.unwrap();
        store.delete(&key).await.unwrap();
        store.close().await.unwrap();
        let store = SnapshotConfig::new().file(&path).existing().connect().await.unwrap();
        let mut expected = before;
        expected.retain(|(found, _)| was.is_none() || *found != key);
        assert_eq!(entries(&store).await, expected);
        Verdict::Accepted
    })
}

/// Returns the entries that do not expire while the snapshot is written.
async fn entries(store: &Store) -> Vec<(Key, Bytes)> {
    let entries: Vec<(Key, Record)> = store.entries("").try_collect().await.unwrap();
    let lasting = |expiry: Option<Expiry>| match expiry {
        Some(Expiry::After(left)) => left.as_secs() > 60,
        _ => true,
    };
    let mut entries: Vec<_> = entries
        .into_iter()
        .filter(|(_, record)| lasting(record.expiry))
        .map(|(key, record)| (key, record.value))
        .collect();
    entries.sort();
    entries
}
