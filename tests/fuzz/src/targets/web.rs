//! The sessions of tower-sessions and actix-session: the id from the cookie, and the stored record.

use std::sync::Arc;

use actix_session::storage::{SessionKey, SessionStore as _};
use larder_core::{Key, Result, Store};
use larder_memory::MemoryStorage;
use larder_web_sessions::{Ids, Keys};
use tower_sessions_core_0_15::{SessionStore as _, session::Id, session_store::Error};

use super::{block_on, parts, stored};
use crate::{Verdict, laws::silent};

const ALL: [Ids; 3] = [Ids::Hashed, Ids::Migrating, Ids::Plain];

/// The key under which a session with this id is written.
fn key(id: &str, ids: Ids) -> Result<Key> {
    Keys { prefix: Arc::from("session:"), ids }.key(id)
}

/// The key at which a session with this id is stored: while sessions migrate, that of its plain id.
fn old_key(id: &str, ids: Ids) -> Result<Key> {
    key(id, if ids == Ids::Migrating { Ids::Plain } else { ids })
}

pub(super) fn tower(input: &[u8]) -> Verdict {
    let [cookie, record] = parts(input);
    let Ok(id) = String::from_utf8_lossy(cookie).parse::<Id>() else { return Verdict::Refused };
    let mut verdict = Verdict::Refused;
    for ids in ALL {
        let store = Store::new(MemoryStorage::new());
        let sessions = larder_tower_sessions::LarderStore::new(&store).unwrap();
        let sessions = match ids {
            Ids::Hashed => sessions,
            Ids::Migrating => sessions.migrating_plain_ids(),
            Ids::Plain => sessions.with_plain_ids(),
        };
        let at = old_key(&id.to_string(), ids).unwrap();
        block_on(async {
            store.write(&at, record.to_vec()).await.unwrap();
            let found = match sessions.load(&id).await {
                Err(error) => {
                    silent(&format!("{error} {error:?}"));
                    assert_eq!(stored(&store, &at).await.as_deref(), Some(record));
                    return;
                }
                Ok(None) => return,
                Ok(Some(found)) => found,
            };
            verdict = Verdict::Accepted;
            assert_eq!(stored(&store, &at).await.as_deref(), Some(record));
            if let Err(error) = sessions.save(&found).await {
                silent(&format!("{error} {error:?}"));
                // Only in UTC the year has more than four digits, or a sign.
                let utc = found.expiry_date.checked_to_offset(time::UtcOffset::UTC);
                assert!(
                    utc.is_none_or(|utc| !(0..=9_999).contains(&utc.year())),
                    "a loaded session cannot be saved: {error}"
                );
                assert!(matches!(error, Error::Encode(_)), "an error of another kind: {error:?}");
                assert_eq!(stored(&store, &at).await.as_deref(), Some(record));
                return;
            }
            let Some(again) = sessions.load(&id).await.unwrap() else { return };
            assert_eq!((&again.data, again.expiry_date), (&found.data, found.expiry_date));
            let at = key(&id.to_string(), ids).unwrap();
            let bytes = stored(&store, &at).await;
            sessions.save(&again).await.unwrap();
            assert_eq!(stored(&store, &at).await, bytes);
        });
    }
    verdict
}

pub(super) fn actix(input: &[u8]) -> Verdict {
    let [cookie, record] = parts(input);
    let id = String::from_utf8_lossy(cookie);
    let session_key = || SessionKey::try_from(id.to_string());
    if session_key().is_err() {
        return Verdict::Refused;
    }
    let mut verdict = Verdict::Refused;
    for ids in ALL {
        let store = Store::new(MemoryStorage::new());
        let sessions = larder_actix_session::LarderStore::new(&store).unwrap();
        let sessions = match ids {
            Ids::Hashed => sessions,
            Ids::Migrating => sessions.migrating_plain_ids(),
            Ids::Plain => sessions.with_plain_ids(),
        };
        let Ok(at) = old_key(&id, ids) else { continue };
        block_on(async {
            store.write(&at, record.to_vec()).await.unwrap();
            let found = match sessions.load(&session_key().unwrap()).await {
                Err(error) => {
                    // `Debug` would print a backtrace.
                    let mut source: Option<&dyn std::error::Error> = Some(&error);
                    while let Some(error) = source {
                        silent(&error.to_string());
                        source = error.source();
                    }
                    assert_eq!(stored(&store, &at).await.as_deref(), Some(record));
                    return;
                }
                Ok(None) => return,
                Ok(Some(found)) => found,
            };
            verdict = Verdict::Accepted;
            assert_eq!(stored(&store, &at).await.as_deref(), Some(record));
            let hour = time::Duration::HOUR;
            let updated = sessions.update(session_key().unwrap(), found.clone(), &hour).await.unwrap();
            assert_eq!(updated.as_ref(), id);
            assert_eq!(sessions.load(&updated).await.unwrap().as_ref(), Some(&found));
            let at = key(&id, ids).unwrap();
            let bytes = stored(&store, &at).await;
            sessions.update(updated, found, &hour).await.unwrap();
            assert_eq!(stored(&store, &at).await, bytes);
        });
    }
    verdict
}
