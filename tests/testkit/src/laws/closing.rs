//! Closing a store.

use futures_util::StreamExt;
use larder_core::{Change, Error, ErrorKind, Expiry, ReadOptions, Version};

use super::key;
use crate::{Must, Target};

laws![after_close_every_call_is_refused, closing_twice_succeeds, closing_a_handle_keeps_entries];

/// After a close, every operation on every clone of the handle fails with `Closed`. Nothing is reported as absent,
/// empty or done.
pub async fn after_close_every_call_is_refused(target: Target) {
    let handle = target.open().await;
    let clone = handle.clone();
    let (one, value) = (key("one"), handle.value("x"));
    handle.put(&one, &value).await;
    let change = Change::put(one.clone(), value.clone(), Expiry::Never);
    handle.close().await.must("close");
    let never = Expiry::Never;
    let version = Version::unique();
    let outcomes = [
        ("read", clone.read(&one).await.err()),
        ("write", clone.write(&one, value.clone()).await.err()),
        ("delete", clone.delete(&one).await.err()),
        ("write if absent", clone.write(&one, value).if_absent().await.err()),
        ("delete if at a version", clone.delete(&one).if_at(version).await.err()),
        ("touch", clone.touch(&one, never).await.err()),
        ("ttl", clone.ttl(&one).await.err()),
        ("contains", clone.contains(&one).await.err()),
        (
            "read_many",
            clone
                .read_many(std::slice::from_ref(&one), &ReadOptions::new())
                .await
                .pop()
                .and_then(Result::err),
        ),
        ("apply", clone.apply(vec![change]).await.pop().and_then(Result::err)),
        ("keys", clone.keys("").next().await.and_then(Result::err)),
        ("entries", clone.entries("").next().await.and_then(Result::err)),
        ("clear", clone.clear("").await.err()),
        ("purge_expired", clone.purge_expired().await.err()),
        ("ping", clone.ping().await.err()),
        ("flush", clone.flush().await.err()),
    ];
    for (operation, error) in outcomes {
        let error: Error = error.must(&format!("the error of {operation} after a close"));
        assert_eq!(error.kind(), ErrorKind::Closed, "{operation} after a close failed with another kind");
    }
}

/// A second close succeeds and does nothing, also through a clone and concurrently.
pub async fn closing_twice_succeeds(target: Target) {
    let handle = target.open().await;
    handle.put(&key("one"), &handle.value("x")).await;
    let (first, second) = futures_util::future::join(handle.close(), handle.clone().close()).await;
    first.must("close");
    second.must("close at the same time");
    handle.close().await.must("close again");
    // A handle that was never used can also be closed.
    target.open().await.close().await.must("close of a handle that was never used");
}

/// A persistent store keeps all acknowledged writes when it is closed and opened again.
pub async fn closing_a_handle_keeps_entries(target: Target) {
    let handle = target.open().await;
    if !handle.info().persistent {
        target.ignore("the store does not claim to be persistent");
        return;
    }
    for round in 0..3 {
        let handle = target.open().await;
        let value = handle.value(&format!("round {round}"));
        handle.put(&key("one"), &value).await;
        handle.put(&key(&format!("of-{round}")), &value).await;
        let handle = target.reopen(handle).await;
        handle.holds(&key("one"), &value, "read after a close").await;
        for earlier in 0..=round {
            let value = handle.value(&format!("round {earlier}"));
            handle.holds(&key(&format!("of-{earlier}")), &value, "read after a close").await;
        }
    }
}
