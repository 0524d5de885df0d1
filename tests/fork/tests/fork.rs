//! Ids in a process and in its forks.
//!
//! `before_exec` runs in the forked process before another program replaces it. It is safe to call up to edition 2021,
//! so this crate has that edition.

#![cfg(unix)]
#![allow(clippy::unwrap_used, deprecated, deprecated_safe_2024)]

use std::{collections::BTreeSet, fs, io::Write, os::unix::process::CommandExt, process::Command};

use larder_core::Version;

fn draw(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|_| format!("{:?}", Version::unique().as_token()))
}

#[test]
fn forked_processes_draw_different_ids() {
    let mut drawn: BTreeSet<_> = draw(10).collect();
    let directory = std::env::temp_dir().join(format!("larder-fork-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let files = [directory.join("first"), directory.join("second")];
    for file in &files {
        let path = file.clone();
        let mut command = Command::new("true");
        command.before_exec(move || {
            let mut file = fs::File::create(&path)?;
            draw(1_000).try_for_each(|id| writeln!(file, "{id}"))
        });
        assert!(command.status().unwrap().success());
    }
    let mut expected = 10;
    for file in &files {
        drawn.extend(fs::read_to_string(file).unwrap().lines().map(str::to_owned));
        expected += 1_000;
        assert_eq!(drawn.len(), expected, "two processes drew the same id");
    }
    drawn.extend(draw(1_000));
    assert_eq!(drawn.len(), expected + 1_000, "a fork and its parent drew the same id");
    fs::remove_dir_all(&directory).unwrap();
}
