//! The conformance suite in each mode, and the cases of the MySQL adapter.

// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod admin;
mod batches;
mod clock;
mod connections;
mod contents;
mod existing;
mod faults;
mod fencing;
mod locations;
mod opening;
mod outcomes;
mod place;
mod round_trips;
mod settings;
mod tls;

use larder_test_servers::Kind;
use larder_testkit::Runner;

use crate::place::{suite, suite_on};

fn main() {
    connections::record_log();
    let runner = Runner::new()
        .suite(clock::cases(contents::cases(suite("mariadb", ""))))
        .suite(suite("mariadb_json", "values=json"))
        .suite(suite("mariadb_alone", "group_commit=false"))
        .suite(suite_on("mysql", Kind::Mysql, ""));
    let runner = opening::suites(runner);
    let runner = existing::suites(runner);
    let runner = batches::suites(runner);
    let runner = outcomes::suites(runner);
    let runner = fencing::suites(runner);
    let runner = locations::suites(runner);
    let runner = connections::suites(runner);
    let runner = tls::suites(runner);
    let runner = faults::suites(runner);
    let runner = settings::suites(runner);
    round_trips::suites(runner).main()
}
