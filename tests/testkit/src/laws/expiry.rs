//! Time to live: entries expire in time, and not earlier.

use std::time::{Duration, Instant};

use larder_core::{ErrorKind, Expiry, Key};

use super::key;
use crate::{Fails, Handle, Lifetime, Must, Target, claims::Ability};

laws![
    without_expiry_a_time_to_live_is_unsupported,
    expires_within_milliseconds,
    expires_after_more_than_a_second,
    without_a_time_to_live_entries_stay,
    a_write_without_a_time_to_live_removes_the_expiry,
    a_write_replaces_the_time_to_live,
    a_time_to_live_of_zero_leaves_the_key_absent,
    conditional_write_with_a_time_to_live_of_zero_leaves_the_key_absent,
    a_time_to_live_of_centuries_is_kept,
    conditional_write_sets_the_time_to_live,
    a_conflict_leaves_the_time_to_live,
    ttl_returns_the_remaining_time,
    touch_extends,
    touch_shortens,
    touch_can_remove_the_expiry,
    touch_keeps_value_and_version,
    touch_of_a_missing_entry_returns_false,
    touch_with_a_time_to_live_of_zero_removes,
];

/// Long enough for a few round trips, and short enough to wait for.
const SHORT: Duration = Duration::from_millis(200);
const LONG: Expiry = Expiry::after_secs(3600);

/// Opens a handle, if its storage has expiry.
async fn expiring(target: &Target) -> Option<Handle> {
    let handle = target.open().await;
    target.claims(&handle, Ability::Expiry).await.then_some(handle)
}

async fn put_for(handle: &Handle, key: &Key, text: &str, ttl: Duration) -> Lifetime {
    let value = handle.value(text);
    let life = Lifetime::begin(ttl);
    handle.write(key, value).expiry(Expiry::After(ttl)).await.must("write with a time to live");
    life.written()
}

/// Waits until all entries that were written before with [`SHORT`] have expired.
async fn wait_short(handle: &Handle) {
    let key = key("waited-for");
    put_for(handle, &key, "x", SHORT).await.expires(handle, &key, "wait for a later entry").await;
}

async fn never_expires(handle: &Handle, key: &Key, what: &str) {
    let left = handle.ttl(key).await.must("ttl");
    assert_eq!(left, Some(Expiry::Never), "{what}: the ttl of an entry without expiry");
}

/// Runs `attempt`, which changes an entry before it expires. Repeats it with longer times to live until the machine
/// was fast enough.
async fn in_time<F: Future<Output = bool>>(mut attempt: impl FnMut(Duration, Key) -> F) {
    for millis in [300, 1500, 6000, 20_000] {
        if attempt(Duration::from_millis(millis), key(&format!("for-{millis}"))).await {
            return;
        }
    }
    panic!("20 s were not enough for two operations");
}

/// A storage without expiry rejects times to live, `touch` and `ttl` as unsupported, and does not change the old
/// entry.
pub async fn without_expiry_a_time_to_live_is_unsupported(target: Target) {
    let handle = target.open().await;
    if handle.info().expiry {
        target.ignore("the store claims expiry");
        return;
    }
    let old = handle.value("old");
    handle.put(&key("one"), &old).await;
    for expiry in [Expiry::after_secs(60), Expiry::After(Duration::ZERO)] {
        for name in ["one", "two"] {
            let write = handle.write(key(name), handle.value("new")).expiry(expiry).await;
            write.fails(ErrorKind::Unsupported, "write with a time to live");
        }
        let write = handle.write(key("two"), handle.value("new")).expiry(expiry).if_absent().await;
        write.fails(ErrorKind::Unsupported, "conditional write with a time to live");
        handle.touch(key("one"), expiry).await.fails(ErrorKind::Unsupported, "touch");
    }
    handle.ttl(&key("one")).await.fails(ErrorKind::Unsupported, "ttl");
    handle.holds(&key("one"), &old, "read after unsupported operations").await;
    handle.lacks(&key("two"), "read after unsupported operations").await;
}

/// A time to live of milliseconds is kept, with a tolerance of a few milliseconds.
pub async fn expires_within_milliseconds(target: Target) {
    let Some(handle) = expiring(&target).await else { return };
    for millis in [1, 40, 333] {
        let key = key(&format!("for-{millis}"));
        let life = put_for(&handle, &key, "x", Duration::from_millis(millis)).await;
        life.expires(&handle, &key, "read of an entry that lives for milliseconds").await;
    }
}

/// A time to live that is not a whole number of seconds is not rounded to whole seconds.
pub async fn expires_after_more_than_a_second(target: Target) {
    let Some(handle) = expiring(&target).await else { return };
    let (less, more) = (key("less"), key("more"));
    let one = put_for(&handle, &less, "x", Duration::from_millis(1300)).await;
    let two = put_for(&handle, &more, "x", Duration::from_millis(1700)).await;
    one.expires(&handle, &less, "read of an entry that lives for 1.3 s").await;
    two.expires(&handle, &more, "read of an entry that lives for 1.7 s").await;
}

/// An entry that was written without a time to live remains when others expire.
pub async fn without_a_time_to_live_entries_stay(target: Target) {
    let Some(handle) = expiring(&target).await else { return };
    handle.put(&key("one"), &handle.value("stays")).await;
    wait_short(&handle).await;
    handle.holds(&key("one"), &handle.value("stays"), "read of an entry without expiry").await;
    never_expires(&handle, &key("one"), "written without a time to live").await;
}

/// A write without a time to live removes the old one.
pub async fn a_write_without_a_time_to_live_removes_the_expiry(target: Target) {
    let Some(handle) = expiring(&target).await else { return };
    put_for(&handle, &key("one"), "expires", SHORT).await;
    handle.put(&key("one"), &handle.value("stays")).await;
    wait_short(&handle).await;
    handle.holds(&key("one"), &handle.value("stays"), "read after the replaced time to live").await;
    never_expires(&handle, &key("one"), "overwritten without a time to live").await;
}

/// A write with a time to live replaces the old one: a shorter one by a longer one, and a longer or unlimited one by
/// a shorter one.
pub async fn a_write_replaces_the_time_to_live(target: Target) {
    let Some(handle) = expiring(&target).await else { return };
    put_for(&handle, &key("longer"), "old", SHORT).await;
    handle.write(key("longer"), handle.value("new")).expiry(LONG).await.must("write");
    handle.write(key("shorter"), handle.value("old")).expiry(LONG).await.must("write");
    handle.put(&key("none"), &handle.value("old")).await;
    let shorter = put_for(&handle, &key("shorter"), "new", SHORT).await;
    shorter.expires(&handle, &key("shorter"), "read of an entry whose expiry a write moved earlier").await;
    let none = put_for(&handle, &key("none"), "new", SHORT).await;
    none.expires(&handle, &key("none"), "read of an entry whose expiry a write set").await;
    wait_short(&handle).await;
    let why = "read of an entry whose expiry a write moved later";
    handle.holds(&key("longer"), &handle.value("new"), why).await;
}

/// A write with a time to live of zero succeeds, and the entry is then absent, even if it existed before.
pub async fn a_time_to_live_of_zero_leaves_the_key_absent(target: Target) {
    let Some(handle) = expiring(&target).await else { return };
    let zero = Expiry::After(Duration::ZERO);
    handle.put(&key("old"), &handle.value("old")).await;
    for name in ["new", "old"] {
        let key = key(name);
        handle.write(&key, handle.value("x")).expiry(zero).await.must("write with a time to live of zero");
        handle.lacks(&key, "read after a write with a time to live of zero").await;
        assert!(
            !handle.contains(&key).await.must("contains"),
            "contains is true after a time to live of zero"
        );
        assert!(
            !handle.delete(&key).await.must("delete"),
            "delete returned true after a time to live of zero"
        );
    }
    if handle.info().listing {
        assert!(handle.listed("").await.is_empty(), "an entry with a time to live of zero is listed");
    }
    handle.put(&key("old"), &handle.value("again")).await;
    handle.holds(&key("old"), &handle.value("again"), "read of a key that was written again").await;
}

/// After a conditional write with a time to live of zero, the entry is absent if the condition held. Otherwise the
/// write is a conflict.
pub async fn conditional_write_with_a_time_to_live_of_zero_leaves_the_key_absent(target: Target) {
    let Some(handle) = expiring(&target).await else { return };
    if !target.claims(&handle, Ability::Conditions).await {
        return;
    }
    let (key, zero, value) = (key("one"), Expiry::After(Duration::ZERO), handle.value("x"));
    let write = handle.write(&key, value.clone()).expiry(zero).if_absent().await;
    write.must("write if absent with a time to live of zero");
    handle.lacks(&key, "read after a conditional write with a time to live of zero").await;

    handle.put(&key, &handle.value("old")).await;
    let write = handle.write(&key, value.clone()).expiry(zero).if_absent().await;
    write.fails(ErrorKind::Conflict, "write if absent over an existing entry");
    handle.holds(&key, &handle.value("old"), "read after a conflict").await;

    let seen = handle.read(&key).await.must("read").must("read").version.must("take the version");
    let write = handle.write(&key, value.clone()).expiry(zero).if_at(seen.clone()).await;
    write.must("write at the version read with a time to live of zero");
    handle.lacks(&key, "read after a conditional write with a time to live of zero").await;
    let write = handle.write(&key, value).expiry(zero).if_at(seen).await;
    write.fails(ErrorKind::Conflict, "write at a version of an absent entry");
}

/// A time to live of a hundred years, and one longer than any store can add to the current time, are valid.
pub async fn a_time_to_live_of_centuries_is_kept(target: Target) {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
    let Some(handle) = expiring(&target).await else { return };
    for (index, ttl) in [YEAR * 100, Expiry::MAX, Duration::MAX].into_iter().enumerate() {
        let key = key(&format!("long-{index}"));
        put_for(&handle, &key, "long", ttl).await;
        handle.holds(&key, &handle.value("long"), "read of an entry that lives for centuries").await;
        let left = handle.ttl(&key).await.must("ttl").must("ttl of an entry that lives for centuries");
        if let Expiry::After(left) = left {
            let least = ttl.min(Expiry::MAX) - Duration::from_secs(24 * 60 * 60);
            assert!(
                left >= least,
                "the remaining time of {ttl:?} is only {left:?} immediately after the write"
            );
        } else {
            panic!("the ttl of an entry that lives for centuries is `Never`");
        }
        assert!(handle.touch(&key, Expiry::After(ttl)).await.must("touch"), "touch returned false");
        handle.holds(&key, &handle.value("long"), "read after a touch for centuries").await;
    }
}

/// A conditional write sets its time to live, or removes the old one.
pub async fn conditional_write_sets_the_time_to_live(target: Target) {
    let Some(handle) = expiring(&target).await else { return };
    if !target.claims(&handle, Ability::Conditions).await {
        return;
    }
    let (short, stays) = (key("short"), key("stays"));
    let value = handle.value("x");
    let first = handle.write(&stays, value.clone()).expiry(Expiry::after_secs(60)).if_absent().await;
    let first = first.must("conditional write with a time to live").version.must("take the version");
    let stay = handle.write(&stays, value.clone()).if_at(first).await;
    stay.must("conditional write without a time to live");
    never_expires(&handle, &stays, "replaced by a conditional write without a time to live").await;

    let life = Lifetime::begin(SHORT);
    let write = handle.write(&short, value).expiry(Expiry::After(SHORT)).if_absent().await;
    write.must("conditional write with a time to live");
    life.written().expires(&handle, &short, "read of an entry created by a conditional write").await;
}

/// A conflict does not change the time to live.
pub async fn a_conflict_leaves_the_time_to_live(target: Target) {
    let Some(handle) = expiring(&target).await else { return };
    if !target.claims(&handle, Ability::Conditions).await {
        return;
    }
    let (key, value) = (key("one"), handle.value("x"));
    handle.put(&key, &value).await;
    let write = handle.write(&key, value.clone()).expiry(Expiry::after_secs(5)).if_absent().await;
    write.fails(ErrorKind::Conflict, "write if absent over an existing entry");
    never_expires(&handle, &key, "after a conflict").await;
    handle.write(&key, value.clone()).expiry(LONG).await.must("write");
    let write = handle.write(&key, value).if_absent().await;
    write.fails(ErrorKind::Conflict, "write if absent over an existing entry");
    let left = handle.ttl(&key).await.must("ttl").must("ttl");
    assert!(matches!(left, Expiry::After(_)), "a conflict removed the time to live");
}

/// `ttl` returns `None` for a missing entry, `Never` for an entry without expiry, and otherwise the remaining time.
pub async fn ttl_returns_the_remaining_time(target: Target) {
    let Some(handle) = expiring(&target).await else { return };
    assert_eq!(handle.ttl(&key("none")).await.must("ttl"), None, "the ttl of a missing entry");
    handle.put(&key("stays"), &handle.value("x")).await;
    never_expires(&handle, &key("stays"), "written without a time to live").await;
    for ttl in [Duration::from_millis(2500), Duration::from_secs(60), Duration::from_secs(86_400 * 30)] {
        let life = put_for(&handle, &key("expires"), "x", ttl).await;
        let asked = Instant::now();
        match handle.ttl(&key("expires")).await.must("ttl") {
            Some(Expiry::After(left)) => life.right(asked, left, "ttl"),
            // On a slow machine, the entry with the shortest time may have expired.
            None => life.not_early("ttl"),
            Some(Expiry::Never) => panic!("the ttl of an entry that expires is `Never`"),
        }
    }
    handle.delete(key("expires")).await.must("delete");
    assert_eq!(handle.ttl(&key("expires")).await.must("ttl"), None, "the ttl of a deleted key");
}

/// A touch can move the expiry later. The new time counts from the touch.
pub async fn touch_extends(target: Target) {
    let Some(handle) = expiring(&target).await else { return };
    in_time(|ttl, key| {
        let handle = handle.clone();
        async move {
            let first = put_for(&handle, &key, "x", ttl).await;
            let longer = Lifetime::begin(ttl * 3);
            if !handle.touch(&key, Expiry::After(ttl * 3)).await.must("touch") {
                first.not_early("touch");
                return false;
            }
            longer
                .written()
                .expires(&handle, &key, "read of an entry whose expiry a touch moved later")
                .await;
            true
        }
    })
    .await;
}

/// A touch can move the expiry earlier, and can set the expiry of an entry that had none.
pub async fn touch_shortens(target: Target) {
    let Some(handle) = expiring(&target).await else { return };
    handle.write(key("long"), handle.value("x")).expiry(LONG).await.must("write");
    handle.put(&key("stays"), &handle.value("x")).await;
    for name in ["long", "stays"] {
        let life = Lifetime::begin(SHORT);
        let there = handle.touch(key(name), Expiry::After(SHORT)).await.must("touch");
        assert!(there, "a touch of an entry returned false");
        life.written()
            .expires(&handle, &key(name), "read of an entry whose expiry a touch moved earlier")
            .await;
    }
}

/// A touch without a time to live removes the expiry of an entry.
pub async fn touch_can_remove_the_expiry(target: Target) {
    let Some(handle) = expiring(&target).await else { return };
    in_time(|ttl, key| {
        let handle = handle.clone();
        async move {
            let first = put_for(&handle, &key, "x", ttl).await;
            if !handle.touch(&key, Expiry::Never).await.must("touch") {
                first.not_early("touch");
                return false;
            }
            never_expires(&handle, &key, "touched without a time to live").await;
            let probe = super::key("waited-for");
            put_for(&handle, &probe, "x", ttl).await.expires(&handle, &probe, "wait for a later entry").await;
            handle.holds(&key, &handle.value("x"), "read of an entry whose expiry a touch removed").await;
            true
        }
    })
    .await;
}

/// A touch does not change the value and the version: a write at the version that was read before the touch succeeds.
pub async fn touch_keeps_value_and_version(target: Target) {
    let Some(handle) = expiring(&target).await else { return };
    let (key, value) = (key("one"), handle.value("touched"));
    handle.put(&key, &value).await;
    let before = handle.read(&key).await.must("read").must("read").version;
    for expiry in [LONG, Expiry::Never, Expiry::after_secs(60)] {
        assert!(handle.touch(&key, expiry).await.must("touch"), "a touch of an entry returned false");
        handle.holds(&key, &value, "read after a touch").await;
        let after = handle.read(&key).await.must("read").must("read").version;
        assert!(before == after, "a touch changed the version");
    }
    if let Some(version) = before {
        let write = handle.write(&key, handle.value("new")).if_at(version).await;
        write.must("write at the version read before the touch");
    }
}

/// A touch of a missing entry returns `false` and does not create it.
pub async fn touch_of_a_missing_entry_returns_false(target: Target) {
    let Some(handle) = expiring(&target).await else { return };
    let key = key("one");
    for expiry in [LONG, Expiry::Never] {
        assert!(!handle.touch(&key, expiry).await.must("touch"), "a touch of a missing entry returned true");
        handle.lacks(&key, "read after a touch of a missing entry").await;
    }
    handle.put(&key, &handle.value("x")).await;
    handle.delete(&key).await.must("delete");
    assert!(!handle.touch(&key, LONG).await.must("touch"), "a touch of a deleted entry returned true");
    handle.lacks(&key, "read after a touch of a deleted entry").await;
}

/// A touch with a time to live of zero returns whether the entry existed. The entry is then absent.
pub async fn touch_with_a_time_to_live_of_zero_removes(target: Target) {
    let Some(handle) = expiring(&target).await else { return };
    let (key, zero) = (key("one"), Expiry::After(Duration::ZERO));
    assert!(!handle.touch(&key, zero).await.must("touch"), "a touch of a missing entry returned true");
    handle.put(&key, &handle.value("x")).await;
    assert!(handle.touch(&key, zero).await.must("touch"), "a touch of an entry returned false");
    handle.lacks(&key, "read after a touch with a time to live of zero").await;
    assert!(
        !handle.delete(&key).await.must("delete"),
        "delete returned true after a touch with a time to live of zero"
    );
}
