//! The suite tests claims of persistence and sharing with a second process. False claims are caught.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use larder_core::{
    Bytes, Condition, DeleteOptions, Error, ErrorKind, Info, Key, ReadOptions, Record, Result, Storage,
    Store, Version, Versions, WriteOptions, Written, async_trait,
};
use larder_testkit::{Factory, Suite, factory};
use libtest_mimic::Arguments;
use tokio::runtime::Runtime;

const HONEST: Info =
    Info::minimal("directory").with_versions(Versions::Content).with_persistence().with_sharing();

/// Stores one file per entry, under a lock that all processes use. Reads see the writes of other processes. If the
/// storage is `private`, each process instead has its own map, regardless of `info`.
#[derive(Debug)]
struct Directory {
    path: PathBuf,
    info: Info,
    private: Option<Mutex<HashMap<Key, Bytes>>>,
}

impl Directory {
    fn read(&self, key: &Key) -> Result<Option<Bytes>> {
        if let Some(map) = &self.private {
            return Ok(map.lock().unwrap().get(key).cloned());
        }
        match fs::read(self.file(key)) {
            Ok(value) => Ok(Some(value.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::new(ErrorKind::Other, "reading failed").with_source(error)),
        }
    }

    fn file(&self, key: &Key) -> PathBuf {
        self.path.join(key.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect::<String>())
    }

    /// Changes the entry if the condition holds. Returns whether the entry existed.
    fn change(&self, key: &Key, value: Option<&Bytes>, condition: &Condition) -> Result<bool> {
        let lock = File::create(self.path.join("lock")).unwrap();
        lock.lock().unwrap();
        let current = self.read(key)?;
        if !condition.holds(current.clone().map(Version::from_content).as_ref()) {
            return Err(Error::conflict());
        }
        match (&self.private, value) {
            (Some(map), Some(value)) => drop(map.lock().unwrap().insert(key.clone(), value.clone())),
            (Some(map), None) => drop(map.lock().unwrap().remove(key)),
            (None, Some(value)) => {
                let new = self.path.join("new");
                fs::write(&new, value).unwrap();
                fs::rename(new, self.file(key)).unwrap();
            }
            (None, None) if current.is_some() => fs::remove_file(self.file(key)).unwrap(),
            (None, None) => {}
        }
        Ok(current.is_some())
    }
}

#[async_trait]
impl Storage for Directory {
    fn info(&self) -> Info {
        self.info
    }

    async fn read(&self, key: &Key, _: &ReadOptions) -> Result<Option<Record>> {
        let value = Self::read(self, key)?;
        Ok(value.map(|value| Record::at(value.clone(), Version::from_content(value))))
    }

    async fn write(&self, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        self.change(key, Some(&value), &options.condition)?;
        Ok(Written::at(Version::from_content(value)))
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<bool> {
        self.change(key, None, &options.condition)
    }
}

/// Creates a suite whose storage claims `info`, and keeps its entries in this process if it is `private`.
fn suite(name: &str, info: Info, private: bool) -> Suite<impl Factory> {
    let home = std::env::temp_dir().join(format!("larder-testkit-{}", std::process::id()));
    let stores: Arc<Mutex<HashMap<String, Store>>> = Arc::default();
    let open = move |path: String| {
        // Within one process, a space always has the same entries.
        let mut stores = stores.lock().unwrap();
        fs::create_dir_all(&path).unwrap();
        let storage = || Directory { path: path.clone().into(), info, private: private.then(Mutex::default) };
        let store = stores.entry(path.clone()).or_insert_with(|| Store::from(storage())).clone();
        let store = Store::from(Arc::clone(store.storage()));
        async move { Ok(store) }
    };
    let address = {
        let name = name.to_owned();
        move |space: &str| home.join(&name).join(space).display().to_string()
    };
    let (opens, finds) = (open.clone(), address.clone());
    Suite::new(name, factory(move |space| opens(finds(&space))))
        .across_processes(move |_, space| address(space), open)
}

fn main() {
    let runtime = Arc::new(Runtime::new().unwrap());
    let arguments = Arguments { quiet: true, ..Arguments::default() };
    // In a second process, `into_trials` does not return.
    let mut suites = Vec::new();
    for (name, info, private, failed, ignored) in [
        ("honest", HONEST, false, 0, 0),
        (
            "honest_without_versions",
            Info::minimal("directory").with_persistence().with_sharing(),
            false,
            0,
            0,
        ),
        ("claims_persistence", Info::minimal("map").with_persistence(), true, 1, 1),
        ("claims_sharing_without_versions", Info::minimal("map").with_sharing(), true, 1, 1),
        ("claims_sharing", Info::minimal("map").with_versions(Versions::Content).with_sharing(), true, 1, 1),
    ] {
        suites.push((name, suite(name, info, private).into_trials(&runtime), failed, ignored));
    }
    // This suite does not define how another process opens the store.
    let storage = || Directory { path: PathBuf::new(), info: HONEST, private: Some(Mutex::default()) };
    let untested = Suite::new("untested", factory(move |_| async move { Ok(Store::from(storage())) }));
    suites.push(("untested", untested.into_trials(&runtime), 0, 2));

    for (name, trials, failed, ignored) in suites {
        let cases = ["acknowledged_writes_survive_a_kill", "two_processes_lose_no_update"];
        let trials = trials.into_iter().filter(|trial| cases.iter().any(|case| trial.name().ends_with(case)));
        let found = libtest_mimic::run(&arguments, trials.collect());
        assert_eq!(
            (found.num_failed, found.num_ignored),
            (failed, ignored),
            "{name}: the numbers of failed and ignored cases"
        );
    }
    let _ = fs::remove_dir_all(std::env::temp_dir().join(format!("larder-testkit-{}", std::process::id())));
    println!("test result: ok. three false claims were caught");
}
