//! A chart per store: reads, writes and session updates along the three axes.

use std::path::Path;

use plotters::{
    coord::Shift,
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use crate::{
    measure::{Kind, Operation},
    plan::{USUAL_SIZE, USUAL_TASKS},
    report::{bytes, number},
    results::{Results, Row},
    stores,
};

const SIZE: (u32, u32) = (1_080, 860);
const HEAD: u32 = 60;
const OPERATIONS: [Operation; 3] = [Operation::Read, Operation::Write, Operation::Update];

/// The colors of the other contenders, in order. Larder is black.
const COLORS: [RGBColor; 7] = [
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 158, 115),
    RGBColor(213, 94, 0),
    RGBColor(204, 121, 167),
    RGBColor(0, 114, 178),
    RGBColor(150, 150, 150),
];

struct Axis {
    title: &'static str,
    /// The position of a row on this axis, if it belongs to it.
    place: fn(&Row, usual: u64) -> Option<u64>,
    label: fn(u64) -> String,
}

const AXES: [Axis; 3] = [
    Axis {
        title: "tasks",
        place: |row, usual| (row.size == USUAL_SIZE && row.keys == usual).then_some(row.tasks),
        label: |tasks| tasks.to_string(),
    },
    Axis {
        title: "size of a value",
        // With large values there are fewer keys than usual.
        place: |row, usual| {
            (row.tasks == USUAL_TASKS && (row.size != USUAL_SIZE || row.keys == usual))
                .then_some(row.size as u64)
        },
        label: |size| bytes(size as usize),
    },
    Axis {
        title: "keys",
        place: |row, _| (row.tasks == USUAL_TASKS && row.size == USUAL_SIZE).then_some(row.keys),
        label: |keys| number(keys as f64),
    },
];

pub fn write(results: &Results, directory: &Path) {
    for (store, rows, usual) in charted(results) {
        draw(&directory.join(format!("{store}.svg")), store, &rows, usual).unwrap();
    }
}

/// The Markdown that shows the charts on the page.
pub fn links() -> String {
    stores::ALL.iter().map(|bench| format!("![{0}](benchmarks/{0}.svg)\n\n", bench.name)).collect()
}

/// The stores whose rows have an axis of tasks, with the number of keys on it.
fn charted(results: &Results) -> impl Iterator<Item = (&'static str, Vec<&Row>, u64)> {
    stores::ALL.iter().filter_map(|bench| {
        let rows: Vec<_> = results.rows.iter().filter(|row| row.store == bench.name).collect();
        let usual = rows.iter().find(|row| row.tasks != USUAL_TASKS)?.keys;
        Some((bench.name, rows, usual))
    })
}

type Drawn<T> = Result<T, Box<dyn std::error::Error>>;

fn draw(path: &Path, name: &str, rows: &[&Row], usual: u64) -> Drawn<()> {
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let (head, body) = area.split_vertically(HEAD);
    let names = names(rows);
    legend(&head, name, &names)?;
    let panels = body.split_evenly((OPERATIONS.len(), AXES.len()));
    for (at, panel) in panels.iter().enumerate() {
        let (operation, axis) = (OPERATIONS[at / AXES.len()], &AXES[at % AXES.len()]);
        let rows: Vec<_> = rows.iter().copied().filter(|row| row.operation == operation).collect();
        draw_panel(panel, operation, axis, &rows, usual, &names)?;
    }
    area.present()?;
    Ok(())
}

/// The contenders in drawing order: Larder is last, so it is above the others.
fn names(rows: &[&Row]) -> Vec<(String, RGBColor)> {
    let mut names: Vec<(String, RGBColor)> = Vec::new();
    let mut ours = None;
    for measured in rows.iter().flat_map(|row| &row.contenders) {
        if measured.kind == Kind::Larder {
            ours = Some((measured.name.clone(), BLACK));
        } else if !names.iter().any(|(name, _)| *name == measured.name) {
            names.push((measured.name.clone(), COLORS[names.len() % COLORS.len()]));
        }
    }
    names.extend(ours);
    names
}

fn legend(area: &DrawingArea<SVGBackend<'_>, Shift>, store: &str, names: &[(String, RGBColor)]) -> Drawn<()> {
    let title = format!("{store}: operations per second");
    area.draw(&Text::new(title, (12, 8), ("sans-serif", 18).into_font()))?;
    let mut x = 12;
    for (name, color) in names {
        area.draw(&PathElement::new(vec![(x, 44), (x + 18, 44)], color.stroke_width(3)))?;
        area.draw(&Text::new(name.clone(), (x + 23, 38), ("sans-serif", 12).into_font()))?;
        x += 40 + 6 * name.len() as i32;
    }
    Ok(())
}

fn draw_panel(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    operation: Operation,
    axis: &Axis,
    rows: &[&Row],
    usual: u64,
    names: &[(String, RGBColor)],
) -> Drawn<()> {
    let mut rows: Vec<_> = rows.iter().filter_map(|row| Some(((axis.place)(row, usual)?, *row))).collect();
    rows.sort_by_key(|(place, _)| *place);
    let rates = |name: &str| -> Vec<(f64, f64)> {
        let rate = |row: &Row| Some(row.named(name)?.spread()?.median);
        let rates = rows.iter().enumerate().map(|(at, (_, row))| Some((at as f64, rate(row)?)));
        rates.flatten().collect()
    };
    let all: Vec<_> = names.iter().flat_map(|(name, _)| rates(name)).map(|(_, rate)| rate).collect();
    let (Some(least), Some(most)) =
        (all.iter().copied().reduce(f64::min), all.iter().copied().reduce(f64::max))
    else {
        return Ok(());
    };
    let mut chart = ChartBuilder::on(area)
        .caption(format!("{}, by {}", operation.title(), axis.title), ("sans-serif", 13))
        .margin(8)
        .x_label_area_size(26)
        .y_label_area_size(64)
        .build_cartesian_2d(-0.3..rows.len() as f64 - 0.7, ((least * 0.8)..(most * 1.25)).log_scale())?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .disable_x_axis()
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.12))
        .y_label_formatter(&|rate| number(*rate))
        .label_style(("sans-serif", 11))
        .draw()?;
    let style = TextStyle::from(("sans-serif", 11).into_font()).pos(Pos::new(HPos::Center, VPos::Top));
    for (at, (place, _)) in rows.iter().enumerate() {
        let (x, y) = chart.backend_coord(&(at as f64, least * 0.8));
        let (left, top) = area.get_base_pixel();
        area.draw(&Text::new((axis.label)(*place), (x - left, y - top + 6), style.clone()))?;
    }
    for (name, color) in names {
        let points = rates(name);
        let width = if *color == BLACK { 3 } else { 2 };
        chart.draw_series(LineSeries::new(points.clone(), color.stroke_width(width)))?;
        chart.draw_series(points.into_iter().map(|point| Circle::new(point, width + 1, color.filled())))?;
    }
    Ok(())
}
