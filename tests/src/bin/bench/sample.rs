//! Durations of one kind, and what is reported of them.

use std::time::Duration;

/// Durations in milliseconds, in order of length.
#[derive(Debug, Default, Clone)]
pub(crate) struct Sample {
    values: Vec<f64>,
}

impl Sample {
    pub(crate) fn add(&mut self, span: Duration) {
        let value = span.as_secs_f64() * 1000.0;
        let at = self.values.partition_point(|other| *other < value);
        self.values.insert(at, value);
    }

    /// Both samples in one.
    pub(crate) fn join(mut self, other: Self) -> Self {
        self.values.extend(other.values);
        self.values.sort_by(f64::total_cmp);
        self
    }

    pub(crate) fn count(&self) -> usize {
        self.values.len()
    }

    /// All of them together.
    pub(crate) fn total(&self) -> f64 {
        self.values.iter().sum()
    }

    pub(crate) fn p50(&self) -> f64 {
        self.quantile(0.50)
    }

    pub(crate) fn p99(&self) -> f64 {
        self.quantile(0.99)
    }

    pub(crate) fn longest(&self) -> f64 {
        self.quantile(1.0)
    }

    /// The nearest-rank quantile; not a number for an empty sample.
    fn quantile(&self, share: f64) -> f64 {
        let rank = (self.values.len() as f64 * share).ceil() as usize;
        self.values.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
    }
}

impl FromIterator<Duration> for Sample {
    fn from_iter<T: IntoIterator<Item = Duration>>(spans: T) -> Self {
        let mut values: Vec<f64> =
            spans.into_iter().map(|span| span.as_secs_f64() * 1000.0).collect();
        values.sort_by(f64::total_cmp);
        Self { values }
    }
}
