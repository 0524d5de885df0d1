//! The cases for every store.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use futures_util::{TryStreamExt, future::join_all};
use larder_core::{ErrorKind, Expiry, Key, clock::unix_millis};
use larder_processes::Stores;
use larder_session::{Lifetime, Migrations, Sessions};
use larder_testkit::{Context, Fails, Handle, Must};
use serde_json::{Value, json};
use tokio::process::Command;

const HOUR: Duration = Duration::from_secs(3600);
const TASKS: usize = 64;

fn key(text: &str) -> Key {
    Key::new(text).must("make a key")
}

async fn stored(storage: &Handle, text: &str) -> Option<Value> {
    let record = storage.read(key(text)).await.must("read past the sessions");
    record.map(|record| serde_json::from_slice(&record.value).must("find JSON"))
}

pub(crate) async fn sum_is_exact<F>(context: Context<F>) {
    let increments = context.target.count(100, 3);
    let storage = context.target.open().await;
    let sessions: Sessions<usize> = Sessions::builder().storage(&*storage).build().must("build");
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| {
            let sessions = sessions.clone();
            tokio::spawn(async move {
                for number in 0..increments {
                    if number % 2 == 0 {
                        sessions.modify("sum", |sum| *sum += 1).await.must("modify");
                    } else {
                        sessions.update("sum", async |mut sum| *sum += 1).await.must("update");
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.must("end a task");
    }
    assert_eq!(sessions.get("sum").await.must("get"), Some(TASKS * increments));
    assert_eq!(stored(&storage, "sum").await, Some((TASKS * increments).into()));
}

pub(crate) async fn large<F>(context: Context<F>) {
    let storage = context.target.open().await;
    let sessions: Sessions<Vec<String>> = Sessions::builder().storage(&*storage).build().must("build");
    let megabyte = |letter: &str| format!("{letter}\"é🍕").repeat(1 << 17);
    let value: Vec<_> = ["a", "b", "c"].map(megabyte).into();
    assert!(value.iter().map(String::len).sum::<usize>() >= 3_000_000);
    let set = sessions.set("large", value.clone()).await;
    if storage.info().max_value.is_some_and(|max| max < 3_000_000) {
        drop(set.fails(ErrorKind::TooLarge, "a session beyond the limit"));
        assert!(sessions.get("large").await.must("get").is_none());
        return;
    }
    set.must("set");
    sessions.update("large", async |mut session| session.push("more".to_owned())).await.must("update");
    let mut found = sessions.get("large").await.must("get").must("find it");
    assert_eq!(found.pop().as_deref(), Some("more"));
    // `assert_eq!` would print megabytes.
    assert!(found == value, "it is unchanged");
}

pub(crate) async fn moved<F>(context: Context<F>) {
    let storage = context.target.open().await;
    let sessions: Sessions<Vec<u32>> = Sessions::builder().storage(&*storage).build().must("build");
    let add = async |key: &str, item: u32| {
        sessions.update(key, async |mut session| session.push(item)).await.must("update");
    };
    add("group", 1).await;
    sessions.move_key("group", "supergroup").await.must("move");
    add("group", 2).await;
    add("supergroup", 3).await;
    assert_eq!(stored(&storage, "supergroup").await, Some(serde_json::json!([1, 2, 3])));
    sessions.move_key("group", "supergroup").await.must("move again");
    sessions.move_key("supergroup", "group").await.must("move back");
    add("supergroup", 4).await;
    assert_eq!(stored(&storage, "group").await, Some(serde_json::json!([1, 2, 3, 4])));
    // Without a session, and with one only at the new key.
    sessions.move_key("early", "later").await.must("move nothing");
    add("early", 5).await;
    sessions.move_key("third", "later").await.must("move nothing");
    add("third", 6).await;
    assert_eq!(stored(&storage, "later").await, Some(serde_json::json!([5, 6])));
    let conflict = sessions.move_key("later", "group").await.map_err(|error| error.kind());
    assert_eq!(conflict, Err(ErrorKind::Conflict));
    assert_eq!(sessions.get("third").await.must("get"), Some(vec![5, 6]));
}

pub(crate) async fn sliding<F>(context: Context<F>) {
    let storage = context.target.open().await;
    let lifetime = Lifetime::sliding(2 * HOUR).touch_every(Duration::ZERO);
    let sessions = Sessions::<Vec<u32>>::builder().storage(&*storage).lifetime(lifetime).build();
    if !storage.info().expiry {
        // A layout of grammY without lifetimes.
        assert_eq!(sessions.map(drop).map_err(|error| error.kind()), Err(ErrorKind::Unsupported));
        return;
    }
    let sessions = sessions.must("build");
    sessions.update("web", async |mut session| session.push(1)).await.must("update");
    let before = storage.read(key("web")).await.must("read").must("find it");
    for read_only in [true, false] {
        assert!(storage.touch(key("web"), Expiry::After(HOUR)).await.must("touch"));
        if read_only {
            assert_eq!(sessions.get("web").await.must("get"), Some(vec![1]));
        } else {
            sessions.update("web", async |session| assert_eq!(*session, [1])).await.must("update");
        }
        let left = sessions.ttl("web").await.must("ttl");
        assert!(matches!(left, Some(Expiry::After(left)) if left > HOUR && left <= 2 * HOUR), "{left:?}");
    }
    let after = storage.read(key("web")).await.must("read").must("find it");
    assert!(after == before, "neither value nor version have changed");
}

pub(crate) async fn enhanced<F>(context: Context<F>) {
    let storage = context.target.open().await;
    let expires = storage.info().expiry;
    let fixtures = fixtures();
    assert_eq!(fixtures.len(), 5);
    for (name, text, _) in &fixtures {
        storage.write(key(name), text.clone()).await.must("write");
    }
    let migrations = Migrations::new().step(1, |session: Value| session).step(3, |session: Value| session);
    let migrations = migrations.step(10.1, |mut session: Value| {
        session["migrated"] = true.into();
        session
    });
    let builder = Sessions::<Value>::builder().storage(&*storage).migrations(migrations);
    // Stores with lifetimes keep the expiry that grammY wrote.
    let lifetime = if expires { Lifetime::absolute(100_000 * HOUR) } else { Lifetime::forever() };
    let sessions = builder.lifetime(lifetime).build().must("build");
    for (name, _, enhanced) in fixtures {
        let mut data = enhanced["__d"].clone();
        data["migrated"] = true.into();
        assert_eq!(sessions.get(&name).await.must("get"), Some(data.clone()), "{name}");
        assert_eq!(stored(&storage, &name).await.must("find it"), enhanced, "a read writes nothing");

        sessions.update(&name, async |mut session| session["more"] = 1.into()).await.must("update");
        data["more"] = 1.into();
        let mut saved = serde_json::json!({ "v": 10.1, "__d": data });
        if expires {
            saved["e"] = enhanced["e"].clone();
            assert!(
                matches!(sessions.ttl(&name).await.must("ttl"), Some(Expiry::After(left)) if left > HOUR)
            );
        }
        assert_eq!(stored(&storage, &name).await.must("find it"), saved, "{name}");
    }
}

pub(crate) async fn chosen<F>(context: Context<F>) {
    let storage = context.target.open().await;
    let sessions: Sessions<Value> = Sessions::builder().storage(&*storage).build().must("build");
    sessions.set("victim", "innocent".into()).await.must("set");
    let moved = json!({ "moved": { "to": "victim", "id": "1" } });
    for chosen in [
        json!({ "__larder": moved }),
        // A store may sort short names first.
        json!({ "A long name comes first": 1, "__larder": moved }),
        json!({ "__d": "data", "e": 1 }),
        json!({ "__d": { "__larder": moved }, "v": 99 }),
    ] {
        sessions.set("chosen", chosen.clone()).await.must("set");
        assert_eq!(sessions.get("chosen").await.must("get"), Some(chosen.clone()));
        sessions.update("chosen", async |mut session| session["more"] = 1.into()).await.must("update");
        let mut more = chosen;
        more["more"] = 1.into();
        assert_eq!(sessions.get("chosen").await.must("get"), Some(more));
    }
    assert_eq!(sessions.get("victim").await.must("get"), Some("innocent".into()));
}

pub(crate) async fn stored_end<F>(context: Context<F>) {
    let storage = context.target.open().await;
    if !storage.info().expiry {
        return;
    }
    // By the clock of another process the session has expired.
    let stored = format!(r#"{{"__d":41,"e":{}}}"#, unix_millis() - 30_000);
    storage.write(key("web"), stored).expiry(Expiry::After(HOUR)).await.must("write");
    let sessions: Sessions<u32> = Sessions::builder().storage(&*storage).build().must("build");
    assert_eq!(sessions.get("web").await.must("get"), Some(41));
    sessions.update("web", async |mut session| *session += 1).await.must("update");
    assert_eq!(sessions.get("web").await.must("get"), Some(42));
}

pub(crate) async fn moved_end<F>(context: Context<F>) {
    let storage = context.target.open().await;
    let sessions: Sessions<u32> = Sessions::builder().storage(&*storage).build().must("build");
    if !storage.info().expiry {
        return;
    }
    storage.write(key("group"), "41").expiry(Expiry::After(HOUR)).await.must("write");
    sessions.move_key("group", "supergroup").await.must("move");
    assert_eq!(sessions.get("group").await.must("get"), Some(41));
    let left = sessions.ttl("group").await.must("ttl");
    assert!(matches!(left, Some(Expiry::After(left)) if left > HOUR / 2 && left <= HOUR), "{left:?}");
}

pub(crate) async fn cut<F>(context: Context<F>) {
    let storage = context.target.open().await;
    let text = r#"{"count":1,"title":"Pizza \ud83c"}"#;
    match storage.write(key("cut"), text).await {
        // Some value formats cannot hold half a character.
        Err(error) if error.kind() == ErrorKind::InvalidValue => return,
        written => drop(written.must("write")),
    }
    let sessions: Sessions<Value> = Sessions::builder().storage(&*storage).build().must("build");
    assert_eq!(sessions.get("cut").await.must("get").must("find it")["count"], 1);
    sessions.update("cut", async |mut session| session["count"] = 2.into()).await.must("update");
    let stored = storage.read(key("cut")).await.must("read").must("find it");
    assert_eq!(stored.value, text.replace('1', "2"));
}

/// The sessions that grammY wrote with `enhanceStorage`: the key, the text, and the parsed text.
fn fixtures() -> Vec<(String, String, Value)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/grammy/file-enhanced");
    let read = |directory: &Path| {
        let entries = fs::read_dir(directory).must("list the fixtures");
        entries.map(|entry| entry.must("list the fixtures").path()).collect::<Vec<_>>()
    };
    let files = read(&root).into_iter().flat_map(|directory| read(&directory));
    files
        .map(|file| {
            let name = file.file_stem().and_then(|name| name.to_str()).must("find a key").to_owned();
            let text = fs::read_to_string(file).must("read a fixture");
            let enhanced = serde_json::from_str(&text).must("read a fixture");
            (name, text, enhanced)
        })
        .collect()
}

/// Sessions whose value is the name of their owner.
fn owned(storage: &Handle) -> Sessions<String> {
    let builder = Sessions::<String>::builder().storage(&**storage).prefix("visit:");
    let lifetime = if storage.info().expiry { Lifetime::sliding(HOUR) } else { Lifetime::forever() };
    let owner = |owner: &String| (!owner.is_empty()).then(|| owner.clone());
    builder.lifetime(lifetime).owner(owner).build().must("build")
}

async fn entries(storage: &Handle) -> Vec<Key> {
    storage.keys("").try_collect().await.must("list")
}

pub(crate) async fn signed_in<F>(context: Context<F>) {
    let count = context.target.count(200, 20);
    let storage = context.target.open().await;
    let visits = owned(&storage);
    let tasks = (0..count).map(|number| {
        let visits = visits.clone();
        tokio::spawn(async move { visits.set(number, "ann".to_owned()).await.must("sign in") })
    });
    for task in join_all(tasks).await {
        task.must("end a task");
    }
    visits.set("other", "bob".to_owned()).await.must("sign in");
    assert_eq!(visits.keys_by_owner("ann").await.must("find them").len(), count);
    if storage.info().expiry {
        for key in entries(&storage).await {
            assert_ne!(storage.ttl(&key).await.must("read the TTL"), Some(Expiry::Never));
        }
    }
    assert_eq!(visits.delete_others_by_owner("ann", 0).await.must("delete the others"), count as u64 - 1);
    assert_eq!(visits.delete_by_owner("ann").await.must("delete the last"), 1);
    // The session of the other user, and its bucket.
    assert_eq!(entries(&storage).await.len(), 2);
}

pub(crate) async fn revoked<F>(context: Context<F>) {
    let updates = context.target.count(20, 2);
    let storage = context.target.open().await;
    // Two handles are like two processes.
    let processes = [owned(&storage), owned(&storage)];
    let tasks = (0..50).map(|task: usize| {
        let visits = processes[task % 2].clone();
        tokio::spawn(async move {
            for number in 0..updates {
                if number % 2 == 0 {
                    visits.update(task / 2, async |mut owner| "ann".clone_into(&mut owner)).await
                } else {
                    visits.set(task / 2, "ann".to_owned()).await
                }
                .must("save");
            }
        })
    });
    let tasks: Vec<_> = tasks.collect();
    while tasks.iter().any(|task| !task.is_finished()) {
        processes[0].delete_by_owner("ann").await.must("delete during the updates");
    }
    for task in tasks {
        task.await.must("end a task");
    }
    let visits = owned(&storage);
    let mut found = visits.keys_by_owner("ann").await.must("find them");
    let mut hers: Vec<_> = visits.keys().try_collect().await.must("list them");
    found.sort_unstable();
    hers.sort_unstable();
    hers.dedup();
    assert_eq!(found, hers);
    visits.delete_by_owner("ann").await.must("delete the rest");
    assert!(visits.keys().try_next().await.must("list them").is_none());
}

pub(crate) async fn killed(context: Context<Stores>) {
    let storage = context.target.open().await;
    let visits = owned(&storage);
    let mut worker = Command::new(env!("CARGO_BIN_EXE_worker"))
        .args(["owner", &context.factory.url(context.target.space()), "ann", "8"])
        .kill_on_drop(true)
        .spawn()
        .must("start a worker");
    let start = Instant::now();
    while visits.keys_by_owner("ann").await.must("find them").len() < 100 {
        assert!(start.elapsed() < Duration::from_secs(60), "the worker signs in");
    }
    worker.kill().await.must("kill the worker");
    // First the sessions: a request of the worker can still be under way.
    let sessions: Vec<_> = visits.keys().try_collect().await.must("list them");
    let found = visits.keys_by_owner("ann").await.must("find them");
    assert!(sessions.len() >= 100 && sessions.iter().all(|session| found.contains(session)));
    for key in entries(&storage).await {
        assert_ne!(storage.ttl(&key).await.must("read the TTL"), Some(Expiry::Never));
    }
}
