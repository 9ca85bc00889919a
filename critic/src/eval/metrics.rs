//! Rates of a binary critic. Flawed is the positive class: a false positive is a valid rationale
//! that was called flawed.
//!
//! Where a rate has no cases to be a rate of, it is NaN here and `null` in files: no rate was
//! measured, and 0 would say otherwise.

use serde::Serialize;

use super::calibration::Reliability;
use crate::case::Verdict;

/// What a critic said about one case.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The truth.
    pub label: Verdict,
    /// The true flaw.
    pub flaw_type: Option<String>,
    /// What a person decided, where one did.
    pub operator: Option<Verdict>,
    /// What the critic said.
    pub verdict: Verdict,
    /// The flaw that it named.
    pub named_flaw: Option<String>,
    /// Its probability that the rationale is flawed, from 0 to 1.
    pub flawed_probability: f64,
    /// Time of the verdict in milliseconds.
    pub latency_ms: f64,
}

impl Outcome {
    /// Whether the verdict is true.
    pub fn is_right(&self) -> bool {
        self.verdict == self.label
    }

    /// Probability of the verdict that was given.
    pub fn confidence(&self) -> f64 {
        match self.verdict {
            Verdict::Flawed => self.flawed_probability,
            Verdict::Valid => 1.0 - self.flawed_probability,
        }
    }
}

/// Counts of the four outcomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Counts {
    /// Flawed and called so.
    pub true_positive: usize,
    /// Valid but called flawed.
    pub false_positive: usize,
    /// Valid and called so.
    pub true_negative: usize,
    /// Flawed but called valid.
    pub false_negative: usize,
}

impl Counts {
    /// Counts verdicts against labels.
    pub fn of<'a>(outcomes: impl IntoIterator<Item = &'a Outcome>) -> Self {
        let mut counts = Self::default();
        for it in outcomes {
            *match (it.label, it.verdict) {
                (Verdict::Flawed, Verdict::Flawed) => &mut counts.true_positive,
                (Verdict::Valid, Verdict::Flawed) => &mut counts.false_positive,
                (Verdict::Valid, Verdict::Valid) => &mut counts.true_negative,
                (Verdict::Flawed, Verdict::Valid) => &mut counts.false_negative,
            } += 1;
        }
        counts
    }
}

/// One number that judges a critic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Metric {
    /// Share of true verdicts.
    Accuracy,
    /// Share of true ones among those called flawed.
    Precision,
    /// Share of the flawed ones that were called so.
    Recall,
    /// Harmonic mean of precision and recall.
    F1,
    /// Share of the valid ones that were called flawed.
    FalsePositiveRate,
    /// Agreement with the label beyond chance (Cohen 1960).
    Kappa,
    /// Share of agreement with the operator's column.
    OperatorAgreement,
    /// Agreement with the operator's column beyond chance.
    OperatorKappa,
    /// Share of right flaw types among flawed cases that were called flawed.
    FlawAccuracy,
    /// Expected calibration error: ten bins of equal width over the verdict's confidence
    /// (Guo et al. 2017).
    Ece,
    /// Mean squared error of the probability (Brier 1950).
    Brier,
}

impl Metric {
    /// All, in the order of reports.
    pub const ALL: [Metric; 11] = [
        Metric::Accuracy,
        Metric::Precision,
        Metric::Recall,
        Metric::F1,
        Metric::FalsePositiveRate,
        Metric::Kappa,
        Metric::FlawAccuracy,
        Metric::Ece,
        Metric::Brier,
        Metric::OperatorAgreement,
        Metric::OperatorKappa,
    ];

    /// Its name in files.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Accuracy => "accuracy",
            Metric::Precision => "precision",
            Metric::Recall => "recall",
            Metric::F1 => "f1",
            Metric::FalsePositiveRate => "fpr",
            Metric::Kappa => "kappa",
            Metric::OperatorAgreement => "operator_agreement",
            Metric::OperatorKappa => "operator_kappa",
            Metric::FlawAccuracy => "flaw_accuracy",
            Metric::Ece => "ece",
            Metric::Brier => "brier",
        }
    }

    /// Whether more is better.
    pub fn higher_is_better(self) -> bool {
        !matches!(self, Metric::FalsePositiveRate | Metric::Ece | Metric::Brier)
    }

    /// Its value over `outcomes`; NaN where there is nothing to measure.
    pub fn value(self, outcomes: &[&Outcome]) -> f64 {
        let counts = Counts::of(outcomes.iter().copied());
        let Counts {
            true_positive: tp,
            false_positive: fp,
            true_negative: tn,
            false_negative: fn_,
        } = counts;
        match self {
            Metric::Accuracy => ratio(tp + tn, outcomes.len()),
            Metric::Precision => ratio(tp, tp + fp),
            Metric::Recall => ratio(tp, tp + fn_),
            Metric::F1 => ratio(2 * tp, 2 * tp + fp + fn_),
            Metric::FalsePositiveRate => ratio(fp, fp + tn),
            Metric::Kappa => kappa(counts),
            Metric::FlawAccuracy => {
                let found: Vec<_> = outcomes
                    .iter()
                    .filter(|it| it.label == Verdict::Flawed && it.verdict == Verdict::Flawed)
                    .collect();
                ratio(found.iter().filter(|it| it.named_flaw == it.flaw_type).count(), found.len())
            }
            Metric::Ece => Reliability::of(outcomes.iter().copied()).ece(),
            Metric::Brier => {
                let error = |it: &&Outcome| {
                    let truth = f64::from(u8::from(it.label == Verdict::Flawed));
                    (it.flawed_probability - truth).powi(2)
                };
                outcomes.iter().map(error).sum::<f64>() / outcomes.len() as f64
            }
            Metric::OperatorAgreement => {
                let seen: Vec<_> = outcomes.iter().filter(|it| it.operator.is_some()).collect();
                ratio(seen.iter().filter(|it| it.operator == Some(it.verdict)).count(), seen.len())
            }
            Metric::OperatorKappa => kappa(Counts::of(&against_operator(outcomes))),
        }
    }
}

/// The outcomes that an operator judged, with the operator's verdict as the label.
fn against_operator(outcomes: &[&Outcome]) -> Vec<Outcome> {
    let judged = outcomes.iter().filter_map(|it| Some((it, it.operator?)));
    judged.map(|(it, label)| Outcome { label, ..(**it).clone() }).collect()
}

fn ratio(part: usize, whole: usize) -> f64 {
    part as f64 / whole as f64
}

/// Cohen's kappa of a two by two table.
fn kappa(counts: Counts) -> f64 {
    let Counts { true_positive: tp, false_positive: fp, true_negative: tn, false_negative: fn_ } =
        counts;
    let n = (tp + fp + tn + fn_) as f64;
    let observed = (tp + tn) as f64 / n;
    let by_chance =
        ((tp + fp) as f64 * (tp + fn_) as f64 + (tn + fn_) as f64 * (tn + fp) as f64) / (n * n);
    (observed - by_chance) / (1.0 - by_chance)
}

/// Every metric of a set of outcomes.
#[derive(Debug, Clone, PartialEq)]
pub struct Metrics {
    /// Number of cases.
    pub count: usize,
    /// The four outcomes.
    pub counts: Counts,
    values: Vec<(Metric, f64)>,
}

impl Metrics {
    /// Measures.
    pub fn of(outcomes: &[Outcome]) -> Self {
        let all: Vec<&Outcome> = outcomes.iter().collect();
        Self {
            count: all.len(),
            counts: Counts::of(outcomes),
            values: Metric::ALL.into_iter().map(|it| (it, it.value(&all))).collect(),
        }
    }

    /// One value; NaN where there was nothing to measure.
    pub fn get(&self, metric: Metric) -> f64 {
        self.values.iter().find(|it| it.0 == metric).map_or(f64::NAN, |it| it.1)
    }

    /// All values.
    pub fn values(&self) -> &[(Metric, f64)] {
        &self.values
    }
}

/// The 50th, 95th and 99th percentile in milliseconds, with linear interpolation between ranks.
pub fn latency_percentiles(outcomes: &[Outcome]) -> [f64; 3] {
    let mut sorted: Vec<f64> = outcomes.iter().map(|it| it.latency_ms).collect();
    sorted.sort_by(f64::total_cmp);
    [0.5, 0.95, 0.99].map(|it| percentile(&sorted, it))
}

/// The value below which `share` of the `sorted` values lie.
pub(super) fn percentile(sorted: &[f64], share: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let rank = share * last as f64;
    let (below, above) = (rank.floor() as usize, rank.ceil() as usize);
    sorted[below] + (sorted[above] - sorted[below]) * (rank - below as f64)
}
