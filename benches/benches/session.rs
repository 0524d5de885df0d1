//! Sessions: what an update costs on top of the storage's own read and compare-and-swap.

use criterion::{Criterion, criterion_group, criterion_main};
use larder_benches::{Group, KEYS, RUNTIME, TASKS, key};
use larder_core::{Condition, Key, ReadOptions, Store, WriteOptions};
use larder_memory::MemoryStorage;
use larder_session::Sessions;
use serde::{Deserialize, Serialize};

/// A middling session, about 512 bytes of JSON.
#[derive(Default, Serialize, Deserialize)]
struct Chat {
    pizzas: u64,
    notes: String,
}

/// About three megabytes of JSON.
const LARGE: usize = 3_000_000;

fn chats(store: &Store, prefix: &str, length: usize) -> Sessions<Chat> {
    let initial = move || Chat { pizzas: 0, notes: "x".repeat(length) };
    Sessions::builder().storage(store).prefix(prefix).initial(initial).build().unwrap()
}

/// The same update by hand: read, decode, change, encode, compare and swap until it succeeds.
async fn by_hand(store: &Store, key: &Key) {
    loop {
        let (mut chat, condition) = match store.read_with(key, &ReadOptions::new()).await.unwrap() {
            Some(record) => {
                let chat: Chat = serde_json::from_slice(&record.value).unwrap();
                (chat, Condition::At(record.version.unwrap()))
            }
            None => (Chat { pizzas: 0, notes: "x".repeat(480) }, Condition::Absent),
        };
        chat.pizzas += 1;
        let value = serde_json::to_vec(&chat).unwrap();
        let options = WriteOptions::new().condition(condition);
        if store.write_with(key, value.into(), &options).await.is_ok() {
            return;
        }
    }
}

fn updates(criterion: &mut Criterion, name: &str, store: &Store) {
    for (keys, what) in [(1, "update of one key"), (KEYS, "update of 10,000 keys")] {
        for tasks in TASKS {
            let mut group = Group::new(criterion, &format!("session, {name}"), what, tasks);
            let raw = store.clone();
            group.measure("raw: read, compare and swap by hand", move |number| {
                let raw = raw.clone();
                async move { by_hand(&raw, &key(number % keys)).await }
            });
            let sessions = chats(store, "session:", 480);
            group.measure("larder-session", move |number| {
                let sessions = sessions.clone();
                async move {
                    sessions.update(number % keys, async |mut chat| chat.pizzas += 1).await.unwrap();
                }
            });
        }
    }
}

fn session(criterion: &mut Criterion) {
    let _runtime = RUNTIME.enter();
    let memory = Store::from(MemoryStorage::new());
    let home = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", home.path().join("sessions.db").display());
    let sqlite = RUNTIME.block_on(larder_sqlite::connect(&url)).unwrap();
    updates(criterion, "memory", &memory);
    updates(criterion, "sqlite", &sqlite);

    let mut group = Group::new(criterion, "session", "lazy, untouched", 1);
    let sessions = chats(&memory, "untouched:", 480);
    group.measure("larder-session", move |number| {
        let sessions = sessions.clone();
        async move { sessions.update_lazy(number, async |_session| ()).await.unwrap() }
    });
    drop(group);

    let mut group = Group::new(criterion, "session", "update of 3 MB", 1);
    for (name, store) in [("larder-session, memory", &memory), ("larder-session, sqlite", &sqlite)] {
        let sessions = chats(store, "large:", LARGE);
        group.measure(name, move |number| {
            let sessions = sessions.clone();
            async move { sessions.update(number % 4, async |mut chat| chat.pizzas += 1).await.unwrap() }
        });
    }
}

criterion_group!(benches, session);
criterion_main!(benches);
