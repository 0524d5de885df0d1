//! Power cuts: after a cut at any point, and whatever the file system made of the changes that were not synced, every
//! acknowledged change is there, and every other one is there as a whole or not at all.
//!
//! The crate `larder-power-cuts` describes the models of file systems. The short form runs with the other tests. The
//! long form has all combinations:
//!
//! ```sh
//! cargo test --release -p larder-file --lib long_form -- --ignored --nocapture
//! ```
//!
//! Each test prints the number of states, cuts, calls and faults, and fails if a kind of call or fault never happened.

mod model;
mod run;
mod scenarios;

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use larder_power_cuts::{Bounds, Bug, Call, Fault, Model};

    use super::{
        model::{Do, If},
        run::{A, Coverage, End, Files, How, Run, Step, Violation},
        scenarios::{self, Scenario, changes},
    };

    /// How much is tested.
    #[derive(Clone, Copy)]
    struct Form {
        bounds: Bounds,
        /// The bounds after a fault.
        after_fault: Bounds,
        /// After a fault, one of this number of second operations is tested.
        seconds: usize,
        /// At each call, one of this number of faults is tested.
        faults: usize,
        /// Whether this prints its progress, and tests every cut after a fault instead of one at the end.
        long: bool,
    }

    const FAULTS: [Fault; 3] = [Fault::Kill, Fault::EIO, Fault::ENOSPC];

    const SHORT: Form = Form {
        bounds: Bounds { all: 32, pairs: false, random: 8, seed: 1 },
        after_fault: Bounds { all: 16, pairs: false, random: 2, seed: 1 },
        seconds: 11,
        faults: 3,
        long: false,
    };

    const LONG: Form = Form {
        bounds: Bounds { all: 1024, pairs: true, random: 64, seed: 1 },
        after_fault: Bounds { all: 32, pairs: false, random: 8, seed: 1 },
        seconds: 1,
        faults: 1,
        long: true,
    };

    impl Form {
        /// Whether this tests `fault` at call `nth` of the sequence `place`.
        fn tests(self, fault: Fault, nth: usize, place: usize) -> bool {
            let of_fault = FAULTS.iter().position(|known| *known == fault).unwrap();
            (nth + place + of_fault).is_multiple_of(self.faults)
        }

        /// How states are chosen after a fault.
        fn after_fault(self) -> How {
            // The short form opens the states of temporary files and of locks only without a fault.
            How { bounds: self.after_fault, hidden: if self.long { &[] } else { &["tmp", "locks"] } }
        }

        fn report(self, name: &str, coverage: &Coverage, start: Instant) {
            eprintln!("{name} ({:.1} s): {coverage}", start.elapsed().as_secs_f64());
            for model in Model::ALL {
                assert!(
                    coverage.states.get(&model).is_some_and(|(states, _)| *states > 0),
                    "{name}: {model:?}"
                );
            }
        }

        fn progress(self, name: &str, part: usize, of: usize, coverage: &Coverage) {
            if self.long {
                eprintln!("{name}: {part} of {of}, {} states opened", coverage.opened);
            }
        }
    }

    /// Fails if a kind of call never happened.
    fn assert_calls(files: &[Files], coverage: &Coverage) {
        for call in Call::ALL {
            let needed = match call {
                Call::WriteInPlace => files.contains(&Files::Bytes),
                Call::SetLength | Call::ReadDirectory => files != [Files::Snapshot],
                _ => true,
            };
            assert!(!needed || coverage.counts.calls.contains_key(&call), "no call of the kind {call:?}");
        }
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    /// Runs a scenario and checks all cuts.
    async fn survives(files: Files, scenario: &Scenario, form: Form, coverage: &mut Coverage) {
        let mut run = Run::new(files, true);
        run.set_up(&scenario.before).await;
        run.steps(&scenario.steps).await;
        let how = How { bounds: form.bounds, hidden: &[] };
        let violations = run.violations(0, None, &Model::ALL, &how, coverage).await;
        if let Some(violation) = violations.first() {
            panic!("{files:?}, {}: {violation}", scenario.name);
        }
    }

    fn all_survive(name: &str, files: &[Files], form: Form) {
        let start = Instant::now();
        let mut coverage = Coverage::default();
        for files in files {
            let all = scenarios::of(*files);
            for (place, scenario) in all.iter().enumerate() {
                runtime().block_on(survives(*files, scenario, form, &mut coverage));
                form.progress(&format!("{files:?}, {}", scenario.name), place + 1, all.len(), &coverage);
            }
        }
        assert_calls(files, &coverage);
        form.report(name, &coverage, start);
    }

    #[test]
    fn acknowledged_changes_of_the_directory_survive() {
        all_survive("bytes", &[Files::Bytes], SHORT);
    }

    #[test]
    fn acknowledged_changes_of_the_json_directory_survive() {
        all_survive("json", &[Files::Json], SHORT);
    }

    #[test]
    fn acknowledged_changes_of_grammys_layout_survive() {
        all_survive("grammy", &[Files::Grammy], SHORT);
    }

    #[test]
    fn flushed_snapshots_survive() {
        all_survive("snapshot", &[Files::Snapshot], SHORT);
    }

    /// After a fault at every call of an operation, another process makes a second operation, or after an error the
    /// same storage in half of the runs. Its result reflects the disk.
    async fn results_reflect_the_disk(files: Files, fault: Fault, form: Form, coverage: &mut Coverage) {
        let all = changes(files);
        let mut turn = 0;
        for exists in [true, false] {
            let before = scenarios::before(files, exists);
            for (place, first) in all.iter().enumerate() {
                for nth in 0.. {
                    let mut happened = true;
                    if !form.tests(fault, nth, place) {
                        continue;
                    }
                    for second in 0..all.len() {
                        turn += 1;
                        if turn % form.seconds != 0 && second + 1 < all.len() {
                            continue;
                        }
                        let mut run = Run::new(files, true);
                        run.set_up(&before).await;
                        run.recorder.fail(nth, fault);
                        run.step(&Step::Do(0, first.clone())).await;
                        happened = run.recorder.fired().is_some();
                        if !happened {
                            break;
                        }
                        run.recorder.revive();
                        let process = usize::from(fault == Fault::Kill || turn % 2 == 0);
                        if process == 1 {
                            run.steps(&[Step::Open(1)]).await;
                        }
                        run.steps(&[Step::Do(process, all[second].clone())]).await;
                        let (end, how) = (run.recorder.len(), form.after_fault());
                        let violations = run.violations(end, None, &Model::ALL, &how, coverage).await;
                        if let Some(violation) = violations.first() {
                            let second = &all[second];
                            panic!(
                                "{files:?}: {second:?} in process {process} after {fault:?} at call {nth} of \
                                 {first:?}: {violation}"
                            );
                        }
                    }
                    if !happened {
                        break;
                    }
                }
                form.progress(
                    &format!("{files:?}, {fault:?}, exists: {exists}"),
                    place + 1,
                    all.len(),
                    coverage,
                );
            }
        }
    }

    /// A fault at every call of a scenario: the process goes on after an error, and ends if it is killed. Then another
    /// process repeats the failed step, or after an error also the same storage.
    async fn faults_are_survived(
        files: Files,
        (place, scenario): (usize, &Scenario),
        fault: Fault,
        form: Form,
        coverage: &mut Coverage,
    ) {
        for nth in (0..).filter(|nth| form.tests(fault, *nth, place)) {
            for ends in [true, false] {
                if !ends && fault == Fault::Kill {
                    continue;
                }
                let mut run = Run::new(files, true);
                run.set_up(&scenario.before).await;
                run.recorder.fail(nth, fault);
                let mut failed = None;
                let mut from = 0;
                for step in &scenario.steps {
                    let start = run.recorder.len();
                    let end = run.step(step).await;
                    // Earlier cuts are those of another run.
                    if from == 0 && run.recorder.fired().is_some() {
                        from = start;
                    }
                    if end != End::Answered {
                        failed = Some((step, end));
                        break;
                    }
                }
                if run.recorder.fired().is_none() {
                    return;
                }
                match failed {
                    Some((step, _)) if ends => {
                        run.kill();
                        let opens = &[Step::Open(0), Step::Open(1)];
                        run.steps(&opens[usize::from(files == Files::Snapshot)..]).await;
                        run.steps(&again(files, step, 1)).await;
                    }
                    Some((step, _)) => run.steps(&goes_on(files, step)).await,
                    // The same run as before.
                    None if !ends => continue,
                    None => {}
                }
                let from = if form.long { from } else { run.recorder.len() };
                let how = form.after_fault();
                let violations = run.violations(from, None, &Model::ALL, &how, coverage).await;
                if let Some(violation) = violations.first() {
                    let process = if ends { "another process" } else { "the same storage" };
                    panic!(
                        "{files:?}, {}: {process} after {fault:?} at call {nth} ({failed:?}): {violation}",
                        scenario.name
                    );
                }
            }
        }
    }

    /// Returns the steps by which a process with open files repeats a failed one.
    fn again(files: Files, step: &Step, process: usize) -> Vec<Step> {
        match step {
            Step::Do(_, operation) => vec![Step::Do(process, operation.clone()), Step::Flush(process)],
            // A flush also syncs what another process has written.
            Step::Flush(_) | Step::Close(_) | Step::Drop(_) if files == Files::Snapshot => {
                vec![Step::Flush(process)]
            }
            _ => vec![Step::Do(process, Do::Put(A, "[5]".into(), None, If::Any)), Step::Flush(process)],
        }
    }

    /// Returns the steps by which the process of a failed step repeats it.
    fn goes_on(files: Files, step: &Step) -> Vec<Step> {
        match step {
            Step::Open(process) => [vec![step.clone()], again(files, step, *process)].concat(),
            Step::Do(process, _) => again(files, step, *process),
            Step::Flush(_) | Step::Close(_) | Step::Drop(_) => vec![step.clone()],
        }
    }

    fn all_faults(name: &str, files: Files, form: Form) {
        let start = Instant::now();
        let mut coverage = Coverage::default();
        for fault in FAULTS {
            let all = scenarios::of(files);
            for (place, scenario) in all.iter().enumerate() {
                let part = faults_are_survived(files, (place, scenario), fault, form, &mut coverage);
                runtime().block_on(part);
                form.progress(
                    &format!("{files:?}, {fault:?}, {}", scenario.name),
                    place + 1,
                    all.len(),
                    &coverage,
                );
            }
            if files != Files::Snapshot {
                runtime().block_on(results_reflect_the_disk(files, fault, form, &mut coverage));
            }
            for call in coverage.counts.calls.keys() {
                assert!(coverage.counts.faults.contains_key(&(fault, *call)), "no {fault:?} at {call:?}");
            }
        }
        assert_calls(&[files], &coverage);
        form.report(name, &coverage, start);
    }

    #[test]
    fn faults_of_the_directory_are_survived() {
        all_faults("bytes with faults", Files::Bytes, SHORT);
    }

    #[test]
    fn faults_of_the_json_directory_are_survived() {
        all_faults("json with faults", Files::Json, SHORT);
    }

    #[test]
    fn faults_of_grammys_layout_are_survived() {
        all_faults("grammy with faults", Files::Grammy, SHORT);
    }

    #[test]
    fn faults_of_the_snapshot_are_survived() {
        all_faults("snapshot with faults", Files::Snapshot, Form { faults: 1, ..SHORT });
    }

    fn long_form(files: Files) {
        all_survive("scenarios", &[files], LONG);
        all_faults("faults", files, LONG);
    }

    #[test]
    #[ignore = "runs for long"]
    fn long_form_of_the_directory() {
        long_form(Files::Bytes);
    }

    #[test]
    #[ignore = "runs for long"]
    fn long_form_of_the_json_directory() {
        long_form(Files::Json);
    }

    #[test]
    #[ignore = "runs for long"]
    fn long_form_of_grammys_layout() {
        long_form(Files::Grammy);
    }

    #[test]
    #[ignore = "runs for long"]
    fn long_form_of_the_snapshot() {
        long_form(Files::Snapshot);
    }

    /// Returns the models in which a scenario breaks a promise.
    async fn found(mut run: Run, scenario: &Scenario, bug: Option<Bug>, models: &[Model]) -> Vec<Model> {
        run.set_up(&scenario.before).await;
        run.steps(&scenario.steps).await;
        let how = How { bounds: SHORT.after_fault, hidden: &["tmp", "locks"] };
        let violations = run.violations(0, bug, models, &how, &mut Coverage::default()).await;
        violations.iter().map(Violation::model).collect()
    }

    /// Returns the models in which any scenario breaks a promise.
    fn found_in_any(files: Files, run: impl Fn() -> Run, bug: Option<Bug>) -> Vec<Model> {
        let mut all: Vec<Model> = Vec::new();
        for scenario in scenarios::of(files) {
            let rest: Vec<_> = Model::ALL.into_iter().filter(|model| !all.contains(model)).collect();
            all.extend(runtime().block_on(found(run(), &scenario, bug, &rest)));
        }
        all.sort_unstable();
        eprintln!("{files:?}, {bug:?}: {all:?}");
        all
    }

    #[test]
    fn unsynced_changes_are_lost() {
        for files in Files::DIRECTORIES {
            assert_eq!(found_in_any(files, || Run::new(files, false), None), Model::ALL, "{files:?}");
        }
    }

    #[test]
    fn planted_bugs_are_found() {
        let unordered = [Model::Posix, Model::AtomicRename];
        for files in [Files::Bytes, Files::Json, Files::Grammy, Files::Snapshot] {
            let run = || Run::new(files, true);
            let find = |bug| found_in_any(files, run, Some(bug));
            assert_eq!(find(Bug::NoDirectorySync), Model::ALL, "{files:?}");
            assert_eq!(find(Bug::NoFileSync), unordered, "{files:?}");
            assert_eq!(find(Bug::EarlyRename), Model::ALL, "{files:?}");
            // Only this format changes files in place.
            let in_place: &[Model] = if files == Files::Bytes { &Model::ALL } else { &[] };
            assert_eq!(find(Bug::NoSyncInPlace), in_place, "{files:?}");
            assert_eq!(found_in_any(files, || run().early(), None), Model::ALL, "{files:?}: early");
        }
    }

    /// The lock file does not record that a change may not be on the disk.
    #[test]
    fn a_forgotten_change_of_a_killed_process_is_found() {
        for files in Files::DIRECTORIES {
            let found = runtime().block_on(async {
                let mut found = false;
                for nth in 0..20 {
                    let mut run = Run::new(files, true);
                    run.set_up(&scenarios::before(files, true)).await;
                    run.recorder.keep_length();
                    run.recorder.fail(nth, Fault::Kill);
                    run.step(&Step::Do(0, Do::Delete(A, If::Any))).await;
                    run.recorder.revive();
                    run.steps(&[Step::Open(1), Step::Do(1, Do::Delete(A, If::Any))]).await;
                    let how = How { bounds: SHORT.bounds, hidden: &[] };
                    let end = run.recorder.len();
                    let violations =
                        run.violations(end, None, &Model::ALL, &how, &mut Coverage::default()).await;
                    found |= !violations.is_empty();
                }
                found
            });
            assert!(found, "{files:?}");
        }
    }

    /// A write syncs only the directory of its entry if the others are on the disk. A change that finds no entry to
    /// change syncs nothing.
    #[test]
    fn synced_directories_are_not_synced_again() {
        runtime().block_on(async {
            let syncs = async |run: &mut Run, operation: Do| {
                let counts = |run: &Run| {
                    let calls = run.recorder.counts().calls;
                    [Call::SyncFile, Call::SyncDirectory].map(|call| calls.get(&call).copied().unwrap_or(0))
                };
                let before = counts(run);
                run.steps(&[Step::Do(0, operation)]).await;
                let after = counts(run);
                [after[0] - before[0], after[1] - before[1]]
            };
            let put = |condition| Do::Put(A, "[2]".into(), None, condition);
            let mut run = Run::new(Files::Bytes, true);
            run.set_up(
                &[&scenarios::before(Files::Bytes, true)[..], &[Step::Close(0), Step::Open(0)]].concat(),
            )
            .await;
            assert_eq!(syncs(&mut run, put(If::Any)).await, [1, 1]);
            assert_eq!(syncs(&mut run, put(If::Absent)).await, [0, 0]);
            assert_eq!(syncs(&mut run, Do::Touch(A, None, If::Any)).await, [1, 0]);
            assert_eq!(syncs(&mut run, Do::Delete(A, If::Any)).await, [0, 1]);
            assert_eq!(syncs(&mut run, Do::Delete(A, If::Any)).await, [0, 0]);
            assert_eq!(syncs(&mut run, Do::Touch(A, None, If::Any)).await, [0, 0]);
        });
    }
}
