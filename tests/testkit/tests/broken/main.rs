//! The suite can fail: storages that are wrong in one way each, and the laws that must say so.
//!
//! Each is the memory store with a twist. The laws named beside it must fail on it; others may,
//! since one fault shows in several places. Every law must be named by some fault, or be kept by `Store`.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;
mod faults;
mod twist;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use faults::faults;
use futures_util::StreamExt;
use larder_testkit::{Factory, Target, laws};
use twist::{BrokenSpaces, Twist};

/// A storage that is wrong, and the laws that must fail on it.
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

/// Why the law holds to be broken on this storage, or `None` if it finds nothing.
async fn complaint(fault: &Fault, law: &str) -> Option<String> {
    let law = laws::named(law).unwrap_or_else(|| panic!("{}: there is no law {law}", fault.name));
    law.check(Target::new(Arc::clone(&fault.factory)), Duration::from_secs(20)).await.err()
}

/// The laws that should find the fault and do not, in three tries: some faults need bad luck to show.
async fn missed_by(fault: Fault) -> Vec<String> {
    let mut missed = Vec::new();
    'laws: for law in fault.caught_by {
        for _ in 0..3 {
            if let Some(why) = complaint(&fault, law).await {
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
    // A few at a time: a fault that is a matter of milliseconds does not show on a crowded machine.
    let missed: Vec<String> = futures_util::stream::iter(faults())
        .map(|fault| tokio::spawn(missed_by(fault)))
        .buffer_unordered(3)
        .flat_map(|missed| futures_util::stream::iter(missed.unwrap()))
        .collect()
        .await;
    assert!(missed.is_empty(), "{missed:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_twist_that_changes_nothing_breaks_no_law() {
    struct Straight;
    impl Twist for Straight {}
    let straight = fault("is right", || Straight, &[]);
    for law in laws::all() {
        if let Some(why) = complaint(&straight, law.name()).await {
            panic!("{} finds a fault in a storage that has none: {why}", law.name());
        }
    }
}

/// The laws that `Store` keeps, whatever the adapter does.
const KEPT_BY_STORE: [&str; 6] = [
    "after_close_every_call_is_refused",
    "debug_prints_no_key_and_no_value",
    "value_beyond_the_limit_is_refused",
    "without_expiry_a_time_to_live_is_unsupported",
    "without_listing_it_is_unsupported",
    "without_order_a_listing_cannot_start_after_a_key",
];

#[test]
fn every_law_catches_some_fault() {
    let mut named: BTreeSet<&str> = faults().iter().flat_map(|fault| fault.caught_by).copied().collect();
    named.extend(KEPT_BY_STORE);
    let unused: Vec<&str> =
        laws::all().map(larder_testkit::Law::name).filter(|law| !named.contains(law)).collect();
    assert!(unused.is_empty(), "laws that no broken storage is caught by: {unused:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn lines_and_damage_that_are_right_break_no_law() {
    for right in faults::right() {
        for law in right.caught_by {
            if let Some(why) = complaint(&right, law).await {
                panic!("{law} finds a fault in a storage that {}: {why}", right.name);
            }
        }
    }
}

#[test]
fn every_law_in_the_sources_is_in_the_list() {
    let listed: BTreeSet<&str> = laws::all().map(larder_testkit::Law::name).collect();
    assert_eq!(laws::all().count(), listed.len(), "two laws have one name");
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
