//! Bootstrap intervals (Efron 1979): the spread of a metric over cases drawn again with
//! replacement.

use super::metrics::{Metric, Outcome, percentile};
use crate::data::Draws;

/// Samples of a bootstrap.
pub const SAMPLES: usize = 2000;

/// A 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// The 2.5th percentile.
    pub low: f64,
    /// The 97.5th percentile.
    pub high: f64,
}

impl Interval {
    /// From the values of a bootstrap; samples in which there was nothing to measure are left out.
    pub(super) fn of(mut values: Vec<f64>) -> Self {
        values.retain(|it| !it.is_nan());
        values.sort_by(f64::total_cmp);
        Self { low: percentile(&values, 0.025), high: percentile(&values, 0.975) }
    }
}

/// The interval of each metric of [`Metric::ALL`], in its order. The same seed gives the same
/// intervals.
pub fn bootstrap(outcomes: &[Outcome], seed: u64) -> Vec<Interval> {
    let mut values = vec![Vec::with_capacity(SAMPLES); Metric::ALL.len()];
    if !outcomes.is_empty() {
        for sample in 0..SAMPLES {
            let picked = resample(outcomes.len(), seed, sample);
            let drawn: Vec<&Outcome> = picked.iter().map(|&it| &outcomes[it]).collect();
            for (metric, values) in std::iter::zip(Metric::ALL, &mut values) {
                values.push(metric.value(&drawn));
            }
        }
    }
    values.into_iter().map(Interval::of).collect()
}

/// Indices drawn with replacement.
pub(super) fn resample(count: usize, seed: u64, sample: usize) -> Vec<usize> {
    let mut draws = Draws::new(seed, sample as u64);
    (0..count).map(|_| draws.below(count)).collect()
}
