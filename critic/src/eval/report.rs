//! All that was measured, as one object: the same numbers for the table, the JSON and the page.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{
    Comparison, ErrorKind, Interval, Metric, Metrics, Outcome, Reliability, TypeConfusion,
    compare::compare,
    intervals::bootstrap,
    latency_percentiles,
    run::{CaseResult, outcomes},
    suite::Suite,
};
use crate::case::Verdict;

/// One critic's results.
#[derive(Debug, Clone)]
pub struct ModelReport {
    /// What the critic is called.
    pub name: String,
    /// Every result, in the order of the suite.
    pub results: Vec<CaseResult>,
    /// Verdicts with their truth, without those that met an error.
    pub outcomes: Vec<Outcome>,
    /// The rates.
    pub metrics: Metrics,
    /// Their intervals, in the order of [`Metric::ALL`].
    pub intervals: Vec<Interval>,
    /// Which flaw was taken for which.
    pub confusion: TypeConfusion,
    /// Confidence against truth.
    pub reliability: Reliability,
    /// 50th, 95th and 99th percentile.
    pub latency_ms: [f64; 3],
    /// Cases whose explanation a judge found poor, by id.
    pub poor: Vec<String>,
}

impl ModelReport {
    /// Measures.
    pub fn new(name: &str, suite: &Suite, results: Vec<CaseResult>, seed: u64) -> Self {
        let outcomes = outcomes(&suite.cases, &results);
        Self {
            name: name.to_owned(),
            metrics: Metrics::of(&outcomes),
            intervals: bootstrap(&outcomes, seed),
            confusion: TypeConfusion::of(&outcomes),
            reliability: Reliability::of(&outcomes),
            latency_ms: latency_percentiles(&outcomes),
            outcomes,
            results,
            poor: Vec::new(),
        }
    }

    /// One metric with its interval.
    pub fn metric(&self, metric: Metric) -> (f64, Interval) {
        let at = Metric::ALL.iter().position(|it| *it == metric).unwrap_or(0);
        (self.metrics.get(metric), self.intervals[at])
    }

    /// Cases that met an error.
    pub fn failed(&self) -> usize {
        self.results.iter().filter(|it| it.error.is_some()).count()
    }

    /// Wrong cases with the kind of error, in the order of the suite.
    pub fn errors<'a>(&'a self, suite: &'a Suite) -> Vec<(ErrorKind, &'a crate::case::Case)> {
        let poor = |id: &String| self.poor.contains(id);
        std::iter::zip(&suite.cases, &self.results)
            .filter_map(|(case, result)| {
                let outcome = outcomes(std::slice::from_ref(case), std::slice::from_ref(result));
                let kind = ErrorKind::of(outcome.first()?, poor(&case.id))?;
                Some((kind, case))
            })
            .collect()
    }

    /// Share of true verdicts, for each value of what `group` gives.
    pub fn accuracy_by(
        &self,
        suite: &Suite,
        group: impl Fn(&crate::case::Case) -> Option<String>,
    ) -> BTreeMap<String, (usize, usize)> {
        let mut groups = BTreeMap::new();
        for (case, result) in std::iter::zip(&suite.cases, &self.results) {
            if let (Some(name), Some(verdict)) = (group(case), result.verdict) {
                let entry: &mut (usize, usize) = groups.entry(name).or_default();
                entry.0 += usize::from(verdict == case.label);
                entry.1 += 1;
            }
        }
        groups
    }

    fn to_json(&self, suite: &Suite) -> Value {
        let mut metrics = Map::new();
        for (at, (metric, value)) in self.metrics.values().iter().enumerate() {
            let Interval { low, high } = self.intervals[at];
            metrics.insert(
                metric.name().into(),
                json!({ "value": number(*value), "low": number(low), "high": number(high) }),
            );
        }
        let mut errors = Map::new();
        for (kind, _) in self.errors(suite) {
            let count = errors.get(kind.name()).and_then(Value::as_u64).unwrap_or(0);
            errors.insert(kind.name().into(), (count + 1).into());
        }
        let groups = |found: BTreeMap<String, (usize, usize)>| -> Value {
            found
                .into_iter()
                .map(|(name, (right, count))| (name, json!({ "right": right, "count": count })))
                .collect::<Map<_, _>>()
                .into()
        };
        let [p50, p95, p99] = self.latency_ms.map(number);
        json!({
            "name": self.name,
            "count": self.metrics.count,
            "failed": self.failed(),
            "counts": self.metrics.counts,
            "metrics": metrics,
            "latency_ms": { "p50": p50, "p95": p95, "p99": p99 },
            "errors": errors,
            "by_type": groups(self.accuracy_by(suite, |it| it.kind.clone())),
            "by_domain": groups(self.accuracy_by(suite, |it| it.domain.clone())),
            "confusion": self.confusion,
            "reliability": self.reliability.points(),
        })
    }
}

/// One or two critics on one suite.
#[derive(Debug, Clone)]
pub struct Report {
    /// What they were measured on.
    pub suite: Suite,
    /// The critics: with two, the first is the one compared against.
    pub models: Vec<ModelReport>,
    /// The second against the first.
    pub comparison: Option<Comparison>,
}

impl Report {
    /// A report of one critic.
    pub fn of_one(suite: Suite, model: ModelReport) -> Self {
        Self { suite, models: vec![model], comparison: None }
    }

    /// A report of `second` against `first`, over the cases that both answered.
    pub fn of_two(suite: Suite, first: ModelReport, second: ModelReport, seed: u64) -> Self {
        let answered = |it: &CaseResult| it.verdict.is_some();
        let both: Vec<bool> = std::iter::zip(&first.results, &second.results)
            .map(|(a, b)| answered(a) && answered(b))
            .collect();
        let shared = |model: &ModelReport| {
            let kept = |list: &[CaseResult]| -> Vec<CaseResult> {
                std::iter::zip(list, &both).filter(|it| *it.1).map(|it| it.0.clone()).collect()
            };
            let cases: Vec<_> = std::iter::zip(&suite.cases, &both)
                .filter(|it| *it.1)
                .map(|it| it.0.clone())
                .collect();
            outcomes(&cases, &kept(&model.results))
        };
        let comparison = Some(compare(&shared(&first), &shared(&second), seed));
        Self { suite, models: vec![first, second], comparison }
    }

    /// The critic that the report is about: the last.
    pub fn subject(&self) -> &ModelReport {
        self.models.last().expect("invariant: a report has a critic")
    }

    /// The machine form.
    pub fn to_json(&self) -> Value {
        let valid = self.suite.cases.iter().filter(|it| it.label == Verdict::Valid).count();
        let mut value = json!({
            "suite": self.suite.name,
            "suite_hash": self.suite.content_hash(),
            "cases": self.suite.cases.len(),
            "valid": valid,
            "flawed": self.suite.cases.len() - valid,
            "models": self.models.iter().map(|it| it.to_json(&self.suite)).collect::<Vec<_>>(),
        });
        if let Some(it) = &self.comparison {
            let mut differences = Map::new();
            for (metric, d) in &it.differences {
                let entry = json!({ "difference": number(d.value), "low": number(d.low),
                    "high": number(d.high), "p": number(d.p) });
                differences.insert(metric.name().into(), entry);
            }
            value["comparison"] = json!({
                "only_first": it.only_first,
                "only_second": it.only_second,
                "mcnemar_p": it.mcnemar_p,
                "metrics": differences,
            });
        }
        value
    }
}

/// A number, or `null` where nothing was measured.
fn number(value: f64) -> Value {
    serde_json::Number::from_f64(value).map_or(Value::Null, Value::Number)
}

/// A bar that a critic must clear.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Threshold {
    /// Of what.
    pub metric: Metric,
    /// The least value, or the most where less is better.
    pub bar: f64,
}

impl Threshold {
    /// Whether `report` clears it; a metric that could not be measured clears nothing.
    pub fn is_cleared_by(self, report: &ModelReport) -> bool {
        let value = report.metrics.get(self.metric);
        if self.metric.higher_is_better() { value >= self.bar } else { value <= self.bar }
    }
}
