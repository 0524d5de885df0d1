//! The conformance suite in each mode, and the cases of the MySQL adapter.

// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod place;

use larder_testkit::Runner;

use crate::place::suite;

fn main() {
    Runner::new()
        .suite(suite("mysql", ""))
        .suite(suite("mysql_json", "values=json"))
        .suite(suite("mysql_alone", "group_commit=false"))
        .main();
}
