//! The figures, one module for each.

mod burst;
mod cold_start;
mod crowd;
mod due;
mod floors;
mod footprint;
mod history;
mod hostile;
mod idle;
mod matrix;
mod models;
pub(crate) mod round_trip;
mod schedules;
mod side_by_side;
mod talk;
mod throughput;
mod wake;

pub(crate) use idle::{CPU, MEMORY, sessions_of};

use crate::Error;
use crate::options::Options;
use crate::report::Report;

/// One thing that is measured: adds its rows, with floor and budget, to the report.
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) measure: fn(&Options, &mut Report) -> Result<(), Error>,
}

/// In the order in which they are measured and shown.
pub(crate) static FIGURES: [&Figure; 16] = [
    &floors::FIGURE,
    &round_trip::FIGURE,
    &wake::FIGURE,
    &throughput::FIGURE,
    &burst::FIGURE,
    &idle::FIGURE,
    &history::FIGURE,
    &cold_start::FIGURE,
    &footprint::FIGURE,
    &side_by_side::FIGURE,
    &crowd::FIGURE,
    &hostile::FIGURE,
    &schedules::FIGURE,
    &due::FIGURE,
    &models::FIGURE,
    &matrix::FIGURE,
];
