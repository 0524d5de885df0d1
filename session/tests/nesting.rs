//! An update within an update of the same session, through other `Sessions` on the same store.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

mod common;

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use larder_core::Store;
use larder_session::{ConflictPolicy, ErrorKind, Fragment, Multi, Sessions};
use serde_json::json;

use common::{Counting, kind, soon};

fn two(one: impl Into<Store>, other: impl Into<Store>) -> (Sessions<u32>, Sessions<u32>) {
    (Sessions::new(one).unwrap(), Sessions::new(other).unwrap())
}

#[tokio::test]
async fn nested_update_through_other_sessions_on_one_storage_is_refused_before_it_runs() {
    let storage = Store::new(Counting::new());
    let (outer, inner) = two(&storage, &storage);
    let runs = AtomicUsize::new(0);
    let nested = async |mut number: larder_session::Session<u32>| {
        *number += 1;
        let handler = async |mut number: larder_session::Session<u32>| {
            runs.fetch_add(1, Ordering::Relaxed);
            *number += 1;
        };
        assert_eq!(kind(soon(inner.update(1, handler)).await), ErrorKind::Unsupported);
        assert_eq!(kind(soon(inner.set(1, 5)).await), ErrorKind::Unsupported);
        soon(inner.update(2, async |mut number| *number += 1)).await
    };
    outer.update(1, nested).await.unwrap();
    assert_eq!(runs.into_inner(), 0);
    assert_eq!((outer.get(1).await.unwrap(), outer.get(2).await.unwrap()), (Some(1), Some(1)));
}

#[tokio::test]
async fn nested_update_through_another_handle_on_the_store_runs_once_and_is_an_error() {
    let storage = Counting::new();
    let (outer, inner) = two(storage.clone(), storage);
    let runs = AtomicUsize::new(0);
    let add = async |mut number: larder_session::Session<u32>| {
        runs.fetch_add(1, Ordering::Relaxed);
        *number += 1;
    };
    let nested = async |mut number: larder_session::Session<u32>| {
        *number += 1;
        soon(inner.update(1, add)).await
    };
    let error = outer.update(1, nested).await.unwrap_err();
    assert_eq!((error.kind(), runs.load(Ordering::Relaxed)), (ErrorKind::Unsupported, 1));
    assert!(error.message().contains("handler"), "{error}");

    let nested = async |number: larder_session::LazySession<u32>| {
        number.modify(|number| *number += 1).await?;
        soon(inner.update(1, add)).await
    };
    let error = outer.update_lazy(1, nested).await.unwrap_err();
    assert_eq!((error.kind(), runs.load(Ordering::Relaxed)), (ErrorKind::Unsupported, 2));

    // Deleted by the nested call, it is absent when the handler runs again.
    let nested = async |mut number: larder_session::Session<u32>| {
        *number += 1;
        soon(inner.delete(1)).await.map(drop)
    };
    outer.update(1, nested).await.unwrap();
    assert_eq!(outer.get(1).await.unwrap(), Some(1));

    runs.store(0, Ordering::Relaxed);
    let others: Sessions<u32> = Sessions::new(Counting::new()).unwrap();
    let multi = Multi::new((Fragment::strict("number", outer), Fragment::strict("other", others)));
    let nested =
        async |(mut number, _other): (larder_session::Session<u32>, larder_session::Session<u32>)| {
            *number += 1;
            soon(inner.update(1, add)).await
        };
    let error = multi.update((1, 1), nested).await.unwrap_err();
    assert_eq!((error.kind(), runs.into_inner()), (ErrorKind::Unsupported, 1));
}

#[tokio::test]
async fn nested_update_is_a_conflict_where_conflicts_fail() {
    let storage = Counting::new();
    let builder = Sessions::<u32>::builder().storage(storage.clone()).conflicts(ConflictPolicy::Fail);
    let (outer, inner) = (builder.build().unwrap(), Sessions::<u32>::new(storage).unwrap());
    let nested = async |mut number: larder_session::Session<u32>| {
        *number += 1;
        soon(inner.set(1, 9)).await
    };
    assert_eq!(kind(outer.update(1, nested).await), ErrorKind::Conflict);
    assert_eq!(outer.get(1).await.unwrap(), Some(9));
}

#[tokio::test]
async fn a_nested_update_in_another_store_is_another_session() {
    let storage = Counting::new();
    let (outer, inner) = two(storage.clone(), Counting::new());
    let runs = AtomicUsize::new(0);
    // One conflict with another process: the handler runs again.
    storage.overtake("1", json!(10));
    let nested = async |mut number: larder_session::Session<u32>| {
        runs.fetch_add(1, Ordering::Relaxed);
        *number += 1;
        soon(inner.update(1, async |mut number| *number += 1)).await
    };
    outer.update(1, nested).await.unwrap();
    assert_eq!(runs.into_inner(), 2);
    assert_eq!((outer.get(1).await.unwrap(), inner.get(1).await.unwrap()), (Some(11), Some(2)));
}

#[tokio::test]
async fn fragments_of_other_sessions_that_are_one_session_are_refused() {
    let storage = Store::new(Counting::new());
    let (one, other) = two(&storage, &storage);
    let multi = Multi::new((Fragment::strict("one", one), Fragment::strict("other", other)));
    let refused = multi.update((1, 1), async |(mut one, _other)| *one += 1).await;
    assert_eq!(kind(refused), ErrorKind::InvalidConfig);
}

#[tokio::test]
async fn an_update_that_waits_for_its_own_task_times_out_with_a_hint() {
    let sessions: Sessions<u32> = Sessions::builder()
        .storage(Counting::new())
        .queue_timeout(Duration::from_millis(50))
        .conflicts(ConflictPolicy::Fail)
        .build()
        .unwrap();
    let nested = async |_| {
        let within = sessions.clone();
        let spawned = tokio::spawn(async move { within.update(1, async |mut number| *number += 1).await });
        soon(spawned).await.unwrap()
    };
    let error = sessions.update(1, nested).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.message().contains("task"), "{error}");
}
