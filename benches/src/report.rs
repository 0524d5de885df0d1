//! The tables, and the page that contains them.

use std::{collections::BTreeSet, fmt::Write, fs, iter};

use crate::{
    charts, copy,
    measure::{Kind, Operation},
    output::Output,
    plan::{USUAL_SIZE, USUAL_TASKS},
    results::{Measured, Results, Row, Spread},
    stores::{self, Bench},
    targets,
};

/// Writes the page and the charts. If the results are not those of `all`, what they do not contain stays on the page.
pub fn write(output: &Output, all: bool) {
    let results = Results::load(&output.results());
    let mut page = fs::read_to_string(Output::template()).unwrap();
    for part in parts(&results).into_iter().filter(|part| all || part.name != "machine") {
        let (begin, end) = (format!("<!-- generated: {} -->\n", part.name), "\n<!-- end -->");
        let from =
            page.find(&begin).unwrap_or_else(|| panic!("the page does not contain {begin}")) + begin.len();
        let to = from + page[from..].find(end).expect("find the end of the generated part");
        let text = part.text(if all { "" } else { &page[from..to] });
        page.replace_range(from..to, &text);
    }
    charts::write(&results, &output.charts());
    fs::write(output.page(), page).unwrap();
    eprintln!("wrote {}", output.page().display());
}

/// All tables, for the terminal.
pub fn text(results: &Results) -> String {
    let parts = parts(results).into_iter().filter(|part| part.name != "charts");
    parts.map(|part| format!("\n## {}\n\n{}", part.name, part.text(""))).collect()
}

/// A generated part of the page.
pub struct Part {
    pub name: &'static str,
    pub head: &'static str,
    /// The beginnings of the rows or sections after the head, and the measured ones.
    pub pieces: Vec<(String, Option<String>)>,
}

impl Part {
    /// The text. Takes the pieces that were not measured from the earlier text.
    fn text(&self, earlier: &str) -> String {
        let pieces = self.pieces.iter().map(|(begin, piece)| match piece {
            Some(piece) => piece,
            None => self.find(begin, earlier),
        });
        iter::once(self.head).chain(pieces).collect()
    }

    /// A piece ends where another one begins.
    fn find<'a>(&self, begin: &str, text: &'a str) -> &'a str {
        let Some(from) = text.find(begin) else { return "" };
        let text = &text[from..];
        let others = self.pieces.iter().filter(|(other, _)| other != begin);
        &text[..others.filter_map(|(other, _)| text.find(other)).min().unwrap_or(text.len())]
    }
}

fn parts(results: &Results) -> [Part; 8] {
    [
        machine(results),
        targets::table(results),
        Part { name: "charts", head: "", pieces: vec![("![".to_owned(), Some(charts::links()))] },
        sections("ratios", results, ratios),
        sections("figures", results, figures),
        allocations(results),
        round_trips(results),
        copies(results),
    ]
}

fn machine(results: &Results) -> Part {
    let mut text = String::new();
    for (name, value) in &results.machine {
        writeln!(text, "| {name} | {value} |").unwrap();
    }
    if let Some(effort) = results.effort {
        writeln!(
            text,
            "| effort | {} rounds of {} ms per contender; {} min in total |",
            effort.rounds,
            effort.time.as_millis(),
            results.took.as_secs() / 60
        )
        .unwrap();
    }
    Part { name: "machine", head: "| | |\n|---|---|\n", pieces: vec![("| commit |".to_owned(), Some(text))] }
}

fn sections(name: &'static str, results: &Results, table: fn(&[&Row]) -> String) -> Part {
    let section = |bench: &Bench| {
        let mut rows: Vec<_> = results.rows.iter().filter(|row| row.store == bench.name).collect();
        rows.sort_by_key(|row| (row.operation, row.size, row.keys, row.tasks));
        let begin = format!("\n### {}\n", bench.name);
        let section = (!rows.is_empty()).then(|| format!("{begin}\n{}", table(&rows)));
        (begin, section)
    };
    Part { name, head: "", pieces: stores::ALL.iter().map(section).collect() }
}

/// The part whose head is a table's, with the rows of each store.
fn rows(name: &'static str, head: &'static str, of: impl Fn(&str) -> String) -> Part {
    let rows =
        |bench: &Bench| (format!("| {} |", bench.name), Some(of(bench.name)).filter(|rows| !rows.is_empty()));
    Part { name, head, pieces: stores::ALL.iter().map(rows).collect() }
}

fn ratios(rows: &[&Row]) -> String {
    let mut text = "| operation | tasks | value | keys | Larder, per second | vs. raw | vs. batches | vs. best peer | vs. before |\n\
                    |---|---:|---:|---:|---:|---:|---:|---:|---:|\n"
        .to_owned();
    for row in rows {
        let rate = row.best(Kind::Larder).and_then(Measured::spread).map(rates).unwrap_or_default();
        let to = |kind| row.ratio(kind).map(spread).unwrap_or_default();
        let (raw, batches, peer, before) =
            (to(Kind::Raw), to(Kind::Batches), to(Kind::Peer), to(Kind::Before));
        writeln!(
            text,
            "| {} | {} | {} | {} | {rate} | {raw} | {batches} | {peer} | {before} |",
            row.operation.title(),
            row.tasks,
            bytes(row.size),
            number(row.keys as f64),
        )
        .unwrap();
    }
    text
}

/// A row per contender, and a column per point of the axes.
fn figures(rows: &[&Row]) -> String {
    let points: BTreeSet<_> = rows.iter().map(|row| (row.keys, row.size, row.tasks)).collect();
    // First the numbers of tasks on the usual data, then the other sizes, then the other numbers of keys.
    let usual = rows.iter().filter(|row| row.tasks != USUAL_TASKS).map(|row| row.keys).next();
    let mut points: Vec<_> = points.into_iter().collect();
    points.sort_by_key(|&(keys, size, tasks)| (size != USUAL_SIZE, Some(keys) != usual, size, keys, tasks));
    let mut text = "| operation | contender |".to_owned();
    for &(keys, size, tasks) in &points {
        write!(text, " {tasks} tasks, {}, {} keys |", bytes(size), number(keys as f64)).unwrap();
    }
    write!(text, "\n|---|---|{}\n", "---:|".repeat(points.len())).unwrap();
    for operation in Operation::ALL {
        let of: Vec<_> = rows.iter().filter(|row| row.operation == operation).collect();
        let mut names: Vec<&str> = Vec::new();
        for measured in of.iter().flat_map(|row| &row.contenders) {
            if !names.contains(&measured.name.as_str()) {
                names.push(&measured.name);
            }
        }
        for name in names {
            write!(text, "| {} | {name} |", operation.title()).unwrap();
            for &point in &points {
                let row = of.iter().find(|row| (row.keys, row.size, row.tasks) == point);
                let cell = match row.and_then(|row| row.named(name)) {
                    Some(Measured { failure: Some(failure), .. }) => {
                        format!("failed: {}", failure.replace('|', "/"))
                    }
                    Some(measured) => measured.spread().map(|rate| number(rate.median)).unwrap_or_default(),
                    None => String::new(),
                };
                write!(text, " {cell} |").unwrap();
            }
            text.push('\n');
        }
    }
    text
}

/// The allocations on the usual data.
fn allocations(results: &Results) -> Part {
    let head = "| store | contender | operation | 1 task | 64 tasks |\n|---|---|---|---:|---:|\n";
    rows("allocations", head, |store| {
        let mut text = String::new();
        let rows = results.rows.iter().filter(|row| row.store == store);
        for row in rows.filter(|row| row.tasks == 1 && row.operation != Operation::Hot) {
            let busy = results.rows.iter().find(|other| {
                (&other.store, other.operation, other.size, other.keys)
                    == (&row.store, row.operation, row.size, row.keys)
                    && other.tasks == USUAL_TASKS
            });
            for measured in &row.contenders {
                let Some(alone) = measured.allocations.filter(|_| measured.kind != Kind::Before) else {
                    continue;
                };
                let busy = busy.and_then(|row| row.named(&measured.name)?.allocations);
                let busy = busy.map(|count| format!("{count:.1}")).unwrap_or_default();
                let (name, operation) = (&measured.name, row.operation.title());
                writeln!(text, "| {store} | {name} | {operation} | {alone:.1} | {busy} |").unwrap();
            }
        }
        text
    })
}

fn round_trips(results: &Results) -> Part {
    let head = "| store | contender | read | write | session update |\n|---|---|---:|---:|---:|\n";
    rows("round trips", head, |store| {
        let mut text = String::new();
        let counts: Vec<_> = results.round_trips.iter().filter(|counted| counted.store == store).collect();
        let mut names: Vec<&str> = Vec::new();
        for counted in &counts {
            if !names.contains(&counted.contender.as_str()) {
                names.push(&counted.contender);
            }
        }
        for name in names {
            write!(text, "| {store} | {name} |").unwrap();
            for operation in [Operation::Read, Operation::Write, Operation::Update] {
                let mut counts = counts.iter();
                let counted = counts
                    .find(|counted| (counted.contender.as_str(), counted.operation) == (name, operation));
                let cell = counted.map(|counted| format!("{:.2}", counted.per_operation)).unwrap_or_default();
                write!(text, " {cell} |").unwrap();
            }
            text.push('\n');
        }
        text
    })
}

fn copies(results: &Results) -> Part {
    let mut text = String::new();
    for copied in &results.copies {
        let Some(seconds) = Spread::of(&copied.seconds) else { continue };
        let peak = copied.peak_bytes.map(|peak| format!("{:.1} MiB", peak as f64 / f64::from(1 << 20)));
        writeln!(
            text,
            "| `{}` | {} | {} | {} | {} |",
            copied.what,
            number(copied.entries as f64),
            spread(seconds),
            number(copied.entries as f64 / seconds.median),
            peak.unwrap_or_default()
        )
        .unwrap();
    }
    let rows = Some(text).filter(|rows| !rows.is_empty());
    let head = "| | sessions | seconds | per second | peak memory |\n|---|---:|---:|---:|---:|\n";
    Part { name: "copies", head, pieces: vec![(format!("| `{}` |", copy::PLAIN), rows)] }
}

/// A row as one line, for the progress.
pub fn line(row: &Row) -> String {
    let mut line = format!(
        "{}: {}, {} tasks, {}, {} keys: ",
        row.store,
        row.operation.title(),
        row.tasks,
        bytes(row.size),
        number(row.keys as f64)
    );
    match row.best(Kind::Larder).and_then(Measured::spread) {
        Some(rate) => write!(line, "{}/s", number(rate.median)).unwrap(),
        None => line.push_str("failed"),
    }
    let kinds =
        [(Kind::Raw, "raw"), (Kind::Batches, "batches"), (Kind::Peer, "best peer"), (Kind::Before, "before")];
    for (kind, name) in kinds {
        if let Some(ratio) = row.ratio(kind) {
            write!(line, ", {:.2} times {name}", ratio.median).unwrap();
        }
    }
    for failed in row.contenders.iter().filter(|measured| measured.failure.is_some()) {
        write!(line, "; {} failed: {}", failed.name, failed.failure.as_deref().unwrap_or_default()).unwrap();
    }
    line
}

/// A ratio with its minimum and maximum.
pub fn spread(spread: Spread) -> String {
    let digits = if spread.median < 10.0 { 2 } else { 1 };
    let Spread { median, least, most } = spread;
    format!("{median:.digits$} ({least:.digits$} to {most:.digits$})")
}

fn rates(spread: Spread) -> String {
    format!("{} ({} to {})", number(spread.median), number(spread.least), number(spread.most))
}

/// Three significant digits, with commas between thousands.
pub fn number(number: f64) -> String {
    if number < 100.0 {
        let text = format!("{number:.1}");
        return text.trim_end_matches(".0").to_owned();
    }
    let scale = 10_f64.powi((number.log10().floor() as i32 - 2).max(0));
    let digits = format!("{:.0}", (number / scale).round() * scale);
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

pub fn bytes(size: usize) -> String {
    match size {
        0..1024 => format!("{size} B"),
        1024..1_000_000 => format!("{} KiB", size >> 10),
        _ => format!("{} MB", size / 1_000_000),
    }
}
