//! The group commit keeps its promises under all faults.

use larder_simulation::group_commit::{simulate, simulate_all};

const SEEDS: u64 = 20_000;

#[test]
fn promises_are_kept() {
    if let Ok(seed) = std::env::var("LARDER_SIM_SEED") {
        let report = simulate(seed.parse().expect("parse LARDER_SIM_SEED as a number"));
        println!("{report}");
        assert!(report.violations.is_empty(), "seed {seed} breaks a promise");
        return;
    }
    match simulate_all(0..SEEDS) {
        Ok(counts) => {
            println!("{}", counts.table());
            assert_eq!(counts.missing(), [""; 0], "every fault must happen");
        }
        Err(report) => panic!("{report}replay it with LARDER_SIM_SEED={}", report.seed),
    }
}

#[test]
fn a_seed_decides_everything() {
    for seed in 0..200 {
        assert_eq!(simulate(seed).to_string(), simulate(seed).to_string(), "seed {seed}");
    }
}
