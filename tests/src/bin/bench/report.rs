//! What was measured: rows, from which the table and the JSON are made.

use std::fmt::{self, Write as _};
use std::path::Path;

use serde_json::{Value, json};
use twobox_tests::Runtime;

use crate::Error;
use crate::figures::Figure;
use crate::options::Options;
use crate::sample::Sample;

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Millis,
    PerSecond,
    MiB,
    Percent,
    Count,
}

impl Unit {
    const fn word(self) -> &'static str {
        match self {
            Self::Millis => "ms",
            Self::PerSecond => "/s",
            Self::MiB => "MiB",
            Self::Percent => "%",
            Self::Count => "",
        }
    }
}

/// What is allowed: the numbers stand with the figures.
#[derive(Debug, Clone, Copy)]
enum Budget {
    AtMost(f64),
    AtLeast(f64),
    /// For the 99th percentile.
    P99AtMost(f64),
}

/// What the figure is held against, measured in the same run.
#[derive(Debug, Clone)]
struct Floor {
    name: String,
    value: f64,
}

/// One line of the report.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    what: String,
    unit: Unit,
    value: f64,
    /// The 99th percentile and the number of samples, where `value` is a median.
    spread: Option<(f64, usize)>,
    runtime: Option<Runtime>,
    floor: Option<Floor>,
    budget: Option<Budget>,
    figure: &'static str,
}

impl Row {
    /// The median of `sample`.
    pub(crate) fn sample(what: impl Into<String>, sample: &Sample) -> Self {
        let spread = Some((sample.p99(), sample.count()));
        Self { spread, ..Self::number(what, Unit::Millis, sample.p50()) }
    }

    pub(crate) fn number(what: impl Into<String>, unit: Unit, value: f64) -> Self {
        let what = what.into();
        let (spread, runtime, floor, budget) = (None, None, None, None);
        Self { what, unit, value, spread, runtime, floor, budget, figure: "" }
    }

    pub(crate) fn on(mut self, runtime: Runtime) -> Self {
        self.runtime = Some(runtime);
        self
    }

    /// Holds the figure against `value`, in the same unit.
    pub(crate) fn beside(mut self, name: impl Into<String>, value: f64) -> Self {
        self.floor = Some(Floor { name: name.into(), value });
        self
    }

    pub(crate) fn at_most(mut self, limit: f64) -> Self {
        self.budget = Some(Budget::AtMost(limit));
        self
    }

    pub(crate) fn at_least(mut self, limit: f64) -> Self {
        self.budget = Some(Budget::AtLeast(limit));
        self
    }

    pub(crate) fn p99_at_most(mut self, limit: f64) -> Self {
        self.budget = Some(Budget::P99AtMost(limit));
        self
    }

    pub(crate) fn what(&self) -> &str {
        &self.what
    }

    pub(crate) fn value(&self) -> f64 {
        self.value
    }

    pub(crate) fn runtime(&self) -> Option<Runtime> {
        self.runtime
    }

    pub(crate) fn figure(&self) -> &'static str {
        self.figure
    }

    fn kept(&self) -> Option<bool> {
        Some(match self.budget? {
            Budget::AtMost(limit) => self.value <= limit,
            Budget::AtLeast(limit) => self.value >= limit,
            Budget::P99AtMost(limit) => self.spread?.0 <= limit,
        })
    }

    fn ratio(&self) -> Option<f64> {
        self.floor.as_ref().map(|floor| self.value / floor.value).filter(|ratio| ratio.is_finite())
    }

    fn show(&self, value: f64) -> String {
        format!("{} {}", number(value), self.unit.word()).trim_end().to_owned()
    }

    fn cells(&self) -> [String; 6] {
        let floor = self.floor.as_ref().map(|floor| {
            let ratio = self.ratio().map(|ratio| format!(", {} ×", number(ratio)));
            format!("{} {}{}", floor.name, self.show(floor.value), ratio.unwrap_or_default())
        });
        let budget = self.budget.map(|budget| match budget {
            Budget::AtMost(limit) => format!("≤ {}", self.show(limit)),
            Budget::AtLeast(limit) => format!("≥ {}", self.show(limit)),
            Budget::P99AtMost(limit) => format!("p99 ≤ {}", self.show(limit)),
        });
        let kept = match self.kept() {
            Some(true) => ", kept",
            Some(false) => ", **missed**",
            None => "",
        };
        [
            self.runtime.map(|runtime| format!("{}: ", runtime.word())).unwrap_or_default()
                + &self.what,
            self.show(self.value),
            self.spread.map(|(p99, _)| self.show(p99)).unwrap_or_default(),
            self.spread.map(|(_, count)| count.to_string()).unwrap_or_default(),
            floor.unwrap_or_default(),
            budget.unwrap_or_default() + kept,
        ]
    }

    fn to_json(&self) -> Value {
        let (budget, limit) = match self.budget {
            Some(Budget::AtMost(limit)) => (Some("at_most"), Some(limit)),
            Some(Budget::AtLeast(limit)) => (Some("at_least"), Some(limit)),
            Some(Budget::P99AtMost(limit)) => (Some("p99_at_most"), Some(limit)),
            None => (None, None),
        };
        json!({
            "figure": self.figure,
            "runtime": self.runtime.map(Runtime::word),
            "what": self.what,
            "unit": self.unit.word(),
            "value": self.value,
            "p99": self.spread.map(|(p99, _)| p99),
            "count": self.spread.map(|(_, count)| count),
            "floor": self.floor.as_ref().map(|floor| json!({
                "name": floor.name, "value": floor.value, "ratio": self.ratio(),
            })),
            "budget": budget.map(|kind| json!({ "kind": kind, "limit": limit, "kept": self.kept() })),
        })
    }
}

/// With as many digits as mean something.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 || value.fract() == 0.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

/// Where it was measured.
#[derive(Debug)]
pub(crate) struct Machine {
    cores: usize,
    kernel: String,
    file_system: String,
    profile: &'static str,
    quick: bool,
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cores, kernel, file_system, profile, quick } = self;
        write!(f, "{cores} cores, Linux {kernel}, {file_system}, {profile} build")?;
        if *quick { write!(f, ", quick: the numbers mean nothing") } else { Ok(()) }
    }
}

/// All rows of a run.
#[derive(Debug)]
pub(crate) struct Report {
    machine: Machine,
    rows: Vec<Row>,
}

impl Report {
    pub(crate) fn new(options: &Options) -> Result<Self, Error> {
        let uname = nix::sys::utsname::uname()?;
        Ok(Self {
            machine: Machine {
                cores: std::thread::available_parallelism()?.get(),
                kernel: uname.release().to_string_lossy().into_owned(),
                file_system: file_system(&std::env::temp_dir().canonicalize()?)?,
                profile: if cfg!(debug_assertions) { "debug" } else { "release" },
                quick: options.quick,
            },
            rows: Vec::new(),
        })
    }

    pub(crate) fn machine(&self) -> &Machine {
        &self.machine
    }

    pub(crate) fn add(&mut self, figure: &'static Figure, row: Row) {
        self.rows.push(Row { figure: figure.name, ..row });
    }

    pub(crate) fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The rows of `figure`, which are those from `from` on, as a table in Markdown that is readable
    /// as it stands.
    pub(crate) fn table(&self, figure: &Figure, from: usize) -> String {
        let head = ["", "median", "p99", "count", "beside", "budget"].map(str::to_owned);
        let mut lines = vec![head];
        lines.extend(self.rows[from..].iter().map(Row::cells));
        let widths: [usize; 6] = std::array::from_fn(|column| {
            lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0).max(3)
        });
        lines.insert(1, widths.map(|width| "-".repeat(width)));
        let mut text = format!("### {}: {}\n\n", figure.name, figure.about);
        for line in &lines {
            for (cell, width) in line.iter().zip(widths) {
                write!(text, "| {cell:<width$} ").expect("a string takes everything");
            }
            text.push_str("|\n");
        }
        text
    }

    /// Writes the JSON where it was asked for.
    pub(crate) fn save(&self, options: &Options) -> Result<(), Error> {
        let Some(path) = &options.json else { return Ok(()) };
        let Machine { cores, kernel, file_system, profile, quick } = &self.machine;
        let report = json!({
            "machine": {
                "cores": cores, "kernel": kernel, "file_system": file_system,
                "profile": profile, "quick": quick,
            },
            "rows": self.rows.iter().map(Row::to_json).collect::<Vec<_>>(),
        });
        Ok(std::fs::write(path, format!("{report:#}\n"))?)
    }
}

/// The kind of the file system that `path` is on: of the longest mount point above it.
fn file_system(path: &Path) -> Result<String, Error> {
    let mounts = std::fs::read_to_string("/proc/mounts")?;
    let above = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (point, kind) = (words.next()?, words.next()?);
        path.starts_with(point).then_some((point.len(), kind))
    });
    Ok(above.max_by_key(|(length, _)| *length).ok_or("no file system")?.1.to_owned())
}
