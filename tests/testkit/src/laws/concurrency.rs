//! Concurrent callers, and cancelled calls.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use larder_core::{Change, ErrorKind, Expiry, Key, ReadOptions, Record};

use super::key;
use crate::{Handle, Must, Target, abandon, claims::Ability, race};

laws![
    concurrent_writers_never_mix_values,
    concurrent_tasks_see_their_own_writes,
    cancelled_writes_leave_the_old_or_the_new_value,
    cancelled_conditional_writes_leave_the_old_or_the_new_value,
    cancelled_batches_leave_old_or_new_values,
    cancelled_deletes_leave_the_entry_or_none,
    cancelled_reads_do_not_mix_up_answers,
    a_cancelled_call_does_not_affect_others,
];

/// Returns the index of the candidate that was read.
fn which(handle: &Handle, record: &Record, candidates: &[Bytes], what: &str) -> usize {
    let found = candidates.iter().position(|candidate| handle.same(&record.value, candidate));
    let Some(found) = found else {
        panic!("{what}: the read value, of {} bytes, was never written", record.value.len());
    };
    found
}

/// If several tasks write large values of different lengths under one key, readers see one complete value.
pub async fn concurrent_writers_never_mix_values(target: Target) {
    let handle = target.open().await;
    let (key, writers) = (key("one"), 4);
    let lengths = [20_000, 70_000, 33_000, 50_000];
    let values: Arc<Vec<Bytes>> =
        Arc::new(lengths.iter().zip(0..).map(|(&length, seed)| handle.bulk(length, seed)).collect());
    handle.put(&key, &values[0]).await;
    let done = Arc::new(AtomicBool::new(false));
    let readers = {
        let (handle, key, values, done) =
            (target.open().await, key.clone(), Arc::clone(&values), Arc::clone(&done));
        tokio::spawn(crate::guard::guarded(async move {
            while !done.load(Ordering::Acquire) {
                let record = handle.read(&key).await.must("read during writes").must("read during writes");
                which(&handle, &record, &values, "read during writes");
                let many = handle.read_all(std::slice::from_ref(&key), "read_many during writes").await;
                let record = many.into_iter().next().flatten().must("read_many during writes");
                which(&handle, &record, &values, "read_many during writes");
                tokio::task::yield_now().await;
            }
        }))
    };
    let times = target.count(25, 8);
    race(writers, |index| {
        let (handle, key, values) = (handle.clone(), key.clone(), Arc::clone(&values));
        async move {
            for round in 0..times {
                let value = &values[(index + round) % values.len()];
                if round % 3 == 2 {
                    let put = Change::put(key.clone(), value.clone(), Expiry::Never);
                    handle.apply_all(vec![put], "write in a batch").await;
                } else {
                    handle.put(&key, value).await;
                }
                let record = handle.read(&key).await.must("read between writes").must("read between writes");
                which(&handle, &record, &values, "read between writes");
            }
        }
    })
    .await;
    done.store(true, Ordering::Release);
    if let Err(message) = readers.await.must("read during writes") {
        panic!("{message}");
    }
    let last = handle.read(&key).await.must("read").must("read");
    which(&handle, &last, &values, "read after all writes");
}

/// Many concurrent tasks with different keys each see their own writes and deletions immediately.
pub async fn concurrent_tasks_see_their_own_writes(target: Target) {
    let handle = target.open().await;
    let rounds = target.count(20, 4);
    race(24, |index| {
        let handle = handle.clone();
        async move {
            let key = key(&format!("of-{index}"));
            for round in 0..rounds {
                let value = handle.value(&format!("{index}, {round}"));
                handle.put(&key, &value).await;
                handle.holds(&key, &value, "read of the task's own write").await;
                if round % 3 == 2 {
                    let there = handle.delete(&key).await.must("delete");
                    assert!(there, "a delete of the task's own entry returned false");
                    handle.lacks(&key, "read after the task's own delete").await;
                }
            }
        }
    })
    .await;
}

/// Runs `future` for some polls or milliseconds, depending on the round, and drops it. Returns its output if it was
/// ready.
async fn cancelled<F: IntoFuture>(future: F, round: usize) -> Option<F::Output> {
    let future = future.into_future();
    match round % 3 {
        0 => {
            let limit = Duration::from_millis((round / 3 % 4) as u64);
            tokio::time::timeout(limit, future).await.ok()
        }
        // Drops it at its first wait, for example after sending a request or while waiting for a lock.
        1 => abandon(future, 1).await,
        _ => abandon(future, round % 8).await,
    }
}

/// After the future of a write was dropped, a read returns the complete old or new value, and later writes work.
pub async fn cancelled_writes_leave_the_old_or_the_new_value(target: Target) {
    let handle = target.open().await;
    let key = key("one");
    let mut values = vec![handle.bulk(3000, 0)];
    handle.put(&key, &values[0]).await;
    for round in 1..target.count(80, 24) {
        let value = handle.bulk(2000 + 500 * (round % 9), round as u64);
        values.push(value.clone());
        let acknowledged = cancelled(handle.write(&key, value), round).await;
        let record = handle.read(&key).await.must("read after a cancelled write");
        let record = record.must("an entry after a cancelled write of another value");
        which(&handle, &record, &values, "read after a cancelled write");
        if let Some(outcome) = acknowledged {
            outcome.must("write");
        }
    }
    let elsewhere = super::key("elsewhere");
    handle.put(&elsewhere, &handle.value("x")).await;
    handle.holds(&elsewhere, &handle.value("x"), "read of another key after cancelled writes").await;
}

/// The same holds for conditional writes. The version that a read returns can be used in the next conditional write.
pub async fn cancelled_conditional_writes_leave_the_old_or_the_new_value(target: Target) {
    let handle = target.open().await;
    if !target.claims(&handle, Ability::Conditions).await {
        return;
    }
    let key = key("one");
    let mut values = vec![handle.bulk(3000, 0)];
    handle.put(&key, &values[0]).await;
    for round in 1..target.count(60, 24) {
        let record = handle.read(&key).await.must("read").must("read");
        which(&handle, &record, &values, "read after a cancelled conditional write");
        let version = record.version.must("take the version of a record");
        let value = handle.bulk(2000 + 500 * (round % 9), round as u64);
        values.push(value.clone());
        let write = handle.write(&key, value).if_at(version);
        match cancelled(write, round).await {
            None | Some(Ok(_)) => {}
            // A write that was cancelled earlier may take effect late.
            Some(Err(error)) => assert_eq!(error.kind(), ErrorKind::Conflict, "conditional write: {error}"),
        }
    }
}

/// After the future of a batch was dropped, each entry has its complete old or new value.
pub async fn cancelled_batches_leave_old_or_new_values(target: Target) {
    let handle = target.open().await;
    let keys: Vec<Key> = (0..40).map(|index| key(&format!("batch-{index}"))).collect();
    let batch = |value: &Bytes| -> Vec<Change> {
        keys.iter().map(|key| Change::put(key.clone(), value.clone(), Expiry::Never)).collect()
    };
    let mut values = vec![handle.bulk(600, 0)];
    handle.apply_all(batch(&values[0]), "write a batch").await;
    for round in 1..target.count(24, 10) {
        let value = handle.bulk(300 + 100 * (round % 7), round as u64);
        values.push(value.clone());
        for outcome in cancelled(handle.apply(batch(&value)), round).await.unwrap_or_default() {
            outcome.must("write in a batch");
        }
        for record in handle.read_all(&keys, "read_many after a cancelled batch").await {
            let record = record.must("an entry after a cancelled batch of other values");
            which(&handle, &record, &values, "read after a cancelled batch");
        }
    }
}

/// After the future of a deletion was dropped, the entry is unchanged or absent.
pub async fn cancelled_deletes_leave_the_entry_or_none(target: Target) {
    let handle = target.open().await;
    for round in 0..target.count(40, 16) {
        let key = key(&format!("deleted-{round}"));
        let value = handle.bulk(1000, round as u64);
        handle.put(&key, &value).await;
        let acknowledged = cancelled(handle.delete(&key), round).await;
        let record = handle.read(&key).await.must("read after a cancelled delete");
        if let Some(record) = &record {
            assert!(
                handle.same(&record.value, &value),
                "the value after a cancelled delete was never written"
            );
            assert!(acknowledged.is_none(), "the entry exists after an acknowledged delete");
        }
    }
}

/// After the futures of reads were dropped, later reads receive their own answers.
pub async fn cancelled_reads_do_not_mix_up_answers(target: Target) {
    let handle = target.open().await;
    let keys: Vec<Key> = (0..8).map(|index| key(&format!("read-{index}"))).collect();
    let values: Vec<Bytes> = (0..8).map(|index| handle.bulk(500 + 4000 * index as usize, index)).collect();
    for (key, value) in keys.iter().zip(&values) {
        handle.put(key, value).await;
    }
    for round in 0..target.count(120, 40) {
        let (dropped, asked) = (round % 8, (round * 3 + 1) % 8);
        drop(cancelled(handle.read(&keys[dropped]), round).await);
        if round % 4 == 0 {
            drop(cancelled(handle.read_many(&keys, &ReadOptions::new()), round).await);
        }
        handle.holds(&keys[asked], &values[asked], "read after another one was cancelled").await;
        let there = handle.contains(&key("missing")).await.must("contains");
        assert!(!there, "contains is true for a missing key after a read was cancelled");
    }
}

/// If the futures of some concurrent writes are dropped at various points, all other writes succeed and can be read.
pub async fn a_cancelled_call_does_not_affect_others(target: Target) {
    let handle = target.open().await;
    for round in 0..target.count(12, 4) {
        race(24, |index| {
            let handle = handle.clone();
            async move {
                let key = key(&format!("{round}-{index}"));
                let value = handle.bulk(200 + index, (round * 24 + index) as u64);
                if index % 3 == 0 {
                    drop(cancelled(handle.write(&key, value), round + index).await);
                } else {
                    handle.put(&key, &value).await;
                    handle.holds(&key, &value, "read of a write during cancelled ones").await;
                }
            }
        })
        .await;
    }
}
