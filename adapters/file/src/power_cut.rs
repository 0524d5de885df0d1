//! The state after a power cut: every change that was acknowledged, also if another process was
//! killed just before.
//!
//! A directory on the disk holds the names that it held when it was last synced. A process that is
//! killed before it syncs a directory is a sync that fails.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
};

use futures_util::future::BoxFuture;
use larder_core::{Bytes, Condition, Expiry, Key, Storage, Version, Write};

use crate::{
    FileStorage, Layout, SnapshotStorage, ValueFormat,
    form::{Form, Place},
};

/// The names in a directory, with what tells their files apart.
type Names = BTreeMap<OsString, Vec<u8>>;

#[derive(Default)]
struct Disk {
    synced: HashMap<PathBuf, Names>,
    failing: BTreeSet<PathBuf>,
    /// Files that were changed in place and not synced after it.
    changed: BTreeSet<PathBuf>,
}

static DISK: LazyLock<Mutex<Disk>> = LazyLock::new(Mutex::default);

fn disk() -> MutexGuard<'static, Disk> {
    DISK.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn before_sync(path: &Path) -> io::Result<()> {
    if disk().failing.contains(path) {
        return Err(io::Error::other("the process is killed before it syncs"));
    }
    Ok(())
}

pub(crate) fn synced(path: &Path) -> io::Result<()> {
    let names = names(path)?;
    disk().synced.insert(path.to_owned(), names);
    Ok(())
}

pub(crate) fn content_changed(path: &Path) {
    disk().changed.insert(path.to_owned());
}

pub(crate) fn content_synced(path: &Path) {
    disk().changed.remove(path);
}

fn names(path: &Path) -> io::Result<Names> {
    let mut names = Names::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        // Anything but an entry counts by its name only: `/dev` is synced too.
        let small = entry.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() < 4096);
        let mut text = if small { fs::read(entry.path()).unwrap_or_default() } else { Vec::new() };
        if text.starts_with(b"LARDER") && text.len() >= 48 {
            // A touch changes the expiry in place: see `Disk::changed`.
            text[36..48].fill(0);
        }
        names.insert(entry.file_name(), text);
    }
    Ok(names)
}

/// The names in `path` after a power cut now.
fn after_power_cut(path: &Path) -> Names {
    disk().synced.get(path).cloned().unwrap_or_default()
}

fn fail(path: &Path) {
    disk().failing.insert(path.to_owned());
}

fn mend(path: &Path) {
    disk().failing.remove(path);
}

/// In memory where that can be: these tests sync thousands of times.
fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

type Change = for<'a> fn(&'a FileStorage, &'a Key, &'a Version) -> BoxFuture<'a, ()>;

/// Every operation that answers about a change; what it answers does not matter here.
const CHANGES: &[(&str, Change)] = &[
    ("write", |storage, key, _| {
        Box::pin(async { drop(storage.write(key, Bytes::from_static(b"[2]"), Expiry::Never).await) })
    }),
    ("write elapsed", |storage, key, _| {
        Box::pin(async {
            drop(storage.write(key, Bytes::from_static(b"[2]"), Expiry::after_millis(0)).await);
        })
    }),
    ("write_if absent", |storage, key, _| {
        Box::pin(async {
            let value = Bytes::from_static(b"[3]");
            drop(storage.write_if(key, value, Expiry::Never, Condition::Absent).await);
        })
    }),
    ("write_if", |storage, key, version| {
        Box::pin(async {
            let condition = Condition::from(Some(version.clone()));
            drop(storage.write_if(key, Bytes::from_static(b"[3]"), Expiry::Never, condition).await);
        })
    }),
    ("delete", |storage, key, _| Box::pin(async { drop(storage.delete(key).await) })),
    ("delete_if", |storage, key, version| Box::pin(async { drop(storage.delete_if(key, version).await) })),
    ("touch", |storage, key, _| Box::pin(async { drop(storage.touch(key, Expiry::after_secs(600)).await) })),
    ("touch elapsed", |storage, key, _| {
        Box::pin(async { drop(storage.touch(key, Expiry::after_millis(0)).await) })
    }),
    ("write_many", |storage, key, _| {
        Box::pin(async {
            let writes = [Write::new(key.clone(), "[4]", Expiry::Never)];
            drop(storage.write_many(&writes).await);
        })
    }),
    ("delete_many", |storage, key, _| {
        Box::pin(async { drop(storage.delete_many(std::slice::from_ref(key)).await) })
    }),
    ("clear", |storage, _, _| Box::pin(async { drop(storage.clear("").await) })),
];

/// For every two operations: the first is killed before its sync, the second answers.
async fn answers_follow_from_what_is_on_the_disk(layout: Layout, values: Option<ValueFormat>) {
    let form = match (layout, values) {
        (Layout::Grammy, _) => Form::Grammy,
        (_, Some(ValueFormat::Json)) => Form::Json,
        _ => Form::Binary,
    };
    let key = Key::new("chat7").unwrap();
    let Place { shard, file, .. } = form.place(&key).unwrap();
    for (there, fails_in_root) in [(true, false), (false, false), (false, true)] {
        for (first_name, first) in CHANGES {
            for (second_name, second) in CHANGES {
                // Nothing expires in grammY's layout.
                let names = [*first_name, *second_name];
                let any = |part| names.iter().any(|name| name.contains(part));
                if form == Form::Grammy && (any("touch") || any("elapsed")) {
                    continue;
                }
                // The forms of Larder's layout differ in how a touch is done.
                if form == Form::Json && !any("touch") {
                    continue;
                }
                let dir = directory();
                let root = dir.path().join("sessions");
                let open = || async {
                    let mut builder = FileStorage::builder(&root).layout(layout).sweep_every(None);
                    if let Some(values) = values {
                        builder = builder.values(values);
                    }
                    builder.open().await.unwrap()
                };
                let killed = open().await;
                let running = open().await;
                let mut version = Version::unique();
                if there {
                    running.write(&key, Bytes::from_static(b"[1]"), Expiry::Never).await.unwrap();
                    version = running.read(&key).await.unwrap().unwrap().version.unwrap();
                }
                let entry = root.join(&shard).join(&file);
                let failing = if fails_in_root { root.clone() } else { root.join(&shard) };
                fail(&failing);
                fail(&entry);
                first(&killed, &key, &version).await;
                mend(&failing);
                mend(&entry);
                second(&running, &key, &version).await;
                let what = format!(
                    "{form:?}: {second_name} after {first_name}, entry there: {there}, root: {fails_in_root}"
                );
                if root.join(&shard).exists() {
                    assert!(after_power_cut(&root).contains_key(std::ffi::OsStr::new(&shard)), "{what}");
                }
                assert!(!disk().changed.contains(&entry), "{what}: the file has not been synced");
                let now = self::names(&root.join(&shard)).unwrap_or_default();
                assert!(after_power_cut(&root.join(&shard)) == now, "{what}: the disk has something else");
                let above = after_power_cut(dir.path());
                assert!(above.contains_key(std::ffi::OsStr::new("sessions")), "{what}: no directory");
            }
        }
    }
}

#[tokio::test]
async fn answers_of_the_directory_follow_from_what_is_on_the_disk() {
    answers_follow_from_what_is_on_the_disk(Layout::Larder, None).await;
}

#[tokio::test]
async fn answers_of_the_json_directory_follow_from_what_is_on_the_disk() {
    answers_follow_from_what_is_on_the_disk(Layout::Larder, Some(ValueFormat::Json)).await;
}

#[tokio::test]
async fn answers_of_grammys_layout_follow_from_what_is_on_the_disk() {
    answers_follow_from_what_is_on_the_disk(Layout::Grammy, None).await;
}

/// The process that made the directories, or marked them as Larder's, was killed before it synced
/// them.
#[tokio::test]
async fn directories_that_another_process_made_are_synced() {
    let key = Key::new("a").unwrap();
    for layout in [Layout::Larder, Layout::Grammy] {
        let dir = directory();
        let root = dir.path().join("above/sessions");
        fs::create_dir_all(&root).unwrap();
        let storage = FileStorage::builder(&root).layout(layout).open().await.unwrap();
        storage.write(&key, Bytes::from_static(b"1"), Expiry::Never).await.unwrap();
        assert!(after_power_cut(dir.path()).contains_key(std::ffi::OsStr::new("above")), "{layout:?}");
        assert!(
            after_power_cut(root.parent().unwrap()).contains_key(std::ffi::OsStr::new("sessions")),
            "{layout:?}"
        );
    }

    let dir = directory();
    let root = dir.path().join("sessions");
    let hidden = root.join(".larder");
    fail(&hidden);
    FileStorage::builder(&root).open().await.unwrap_err();
    mend(&hidden);
    let storage = FileStorage::builder(&root).open().await.unwrap();
    storage.write(&key, Bytes::from_static(b"1"), Expiry::Never).await.unwrap();
    assert!(after_power_cut(&hidden).contains_key(std::ffi::OsStr::new("format.json")));
    assert!(after_power_cut(&root).contains_key(std::ffi::OsStr::new(".larder")));
}

/// A write syncs the directory of its entry, and no other once that one is on the disk. A change that
/// finds nothing to change syncs nothing.
#[tokio::test]
async fn settled_directories_are_not_synced_again() {
    let dir = directory();
    let root = dir.path().join("sessions");
    let storage = FileStorage::builder(&root).open().await.unwrap();
    let key = Key::new("chat7").unwrap();
    let shard = root.join(Form::Binary.place(&key).unwrap().shard);
    storage.write(&key, Bytes::from_static(b"1"), Expiry::Never).await.unwrap();
    storage.close().await.unwrap();
    let storage = FileStorage::builder(&root).open().await.unwrap();
    fail(&root);
    storage.write(&key, Bytes::from_static(b"2"), Expiry::Never).await.unwrap();
    assert!(storage.delete(&key).await.unwrap());
    fail(&shard);
    assert!(!storage.delete(&key).await.unwrap());
    assert!(!storage.touch(&key, Expiry::Never).await.unwrap());
    storage.write(&key, Bytes::from_static(b"3"), Expiry::Never).await.unwrap_err();
    mend(&shard);
    // The failure may be in the root as well.
    storage.delete(&key).await.unwrap_err();
    mend(&root);
    assert!(storage.delete(&key).await.unwrap());
}

/// The process that wrote the snapshot was killed before it synced the directory.
#[tokio::test]
async fn snapshot_of_a_killed_process_is_on_the_disk_after_a_flush() {
    let dir = directory();
    let parent = dir.path().join("data");
    let path = parent.join("sessions.json");
    let key = Key::new("chat7").unwrap();
    let storage = SnapshotStorage::builder(&path).open().await.unwrap();
    storage.write(&key, Bytes::from_static(b"1"), Expiry::Never).await.unwrap();
    storage.close().await.unwrap();
    let storage = SnapshotStorage::builder(&path).open().await.unwrap();
    assert!(storage.delete(&key).await.unwrap());
    fail(&parent);
    storage.flush().await.unwrap_err();
    drop(storage);
    mend(&parent);

    let storage = SnapshotStorage::builder(&path).open().await.unwrap();
    assert!(!storage.delete(&key).await.unwrap());
    storage.flush().await.unwrap();
    let name = std::ffi::OsStr::new("sessions.json");
    assert!(after_power_cut(&parent).get(name) == names(&parent).unwrap().get(name));
    storage.close().await.unwrap();

    // Another process made the directory and was killed before it synced that.
    let parent = dir.path().join("made");
    fs::create_dir(&parent).unwrap();
    let storage = SnapshotStorage::builder(parent.join("sessions.json")).open().await.unwrap();
    storage.write(&key, Bytes::from_static(b"1"), Expiry::Never).await.unwrap();
    storage.close().await.unwrap();
    assert!(after_power_cut(dir.path()).contains_key(std::ffi::OsStr::new("made")));
}
