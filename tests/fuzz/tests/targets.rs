//! All targets, with the saved corpus and some mutations of it.

#![allow(clippy::panic, clippy::expect_used)] // A test fails by panicking.

use std::{thread, time::Instant};

use larder_fuzz::{TARGETS, run};

const SEED: u64 = 1;
const MUTATIONS: u64 = 3_000;
/// The stack of a worker of tokio. An overflow ends the process, and names the thread.
const STACK: usize = 2 << 20;

/// One test, because the targets measure the memory and the time of the process.
#[test]
fn every_target_keeps_the_laws() {
    let mut broken = 0;
    for target in TARGETS {
        let start = Instant::now();
        let thread = thread::Builder::new().name(target.name.to_owned()).stack_size(STACK);
        let running = thread.spawn(|| run(target, SEED, MUTATIONS)).expect("a thread");
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
