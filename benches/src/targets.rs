//! The targets, and whether the results meet them.

use crate::{
    copy,
    measure::{Kind, Operation},
    plan::{USUAL_SIZE, USUAL_TASKS},
    report::{Part, spread},
    results::{Results, Row, Spread},
    stores::{self, Bench},
};

struct Verdict {
    target: String,
    /// `None` if it was not measured.
    figure: Option<(String, bool)>,
}

/// The figures of an earlier run, before changes were grouped: writes per second of SQLite with a million keys, and
/// sessions copied per second.
const EARLIER_WRITES: f64 = 13_400.0;
const EARLIER_COPY: f64 = 73_000.0;

/// The fraction by which a median varies from run to run, for "no slower".
const NOISE: f64 = 0.05;

pub fn table(results: &Results) -> Part {
    let row = |Verdict { target, figure }: Verdict| {
        let row = figure.map(|(figure, is_met)| {
            let met = if is_met { "met" } else { "**missed**" };
            format!("| {target} | {figure} | {met} |\n")
        });
        (format!("| {target} |"), row)
    };
    Part {
        name: "targets",
        head: "| target | measured | |\n|---|---|---|\n",
        pieces: verdicts(results).into_iter().map(row).collect(),
    }
}

fn verdicts(results: &Results) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    let mut ratio = |target: String, ratio: Option<Spread>, least: f64| {
        let figure = ratio.map(|ratio| (spread(ratio), ratio.median >= least));
        verdicts.push(Verdict { target, figure });
    };
    let at = |store, operation, tasks| find(results, store, operation, tasks, usual(store));
    let to = |row: Option<&Row>, kind| row.and_then(|row| row.ratio(kind));
    let named = |row: Option<&Row>, name: &str| {
        let row = row?;
        row.best(Kind::Larder)?.ratio(row.named(name)?)
    };
    use Operation::{Hot, Read, Update, Write};

    let sessions = |store| at(store, Update, USUAL_TASKS);
    ratio(
        "session updates, SQLite `full`: 5 times the raw driver".into(),
        to(sessions("sqlite-full"), Kind::Raw),
        5.0,
    );
    ratio(
        "session updates, PostgreSQL: 3 times the raw driver".into(),
        to(sessions("postgres"), Kind::Raw),
        3.0,
    );
    ratio(
        "session updates, PostgreSQL: 3 times the best peer".into(),
        to(sessions("postgres"), Kind::Peer),
        3.0,
    );
    ratio("session updates, Redis: 0.95 of the raw driver".into(), to(sessions("redis"), Kind::Raw), 0.95);
    for bench in stores::ALL.iter().filter(|bench| bench.name != "memory-bounded") {
        let target = format!("updates of one session, {}: no slower than before", bench.name);
        ratio(target, to(at(bench.name, Hot, USUAL_TASKS), Kind::Before), 1.0 - NOISE);
    }
    ratio(
        "reads, PostgreSQL: 0.95 of one pipelined connection".into(),
        named(at("postgres", Read, USUAL_TASKS), "tokio-postgres, one connection"),
        0.95,
    );
    for store in ["sqlite-full", "sqlite-normal"] {
        let target = format!("writes, {store}: 0.85 of hand-written batches");
        ratio(target, to(at(store, Write, USUAL_TASKS), Kind::Batches), 0.85);
    }
    for operation in [Read, Write] {
        let row = at("memory-bounded", operation, USUAL_TASKS);
        let name = operation.name();
        ratio(format!("{name}, memory with bounds: as fast as moka"), named(row, "moka"), 1.0);
        ratio(
            format!("{name}, memory with bounds: half as fast as quick_cache"),
            named(row, "quick_cache"),
            0.5,
        );
    }
    let files = at("file", Write, USUAL_TASKS);
    ratio("durable writes, files: as fast as the system calls".into(), to(files, Kind::Raw), 1.0);
    ratio("durable writes, files: twice as fast as the best peer".into(), to(files, Kind::Peer), 2.0);

    for store in ["sqlite-full", "sqlite-normal", "postgres", "mysql", "redis", "mongodb", "dynamodb"] {
        for operation in [Read, Write] {
            let latency = to(at(store, operation, 1), Kind::Raw).map(inverse);
            verdicts.push(Verdict {
                target: format!(
                    "{} by one task, {store}: at most 1.10 times the driver's latency",
                    operation.name()
                ),
                figure: latency.map(|latency| (spread(latency), latency.median <= 1.10)),
            });
        }
    }
    for bench in &stores::ALL {
        for operation in [Read, Write] {
            verdicts.push(growth(results, bench, operation));
        }
    }
    let writes = |store| {
        let row = results
            .rows
            .iter()
            .find(|row| row.store == store && row.operation == Write && row.keys == 1_000_000)?;
        row.best(Kind::Larder)?.spread()
    };
    for store in ["sqlite-full", "sqlite-normal"] {
        let figure = writes(store).map(|rate| {
            let times = rate.median / EARLIER_WRITES;
            (format!("{:.0}/s, {times:.2} times", rate.median), times >= 2.0)
        });
        let target = format!("writes with a million keys, {store}: twice the earlier {EARLIER_WRITES:.0}/s");
        verdicts.push(Verdict { target, figure });
    }
    verdicts.extend(copies(results));
    verdicts
}

fn usual(store: &str) -> u64 {
    stores::ALL.iter().find(|bench| bench.name == store).map_or(0, |bench| bench.usual)
}

fn find<'a>(
    results: &'a Results,
    store: &str,
    operation: Operation,
    tasks: u64,
    keys: u64,
) -> Option<&'a Row> {
    results.rows.iter().find(|row| {
        row.store == store
            && row.operation == operation
            && (row.tasks, row.size, row.keys) == (tasks, USUAL_SIZE, keys)
    })
}

fn inverse(spread: Spread) -> Spread {
    Spread { median: 1.0 / spread.median, least: 1.0 / spread.most, most: 1.0 / spread.least }
}

/// Compares the growth of Larder's cost, from few keys to many, with the growth of the driver's cost.
fn growth(results: &Results, bench: &Bench, operation: Operation) -> Verdict {
    let figure = || {
        let few = find(results, bench.name, operation, USUAL_TASKS, bench.few)?;
        let many = find(results, bench.name, operation, USUAL_TASKS, bench.many)?;
        // Larder writes in batches, so its growth is compared with that of batches.
        let raw = few.best(Kind::Batches).or_else(|| few.best(Kind::Raw))?;
        let ratio = |few: Option<Spread>, many: Option<Spread>| Some(few?.median / many?.median);
        let raw = ratio(raw.spread(), many.named(&raw.name)?.spread())?;
        let ours = ratio(few.best(Kind::Larder)?.spread(), many.best(Kind::Larder)?.spread())?;
        let more = ours / raw;
        Some((format!("{more:.2} (Larder {ours:.2}, driver {raw:.2})"), more <= 1.10))
    };
    Verdict {
        target: format!(
            "{}, {}: from {} to {} keys at most 1.10 times the driver's growth",
            operation.name(),
            bench.name,
            bench.few,
            bench.many
        ),
        figure: figure(),
    }
}

fn copies(results: &Results) -> Vec<Verdict> {
    let find = |what: &str| results.copies.iter().find(|copied| copied.what == what);
    let plain = find(copy::PLAIN);
    let seconds = |what: &str| Spread::of(&find(what)?.seconds);
    let rate = plain.zip(seconds(copy::PLAIN)).map(|(plain, took)| {
        let rate = plain.entries as f64 / took.median;
        (format!("{rate:.0}/s, {:.2} times", rate / EARLIER_COPY), rate >= 1.5 * EARLIER_COPY)
    });
    let peak = plain
        .and_then(|plain| plain.peak_bytes)
        .map(|peak| (format!("{:.1} MiB", peak as f64 / f64::from(1 << 20)), peak <= 32 << 20));
    let mut verdicts = vec![
        Verdict {
            target: format!("copy, SQLite to PostgreSQL: 1.5 times the earlier {EARLIER_COPY:.0}/s"),
            figure: rate,
        },
        Verdict { target: "copy: at most 32 MiB of memory".to_owned(), figure: peak },
    ];
    for what in [copy::VERIFY, copy::RESUME, copy::RESUME_ALL] {
        let times = find(what).zip(plain).and_then(|(this, plain)| {
            Spread::of(
                &this
                    .seconds
                    .iter()
                    .zip(&plain.seconds)
                    .map(|(this, plain)| this / plain)
                    .collect::<Vec<_>>(),
            )
        });
        verdicts.push(Verdict {
            target: format!("`{what}`: at most 1.5 times as long as `{}`", copy::PLAIN),
            figure: times.map(|times| (spread(times), times.median <= 1.5)),
        });
    }
    verdicts
}
