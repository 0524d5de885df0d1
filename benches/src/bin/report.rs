//! Prints what criterion measured last as a table in Markdown: for each group the operations per
//! second and the ratio to the first raw row (above 1: faster than it).
//!
//! ```text
//! cargo bench && cargo run --bin report
//! ```

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::Value;

fn main() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/criterion");
    let mut groups = BTreeMap::<String, Vec<(String, f64)>>::new();
    for group in directories(&home) {
        for function in directories(&group) {
            let estimates = fs::read(function.join("new/estimates.json"));
            let benchmark = fs::read(function.join("new/benchmark.json"));
            let (Ok(estimates), Ok(benchmark)) = (estimates, benchmark) else {
                continue;
            };
            let parse = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap_or_default();
            let (estimates, benchmark) = (parse(&estimates), parse(&benchmark));
            let (Some(nanos), Some(group), Some(name)) = (
                estimates["median"]["point_estimate"].as_f64(),
                benchmark["group_id"].as_str(),
                benchmark["function_id"].as_str(),
            ) else {
                continue;
            };
            groups.entry(group.to_owned()).or_default().push((name.to_owned(), nanos));
        }
    }
    for (group, mut rows) in groups {
        // Raw rows first, ours next, peers last.
        rows.sort_by_key(|(name, _)| (!name.starts_with("raw"), !name.starts_with("larder"), name.clone()));
        let base =
            rows.iter().rev().find(|(name, _)| name.starts_with("raw")).or(rows.first()).map(|row| row.1);
        println!("\n| {group} | operations/s | ratio to the raw driver |\n|---|---:|---:|");
        for (name, nanos) in rows {
            let ratio = base.map_or(f64::NAN, |base| base / nanos);
            println!("| {name} | {:.0} | {ratio:.2} |", 1e9 / nanos);
        }
    }
}

fn directories(path: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let mut found: Vec<_> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    found.sort();
    found
}
