//! Laws of owners on every adapter.

#![allow(clippy::panic, clippy::unwrap_used)] // A case fails by panicking.

mod support;

use std::time::{Duration, SystemTime};

use futures_util::TryStreamExt;
use larder_bridge_tests::{Stores, on_every_adapter};
use larder_core::{ErrorKind, Expiry, Key};
use larder_testkit::{Handle, Must, Suite, Target, race, until};
use larder_web_sessions::{Sessions, handle};
use support::{HOUR, Visit, in_an_hour};

fn main() {
    on_every_adapter(cases).main()
}

fn cases(suite: Suite<Stores>) -> Suite<Stores> {
    suite
        .without_laws()
        .case("the_sessions_of_an_owner_are_listed", |context| listed(context.target))
        .case("a_session_is_listed_for_its_present_owner_only", |context| changes_owner(context.target))
        .case("any_text_is_an_owner_a_device_and_a_prefix", |context| any_text(context.target))
        .case("the_sessions_of_an_owner_are_deleted", |context| deleted(context.target))
        .case("a_session_of_another_owner_is_not_deleted", |context| of_others(context.target))
        .case("an_owner_has_at_most_the_maximum_number_of_sessions", |context| limited(context.target))
        .case("a_save_does_not_restore_a_revoked_session", |context| saved_after_revocation(context.target))
        .case("concurrent_saves_do_not_restore_revoked_sessions", |context| racing(context.target))
        .case("concurrent_sign_ins_are_all_listed", |context| racing_sign_ins(context.target))
        .case("a_logout_leaves_nothing", |context| logged_out(context.target))
        .case("the_index_lasts_as_long_as_the_session", |context| lasting(context.target))
        .case("the_index_of_a_session_that_was_never_written_expires", |context| abandoned(context.target))
        .case("an_unreadable_session_is_deleted_with_its_owner", |context| unreadable(context.target))
        .case("data_of_another_program_in_the_index_are_an_error_and_unchanged", |context| {
            foreign(context.target)
        })
        .case("sessions_are_listed_once_while_they_move", |context| migrating(context.target))
}

async fn open(target: &Target) -> (Handle, Sessions<Visit>) {
    let handle = target.open().await;
    let sessions = support::sessions((*handle).clone());
    (handle, sessions)
}

fn id(number: usize) -> String {
    format!("{number:022}")
}

/// Creates a session. The next one is created in another millisecond, because sessions are listed in this order.
async fn sign_in(sessions: &Sessions<Visit>, number: usize, visit: Visit) {
    assert!(sessions.insert(&id(number), &visit, in_an_hour).await.must("insert"));
    let now = SystemTime::now();
    let passed = || async { now.elapsed().is_ok_and(|passed| passed > Duration::from_millis(1)) };
    until("the next millisecond", HOUR, passed).await;
}

/// Returns the numbers of the listed sessions, of the first hundred.
async fn numbers(sessions: &Sessions<Visit>, owner: &str) -> Vec<usize> {
    let listed = sessions.sessions_of::<Visit>(owner).await.must("list");
    let number = |at: &str| (0..100).find(|number| handle(&id(*number)) == at).must("find the number");
    listed.iter().map(|session| number(session.handle())).collect()
}

async fn revoke(sessions: &Sessions<Visit>, owner: &str) -> u64 {
    sessions.delete_of::<Visit>(owner, |_| true).await.must("revoke")
}

async fn exists(sessions: &Sessions<Visit>, number: usize) -> bool {
    sessions.find::<Visit>(&id(number)).await.must("find").is_some()
}

/// Returns the keys of the index.
async fn index(handle: &Handle) -> Vec<Key> {
    handle.keys("larder:owner:").try_collect().await.must("list the index")
}

async fn listed(target: Target) {
    let (_, sessions) = open(&target).await;
    let before = SystemTime::now() - Duration::from_millis(1);
    for (number, device) in ["Firefox on Linux", "Safari on iOS"].into_iter().enumerate() {
        sign_in(&sessions, number, Visit::of("ann", 1).on(device)).await;
    }
    sign_in(&sessions, 2, Visit::of("名前:%", 1)).await;
    sign_in(&sessions, 3, Visit::new(1)).await;
    let ann = sessions.sessions_of::<Visit>("ann").await.must("list");
    let devices: Vec<_> = ann.iter().filter_map(|session| session.device()).collect();
    assert_eq!(devices, ["Firefox on Linux", "Safari on iOS"]);
    for session in &ann {
        assert!(session.created() >= before && session.used() >= session.created());
        assert!(session.used() <= SystemTime::now());
        assert!(
            !format!("{session:?}").contains(session.handle()) && !format!("{session:?}").contains("Linux")
        );
    }
    assert_eq!(numbers(&sessions, "ann").await, [0, 1]);
    assert_eq!(numbers(&sessions, "名前:%").await, [2]);
    assert!(numbers(&sessions, "bob").await.is_empty());
}

async fn changes_owner(target: Target) {
    let (_, sessions) = open(&target).await;
    sign_in(&sessions, 0, Visit::new(1)).await;
    for owner in ["ann", "bob"] {
        assert!(sessions.replace(&id(0), &Visit::of(owner, 2), in_an_hour).await.must("replace"));
        assert_eq!(numbers(&sessions, owner).await, [0]);
    }
    assert!(numbers(&sessions, "ann").await.is_empty());
    assert_eq!(revoke(&sessions, "ann").await, 0);
    assert!(sessions.replace(&id(0), &Visit::new(3), in_an_hour).await.must("replace"));
    assert_eq!(revoke(&sessions, "bob").await, 0);
    assert!(exists(&sessions, 0).await);
}

async fn any_text(target: Target) {
    let (handle, _) = open(&target).await;
    let (long, device) = ("名".repeat(4_000), "名\0\n".repeat(20_000));
    for store in [(*handle).clone(), handle.namespace("#part:").unwrap()] {
        for prefix in ["", "#", "shop#:"] {
            let sessions = support::sessions(&store).with_prefix(prefix, &id(0)).must("set the prefix");
            for owner in ["", " ", "\0\n\u{7f}", ":%#", &long] {
                sign_in(&sessions, 0, Visit::of(owner, 1).on(&device)).await;
                let [listed] = &sessions.sessions_of::<Visit>(owner).await.must("list")[..] else {
                    panic!("one session")
                };
                assert!(listed.device().is_some_and(|text| device.starts_with(text)));
                assert_eq!(revoke(&sessions, owner).await, 1);
            }
        }
    }
    assert!(handle.listed("").await.is_empty(), "nothing remains");
}

async fn deleted(target: Target) {
    let (handle_, sessions) = open(&target).await;
    for number in 0..5 {
        sign_in(&sessions, number, Visit::of("ann", 1)).await;
    }
    let delete = async |which: &(dyn Fn(&str) -> bool + Sync)| {
        sessions.delete_of::<Visit>("ann", which).await.must("delete")
    };
    let one = handle(&id(1));
    assert_eq!(delete(&|other| other == one).await, 1);
    assert_eq!(delete(&|other| other == one).await, 0);
    assert_eq!(numbers(&sessions, "ann").await, [0, 2, 3, 4]);
    let kept = handle(&id(3));
    assert_eq!(delete(&|other| other != kept).await, 3);
    assert_eq!(numbers(&sessions, "ann").await, [3]);
    assert!(exists(&sessions, 3).await);
    assert_eq!(revoke(&sessions, "ann").await, 1);
    assert!(!exists(&sessions, 3).await);
    assert!(handle_.listed("").await.is_empty(), "nothing remains");
}

async fn of_others(target: Target) {
    let (_, sessions) = open(&target).await;
    sign_in(&sessions, 0, Visit::of("ann", 1)).await;
    sign_in(&sessions, 1, Visit::of("bob", 1)).await;
    let of_bob = handle(&id(1));
    assert_eq!(sessions.delete_of::<Visit>("ann", |other| other == of_bob).await.must("delete"), 0);
    assert_eq!(revoke(&sessions, "ann").await, 1);
    assert_eq!(numbers(&sessions, "bob").await, [1]);
}

async fn limited(target: Target) {
    let (_, sessions) = open(&target).await;
    let sessions = sessions.with_max_per_owner(3);
    for number in 0..6 {
        sign_in(&sessions, number, Visit::of("ann", 1)).await;
    }
    assert_eq!(numbers(&sessions, "ann").await, [3, 4, 5]);
    assert!(!exists(&sessions, 2).await);
    // A guest that signs in, and a session that is only saved.
    sign_in(&sessions, 6, Visit::new(1)).await;
    assert_eq!(numbers(&sessions, "ann").await, [3, 4, 5]);
    for visit in [Visit::of("ann", 1), Visit::of("ann", 2)] {
        assert!(sessions.replace(&id(6), &visit, in_an_hour).await.must("replace"));
        assert_eq!(numbers(&sessions, "ann").await, [4, 5, 6]);
    }
}

async fn saved_after_revocation(target: Target) {
    let (handle, sessions) = open(&target).await;
    let another_process = support::sessions((*handle).clone());
    sign_in(&sessions, 0, Visit::of("ann", 1)).await;
    assert!(exists(&another_process, 0).await);
    assert_eq!(revoke(&sessions, "ann").await, 1);
    for process in [&sessions, &another_process] {
        assert!(!process.replace(&id(0), &Visit::of("ann", 2), in_an_hour).await.must("replace"));
        process.touch::<Visit>(&id(0), in_an_hour()).await.must("touch");
        assert!(!exists(process, 0).await);
    }
    assert!(handle.listed("session:").await.is_empty());
}

async fn racing(target: Target) {
    let (handle, sessions) = open(&target).await;
    for number in 0..4 {
        sign_in(&sessions, number, Visit::of("ann", 1)).await;
    }
    race(6, |task| {
        // Each process remembers only what itself has seen.
        let sessions = support::sessions((*handle).clone());
        async move {
            if task == 2 {
                revoke(&sessions, "ann").await;
                return;
            }
            for count in 1..=10 {
                // With another time to live, the index is written too.
                let expiry = || Expiry::After(u32::try_from(count).unwrap() * HOUR);
                for number in 0..4 {
                    let visit = Visit::of("ann", count);
                    if sessions.replace(&id(number), &visit, expiry).await.must("replace") {
                        sessions.touch::<Visit>(&id(number), expiry()).await.must("touch");
                    }
                }
            }
        }
    })
    .await;
    for number in 0..4 {
        assert!(!exists(&sessions, number).await, "a revoked session has returned");
    }
    assert!(numbers(&sessions, "ann").await.is_empty());
}

async fn racing_sign_ins(target: Target) {
    let (_, sessions) = open(&target).await;
    race(12, |number| {
        let sessions = sessions.clone();
        async move { sign_in(&sessions, number, Visit::of("ann", 1)).await }
    })
    .await;
    let mut found = numbers(&sessions, "ann").await;
    found.sort_unstable();
    assert_eq!(found, (0..12).collect::<Vec<_>>());
    assert_eq!(revoke(&sessions, "ann").await, 12);
}

async fn logged_out(target: Target) {
    let (handle, sessions) = open(&target).await;
    let another_process = support::sessions((*handle).clone());
    for process in [&sessions, &another_process] {
        sign_in(&sessions, 0, Visit::of("ann", 1)).await;
        process.remove::<Visit>(&id(0)).await.must("remove");
        assert!(handle.listed("").await.is_empty(), "nothing remains");
    }
}

async fn lasting(target: Target) {
    let (handle, sessions) = open(&target).await;
    sign_in(&sessions, 0, Visit::of("ann", 1)).await;
    for days in [1, 10] {
        let (first, second) = (Expiry::After(days * 24 * HOUR), Expiry::After(days * 48 * HOUR));
        assert!(sessions.replace(&id(0), &Visit::of("ann", 1), || first).await.must("replace"));
        sessions.touch::<Visit>(&id(0), second).await.must("touch");
        let [entry] = &index(&handle).await[..] else { panic!("one entry") };
        let Some(Expiry::After(left)) = handle.ttl(entry).await.must("ttl") else { panic!("it expires") };
        assert!(left >= days * 48 * HOUR && left < days * 72 * HOUR, "{left:?}");
    }
}

/// A process can end between the note and the write.
async fn abandoned(target: Target) {
    let (handle, sessions) = open(&target).await;
    sign_in(&sessions, 0, Visit::of("ann", 1)).await;
    handle.delete(format!("session:#{}", larder_web_sessions::handle(&id(0)))).await.must("delete");
    assert!(numbers(&sessions, "ann").await.is_empty());
    assert_eq!(revoke(&sessions, "ann").await, 0);
    let [entry] = &index(&handle).await[..] else { panic!("one entry") };
    let left = handle.ttl(entry).await.must("ttl");
    assert!(matches!(left, Some(Expiry::After(left)) if left > HOUR && left < 2 * HOUR), "{left:?}");
}

async fn unreadable(target: Target) {
    let (handle, sessions) = open(&target).await;
    sign_in(&sessions, 0, Visit::of("ann", 1)).await;
    let key = Key::new(format!("session:#{}", larder_web_sessions::handle(&id(0)))).unwrap();
    handle.put(&key, &handle.value("zoe")).await;
    assert_eq!(numbers(&sessions, "ann").await, [0]);
    assert_eq!(revoke(&sessions, "ann").await, 1);
    handle.lacks(&key, "after it was revoked").await;
}

async fn foreign(target: Target) {
    let (handle, sessions) = open(&target).await;
    sign_in(&sessions, 0, Visit::of("ann", 1)).await;
    let [entry] = &index(&handle).await[..] else { panic!("one entry") };
    let value = handle.value("zoe");
    handle.put(entry, &value).await;
    let errors = [
        sessions.sessions_of::<Visit>("ann").await.map(drop),
        sessions.delete_of::<Visit>("ann", |_| true).await.map(drop),
        sessions.replace(&id(0), &Visit::of("ann", 2), || Expiry::After(99 * HOUR)).await.map(drop),
    ];
    for outcome in errors {
        let error = outcome.map(|()| panic!("no error")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Codec);
        assert!(
            !format!("{error} {error:?}").contains("zoe") && !error.to_string().contains("ann"),
            "{error}"
        );
    }
    handle.holds(entry, &value, "the entry of another program").await;
    assert_eq!(sessions.find::<Visit>(&id(0)).await.must("find"), Some(Visit::of("ann", 1)));
    // A logout is final.
    sessions.remove::<Visit>(&id(0)).await.must("remove");
    assert!(!exists(&sessions, 0).await);
    // The other entries of the index are used.
    let mut number = 1;
    for sessions in [sessions.clone(), sessions.migrating_plain_ids()] {
        while sessions.insert(&id(number), &Visit::of("ann", 1), in_an_hour).await.is_err() {
            number += 1;
            assert!(number < 100, "no other entry is used");
        }
        assert!(sessions.delete_of::<Visit>("ann", |_| true).await.is_err());
        assert!(!exists(&sessions, number).await, "it was noted in another entry");
    }
}

async fn migrating(target: Target) {
    let (handle, sessions) = open(&target).await;
    let (plain, migrating) = (sessions.clone().with_plain_ids(), sessions.migrating_plain_ids());
    for number in 0..3 {
        sign_in(&plain, number, Visit::of("ann", 1)).await;
    }
    assert_eq!(numbers(&plain, "ann").await, [0, 1, 2]);
    assert_eq!(numbers(&migrating, "ann").await, [0, 1, 2]);
    assert!(migrating.replace(&id(0), &Visit::of("ann", 2), in_an_hour).await.must("replace"));
    migrating.touch::<Visit>(&id(1), Expiry::After(9 * HOUR)).await.must("touch");
    let mut found = numbers(&migrating, "ann").await;
    found.sort_unstable();
    assert_eq!(found, [0, 1, 2]);
    let moved = larder_web_sessions::handle(&id(0));
    assert_eq!(migrating.delete_of::<Visit>("ann", |other| other == moved).await.must("delete"), 1);
    assert_eq!(revoke(&migrating, "ann").await, 2);
    assert!(handle.listed("").await.is_empty(), "nothing remains");
}
