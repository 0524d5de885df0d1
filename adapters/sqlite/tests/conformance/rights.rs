//! The permissions of the files, and read-only places.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use futures_util::StreamExt;
use larder_core::{Bytes, ErrorKind, Key, Store};
use larder_sqlite::{Config, Mode};
use larder_testkit::{Fails, Must, Suite};
use tempfile::TempDir;

use crate::spaces::Files;

fn key(text: &str) -> Key {
    Key::new(text).must("a key")
}

async fn write(storage: &Store, text: &str) {
    storage.write(key(text), Bytes::from(text.to_owned())).await.must("write");
}

/// The permissions of the database and of its other files.
fn modes(path: &Path) -> Vec<u32> {
    ["", "-wal", "-shm"]
        .into_iter()
        .map(|suffix| {
            let mut path = path.as_os_str().to_owned();
            path.push(suffix);
            fs::metadata(path).must("look at the file").permissions().mode() & 0o777
        })
        .collect()
}

/// A directory that is read-only until it is dropped.
struct ReadOnly {
    path: PathBuf,
    mounted: bool,
}

impl ReadOnly {
    /// Returns `None`, with a note, if this user can always write and cannot mount.
    fn make(path: &Path) -> Option<Self> {
        fs::set_permissions(path, Permissions::from_mode(0o555)).must("take the right to write");
        let mut made = Self { path: path.to_owned(), mounted: false };
        if fs::write(path.join("probe"), "").is_err() {
            return Some(made);
        }
        // The superuser can always write.
        fs::remove_file(path.join("probe")).must("remove the probe");
        let mount = |arguments: &[&str]| {
            Command::new("mount").args(arguments).arg(path).output().is_ok_and(|done| done.status.success())
        };
        let source = path.to_str().must("a path in UTF-8");
        made.mounted = mount(&["--bind", source]);
        if made.mounted && mount(&["-o", "remount,ro,bind"]) {
            return Some(made);
        }
        eprintln!("skipped: this needs a user other than root, or the right to mount");
        None
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        if self.mounted {
            let done = Command::new("umount").arg("--lazy").arg(&self.path).status();
            done.must("take the mount away");
        }
        fs::set_permissions(&self.path, Permissions::from_mode(0o755)).must("give the right back");
    }
}

pub(crate) fn cases(suite: Suite<Files>) -> Suite<Files> {
    suite
        .case("files_are_private", |context| async move {
            let path = context.factory.path(context.target.space());
            let storage = context.factory.builder(context.target.space()).connect().await.must("open");
            write(&storage, "a").await;
            assert_eq!(modes(&path), [0o600; 3]);
            storage.close().await.must("close");
        })
        .case("permissions_can_be_configured", |context| async move {
            let path = context.factory.path(context.target.space());
            let url = format!("sqlite:{}?permissions=0660", path.display());
            let storage = larder_sqlite::connect(&url).await.must("open");
            write(&storage, "a").await;
            assert_eq!(modes(&path), [0o660; 3]);
            storage.close().await.must("close");
            for wrong in ["660x", "0400", "0755", "1777", "00660", "+660", "", "-1", "0o600"] {
                let url = format!("sqlite:{}?permissions={wrong}", path.display());
                let open = larder_sqlite::connect(&url).await;
                open.fails(ErrorKind::InvalidConfig, wrong);
            }
            for wrong in [0o400, 0o700, 660] {
                let open = Config::new().file(&path).permissions(wrong).connect().await;
                open.fails(ErrorKind::InvalidConfig, &format!("the mode {wrong:o}"));
            }
        })
        .case("an_existing_file_keeps_its_permissions", |context| async move {
            let path = context.factory.path(context.target.space());
            fs::write(&path, "").must("make an empty file");
            fs::set_permissions(&path, Permissions::from_mode(0o640)).must("set its permissions");
            let builder = context.factory.builder(context.target.space()).permissions(0o600);
            let storage = builder.connect().await.must("open");
            write(&storage, "a").await;
            assert_eq!(modes(&path), [0o640; 3]);
            storage.close().await.must("close");
        })
        .case("a_database_on_a_read_only_mount_can_be_read", |context| async move {
            let directory = TempDir::new().must("make a directory");
            let path = directory.path().join("sessions.db");
            let storage = Config::new().file(&path).connect().await.must("open");
            write(&storage, "a").await;
            storage.close().await.must("close");
            let Some(place) = ReadOnly::make(directory.path()) else { return };
            let read_only = Config::new().file(&path).mode(Mode::ReadOnly);
            let looking = Config::new().file(&path).existing();
            for builder in [read_only, looking] {
                let storage = builder.connect().await.must("open on a read-only mount");
                assert_eq!(storage.read(key("a")).await.must("read").must("the entry").value, "a");
                let keys: Vec<_> = storage.keys("").collect().await;
                assert!(keys.len() == 1 && keys.iter().all(Result::is_ok));
                let write = storage.write(key("b"), Bytes::from_static(b"1")).await;
                let error = write.fails(ErrorKind::PermissionDenied, "write on a read-only mount");
                assert!(error.message().contains("read-only"), "{error}");
                storage.close().await.must("close");
            }
            let open = Config::new().file(&path).connect().await;
            open.fails(ErrorKind::PermissionDenied, "open on a read-only mount to write");
            let open = Config::new().file(directory.path().join("new.db")).connect().await;
            open.fails(ErrorKind::PermissionDenied, "make a file on a read-only mount");
            drop((place, context));
        })
        .case("a_pending_log_of_a_read_only_database_is_an_error", |context| async move {
            let directory = TempDir::new().must("make a directory");
            let [live, copy] = ["live.db", "copy.db"].map(|name| directory.path().join(name));
            let storage = Config::new().file(&live).connect().await.must("open");
            write(&storage, "in the log").await;
            for suffix in ["", "-wal"] {
                let [from, to] = [&live, &copy].map(|path| format!("{}{suffix}", path.display()));
                fs::copy(from, to).must("copy the files of a killed process");
            }
            storage.close().await.must("close");
            let Some(place) = ReadOnly::make(directory.path()) else { return };
            let open = Config::new().file(&copy).mode(Mode::ReadOnly).connect().await;
            // Without the log an acknowledged write would be missing.
            let error = open.fails(ErrorKind::InvalidConfig, "open without the log");
            assert!(error.message().contains("write-ahead log"), "{error}");
            drop((place, context));
        })
        .case("a_change_under_a_reader_without_locks_is_detected", |context| async move {
            for changed in ["", "-wal", "-journal"] {
                let directory = TempDir::new().must("make a directory");
                let mounted = directory.path().join("mounted");
                fs::create_dir(&mounted).must("make a directory");
                let path = mounted.join("sessions.db");
                let storage = Config::new().file(&path).connect().await.must("open");
                write(&storage, "a").await;
                storage.close().await.must("close");
                // An open file can be written even if its directory is read-only.
                let file = mounted.join(format!("sessions.db{changed}"));
                let writing = fs::OpenOptions::new().create(true).append(true).open(file);
                let mut writing = writing.must("open the file");
                let Some(place) = ReadOnly::make(&mounted) else { return };
                let reader = Config::new().file(&path).mode(Mode::ReadOnly).connect().await;
                let reader = reader.must("open to read");
                assert!(reader.contains(&key("a")).await.must("look"));
                std::io::Write::write_all(&mut writing, &[0; 4096]).must("change the file");
                let read = reader.read(key("a")).await;
                read.fails(ErrorKind::InvalidConfig, &format!("read after `{changed}` has changed"));
                drop(place);
            }
            drop(context);
        })
}
