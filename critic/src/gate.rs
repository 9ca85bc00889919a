//! The promotion gate: an adapter that is worse than what it would replace is refused.

use serde::Serialize;

use crate::eval::{Comparison, Metric, Outcome, compare};

/// Differences that count as noise in a suite this small are of no use.
const LEAST_CASES: usize = 50;

/// Whether an adapter may replace what is in use.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Decision {
    /// Whether it may.
    pub promoted: bool,
    /// Why not, or what speaks for it.
    pub reasons: Vec<String>,
}

/// Compares a candidate with what it would replace on the same cases. It is refused where F1 is
/// lower, or false positives are more frequent, by more than noise: where the 95 % interval of the
/// paired difference lies wholly on the wrong side of 0. It is refused too where it answers fewer
/// cases, and where the suite is too small to tell anything.
pub fn decide(base: &[Outcome], candidate: &[Outcome], unanswered: usize, seed: u64) -> Decision {
    let mut against = Vec::new();
    if base.len() != candidate.len() || unanswered > 0 {
        against.push(format!("it gives no verdict on {unanswered} cases"));
        return Decision { promoted: false, reasons: against };
    }
    if base.len() < LEAST_CASES {
        against.push(format!(
            "{} cases are too few to tell a difference from noise; at least {LEAST_CASES} are needed",
            base.len()
        ));
        return Decision { promoted: false, reasons: against };
    }
    let comparison = compare(base, candidate, seed);
    for metric in [Metric::F1, Metric::FalsePositiveRate] {
        against.extend(worse(&comparison, metric));
    }
    let promoted = against.is_empty();
    let reasons = if promoted { vec![supports(&comparison)] } else { against };
    Decision { promoted, reasons }
}

fn worse(comparison: &Comparison, metric: Metric) -> Option<String> {
    let Some(d) = comparison.get(metric) else {
        return Some(format!("{} is unknown", metric.name()));
    };
    if d.value.is_nan() {
        return Some(format!("{} could not be measured", metric.name()));
    }
    let is_worse = if metric.higher_is_better() { d.high < 0.0 } else { d.low > 0.0 };
    is_worse.then(|| {
        format!(
            "{} is worse by {:.3} (95 % interval {:+.3} to {:+.3})",
            metric.name(),
            d.value.abs(),
            d.low,
            d.high
        )
    })
}

fn supports(comparison: &Comparison) -> String {
    let shown = |metric| {
        comparison.get(metric).map_or_else(String::new, |d| {
            format!("{} {:+.3} ({:+.3} to {:+.3})", metric.name(), d.value, d.low, d.high)
        })
    };
    format!(
        "{}, {}, McNemar p {:.4}",
        shown(Metric::F1),
        shown(Metric::FalsePositiveRate),
        comparison.mcnemar_p
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{case::Verdict, data::Draws};

    /// A critic that finds flaws and passes valid cases with known probabilities.
    fn scripted(recall: f64, fpr: f64, count: usize, seed: u64) -> Vec<Outcome> {
        (0..count)
            .map(|i| {
                let label = if i % 2 == 0 { Verdict::Flawed } else { Verdict::Valid };
                let rate = if label == Verdict::Flawed { recall } else { fpr };
                let flawed = Draws::new(seed, i as u64).chance(rate);
                Outcome {
                    label,
                    flaw_type: None,
                    operator: None,
                    verdict: if flawed { Verdict::Flawed } else { Verdict::Valid },
                    named_flaw: None,
                    flawed_probability: if flawed { 0.9 } else { 0.1 },
                    latency_ms: 1.0,
                }
            })
            .collect()
    }

    #[test]
    fn better_and_equal_pass_and_worse_is_refused_with_its_reason() {
        let base = scripted(0.8, 0.1, 600, 1);
        let decide = |candidate: &[Outcome]| decide(&base, candidate, 0, 1);
        assert!(decide(&scripted(0.95, 0.05, 600, 2)).promoted);
        assert!(decide(&base).promoted);
        assert!(decide(&scripted(0.8, 0.1, 600, 3)).promoted);
        let blind = decide(&scripted(0.5, 0.1, 600, 4));
        assert!(!blind.promoted && blind.reasons[0].starts_with("f1 is worse"), "{blind:?}");
        // It finds more flaws by crying wolf.
        let wolf = decide(&scripted(0.99, 0.3, 600, 5));
        assert!(!wolf.promoted && wolf.reasons[0].starts_with("fpr is worse"), "{wolf:?}");
    }

    #[test]
    fn too_few_cases_and_missing_verdicts_are_no_pass() {
        let base = scripted(0.5, 0.5, 40, 1);
        assert!(!decide(&base, &scripted(1.0, 0.0, 40, 1), 0, 1).promoted);
        let base = scripted(0.5, 0.5, 100, 1);
        assert!(!decide(&base, &base, 3, 1).promoted);
        assert!(!decide(&base, &base[..90], 0, 1).promoted);
    }

    #[test]
    fn an_equal_adapter_is_rarely_refused() {
        let refused = (0..60)
            .filter(|&i| {
                let (a, b) =
                    (scripted(0.85, 0.1, 200, 2 * i + 100), scripted(0.85, 0.1, 200, 2 * i + 101));
                !decide(&a, &b, 0, i).promoted
            })
            .count();
        // Two one-sided tests at 2.5 %: 3 expected; 10 would be above 3.9 sigma.
        assert!(refused < 10, "{refused} of 60");
    }
}
