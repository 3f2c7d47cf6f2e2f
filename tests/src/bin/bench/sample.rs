//! Durations of one kind, and what is reported of them.

use std::time::Duration;

use serde_json::{Value, json};

/// Durations in milliseconds.
#[derive(Debug, Default)]
pub(crate) struct Sample {
    values: Vec<f64>,
}

impl Sample {
    pub(crate) fn add(&mut self, span: Duration) {
        let at = self.values.partition_point(|other| *other < span.as_secs_f64() * 1000.0);
        self.values.insert(at, span.as_secs_f64() * 1000.0);
    }

    /// Both samples in one.
    pub(crate) fn join(mut self, other: Self) -> Self {
        self.values.extend(other.values);
        self.values.sort_by(f64::total_cmp);
        self
    }

    pub(crate) fn p50(&self) -> f64 {
        self.quantile(0.50)
    }

    pub(crate) fn p99(&self) -> f64 {
        self.quantile(0.99)
    }

    /// The nearest-rank quantile; not a number for an empty sample.
    fn quantile(&self, share: f64) -> f64 {
        let rank = (self.values.len() as f64 * share).ceil() as usize;
        self.values.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({ "p50": self.p50(), "p99": self.p99(), "count": self.values.len() })
    }
}
