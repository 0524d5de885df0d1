//! The conformance suite, and the cases of the DynamoDB adapter.

// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod answers;
mod clocks;
mod contents;
mod faults;
mod opening;
mod place;
mod round_trips;
mod wire;

use larder_testkit::Runner;

use crate::place::suite;

fn main() {
    let runner = Runner::new()
        .suite(clocks::cases(contents::cases(suite("dynamodb", ""))))
        .suite(opening::cases(suite("dynamodb_opening", "").without_laws()))
        .suite(answers::cases(suite("dynamodb_answers", "").without_laws()))
        .suite(round_trips::cases(suite("dynamodb_round_trips", "").without_laws()));
    faults::suites(runner).main()
}
