//! The operations that owners add.

#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod support;

use std::time::Duration;

use larder_bridge_tests::Steps;
use larder_core::{ErrorKind, Expiry};
use larder_web_sessions::Sessions;
use support::{HOUR, Visit, in_an_hour, sessions};

const MINUTE: Duration = Duration::from_secs(60);

const ID: &str = "BwAAAAAAAAAAAAAAAAAAAA";

#[tokio::test]
async fn owners_cost_a_load_and_a_save_nothing() {
    let steps = Steps::default();
    let sessions = sessions(steps.clone());
    assert!(sessions.insert(ID, &Visit::of("ann", 0), in_an_hour).await.unwrap());
    // The index, and then the session.
    assert_eq!(steps.take_calls(), ["read", "write if absent", "write if absent"]);
    for count in 1..=3 {
        // A session that does not live longer is never noted again. One that does is, about ten times per hour.
        let expiry = || Expiry::After(HOUR - count * MINUTE);
        sessions.find::<Visit>(ID).await.unwrap().unwrap();
        assert!(sessions.replace(ID, &Visit::of("ann", count.into()), expiry).await.unwrap());
        let shorter = Expiry::After(HOUR - count * MINUTE - MINUTE / 2);
        sessions.touch::<Visit>(ID, shorter).await.unwrap();
        assert_eq!(steps.take_calls(), ["read", "write if present", "touch"]);
    }
    assert!(sessions.replace(ID, &Visit::of("ann", 9), || Expiry::After(2 * HOUR)).await.unwrap());
    assert_eq!(steps.take_calls(), ["read", "write if present", "write if present"]);
    sessions.remove::<Visit>(ID).await.unwrap();
    assert_eq!(steps.take_calls(), ["read", "delete", "read", "delete if present"]);
}

#[tokio::test]
async fn a_list_reads_the_index_and_the_sessions() {
    let steps = Steps::default();
    let sessions = sessions(steps.clone()).with_max_per_owner(2);
    for number in 0..2 {
        let id = format!("{number:022}");
        assert!(sessions.insert(&id, &Visit::of("ann", 0), in_an_hour).await.unwrap());
        // Sixteen reads are one batch on a store that has batches: before the note, and after the write for the limit.
        let calls = steps.take_calls();
        assert_eq!(calls[..16], ["read"; 16]);
        assert_eq!(calls[16..18], ["write if absent"; 2]);
        assert_eq!(calls[18..], ["read"; 16]);
    }
    assert_eq!(sessions.sessions_of::<Visit>("ann").await.unwrap().len(), 2);
    assert_eq!(steps.take_calls(), ["read"; 16 + 2]);
}

#[tokio::test]
async fn without_owners_there_is_no_index() {
    let steps = Steps::default();
    let sessions: Sessions<Visit> = Sessions::new(steps.clone()).unwrap().with_max_per_owner(1);
    assert!(sessions.insert(ID, &Visit::of("ann", 0), in_an_hour).await.unwrap());
    sessions.touch::<Visit>(ID, in_an_hour()).await.unwrap();
    assert!(sessions.replace(ID, &Visit::of("bob", 1), || Expiry::After(9 * HOUR)).await.unwrap());
    sessions.remove::<Visit>(ID).await.unwrap();
    assert_eq!(steps.take_calls(), ["write if absent", "touch", "write if present", "delete"]);
    // A revocation that finds no index must not seem to succeed.
    let outcomes = [
        sessions.sessions_of::<Visit>("ann").await.map(drop),
        sessions.delete_of::<Visit>("ann", |_| true).await.map(drop),
    ];
    for outcome in outcomes {
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Unsupported);
    }
}
