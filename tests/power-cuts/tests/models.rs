//! The states of short sequences of calls, in each model.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::{self, Seek, SeekFrom, Write},
    path::PathBuf,
};

use larder_power_cuts::{Bounds, Bug, Fault, Log, Model, Recorder, Tree, record};

const BOUNDS: Bounds = Bounds { all: 10_000, pairs: true, random: 0, seed: 0 };

/// A directory whose calls are recorded.
struct Disk {
    recorder: Recorder,
    root: tempfile::TempDir,
}

impl Disk {
    /// With these files on the disk.
    fn new(files: &[(&str, &[u8])]) -> Self {
        let root = tempfile::tempdir().unwrap();
        for (name, content) in files {
            fs::write(root.path().join(name), content).unwrap();
        }
        let recorder = Recorder::start(root.path()).unwrap();
        Self { recorder, root }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn open(&self, name: &str) -> io::Result<File> {
        let path = self.path(name);
        record::open(&path, || OpenOptions::new().create(true).truncate(false).write(true).open(&path))
    }

    fn write(&self, mut file: &File, at: u64, bytes: &[u8]) -> io::Result<usize> {
        file.seek(SeekFrom::Start(at))?;
        record::write(file, bytes, |bytes| file.write(bytes))
    }

    fn create(&self, name: &str, bytes: &[u8]) -> File {
        let file = self.open(name).unwrap();
        self.write(&file, 0, bytes).unwrap();
        file
    }

    fn sync(&self, file: &File) {
        record::sync(file, || file.sync_all()).unwrap();
    }

    fn sync_names(&self, name: &str) {
        record::sync_directory(&self.path(name), || Ok(())).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        let (from, to) = (self.path(from), self.path(to));
        record::rename(&from, &to, || fs::rename(&from, &to)).unwrap();
    }

    fn remove(&self, name: &str) {
        let path = self.path(name);
        record::remove_file(&path, || fs::remove_file(&path)).unwrap();
    }

    fn create_directory(&self, name: &str) {
        let path = self.path(name);
        record::create_directory(&path, || fs::create_dir(&path)).unwrap();
    }

    /// Returns the states after a cut now.
    fn states(&self, model: Model) -> Vec<Tree> {
        let log = self.recorder.log();
        states(&log, model, log.len())
    }
}

fn states(log: &Log, model: Model, cut: usize) -> Vec<Tree> {
    let states = log.states(model, cut, &BOUNDS);
    assert!(states.complete);
    states.trees.into_iter().collect()
}

/// Returns the contents of the file, `-` for none.
fn contents(states: &[Tree], name: &str) -> BTreeSet<String> {
    let content =
        |state: &Tree| state.file(name).map_or("-".to_owned(), |bytes| bytes.escape_ascii().to_string());
    states.iter().map(content).collect()
}

fn set(all: &[&str]) -> BTreeSet<String> {
    all.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn synced_changes_are_in_every_state() {
    for model in Model::ALL {
        let disk = Disk::new(&[]);
        disk.create_directory("d");
        let file = disk.create("d/x", b"new");
        disk.sync(&file);
        disk.sync_names("d");
        disk.sync_names("");
        let states = disk.states(model);
        assert_eq!((states.len(), contents(&states, "d/x")), (1, set(&["new"])), "{model:?}");
    }
}

#[test]
fn a_replacement_without_syncs_is_torn_only_without_order() {
    let replaced = |model| {
        let disk = Disk::new(&[("x", b"old")]);
        disk.create("t", b"1234");
        disk.rename("t", "x");
        disk.states(model)
    };
    let posix = replaced(Model::Posix);
    assert_eq!(contents(&posix, "x"), set(&["old", "", "1", "12", "123", "1234", "\\x00\\x00\\x00\\x00"]));
    // Both names and none of the new ones.
    assert!(posix.iter().any(|state| state.file("x") == Some(b"1234") && state.has("t")));
    assert!(posix.iter().any(|state| state.file("x") == Some(b"old") && !state.has("t")));
    let atomic = replaced(Model::AtomicRename);
    assert_eq!(contents(&atomic, "x"), set(&["old", "1234"]));
    // The rename may be on the disk without the creation of its first name.
    assert!(atomic.iter().all(|state| state.file("x") == Some(b"old") || !state.has("t")));
    let ordered = replaced(Model::Ordered);
    assert_eq!(contents(&ordered, "x"), set(&["old", "1234"]));
    assert_eq!(ordered.len(), 7, "nothing, an empty file, four lengths, the rename");
}

#[test]
fn a_rename_to_a_new_name_flushes_nothing_without_order() {
    for (model, empty) in [(Model::Posix, true), (Model::AtomicRename, true), (Model::Ordered, false)] {
        let disk = Disk::new(&[]);
        disk.create("t", b"1234");
        disk.rename("t", "x");
        assert_eq!(contents(&disk.states(model), "x").contains(""), empty, "{model:?}");
    }
}

#[test]
fn names_are_a_prefix_only_in_order() {
    for (model, reordered) in [(Model::Posix, true), (Model::AtomicRename, true), (Model::Ordered, false)] {
        let disk = Disk::new(&[]);
        disk.create("a", b"");
        disk.create("b", b"");
        let states = disk.states(model);
        assert_eq!(states.iter().any(|state| state.has("b") && !state.has("a")), reordered, "{model:?}");
        assert_eq!(states.len(), if reordered { 4 } else { 3 });
    }
}

#[test]
fn a_removed_name_does_not_return_after_a_sync() {
    for model in Model::ALL {
        let disk = Disk::new(&[("x", b"old")]);
        disk.create_directory("d");
        disk.sync_names("");
        let file = disk.create("d/t", b"new");
        disk.sync(&file);
        // The name in `d` is never synced.
        disk.rename("d/t", "x");
        disk.sync_names("");
        assert_eq!(contents(&disk.states(model), "x"), set(&["new"]), "{model:?}");
        disk.remove("x");
        assert_eq!(contents(&disk.states(model), "x"), set(&["-", "new"]), "{model:?}");
        disk.sync_names("");
        assert_eq!(contents(&disk.states(model), "x"), set(&["-"]), "{model:?}");
    }
}

#[test]
fn a_handle_writes_into_the_renamed_file() {
    for model in Model::ALL {
        let disk = Disk::new(&[]);
        let file = disk.create("t", b"1");
        disk.rename("t", "x");
        disk.create("t", b"other");
        disk.write(&file, 0, b"2").unwrap();
        disk.sync(&file);
        disk.sync_names("");
        assert_eq!(contents(&disk.states(model), "x"), set(&["2"]), "{model:?}");
    }
}

#[test]
fn a_write_in_place_is_torn_only_between_sectors() {
    let old = vec![b'a'; 1024];
    for model in Model::ALL {
        let disk = Disk::new(&[("x", &old)]);
        let file = disk.open("x").unwrap();
        disk.write(&file, 100, b"bcd").unwrap();
        assert_eq!(contents(&disk.states(model), "x").len(), 2, "{model:?}: one sector");
        disk.write(&file, 511, b"bb").unwrap();
        let second = |state: &Tree| (state.file("x").unwrap()[511], state.file("x").unwrap()[512]);
        let log = disk.recorder.log();
        let states = log.states(model, log.len(), &BOUNDS);
        assert_eq!(states.complete, model == Model::Ordered, "the others tear only the last write");
        let found: BTreeSet<_> = states.trees.iter().map(second).collect();
        let whole = BTreeSet::from([(b'a', b'a'), (b'b', b'b')]);
        assert!(found.is_superset(&whole), "{model:?}");
        assert!(found.contains(&(b'a', b'b')) && found.contains(&(b'b', b'a')), "{model:?}: {found:?}");
        disk.sync(&file);
        assert_eq!(disk.states(model).len(), 1, "{model:?}");
    }
}

#[test]
fn a_directory_without_its_name_loses_its_files() {
    for model in [Model::Posix, Model::AtomicRename] {
        let disk = Disk::new(&[]);
        disk.create_directory("d");
        let file = disk.create("d/x", b"new");
        disk.sync(&file);
        disk.sync_names("d");
        assert_eq!(contents(&disk.states(model), "d/x"), set(&["-", "new"]), "{model:?}");
    }
}

#[test]
fn bounded_combinations_are_reported() {
    let disk = Disk::new(&[]);
    for name in ["a", "b", "c", "d"] {
        disk.create(name, b"");
    }
    let log = disk.recorder.log();
    let some = Bounds { all: 15, pairs: false, random: 0, seed: 0 };
    let bounded = log.states(Model::Posix, log.len(), &some);
    assert!(!bounded.complete);
    // The prefixes, all but one, and only one.
    assert_eq!(bounded.trees.len(), 5 + 3 + 3);
    assert_eq!(states(&log, Model::Posix, log.len()).len(), 16);
    let pairs = log.states(Model::Posix, log.len(), &Bounds { pairs: true, ..some });
    assert_eq!(pairs.trees.len(), 16);
}

#[test]
fn a_killed_process_changes_nothing() {
    let disk = Disk::new(&[]);
    disk.recorder.fail(1, Fault::Kill);
    let file = disk.open("x").unwrap();
    disk.write(&file, 0, b"1").unwrap_err();
    assert!(disk.open("y").is_err() && !disk.path("y").exists());
    assert_eq!((disk.recorder.len(), disk.recorder.is_dead()), (1, true));
    disk.recorder.revive();
    disk.create("y", b"2");
    assert_eq!(disk.recorder.len(), 3);
}

#[test]
fn a_failed_write_leaves_half() {
    let disk = Disk::new(&[]);
    let file = disk.open("x").unwrap();
    disk.recorder.fail(0, Fault::EIO);
    assert_eq!(disk.write(&file, 0, b"1234").unwrap_err().raw_os_error(), Some(5));
    assert_eq!(fs::read(disk.path("x")).unwrap(), b"12");
    disk.sync(&file);
    disk.sync_names("");
    assert_eq!(contents(&disk.states(Model::Ordered), "x"), set(&["12"]));
}

#[test]
fn the_first_changes_of_a_file_suffice_for_its_rename() {
    let disk = Disk::new(&[("x", b"old")]);
    let file = disk.create("t", b"1");
    disk.write(&file, 1, b"2").unwrap();
    disk.rename("t", "x");
    disk.write(&file, 0, b"3").unwrap();
    disk.write(&file, 2, b"4").unwrap();
    let log = disk.recorder.log();
    let states: Vec<_> = log.states(Model::AtomicRename, log.len(), &BOUNDS).trees.into_iter().collect();
    // The last change without those between it and the rename.
    assert!(contents(&states, "x").is_superset(&set(&["old", "12", "124", "32", "324"])));
}

#[test]
fn an_unrecorded_call_is_found() {
    let disk = Disk::new(&[("x", b"old")]);
    disk.create("y", b"1");
    disk.create_directory("d");
    disk.recorder.check().unwrap();
    fs::write(disk.path("x"), b"new").unwrap();
    disk.recorder.check().unwrap_err();
    fs::write(disk.path("x"), b"old").unwrap();
    fs::create_dir(disk.path("e")).unwrap();
    disk.recorder.check().unwrap_err();
}

#[test]
fn a_path_through_a_link_is_recorded() {
    let base = tempfile::tempdir().unwrap();
    let (real, link) = (base.path().join("real"), base.path().join("link"));
    fs::create_dir(&real).unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let recorder = Recorder::start(&link).unwrap();
    for path in [link.join("a"), real.join("b")] {
        record::open(&path, || File::create(&path)).unwrap();
    }
    assert_eq!(recorder.len(), 2);
    recorder.check().unwrap();
}

#[test]
fn planted_bugs_change_the_log() {
    let disk = Disk::new(&[("x", b"old")]);
    let file = disk.create("t", b"new");
    disk.sync(&file);
    disk.rename("t", "x");
    disk.sync_names("");
    disk.write(&file, 0, b"ne2").unwrap();
    disk.sync(&file);
    let log = disk.recorder.log();
    let found = |bug, cut| contents(&states(&log.with_bug(bug), Model::Posix, cut), "x");
    assert_eq!(found(Bug::NoDirectorySync, 5), set(&["old", "new"]));
    assert!(found(Bug::NoFileSync, 5).contains(""));
    assert!(found(Bug::EarlyRename, 2).contains(""));
    assert_eq!(found(Bug::NoSyncInPlace, 7), set(&["new", "ne2"]));
    assert_eq!(contents(&states(&log, Model::Posix, 7), "x"), set(&["ne2"]));
}
