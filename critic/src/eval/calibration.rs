//! Whether a probability means what it says, and how to make it so.

use serde::{Deserialize, Serialize};

use super::metrics::Outcome;
use crate::case::Verdict;

/// Bins of a reliability curve.
const BINS: usize = 10;

/// Newton steps until a fit is given up; it takes about ten.
const STEPS: usize = 100;

/// Confidence against the share of true verdicts, in ten bins of equal width.
#[derive(Debug, Clone, PartialEq)]
pub struct Reliability {
    /// Number of verdicts, sum of confidences and number of true ones, for each bin.
    bins: [(usize, f64, usize); BINS],
}

/// One point of a reliability curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ReliabilityPoint {
    /// Verdicts in the bin.
    pub count: usize,
    /// Their mean confidence.
    pub confidence: f64,
    /// The share of true ones.
    pub accuracy: f64,
}

impl Reliability {
    /// Sorts verdicts into bins by their confidence. A bin holds its upper edge, not its lower.
    pub fn of<'a>(outcomes: impl IntoIterator<Item = &'a Outcome>) -> Self {
        let mut bins = [(0, 0.0, 0); BINS];
        for it in outcomes {
            let confidence = it.confidence();
            let at = ((confidence * BINS as f64).ceil() as usize).clamp(1, BINS) - 1;
            bins[at].0 += 1;
            bins[at].1 += confidence;
            bins[at].2 += usize::from(it.is_right());
        }
        Self { bins }
    }

    /// The bins that hold something.
    pub fn points(&self) -> Vec<ReliabilityPoint> {
        let point = |&(count, confidence, right): &(usize, f64, usize)| ReliabilityPoint {
            count,
            confidence: confidence / count as f64,
            accuracy: right as f64 / count as f64,
        };
        self.bins.iter().filter(|it| it.0 > 0).map(point).collect()
    }

    /// Mean distance of confidence and accuracy, weighted by the bins' sizes.
    pub fn ece(&self) -> f64 {
        let total: usize = self.bins.iter().map(|it| it.0).sum();
        let gap = |it: &(usize, f64, usize)| (it.1 - it.2 as f64).abs();
        self.bins.iter().map(gap).sum::<f64>() / total as f64
    }
}

/// Turns a model's log-odds into calibrated ones: `slope * logit + intercept` (Platt 1999). With an
/// intercept of 0 it is temperature scaling.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Factor of the log-odds; 1 changes nothing.
    pub slope: f64,
    /// Added to them; 0 changes nothing.
    pub intercept: f64,
}

impl Default for Calibration {
    fn default() -> Self {
        Self { slope: 1.0, intercept: 0.0 }
    }
}

impl Calibration {
    /// The probability that belongs to a model's log-odds of flawed against valid.
    pub fn probability(self, log_odds: f64) -> f64 {
        sigmoid(self.slope * log_odds + self.intercept)
    }

    /// Fits both numbers to `(log-odds, label)` by maximum likelihood, with Platt's smoothed
    /// targets, so that a perfect model does not get an infinite slope. `None` where there are no
    /// cases of one label, or no finite fit.
    pub fn fit(scores: &[(f64, Verdict)]) -> Option<Self> {
        let flawed = scores.iter().filter(|it| it.1 == Verdict::Flawed).count();
        let valid = scores.len() - flawed;
        if flawed == 0 || valid == 0 {
            return None;
        }
        let high = (flawed as f64 + 1.0) / (flawed as f64 + 2.0);
        let low = 1.0 / (valid as f64 + 2.0);
        let target = |label| if label == Verdict::Flawed { high } else { low };
        let loss = |fit: Self| -> f64 {
            let one = |&(x, label): &(f64, Verdict)| {
                let z = fit.slope * x + fit.intercept;
                // log(1 + exp(z)) - target * z, without overflow.
                z.max(0.0) + (-z.abs()).exp().ln_1p() - target(label) * z
            };
            scores.iter().map(one).sum()
        };
        let mut fit = Self { slope: 1.0, intercept: 0.0 };
        for _ in 0..STEPS {
            let (mut g, mut h) = ([0.0; 2], [1e-9, 0.0, 1e-9]);
            for &(x, label) in scores {
                let p = fit.probability(x);
                let (d, w) = (p - target(label), p * (1.0 - p));
                g = [g[0] + d * x, g[1] + d];
                h = [h[0] + w * x * x, h[1] + w * x, h[2] + w];
            }
            let det = h[0] * h[2] - h[1] * h[1];
            let step = [(h[2] * g[0] - h[1] * g[1]) / det, (h[0] * g[1] - h[1] * g[0]) / det];
            if !step.iter().all(|it| it.is_finite()) {
                return None;
            }
            // Newton's step is shortened until it helps.
            let mut scale = 1.0;
            let before = loss(fit);
            let moved = loop {
                let next = Self {
                    slope: fit.slope - scale * step[0],
                    intercept: fit.intercept - scale * step[1],
                };
                if loss(next) <= before || scale < 1e-6 {
                    break next;
                }
                scale /= 2.0;
            };
            let change = (moved.slope - fit.slope).abs() + (moved.intercept - fit.intercept).abs();
            fit = moved;
            if change < 1e-9 {
                break;
            }
        }
        (fit.slope.is_finite() && fit.intercept.is_finite()).then_some(fit)
    }
}

/// The logistic function.
pub fn sigmoid(z: f64) -> f64 {
    if z >= 0.0 { 1.0 / (1.0 + (-z).exp()) } else { z.exp() / (1.0 + z.exp()) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::data::Draws;

    /// Cases of a model whose log-odds are `stretch` times the true ones, plus `shift`.
    fn scripted(stretch: f64, shift: f64) -> Vec<(f64, Verdict)> {
        let mut draws = Draws::new(5, 0);
        (0..20_000)
            .map(|_| {
                let truth = 8.0 * (draws.uniform() - 0.5);
                let flawed = draws.chance(sigmoid(truth));
                let label = if flawed { Verdict::Flawed } else { Verdict::Valid };
                (stretch * truth + shift, label)
            })
            .collect()
    }

    fn outcomes(scores: &[(f64, Verdict)], calibration: Calibration) -> Vec<Outcome> {
        let one = |&(log_odds, label): &(f64, Verdict)| {
            let flawed_probability = calibration.probability(log_odds);
            let verdict = if flawed_probability > 0.5 { Verdict::Flawed } else { Verdict::Valid };
            Outcome {
                label,
                flaw_type: None,
                operator: None,
                verdict,
                named_flaw: None,
                flawed_probability,
                latency_ms: 0.0,
            }
        };
        scores.iter().map(one).collect()
    }

    #[test]
    fn a_fit_undoes_a_known_distortion() {
        let scores = scripted(3.0, 2.0);
        let fit = Calibration::fit(&scores).unwrap();
        assert!((fit.slope - 1.0 / 3.0).abs() < 0.02, "{fit:?}");
        assert!((fit.intercept + 2.0 / 3.0).abs() < 0.06, "{fit:?}");
        let before = Reliability::of(&outcomes(&scores, Calibration::default())).ece();
        let after = Reliability::of(&outcomes(&scores, fit)).ece();
        assert!(before > 0.1 && after < 0.015, "{before} {after}");
    }

    #[test]
    fn a_perfect_model_gets_a_finite_fit_and_one_label_none() {
        let scores: Vec<_> = (0..50)
            .map(|i| if i % 2 == 0 { (9.0, Verdict::Flawed) } else { (-9.0, Verdict::Valid) })
            .collect();
        let fit = Calibration::fit(&scores).unwrap();
        assert!(fit.slope > 0.1 && fit.slope < 2.0, "{fit:?}");
        assert_eq!(Calibration::fit(&scores[..1]), None);
        assert_eq!(Calibration::fit(&[]), None);
    }
}
