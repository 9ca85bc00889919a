//! Distributions against transformers' logits processors, and what filters must never do.

#![allow(clippy::unwrap_used, missing_docs)]

use minicrit_engine::dist::{Dist, History, SamplingParams};
use proptest::prelude::*;
use serde_json::Value;

/// The references are float32; ours are float64.
const PROBABILITY_TOLERANCE: f64 = 2e-6;

fn params_of(processors: &str) -> SamplingParams {
    let neutral = SamplingParams { temperature: 1.0, ..SamplingParams::greedy() };
    match processors {
        "temp0.7" => SamplingParams { temperature: 0.7, ..neutral },
        "temp1.5" => SamplingParams { temperature: 1.5, ..neutral },
        "topk5" => SamplingParams { top_k: 5, ..neutral },
        "topk1" => SamplingParams { top_k: 1, ..neutral },
        "topp0.9" => SamplingParams { top_p: 0.9, ..neutral },
        "topp0.1" => SamplingParams { top_p: 0.1, ..neutral },
        "minp0.1" => SamplingParams { min_p: 0.1, ..neutral },
        "typical0.5" => SamplingParams { typical_p: 0.5, ..neutral },
        "rep1.3" => SamplingParams { repetition_penalty: 1.3, ..neutral },
        "norepeat2" => SamplingParams { no_repeat_ngram: 2, ..neutral },
        "rep1.1_temp0.8_topk20_topp0.8 (HF order)" => SamplingParams {
            repetition_penalty: 1.1,
            temperature: 0.8,
            top_k: 20,
            top_p: 0.8,
            ..neutral
        },
        other => panic!("a chain that this test does not know: {other}"),
    }
}

#[test]
fn distributions_match_transformers() {
    let path = minicrit_testkit::fixtures_dir().join("sampling/cases.json");
    let file: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let history: Vec<u32> = serde_json::from_value(file["history_ids"].clone()).unwrap();
    let cases = file["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 44);
    for case in cases {
        let name = format!("{} {}", case["logits"], case["processors"]);
        let logits = case["logits"].as_str().unwrap();
        let logits: Vec<f32> = serde_json::from_value(file["logits"][logits].clone()).unwrap();
        let mut expect: Vec<f64> = serde_json::from_value(case["probs"].clone()).unwrap();
        let params = params_of(case["processors"].as_str().unwrap());
        let dist = Dist::new(&logits, &params, History::new(&history, history.len())).unwrap();
        let mut got: Vec<f64> = (0..logits.len() as u32).map(|id| dist.probability(id)).collect();

        assert_eq!(dist.num_kept() as u64, case["kept"].as_u64().unwrap(), "kept by {name}");
        // Which of several equal logits stay at the border of top-p is up to an unstable sort in
        // the reference, so there the probabilities are compared as a sorted list.
        if case["logits"] == "ties" && params.top_p < 1.0 {
            got.sort_by(f64::total_cmp);
            expect.sort_by(f64::total_cmp);
        }
        for (id, (got, expect)) in got.iter().zip(&expect).enumerate() {
            let error = (got - expect).abs();
            assert!(error < PROBABILITY_TOLERANCE, "{name}: token {id} has {got}, not {expect}");
        }
    }
}

fn dist_of(logits: &[f32], params: &SamplingParams) -> Dist {
    Dist::new(logits, params, History::new(&[], 0)).unwrap()
}

/// The chain's order shows in what is kept, so the references above could not be met by another.
#[test]
fn stages_come_in_the_order_of_transformers() {
    let logits: Vec<f32> = [0.4f32, 0.3, 0.2, 0.1].map(f32::ln).to_vec();
    let neutral = SamplingParams { temperature: 1.0, ..SamplingParams::greedy() };
    let kept = |params: SamplingParams| dist_of(&logits, &params).num_kept();

    let top_p = SamplingParams { top_p: 0.55, ..neutral.clone() };
    assert_eq!(kept(top_p.clone()), 2);
    assert_eq!(kept(SamplingParams { temperature: 50.0, ..top_p.clone() }), 3, "temperature first");
    assert_eq!(kept(SamplingParams { top_k: 2, ..top_p.clone() }), 1, "top-k before top-p");
    // Of {0.4, 0.3} all is at least 0.7 of the best; typical then sees only these two.
    assert_eq!(kept(SamplingParams { min_p: 0.7, ..neutral.clone() }), 2);
    assert_eq!(kept(SamplingParams { min_p: 0.7, typical_p: 0.5, ..neutral }), 1);
}

#[test]
fn sampling_a_whole_vocabulary_follows_the_probabilities() {
    let logits: Vec<f32> = (0..1000).map(|id| (id % 7) as f32 / 2.0).collect();
    let dist = dist_of(&logits, &SamplingParams { temperature: 1.0, ..SamplingParams::greedy() });
    let mut counts = [0u32; 7];
    const DRAWS: u32 = 70_000;
    for draw in 0..DRAWS {
        counts[dist.sample(f64::from(draw) / f64::from(DRAWS)) as usize % 7] += 1;
    }
    for (class, &count) in counts.iter().enumerate() {
        let ids = (0..1000).filter(|id| id % 7 == class as u32);
        let expect: f64 = ids.map(|id| dist.probability(id)).sum();
        // Evenly spaced draws: each of the class's 143 tokens is off by one draw at most.
        assert!((f64::from(count) - expect * f64::from(DRAWS)).abs() < 143.0 * 2.0);
    }
}

fn settings() -> impl Strategy<Value = SamplingParams> {
    (
        prop_oneof![Just(0.0), 0.05..3.0],
        0usize..12,
        prop_oneof![Just(1.0), 0.0..1.0],
        prop_oneof![Just(0.0), 0.0..1.0],
        prop_oneof![Just(1.0), 0.01..1.0],
        prop_oneof![Just(1.0), 0.5..2.0],
        -2.0..2.0,
    )
        .prop_map(|(temperature, top_k, top_p, min_p, typical_p, repetition, presence)| {
            SamplingParams {
                temperature,
                top_k,
                top_p,
                min_p,
                typical_p,
                repetition_penalty: repetition,
                presence_penalty: presence,
                ..SamplingParams::greedy()
            }
        })
}

fn quarters(values: &[i32]) -> Vec<f32> {
    values.iter().map(|&it| it as f32 / 4.0).collect()
}

proptest! {
    #[test]
    fn a_distribution_adds_up_and_draws_what_it_holds(
        values in proptest::collection::vec(-40i32..40, 1..40),
        history in proptest::collection::vec(0u32..40, 0..20),
        params in settings(),
        uniform in 0.0f64..1.0,
    ) {
        let logits = quarters(&values);
        let dist = Dist::new(&logits, &params, History::new(&history, history.len() / 2)).unwrap();
        let total: f64 = (0..logits.len() as u32).map(|id| dist.probability(id)).sum();
        prop_assert!((total - 1.0).abs() < 1e-12);
        prop_assert!(dist.num_kept() >= 1);
        prop_assert!(dist.probability(dist.sample(uniform)) > 0.0);
        // A draw just below 1 meets rounding, and still gives a token that is possible.
        prop_assert!(dist.probability(dist.sample(1.0 - f64::EPSILON / 2.0)) > 0.0);
    }

    #[test]
    fn a_residual_lies_where_the_target_exceeds_the_draft(
        a in proptest::collection::vec(-40i32..40, 12),
        b in proptest::collection::vec(-40i32..40, 12),
        params in settings(),
    ) {
        let (target, draft) =
            (dist_of(&quarters(&a), &params), dist_of(&quarters(&b), &params));
        let residual = target.residual(&draft);
        let total: f64 = (0..12).map(|id| residual.probability(id)).sum();
        prop_assert!((total - 1.0).abs() < 1e-12);
        for id in (0..12).filter(|_| target != draft) {
            let exceeds = target.probability(id) > draft.probability(id);
            prop_assert_eq!(residual.probability(id) > 0.0, exceeds);
        }
    }
}
