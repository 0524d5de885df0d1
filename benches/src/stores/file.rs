//! Files: the same system calls on tokio's blocking threads, OpenDAL, and object_store. All of them replace a file
//! atomically, and sync the file and its directory.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use object_store::local::LocalFileSystem;
use opendal::{Operator, services::Fs};
use tokio::{sync::Mutex, task::spawn_blocking};

use super::Place;
use crate::{
    contenders::{Raw, Set},
    data::{Data, key},
    measure::Kind,
    peers::{Objects, Opendal, OpendalFiles},
};

pub async fn open(place: Place) -> Set {
    let mut set = Set::new(place.data);
    let home = crate::output::scratch();
    let path = |name: &str| home.path().join(name);

    let raw = Files::new(&path("raw"));
    fill_directory(&raw.directory, place.data);
    set.raw(Kind::Raw, "write, fsync, rename, fsync", &raw);

    let url = format!("file:{}", path("ours").display());
    // With sync, because the first synced write in a directory would also sync all earlier unsynced ones.
    let ours = larder_file::connect(&url).await.unwrap();
    crate::contenders::fill(&ours, place.data).await;
    set.larder("larder-file", &ours);

    if place.peers {
        let directory = path("opendal");
        fill_directory(&directory, place.data);
        let (root, parts) = (directory.to_str().unwrap(), directory.join("parts"));
        let fs = Fs::default().root(root).atomic_write_dir(parts.to_str().unwrap());
        let opendal = Opendal(Operator::new(fs).unwrap());
        set.raw(Kind::Peer, "OpenDAL fs, directory synced", &OpendalFiles(opendal, directory.into()));

        let directory = path("objects");
        fill_directory(&directory, place.data);
        let objects = LocalFileSystem::new_with_prefix(directory).unwrap().with_fsync(true);
        set.raw(Kind::Peer, "object_store local, fsync", &Objects(Arc::new(objects)));
    }
    set.keep(home);
    set
}

fn fill_directory(directory: &Path, data: Data) {
    fs::create_dir(directory).unwrap();
    let value = data.value();
    for number in 0..data.keys {
        fs::write(directory.join(key(number).as_str()), &value).unwrap();
    }
}

#[derive(Clone)]
struct Files {
    directory: Arc<Path>,
    /// Files have no compare-and-swap, so updates of a key take turns.
    turns: Arc<Vec<Mutex<()>>>,
}

impl Files {
    fn new(directory: &Path) -> Self {
        Self { directory: directory.into(), turns: Arc::new((0..1024).map(|_| Mutex::default()).collect()) }
    }

    fn path(&self, number: u64) -> PathBuf {
        self.directory.join(key(number).as_str())
    }
}

/// Replaces a file atomically and durably.
fn replace(path: &Path, value: &[u8]) {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let temporary = path.with_file_name(format!("{}.tmp", LAST.fetch_add(1, Ordering::Relaxed)));
    let mut file = fs::File::create(&temporary).unwrap();
    file.write_all(value).unwrap();
    file.sync_data().unwrap();
    fs::rename(&temporary, path).unwrap();
    fs::File::open(path.parent().unwrap()).unwrap().sync_all().unwrap();
}

impl Raw for Files {
    type Seen = Bytes;

    async fn read(&self, number: u64) -> (Bytes, Bytes) {
        let path = self.path(number);
        let value = Bytes::from(spawn_blocking(move || fs::read(path).unwrap()).await.unwrap());
        (value.clone(), value)
    }

    async fn write(&self, number: u64, value: &Bytes) {
        let (path, value) = (self.path(number), value.clone());
        spawn_blocking(move || replace(&path, &value)).await.unwrap();
    }

    async fn swap(&self, number: u64, value: Bytes, seen: Bytes) -> bool {
        let _turn = self.turns[number as usize % self.turns.len()].lock().await;
        let path = self.path(number);
        let swap = move || {
            let same = fs::read(&path).unwrap() == seen;
            if same {
                replace(&path, &value);
            }
            same
        };
        spawn_blocking(swap).await.unwrap()
    }
}
