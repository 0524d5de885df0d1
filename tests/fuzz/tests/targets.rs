//! All targets, with the saved corpus and some mutations of it.

#![allow(clippy::panic, clippy::expect_used)] // A test fails by panicking.

use std::{env, thread, time::Instant};

use larder_fuzz::{TARGETS, run};

/// With other seeds and more mutations, this is also a long form that needs only stable Rust.
const SEED: (&str, u64) = ("LARDER_FUZZ_SEED", 1);
const MUTATIONS: (&str, u64) = ("LARDER_FUZZ_MUTATIONS", 3_000);
/// The name of a target, or the start of several.
const NAMES: &str = "LARDER_FUZZ_TARGET";
/// The stack of a worker of tokio. An overflow ends the process, and names the thread.
const STACK: usize = 2 << 20;

fn number((variable, default): (&str, u64)) -> u64 {
    env::var(variable).map_or(default, |text| text.parse().expect(variable))
}

/// One test, because the targets measure the memory and the time of the process.
#[test]
fn every_target_keeps_the_laws() {
    let (seed, mutations, mut broken) = (number(SEED), number(MUTATIONS), 0);
    let names = env::var(NAMES).unwrap_or_default();
    let chosen: Vec<_> = TARGETS.iter().filter(|target| target.name.starts_with(&names)).collect();
    assert!(!chosen.is_empty(), "{NAMES}: no target has a name that begins with `{names}`");
    println!("seed {seed}");
    for target in chosen {
        let start = Instant::now();
        let thread = thread::Builder::new().name(target.name.to_owned()).stack_size(STACK);
        let running = thread.spawn(move || run(target, seed, mutations)).expect("a thread");
        match running.join().expect("a panic is a broken law") {
            Ok(covered) => println!("{:20} {covered}, {:?}", target.name, start.elapsed()),
            Err(report) => {
                println!("{report}");
                broken += 1;
            }
        }
    }
    assert_eq!(broken, 0, "targets break a law; see the reports above");
}
