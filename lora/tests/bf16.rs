//! Training in bfloat16, layer by layer by hand, against the float32 tape.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use minicrit_lora::{
    data::{Dataset, SupervisedExample},
    lora::Lora,
    losses::PairLoss,
    optimizer::AdamW,
    peft::{AdapterConfig, Excluded, Targets},
    schedule::{Decay, Schedule},
    trainer::{
        Compute, Learner, Method, Order, ReferenceLogProbs, Trainer, TrainingData, TrainingSettings,
    },
};
use minicrit_testkit::fixtures::Fixture;

/// Length of the difference of two gradients, relative to the gradient: factors are rounded to
/// eight bits (a relative error of 2e-3 each), in some tens of products one after the other.
const GRADIENT_TOLERANCE: f64 = 0.05;
/// The same of the loss.
const LOSS_TOLERANCE: f64 = 5e-3;

fn config(targets: Targets, rank: usize) -> AdapterConfig {
    AdapterConfig {
        rank,
        alpha: 2.0 * rank as f64,
        rank_pattern: vec![("down_proj".into(), 5)],
        alpha_pattern: Vec::new(),
        rslora: false,
        dora: false,
        targets,
        excluded: Excluded::default(),
        modules_to_save: Vec::new(),
        dropout: 0.0,
        base_name: None,
    }
}

fn data(vocab_size: u32) -> Dataset<SupervisedExample> {
    let example = |(i, len): (usize, &u32)| SupervisedExample {
        ids: (0..*len).map(|t| (t * t * 31 + t * 7 + i as u32 * 13) % vocab_size).collect(),
        weights: (0..*len).map(|t| if t < 3 { 0.0 } else { 1.0 }).collect(),
        line: i as u64 + 1,
    };
    Dataset::new([40, 9, 33, 64].iter().enumerate().map(example).collect(), &[])
}

fn trainer(
    fixture: &str,
    config: &AdapterConfig,
    compute: Compute,
    kept: Option<usize>,
) -> Trainer {
    let decoder = Arc::new(Fixture::open(fixture).decoder());
    let vocab_size = decoder.spec.vocab_size as u32;
    let lora = Lora::fresh(config, &decoder, 3).unwrap();
    let learner = Learner::adapter(decoder, lora, 1.0).unwrap();
    for (i, param) in learner.params().iter().enumerate() {
        // With B at zero, nothing would reach A.
        let values = (0..param.len()).map(|j| ((i + 7 * j) % 19) as f32 / 100.0 - 0.09);
        param.set(values.collect()).unwrap();
    }
    let learner = learner.with_compute(compute).unwrap();
    let data = TrainingData::Supervised(data(vocab_size));
    let settings = TrainingSettings {
        method: Method::Sft,
        batch_size: 4,
        grad_accum: 1,
        schedule: Schedule { peak: 1e-3, decay: Decay::Constant, warmup: 0, total: 10, floor: 0.0 },
        optimizer: AdamW::default(),
        clip: None,
        seed: 1,
        dropout: 0.0,
    };
    let order = Order::singles(data.len(), None, None);
    let trainer = Trainer::new(learner, settings, data, order, ReferenceLogProbs::default());
    match kept {
        Some(bytes) => trainer.with_kept_bytes(bytes),
        None => trainer,
    }
}

fn length(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|it| it * it).sum::<f64>().sqrt()
}

fn check(fixture: &str, targets: Targets, rank: usize) {
    let config = config(targets, rank);
    let (mut exact, mut fast) = (
        trainer(fixture, &config, Compute::Float32, None),
        trainer(fixture, &config, Compute::Bf16, None),
    );
    let (want, got) = (exact.step().unwrap(), fast.step().unwrap());
    let off = (got.loss / want.loss - 1.0).abs();
    assert!(off < LOSS_TOLERANCE, "{fixture}: loss {} for {}", got.loss, want.loss);
    let params = exact.learner.params().iter();
    for ((param, want), got) in
        params.zip(exact.gradients().values()).zip(fast.gradients().values())
    {
        let size = length(want.iter().map(|it| f64::from(*it)));
        let off = length(want.iter().zip(got).map(|(a, b)| f64::from(*a) - f64::from(*b)));
        assert!(size > 0.0, "{fixture}: {} has no gradient", param.name);
        assert!(off <= GRADIENT_TOLERANCE * size, "{fixture}: {}: {off} of {size}", param.name);
    }
}

#[test]
fn gradients_are_those_of_the_tape() {
    for fixture in ["llama", "qwen2", "qwen3", "mistral", "phi3", "llama-tied"] {
        check(fixture, Targets::AllLinear, 4);
    }
}

#[test]
fn some_modules_and_odd_ranks() {
    let names = |it: &[&str]| Targets::Names(it.iter().map(ToString::to_string).collect());
    check("qwen2", names(&["q_proj", "v_proj"]), 20);
    check("llama", names(&["up_proj", "down_proj", "o_proj"]), 33);
    let upper = Targets::Pattern("model\\.layers\\.1\\.mlp\\.gate_proj".into());
    check("llama", upper, 8);
}

#[test]
fn what_is_computed_again_has_the_same_bits() {
    let config = config(Targets::AllLinear, 4);
    let run = |kept: Option<usize>| {
        let mut trainer = trainer("qwen3", &config, Compute::Bf16, kept);
        for _ in 0..3 {
            trainer.step().unwrap();
        }
        trainer.learner.params().iter().flat_map(|it| it.values().unwrap()).collect::<Vec<_>>()
    };
    let kept = run(None);
    assert!(kept == run(Some(0)));
    assert!(kept == run(Some(400 << 10)), "some layers kept, some not");
}

#[test]
fn a_preference_run_starts_at_ln_2() {
    let decoder = Arc::new(Fixture::open("qwen2").decoder());
    let vocab_size = decoder.spec.vocab_size as u32;
    let lora = Lora::fresh(&config(Targets::AllLinear, 4), &decoder, 3).unwrap();
    let learner =
        Learner::adapter(decoder, lora, 1.0).unwrap().with_compute(Compute::Bf16).unwrap();
    let examples = data(vocab_size);
    let pair = |i: usize| minicrit_lora::data::PreferenceExample {
        chosen: examples.examples()[i].clone(),
        rejected: examples.examples()[i + 1].clone(),
        prompt_len: 3,
    };
    let pairs = TrainingData::Preference(Dataset::new(vec![pair(0), pair(2)], &[]));
    let reference =
        ReferenceLogProbs::compute(&learner, &pairs, 2, &mut |_| true).unwrap().unwrap();
    let settings = TrainingSettings {
        method: Method::Pairs(PairLoss::Sigmoid { beta: 0.1, label_smoothing: 0.0 }),
        batch_size: 2,
        grad_accum: 1,
        schedule: Schedule { peak: 1e-2, decay: Decay::Constant, warmup: 0, total: 10, floor: 0.0 },
        optimizer: AdamW::default(),
        clip: None,
        seed: 1,
        dropout: 0.0,
    };
    let order = Order::singles(2, None, None);
    let mut trainer = Trainer::new(learner, settings, pairs, order, reference);
    let first = trainer.step().unwrap();
    assert!((first.loss - std::f64::consts::LN_2).abs() < 1e-6, "{}", first.loss);
    for _ in 0..9 {
        trainer.step().unwrap();
    }
    assert!(trainer.step().unwrap().loss < 0.6);
}

#[test]
fn what_can_not_be_computed_so_is_refused_by_name() {
    use minicrit_engine::NamedError;
    let dora = AdapterConfig { dora: true, ..config(Targets::AllLinear, 4) };
    for (fixture, config) in [("llama", dora), ("mixtral", config(Targets::AllLinear, 4))] {
        let decoder = Arc::new(Fixture::open(fixture).decoder());
        let lora = Lora::fresh(&config, &decoder, 3).unwrap();
        let learner = Learner::adapter(decoder, lora, 1.0).unwrap();
        let error = learner.with_compute(Compute::Bf16).err().unwrap();
        assert_eq!(error.name(), "bad-setting");
    }
}
