//! Larder's own layout.

use std::{
    fs::{self, File, OpenOptions},
    num::NonZeroUsize,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use larder_core::{
    Applied, Change, Condition, ErrorKind, Expiry, Key, ListOptions, Outcome, ReadOptions, Result, Version,
};
use larder_file::{Config, Layout, ValueFormat};
use larder_testkit::{Fails, Must, Suite, race, until};

use crate::spaces::{Directories, entries, files, hold_locks, key};

const LIMIT: Duration = Duration::from_secs(20);

pub(crate) fn cases(suite: Suite<Directories>) -> Suite<Directories> {
    suite
        .case("only_abandoned_temporary_files_are_removed", |context| async move {
            let storage = context.factory.storage(context.target.space()).await;
            storage.write(key("a"), "1").await.must("write");
            let hidden = context.factory.path(context.target.space()).join(".larder");
            let lock = fs::read_dir(hidden.join("locks"))
                .must("read the locks")
                .map(|entry| entry.must("read the locks").file_name().into_string().ok().must("a name"))
                .find(|name| name != "setup")
                .must("the lock of that write");
            let temp = |unique: &str| hidden.join("tmp").join(format!("{lock}-{unique}"));

            // A process that is writing holds the lock.
            let held =
                OpenOptions::new().write(true).open(hidden.join("locks").join(&lock)).must("open the lock");
            held.lock().must("take the lock");
            fs::write(temp("1"), b"being written").must("write a file");
            let second = context.factory.storage(context.target.space()).await;
            assert!(temp("1").exists(), "a running process keeps its temporary file");
            drop(held);

            // It was killed: its lock is free.
            let third = context.factory.storage(context.target.space()).await;
            assert!(!temp("1").exists(), "a killed process's temporary file goes");
            for storage in [storage, second, third] {
                assert_eq!(storage.read(key("a")).await.must("read").must("a value").value, "1");
                storage.close().await.must("close");
            }
            assert!(files(&hidden.join("tmp")).is_empty());
        })
        .case("a_write_waits_for_the_lock_of_another_process", |context| async move {
            let storage = context.factory.storage(context.target.space()).await;
            storage.write(key("a"), "1").await.must("write");
            let locks = context.factory.path(context.target.space()).join(".larder/locks");
            let held = hold_locks(&locks);
            let writer = storage.clone();
            let write = tokio::spawn(async move { writer.write(key("a"), "2").await });
            // Readers take no lock, and see the old value until then.
            for _ in 0..20 {
                assert_eq!(storage.read(key("a")).await.must("read").must("a value").value, "1");
            }
            assert!(!write.is_finished());
            drop(held);
            write.await.must("join").must("write");
            assert_eq!(storage.read(key("a")).await.must("read").must("a value").value, "2");
        })
        .case("a_batch_times_out_if_another_process_keeps_the_locks", |context| async move {
            let timeout = Duration::from_secs(1);
            let config = context.factory.config(context.target.space()).lock_timeout(timeout);
            let storage = config.connect().await.must("open");
            let put = |at| Change::put(key(&format!("k{at}")), "1", Expiry::Never);
            let puts = || (0..600).map(put).collect();
            assert!(storage.apply(puts()).await.iter().all(Result::is_ok));
            let held = hold_locks(&context.factory.path(context.target.space()).join(".larder/locks"));
            let begun = Instant::now();
            for result in storage.apply(puts()).await {
                let error = result.fails(ErrorKind::Unavailable, "apply");
                assert_eq!(error.outcome(), Outcome::NotApplied);
            }
            // A batch waits for eight of the 64 locks at a time.
            assert!(begun.elapsed() < 5 * timeout, "all locks were waited for: {:?}", begun.elapsed());
            drop(held);
            assert!(storage.apply(puts()).await.iter().all(Result::is_ok));
        })
        .case("one_of_two_racing_handles_wins", |context| async move {
            for round in 0..20 {
                let storages = [
                    context.factory.storage(context.target.space()).await,
                    context.factory.storage(context.target.space()).await,
                ];
                let won = race(8, |task| {
                    let storage = storages[task % 2].clone();
                    async move {
                        let key = key(&format!("round {round}"));
                        storage.write(&key, task.to_string()).if_absent().await
                    }
                })
                .await;
                assert_eq!(won.iter().filter(|outcome| outcome.is_ok()).count(), 1);
                for lost in won.into_iter().filter(Result::is_err) {
                    lost.fails(ErrorKind::Conflict, "write if absent");
                }
            }
        })
        .case("a_touch_never_shows_a_torn_entry", |context| async move {
            let storages = [
                context.factory.storage(context.target.space()).await,
                context.factory.config(context.target.space()).sync(false).connect().await.must("open"),
            ];
            storages[0].write(key("a"), "1").expiry(Expiry::after_secs(600)).await.must("write");
            race(4, |task| {
                let storage = storages[task % 2].clone();
                async move {
                    for turn in 0..200 {
                        if task < 2 {
                            storage.touch(key("a"), Expiry::after_secs(600 + turn)).await.must("touch");
                        } else {
                            assert!(storage.read(key("a")).await.must("read").is_some());
                            assert!(storage.ttl(&key("a")).await.must("ttl").is_some());
                        }
                    }
                }
            })
            .await;
        })
        .case("long_keys_are_read_from_the_headers", |context| async move {
            let storage = context.factory.storage(context.target.space()).await;
            let long = [format!("a{}", "x".repeat(511)), format!("b{}", "é".repeat(255)), "A".repeat(200)];
            for text in &long {
                storage.write(key(text), "1").await.must("write");
            }
            let mut keys: Vec<_> = storage.keys("").map(|key| key.must("list").to_string()).collect().await;
            keys.sort();
            let mut expected = long.to_vec();
            expected.sort();
            assert_eq!(keys, expected);
            assert_eq!(storage.keys("bé").count().await, 1);
            assert_eq!(storage.entries("ax").count().await, 1);
            assert_eq!(storage.clear("A").await.must("clear"), 1);
            assert_eq!(storage.keys("").count().await, 2);
            assert_eq!(storage.clear("").await.must("clear"), 2);
            assert!(entries(&context.factory.path(context.target.space())).is_empty());
        })
        .case("expired_files_are_removed_by_the_sweeper", |context| async move {
            let root = context.factory.path(context.target.space());
            let open = || {
                let config = Config::new().directory(&root).sweep(Some(Duration::from_millis(20)));
                async { config.connect().await.must("open") }
            };
            let storage = open().await;
            storage.write(key("short"), "1").expiry(Expiry::after_millis(50)).await.must("write");
            storage.write(key("long"), "2").expiry(Expiry::after_secs(600)).await.must("write");
            until("the expired file is gone", LIMIT, || async { entries(&root).len() == 1 }).await;
            // The sweeper runs until the last clone is dropped.
            let clone = storage.clone();
            drop(storage);
            clone.write(key("short"), "1").expiry(Expiry::after_millis(50)).await.must("write");
            until("the expired file is gone", LIMIT, || async { entries(&root).len() == 1 }).await;
            assert!(clone.read(key("long")).await.must("read").is_some());
        })
        .case("a_missing_directory_is_unavailable_until_it_is_back", |context| async move {
            let root = context.factory.path(context.target.space());
            let aside = root.with_extension("aside");
            let storage = context.factory.storage(context.target.space()).await;
            storage.write(key("a"), "1").await.must("write");
            for empty_mount_point in [false, true] {
                fs::rename(&root, &aside).must("move the directory away");
                if empty_mount_point {
                    fs::create_dir(&root).must("make an empty directory");
                }
                storage.read(key("a")).await.fails(ErrorKind::Unavailable, "read");
                storage.read(key("b")).await.fails(ErrorKind::Unavailable, "read");
                storage.ping().await.fails(ErrorKind::Unavailable, "ping");
                storage.delete(key("a")).await.fails(ErrorKind::Unavailable, "delete");
                storage.write(key("b"), "2").await.fails(ErrorKind::Unavailable, "write");
                for options in [ReadOptions::new(), ReadOptions::new().with_touch(Expiry::after_secs(60))] {
                    for read in storage.read_many(&[key("a"), key("b")], &options).await {
                        read.fails(ErrorKind::Unavailable, "read_many");
                    }
                }
                let listed = storage.keys("").collect::<Vec<_>>().await;
                assert_eq!(listed.len(), 1);
                for outcome in listed {
                    outcome.fails(ErrorKind::Unavailable, "keys");
                }
                if empty_mount_point {
                    assert!(files(&root).is_empty(), "nothing was written beside the mount");
                    fs::remove_dir_all(&root).must("remove the empty directory");
                }
                fs::rename(&aside, &root).must("move the directory back");
            }
            assert_eq!(storage.read(key("a")).await.must("read").must("a value").value, "1");
            storage.write(key("b"), "2").await.must("write");
        })
        .case("a_directory_of_another_program_is_rejected", |context| async move {
            let root = context.factory.path(context.target.space());
            let open = |layout: Layout, values: Option<ValueFormat>| {
                let mut config = Config::new().directory(&root).layout(layout);
                if let Some(values) = values {
                    config = config.values(values);
                }
                async move { config.connect().await }
            };
            fs::create_dir_all(root.join("42")).must("make a directory");
            fs::write(root.join("42/7742.json"), b"{}").must("write a file");
            let error =
                open(Layout::Larder, None).await.fails(ErrorKind::InvalidConfig, "open grammY's directory");
            assert!(error.message().contains("layout=grammy"), "{error}");
            assert!(!root.join(".larder").exists(), "it was not touched");

            fs::remove_dir_all(root.join("42")).must("remove the files");
            fs::create_dir(root.join("lost+found")).must("make a directory");
            fs::write(root.join(".gitkeep"), b"").must("write a file");
            open(Layout::Larder, Some(ValueFormat::Json)).await.must("open").close().await.must("close");
            let error =
                open(Layout::Larder, None).await.fails(ErrorKind::InvalidConfig, "open it as another format");
            assert!(error.message().contains("values=json"), "{error}");
            fs::write(root.join(".larder/format.json"), b"{").must("damage the marker");
            open(Layout::Larder, None).await.fails(ErrorKind::Corrupt, "open it with a damaged marker");

            let file = root.join("file");
            fs::write(&file, b"").must("write a file");
            for path in [file.clone(), file.join("below")] {
                Config::new().directory(path).connect().await.fails(ErrorKind::InvalidConfig, "open a file");
            }
            let url = format!("file:{}", root.join("x").display());
            let storage = larder_file::connect(&url).await.must("open");
            assert!(storage.info().persistent && root.join("x").is_dir());
        })
        .case("simultaneous_starts_share_a_new_directory", |context| async move {
            let root = context.factory.path(context.target.space()).join("above/below");
            let opened = race(10, |_| {
                let config = Config::new().directory(&root);
                async move { config.connect().await.must("open") }
            })
            .await;
            for (index, storage) in opened.iter().enumerate() {
                storage.write(key(&index.to_string()), "1").await.must("write");
            }
            assert_eq!(opened[0].keys("").count().await, 10);
        })
        .case("a_batch_over_many_directories_reports_each_failure", |context| async move {
            let storage = context.factory.storage(context.target.space()).await;
            let keys: Vec<Key> = (0..300).map(|at| key(&format!("k{at}"))).collect();
            let puts = || keys.iter().map(|key| Change::put(key.clone(), "1", Expiry::Never)).collect();
            assert!(storage.apply(puts()).await.iter().all(Result::is_ok));
            assert_eq!(entries(&context.factory.path(context.target.space())).len(), 300);
            // A directory in place of one key's file: no rename can replace it.
            let root = context.factory.path(context.target.space());
            let file =
                entries(&root).into_iter().find(|file| file.file_stem().is_some_and(|stem| stem == "k7"));
            let file = root.join(file.must("the file of k7"));
            fs::remove_file(&file).must("remove it");
            fs::create_dir_all(file.join("in the way")).must("make a directory");
            let results = storage.apply(puts()).await;
            assert_eq!((0..300).filter(|at| results[*at].is_err()).collect::<Vec<_>>(), [7]);
            fs::remove_dir_all(&file).must("remove the directory");
            let results = storage.apply(keys.into_iter().map(Change::delete).collect()).await;
            let deleted = |result: &&Result<Applied>| matches!(result, Ok(Applied::Deleted(true)));
            assert_eq!(results.iter().filter(deleted).count(), 299);
            assert!(results.iter().all(Result::is_ok));
        })
        .case("batches_check_conditions", |context| async move {
            let storage = context.factory.storage(context.target.space()).await;
            let version = |text: &'static str| {
                let storage = storage.clone();
                async move { storage.read(key(text)).await.must("read").must("a value").version.must("one") }
            };
            for text in ["at", "stale", "touched"] {
                storage.write(key(text), "1").await.must("write");
            }
            let at = Condition::At(version("at").await);
            let touched = version("touched").await;
            let put = |text| Change::put(key(text), "2", Expiry::Never);
            let stale = Condition::At(Version::unique());
            let results = storage
                .apply(vec![
                    put("at").on(at),
                    put("stale").on(stale.clone()),
                    Change::delete(key("stale")).on(stale),
                    Change::touch(key("touched"), Expiry::after_secs(60)).on(Condition::At(touched.clone())),
                    Change::touch(key("absent"), Expiry::Never),
                    put("absent").on(Condition::Present),
                    put("absent").on(Condition::Absent),
                ])
                .await;
            let kinds: Vec<_> =
                results.into_iter().map(|result| result.map_err(|error| error.kind())).collect();
            let conflict = Err(ErrorKind::Conflict);
            assert!(matches!(kinds[0], Ok(Applied::Put(_))));
            assert_eq!(kinds[1..3], [conflict.clone(), conflict.clone()]);
            assert_eq!(kinds[3..6], [Ok(Applied::Touched(true)), Ok(Applied::Touched(false)), conflict]);
            assert!(matches!(kinds[6], Ok(Applied::Put(_))));
            assert_eq!(version("touched").await, touched);
        })
        .case("a_listing_continues_after_a_page_of_expired_entries", |context| async move {
            let storage = context.factory.storage(context.target.space()).await;
            // A page has one entry, and some shards have several.
            let short = (0..600).map(|at| Change::put(key(&format!("s{at}")), "1", Expiry::after_millis(1)));
            let long = (0..600).map(|at| Change::put(key(&format!("l{at}")), "1", Expiry::Never));
            let results = storage.apply(short.chain(long).collect()).await;
            assert!(results.iter().all(Result::is_ok));
            until("they have expired", LIMIT, || async { storage.keys("s").count().await == 0 }).await;
            // The limit is a hint: the storage itself continues beyond it.
            let options = ListOptions::new().limit(NonZeroUsize::MIN);
            for options in [options.clone(), options.keys_only()] {
                let entries = Arc::clone(storage.storage()).list(options);
                let keys: Vec<_> = entries.map(|entry| entry.must("list").key).collect().await;
                assert_eq!(keys.len(), 600);
            }
        })
        .case("nothing_is_written_after_a_close", |context| async move {
            let root = context.factory.path(context.target.space());
            let storage = context.factory.storage(context.target.space()).await;
            let put = |at| Change::put(key(&format!("k{at}")), "1", Expiry::Never);
            assert!(storage.apply((0..600).map(put).collect()).await.iter().all(Result::is_ok));
            let clearing = storage.clone();
            let clear = tokio::spawn(async move { clearing.clear("").await });
            until("some entries are gone", LIMIT, || async { entries(&root).len() < 600 }).await;
            storage.close().await.must("close");
            let left = entries(&root);
            let cleared = clear.await.must("join");
            assert_eq!(entries(&root), left);
            if let Err(error) = cleared {
                assert_eq!(error.kind(), ErrorKind::Closed);
            }
        })
        .case("closing_releases_every_lock", |context| async move {
            let storage = context.factory.storage(context.target.space()).await;
            storage.write(key("a"), "1").await.must("write");
            let clone = storage.clone();
            storage.close().await.must("close");
            clone.close().await.must("close again");
            clone.read(key("a")).await.fails(ErrorKind::Closed, "read");
            clone.write(key("a"), "1").await.fails(ErrorKind::Closed, "write");
            for key in clone.keys("").collect::<Vec<_>>().await {
                key.fails(ErrorKind::Closed, "keys");
            }
            let locks = context.factory.path(context.target.space()).join(".larder/locks");
            for lock in files(&locks) {
                File::open(locks.join(lock)).must("open a lock").try_lock().must("it is free");
            }
        })
}
