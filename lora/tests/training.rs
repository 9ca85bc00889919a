//! Training runs of PyTorch and PEFT, step by step.

#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use candle_core::{Device, Tensor};
use minicrit_engine::{
    NamedError, arch,
    load::load_decoder,
    sequence::Sequence,
    source::{ModelFiles, safetensors},
};
use minicrit_lora::{
    data::{Dataset, LabelledExample, PreferenceExample, SupervisedExample},
    losses::{Kto, PairLoss},
    optimizer::AdamW,
    peft,
    schedule::{Decay, Schedule},
    trainer::{
        Compute, Learner, Method, Order, ReferenceLogProbs, Trainer, TrainingData, TrainingSettings,
    },
};
use minicrit_quant::QuantTensor;
use minicrit_testkit::{
    fixtures::{Fixture, LOGITS_TOLERANCE, all_logits, read_json, read_npy},
    fixtures_dir,
};
use serde_json::Value;

/// The reference's own float32 losses are within 2e-6 of float64; an error in a step grows with
/// the steps after it.
const LOSS_TOLERANCE: f64 = 1e-4;
/// The reference's own adapters are within 2e-5 of float64, and move by up to 0.05.
const PARAMETER_TOLERANCE: f32 = 2e-4;
/// Gradients, relative to the largest of their tensor.
const GRADIENT_TOLERANCE: f32 = 2e-4;

fn dir() -> PathBuf {
    fixtures_dir().join("train")
}

fn example(row: &Value, line: usize) -> SupervisedExample {
    let list = |key: &str| row[key].as_array().unwrap().iter().map(|it| it.as_i64().unwrap());
    let weights = list("labels").map(|it| if it < 0 { 0.0 } else { 1.0 });
    SupervisedExample {
        ids: list("input_ids").map(|it| it as u32).collect(),
        weights: weights.collect(),
        line: line as u64 + 1,
    }
}

fn supervised() -> Dataset<SupervisedExample> {
    let rows = read_json(&dir().join("sft_tokenized.json"));
    let rows = rows.as_array().unwrap();
    Dataset::new(rows.iter().enumerate().map(|(i, it)| example(it, i)).collect(), &[])
}

fn preference() -> Dataset<PreferenceExample> {
    let rows = read_json(&dir().join("dpo_tokenized.json"));
    let pair = |(i, row): (usize, &Value)| {
        let (chosen, rejected) = (example(&row["chosen"], i), example(&row["rejected"], i));
        let same = chosen.ids.iter().zip(&rejected.ids).take_while(|(a, b)| a == b).count();
        PreferenceExample { chosen, rejected, prompt_len: same }
    };
    Dataset::new(rows.as_array().unwrap().iter().enumerate().map(pair).collect(), &[])
}

fn settings(run: &Value) -> TrainingSettings {
    let number = |key: &str| run[key].as_f64().unwrap();
    let cosine = run["sched"]["kind"] == "cosine";
    TrainingSettings {
        method: match run["kind"].as_str() {
            Some("sft") => Method::Sft,
            _ => Method::Pairs(PairLoss::Sigmoid { beta: number("beta"), label_smoothing: 0.0 }),
        },
        batch_size: number("batch") as usize,
        grad_accum: number("accum") as usize,
        schedule: Schedule {
            peak: number("lr"),
            decay: if cosine { Decay::Cosine } else { Decay::Constant },
            warmup: run["sched"]["warmup"].as_u64().unwrap_or(0),
            total: run["steps_log"].as_array().unwrap().len() as u64,
            floor: 0.0,
        },
        optimizer: AdamW { weight_decay: number("wd"), ..AdamW::default() },
        clip: run["clip"].as_f64(),
        seed: 0,
        dropout: 0.0,
    }
}

fn tensors(file: &std::path::Path) -> BTreeMap<String, Vec<f32>> {
    let read = |(name, it): (String, minicrit_engine::source::StoredTensor)| {
        let count = it.shape.iter().product();
        (name, QuantTensor::new(it.format, 1, count, it.bytes).unwrap().dequantize())
    };
    safetensors::open(file).unwrap().into_iter().map(read).collect()
}

fn largest(values: impl Iterator<Item = f32>) -> f32 {
    values.fold(0.0, |max, it| max.max(it.abs()))
}

/// The learner of a case before its first step.
fn learner(case: &str, files: &ModelFiles) -> Learner {
    if case == "full_ft" {
        let spec = arch::spec_from_config(&files.config).unwrap();
        let tensor = |(name, it): (&String, &minicrit_engine::source::StoredTensor)| {
            let count = it.shape.iter().product();
            let values = QuantTensor::new(it.format, 1, count, it.bytes.clone()).unwrap();
            let tensor = Tensor::from_vec(values.dequantize(), &it.shape[..], &Device::Cpu);
            (name.clone(), tensor.unwrap())
        };
        let tensors = files.tensors.iter().map(tensor).collect();
        return Learner::full(spec, &tensors, Compute::Float32).unwrap();
    }
    let decoder = Arc::new(load_decoder(files).unwrap());
    let lora = peft::open(&dir().join(case).join("adapter_init"), &decoder).unwrap();
    Learner::adapter(decoder, lora, 1.0).unwrap()
}

fn follow(case: &str) {
    let run = read_json(&dir().join(case).join("run.json"));
    let fixture = Fixture::open("llama");
    let learner = learner(case, &ModelFiles::open(&fixture.dir).unwrap());
    let settings = settings(&run);
    let data = match settings.method {
        Method::Sft => TrainingData::Supervised(supervised()),
        _ => TrainingData::Preference(preference()),
    };
    let reference = match settings.method.needs_reference() {
        true => ReferenceLogProbs::compute(&learner, &data, 3, &mut |_| true).unwrap().unwrap(),
        false => ReferenceLogProbs::default(),
    };
    let order = Order::singles(data.len(), None, None);
    let mut trainer = Trainer::new(learner, settings, data, order, reference);
    for want in run["steps_log"].as_array().unwrap() {
        let got = trainer.step().unwrap();
        let number = |key: &str| want[key].as_f64().unwrap();
        let off = (got.loss - number("loss")).abs();
        assert!(off <= LOSS_TOLERANCE, "{case} step {}: loss differs by {off}", got.step);
        assert!((got.learning_rate - number("lr")).abs() < 1e-12, "{case} step {}", got.step);
        let norm = (got.grad_norm / number("grad_norm") - 1.0).abs();
        assert!(norm <= 1e-3, "{case} step {}: gradient norm differs by {norm}", got.step);
        if let Some(rewards) = got.rewards {
            assert!((rewards.chosen - number("rewards_chosen")).abs() < 1e-3);
            assert!((rewards.rejected - number("rewards_rejected")).abs() < 1e-3);
            assert_eq!(rewards.accuracy, number("accuracy"));
            assert!(got.step > 1 || (got.loss - std::f64::consts::LN_2).abs() < 1e-6);
        }
        let gradients = dir().join(case).join("grads_step2.safetensors");
        if got.step == 2 && gradients.exists() {
            check_gradients(case, &trainer, &tensors(&gradients));
        }
    }
    check_final(case, &trainer, &fixture);
}

fn check_gradients(case: &str, trainer: &Trainer, want: &BTreeMap<String, Vec<f32>>) {
    let params = trainer.learner.params();
    assert_eq!(params.len(), want.len(), "{case}: trained tensors");
    for (param, got) in params.iter().zip(trainer.gradients().values()) {
        // PyTorch names the parameter of a magnitude module, PEFT's files do not.
        let weight = format!("{}.weight", param.name);
        let want = want.get(&param.name).or_else(|| want.get(&weight)).expect(&param.name);
        let off = largest(got.iter().zip(want).map(|(a, b)| a - b));
        let size = largest(want.iter().copied());
        assert!(size > 0.0, "{case}: {} has no gradient", param.name);
        assert!(off <= GRADIENT_TOLERANCE * size, "{case}: {}: {off} of {size}", param.name);
    }
}

fn check_final(case: &str, trainer: &Trainer, fixture: &Fixture) {
    let file = match case {
        "full_ft" => "model_final/model.safetensors",
        _ => "adapter_final/adapter_model.safetensors",
    };
    let want = tensors(&dir().join(case).join(file));
    let params = trainer.learner.params();
    assert_eq!(params.len(), want.len(), "{case}: trained tensors");
    for param in params {
        let got = param.values().unwrap();
        let off = largest(got.iter().zip(&want[&param.name]).map(|(a, b)| a - b));
        assert!(off <= PARAMETER_TOLERANCE, "{case}: {} differs by {off}", param.name);
    }
    let adapter = trainer.learner.lora.as_ref();
    let ids = fixture.ids("ids_40");
    let got = match adapter {
        Some(lora) => {
            let folder = tempfile::tempdir().unwrap();
            let config = dir().join(case).join("adapter_init").join(peft::CONFIG_FILE);
            std::fs::copy(config, folder.path().join(peft::CONFIG_FILE)).unwrap();
            let bytes = peft::safetensors_bytes(&lora.tensors()).unwrap();
            std::fs::write(folder.path().join(peft::TENSORS_FILE), bytes).unwrap();
            let decoder = Arc::new(fixture.decoder());
            let saved = peft::open(folder.path(), &decoder).unwrap();
            all_logits(&mut Sequence::new(decoder, Some(Arc::new(saved))), &ids)
        }
        None => all_logits(&mut Sequence::new(trainer.learner.decoder.clone(), None), &ids),
    };
    let want = read_npy(&dir().join(case).join("logits_after.npy"));
    let off = largest(got.iter().zip(&want).map(|(a, b)| a - b));
    // Parameters that differ within their tolerance move logits by more than rounding does.
    assert!(off <= 50.0 * LOGITS_TOLERANCE, "{case}: logits differ by {off}");
}

#[test]
fn supervised_training_follows_peft() {
    follow("sft_lora");
}

#[test]
fn schedule_accumulation_and_clipping_follow_peft() {
    follow("sft_sched");
}

#[test]
fn dora_follows_peft() {
    follow("sft_dora");
}

#[test]
fn preference_training_follows_trl() {
    follow("dpo_lora");
}

#[test]
fn full_training_follows_pytorch() {
    follow("full_ft");
}

/// A fresh run of the tiny llama with the given method and data.
fn fresh(method: Method, data: TrainingData) -> Trainer {
    let files = ModelFiles::open(&Fixture::open("llama").dir).unwrap();
    let learner = learner("sft_lora", &files);
    let reference = match method.needs_reference() {
        true => ReferenceLogProbs::compute(&learner, &data, 4, &mut |_| true).unwrap().unwrap(),
        false => ReferenceLogProbs::default(),
    };
    let schedule =
        Schedule { peak: 5e-3, decay: Decay::Constant, warmup: 0, total: 30, floor: 0.0 };
    let settings = TrainingSettings {
        method,
        batch_size: 8,
        grad_accum: 1,
        schedule,
        optimizer: AdamW::default(),
        clip: None,
        seed: 0,
        dropout: 0.0,
    };
    let order = Order::singles(data.len(), None, None);
    Trainer::new(learner, settings, data, order, reference)
}

#[test]
fn every_loss_falls() {
    let pairs = [
        PairLoss::Sigmoid { beta: 0.1, label_smoothing: 0.05 },
        PairLoss::Ipo { beta: 0.1 },
        PairLoss::Hinge { beta: 0.1 },
        PairLoss::Orpo { lambda: 0.1 },
        PairLoss::SimPo { beta: 2.0, gamma: 1.0 },
    ];
    let mut runs: Vec<(Method, TrainingData)> =
        pairs.map(|it| (Method::Pairs(it), TrainingData::Preference(preference()))).into();
    let both = preference();
    let labelled = both.examples().iter().flat_map(|it| {
        [(&it.chosen, true), (&it.rejected, false)].map(|(answer, desirable)| LabelledExample {
            answer: answer.clone(),
            prompt_len: it.prompt_len,
            desirable,
        })
    });
    let labelled = TrainingData::Labelled(Dataset::new(labelled.collect(), &[]));
    let kto = Kto { beta: 0.1, desirable: 1.0, undesirable: 1.0 };
    runs.push((Method::Kto(kto), labelled));
    for (method, data) in runs {
        let mut trainer = fresh(method, data);
        let losses: Vec<f64> = (0..12).map(|_| trainer.step().unwrap().loss).collect();
        assert!(losses[11] < 0.7 * losses[0], "{method:?}: {losses:?}");
    }
}

#[test]
fn every_parameter_moves_and_the_base_does_not() {
    let mut trainer = fresh(Method::Sft, TrainingData::Supervised(supervised()));
    let values = |it: &Trainer| -> Vec<Vec<f32>> {
        it.learner.params().iter().map(|it| it.values().unwrap()).collect()
    };
    let base = |it: &Trainer| {
        let layer = &it.learner.decoder.layers[0].attention.q;
        layer.weight().unwrap().dequantize_rows(0..4).unwrap()
    };
    let (before, base_before) = (values(&trainer), base(&trainer));
    trainer.step().unwrap();
    trainer.step().unwrap();
    for ((param, before), after) in
        trainer.learner.params().iter().zip(&before).zip(values(&trainer))
    {
        assert!(*before != after, "{} did not move", param.name);
    }
    assert_eq!(base(&trainer), base_before);
}

#[test]
fn a_value_that_is_not_finite_stops_before_the_update() {
    let mut trainer = fresh(Method::Sft, TrainingData::Supervised(supervised()));
    let param = &trainer.learner.params()[0];
    let mut values = param.values().unwrap();
    values[0] = f32::NAN;
    param.set(values).unwrap();
    let other = trainer.learner.params()[1].values().unwrap();
    let error = trainer.step().expect_err("NaN");
    assert_eq!(error.name(), "numerics");
    let text = error.to_string();
    assert!(text.contains("step 1") && text.contains("1, 2, 3, 4, 5, 6, 7, 8"), "{text}");
    assert_eq!(trainer.learner.params()[1].values().unwrap(), other);
    assert_eq!(trainer.steps_done(), 0);
}
