//! Tests the state after a power cut: every acknowledged change must be on the disk, even if another process was killed
//! just before. The tests use a simulated disk that loses unsynced changes.

pub(crate) use disk::{content_changed, sync_content, sync_directory};

#[cfg(test)]
mod disk {
    //! A simulated disk that loses unsynced changes.
    //!
    //! After a power cut, a directory has the names of its last sync. A failing sync simulates a process that is killed
    //! before it syncs a directory.

    use std::{
        collections::{BTreeMap, BTreeSet, HashMap},
        ffi::OsString,
        fs, io,
        path::{Path, PathBuf},
        sync::{LazyLock, Mutex, MutexGuard, PoisonError},
    };

    /// The names in a directory, with the contents of their files.
    pub(crate) type Names = BTreeMap<OsString, Vec<u8>>;

    #[derive(Default)]
    struct Disk {
        synced: HashMap<PathBuf, Names>,
        failing: BTreeSet<PathBuf>,
        /// The files that were changed in place and not synced since.
        changed: BTreeSet<PathBuf>,
    }

    static DISK: LazyLock<Mutex<Disk>> = LazyLock::new(Mutex::default);

    fn disk() -> MutexGuard<'static, Disk> {
        DISK.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn before_sync(path: &Path) -> io::Result<()> {
        if disk().failing.contains(path) {
            // Simulates a full disk, or a process that is killed before it syncs.
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    pub(crate) fn sync_directory(path: &Path, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        before_sync(path)?;
        sync()?;
        let names = names(path)?;
        disk().synced.insert(path.to_owned(), names);
        Ok(())
    }

    pub(crate) fn content_changed(path: &Path) {
        disk().changed.insert(path.to_owned());
    }

    pub(crate) fn sync_content(path: &Path, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        before_sync(path)?;
        sync()?;
        disk().changed.remove(path);
        Ok(())
    }

    pub(crate) fn names(path: &Path) -> io::Result<Names> {
        let mut names = Names::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            // Other files count only by name, because `/dev` is synced too.
            let small = entry.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() < 4096);
            let mut text = if small { fs::read(entry.path()).unwrap_or_default() } else { Vec::new() };
            if text.starts_with(b"LARDER") && text.len() >= 48 {
                // Ignores the expiry, which a touch changes in place: see `Disk::changed`.
                text[36..48].fill(0);
            }
            names.insert(entry.file_name(), text);
        }
        Ok(names)
    }

    /// Returns the names in `path` after a power cut now.
    pub(crate) fn after_power_cut(path: &Path) -> Names {
        disk().synced.get(path).cloned().unwrap_or_default()
    }

    pub(crate) fn fail(path: &Path) {
        disk().failing.insert(path.to_owned());
    }

    pub(crate) fn mend(path: &Path) {
        disk().failing.remove(path);
    }

    /// Returns whether the file at `path` was changed in place and not synced since.
    pub(crate) fn is_changed(path: &Path) -> bool {
        disk().changed.contains(path)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path, time::Duration};

    use futures_util::future::BoxFuture;
    use larder_core::{Applied, Change, Error, ErrorKind, Expiry, Key, Outcome, Result, Store, Version};

    use super::disk::{after_power_cut, fail, is_changed, mend, names};
    use crate::{Config, Layout, SnapshotConfig, ValueFormat};

    /// Makes a directory, in memory if possible, because these tests sync thousands of times.
    fn directory() -> tempfile::TempDir {
        tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
    }

    /// The directory of the key `chat7` in Larder's own layout.
    const SHARD: &str = "86";

    /// An operation, which returns its error unless that is a conflict.
    type Operation = for<'a> fn(&'a Store, &'a Key, &'a Version) -> BoxFuture<'a, Option<Error>>;

    macro_rules! operations {
        ($($name:literal => |$store:ident, $key:pat_param, $version:pat_param| $work:expr;)+) => {
            &[$(($name, |$store, $key, $version| Box::pin(async move { failure($work.await) }))),+]
        };
    }

    fn failure<T>(result: Result<T>) -> Option<Error> {
        result.err().filter(|error| error.kind() != ErrorKind::Conflict)
    }

    /// All operations that report a change.
    const CHANGES: &[(&str, Operation)] = operations! {
        "write" => |store, key, _| store.write(key, "[2]");
        "write elapsed" => |store, key, _| store.write(key, "[2]").expires_in(Duration::ZERO);
        "write absent" => |store, key, _| store.write(key, "[3]").if_absent();
        "write present" => |store, key, _| store.write(key, "[3]").if_present();
        "write at" => |store, key, version| store.write(key, "[3]").if_at(version.clone());
        "delete" => |store, key, _| store.delete(key);
        "delete at" => |store, key, version| store.delete(key).if_at(version.clone());
        "touch" => |store, key, _| store.touch(key, Expiry::after_secs(600));
        "touch present" => |store, key, _| store.touch(key, Expiry::after_secs(600)).if_present();
        "touch elapsed" => |store, key, _| store.touch(key, Expiry::after_millis(0));
        "read and touch" => |store, key, _| store.read(key).touching(Expiry::after_secs(600));
        "apply" => |store, key, _| apply(store, Change::put(key.clone(), "[4]", Expiry::Never));
        "apply delete" => |store, key, _| apply(store, Change::delete(key.clone()));
        "apply touch" => |store, key, _| apply(store, Change::touch(key.clone(), Expiry::after_secs(600)));
        "clear" => |store, _, _| store.clear("");
    };

    async fn apply(store: &Store, change: Change) -> Result<Applied> {
        store.apply(vec![change]).await.remove(0)
    }

    /// For every pair of operations: the first is killed before its sync, and the second reports a result.
    async fn results_reflect_the_disk(layout: Layout, values: Option<ValueFormat>) {
        let key = Key::new("chat7").unwrap();
        let config = |root: &Path| {
            let config = Config::new().directory(root).layout(layout).sweep(None);
            if let Some(values) = values { config.values(values) } else { config }
        };
        let (shard, file) = match (layout, values) {
            (Layout::Grammy, _) => ("t7", "chat7.json"),
            (Layout::Larder, Some(ValueFormat::Json)) => (SHARD, "chat7.json"),
            _ => (SHARD, "chat7.larder"),
        };
        for (exists, fails_in_root) in [(true, false), (false, false), (false, true)] {
            for (first_name, first) in CHANGES {
                for (second_name, second) in CHANGES {
                    // Entries do not expire in grammY's layout.
                    let names = [*first_name, *second_name];
                    let any = |part| names.iter().any(|name| name.contains(part));
                    if layout == Layout::Grammy && (any("touch") || any("elapsed")) {
                        continue;
                    }
                    // The formats of Larder's layout differ only in touches.
                    if values == Some(ValueFormat::Json) && !any("touch") {
                        continue;
                    }
                    let dir = directory();
                    let root = dir.path().join("sessions");
                    let killed = config(&root).connect().await.unwrap();
                    let running = config(&root).connect().await.unwrap();
                    let mut version = Version::unique();
                    if exists {
                        running.write(&key, "[1]").await.unwrap();
                        version = running.read(&key).await.unwrap().unwrap().version.unwrap();
                    }
                    let entry = root.join(shard).join(file);
                    let failing = if fails_in_root { root.clone() } else { root.join(shard) };
                    fail(&failing);
                    fail(&entry);
                    drop(first(&killed, &key, &version).await);
                    mend(&failing);
                    mend(&entry);
                    drop(second(&running, &key, &version).await);
                    let case = format!(
                        "{layout:?}: {second_name} after {first_name}, exists: {exists}, root fails: {fails_in_root}"
                    );
                    if root.join(shard).exists() {
                        assert!(after_power_cut(&root).contains_key(std::ffi::OsStr::new(shard)), "{case}");
                    }
                    assert!(!is_changed(&entry), "{case}: the file was not synced");
                    let now = super::disk::names(&root.join(shard)).unwrap_or_default();
                    assert!(after_power_cut(&root.join(shard)) == now, "{case}: the disk has other contents");
                    let above = after_power_cut(dir.path());
                    assert!(
                        above.contains_key(std::ffi::OsStr::new("sessions")),
                        "{case}: directory not synced"
                    );
                }
            }
        }
    }

    #[tokio::test]
    async fn results_of_the_directory_reflect_the_disk() {
        results_reflect_the_disk(Layout::Larder, None).await;
    }

    #[tokio::test]
    async fn results_of_the_json_directory_reflect_the_disk() {
        results_reflect_the_disk(Layout::Larder, Some(ValueFormat::Json)).await;
    }

    #[tokio::test]
    async fn results_of_grammys_layout_reflect_the_disk() {
        results_reflect_the_disk(Layout::Grammy, None).await;
    }

    /// The process that created the directories, or marked them as Larder's, was killed before it synced them.
    #[tokio::test]
    async fn directories_of_a_killed_process_are_synced() {
        let key = Key::new("a").unwrap();
        for layout in [Layout::Larder, Layout::Grammy] {
            let dir = directory();
            let root = dir.path().join("above/sessions");
            fs::create_dir_all(&root).unwrap();
            let storage = Config::new().directory(&root).layout(layout).connect().await.unwrap();
            storage.write(&key, "1").await.unwrap();
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
        Config::new().directory(&root).connect().await.unwrap_err();
        mend(&hidden);
        let storage = Config::new().directory(&root).connect().await.unwrap();
        storage.write(&key, "1").await.unwrap();
        assert!(after_power_cut(&hidden).contains_key(std::ffi::OsStr::new("format.json")));
        assert!(after_power_cut(&root).contains_key(std::ffi::OsStr::new(".larder")));
    }

    /// A write syncs only the directory of its entry if the others are on the disk. A change that finds no entry to
    /// change syncs nothing.
    #[tokio::test]
    async fn synced_directories_are_not_synced_again() {
        let dir = directory();
        let root = dir.path().join("sessions");
        let storage = Config::new().directory(&root).connect().await.unwrap();
        let key = Key::new("chat7").unwrap();
        let shard = root.join(SHARD);
        storage.write(&key, "1").await.unwrap();
        storage.close().await.unwrap();
        let storage = Config::new().directory(&root).connect().await.unwrap();
        fail(&root);
        storage.write(&key, "2").await.unwrap();
        assert!(storage.delete(&key).await.unwrap());
        fail(&shard);
        assert!(!storage.delete(&key).await.unwrap());
        assert!(!storage.touch(&key, Expiry::Never).await.unwrap());
        storage.write(&key, "3").await.unwrap_err();
        mend(&shard);
        // The failed change may also have been in the root.
        storage.delete(&key).await.unwrap_err();
        mend(&root);
        assert!(storage.delete(&key).await.unwrap());
    }

    /// A change whose sync failed may be present after a power cut. The error is that of a full disk, which alone would
    /// mean that the change was not applied.
    #[tokio::test]
    async fn the_outcome_is_unknown_after_a_failed_sync() {
        for values in [ValueFormat::Bytes, ValueFormat::Json] {
            let dir = directory();
            let root = dir.path().join("sessions");
            let storage = Config::new().directory(&root).values(values).sweep(None).connect().await.unwrap();
            let key = Key::new("chat7").unwrap();
            let file = if values == ValueFormat::Json { "chat7.json" } else { "chat7.larder" };
            let shard = root.join(SHARD);
            for (name, change) in CHANGES {
                storage.write(&key, "[1]").await.unwrap();
                let version = storage.read(&key).await.unwrap().unwrap().version.unwrap();
                fail(&shard);
                fail(&shard.join(file));
                let failed = change(&storage, &key, &version).await;
                mend(&shard);
                mend(&shard.join(file));
                if let Some(error) = failed {
                    assert_eq!(error.outcome(), Outcome::Unknown, "{values:?}: {name}: {error}");
                } else {
                    // The condition does not hold, so nothing was changed.
                    assert_eq!(*name, "write absent", "{values:?}");
                }
            }
        }
    }

    /// The process that wrote the snapshot was killed before it synced the directory.
    #[tokio::test]
    async fn a_flush_syncs_the_snapshot_of_a_killed_process() {
        let dir = directory();
        let parent = dir.path().join("data");
        let path = parent.join("sessions.json");
        let key = Key::new("chat7").unwrap();
        let storage = SnapshotConfig::new().file(&path).connect().await.unwrap();
        storage.write(&key, "1").await.unwrap();
        storage.close().await.unwrap();
        let storage = SnapshotConfig::new().file(&path).connect().await.unwrap();
        assert!(storage.delete(&key).await.unwrap());
        fail(&parent);
        storage.flush().await.unwrap_err();
        drop(storage);
        mend(&parent);

        let storage = SnapshotConfig::new().file(&path).connect().await.unwrap();
        assert!(!storage.delete(&key).await.unwrap());
        storage.flush().await.unwrap();
        let name = std::ffi::OsStr::new("sessions.json");
        assert!(after_power_cut(&parent).get(name) == names(&parent).unwrap().get(name));
        storage.close().await.unwrap();

        // Another process created the directory, and was killed before it synced that.
        let parent = dir.path().join("made");
        fs::create_dir(&parent).unwrap();
        let storage = SnapshotConfig::new().file(parent.join("sessions.json")).connect().await.unwrap();
        storage.write(&key, "1").await.unwrap();
        storage.close().await.unwrap();
        assert!(after_power_cut(dir.path()).contains_key(std::ffi::OsStr::new("made")));
    }
}
