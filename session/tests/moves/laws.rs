//! The laws of moves.

use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures_util::TryStreamExt;
use larder_core::{Expiry, Store, Versions};
use larder_session::{
    ConflictPolicy, ErrorKind, Fragment, KvSessions, Lifetime, Multi, OpenSession, Sessions, SessionsBuilder,
};

use crate::{
    common::{kind, memory, until},
    stage::Stage,
};

const HOUR: Duration = Duration::from_secs(3600);

type Items = Vec<u32>;

fn set_up(storage: &Store) -> SessionsBuilder<Items> {
    Sessions::builder().storage(storage).prefix("chat:")
}

fn sessions(storage: &Store) -> Sessions<Items> {
    set_up(storage).build().unwrap()
}

async fn add(sessions: &Sessions<Items>, key: &str, item: u32) {
    sessions.update(key, async |mut session| session.push(item)).await.unwrap();
}

/// Returns the stored value at a key of these sessions.
async fn stored(storage: &Store, key: &str) -> Option<String> {
    let record = storage.read(format!("chat:{key}")).await.unwrap();
    record.map(|record| String::from_utf8(record.value.to_vec()).unwrap())
}

/// One step of it.
fn poll<F: Future>(work: Pin<&mut F>) -> Poll<F::Output> {
    work.poll(&mut Context::from_waker(Waker::noop()))
}

#[tokio::test]
async fn updates_under_either_id_reach_the_same_session() {
    let storage = memory();
    let sessions = sessions(&storage);
    add(&sessions, "old", 1).await;
    sessions.move_key("old", "new").await.unwrap();
    add(&sessions, "old", 2).await;
    add(&sessions, "new", 3).await;
    for key in ["old", "new"] {
        assert_eq!(sessions.get(key).await.unwrap(), Some(vec![1, 2, 3]));
    }
    assert_eq!(stored(&storage, "new").await.unwrap(), "[1,2,3]");
}

/// A lazy or open session cannot run again.
#[tokio::test]
async fn a_move_waits_for_the_updates_of_this_process_that_have_begun() {
    let sessions = sessions(&memory());
    let mut open = sessions.open("old").await.unwrap();
    let mut moving = std::pin::pin!(sessions.move_key("old", "new"));
    assert!(poll(moving.as_mut()).is_pending());
    open.push(1);
    OpenSession::save(open).await.unwrap();
    moving.await.unwrap();
    assert_eq!(sessions.get("new").await.unwrap(), Some(vec![1]));
}

#[tokio::test]
async fn a_handler_can_move_its_own_session() {
    let sessions = sessions(&memory());
    add(&sessions, "old", 1).await;
    let moved = sessions.update("old", async |mut session| {
        session.push(2);
        sessions.move_key("old", "new").await
    });
    moved.await.unwrap();
    assert_eq!(sessions.get("new").await.unwrap(), Some(vec![1, 2]));
}

#[tokio::test]
async fn a_move_without_a_session_connects_the_ids() {
    let sessions = sessions(&memory());
    sessions.move_key("old", "new").await.unwrap();
    assert_eq!(sessions.get("new").await.unwrap(), None);
    add(&sessions, "old", 1).await;
    assert_eq!(sessions.get("new").await.unwrap(), Some(vec![1]));
}

#[tokio::test]
async fn a_session_that_is_at_the_new_key_only_stays_and_needs_no_merge() {
    let storage = memory();
    let sessions = sessions(&storage);
    add(&sessions, "new", 1).await;
    sessions.move_key("old", "new").await.unwrap();
    add(&sessions, "old", 2).await;
    assert_eq!(stored(&storage, "new").await.unwrap(), "[1,2]");
}

#[tokio::test]
async fn moving_again_changes_nothing() {
    let storage = memory();
    let sessions = sessions(&storage);
    add(&sessions, "old", 1).await;
    sessions.move_key("old", "new").await.unwrap();
    let before = (stored(&storage, "old").await, stored(&storage, "new").await);
    sessions.move_key("old", "new").await.unwrap();
    sessions.move_key("new", "new").await.unwrap();
    assert_eq!((stored(&storage, "old").await, stored(&storage, "new").await), before);
    // Not even after a further move.
    sessions.move_key("new", "newest").await.unwrap();
    sessions.move_key("old", "new").await.unwrap();
    assert_eq!(stored(&storage, "newest").await.unwrap(), "[1]");
}

#[tokio::test]
async fn moving_back_brings_the_session_back() {
    let storage = memory();
    let sessions = sessions(&storage);
    add(&sessions, "old", 1).await;
    for _ in 0..3 {
        sessions.move_key("old", "new").await.unwrap();
        assert_eq!(stored(&storage, "new").await.unwrap(), "[1]");
        sessions.move_key("new", "old").await.unwrap();
        assert_eq!(stored(&storage, "old").await.unwrap(), "[1]");
    }
    assert_eq!(sessions.get("new").await.unwrap(), Some(vec![1]));
}

#[tokio::test]
async fn a_round_trip_over_three_ids_ends_at_the_first() {
    let storage = memory();
    let sessions = sessions(&storage);
    add(&sessions, "a", 1).await;
    for (old, new) in [("a", "b"), ("b", "c"), ("c", "a")] {
        sessions.move_key(old, new).await.unwrap();
        assert_eq!(stored(&storage, new).await.unwrap(), "[1]", "{old} -> {new}");
    }
    for key in ["a", "b", "c"] {
        assert_eq!(sessions.get(key).await.unwrap(), Some(vec![1]));
    }
}

#[tokio::test]
async fn a_moved_session_keeps_the_time_that_it_has_left() {
    let storage = memory();
    let sessions = set_up(&storage).lifetime(Lifetime::after_write(2 * HOUR)).build().unwrap();
    add(&sessions, "old", 1).await;
    storage.touch("chat:old", Expiry::After(HOUR)).await.unwrap();
    sessions.move_key("old", "new").await.unwrap();
    for key in ["old", "new"] {
        let Some(Expiry::After(left)) = sessions.ttl(key).await.unwrap() else {
            panic!("it has no end any more");
        };
        assert!(left <= HOUR && left > HOUR / 2, "{left:?}");
    }
    assert_eq!(storage.ttl("chat:old").await.unwrap(), Some(Expiry::Never), "the redirect");
}

#[tokio::test]
async fn a_session_that_expires_is_gone_under_both_ids_which_still_meet() {
    let storage = memory();
    let sessions = set_up(&storage).lifetime(Lifetime::after_write(HOUR)).build().unwrap();
    add(&sessions, "old", 1).await;
    sessions.move_key("old", "new").await.unwrap();
    storage.delete("chat:new").await.unwrap();
    assert_eq!(sessions.get("old").await.unwrap(), None);
    assert_eq!(sessions.ttl("old").await.unwrap(), None);
    add(&sessions, "old", 2).await;
    assert_eq!(sessions.get("new").await.unwrap(), Some(vec![2]));
}

#[tokio::test]
async fn redirects_expire_by_choice() {
    let storage = memory();
    let sessions = set_up(&storage).redirect_expiry(Expiry::After(HOUR)).build().unwrap();
    add(&sessions, "old", 1).await;
    sessions.move_key("old", "new").await.unwrap();
    let redirect = "chat:old";
    assert!(matches!(storage.ttl(redirect).await.unwrap(), Some(Expiry::After(left)) if left <= HOUR));
    assert_eq!(sessions.ttl("new").await.unwrap(), Some(Expiry::Never), "the session does not");

    storage.touch(redirect, Expiry::after_millis(1)).await.unwrap();
    until("the redirect expires", async || storage.read(redirect).await.unwrap().is_none()).await;
    assert_eq!(sessions.get("old").await.unwrap(), None);
    assert_eq!(sessions.get("new").await.unwrap(), Some(vec![1]));
    // The same move again has another id.
    sessions.move_key("old", "new").await.unwrap();
    assert_eq!(sessions.get("old").await.unwrap(), Some(vec![1]));
}

/// Also if the move happens between the read and the touch, and the use is dropped at any point after that.
#[tokio::test]
async fn using_a_session_does_not_change_the_expiry_of_redirects() {
    let lifetime = Lifetime::sliding(5 * HOUR).touch_every(Duration::ZERO);
    for versions in [Versions::Unique, Versions::Content] {
        for redirects in [Expiry::Never, Expiry::After(HOUR)] {
            let mut before = 0;
            loop {
                let mut done = false;
                for after in 0..4 {
                    let storage = memory();
                    let set_up = |builder: SessionsBuilder<Items>| {
                        builder.prefix("chat:").lifetime(lifetime).redirect_expiry(redirects).build().unwrap()
                    };
                    let ours = set_up(Sessions::builder().storage(&storage));
                    let stage = Stage::on(storage.clone(), versions);
                    let theirs = set_up(Sessions::builder().storage(stage.clone()));
                    add(&ours, "old", 1).await;
                    stage.direct(true);
                    let mut using = Box::pin(theirs.get("old"));
                    done = (0..before).any(|_| poll(using.as_mut()).is_ready());
                    ours.move_key("old", "new").await.unwrap();
                    let _ = !done && (0..after).any(|_| poll(using.as_mut()).is_ready());
                    drop(using);
                    let left = storage.ttl("chat:old").await.unwrap().unwrap();
                    assert!(left == redirects || left.earlier(redirects) == left, "{left:?}");
                    assert_eq!(redirects == Expiry::Never, left == Expiry::Never);
                    assert_eq!(ours.get("old").await.unwrap(), Some(vec![1]));
                }
                if done {
                    break;
                }
                before += 1;
            }
            assert!(before >= 2, "the move came between the read and the touch");
        }
    }
}

#[tokio::test]
async fn two_sessions_without_a_merge_are_a_conflict_that_changes_nothing() {
    let storage = memory();
    let sessions = sessions(&storage);
    add(&sessions, "old", 1).await;
    add(&sessions, "new", 2).await;
    assert_eq!(kind(sessions.move_key("old", "new").await), ErrorKind::Conflict);
    assert_eq!(stored(&storage, "old").await.unwrap(), "[1]");
    assert_eq!(stored(&storage, "new").await.unwrap(), "[2]");
}

#[tokio::test]
async fn two_sessions_are_merged() {
    let storage = memory();
    let merging = set_up(&storage).merge(|moving: Items, own| [moving, own].concat()).build().unwrap();
    add(&merging, "old", 1).await;
    add(&merging, "new", 2).await;
    merging.move_key("old", "new").await.unwrap();
    merging.move_key("old", "new").await.unwrap();
    assert_eq!(stored(&storage, "new").await.unwrap(), "[1,2]");
    assert_eq!(merging.get("old").await.unwrap(), Some(vec![1, 2]));
}

#[tokio::test]
async fn a_session_that_cannot_be_merged_changes_nothing() {
    let storage = memory();
    let merging = set_up(&storage).merge(|moving: Items, own| [moving, own].concat()).build().unwrap();
    add(&merging, "old", 1).await;
    let newer = "chat:new";
    storage.write(newer, r#"{"v":3,"__d":[2]}"#).expires_in(HOUR).await.unwrap();
    assert_eq!(kind(merging.move_key("old", "new").await), ErrorKind::VersionTooNew);
    assert_eq!(merging.get("old").await.unwrap(), Some(vec![1]));
    assert_eq!(stored(&storage, "new").await.unwrap(), r#"{"v":3,"__d":[2]}"#);
    assert!(matches!(storage.ttl(newer).await.unwrap(), Some(Expiry::After(_))));
    assert_eq!(stored(&storage, "old").await.unwrap(), "[1]");
}

/// Each step of a move, and the state after a crash at that step.
#[tokio::test]
async fn the_next_process_completes_an_unfinished_move() {
    for moved in [true, false] {
        for step in 1.. {
            let storage = memory();
            let stage = Stage::on(storage.clone(), Versions::Unique);
            let theirs: Sessions<Items> =
                Sessions::builder().storage(stage.clone()).prefix("chat:").build().unwrap();
            let ours = sessions(&storage);
            if moved {
                add(&ours, "old", 1).await;
            }
            stage.direct(true);
            let mut dying = Box::pin(theirs.move_key("old", "new"));
            let done = (0..step).any(|_| poll(dying.as_mut()).is_ready());
            drop(dying);

            let begun = stored(&storage, "new").await.is_some();
            if begun || done {
                add(&ours, "new", 2).await;
                add(&ours, "old", 3).await;
                let all = if moved { vec![1, 2, 3] } else { vec![2, 3] };
                for key in ["new", "old"] {
                    assert_eq!(ours.get(key).await.unwrap(), Some(all.clone()), "after step {step}");
                }
            }
            ours.move_key("old", "new").await.unwrap();
            let all = ours.get("old").await.unwrap();
            assert_eq!(ours.get("new").await.unwrap(), all);
            let text = all.map(|all: Items| serde_json::to_string(&all).unwrap());
            assert_eq!(stored(&storage, "new").await, text, "after step {step}");
            if done {
                break;
            }
        }
    }
}

#[tokio::test]
async fn everything_else_follows_the_redirects() {
    let storage = memory();
    let sessions = sessions(&storage);
    add(&sessions, "old", 1).await;
    sessions.move_key("old", "new").await.unwrap();

    sessions.update_lazy("old", async |session| session.modify(|items| items.push(2)).await).await.unwrap();
    assert_eq!(sessions.open_lazy("old").get().await.unwrap(), [1, 2]);
    let mut open = sessions.open("old").await.unwrap();
    assert_eq!(OpenSession::storage_key(&open).as_str(), "chat:new");
    open.push(3);
    OpenSession::save(open).await.unwrap();
    let last = set_up(&storage).conflicts(ConflictPolicy::LastWriteWins).build().unwrap();
    add(&last, "old", 4).await;
    let multi = Multi::new((
        Fragment::strict("one", sessions.clone()),
        Fragment::lazy("other", Sessions::<u32>::builder().storage(&storage).build().unwrap()),
    ));
    multi.update(("old", "other"), async |(mut one, _)| one.push(5)).await.unwrap();
    assert_eq!(stored(&storage, "new").await.unwrap(), "[1,2,3,4,5]");

    sessions.set("old", vec![9]).await.unwrap();
    assert_eq!(stored(&storage, "new").await.unwrap(), "[9]");
    let cleared = sessions.open_lazy("old");
    cleared.clear().unwrap();
    cleared.save().await.unwrap();
    assert_eq!(stored(&storage, "new").await, None);
    add(&sessions, "new", 1).await;
    assert!(sessions.delete("old").await.unwrap());
    assert!(!sessions.delete("old").await.unwrap());
    assert_eq!(stored(&storage, "new").await, None);
    add(&sessions, "old", 1).await;
    assert_eq!(stored(&storage, "new").await.unwrap(), "[1]", "the redirect is still there");
}

#[tokio::test]
async fn a_lease_under_either_id_is_one_lease() {
    let sessions = sessions(&memory());
    sessions.move_key("old", "new").await.unwrap();
    let lease = sessions.lock("old").await.unwrap();
    let mut other = Box::pin(sessions.lock("new"));
    assert!(poll(other.as_mut()).is_pending());
    drop(other);
    lease.release().await.unwrap();
    let _lease = crate::common::soon(sessions.lock("new")).await.unwrap();
}

#[tokio::test]
async fn named_values_move_too() {
    let kv = KvSessions::builder().storage(memory()).build().unwrap();
    kv.set("old", "pings", 1).await.unwrap();
    kv.sessions().move_key("old", "new").await.unwrap();
    kv.set("old", "pongs", 2).await.unwrap();
    assert_eq!(kv.get::<u32>("new", "pings").await.unwrap(), Some(1));
    assert_eq!(kv.all("new").await.unwrap().len(), 2);
}

#[tokio::test]
async fn listings_have_the_session_once_and_no_redirects() {
    let sessions = sessions(&memory());
    add(&sessions, "old", 1).await;
    add(&sessions, "other", 2).await;
    sessions.move_key("old", "new").await.unwrap();
    let mut all: Vec<_> = sessions.all().try_collect().await.unwrap();
    all.sort();
    assert_eq!(all, [("new".to_owned(), vec![1]), ("other".to_owned(), vec![2])]);
    let mut keys: Vec<_> = sessions.keys().try_collect().await.unwrap();
    keys.sort();
    assert_eq!(keys, ["new", "other"]);
}

#[tokio::test]
async fn a_session_is_listed_while_it_moves() {
    let storage = memory();
    let stage = Stage::on(storage.clone(), Versions::Unique);
    let theirs: Sessions<Items> = Sessions::builder().storage(stage.clone()).prefix("chat:").build().unwrap();
    let ours = sessions(&storage);
    add(&ours, "old", 1).await;
    stage.direct(true);
    let mut moving = Box::pin(theirs.move_key("old", "new"));
    while poll(moving.as_mut()).is_pending() {
        let all: Vec<_> = ours.all().try_collect().await.unwrap();
        assert!(!all.is_empty());
        // In the middle of the move it can be listed twice, with the same value.
        assert!(all.iter().all(|one| *one == all[0] && one.1 == [1]), "{all:?}");
    }
}

#[cfg(feature = "msgpack")]
#[tokio::test]
async fn sessions_in_another_codec_move_and_merge_too() {
    let storage = memory();
    let packed = set_up(&storage).codec(larder_core::MessagePack);
    let packed = packed.merge(|moving: Items, own| [moving, own].concat()).build().unwrap();
    add(&packed, "old", 1).await;
    add(&packed, "new", 2).await;
    packed.move_key("old", "new").await.unwrap();
    add(&packed, "old", 3).await;
    assert_eq!(packed.get("new").await.unwrap(), Some(vec![1, 2, 3]));
    let record = storage.read("chat:new").await.unwrap().unwrap();
    assert_eq!(record.value[..], [0x93, 1, 2, 3]);
}

#[tokio::test]
async fn a_storage_without_compare_and_swap_moves_nothing() {
    let storage = memory();
    let stage = Stage::on(storage.clone(), Versions::None);
    let sessions: Sessions<Items> = Sessions::builder()
        .storage(stage)
        .prefix("chat:")
        .conflicts(ConflictPolicy::LastWriteWins)
        .build()
        .unwrap();
    add(&sessions, "old", 1).await;
    assert_eq!(kind(sessions.move_key("old", "new").await), ErrorKind::Unsupported);
    assert_eq!(stored(&storage, "old").await.unwrap(), "[1]");
    assert_eq!(stored(&storage, "new").await, None);
}

#[tokio::test]
async fn a_late_departure_is_reverted() {
    // The write of a process that has read before the session moved there and back, in a store that uses the
    // value as the version.
    let storage = memory();
    let sessions = sessions(&storage);
    add(&sessions, "old", 1).await;
    let data = r#"{"data":"WzFd","timer":null}"#;
    let late = format!(
        r#"{{"__larder":{{"in_transit":{{"from":"chat:old","to":"chat:new","id":"1","trip":"2","data":{data}}}}}}}"#
    );
    storage.write("chat:old", late).await.unwrap();
    assert_eq!(sessions.get("old").await.unwrap(), Some(vec![1]));
    assert_eq!(stored(&storage, "old").await.unwrap(), "[1]");
    assert_eq!(sessions.get("new").await.unwrap(), None);
}

#[tokio::test]
async fn a_late_incoming_marker_is_cancelled() {
    let storage = memory();
    let sessions = sessions(&storage);
    sessions.move_key("a", "b").await.unwrap();
    sessions.move_key("b", "c").await.unwrap();
    let late = r#"{"__larder":{"expecting":{"from":"chat:a","id":"1","own":null}}}"#;
    storage.write("chat:c", late).await.unwrap();
    add(&sessions, "b", 1).await;
    for key in ["a", "b", "c"] {
        assert_eq!(sessions.get(key).await.unwrap(), Some(vec![1]), "{key}");
    }
}
