//! Memory: a map behind a lock, and moka's store for tower-sessions. With bounds: moka and quick_cache behind the same
//! boxed trait as Larder's store.

use std::{
    collections::HashMap,
    sync::{Arc, RwLock},
    time::{Duration, Instant},
};

use bytes::Bytes;
use larder_core::{
    DeleteOptions, Expiry, Info, Key, ReadOptions, Record, Result, Storage, Store, Version, WriteOptions,
    Written, async_trait,
};

use super::Place;
use crate::{
    contenders::{Raw, Set, fill, fill_peer, fill_raw},
    data::{TTL, fresh, key},
    measure::Kind,
    peers::Tower,
};

pub async fn open(place: Place) -> Set {
    let mut set = Set::new(place.data);
    let map = Map::default();
    fill_raw(&map, place.data, 1).await;
    set.raw(Kind::Raw, "RwLock<HashMap>", &map);
    let ours = larder_memory::connect("memory:").await.unwrap();
    fill(&ours, place.data).await;
    set.larder("larder-memory", &ours);
    if place.peers {
        let peer = Tower(moka_store::MokaStore::new(None), place.data);
        fill_peer(&peer, place.data, 1).await;
        set.peer("tower-sessions, moka", &peer);
    }
    set
}

/// With room for twice the entries: the bound is checked, but no entry is evicted.
pub async fn bounded(place: Place) -> Set {
    let mut set = Set::new(place.data);
    let most = place.data.keys * 2;
    let url = format!("memory:?max_entries={most}&when_full=evict");
    let ours = larder_memory::connect(&url).await.unwrap();
    fill(&ours, place.data).await;
    set.larder("larder-memory", &ours);
    let moka = moka::sync::Cache::builder().max_capacity(most).expire_after(Deadlines).build();
    let quick = quick_cache::sync::Cache::new(most as usize);
    for (name, store) in [("moka", Store::from(Cached(moka))), ("quick_cache", Store::from(Cached(quick)))] {
        fill(&store, place.data).await;
        set.store(Kind::Peer, name, &store);
    }
    set
}

/// The entries, with a version and a deadline as in Larder.
#[derive(Clone, Default)]
struct Map(Arc<RwLock<HashMap<Key, Slot>>>);

#[derive(Clone)]
struct Slot {
    value: Bytes,
    version: i64,
    deadline: Instant,
}

impl Slot {
    fn new(value: &Bytes, after: Duration) -> Self {
        // All contenders copy the value, so that it does not share memory with the caller.
        Self { value: Bytes::copy_from_slice(value), version: fresh(), deadline: Instant::now() + after }
    }
}

impl Raw for Map {
    type Seen = i64;

    async fn read(&self, number: u64) -> (Bytes, i64) {
        let map = self.0.read().unwrap();
        let slot = map.get(&key(number)).filter(|slot| slot.deadline > Instant::now()).unwrap();
        (slot.value.clone(), slot.version)
    }

    async fn write(&self, number: u64, value: &Bytes) {
        let slot = Slot::new(value, TTL);
        self.0.write().unwrap().insert(key(number), slot);
    }

    async fn swap(&self, number: u64, value: Bytes, seen: i64) -> bool {
        let new = Slot::new(&value, TTL);
        let mut map = self.0.write().unwrap();
        let slot = map.get_mut(&key(number)).unwrap();
        let same = slot.version == seen;
        if same {
            *slot = new;
        }
        same
    }
}

/// A cache as a storage. The caches have no compare-and-swap, so it does not claim conditions.
struct Cached<C>(C);

trait Cache: Send + Sync + 'static {
    fn get(&self, key: &Key) -> Option<Slot>;
    fn insert(&self, key: Key, slot: Slot);
    fn remove(&self, key: &Key) -> bool;
}

#[async_trait]
impl<C: Cache> Storage for Cached<C> {
    fn info(&self) -> Info {
        Info::minimal("cache").with_expiry()
    }

    async fn read(&self, key: &Key, _: &ReadOptions) -> Result<Option<Record>> {
        Ok(self.0.get(key).map(|slot| Record::at(slot.value, Version::from_token(slot.version as u64))))
    }

    async fn write(&self, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        let after = match options.expiry {
            Expiry::After(after) => after,
            Expiry::Never => Expiry::MAX,
        };
        let slot = Slot::new(&value, after);
        let version = Version::from_token(slot.version as u64);
        self.0.insert(key.clone(), slot);
        Ok(Written::at(version))
    }

    async fn delete(&self, key: &Key, _: &DeleteOptions) -> Result<bool> {
        Ok(self.0.remove(key))
    }
}

/// Moka removes entries at their own deadlines.
struct Deadlines;

impl moka::Expiry<Key, Slot> for Deadlines {
    fn expire_after_create(&self, _: &Key, slot: &Slot, now: Instant) -> Option<Duration> {
        Some(slot.deadline.saturating_duration_since(now))
    }

    fn expire_after_update(
        &self,
        _: &Key,
        slot: &Slot,
        now: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(slot.deadline.saturating_duration_since(now))
    }
}

impl Cache for moka::sync::Cache<Key, Slot> {
    fn get(&self, key: &Key) -> Option<Slot> {
        self.get(key)
    }

    fn insert(&self, key: Key, slot: Slot) {
        self.insert(key, slot);
    }

    fn remove(&self, key: &Key) -> bool {
        self.remove(key).is_some()
    }
}

/// quick_cache has no deadlines, so they are checked here. Expired entries stay until they are evicted.
impl Cache for quick_cache::sync::Cache<Key, Slot> {
    fn get(&self, key: &Key) -> Option<Slot> {
        self.get(key).filter(|slot| slot.deadline > Instant::now())
    }

    fn insert(&self, key: Key, slot: Slot) {
        self.insert(key, slot);
    }

    fn remove(&self, key: &Key) -> bool {
        self.remove(key).is_some()
    }
}
