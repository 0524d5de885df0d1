//! The plan: one axis is varied at a time; the others stay at 64 tasks, 512 bytes and 10,000 keys.

use std::{path::PathBuf, time::Duration};

use crate::{
    data::Data,
    measure::{Effort, Operation},
    stores::{self, Bench},
};

pub const TASKS: [u64; 4] = [1, 8, 64, 256];
pub const SIZES: [usize; 4] = [64, 512, 64 << 10, 3_000_000];
pub const USUAL_TASKS: u64 = 64;
pub const USUAL_SIZE: usize = 512;

/// The most bytes that one contender stores if values are large.
const LARGE: u64 = 100_000_000;

const AXES: [&str; 3] = ["tasks", "sizes", "keys"];

pub struct Plan {
    /// Whether to measure everything and write the page.
    pub all: bool,
    pub quick: bool,
    pub copy: bool,
    pub effort: Effort,
    pub before: Option<PathBuf>,
    trips: bool,
    stores: Vec<String>,
    operations: Vec<Operation>,
    axes: Vec<&'static str>,
}

/// The rows that are measured on one set of data.
pub struct Step {
    pub data: Data,
    pub peers: bool,
    pub rows: Vec<(Operation, u64)>,
}

impl Plan {
    pub fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut plan = Self {
            all: false,
            quick: false,
            copy: false,
            effort: Effort {
                rounds: 5,
                time: Duration::from_millis(300),
                warm_up: Duration::from_millis(100),
            },
            before: None,
            trips: false,
            stores: Vec::new(),
            operations: Vec::new(),
            axes: Vec::new(),
        };
        let mut arguments = arguments.iter();
        let number = |text: Option<&String>| -> Result<u64, String> {
            let text = text.ok_or("a number is missing")?;
            text.parse()
                .ok()
                .filter(|number| *number > 0)
                .ok_or(format!("`{text}` is not a number greater than zero"))
        };
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "all" => plan.all = true,
                "copy" => plan.copy = true,
                "trips" => plan.trips = true,
                "--quick" => plan.quick = true,
                "--rounds" => plan.effort.rounds = number(arguments.next())? as usize,
                "--millis" => plan.effort.time = Duration::from_millis(number(arguments.next())?),
                "--before" => plan.before = Some(arguments.next().ok_or("a path is missing")?.into()),
                word => {
                    let operation = Operation::ALL.into_iter().find(|operation| operation.name() == word);
                    let axis = AXES.into_iter().find(|axis| *axis == word);
                    let is_store = stores::ALL.iter().any(|bench| is_called(bench, word));
                    match (operation, axis) {
                        (Some(operation), _) => plan.operations.push(operation),
                        (_, Some(axis)) => plan.axes.push(axis),
                        _ if is_store => plan.stores.push(word.to_owned()),
                        _ => return Err(format!("unknown word `{word}`")),
                    }
                }
            }
        }
        let named = !plan.operations.is_empty() || !plan.axes.is_empty();
        let only_others = (plan.copy || plan.trips) && !named;
        plan.all |= !named && plan.stores.is_empty() && !plan.copy && !plan.trips;
        if plan.all {
            (plan.copy, plan.trips) = (true, true);
        }
        if plan.operations.is_empty() && (plan.all || !only_others) {
            plan.operations = Operation::ALL.to_vec();
        }
        if plan.quick {
            plan.effort =
                Effort { rounds: 1, time: Duration::from_millis(10), warm_up: Duration::from_millis(5) };
        }
        Ok(plan)
    }

    fn includes(&self, bench: &Bench) -> bool {
        self.all || self.stores.is_empty() || self.stores.iter().any(|word| is_called(bench, word))
    }

    pub fn trips(&self, bench: &Bench) -> bool {
        self.trips
            && self.includes(bench)
            && ["postgres", "mysql", "redis", "mongodb", "dynamodb"].contains(&bench.name)
    }

    /// The number of sessions to copy.
    pub const fn copied(&self) -> u64 {
        if self.quick { 2_000 } else { 1_000_000 }
    }

    pub fn steps(&self, bench: &Bench) -> Vec<Step> {
        if !self.includes(bench) {
            return Vec::new();
        }
        let includes = |axis| self.all || self.axes.is_empty() || self.axes.contains(&axis);
        // The usual data is a point of every axis.
        let tasks = if includes("tasks") { &TASKS[..] } else { &[USUAL_TASKS][..] };
        let keys = |keys: u64| if self.quick { keys.min(200) } else { keys };
        let mut steps = vec![self.step(keys(bench.usual), USUAL_SIZE, tasks, true)];
        if includes("sizes") {
            // An item of DynamoDB has at most 400 KB.
            let fits = |size: usize| bench.name != "dynamodb" || size < 400_000;
            for size in SIZES.into_iter().filter(|size| *size != USUAL_SIZE && fits(*size)) {
                let most = (LARGE / size as u64).max(1);
                let most = if self.quick { most / 10 } else { most };
                steps.push(self.step(keys(bench.usual).min(most.max(4)), size, &[USUAL_TASKS], true));
            }
        }
        if includes("keys") {
            let (few, many) = if self.quick { (64, 1_000) } else { (bench.few, bench.many) };
            steps.push(self.step(few, USUAL_SIZE, &[USUAL_TASKS], true));
            steps.push(self.step(many, USUAL_SIZE, &[USUAL_TASKS], false));
        }
        steps.retain(|step| !step.rows.is_empty());
        steps
    }

    fn step(&self, keys: u64, size: usize, tasks: &[u64], peers: bool) -> Step {
        let mut rows = Vec::new();
        for &operation in &self.operations {
            rows.extend(tasks.iter().map(|&tasks| (operation, tasks)));
        }
        // All tasks update one session, so only the number of tasks matters, and only on that axis. Without Larder's
        // queue, many tasks would conflict for a long time, so at most 64 take part.
        let hot: &[u64] = match (tasks.len() > 1, self.quick) {
            (false, _) => &[],
            (true, true) => &[1],
            (true, false) => &[1, USUAL_TASKS],
        };
        rows.retain(|(operation, tasks)| *operation != Operation::Hot || hot.contains(tasks));
        Step { data: Data { keys, size }, peers, rows }
    }

    /// About how many lines of progress will be printed.
    pub fn rows(&self) -> usize {
        let steps = stores::ALL.iter().map(|bench| {
            self.steps(bench).iter().map(|step| step.rows.len()).sum::<usize>()
                + usize::from(self.trips(bench))
        });
        steps.sum::<usize>() + usize::from(self.copy)
    }
}

/// Whether `word` names the bench. `sqlite` names both of its benches.
fn is_called(bench: &Bench, word: &str) -> bool {
    bench.name == word || bench.name.split('-').next() == Some(word)
}
