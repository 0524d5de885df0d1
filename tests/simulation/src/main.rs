//! A longer run with fresh seeds: `cargo run --release -p larder-simulation -- [seeds]`.

use std::process::ExitCode;

use larder_simulation::{Schedules, explore, simulate_all};

/// The default. Takes a few minutes.
const SEEDS: u64 = 1_000_000;

fn main() -> ExitCode {
    let Ok(count) = std::env::args().nth(1).map_or(Ok(SEEDS), |count| count.parse()) else {
        eprintln!("usage: larder-simulation [number of seeds]");
        return ExitCode::FAILURE;
    };
    let first = fastrand::u64(..1 << 48);
    println!("{count} seeds from {first}");
    match simulate_all(first..first + count) {
        Ok(counts) => print!("{}", counts.table()),
        Err(report) => {
            println!("{report}replay it with LARDER_SIM_SEED={}", report.seed);
            return ExitCode::FAILURE;
        }
    }
    for schedules in [Schedules::Random, Schedules::Pct] {
        println!("{count} schedules ({schedules:?}) from seed {first}");
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        if let Some(failure) = explore(&schedules, first, count).failure {
            println!("{failure}\nreplay it with LARDER_SIM_SCHEDULE=<the schedule above>");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
