//! Sessions, the markers of moves, leases, and the index of owners. Their bytes are in a store that another program
//! may have written to.

use std::{collections::BTreeMap, time::Duration};

use futures_util::TryStreamExt;
use larder_core::{Bytes, Codec, Error, ErrorKind, Expiry, Key, Store};
use larder_memory::MemoryStorage;
use larder_owners::{Deadline, Owner, Owners};
use larder_session::{Cbor, Json, Leases, Lifetime, MessagePack, Migrations, Sessions};
use serde::{
    Deserialize, Serialize,
    de::{DeserializeOwned, IgnoredAny},
};
use serde_json::Value;

use super::{block_on, parts, secret_key, stored};
use crate::{SECRET, Verdict, laws::silent, refused};

/// The kinds of errors about a value that is not a session.
const KINDS: &[ErrorKind] = &[ErrorKind::Codec, ErrorKind::Corrupt, ErrorKind::VersionTooNew];

/// Returns a store with these bytes under the secret key.
async fn store(input: &[u8]) -> Store {
    let store = Store::new(MemoryStorage::new());
    store.write(secret_key(), input.to_vec()).await.unwrap();
    store
}

pub(super) fn json(input: &[u8]) -> Verdict {
    block_on(async {
        let store = store(input).await;
        let verdict = codec(Json, &store, input).await;
        let lifetime = Lifetime::absolute(Duration::from_secs(3_600));
        let lasting = Sessions::<Value>::builder().storage(&store).lifetime(lifetime).build().unwrap();
        session(&lasting, &store, input, Keeps::Value).await;
        verdict
    })
}

pub(super) fn msgpack(input: &[u8]) -> Verdict {
    block_on(async { codec(MessagePack, &store(input).await, input).await })
}

pub(super) fn cbor(input: &[u8]) -> Verdict {
    block_on(async { codec(Cbor, &store(input).await, input).await })
}

async fn codec(codec: impl Codec, store: &Store, input: &[u8]) -> Verdict {
    let sessions = Sessions::<Value>::builder().storage(store).codec(codec).build().unwrap();
    session(&sessions, store, input, Keeps::Bytes).await
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Pizzas {
    toppings: Vec<String>,
    name: Option<String>,
    count: i64,
}

pub(super) fn migrated(input: &[u8]) -> Verdict {
    #[derive(Deserialize)]
    struct First {
        #[serde(default)]
        toppings: String,
        name: Option<String>,
    }
    #[derive(Serialize, Deserialize)]
    struct Second {
        toppings: Vec<String>,
        name: Option<String>,
    }
    let migrations = Migrations::new()
        .step(1, |First { toppings, name }| Second {
            toppings: toppings.split(',').map(str::to_owned).collect(),
            name,
        })
        .try_step(2.5, |Second { toppings, name }| {
            if toppings.len() > 9 {
                return Err(Error::new(ErrorKind::Codec, "too many"));
            }
            Ok(Pizzas { count: 1, toppings, name })
        });
    block_on(async {
        let store = store(input).await;
        let sessions = Sessions::<Pizzas>::builder().storage(&store).migrations(migrations).build().unwrap();
        session(&sessions, &store, input, Keeps::Saved).await
    })
}

/// The bytes that a save of an unchanged session keeps.
#[derive(Clone, Copy, PartialEq)]
enum Keeps {
    /// All.
    Bytes,
    /// Those of an earlier save.
    Saved,
    /// Those of the value. The time until it expires changes.
    Value,
}

/// Reads a session and saves it again.
async fn session<T>(sessions: &Sessions<T>, store: &Store, input: &[u8], keeps: Keeps) -> Verdict
where
    T: Clone + Default + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    let key = &secret_key();
    let read = sessions.get(SECRET).await;
    let changed = sessions.modify(SECRET, |session| drop(std::mem::take(session))).await;
    let value = match read {
        Err(error) => {
            let verdict = refused(&error, KINDS);
            refused(&changed.unwrap_err(), KINDS);
            refused(&sessions.modify(SECRET, |_| ()).await.unwrap_err(), KINDS);
            assert_eq!(
                stored(store, key).await.as_deref(),
                Some(input),
                "a session was changed that cannot be read"
            );
            return verdict;
        }
        Ok(value) => value,
    };
    changed.unwrap();
    store.write(key, input.to_vec()).await.unwrap();
    sessions.modify(SECRET, |_| ()).await.unwrap();
    if keeps == Keeps::Bytes && value.is_some() {
        assert_eq!(
            stored(store, key).await.as_deref(),
            Some(input),
            "a session was changed without a change"
        );
    }
    // It has expired, or is nothing.
    let Some(value) = value else { return Verdict::Accepted };
    match sessions.set(SECRET, value.clone()).await {
        Ok(()) => {}
        // A value that looks like a marker was in an envelope, and this codec has none.
        Err(error) => return refused(&error, &[ErrorKind::InvalidValue, ErrorKind::Codec]),
    }
    let saved = stored(store, key).await;
    let again = sessions.get(SECRET).await.unwrap();
    // What is encoded as nothing is deleted.
    assert!(again.as_ref() == Some(&value) || saved.is_none(), "a saved session is another one");
    sessions.set(SECRET, value).await.unwrap();
    if keeps != Keeps::Value {
        assert_eq!(stored(store, key).await, saved, "the second save differs from the first");
    }
    Verdict::Accepted
}

/// Checks that entries stayed as they were. Only a marker may be replaced: a move that another process began is finished.
fn stayed(before: &[Option<Bytes>], after: &[Option<Bytes>]) {
    for (before, after) in before.iter().zip(after) {
        let marker = before.as_deref().is_some_and(|bytes| {
            let members = serde_json::from_slice::<BTreeMap<String, IgnoredAny>>(bytes);
            members.is_ok_and(|members| members.contains_key("__larder"))
        });
        assert!(before == after || marker, "a refused session was changed: {before:?}, {after:?}");
    }
}

/// Values at the two keys of a move. Each may be a marker, and the two need not belong together.
pub(super) fn marker(input: &[u8]) -> Verdict {
    let [old, new] = parts(input);
    block_on(async {
        let mut verdict = Verdict::Refused;
        for moves in [false, true] {
            let store = store(old).await;
            let other = Key::new("new").unwrap();
            store.write(&other, new.to_vec()).await.unwrap();
            let sessions = Sessions::<Value>::builder().storage(&store).build().unwrap();
            let outcome = if moves {
                sessions.move_key(SECRET, "new").await
            } else {
                sessions.get(SECRET).await.map(drop)
            };
            // A redirect may lead anywhere, also to a key that is not one, and two may lead to each other.
            let kinds =
                [KINDS, &[ErrorKind::Conflict, ErrorKind::InvalidValue, ErrorKind::Unsupported]].concat();
            let both = async || [stored(&store, &secret_key()).await, stored(&store, &other).await];
            match outcome {
                Err(error) => {
                    refused(&error, &kinds);
                    stayed(&[old, new].map(|bytes| Some(Bytes::copy_from_slice(bytes))), &both().await);
                }
                Ok(()) => verdict = Verdict::Accepted,
            }
            for key in [SECRET, "new"] {
                let before = both().await;
                match sessions.modify(key, |session| *session = Value::from(1)).await {
                    Err(error) => {
                        refused(&error, &kinds);
                        stayed(&before, &both().await);
                    }
                    Ok(()) => assert_eq!(sessions.get(key).await.unwrap(), Some(Value::from(1))),
                }
            }
        }
        verdict
    })
}

/// The two entries of a lease: the holder, and the counter of its tokens.
pub(super) fn lease(input: &[u8]) -> Verdict {
    let [held, counter] = parts(input);
    let key = secret_key();
    let (held_at, counter_at) = (format!("lease:held:{SECRET}"), format!("lease:token:{SECRET}"));
    block_on(async {
        let store = Store::new(MemoryStorage::new());
        let leases = Leases::new(&store).with_renewal(false);
        if !counter.is_empty() {
            store.write(&counter_at, counter.to_vec()).await.unwrap();
        }
        let before: Option<Value> = serde_json::from_slice(counter).ok();
        let before = before.as_ref().and_then(|counter| counter["token"].as_u64()).unwrap_or(0);
        let verdict = match leases.try_lock(&key).await {
            Err(error) => {
                let verdict = refused(&error, &[ErrorKind::Codec]);
                assert_eq!(store.read(&counter_at).await.unwrap().unwrap().value, counter);
                verdict
            }
            Ok(None) => panic!("a lease without a holder was refused"),
            Ok(Some(lease)) => {
                assert!(lease.token() > before, "a token that was handed out before");
                leases.check(&key, lease.token()).await.unwrap();
                lease.release().await.unwrap();
                Verdict::Accepted
            }
        };
        if held.is_empty() {
            return verdict;
        }
        store.write(&held_at, held.to_vec()).await.unwrap();
        assert!(leases.try_lock(&key).await.is_ok_and(|lease| lease.is_none()), "the key is leased");
        if let Err(error) = leases.check(&key, 7).await {
            refused(&error, &[ErrorKind::Codec, ErrorKind::Conflict]);
        }
        assert_eq!(
            store.read(&held_at).await.unwrap().unwrap().value,
            held,
            "the holder's entry was changed"
        );
        verdict
    })
}

/// A bucket of the index of owners.
pub(super) fn owners(input: &[u8]) -> Verdict {
    block_on(async {
        let store = Store::new(MemoryStorage::new());
        let owners = Owners::new(&store, "fuzz:").unwrap();
        let (owner, key) = (Owner { id: "ann".to_owned(), device: None }, Key::new(SECRET).unwrap());
        let deadline = Deadline::after(Expiry::Never);
        owners.add(&owner, &key, deadline).await.unwrap();
        let buckets: Vec<Key> = store.keys("larder:owner:").try_collect().await.unwrap();
        let [bucket] = &buckets[..] else { panic!("one session is in one bucket") };
        store.write(bucket, input.to_vec()).await.unwrap();
        let entries = match owners.entries("ann").await {
            Err(error) => {
                let verdict = refused(&error, &[ErrorKind::Codec]);
                refused(&owners.add(&owner, &key, deadline).await.unwrap_err(), &[ErrorKind::Codec]);
                assert_eq!(stored(&store, bucket).await, Some(Bytes::copy_from_slice(input)));
                return verdict;
            }
            Ok(entries) => entries,
        };
        silent(&format!("{entries:?}"));
        for entry in &entries {
            // Any number of milliseconds is a time.
            let _ = (entry.created(), entry.used(), entry.device());
        }
        owners.add(&owner, &key, deadline).await.unwrap();
        let after = owners.entries("ann").await.unwrap();
        // The others are still there.
        assert!(entries.iter().filter(|entry| *entry.key() != key).all(|entry| after.contains(entry)));
        assert!(after.iter().any(|entry| *entry.key() == key));
        Verdict::Accepted
    })
}
