//! Sessions keep their promises under all faults.

use larder_simulation::sessions::{simulate, simulate_all, trace};

const SEEDS: u64 = 3_000;

#[test]
fn promises_are_kept() {
    if let Ok(seed) = std::env::var("LARDER_SIM_SESSIONS_SEED") {
        let report = trace(seed.parse().expect("parse LARDER_SIM_SESSIONS_SEED as a number"));
        println!("{report}");
        assert!(report.violations.is_empty(), "seed {seed} breaks a promise");
        return;
    }
    match simulate_all(0..SEEDS) {
        Ok(counts) => {
            println!("{SEEDS} seeds\n{}", counts.table());
            assert_eq!(counts.missing(), [""; 0], "every fault must happen");
        }
        Err(report) => panic!("{report}replay it with LARDER_SIM_SESSIONS_SEED={}", report.seed),
    }
}

#[test]
fn a_seed_decides_everything() {
    let different = (0..SEEDS).find(|seed| simulate(*seed).hash != simulate(*seed).hash);
    assert_eq!(different, None, "the two traces of a seed differ");
}

/// A run that keeps its trace takes the same steps.
#[test]
fn a_trace_has_the_same_hash() {
    for seed in 0..20 {
        assert_eq!(simulate(seed).hash, trace(seed).hash, "seed {seed}");
    }
}
