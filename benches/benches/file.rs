//! Files: ours, and the same steps with the standard library on tokio's blocking threads.

use std::{fs, io::Write, path::Path, sync::Arc};

use criterion::{Criterion, criterion_group, criterion_main};
use larder_benches::{Group, KEYS, RUNTIME, TASKS, VALUE, fill, key};

/// Replaces a file atomically and durably: what every correct store has to do.
fn replace(directory: &Path, number: u64) {
    let path = directory.join(format!("{}.bin", number % KEYS));
    let temporary = directory.join(format!("{number}.tmp"));
    let mut file = fs::File::create(&temporary).unwrap();
    file.write_all(&VALUE).unwrap();
    file.sync_data().unwrap();
    fs::rename(&temporary, &path).unwrap();
    fs::File::open(directory).unwrap().sync_all().unwrap();
}

fn file(criterion: &mut Criterion) {
    let _runtime = RUNTIME.enter();
    let home = tempfile::tempdir().unwrap();
    let url = |name: &str| format!("file:{}", home.path().join(name).display());
    let open = |url: String| RUNTIME.block_on(larder_file::connect(&url)).unwrap();
    let (synced, quick) = (open(url("synced")), open(url("quick") + "?sync=false"));
    RUNTIME.block_on(async {
        fill(&quick).await;
        for number in 0..KEYS / 10 {
            synced.write(&key(number), VALUE.clone()).await.unwrap();
        }
    });
    let raw = Arc::new(home.path().join("raw"));
    fs::create_dir(&*raw).unwrap();
    (0..KEYS).for_each(|number| fs::write(raw.join(format!("{number}.bin")), &*VALUE).unwrap());

    for tasks in TASKS {
        let mut group = Group::new(criterion, "file", "read", tasks);
        let directory = Arc::clone(&raw);
        group.measure("raw: std::fs::read", move |number| {
            let path = directory.join(format!("{}.bin", number % KEYS));
            async move {
                let read = tokio::task::spawn_blocking(move || fs::read(path).unwrap());
                assert_eq!(read.await.unwrap().len(), VALUE.len());
            }
        });
        group.read("larder-file", &quick);
        drop(group);

        let mut group = Group::new(criterion, "file", "durable write", tasks);
        let directory = Arc::clone(&raw);
        group.measure("raw: write, fsync, rename, fsync", move |number| {
            let directory = Arc::clone(&directory);
            async move { tokio::task::spawn_blocking(move || replace(&directory, number)).await.unwrap() }
        });
        group.write("larder-file", &synced);
        drop(group);

        let mut group = Group::new(criterion, "file", "write without sync", tasks);
        group.write("larder-file", &quick);
    }
}

criterion_group!(benches, file);
criterion_main!(benches);
