//! Leases on a store with unique versions, and on one that uses the value as the version.

#![allow(clippy::unwrap_used)]

use std::{
    collections::VecDeque,
    mem,
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use larder_core::{
    Bytes, Condition, DeleteOptions, Error, ErrorKind, Expiry, Info, Key, ReadOptions, Record, Result,
    Storage, Store, TouchOptions, Version, Versions, WriteOptions, Written, async_trait,
};
use larder_memory::MemoryStorage;
use larder_session::{Lease, Leases};
use tokio::{
    sync::Barrier,
    task::JoinSet,
    time::{sleep, timeout},
};

/// A time to live beyond the end of any test.
const LONG: Duration = Duration::from_secs(600);

/// The time limit of a test.
const PATIENCE: Duration = Duration::from_secs(30);

fn key() -> Key {
    Key::new("chat:42").unwrap()
}

/// The entry that exists while [`key`] is leased.
fn entry() -> Key {
    Key::new("lease:held:chat:42").unwrap()
}

fn memory() -> Store {
    Store::new(MemoryStorage::new())
}

fn long(storage: impl Into<Store>) -> Leases {
    Leases::new(storage).with_ttl(LONG).with_wait_limit(PATIENCE)
}

/// Returns leases with a time to live that a test can wait for. A test must not rely on holding them.
fn short(storage: impl Into<Store>) -> Leases {
    Leases::new(storage).with_ttl(Duration::from_millis(50)).with_renewal(false)
}

async fn take(leases: &Leases) -> Lease {
    leases.try_lock(&key()).await.unwrap().unwrap()
}

/// Waits until the lease is lost, with a time limit.
async fn until_lost(lease: &Lease) {
    timeout(LONG * 2, lease.lost()).await.unwrap();
}

async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < PATIENCE, "{what}");
        sleep(Duration::from_millis(2)).await;
    }
}

async fn until_free(store: &Store) {
    until("the key is free", async || !store.contains(&entry()).await.unwrap()).await;
}

async fn stored(store: &Store, key: &str) -> serde_json::Value {
    let record = store.read(key).await.unwrap().unwrap();
    serde_json::from_slice(&record.value).unwrap()
}

fn kind<T>(result: Result<T>) -> ErrorKind {
    result.err().unwrap().kind()
}

/// The value is the version, and members are returned in another order.
#[derive(Debug)]
struct ByContent(Store);

impl ByContent {
    fn normal(value: &[u8]) -> Bytes {
        let members: serde_json::Map<_, _> = serde_json::from_slice(value).unwrap();
        let members: Vec<_> =
            members.iter().rev().map(|(name, value)| format!("{name:?} : {value}")).collect();
        format!("{{ {} }}", members.join(", ")).into()
    }

    /// Translates the condition for the inner store.
    async fn beneath(&self, key: &Key, condition: &Condition) -> Result<Condition> {
        let Condition::At(version) = condition else { return Ok(condition.clone()) };
        let content = Self::normal(version.as_content().unwrap());
        let record = self.0.read(key).await?.filter(|record| record.value == content);
        record.and_then(|record| record.version).map(Condition::At).ok_or_else(Error::conflict)
    }
}

#[async_trait]
impl Storage for ByContent {
    fn info(&self) -> Info {
        Info::minimal("content").with_expiry().with_versions(Versions::Content)
    }

    async fn read(&self, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
        let mut record = self.0.read_with(key, options).await?;
        if let Some(record) = &mut record {
            record.version = Some(Version::from_content(record.value.clone()));
        }
        Ok(record)
    }

    async fn write(&self, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        let options = options.clone().condition(self.beneath(key, &options.condition).await?);
        self.0.write_with(key, Self::normal(&value), &options).await?;
        Ok(Written::at(Version::from_content(value)))
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<bool> {
        let options = options.clone().condition(self.beneath(key, &options.condition).await?);
        self.0.delete_with(key, &options).await
    }

    async fn touch(&self, key: &Key, expiry: Expiry, options: &TouchOptions) -> Result<bool> {
        let options = options.clone().condition(self.beneath(key, &options.condition).await?);
        self.0.touch_with(key, expiry, &options).await
    }
}

/// The fate of the next conditional write or touch.
enum Fault {
    /// It never reaches the store.
    Unreached,
    /// It is applied, and its response is lost.
    AnswerLost,
}

/// A store behind an unreliable connection.
struct Remote {
    store: Store,
    faults: Mutex<VecDeque<Fault>>,
    down: AtomicBool,
    /// Every operation is pending once before and once after it is applied.
    stepwise: AtomicBool,
    /// While it is locked, responses to conditional writes and touches are delayed.
    answers: tokio::sync::Mutex<()>,
    /// The number of touches.
    touches: AtomicUsize,
}

impl Remote {
    /// Returns a store and a handle to it.
    fn new() -> (Arc<Self>, Store) {
        let remote = Arc::new(Self {
            store: memory(),
            faults: Mutex::default(),
            down: AtomicBool::default(),
            stepwise: AtomicBool::default(),
            answers: tokio::sync::Mutex::default(),
            touches: AtomicUsize::default(),
        });
        let store = Store::new(Arc::clone(&remote) as Arc<dyn Storage>);
        (remote, store)
    }

    async fn step(&self) {
        if self.stepwise.load(Ordering::Relaxed) {
            tokio::task::yield_now().await;
        }
    }

    fn inject(&self, faults: impl IntoIterator<Item = Fault>) {
        self.faults.lock().unwrap().extend(faults);
    }

    fn touches(&self) -> usize {
        self.touches.load(Ordering::Relaxed)
    }

    /// A conditional change.
    async fn changing<T>(&self, change: impl Future<Output = Result<T>>) -> Result<T> {
        self.step().await;
        let fault = self.faults.lock().unwrap().pop_front();
        if matches!(fault, Some(Fault::Unreached)) || self.down.load(Ordering::Relaxed) {
            return Err(unavailable());
        }
        let changed = change.await;
        self.step().await;
        drop(self.answers.lock().await);
        if fault.is_some() { Err(unavailable()) } else { changed }
    }
}

fn unavailable() -> Error {
    Error::new(ErrorKind::Unavailable, "the line is dead")
}

#[async_trait]
impl Storage for Remote {
    fn info(&self) -> Info {
        *self.store.info()
    }

    async fn read(&self, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
        self.step().await;
        let record = self.store.read_with(key, options).await;
        self.step().await;
        record
    }

    async fn write(&self, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        let write = self.store.write_with(key, value, options);
        if options.condition == Condition::Any { write.await } else { self.changing(write).await }
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<bool> {
        self.step().await;
        let deleted = self.store.delete_with(key, options).await;
        self.step().await;
        deleted
    }

    async fn touch(&self, key: &Key, expiry: Expiry, options: &TouchOptions) -> Result<bool> {
        let touch = self.changing(async {
            let touched = self.store.touch_with(key, expiry, options).await;
            self.touches.fetch_add(usize::from(touched.is_ok()), Ordering::Relaxed);
            touched
        });
        touch.await
    }
}

/// A store without a capability that leases need.
#[derive(Debug)]
struct Lacking(Info);

#[async_trait]
impl Storage for Lacking {
    fn info(&self) -> Info {
        self.0
    }

    async fn read(&self, _: &Key, _: &ReadOptions) -> Result<Option<Record>> {
        unreachable!("it is refused")
    }

    async fn write(&self, _: &Key, _: Bytes, _: &WriteOptions) -> Result<Written> {
        unreachable!("it is refused")
    }

    async fn delete(&self, _: &Key, _: &DeleteOptions) -> Result<bool> {
        unreachable!("it is refused")
    }
}

/// Defines a test of each law for both kinds of versions.
macro_rules! on_both {
    ($(#[$attribute:meta] $law:ident)+) => {
        mod unique_versions {
            use super::*;
            $(#[$attribute] async fn $law() { super::$law(memory()).await; })+
        }
        mod content_versions {
            use super::*;
            $(#[$attribute] async fn $law() { super::$law(Store::new(ByContent(memory()))).await; })+
        }
    };
}

on_both! {
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)] one_of_many_concurrent_attempts_succeeds
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)] one_waiting_process_holds_the_lease_at_a_time
    #[tokio::test] tokens_grow_across_release_drop_and_death
    #[tokio::test] the_largest_token_is_handed_out_once
    #[tokio::test] a_lost_lease_cannot_be_renewed_or_released
    #[tokio::test] a_lease_that_is_not_renewed_expires
    #[tokio::test] a_renewed_lease_outlives_its_time_to_live
    #[tokio::test] a_renewal_keeps_the_value_and_the_version
    #[tokio::test] a_renewal_does_not_extend_the_lease_of_another_holder
}

async fn one_of_many_concurrent_attempts_succeeds(storage: Store) {
    let barrier = Arc::new(Barrier::new(32));
    let mut tasks = JoinSet::new();
    for _ in 0..32 {
        let (leases, barrier) = (long(&storage), Arc::clone(&barrier));
        tasks.spawn(async move {
            barrier.wait().await;
            leases.try_lock(&key()).await.unwrap()
        });
    }
    // Kept to the end, so that no other attempt can succeed later.
    let leases = tasks.join_all().await;
    assert_eq!(leases.iter().flatten().count(), 1);
}

async fn one_waiting_process_holds_the_lease_at_a_time(storage: Store) {
    let inside = Arc::new(AtomicUsize::new(0));
    let tokens = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = JoinSet::new();
    for _ in 0..6 {
        let (leases, inside, tokens) = (long(&storage), Arc::clone(&inside), Arc::clone(&tokens));
        tasks.spawn(async move {
            for _ in 0..4 {
                let lease = leases.lock(&key()).await.unwrap();
                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                tokens.lock().unwrap().push(lease.token());
                tokio::task::yield_now().await;
                assert_eq!(inside.fetch_sub(1, Ordering::SeqCst), 1);
                lease.release().await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    let tokens = tokens.lock().unwrap();
    assert_eq!(tokens.len(), 24);
    assert!(tokens.is_sorted_by(|earlier, later| earlier < later), "{tokens:?}");
}

async fn tokens_grow_across_release_drop_and_death(storage: Store) {
    let (long, short) = (long(&storage), short(&storage));
    let mut tokens = Vec::new();
    for _ in 0..3 {
        let lease = long.lock(&key()).await.unwrap();
        tokens.push(lease.token());
        lease.release().await.unwrap();

        let lease = long.lock(&key()).await.unwrap();
        tokens.push(lease.token());
        drop(lease);

        // Its holder dies without deleting it.
        let lease = short.lock(&key()).await.unwrap();
        tokens.push(lease.token());
        mem::forget(lease);
    }
    assert!(tokens.is_sorted_by(|earlier, later| earlier < later), "{tokens:?}");
}

async fn the_largest_token_is_handed_out_once(storage: Store) {
    let counter = |token: u64| format!("{{\"token\":{token}}}");
    storage.write("lease:token:chat:42", counter(u64::MAX - 1)).await.unwrap();
    let lease = take(&long(&storage)).await;
    assert_eq!(lease.token(), u64::MAX);
    lease.release().await.unwrap();
    assert_eq!(kind(long(&storage).try_lock(&key()).await), ErrorKind::Codec);
    assert_eq!(stored(&storage, "lease:token:chat:42").await["token"], u64::MAX);
}

async fn a_lost_lease_cannot_be_renewed_or_released(storage: Store) {
    let leases = long(&storage);
    let first = take(&leases).await;
    storage.delete(entry()).await.unwrap();
    let second = take(&leases).await;
    // By the local deadline; the next renewal detects the loss.
    assert!(first.is_held());
    assert_eq!(kind(leases.check(&key(), first.token()).await), ErrorKind::Conflict);
    assert_eq!(kind(first.renew().await), ErrorKind::Conflict);
    assert!(!first.is_held());
    first.lost().await;
    assert_eq!(kind(first.renew().await), ErrorKind::Conflict);
    assert_eq!(kind(first.release().await), ErrorKind::Conflict);

    leases.check(&key(), second.token()).await.unwrap();
    assert!(leases.try_lock(&key()).await.unwrap().is_none());
    second.renew().await.unwrap();
    second.release().await.unwrap();
    assert!(!storage.contains(&entry()).await.unwrap());
}

async fn a_lease_that_is_not_renewed_expires(storage: Store) {
    let first = short(&storage).lock(&key()).await.unwrap();
    until_lost(&first).await;
    assert!(!first.is_held());
    let leases = long(&storage);
    let second = leases.lock(&key()).await.unwrap();
    assert!(second.token() > first.token());
    assert_eq!(kind(leases.check(&key(), first.token()).await), ErrorKind::Conflict);
    assert_eq!(kind(first.renew().await), ErrorKind::Conflict);
    assert_eq!(kind(first.release().await), ErrorKind::Conflict);
    second.renew().await.unwrap();
    assert!(second.is_held());
}

async fn a_renewed_lease_outlives_its_time_to_live(storage: Store) {
    // Long enough that a machine under load does not miss two renewals in a row.
    let ttl = Duration::from_secs(1);
    let leases = long(&storage).with_ttl(ttl);
    let lease = take(&leases).await;
    let start = Instant::now();
    while start.elapsed() < ttl * 7 / 2 {
        assert!(lease.is_held());
        assert!(leases.try_lock(&key()).await.unwrap().is_none());
        sleep(Duration::from_millis(20)).await;
    }
    lease.release().await.unwrap();
}

async fn a_renewal_keeps_the_value_and_the_version(storage: Store) {
    let lease = take(&short(&storage).with_ttl(LONG)).await;
    let before = storage.read(entry()).await.unwrap().unwrap();
    storage.touch(entry(), LONG / 2).await.unwrap();
    for _ in 0..3 {
        lease.renew().await.unwrap();
    }
    let after = storage.read(entry()).with_ttl().await.unwrap().unwrap();
    assert_eq!((after.value, after.version), (before.value, before.version));
    assert!(matches!(after.expiry, Some(Expiry::After(left)) if left > LONG * 9 / 10), "{:?}", after.expiry);
    lease.release().await.unwrap();
}

async fn a_renewal_does_not_extend_the_lease_of_another_holder(storage: Store) {
    let first = take(&long(&storage)).await;
    storage.delete(entry()).await.unwrap();
    let other = take(&short(&storage).with_ttl(LONG / 2)).await;
    let before = storage.read(entry()).await.unwrap();
    assert_eq!(kind(first.renew().await), ErrorKind::Conflict);
    drop(first);
    tokio::task::yield_now().await;
    let after = storage.read(entry()).with_ttl().await.unwrap().unwrap();
    assert!(matches!(after.expiry, Some(Expiry::After(left)) if left <= LONG / 2), "{:?}", after.expiry);
    assert_eq!(Some(after.value), before.map(|record| record.value));
    other.release().await.unwrap();
}

// With a paused clock, time passes for the lease and not for the store: a missing entry was deleted, and has
// not expired.

#[tokio::test(start_paused = true)]
async fn a_lease_is_renewed_every_third_of_its_time_to_live() {
    let (remote, storage) = Remote::new();
    let lease = take(&long(&storage)).await;
    sleep(LONG * 10 + LONG / 6).await;
    assert!(lease.is_held());
    assert_eq!(remote.touches(), 30);
    assert_eq!(stored(&storage, "lease:held:chat:42").await["token"], lease.token());
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_fails_is_tried_again() {
    let (remote, storage) = Remote::new();
    let lease = take(&long(&storage)).await;
    remote.inject([Fault::Unreached, Fault::AnswerLost, Fault::Unreached, Fault::AnswerLost]);
    sleep(LONG * 3).await;
    assert!(lease.is_held() && remote.faults.lock().unwrap().is_empty());
    lease.release().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_cannot_be_renewed_is_lost_within_its_time_to_live() {
    let (remote, storage) = Remote::new();
    let start = tokio::time::Instant::now();
    let lease = take(&long(&storage)).await;
    remote.down.store(true, Ordering::Relaxed);
    until_lost(&lease).await;
    assert!(start.elapsed() <= LONG && start.elapsed() > LONG * 9 / 10);
    assert!(!lease.is_held());
    // Lost finally, although the entry still exists.
    remote.down.store(false, Ordering::Relaxed);
    assert_eq!(kind(lease.renew().await), ErrorKind::Conflict);
}

#[tokio::test(start_paused = true)]
async fn a_lease_with_a_deleted_entry_is_lost_at_the_next_renewal() {
    let storage = memory();
    let lease = take(&long(&storage)).await;
    let start = tokio::time::Instant::now();
    storage.delete(entry()).await.unwrap();
    tokio::join!(until_lost(&lease), until_lost(&lease));
    assert!(start.elapsed() <= LONG / 3 + Duration::from_secs(1));
    assert!(!lease.is_held());
    until_lost(&lease).await;
}

#[tokio::test(start_paused = true)]
async fn a_late_renewal_does_not_block_other_holders() {
    let (remote, storage) = Remote::new();
    let lease = take(&long(&storage)).await;
    let answers = remote.answers.lock().await;
    until_lost(&lease).await;
    assert!(storage.contains(&entry()).await.unwrap());
    drop(answers);
    until_free(&storage).await;
    assert!(!lease.is_held());
    assert_eq!(kind(lease.release().await), ErrorKind::Conflict);
}

#[tokio::test(start_paused = true)]
async fn a_release_waits_for_a_renewal_in_progress() {
    let (remote, storage) = Remote::new();
    let lease = take(&long(&storage)).await;
    let answers = remote.answers.lock().await;
    sleep(LONG / 2).await;
    assert_eq!(remote.touches(), 1);
    let mut release = pin!(lease.release());
    assert!(release.as_mut().now_or_never().is_none());
    drop(answers);
    release.await.unwrap();
    assert!(!storage.contains(&entry()).await.unwrap());

    let lease = take(&long(&storage)).await;
    let answers = remote.answers.lock().await;
    sleep(LONG / 2).await;
    drop(lease);
    drop(answers);
    until_free(&storage).await;
}

#[tokio::test]
async fn a_dropped_renewal_does_not_prevent_the_next() {
    let (remote, storage) = Remote::new();
    let leases = long(&storage);
    let lease = take(&leases).await;
    for renewals in [1, 3] {
        let answers = remote.answers.lock().await;
        assert!(lease.renew().now_or_never().is_none());
        assert_eq!(remote.touches(), renewals, "it has happened");
        drop(answers);
        if renewals == 1 {
            lease.renew().await.unwrap();
        }
    }
    lease.release().await.unwrap();
    assert!(!storage.contains(&entry()).await.unwrap());
}

#[tokio::test]
async fn a_change_with_a_lost_response_does_not_prevent_the_next() {
    let (remote, storage) = Remote::new();
    let leases = long(&storage);
    let lease = take(&leases).await;
    remote.inject([Fault::AnswerLost]);
    assert_eq!(kind(lease.renew().await), ErrorKind::Unavailable);
    assert!(lease.is_held());
    lease.renew().await.unwrap();
    remote.inject([Fault::AnswerLost]);
    assert_eq!(kind(lease.renew().await), ErrorKind::Unavailable);
    lease.release().await.unwrap();
    assert!(!storage.contains(&entry()).await.unwrap());

    // The acquisition has no holder, and must not block others.
    remote.inject([Fault::AnswerLost]);
    assert_eq!(kind(leases.try_lock(&key()).await), ErrorKind::Unavailable);
    until_free(&storage).await;
}

#[tokio::test]
async fn a_token_that_was_drawn_too_late_is_not_handed_out() {
    let (remote, storage) = Remote::new();
    remote.stepwise.store(true, Ordering::Relaxed);
    let leases = long(&storage);
    let key = key();
    let mut slow = pin!(leases.try_lock(&key));
    while !remote.store.contains(&entry()).await.unwrap() {
        assert!(slow.as_mut().now_or_never().is_none());
    }
    // Its time to live ends before it continues.
    storage.delete(entry()).await.unwrap();
    let holder = take(&leases).await;
    assert!(slow.await.unwrap().is_none());

    let drawn = stored(&remote.store, "lease:token:chat:42").await["token"].as_u64().unwrap();
    assert!(drawn > holder.token());
    leases.check(&key, holder.token()).await.unwrap();
    assert_eq!(kind(leases.check(&key, drawn).await), ErrorKind::Conflict);
    holder.renew().await.unwrap();
    let token = holder.token();
    holder.release().await.unwrap();
    assert!(take(&leases).await.token() > token);
}

#[tokio::test(start_paused = true)]
async fn a_lease_counts_from_before_its_write_was_sent() {
    let (remote, storage) = Remote::new();
    let leases = long(&storage).with_renewal(false);
    let lease = take(&leases).await;
    let start = tokio::time::Instant::now();
    let answers = remote.answers.lock().await;
    let slow = async {
        sleep(LONG / 2).await;
        drop(answers);
    };
    tokio::join!(lease.renew(), slow).0.unwrap();
    until_lost(&lease).await;
    assert!(start.elapsed() <= LONG);
    lease.release().await.unwrap();

    // A lease that ended before the response is not handed out, and its entry is deleted.
    remote.stepwise.store(true, Ordering::Relaxed);
    let key = key();
    let mut attempt = pin!(leases.try_lock(&key));
    loop {
        assert!(attempt.as_mut().now_or_never().is_none());
        let entry = remote.store.read(entry()).await.unwrap();
        if entry.is_some_and(|entry| !entry.value.ends_with(b"null}")) {
            break;
        }
    }
    sleep(LONG).await;
    assert!(attempt.await.unwrap().is_none());
    until_free(&remote.store).await;
}

#[tokio::test]
async fn an_acquisition_that_is_dropped_anywhere_leaves_nothing_behind() {
    let (remote, storage) = Remote::new();
    remote.stepwise.store(true, Ordering::Relaxed);
    let leases = long(&storage);
    let key = key();
    for polls in 0.. {
        let mut attempt = Box::pin(leases.try_lock(&key));
        let mut context = Context::from_waker(Waker::noop());
        let acquired = (0..polls).any(|_| attempt.as_mut().poll(&mut context).is_ready());
        drop(attempt);
        until_free(&remote.store).await;
        if acquired {
            // Two steps for each of four operations.
            assert_eq!(polls, 9);
            break;
        }
    }
    take(&leases).await.release().await.unwrap();
}

#[tokio::test]
async fn dropping_releases() {
    let storage = memory();
    let leases = long(&storage);
    drop(take(&leases).await);
    leases.lock(&key()).await.unwrap().release().await.unwrap();
    // A release whose future is dropped does the same.
    let lease = take(&leases).await;
    drop(lease.release());
    until_free(&storage).await;
}

#[tokio::test]
async fn a_released_or_dropped_lease_leaves_no_task_behind() {
    let (remote, storage) = Remote::new();
    // The one in `storage` counts too.
    take(&long(&storage)).await.release().await.unwrap();
    assert_eq!(Arc::strong_count(&remote), 2);
    drop(storage);
    let lease = take(&long(Arc::clone(&remote) as Arc<dyn Storage>)).await;
    drop(lease);
    until("the renewal has ended", async || Arc::strong_count(&remote) == 1).await;
}

#[tokio::test]
async fn a_cancelled_wait_does_not_affect_others() {
    let storage = memory();
    let leases = long(&storage);
    let holder = take(&leases).await;
    let mut waiting = JoinSet::new();
    for _ in 0..8 {
        let leases = leases.clone();
        waiting.spawn(async move { leases.lock(&key()).await.unwrap() });
    }
    let stays = tokio::spawn({
        let leases = leases.clone();
        async move { leases.lock(&key()).await.unwrap() }
    });
    tokio::task::yield_now().await;
    waiting.shutdown().await;
    assert!(holder.is_held());
    holder.renew().await.unwrap();
    leases.check(&key(), holder.token()).await.unwrap();
    let token = holder.token();
    holder.release().await.unwrap();
    assert!(stays.await.unwrap().token() > token);
}

#[tokio::test]
async fn waiting_ends_at_its_limit() {
    let storage = memory();
    let leases = long(&storage);
    let holder = take(&leases).await;
    for limit in [Duration::ZERO, Duration::from_millis(60)] {
        let start = Instant::now();
        let waited = leases.clone().with_wait_limit(limit).lock(&key()).await;
        assert!(start.elapsed() >= limit);
        assert_eq!(kind(waited), ErrorKind::Timeout);
    }
    holder.release().await.unwrap();
    // It tries once even without time to wait.
    leases.with_wait_limit(Duration::ZERO).lock(&key()).await.unwrap().release().await.unwrap();
}

#[tokio::test]
async fn check_accepts_only_the_newest_token() {
    let storage = memory();
    let leases = long(&storage);
    assert_eq!(kind(leases.check(&key(), 1).await), ErrorKind::Conflict);
    let first = take(&leases).await;
    let token = first.token();
    leases.check(&key(), token).await.unwrap();
    for never in [0, token + 1] {
        assert_eq!(kind(leases.check(&key(), never).await), ErrorKind::Conflict);
    }
    // Without a later lease, it is still the newest.
    first.release().await.unwrap();
    leases.check(&key(), token).await.unwrap();
    take(&leases).await.release().await.unwrap();
    assert_eq!(kind(leases.check(&key(), token).await), ErrorKind::Conflict);
}

#[tokio::test]
async fn leases_of_different_keys_and_prefixes_are_independent() {
    let storage = memory();
    let mut leases = Vec::new();
    for prefix in ["lease:", "jobs:"] {
        let from = long(&storage).with_prefix(prefix);
        for key in ["x", "held:x", "token:x", "held:token:x", "token:held:x", "é"] {
            let lease = from.try_lock(&Key::new(key).unwrap()).await.unwrap().unwrap();
            assert_eq!((lease.token(), lease.key().as_str()), (1, key));
            leases.push(lease);
        }
    }
    assert!(leases.iter().all(Lease::is_held));
}

#[tokio::test]
async fn a_store_without_a_capability_is_refused() {
    let no_expiry = Info::minimal("lacking").with_versions(Versions::Unique);
    let no_versions = Info::minimal("lacking").with_expiry();
    for (info, lacks) in [
        (Info::minimal("lacking"), "has no compare-and-swap"),
        (no_versions, "has no compare-and-swap"),
        (no_expiry, "has no expiry"),
    ] {
        let leases = Leases::new(Lacking(info));
        for result in [
            leases.try_lock(&key()).await.map(drop),
            leases.lock(&key()).await.map(drop),
            leases.check(&key(), 1).await,
        ] {
            let error = result.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.message().contains(lacks) && error.message().contains("keep them in"), "{error}");
        }
    }
}

#[tokio::test]
async fn invalid_options_are_refused() {
    let leases = long(memory());
    for ttl in [Duration::ZERO, Duration::from_micros(9_999), Duration::MAX] {
        let lease = leases.clone().with_ttl(ttl).lock(&key()).await;
        assert_eq!(kind(lease), ErrorKind::InvalidConfig);
    }
    let longest = Key::new("k".repeat(Key::MAX_BYTES)).unwrap();
    assert_eq!(kind(leases.try_lock(&longest).await), ErrorKind::InvalidKey);
    assert_eq!(kind(leases.check(&longest, 1).await), ErrorKind::InvalidKey);
    for ttl in [Leases::MIN_TTL, Expiry::MAX] {
        leases.clone().with_ttl(ttl).lock(&key()).await.map(drop).unwrap();
    }
}

#[tokio::test]
async fn debug_prints_no_key() {
    let leases = long(memory());
    let lease = take(&leases).await;
    let printed = format!("{lease:?} {leases:?}");
    assert!(printed.contains("Key(7 bytes)") && !printed.contains("chat"), "{printed}");
    let error = lease.release().await.and(leases.check(&key(), 9).await).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("chat"));
}

#[test]
fn a_lease_outlives_its_runtime_without_harm() {
    let storage = memory();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let leases = long(&storage);

    // Dropped outside, it is released on its own runtime.
    let lease = runtime.block_on(take(&leases));
    drop(lease);
    runtime.block_on(until_free(&storage));

    let lease = runtime.block_on(take(&leases));
    drop(runtime);
    drop(lease);

    // Released while its renewal task is not polled.
    storage.delete(entry()).into_future().now_or_never().unwrap().unwrap();
    let [first, second] =
        [(); 2].map(|()| tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap());
    let lease = first.block_on(take(&leases));
    second.block_on(async { timeout(PATIENCE, lease.release()).await }).unwrap().unwrap();
}

#[test]
fn without_a_runtime_a_renewed_lease_is_refused() {
    let leases = long(memory());
    let refused = leases.try_lock(&key()).now_or_never().unwrap();
    assert_eq!(kind(refused), ErrorKind::InvalidConfig);
    let leases = leases.with_renewal(false);
    let Poll::Ready(lease) = pin!(leases.try_lock(&key())).poll(&mut Context::from_waker(Waker::noop()))
    else {
        panic!("memory never waits")
    };
    let lease = lease.unwrap().unwrap();
    lease.renew().now_or_never().unwrap().unwrap();
    // Without a runtime, it is not deleted in the background.
    drop(lease);
    assert!(leases.try_lock(&key()).now_or_never().unwrap().unwrap().is_none());
}
