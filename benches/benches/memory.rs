//! Memory: ours, a plain map behind a lock, and tower-sessions-moka-store.

use std::{
    collections::HashMap,
    sync::{Arc, RwLock},
};

use criterion::{Criterion, criterion_group, criterion_main};
use larder_benches::{Group, KEYS, RUNTIME, TASKS, VALUE, fill, key, peers};
use larder_core::Store;
use larder_memory::MemoryStorage;

fn memory(criterion: &mut Criterion) {
    let _runtime = RUNTIME.enter();
    let ours = Store::from(MemoryStorage::new());
    let raw = Arc::new(RwLock::new(HashMap::new()));
    let peer = moka_store::MokaStore::new(None);
    RUNTIME.block_on(async {
        fill(&ours).await;
        peers::fill(&peer).await;
    });
    raw.write().unwrap().extend((0..KEYS).map(|number| (key(number), VALUE.clone())));

    for tasks in TASKS {
        let mut group = Group::new(criterion, "memory", "read", tasks);
        let map = Arc::clone(&raw);
        group.measure("raw: RwLock<HashMap>", move |number| {
            let map = Arc::clone(&map);
            async move { assert_eq!(map.read().unwrap().get(&key(number)).cloned().unwrap().len(), VALUE.len()) }
        });
        group.read("larder-memory", &ours);
        peers::read(&mut group, "tower-sessions-moka-store", &peer);
        drop(group);

        let mut group = Group::new(criterion, "memory", "write", tasks);
        let map = Arc::clone(&raw);
        group.measure("raw: RwLock<HashMap>", move |number| {
            let map = Arc::clone(&map);
            async move { drop(map.write().unwrap().insert(key(number), VALUE.clone())) }
        });
        group.write("larder-memory", &ours);
        peers::write(&mut group, "tower-sessions-moka-store", &peer);
    }
}

criterion_group!(benches, memory);
criterion_main!(benches);
