//! Files written by other programs give the numbers that those programs read.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use half::f16;
use minicrit_engine::source::{ModelFiles, StoredTensor};
use minicrit_quant::{Format, dequantize_blocks};
use minicrit_testkit::fixtures_dir;
use serde_json::Value;

fn values(tensor: &StoredTensor) -> Vec<f32> {
    let mut values = vec![0.0; tensor.shape.iter().product()];
    dequantize_blocks(tensor.format, &tensor.bytes, &mut values);
    values
}

/// `blocks.safetensors` has, for each format, block bytes and what gguf-py reads from them.
#[test]
fn blocks_decode_to_the_bits_that_gguf_py_gives() {
    let bytes = std::fs::read(fixtures_dir().join("gguf/blocks.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut seen = 0;
    for format in Format::ALL {
        let name = format.name().to_uppercase();
        let Ok(blocks) = file.tensor(&format!("{name}.bytes")) else {
            continue;
        };
        let expected = file.tensor(&format!("{name}.values")).unwrap();
        let expected: Vec<u32> =
            expected.data().as_chunks::<4>().0.iter().map(|it| u32::from_le_bytes(*it)).collect();
        let mut out = vec![0.0; expected.len()];
        dequantize_blocks(format, blocks.data(), &mut out);
        let out: Vec<u32> = out.into_iter().map(f32::to_bits).collect();
        assert!(out == expected, "{format} differs");
        seen += 1;
    }
    assert_eq!(seen, Format::ALL.len() - 1, "every format but f32");
}

/// Each GGUF fixture was written from a folder fixture, in llama.cpp's order of rows.
#[test]
fn gguf_files_hold_the_tensors_of_their_folders() {
    let index = std::fs::read(fixtures_dir().join("gguf/models.json")).unwrap();
    let index: Value = serde_json::from_slice(&index).unwrap();
    for (file, about) in index.as_object().unwrap() {
        let gguf = ModelFiles::open(&fixtures_dir().join("gguf").join(file)).unwrap();
        let folder = fixtures_dir().join(about["source"].as_str().unwrap());
        let folder = ModelFiles::open(&folder).unwrap();
        let mut names: Vec<&str> = gguf.tensors.keys().map(String::as_str).collect();
        names.retain(|name| *name != "rope_freqs.weight");
        let expected: Vec<&str> = folder.tensors.keys().map(String::as_str).collect();
        assert_eq!(names, expected, "{file}");
        for name in names {
            check_tensor(&format!("{file}: {name}"), &gguf.tensors[name], &folder.tensors[name]);
        }
        check_config(file, &gguf.config, &folder);
    }
}

fn check_tensor(what: &str, got: &StoredTensor, expected: &StoredTensor) {
    assert_eq!(got.shape, expected.shape, "{what}");
    let (got_values, expected) = (values(got), values(expected));
    // A block of bytes rounds to half a step of 1/127 of its largest value, and its scale to f16.
    let largest = expected.iter().fold(0f32, |largest, value| largest.max(value.abs()));
    for (got_value, expected) in got_values.into_iter().zip(expected) {
        let tolerance = match got.format {
            Format::F32 => 0.0,
            Format::F16 => (expected - f16::from_f32(expected).to_f32()).abs(),
            _ => 0.6 * largest / 127.0,
        };
        let difference = (got_value - expected).abs();
        assert!(difference <= tolerance, "{what}: {got_value} for {expected}");
    }
}

fn check_config(file: &str, got: &Value, folder: &ModelFiles) {
    let keys = [
        "model_type",
        "architectures",
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "intermediate_size",
        "moe_intermediate_size",
        "rms_norm_eps",
        "vocab_size",
        "tie_word_embeddings",
        "max_position_embeddings",
        "num_experts_per_tok",
        "norm_topk_prob",
        "bos_token_id",
        "eos_token_id",
    ];
    for key in keys {
        let expected = &folder.config[key];
        // Further end tokens are in generation_config.json.
        let expected =
            if expected.is_array() && key == "eos_token_id" { &expected[0] } else { expected };
        if got.get(key).is_some() || !expected.is_null() {
            assert_eq!(&got[key], expected, "{file}: {key}");
        }
    }
    // Qwen3-MoE calls it `num_experts` in transformers 4 and `num_local_experts` in 5.
    let experts =
        |config: &Value| config.get("num_local_experts").or(config.get("num_experts")).cloned();
    assert_eq!(experts(got), experts(&folder.config), "{file}: experts");
    let theta = folder.config["rope_parameters"].get("rope_theta");
    let theta = theta.unwrap_or(&folder.config["rope_theta"]);
    assert_eq!(got["rope_theta"].as_f64(), theta.as_f64(), "{file}: rope_theta");
    if !folder.config["head_dim"].is_null() {
        assert_eq!(got["head_dim"], folder.config["head_dim"], "{file}: head_dim");
    }
}

#[test]
fn every_folder_of_the_fixtures_opens_whole() {
    let mut opened = 0;
    for entry in std::fs::read_dir(fixtures_dir()).unwrap() {
        let folder = entry.unwrap().path();
        if !folder.join("config.json").exists() {
            continue;
        }
        let files = ModelFiles::open(&folder).unwrap();
        assert!(files.tensors.contains_key("model.embed_tokens.weight"), "{}", folder.display());
        check_against_the_safetensors_crate(&folder, &files);
        opened += 1;
    }
    assert!(opened >= 10, "{opened} folders");
}

fn check_against_the_safetensors_crate(folder: &Path, files: &ModelFiles) {
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|it| it != "safetensors") {
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        for (name, view) in safetensors::SafeTensors::deserialize(&bytes).unwrap().tensors() {
            assert_eq!(files.tensors[&name].shape, view.shape(), "{}: {name}", path.display());
            assert!(files.tensors[&name].bytes[..] == *view.data(), "{}: {name}", path.display());
            seen += 1;
        }
    }
    assert_eq!(seen, files.tensors.len(), "{}", folder.display());
}
