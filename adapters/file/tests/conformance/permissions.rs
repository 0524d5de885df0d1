//! Directories that the user may only read, or not even read.
//!
//! Root may do anything. As root, these cases run in a second process under another user.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use futures_util::StreamExt;
use larder_core::ErrorKind;
use larder_file::{Config, Layout, SnapshotConfig};
use larder_testkit::{Fails, Must, Suite};

use crate::spaces::{Directories, files, key};

/// Names the directory for the child process.
const CHILD: &str = "LARDER_TEST_FILE_READ_ONLY";

/// The user `nobody` on most systems; any user but root works.
const SOMEBODY: u32 = 65534;

pub(crate) fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

pub(crate) fn cases(suite: Suite<Directories>) -> Suite<Directories> {
    if !cfg!(unix) {
        return suite;
    }
    let suite = private(suite);
    suite.case("a_read_only_directory_can_be_read_but_not_written", |context| async move {
        let root = context.factory.path(context.target.space());
        for (name, layout) in [("larder", Layout::Larder), ("grammy", Layout::Grammy)] {
            let storage = Config::new().directory(root.join(name)).layout(layout).sweep(None);
            let storage = storage.permissions(0o644).connect().await.must("open");
            storage.write(key("a"), "1").await.must("write");
            storage.close().await.must("close");
        }
        fs::create_dir(root.join("empty")).must("make a directory");
        set_mode(root.parent().must("the directory above"), 0o755);
        let directories = directories(&root);
        directories.iter().for_each(|directory| set_mode(directory, 0o555));

        let mut child = Command::new(std::env::current_exe().must("find this binary"));
        child.env(CHILD, &root);
        if fs::write(root.join("probe"), b"").is_ok() {
            fs::remove_file(root.join("probe")).must("remove the probe");
            as_somebody(&mut child);
        }
        let outcome =
            tokio::task::spawn_blocking(move || child.output()).await.must("join").must("run the child");
        directories.iter().for_each(|directory| set_mode(directory, 0o755));
        assert!(outcome.status.success(), "{}", String::from_utf8_lossy(&outcome.stderr));
    })
}

fn private(suite: Suite<Directories>) -> Suite<Directories> {
    suite.case("files_are_private_by_default", |context| async move {
        let root = context.factory.path(context.target.space());
        fs::create_dir_all(&root).must("make a directory");
        let cases =
            [("", 0o600, 0o700), ("permissions=0640", 0o640, 0o750), ("permissions=666", 0o666, 0o777)];
        for (option, file, directory) in cases {
            let above = root.join(format!("{file:o}"));
            for (name, options) in [
                ("larder", ""),
                ("json", "&values=json"),
                ("grammy", "&layout=grammy"),
                ("snapshot/s.json", ""),
            ] {
                let url = format!("file:{}?{option}{options}", above.join(name).display());
                let storage = larder_file::connect(&url).await.must("open");
                storage.write(key("secret"), "1").await.must("write");
                storage.close().await.must("close");
            }
            let (files, directories) = (files(&above), directories(&above));
            assert!(files.len() > 8 && directories.len() > 8, "{files:?} {directories:?}");
            for path in files {
                assert_eq!(mode(&above.join(&path)), file, "{}", path.display());
            }
            for path in directories {
                assert_eq!(mode(&path), directory, "{}", path.display());
            }
        }
    })
}

/// Runs the cases in the child process.
pub(crate) fn child() {
    let root = PathBuf::from(std::env::var_os(CHILD).must("the directory's name"));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().must("start the runtime");
    runtime.block_on(async {
        for (name, layout) in [("larder", Layout::Larder), ("grammy", Layout::Grammy)] {
            let storage =
                Config::new().directory(root.join(name)).layout(layout).connect().await.must("open");
            assert_eq!(storage.read(key("a")).await.must("read").must("a value").value, "1");
            assert!(storage.read(key("b")).await.must("read").is_none());
            assert_eq!(storage.keys("").count().await, 1);
            assert_eq!(
                storage.entries("").filter(|entry| std::future::ready(entry.is_ok())).count().await,
                1
            );
            let error = storage.write(key("b"), "1").await.fails(ErrorKind::PermissionDenied, "write");
            assert!(!error.is_retryable());
            storage.delete(key("a")).await.fails(ErrorKind::PermissionDenied, "delete");
            storage.clear("").await.fails(ErrorKind::PermissionDenied, "clear");
            assert_eq!(storage.purge_expired().await.must("purge"), 0);
            storage.close().await.must("close");
        }
        let empty = root.join("empty");
        Config::new()
            .directory(&empty)
            .connect()
            .await
            .fails(ErrorKind::PermissionDenied, "set up a read-only directory");
        Config::new()
            .directory(empty.join("x"))
            .connect()
            .await
            .fails(ErrorKind::PermissionDenied, "make a directory");
        SnapshotConfig::new()
            .file(empty.join("x.json"))
            .connect()
            .await
            .fails(ErrorKind::PermissionDenied, "make a snapshot");
    });
}

fn directories(root: &Path) -> Vec<PathBuf> {
    let mut found = vec![root.to_owned()];
    let mut next = 0;
    while let Some(directory) = found.get(next).cloned() {
        next += 1;
        for entry in fs::read_dir(directory).must("read a directory") {
            let path = entry.must("read a directory").path();
            if path.is_dir() {
                found.push(path);
            }
        }
    }
    found
}

#[cfg(unix)]
fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).must("change the mode");
}

#[cfg(unix)]
fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).must("ask for the mode").permissions().mode() & 0o777
}

#[cfg(not(unix))]
fn mode(_: &Path) -> u32 {
    0
}

#[cfg(not(unix))]
fn set_mode(_: &Path, _: u32) {}

#[cfg(unix)]
fn as_somebody(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    command.uid(SOMEBODY).gid(SOMEBODY);
}

#[cfg(not(unix))]
fn as_somebody(_: &mut Command) {}
