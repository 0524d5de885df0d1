//! Tests of the suite itself: storages with one fault each, and the laws that must fail on them.
//!
//! Each storage is the memory store with a fault. The listed laws must fail on it. Other laws may fail too, because
//! one fault can have several effects. Every law must catch at least one fault, or be guaranteed by `Store`.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;
mod faults;
mod twist;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use faults::faults;
use futures_util::StreamExt;
use larder_testkit::{Factory, Target, laws};
use twist::{BrokenSpaces, Twist};

/// A faulty storage, and the laws that must fail on it.
struct Fault {
    name: &'static str,
    factory: Arc<dyn Factory>,
    caught_by: &'static [&'static str],
}

fn fault<T: Twist>(
    name: &'static str,
    make: impl Fn() -> T + Send + Sync + 'static,
    caught_by: &'static [&'static str],
) -> Fault {
    Fault { name, factory: Arc::new(BrokenSpaces::new(make)), caught_by }
}

/// Returns the failure of the law on this storage, or `None` if the law holds.
async fn failure(fault: &Fault, law: &str) -> Option<String> {
    let law = laws::named(law).unwrap_or_else(|| panic!("{}: the law `{law}` does not exist", fault.name));
    law.check(Target::new(Arc::clone(&fault.factory)), Duration::from_secs(20)).await.err()
}

/// Returns the laws that should catch the fault but do not. Tries each law three times, because some faults are not
/// visible in every run.
async fn missed_by(fault: Fault) -> Vec<String> {
    let mut missed = Vec::new();
    'laws: for law in fault.caught_by {
        for _ in 0..3 {
            if let Some(why) = failure(&fault, law).await {
                println!("{}: {law}: {}", fault.name, why.lines().next().unwrap_or_default());
                continue 'laws;
            }
        }
        missed.push(format!("{law} holds on a storage that {}", fault.name));
    }
    missed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_suite_catches_every_fault() {
    // A few at a time: on a busy machine, a fault of a few milliseconds is not visible.
    let missed: Vec<String> = futures_util::stream::iter(faults())
        .map(|fault| tokio::spawn(missed_by(fault)))
        .buffer_unordered(3)
        .flat_map(|missed| futures_util::stream::iter(missed.unwrap()))
        .collect()
        .await;
    assert!(missed.is_empty(), "{missed:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_law_holds_on_a_storage_without_a_fault() {
    struct Correct;
    impl Twist for Correct {}
    let correct = fault("is correct", || Correct, &[]);
    for law in laws::all() {
        if let Some(why) = failure(&correct, law.name()).await {
            panic!("{} fails on a correct storage: {why}", law.name());
        }
    }
}

/// The laws that `Store` guarantees for every adapter.
const KEPT_BY_STORE: [&str; 6] = [
    "after_close_every_call_is_refused",
    "debug_prints_no_key_and_no_value",
    "value_beyond_the_limit_is_refused",
    "without_expiry_a_time_to_live_is_unsupported",
    "without_listing_it_is_unsupported",
    "without_order_a_listing_cannot_start_after_a_key",
];

#[test]
fn every_law_catches_a_fault() {
    let mut named: BTreeSet<&str> = faults().iter().flat_map(|fault| fault.caught_by).copied().collect();
    named.extend(KEPT_BY_STORE);
    let unused: Vec<&str> =
        laws::all().map(larder_testkit::Law::name).filter(|law| !named.contains(law)).collect();
    assert!(unused.is_empty(), "laws that do not catch any fault: {unused:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_laws_hold_on_correct_storages_with_lines_and_damage() {
    for correct in faults::correct() {
        for law in correct.caught_by {
            if let Some(why) = failure(&correct, law).await {
                panic!("{law} fails on a correct storage, which {}: {why}", correct.name);
            }
        }
    }
}

#[test]
fn every_law_in_the_sources_is_in_the_list() {
    let listed: BTreeSet<&str> = laws::all().map(larder_testkit::Law::name).collect();
    assert_eq!(laws::all().count(), listed.len(), "two laws have the same name");
    let sources = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/laws");
    let mut written = BTreeSet::new();
    for file in std::fs::read_dir(sources).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        written.extend(text.lines().filter_map(|line| {
            let (name, _) = line.strip_prefix("pub async fn ")?.split_once('(')?;
            Some(name.to_owned())
        }));
    }
    let listed: BTreeSet<String> = listed.into_iter().map(str::to_owned).collect();
    assert_eq!(written, listed);
}
