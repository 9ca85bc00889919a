//! Our decoder against candle-transformers, where that one is right: the same folder, the same ids.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::{qwen2, qwen3};
use minicrit_engine::{language_model::LanguageModel, sequence::Sequence};
use minicrit_testkit::fixtures::{Fixture, LOGITS_TOLERANCE, read_json};

fn weights(fixture: &Fixture) -> VarBuilder<'static> {
    let files = [fixture.dir.join("model.safetensors")];
    // SAFETY: nobody changes the file while it is mapped.
    unsafe { VarBuilder::from_mmaped_safetensors(&files, DType::F32, &Device::Cpu).unwrap() }
}

fn check(name: &str, mut last_logits: impl FnMut(&Tensor) -> Tensor) {
    let fixture = Fixture::open(name);
    let ids = fixture.ids("ids_40");
    let batch = Tensor::new(ids.as_slice(), &Device::Cpu).unwrap().unsqueeze(0).unwrap();
    let theirs = last_logits(&batch).flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let mut sequence = Sequence::new(Arc::new(fixture.decoder()), None);
    let ours = sequence.extend(&ids, 1).unwrap();
    let difference = ours.row(0).iter().zip(&theirs).map(|(a, b)| (a - b).abs());
    let largest = difference.fold(0.0, f32::max);
    assert!(largest <= LOGITS_TOLERANCE, "{name}: {largest}");
}

#[test]
fn qwen2_gives_the_logits_of_candle_transformers() {
    let fixture = Fixture::open("qwen2");
    let mut config = read_json(&fixture.dir.join("config.v4.json"));
    // candle wants numbers where the Hub's files may hold null.
    config["sliding_window"] = 4096.into();
    config["max_window_layers"] = 28.into();
    config["use_sliding_window"] = false.into();
    let config: qwen2::Config = serde_json::from_value(config).unwrap();
    let mut model = qwen2::ModelForCausalLM::new(&config, weights(&fixture)).unwrap();
    check("qwen2", |ids| model.forward(ids, 0).unwrap());
}

#[test]
fn qwen3_gives_the_logits_of_candle_transformers() {
    let fixture = Fixture::open("qwen3");
    let mut config = read_json(&fixture.dir.join("config.v4.json"));
    config["max_window_layers"] = 28.into();
    let config: qwen3::Config = serde_json::from_value(config).unwrap();
    let mut model = qwen3::ModelForCausalLM::new(&config, weights(&fixture)).unwrap();
    check("qwen3", |ids| model.forward(ids, 0).unwrap());
}
