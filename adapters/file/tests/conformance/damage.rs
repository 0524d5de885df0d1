//! Damaged and foreign files affect only their key.

use std::{fs, path::PathBuf};

use futures_util::StreamExt;
use larder_core::{ErrorKind, Expiry, ReadOptions, Store, Version};
use larder_testkit::{Fails, Must, Suite};

use crate::spaces::{Directories, entries, key};

pub(crate) fn cases(suite: Suite<Directories>) -> Suite<Directories> {
    suite
        .case("a_truncated_file_affects_only_its_key", |context| async move {
            let storage = context.factory.storage(context.target.space()).await;
            let path = torn(&context.factory, context.target.space(), &storage).await;
            let whole = fs::read(&path).must("read the file");
            for length in 0..whole.len() {
                fs::write(&path, &whole[..length]).must("truncate the file");
                let what = format!("{length} of {} bytes", whole.len());
                storage.read(key("torn")).await.fails(ErrorKind::Corrupt, &what);
                storage.contains(&key("torn")).await.fails(ErrorKind::Corrupt, &what);
                storage.ttl(&key("torn")).await.fails(ErrorKind::Corrupt, &what);
                assert_eq!(storage.read(key("whole")).await.must("read").must("a value").value, "[1]");
            }
            fs::write(&path, &whole).must("mend the file");
            assert_eq!(storage.read(key("torn")).await.must("read").must("a value").value, "[\"torn\"]");
        })
        .case("a_damaged_entry_is_listed_and_can_be_replaced_or_deleted", |context| async move {
            let storage = context.factory.storage(context.target.space()).await;
            let path = torn(&context.factory, context.target.space(), &storage).await;
            fs::write(&path, b"not a file of Larder's").must("damage the file");
            let torn = key("torn");

            // It does not count as absent ...
            storage.read(&torn).await.fails(ErrorKind::Corrupt, "read");
            let mut read = storage.read_many(&[key("whole"), torn.clone()], &ReadOptions::new()).await;
            read.remove(1).fails(ErrorKind::Corrupt, "read_many");
            assert_eq!(read.remove(0).must("read the other").must("a value").value, "[1]");
            storage.write(&torn, "1").if_absent().await.fails(ErrorKind::Corrupt, "write if absent");
            storage
                .delete(&torn)
                .if_at(Version::unique())
                .await
                .fails(ErrorKind::Corrupt, "delete at a version");
            storage.touch(&torn, Expiry::Never).await.fails(ErrorKind::Corrupt, "touch");
            storage.read(&torn).touching(Expiry::Never).await.fails(ErrorKind::Corrupt, "read and touch");
            assert_eq!(storage.purge_expired().await.must("purge"), 0);
            assert_eq!(
                fs::read(&path).must("read the file"),
                b"not a file of Larder's",
                "nothing overwrote it"
            );

            // ... is listed, and does not end a listing of values ...
            let mut keys: Vec<_> =
                storage.keys("").map(|key| key.must("list").as_str().to_owned()).collect().await;
            keys.sort();
            assert_eq!(keys, ["torn", "whole"]);
            let listed: Vec<_> = storage.entries("").collect().await;
            assert_eq!(listed.len(), 2);
            assert_eq!(listed.iter().filter(|entry| entry.is_ok()).count(), 1);

            // ... and can be replaced or deleted.
            storage.write(&torn, "2").await.must("write");
            assert_eq!(storage.read(&torn).await.must("read").must("a value").value, "2");
            fs::write(&path, b"").must("damage the file");
            assert!(storage.delete(&torn).await.must("delete"));
            assert!(storage.read(&torn).await.must("read").is_none());
            assert!(storage.write(&torn, "3").if_absent().await.is_ok());
        })
        .case("listing_reports_each_name_that_is_not_a_key", |context| async move {
            let storage = context.factory.storage(context.target.space()).await;
            storage.write(key("a"), "1").await.must("write");
            let root = context.factory.path(context.target.space());
            let file = root.join(entries(&root).pop().must("the entry's file"));
            let extension = file.extension().must("an extension").to_string_lossy().into_owned();
            for stem in ["%0a", "%ff", "%zz"] {
                fs::copy(&file, file.with_file_name(format!("{stem}.{extension}"))).must("copy a file");
            }
            for name in [format!(".hidden.{extension}"), format!("a.{extension}~"), "%0a.tmp".to_owned()] {
                fs::copy(&file, file.with_file_name(name)).must("copy a file");
            }
            lists_with_errors(&storage, 3).await;
            assert_eq!(storage.clear("").await.must("clear"), 1);
            lists_nothing_but_errors(&storage).await;
        })
        .case("a_file_of_another_key_is_corrupt", |context| async move {
            let storage = context.factory.storage(context.target.space()).await;
            let path = torn(&context.factory, context.target.space(), &storage).await;
            let root = context.factory.path(context.target.space());
            let other = entries(&root).into_iter().map(|file| root.join(file)).find(|file| *file != path);
            fs::copy(other.must("another file"), &path).must("copy the file");
            storage.read(key("torn")).await.fails(ErrorKind::Corrupt, "read");
            storage.ttl(&key("torn")).await.fails(ErrorKind::Corrupt, "ttl");
        })
        .case("other_files_are_ignored", |context| async move {
            let storage = context.factory.storage(context.target.space()).await;
            let path = torn(&context.factory, context.target.space(), &storage).await;
            let directory = path.parent().must("its directory").to_owned();
            let root = context.factory.path(context.target.space());
            let foreign = [
                directory.join(".DS_Store"),
                directory.join("README"),
                directory.join(path.with_extension("bak").file_name().must("a name")),
                // The file of a key, in the wrong place.
                directory.join("elsewhere").with_extension(path.extension().must("an extension")),
                root.join("notes.txt"),
            ];
            for file in &foreign {
                fs::write(file, b"mine").must("write a file");
            }
            assert_eq!(storage.keys("").count().await, 2);
            assert_eq!(storage.clear("").await.must("clear"), 2);
            assert_eq!(entries(&root).len(), foreign.len());
        })
}

/// Files in grammY's directory whose keys Larder cannot hold.
pub(crate) fn grammy_cases(suite: Suite<Directories>) -> Suite<Directories> {
    suite.case("listing_reports_each_key_that_it_cannot_hold", |context| async move {
        let storage = context.factory.storage(context.target.space()).await;
        storage.write(key("424242"), "1").await.must("write");
        let root = context.factory.path(context.target.space());
        let put = |name: &std::ffi::OsStr, directory: &std::ffi::OsStr| {
            fs::create_dir_all(root.join(directory)).must("make a directory");
            // Some file systems reject some names.
            fs::write(root.join(directory).join(name), b"1").is_ok()
        };
        let mut refused = 0;
        for (name, directory) in [("a\\b42.json", "42"), ("line\nfeed.json", "ed"), ("b\\c.json", "\\c")] {
            if cfg!(unix) {
                refused += usize::from(put(name.as_ref(), directory.as_ref()));
            }
        }
        #[cfg(unix)]
        {
            use std::os::unix::ffi::OsStrExt;
            let name = |bytes| std::ffi::OsStr::from_bytes(bytes);
            refused += usize::from(put(name(b"\xff42.json"), name(b"42")));
            refused += usize::from(put(name(b"x\xff.json"), name(b"x\xff")));
        }
        // These are not entries.
        for name in [".json", "README", "x.json.tmp", "7.json", ".42.json.swp"] {
            put(name.as_ref(), "42".as_ref());
        }
        lists_with_errors(&storage, refused).await;
        if cfg!(unix) {
            assert!(refused >= 3);
            assert_eq!(
                storage.keys("424").count().await,
                1 + usize::from(refused == 5),
                "only those of the prefix"
            );
        }
        assert_eq!(storage.clear("").await.must("clear"), 1);
        assert_eq!(storage.keys("").count().await, refused, "they were left alone");
    })
}

async fn lists_nothing_but_errors(storage: &Store) {
    assert!(storage.keys("").all(|key| std::future::ready(key.is_err())).await);
}

/// One entry is listed, and `refused` errors.
async fn lists_with_errors(storage: &Store, refused: usize) {
    let keys: Vec<_> = storage.keys("").map(|key| key.map(drop)).collect().await;
    let entries: Vec<_> = storage.entries("").map(|entry| entry.map(drop)).collect().await;
    for listed in [keys, entries] {
        assert_eq!(listed.len(), 1 + refused);
        assert_eq!(listed.iter().filter(|outcome| outcome.is_ok()).count(), 1);
        for outcome in listed.into_iter().filter(Result::is_err) {
            let error = outcome.fails(ErrorKind::InvalidKey, "a file whose name is not a key");
            assert!(error.message().contains("name of a file"), "{error}");
        }
    }
}

/// Writes two entries, `whole` and `torn`; returns the file of the latter.
async fn torn(directories: &Directories, space: &str, storage: &Store) -> PathBuf {
    storage.write(key("whole"), "[1]").await.must("write");
    storage.write(key("torn"), "[\"torn\"]").expiry(Expiry::after_secs(600)).await.must("write");
    let root = directories.path(space);
    let named = |file: &PathBuf| file.file_stem().is_some_and(|stem| stem == "torn");
    root.join(entries(&root).into_iter().find(named).must("the entry's file"))
}
