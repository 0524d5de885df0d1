//! The group commit keeps its promises in every order of threads.

use larder_simulation::group_commit::{Schedules, explore};

const SCHEDULES: usize = 10_000;

fn kept(schedules: Schedules) {
    let explored = explore(&schedules, 0, SCHEDULES);
    println!("{}", explored.counts.table());
    if let Some(failure) = explored.failure {
        panic!("{failure}\nreplay it with LARDER_SIM_SCHEDULE=<the schedule above>");
    }
}

#[test]
fn random() {
    kept(std::env::var("LARDER_SIM_SCHEDULE").map_or(Schedules::Random, Schedules::Replay));
}

#[test]
fn pct() {
    kept(Schedules::Pct);
}
