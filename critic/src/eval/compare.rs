//! Two critics on the same cases: is the difference more than noise?

use serde::Serialize;

use super::{
    intervals::{Interval, SAMPLES, resample},
    metrics::{Metric, Outcome},
};

/// Up to so many cases on which the two differ, the exact binomial test is used.
const EXACT_UP_TO: usize = 1000;

/// The second critic against the first.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// Cases that only the first got right.
    pub only_first: usize,
    /// Cases that only the second got right.
    pub only_second: usize,
    /// Probability of so uneven a split, or a more uneven one, between equally good critics
    /// (McNemar 1947).
    pub mcnemar_p: f64,
    /// For each metric: the second's value minus the first's, its interval, and the two-sided
    /// p-value of the paired bootstrap.
    pub differences: Vec<(Metric, Difference)>,
}

/// A difference between two critics.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Difference {
    /// The second's value minus the first's.
    pub value: f64,
    /// The lower end of its 95 % interval.
    pub low: f64,
    /// The upper end.
    pub high: f64,
    /// How often the sign could come about by chance.
    pub p: f64,
}

impl Comparison {
    /// The difference of one metric.
    pub fn get(&self, metric: Metric) -> Option<Difference> {
        self.differences.iter().find(|it| it.0 == metric).map(|it| it.1)
    }
}

/// Compares outcomes of two critics on the same cases in the same order.
///
/// # Panics
/// Where there are not as many of the one as of the other: a caller's mistake.
pub fn compare(first: &[Outcome], second: &[Outcome], seed: u64) -> Comparison {
    assert_eq!(first.len(), second.len(), "outcomes of the same cases");
    let only = |a: &[Outcome], b: &[Outcome]| {
        std::iter::zip(a, b).filter(|(a, b)| a.is_right() && !b.is_right()).count()
    };
    let (only_first, only_second) = (only(first, second), only(second, first));
    let mut samples = vec![Vec::with_capacity(SAMPLES); Metric::ALL.len()];
    for sample in 0..SAMPLES {
        let picked = resample(first.len(), seed, sample);
        let a: Vec<&Outcome> = picked.iter().map(|&it| &first[it]).collect();
        let b: Vec<&Outcome> = picked.iter().map(|&it| &second[it]).collect();
        for (metric, values) in std::iter::zip(Metric::ALL, &mut samples) {
            values.push(metric.value(&b) - metric.value(&a));
        }
    }
    let (all_first, all_second): (Vec<&Outcome>, Vec<&Outcome>) =
        (first.iter().collect(), second.iter().collect());
    let differences = std::iter::zip(Metric::ALL, samples)
        .map(|(metric, values)| {
            let value = metric.value(&all_second) - metric.value(&all_first);
            let p = sign_p(&values);
            let Interval { low, high } = Interval::of(values);
            (metric, Difference { value, low, high, p })
        })
        .collect();
    Comparison { only_first, only_second, mcnemar_p: mcnemar(only_first, only_second), differences }
}

/// Twice the smaller share of samples on either side of 0; ties count for both. One is added to
/// both counts, so that a finite number of samples never gives a p-value of 0.
fn sign_p(values: &[f64]) -> f64 {
    let known: Vec<f64> = values.iter().copied().filter(|it| !it.is_nan()).collect();
    if known.is_empty() {
        return f64::NAN;
    }
    let below = known.iter().filter(|it| **it <= 0.0).count();
    let above = known.iter().filter(|it| **it >= 0.0).count();
    (2.0 * (below.min(above) + 1) as f64 / (known.len() + 1) as f64).min(1.0)
}

/// Two-sided McNemar test: exact for few discordant cases, else chi-square with Edwards'
/// correction.
pub fn mcnemar(only_first: usize, only_second: usize) -> f64 {
    let n = only_first + only_second;
    if n == 0 {
        return 1.0;
    }
    let smaller = only_first.min(only_second);
    if n <= EXACT_UP_TO {
        // Sum of binomial probabilities at 1/2, through logarithms of factorials.
        let ln_half = n as f64 * std::f64::consts::LN_2;
        let mut ln_choose = 0.0;
        let mut sum = 0.0;
        for k in 0..=smaller {
            if k > 0 {
                ln_choose += ((n - k + 1) as f64).ln() - (k as f64).ln();
            }
            sum += (ln_choose - ln_half).exp();
        }
        return (2.0 * sum).min(1.0);
    }
    let gap = (only_first.abs_diff(only_second) as f64 - 1.0).max(0.0);
    erfc((gap * gap / n as f64 / 2.0).sqrt())
}

/// Complementary error function, to a relative error of 1.2e-7 (Numerical Recipes, 6.2.2).
fn erfc(x: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.5 * x.abs());
    let terms = [
        -1.26551223,
        1.00002368,
        0.37409196,
        0.09678418,
        -0.18628806,
        0.27886807,
        -1.13520398,
        1.48851587,
        -0.82215223,
        0.17087277,
    ];
    let poly = terms.iter().rev().fold(0.0, |sum, term| sum * t + term);
    let value = t * (-x * x + poly).exp();
    if x >= 0.0 { value } else { 2.0 - value }
}
