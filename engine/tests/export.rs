//! Models written as GGUF files run as their sources do.

#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, sync::Arc};

use minicrit_engine::{
    NamedError, arch,
    export::{Written, write_gguf},
    importance::Importance,
    load::load_decoder,
    recipe::{self, Mix, Recipe},
    sequence::Sequence,
    source::{ModelFiles, gguf::Gguf},
    tokens::Tokenizer,
};
use minicrit_quant::{Bytes, Format, QuantTensor, WeightFormat};
use minicrit_testkit::{
    fixtures::{Fixture, all_logits, largest_difference, read_json, rounded_input_slack, widened},
    fixtures_dir,
};

/// Models that GGUF has a form for.
const MODELS: [&str; 14] = [
    "qwen2",
    "qwen2-tied",
    "qwen2-yarn",
    "qwen3",
    "qwen3-moe",
    "llama",
    "llama-tied",
    "llama-linear",
    "mistral",
    "mistral-nemo",
    "mixtral",
    "phi3",
    "phi3-longrope",
    "llama-f16",
];

/// Frequencies pass through float32 divisors, logits through forty positions of them.
const ROPE_TOLERANCE: f32 = 2e-4;

fn open(name: &str) -> ModelFiles {
    ModelFiles::open(&fixtures_dir().join(name)).unwrap()
}

fn write(files: &ModelFiles, mix: Mix) -> Result<(Vec<u8>, Vec<Written>), minicrit_engine::Error> {
    let (mut out, mut written) = (Vec::new(), Vec::new());
    let recipe = Recipe::new(mix);
    write_gguf(files, "a model", &recipe, &Importance::default(), &mut out, &mut |it| {
        written.push(it.clone());
    })?;
    Ok((out, written))
}

fn written(files: &ModelFiles, mix: Mix) -> ModelFiles {
    let (bytes, _) = write(files, mix).unwrap();
    ModelFiles::from_gguf(Gguf::parse("written.gguf", Bytes::from(bytes)).unwrap()).unwrap()
}

fn logits(files: &ModelFiles, ids: &[u32]) -> Vec<f32> {
    all_logits(&mut Sequence::new(Arc::new(load_decoder(files).unwrap()), None), ids)
}

/// Compares a written file with its rounded weights: its values to `most`, and the products that run
/// to what rounding their inputs costs beside it.
fn check_rounded(what: &str, got: &ModelFiles, want: &ModelFiles, ids: &[u32], most: f32) {
    let want = logits(want, ids);
    for (files, slack) in [(&widened(got), 0.0), (got, rounded_input_slack(&want))] {
        let (difference, most) = (largest_difference(&logits(files, ids), &want), most + slack);
        assert!(difference <= most, "{what}: {difference}, not {most}");
    }
}

#[test]
fn float32_files_give_the_logits_of_their_sources() {
    for name in MODELS {
        let files = open(name);
        let ids = Fixture::open(name).ids("ids_40");
        let back = written(&files, Mix::One(Format::F32.into()));
        let difference = largest_difference(&logits(&back, &ids), &logits(&files, &ids));
        let scaled = files.config.to_string().contains("\"rope_type\":\"llama3\"")
            || name.contains("longrope")
            || name.contains("yarn");
        let most = if scaled { ROPE_TOLERANCE } else { 0.0 };
        assert!(difference <= most, "{name}: logits differ by {difference}");
    }
}

/// The source with every matrix rounded to what `recipe` says, in float32.
fn rounded(files: &ModelFiles, mix: Mix) -> ModelFiles {
    let spec = arch::spec_from_config(&files.config).unwrap();
    let names = arch::names(&spec);
    let mut formats: BTreeMap<&str, Format> = BTreeMap::new();
    for (place, part) in recipe::matrices(&names) {
        let format = Recipe::new(mix).format(&spec, place, part.shape[1]);
        let WeightFormat::Stored(format) = format else { panic!("{format}") };
        let chosen = formats.entry(&part.name).or_insert(format);
        if format.bits_per_weight() > chosen.bits_per_weight() {
            *chosen = format;
        }
    }
    let mut files = files.clone();
    for (name, format) in formats {
        let tensor = files.tensors.get_mut(name).unwrap();
        let (rows, cols) = (tensor.shape[0], tensor.shape[1]);
        let stored = QuantTensor::new(tensor.format, rows, cols, tensor.bytes.clone()).unwrap();
        let values = QuantTensor::quantize(format, &stored, None).unwrap().dequantize();
        (tensor.format, tensor.bytes) = (Format::F32, Bytes::from_f32(&values));
    }
    files
}

#[test]
fn quantized_files_give_the_logits_of_their_rounded_weights() {
    for name in ["llama", "qwen2", "qwen3-moe", "mixtral", "phi3", "qwen2-tied"] {
        let files = open(name);
        let ids = Fixture::open(name).ids("ids_40");
        for mix in [Format::Q8_0, Format::Q4K, Format::Q5_1].map(|it| Mix::One(it.into())) {
            let (got, want) = (written(&files, mix), rounded(&files, mix));
            for tensor in got.tensors.keys().filter(|it| *it != "rope_freqs.weight") {
                assert!(want.tensors.contains_key(tensor), "{name}: {tensor}");
            }
            let most = if name == "llama" { ROPE_TOLERANCE } else { 1e-4 };
            check_rounded(&format!("{name} {}", mix.name()), &got, &want, &ids, most);
        }
    }
}

#[test]
fn the_built_in_model_goes_through_every_format() {
    let files = ModelFiles::builtin().unwrap();
    let ids: Vec<u32> = (0..40).map(|i| i * 37 % 4000).collect();
    let source_bytes: usize = files.tensors.values().map(|it| it.bytes.len()).sum();
    for mix in Mix::all().filter(|it| !it.is_packed()) {
        let (bytes, tensors) = write(&files, mix).unwrap();
        assert!(tensors.iter().map(|it| it.bytes).sum::<usize>() < bytes.len());
        if mix != Mix::One(Format::F32.into()) {
            assert!(bytes.len() < source_bytes + (1 << 20), "{}: {}", mix.name(), bytes.len());
        }
        let back = ModelFiles::from_gguf(Gguf::parse("x", Bytes::from(bytes)).unwrap()).unwrap();
        check_rounded(mix.name(), &back, &rounded(&files, mix), &ids, 1e-4);
        assert_eq!(back.chat_template, files.chat_template);
        let size = 4096;
        let tokenizer = |files: &ModelFiles| {
            let json = files.tokenizer.as_ref().unwrap();
            Tokenizer::from_json(json, files.tokenizer_config.as_ref(), size).unwrap()
        };
        let text = "Größe 12,345 and <|im_end|> isn't\n\n  so.";
        let (ours, theirs) = (tokenizer(&files), tokenizer(&back));
        assert_eq!(ours.encode_raw(text).unwrap(), theirs.encode_raw(text).unwrap());
        assert_eq!(ours.control_tokens(), theirs.control_tokens());
        let ends =
            |files: &ModelFiles| files.generation_config.as_ref().unwrap()["eos_token_id"].clone();
        assert_eq!(ends(&back), ends(&files));
    }
}

#[test]
fn tokenizers_read_back_give_the_ids_of_the_reference() {
    for (folder, model, size) in [("tokenizer", "qwen2", 704), ("spm", "llama", 512)] {
        let mut files = open(model);
        let folder = fixtures_dir().join(folder);
        if !folder.join("cases.json").exists() {
            continue;
        }
        files.tokenizer = Some(std::fs::read(folder.join("tokenizer.json")).unwrap());
        files.tokenizer_config = Some(read_json(&folder.join("tokenizer_config.json")));
        resize_vocabulary(&mut files, size);
        let back = written(&files, Mix::One(Format::F16.into()));
        let json = back.tokenizer.as_ref().unwrap();
        let tokenizer = Tokenizer::from_json(json, back.tokenizer_config.as_ref(), size).unwrap();
        let cases = read_json(&folder.join("cases.json"));
        let mut count = 0;
        for case in cases.as_array().unwrap().iter().filter(|it| it["text"].is_string()) {
            let text = case["text"].as_str().unwrap();
            let ids: Vec<u64> =
                tokenizer.encode_raw(text).unwrap().into_iter().map(u64::from).collect();
            assert_eq!(serde_json::json!(ids), case["ids"], "{text:?}");
            count += 1;
        }
        assert!(count >= 30, "{count} cases");
    }
}

/// Cuts or fills the embedding and the head to `size` rows.
fn resize_vocabulary(files: &mut ModelFiles, size: usize) {
    files.config["vocab_size"] = size.into();
    for name in ["model.embed_tokens.weight", "lm_head.weight"] {
        let Some(tensor) = files.tensors.get_mut(name) else { continue };
        let row = tensor.bytes.len() / tensor.shape[0];
        let mut bytes = tensor.bytes.to_vec();
        bytes.resize(row * size, 0);
        (tensor.shape[0], tensor.bytes) = (size, Bytes::from(bytes));
    }
}

#[test]
fn what_gguf_has_no_place_for_is_refused_by_name() {
    let refused = |files: &ModelFiles, name: &str, what: &str| {
        let error = write(files, Mix::One(Format::F16.into())).unwrap_err();
        assert_eq!(error.name(), name, "{error}");
        assert!(error.to_string().contains(what), "{error}");
        assert!(error.hint().is_some());
    };
    refused(&open("llama-dynamic"), "no-gguf-form", "dynamic rope");
    let mut files = open("qwen2");
    let json = String::from_utf8(files.tokenizer.clone().unwrap()).unwrap();
    files.tokenizer = Some(json.replace(r"\\p{N}|", r"\\p{N}{1,2}|").into_bytes());
    refused(&files, "no-gguf-tokenizer", "no name");
    let mut files = open("qwen2");
    let tensor = files.tensors.get_mut("model.layers.0.mlp.up_proj.weight").unwrap();
    let mut bytes = tensor.bytes.to_vec();
    bytes[4..8].copy_from_slice(&f32::INFINITY.to_le_bytes());
    tensor.bytes = Bytes::from(bytes);
    refused(&files, "weights", "up_proj.weight`: row 0");
}

#[test]
fn a_full_disk_has_a_name() {
    struct Full(usize);
    impl std::io::Write for Full {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or(std::io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let recipe = Recipe::new(Mix::Q4KM);
    let files = ModelFiles::builtin().unwrap();
    for room in [0, 100, 200_000, 1_000_000] {
        let importance = Importance::default();
        let mut out = Full(room);
        let result = write_gguf(&files, "nano", &recipe, &importance, &mut out, &mut |_| {});
        assert_eq!(result.unwrap_err().name(), "no-space");
    }
}
