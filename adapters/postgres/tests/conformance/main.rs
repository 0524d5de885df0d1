//! The conformance suite in each layout and mode, and the cases of the PostgreSQL adapter.

// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod admin;
mod batches;
mod connections;
mod contents;
mod existing;
mod faults;
mod fencing;
mod grammy;
mod locations;
mod opening;
mod outcomes;
mod place;
mod poolers;
mod round_trips;
mod rows;
mod tls;

use larder_testkit::Runner;

use crate::place::suite;

fn main() {
    let runner = Runner::new()
        .suite(outcomes::cases(rows::cases(contents::cases(suite("postgres", "")))))
        .suite(suite("postgres_jsonb", "values=jsonb"))
        .suite(suite("postgres_json", "values=json"))
        .suite(suite("postgres_text", "values=text"))
        .suite(suite("postgres_alone", "group_commit=false"))
        .suite(suite("postgres_unnamed", "statements=unnamed"));
    let runner = grammy::suites(runner);
    let runner = batches::suites(runner);
    let runner = opening::suites(runner);
    let runner = existing::suites(runner);
    let runner = locations::suites(runner);
    let runner = poolers::suites(runner);
    let runner = connections::suites(runner);
    let runner = fencing::suites(runner);
    let runner = tls::suites(runner);
    let runner = faults::suites(runner);
    round_trips::suites(runner).main()
}
