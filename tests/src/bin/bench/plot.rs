//! The plots of `docs/performance.md`.

use std::path::Path;

use plotters::prelude::*;
use twobox_tests::Runtime;

use crate::Error;
use crate::commits::STAGES;
use crate::figures::{CPU, MEMORY, round_trip, sessions_of};
use crate::report::{Report, Row};

const TITLE: (&str, u32) = ("sans-serif", 20);
const LABEL: (&str, u32) = ("sans-serif", 17);

/// Draws what the report has the rows for.
pub(crate) fn draw(report: &Report, dir: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(dir)?;
    idle_cost(report, &dir.join("idle-cost.svg"))?;
    latency_split(report, &dir.join("latency-split.svg"))
}

/// The values of the rows that begin with `what`, by the number of sessions.
fn by_sessions(report: &Report, what: &str) -> Vec<(f64, f64)> {
    let rows = report.rows().iter().filter(|row| row.figure() == "idle");
    let rows = rows.filter(|row| row.what().starts_with(what));
    rows.filter_map(|row| Some((sessions_of(row.what())?, row.value()))).collect()
}

/// What is drawn at zero on a scale that has none.
const TINY: f64 = 0.001;

/// A number without zeros that say nothing.
fn plain(number: &f64) -> String {
    format!("{number}")
}

fn idle_cost(report: &Report, path: &Path) -> Result<(), Error> {
    let ours = by_sessions(report, CPU);
    let usual = by_sessions(report, &format!("usual design: {CPU}"));
    let memory = by_sessions(report, MEMORY);
    if ours.is_empty() {
        return Ok(());
    }
    let area = SVGBackend::new(path, (900, 360)).into_drawing_area();
    area.fill(&WHITE)?;
    let (left, right) = area.split_horizontally(450);
    let sessions = 80.0..15_000.0_f64;
    let mut chart = ChartBuilder::on(&left)
        .caption("CPU over a minute, % of one core", TITLE)
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d(sessions.clone().log_scale(), (TINY..200.0).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("idle sessions")
        .label_style(LABEL)
        .x_label_formatter(&plain)
        .y_label_formatter(&plain)
        .light_line_style(WHITE)
        .draw()?;
    for (name, points, colour) in [("Twobox", ours, BLUE), ("the usual design", usual, RED)] {
        let points: Vec<_> = points.into_iter().map(|(x, y)| (x, y.max(TINY))).collect();
        chart
            .draw_series(LineSeries::new(points.clone(), colour.stroke_width(2)))?
            .label(name)
            .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 18, y)], colour));
        chart.draw_series(points.into_iter().map(|at| Circle::new(at, 4, colour.filled())))?;
    }
    chart
        .configure_series_labels()
        .label_font(LABEL)
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE)
        .border_style(BLACK)
        .draw()?;
    let mut chart = ChartBuilder::on(&right)
        .caption("memory of the host, MiB", TITLE)
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d(sessions.log_scale(), 0.0..110.0)?;
    chart
        .configure_mesh()
        .x_desc("idle sessions")
        .label_style(LABEL)
        .x_label_formatter(&plain)
        .y_label_formatter(&plain)
        .light_line_style(WHITE)
        .draw()?;
    chart.draw_series(LineSeries::new(memory.clone(), BLUE.stroke_width(2)))?;
    chart.draw_series(memory.into_iter().map(|at| Circle::new(at, 4, BLUE.filled())))?;
    area.present()?;
    Ok(())
}

/// One bar for each runtime, one piece for each stage, in the order of time.
fn latency_split(report: &Report, path: &Path) -> Result<(), Error> {
    let of = |runtime: Runtime| -> Vec<&Row> {
        let rows = report.rows().iter().filter(|row| row.figure() == round_trip::FIGURE.name);
        let rows = rows.filter(|row| row.runtime() == Some(runtime));
        rows.filter(|row| row.what().starts_with(round_trip::STAGE)).collect()
    };
    let bars: Vec<(Runtime, Vec<&Row>)> = Runtime::ALL
        .into_iter()
        .map(|runtime| (runtime, of(runtime)))
        .filter(|(_, rows)| !rows.is_empty())
        .collect();
    let total = |rows: &[&Row]| rows.iter().map(|row| row.value()).sum::<f64>();
    let longest = bars.iter().map(|(_, rows)| total(rows)).fold(0.0, f64::max);
    if longest == 0.0 {
        return Ok(());
    }
    // The commits are dark, what lies between them is light.
    let colours: [RGBColor; STAGES.len()] = [
        RGBColor(33, 76, 140),
        RGBColor(190, 205, 225),
        RGBColor(46, 125, 90),
        RGBColor(196, 224, 208),
        RGBColor(150, 84, 30),
        RGBColor(238, 214, 190),
    ];
    let area = SVGBackend::new(path, (900, 260)).into_drawing_area();
    area.fill(&WHITE)?;
    let rows = bars.len() as f64;
    let mut chart = ChartBuilder::on(&area)
        .caption("a warm round trip, median of each stage, ms", TITLE)
        .margin(12)
        .margin_right(150)
        .x_label_area_size(30)
        .y_label_area_size(70)
        .build_cartesian_2d(0.0..longest * 1.02, 0.0..rows)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .label_style(LABEL)
        .light_line_style(WHITE)
        .y_labels(0)
        .draw()?;
    for (at, (runtime, stages)) in bars.iter().enumerate() {
        let (low, high) = (at as f64 + 0.2, at as f64 + 0.8);
        let mut begin = 0.0;
        for (stage, colour) in stages.iter().zip(colours) {
            let end = begin + stage.value();
            let piece = Rectangle::new([(begin, low), (end, high)], colour.filled());
            chart.draw_series([piece])?;
            begin = end;
        }
        let (x, y) = chart.backend_coord(&(0.0, at as f64 + 0.5));
        area.draw(&Text::new(runtime.word(), (x - 62, y - 8), LABEL))?;
    }
    for (at, (name, colour)) in STAGES.iter().zip(colours).enumerate() {
        let y = 40 + 22 * at as i32;
        area.draw(&Rectangle::new([(765, y), (779, y + 14)], colour.filled()))?;
        area.draw(&Text::new(*name, (786, y), LABEL))?;
    }
    area.present()?;
    Ok(())
}
