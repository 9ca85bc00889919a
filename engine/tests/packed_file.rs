//! Packed files: they give the logits of packing at load, and nothing damaged is taken for whole.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use minicrit_engine::{
    NamedError,
    export::write_packed,
    importance::Importance,
    load::{LoadOptions, load_decoder, load_decoder_with, quantized_decoder},
    model::Decoder,
    recipe::Recipe,
    sequence::Sequence,
    source::ModelFiles,
};
use minicrit_quant::{Bytes, PackedKind};
use minicrit_testkit::{
    fixtures::{Fixture, all_logits},
    fixtures_dir,
};

fn open(name: &str) -> ModelFiles {
    ModelFiles::open(&fixtures_dir().join(name)).unwrap()
}

fn packed(files: &ModelFiles, recipe: &Recipe) -> Vec<u8> {
    let mut out = Vec::new();
    write_packed(files, recipe, &Importance::default(), &mut out, &mut |_| {}).unwrap();
    out
}

fn read(bytes: &[u8]) -> Result<ModelFiles, minicrit_engine::source::SourceError> {
    ModelFiles::from_packed("test.minicrit", Bytes::from(bytes.to_vec()))
}

fn bits(decoder: Decoder, ids: &[u32]) -> Vec<u32> {
    let logits = all_logits(&mut Sequence::new(Arc::new(decoder), None), ids);
    logits.into_iter().map(f32::to_bits).collect()
}

#[test]
fn a_packed_file_gives_the_bits_of_packing_at_load() {
    for name in ["qwen2", "qwen2-tied", "llama", "mixtral", "qwen3-moe", "phi3", "phi3-longrope"] {
        let files = open(name);
        let ids = Fixture::open(name).ids("ids_40");
        let mut recipes = PackedKind::ALL.map(Recipe::new).to_vec();
        let mut layered = Recipe::new(PackedKind::Q4);
        layered.layers.insert(0, PackedKind::Q8.into());
        recipes.push(layered);
        for recipe in recipes {
            let back = read(&packed(&files, &recipe)).unwrap();
            let want = quantized_decoder(&files, &recipe, &Importance::default()).unwrap();
            let got = load_decoder(&back).unwrap();
            assert_eq!(got.weight_bytes(), want.weight_bytes());
            assert!(bits(got, &ids) == bits(want, &ids), "{name} {recipe:?}");
            assert_eq!(back.config, files.config);
            assert_eq!(back.tokenizer, files.tokenizer);
            assert_eq!(back.tokenizer_config, files.tokenizer_config);
            assert_eq!(back.generation_config, files.generation_config);
            assert_eq!(back.chat_template, files.chat_template);
        }
    }
}

#[test]
fn weights_are_packed_once() {
    let back = read(&packed(&open("qwen2"), &Recipe::new(PackedKind::Q8))).unwrap();
    let options = LoadOptions { quantize: Some(PackedKind::Q4.into()) };
    assert_eq!(load_decoder_with(&back, options).unwrap_err().name(), "already-packed");
    let again = write_packed(
        &back,
        &Recipe::new(PackedKind::Q4),
        &Importance::default(),
        &mut Vec::new(),
        &mut |_| {},
    );
    assert_eq!(again.unwrap_err().name(), "already-packed");
}

#[test]
fn half_a_file_is_none() {
    let whole = packed(&open("qwen2"), &Recipe::new(PackedKind::Q4));
    assert!(read(&whole).is_ok());
    for len in (0..whole.len()).step_by(97).chain(whole.len() - 200..whole.len()) {
        let error = read(&whole[..len]).unwrap_err();
        assert_eq!(error.name(), "bad-packed-file", "{len} bytes");
    }
    assert!(read(&[&whole[..], &[0]].concat()).is_err());
}

#[test]
fn damage_outside_of_the_values_is_found() {
    let whole = packed(&open("qwen2"), &Recipe::new(PackedKind::Q4));
    let number = |at: usize| {
        usize::try_from(u64::from_le_bytes(whole[at..at + 8].try_into().unwrap())).unwrap()
    };
    let trailer = whole.len() - 64;
    let index = number(trailer);
    for at in (0..64).chain((index..trailer).step_by(7)).chain(trailer..whole.len()) {
        for bit in [0, 5] {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << bit;
            assert!(read(&bytes).is_err(), "bit {bit} of byte {at}");
        }
    }
    let mut newer = whole.clone();
    newer[8] = 2;
    assert_eq!(read(&newer).unwrap_err().name(), "packed-version");
}

/// The file with its index changed by `change`, and a trailer that fits.
fn with_index(whole: &[u8], change: impl Fn(&mut serde_json::Value)) -> Vec<u8> {
    let trailer = whole.len() - 64;
    let offset = u64::from_le_bytes(whole[trailer..trailer + 8].try_into().unwrap());
    let mut index: serde_json::Value =
        serde_json::from_slice(&whole[offset as usize..trailer]).unwrap();
    change(&mut index);
    let index = index.to_string().into_bytes();
    let mut end = whole[trailer..].to_vec();
    end[8..16].copy_from_slice(&(index.len() as u64).to_le_bytes());
    end[16..48].copy_from_slice(blake3::hash(&index).as_bytes());
    [&whole[..offset as usize], &index, &end].concat()
}

#[test]
fn an_index_that_lies_is_refused() {
    let whole = packed(&open("qwen2"), &Recipe::new(PackedKind::Q4));
    assert!(read(&with_index(&whole, |_| {})).is_ok());
    let first = |key: &'static str, value: serde_json::Value| {
        with_index(&whole, move |index| index["tensors"][1][key] = value.clone())
    };
    let bad = [
        first("shape", serde_json::json!([0, 64])),
        first("shape", serde_json::json!([64, 0])),
        first("shape", serde_json::json!([64])),
        first("shape", serde_json::json!([1u64 << 60, 1u64 << 60])),
        first("format", "q3".into()),
        first("format", "f32".into()),
        first("factor", 3.0.into()),
        first("factor", 0.0.into()),
        first("factor", serde_json::Value::Null),
        first("group", 48.into()),
        first("offset", 65.into()),
        first("offset", (1u64 << 62).into()),
        first("length", u64::MAX.into()),
        first("length", 64.into()),
        first("name", "".into()),
        first("surprise", 1.into()),
        with_index(&whole, |it| it["tensors"][1] = it["tensors"][2].clone()),
        with_index(&whole, |it| it["files"] = serde_json::json!([])),
        with_index(&whole, |it| it["files"][0]["name"] = "run.sh".into()),
        with_index(&whole, |it| it["tensors"] = 7.into()),
    ];
    for (number, bytes) in bad.iter().enumerate() {
        let error = read(bytes).unwrap_err();
        assert_eq!(error.name(), "bad-packed-file", "{number}: {error}");
    }
    // Sound as a file, but not the model that its config describes.
    let lacking = with_index(&whole, |it| {
        let list = it["tensors"].as_array_mut().unwrap();
        list.last_mut().unwrap()["name"] = "model.other".into();
    });
    let error = load_decoder(&read(&lacking).unwrap()).unwrap_err();
    assert_eq!(error.name(), "bad-weights");
}

#[test]
fn a_scale_that_is_not_a_number_is_refused() {
    let whole = packed(&open("qwen2"), &Recipe::new(PackedKind::Q8));
    for nan in [[0x00, 0x7e], [0x00, 0x7c], [0x00, 0xfc]] {
        let mut bytes = whole.clone();
        // The first packed tensor starts on the first page, with its scales.
        bytes[4096..4098].copy_from_slice(&nan);
        let error = load_decoder(&read(&bytes).unwrap()).unwrap_err();
        assert_eq!(error.name(), "weights");
        assert!(error.to_string().contains("scale of row 0"), "{error}");
    }
}
