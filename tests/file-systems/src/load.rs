//! The process that uses a store until it is killed, and reports its requests and the answers.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    error::Error,
    io::{self, Write},
    mem,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use fastrand::Rng;
use futures_util::future::try_join_all;
use larder::{Change, Condition, ErrorKind, Key, Store};

use crate::{
    history::{Content, Event, State},
    value::{content, expiry, value},
};

pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// The concurrent tasks of a load. Each has its own keys.
const TASKS: u64 = 8;
/// The keys that a task writes again and again.
const KEYS: u64 = 12;
/// The most keys that a task writes once.
const MAX_FRESH: u64 = 100;

/// The lengths of values: some within a block of the disk, and some across several.
const SIZES: [usize; 6] = [0, 100, 1000, 4096, 10_000, 70_000];

/// The options of a load.
#[derive(Clone, Debug, clap::Args)]
pub struct Load {
    /// The URL of the store.
    url: String,
    /// Decides the operations. Each load of a store has another seed.
    seed: u64,
    /// Flush the store after each operation, and report only flushed changes as acknowledged.
    #[arg(long)]
    flush: bool,
}

impl Load {
    /// Runs until the process is killed.
    ///
    /// # Errors
    ///
    /// If the store fails, or the events cannot be written.
    pub async fn run(self) -> Result<Infallible, Failure> {
        let store = larder::open(&self.url).await?;
        // Above the serials of the earlier loads.
        let serial = Arc::new(AtomicU64::new(self.seed << 32));
        let tasks = (0..TASKS).map(async |number| {
            let rng = Rng::with_seed(self.seed * TASKS + number);
            let writer = Writer::new(&store, number, self.flush, rng, &serial).await?;
            tokio::spawn(writer.run()).await?
        });
        let ends = try_join_all(tasks).await?;
        ends.into_iter().next().ok_or_else(|| "a load has no tasks".into())
    }
}

/// A task. It is the only writer of its keys, and waits for each answer.
struct Writer {
    store: Store,
    number: u64,
    flush: bool,
    rng: Rng,
    /// The number of the next write of any task.
    serial: Arc<AtomicU64>,
    /// The entries under the keys of the task.
    entries: BTreeMap<Key, Content>,
    fresh: u64,
    /// The keys of the changes that are made, but not yet reported as acknowledged.
    made: Vec<Key>,
}

impl Writer {
    /// Reads the entries that an earlier load has left.
    async fn new(
        store: &Store,
        number: u64,
        flush: bool,
        rng: Rng,
        serial: &Arc<AtomicU64>,
    ) -> Result<Self, Failure> {
        let (store, serial, entries) = (store.clone(), Arc::clone(serial), BTreeMap::new());
        let mut writer = Self { store, number, flush, rng, serial, entries, fresh: 0, made: Vec::new() };
        for index in 0..KEYS {
            let key = writer.key(index)?;
            if let Some(content) = read(&writer.store, &key).await? {
                writer.entries.insert(key, content);
            }
        }
        Ok(writer)
    }

    async fn run(mut self) -> Result<Infallible, Failure> {
        loop {
            match self.rng.u8(0..100) {
                0..20 => self.write(Condition::Any).await?,
                20..35 => self.write_on_condition().await?,
                35..40 => self.conflict().await?,
                40..55 => self.delete().await?,
                55..70 => self.touch().await?,
                70..85 => self.apply().await?,
                85..95 => self.create().await?,
                _ => self.read().await?,
            }
            if self.flush {
                self.store.flush().await?;
            }
            for key in mem::take(&mut self.made) {
                report(&Event::Acknowledged(key.to_string()))?;
            }
        }
    }

    fn key(&self, index: u64) -> Result<Key, Failure> {
        Ok(Key::new(format!("t{}-{index}", self.number))?)
    }

    fn any_key(&mut self) -> Result<Key, Failure> {
        let index = self.rng.u64(0..KEYS);
        self.key(index)
    }

    fn any_content(&mut self) -> Content {
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let size = SIZES[self.rng.usize(0..SIZES.len())];
        Content { serial, size, days: self.any_days() }
    }

    fn any_days(&mut self) -> u64 {
        if self.store.info().expiry { self.rng.u64(0..4) } else { 0 }
    }

    /// Records that a change was made.
    fn made(&mut self, key: Key, state: State) {
        match state {
            State::Absent => self.entries.remove(&key),
            State::Present(content) => self.entries.insert(key.clone(), content),
        };
        self.made.push(key);
    }

    async fn write(&mut self, condition: Condition) -> Result<(), Failure> {
        let key = self.any_key()?;
        self.write_to(key, condition).await
    }

    async fn write_to(&mut self, key: Key, condition: Condition) -> Result<(), Failure> {
        let content = self.any_content();
        let state = State::Present(content);
        report(&Event::Requested(key.to_string(), state))?;
        let text = value(key.as_str(), content.serial, content.size);
        self.store.write(&key, text).expiry(expiry(content.days)).condition(condition).await?;
        self.made(key, state);
        Ok(())
    }

    /// Writes on a condition that holds.
    async fn write_on_condition(&mut self) -> Result<(), Failure> {
        let key = self.any_key()?;
        let condition = if !self.entries.contains_key(&key) {
            Condition::Absent
        } else if self.rng.bool() {
            Condition::Present
        } else {
            Condition::unchanged(self.store.read(&key).await?.and_then(|record| record.version))
        };
        self.write_to(key, condition).await
    }

    /// Writes on a condition that does not hold, which changes nothing and so is not reported.
    async fn conflict(&mut self) -> Result<(), Failure> {
        let key = self.any_key()?;
        let present = self.entries.contains_key(&key);
        let condition = if present { Condition::Absent } else { Condition::Present };
        match self.store.write(&key, "0").condition(condition).await {
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(()),
            Err(error) => Err(error.into()),
            Ok(_) => Err(format!("a write to {key} ignored its condition").into()),
        }
    }

    async fn delete(&mut self) -> Result<(), Failure> {
        let key = self.any_key()?;
        report(&Event::Requested(key.to_string(), State::Absent))?;
        let existed = self.store.delete(&key).await?;
        expect(existed == self.entries.contains_key(&key), &key)?;
        self.made(key, State::Absent);
        Ok(())
    }

    async fn touch(&mut self) -> Result<(), Failure> {
        let key = self.any_key()?;
        let (Some(content), true) = (self.entries.get(&key).copied(), self.store.info().expiry) else {
            return Ok(());
        };
        let touched = Content { days: self.any_days(), ..content };
        report(&Event::Requested(key.to_string(), State::Present(touched)))?;
        let expiry = expiry(touched.days);
        let existed = if self.rng.bool() {
            self.store.touch(&key, expiry).await?
        } else {
            self.store.read(&key).touching(expiry).await?.is_some()
        };
        expect(existed, &key)?;
        self.made(key, State::Present(touched));
        Ok(())
    }

    /// Applies changes of several keys.
    async fn apply(&mut self) -> Result<(), Failure> {
        let mut keys = BTreeSet::new();
        for _ in 0..self.rng.usize(2..=6) {
            keys.insert(self.any_key()?);
        }
        let mut changes = Vec::new();
        let mut states = Vec::new();
        for key in keys {
            let old = self.entries.get(&key).copied();
            let (change, state) = match (self.rng.u8(0..4), old) {
                (0, _) => (Change::delete(key.clone()), State::Absent),
                (1, Some(old)) if self.store.info().expiry => {
                    let touched = Content { days: self.any_days(), ..old };
                    (Change::touch(key.clone(), expiry(touched.days)), State::Present(touched))
                }
                _ => {
                    let new = self.any_content();
                    let text = value(key.as_str(), new.serial, new.size);
                    (Change::put(key.clone(), text, expiry(new.days)), State::Present(new))
                }
            };
            report(&Event::Requested(key.to_string(), state))?;
            changes.push(change);
            states.push((key, state));
        }
        for ((key, state), applied) in states.into_iter().zip(self.store.apply(changes).await) {
            applied?;
            self.made(key, state);
        }
        Ok(())
    }

    /// Writes the first and last value of a key.
    async fn create(&mut self) -> Result<(), Failure> {
        if self.fresh == MAX_FRESH {
            return Ok(());
        }
        self.fresh += 1;
        let key = Key::new(format!("t{}-once-{}", self.number, self.serial.fetch_add(1, Ordering::Relaxed)))?;
        self.write_to(key, Condition::Absent).await
    }

    async fn read(&mut self) -> Result<(), Failure> {
        let key = self.any_key()?;
        expect(read(&self.store, &key).await? == self.entries.get(&key).copied(), &key)
    }
}

/// Reads an entry of a load.
///
/// # Errors
///
/// If the store fails, or the value is not one that the load has written.
pub(crate) async fn read(store: &Store, key: &Key) -> Result<Option<Content>, Failure> {
    let read = store.read(key);
    let record = if store.info().expiry { read.with_ttl().await? } else { read.await? };
    Ok(record.map(|record| content(key.as_str(), &record)).transpose()?)
}

fn expect(holds: bool, key: &Key) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(format!("{key} is not in the state that its only writer left").into()) }
}

/// Reports an event at once.
fn report(event: &Event) -> io::Result<()> {
    io::stdout().lock().write_all(format!("{event}\n").as_bytes())
}
