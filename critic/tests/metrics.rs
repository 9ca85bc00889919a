//! Metrics against scikit-learn and SciPy (fixtures/scripts/make_metrics.py), and tests between
//! scripted critics of known quality.
#![allow(clippy::unwrap_used)]

use minicrit_critic::{
    case::Verdict,
    data::Draws,
    eval::{
        ErrorKind, Metric, Metrics, Outcome, TypeConfusion, compare, compare::mcnemar,
        intervals::bootstrap, latency_percentiles,
    },
};
use serde_json::Value;

/// Both sides add the same few hundred float64 numbers in another order.
const EXACT: f64 = 1e-9;
/// Two bootstraps of 2,000 samples with other random numbers.
const BOOTSTRAP: f64 = 0.012;
/// The approximation of the complementary error function.
const ERFC: f64 = 1e-6;

fn fixture() -> Value {
    serde_json::from_str(include_str!("fixtures/metrics.json")).unwrap()
}

fn verdict(flawed: bool) -> Verdict {
    if flawed { Verdict::Flawed } else { Verdict::Valid }
}

fn outcome(label: bool, probability: f64) -> Outcome {
    Outcome {
        label: verdict(label),
        flaw_type: label.then(|| "sunk cost".into()),
        operator: None,
        verdict: verdict(probability > 0.5),
        named_flaw: (probability > 0.5).then(|| "sunk cost".into()),
        flawed_probability: probability,
        latency_ms: 1.0,
    }
}

fn outcomes(case: &Value) -> Vec<Outcome> {
    let column = |name: &str| case[name].as_array().unwrap().clone();
    let (truth, probability) = (column("truth"), column("probability"));
    let (operator, latency) = (column("operator"), column("latency_ms"));
    (0..truth.len())
        .map(|i| Outcome {
            operator: Some(verdict(operator[i].as_bool().unwrap())),
            latency_ms: latency[i].as_f64().unwrap(),
            ..outcome(truth[i].as_bool().unwrap(), probability[i].as_f64().unwrap())
        })
        .collect()
}

#[test]
fn metrics_are_those_of_scikit_learn() {
    for case in fixture()["cases"].as_array().unwrap() {
        let outcomes = outcomes(case);
        let metrics = Metrics::of(&outcomes);
        let c = metrics.counts;
        let counts = [c.true_positive, c.false_positive, c.true_negative, c.false_negative];
        assert_eq!(serde_json::json!(counts), case["counts"]);
        for (metric, value) in metrics.values() {
            if *metric != Metric::FlawAccuracy {
                let expected = case[metric.name()].as_f64().unwrap();
                assert!((value - expected).abs() < EXACT, "{metric:?}: {value} {expected}");
            }
        }
        for (at, value) in latency_percentiles(&outcomes).into_iter().enumerate() {
            assert!((value - case["latency_percentiles"][at].as_f64().unwrap()).abs() < EXACT);
        }
        let f1 = Metric::ALL.iter().position(|it| *it == Metric::F1).unwrap();
        let interval = bootstrap(&outcomes, 1)[f1];
        let [low, high] = [0, 1].map(|it| case["f1_interval"][it].as_f64().unwrap());
        let near = |a: f64, b: f64| (a - b).abs() < BOOTSTRAP;
        assert!(near(interval.low, low) && near(interval.high, high), "{interval:?} {low} {high}");
    }
}

#[test]
fn mcnemar_is_that_of_scipy() {
    for case in fixture()["mcnemar"].as_array().unwrap() {
        let count = |name: &str| case[name].as_u64().unwrap() as usize;
        let p = mcnemar(count("only_first"), count("only_second"));
        let expected = case["p"].as_f64().unwrap();
        assert!((p - expected).abs() <= ERFC * expected.max(1e-3), "{case}: {p}");
    }
}

#[test]
fn nothing_measured_is_no_number() {
    let metrics = Metrics::of(&[outcome(false, 0.1), outcome(false, 0.2)]);
    assert!(metrics.get(Metric::F1).is_nan() && metrics.get(Metric::Precision).is_nan());
    assert_eq!(metrics.get(Metric::FalsePositiveRate), 0.0);
    assert!(Metrics::of(&[]).get(Metric::Accuracy).is_nan());
    assert!(latency_percentiles(&[])[0].is_nan());
    assert!(bootstrap(&[], 1)[0].low.is_nan());
}

/// A critic that is right with a known probability.
fn scripted(accuracy: f64, count: usize, seed: u64) -> Vec<Outcome> {
    (0..count)
        .map(|i| {
            let label = i % 2 == 0;
            let right = Draws::new(seed, i as u64).chance(accuracy);
            outcome(label, if label == right { 0.9 } else { 0.1 })
        })
        .collect()
}

#[test]
fn a_better_critic_is_told_from_noise() {
    let (weak, strong) = (scripted(0.7, 400, 1), scripted(0.9, 400, 2));
    let better = compare(&weak, &strong, 1);
    let f1 = better.get(Metric::F1).unwrap();
    assert!(better.mcnemar_p < 1e-3 && f1.p < 0.01 && f1.low > 0.05, "{better:?}");
    let same = compare(&weak, &weak, 1);
    assert_eq!((same.mcnemar_p, same.get(Metric::F1).unwrap().p), (1.0, 1.0));
    // Held to the level at which the better one was told; how rare false alarms are is counted below.
    let equal = compare(&weak, &scripted(0.7, 400, 3), 1);
    assert!(equal.mcnemar_p > 1e-3, "{equal:?}");
}

#[test]
fn false_alarms_of_the_comparison_are_as_rare_as_they_should_be() {
    let alarms = (0..200)
        .filter(|&i| {
            let (a, b) = (scripted(0.8, 100, 2 * i + 10), scripted(0.8, 100, 2 * i + 11));
            let only = |a: &[Outcome], b: &[Outcome]| {
                std::iter::zip(a, b).filter(|(a, b)| a.is_right() && !b.is_right()).count()
            };
            mcnemar(only(&a, &b), only(&b, &a)) < 0.05
        })
        .count();
    // At most 5 % are expected; the exact test has fewer. Seventeen would be above 3.3 sigma.
    assert!(alarms < 17, "{alarms} of 200");
}

#[test]
fn errors_are_sorted_and_types_are_counted() {
    let misnamed = Outcome { named_flaw: Some("anchoring".into()), ..outcome(true, 0.9) };
    let all = [outcome(false, 0.9), outcome(true, 0.1), misnamed, outcome(true, 0.8)];
    let kinds: Vec<_> = all.iter().map(|it| ErrorKind::of(it, false)).collect();
    let expected = [
        Some(ErrorKind::FalsePositive),
        Some(ErrorKind::FalseNegative),
        Some(ErrorKind::WrongFlawType),
        None,
    ];
    assert_eq!(kinds, expected);
    assert_eq!(ErrorKind::of(&all[3], true), Some(ErrorKind::PoorExplanation));
    let table = TypeConfusion::of(&all);
    assert_eq!(table.names, ["valid", "anchoring", "sunk cost"]);
    assert_eq!(table.counts, [[0, 0, 1], [0, 0, 0], [1, 1, 1]]);
}
