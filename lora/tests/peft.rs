//! Adapters that PEFT wrote, against PEFT's own logits.

#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use minicrit_engine::{
    NamedError,
    load::load_decoder,
    model::Decoder,
    pass::{Pass, Rows},
    sequence::Sequence,
    source::{ModelFiles, StoredTensor},
};
use minicrit_lora::{
    LoraError,
    lora::Lora,
    peft::{self, CONFIG_FILE, TENSORS_FILE},
};
use minicrit_quant::{Bytes, Format, QuantTensor, pool::Threads};
use minicrit_testkit::{
    fixtures::{Fixture, LOGITS_TOLERANCE, all_logits, read_json, read_npy},
    fixtures_dir,
};

/// Every adapter of the fixtures: name of the model, folder of the adapter.
fn cases() -> Vec<(String, PathBuf)> {
    let mut cases = Vec::new();
    for model in ["llama", "qwen2", "qwen2-tied", "qwen3", "mistral", "phi3"] {
        let Ok(folders) = std::fs::read_dir(fixtures_dir().join(model).join("adapters")) else {
            continue;
        };
        cases.extend(folders.map(|it| (model.to_string(), it.unwrap().path())));
    }
    cases.sort();
    assert!(cases.len() >= 12, "{} adapters", cases.len());
    cases
}

fn largest_difference(got: &[f32], want: &[f32]) -> f32 {
    assert_eq!(got.len(), want.len());
    got.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn logits(decoder: &Arc<Decoder>, lora: Option<Arc<Lora>>, ids: &[u32]) -> Vec<f32> {
    let adapter = lora.map(|it| it as Arc<dyn minicrit_engine::adapter::Adapter>);
    all_logits(&mut Sequence::new(decoder.clone(), adapter), ids)
}

#[test]
fn logits_with_an_adapter_equal_those_of_peft() {
    for (model, folder) in cases() {
        let fixture = Fixture::open(&model);
        let decoder = Arc::new(fixture.decoder());
        let lora = peft::open(&folder, &decoder).unwrap_or_else(|e| panic!("{folder:?}: {e}"));
        assert!(!lora.is_without_effect().unwrap());
        let got = logits(&decoder, Some(Arc::new(lora)), &fixture.ids("ids_40"));
        let difference = largest_difference(&got, &read_npy(&folder.join("logits_40.npy")));
        assert!(difference <= LOGITS_TOLERANCE, "{folder:?}: logits differ by {difference}");
    }
}

/// The weights of `files` with every module of the adapter merged into them.
fn merged(files: &ModelFiles, lora: &Lora) -> ModelFiles {
    let mut files = files.clone();
    for it in lora.modules() {
        let name = format!("{}.weight", it.module.path);
        let Some(stored) = files.tensors.get(&name) else {
            panic!("{name} is not a tensor of the model")
        };
        let (rows, cols) = (it.module.outputs, it.module.inputs);
        let matrix = QuantTensor::new(stored.format, rows, cols, stored.bytes.clone()).unwrap();
        let mut values = matrix.dequantize();
        it.merge_into(&mut values).unwrap();
        let bytes = Bytes::from_f32(&values);
        let shape = vec![rows, cols];
        files.tensors.insert(name, StoredTensor { format: Format::F32, shape, bytes });
    }
    files
}

#[test]
fn logits_of_merged_weights_equal_those_of_peft() {
    for (model, folder) in cases() {
        if folder.ends_with("saved_head") || folder.ends_with("embed") {
            continue;
        }
        let fixture = Fixture::open(&model);
        let files = ModelFiles::open(&fixture.dir).unwrap();
        let lora = peft::open(&folder, &load_decoder(&files).unwrap()).unwrap();
        let decoder = Arc::new(load_decoder(&merged(&files, &lora)).unwrap());
        let got = logits(&decoder, None, &fixture.ids("ids_40"));
        let difference = largest_difference(&got, &read_npy(&folder.join("logits_40_merged.npy")));
        assert!(difference <= LOGITS_TOLERANCE, "{folder:?}: logits differ by {difference}");
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|it| it.to_bits()).collect()
}

/// Invariant 1 with an adapter: neither the rows of a call nor threads change a bit.
#[test]
fn a_rows_bits_do_not_depend_on_its_company() {
    for (model, folder) in cases() {
        let fixture = Fixture::open(&model);
        let decoder = Arc::new(fixture.decoder());
        let lora: Arc<Lora> = Arc::new(peft::open(&folder, &decoder).unwrap());
        let ids = fixture.ids("ids_40").repeat(2);
        let run = |chunk: usize| {
            let mut sequence = Sequence::new(decoder.clone(), Some(lora.clone())).with_chunk(chunk);
            bits(&all_logits(&mut sequence, &ids))
        };
        let whole = run(512);
        for chunk in [1, 3, 16] {
            assert!(run(chunk) == whole, "{folder:?} in chunks of {chunk}");
        }
        for threads in [1, 3] {
            let got = Threads::new(threads).unwrap().run(|| run(512));
            assert!(got == whole, "{folder:?} with {threads} threads");
        }
        // Two sequences in one pass, without caches, as training packs them.
        let rows = Rows::whole(&[40, 40]);
        let mut pass = Pass { rows: &rows, caches: &mut [], adapter: Some(&*lora) };
        let hidden = decoder.hidden(&ids, &mut pass).unwrap();
        let packed = decoder.logits(&hidden, &pass).unwrap().flatten_all().unwrap();
        let packed = bits(&packed.to_vec1::<f32>().unwrap());
        let (first, second) = packed.split_at(packed.len() / 2);
        assert!(first == second && first == &whole[..first.len()], "{folder:?} packed");
    }
}

fn copy(folder: &Path, change: impl Fn(&mut serde_json::Value)) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut config = read_json(&folder.join(CONFIG_FILE));
    change(&mut config);
    std::fs::write(dir.path().join(CONFIG_FILE), config.to_string()).unwrap();
    std::fs::copy(folder.join(TENSORS_FILE), dir.path().join(TENSORS_FILE)).unwrap();
    dir
}

#[test]
fn what_is_written_reads_as_the_same_adapter() {
    for (model, folder) in cases() {
        let fixture = Fixture::open(&model);
        let decoder = Arc::new(fixture.decoder());
        let lora = peft::open(&folder, &decoder).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let config = peft::read_config(&folder).unwrap();
        std::fs::write(dir.path().join(CONFIG_FILE), peft::config_json(&config)).unwrap();
        let bytes = peft::safetensors_bytes(&lora.tensors()).unwrap();
        std::fs::write(dir.path().join(TENSORS_FILE), &bytes).unwrap();
        assert_eq!(peft::read_config(dir.path()).unwrap(), config, "{folder:?}");
        let again = peft::open(dir.path(), &decoder).unwrap();
        let tensors = |it: &Lora| -> BTreeMap<String, Vec<u32>> {
            let values = |it: candle_core::Tensor| it.flatten_all().unwrap().to_vec1().unwrap();
            it.tensors().into_iter().map(|(k, v)| (k, bits(&values(v)))).collect()
        };
        assert_eq!(tensors(&lora), tensors(&again), "{folder:?}");
        assert_eq!(peft::safetensors_bytes(&again.tensors()).unwrap(), bytes, "{folder:?}");
    }
}

fn error(folder: &Path, decoder: &Decoder) -> LoraError {
    peft::open(folder, decoder).expect_err("a refusal")
}

#[test]
fn variants_that_are_not_supported_are_refused_by_name() {
    let fixture = Fixture::open("llama");
    let decoder = fixture.decoder();
    let basic = fixture.dir.join("adapters/basic");
    let refused = [
        ("bias", serde_json::json!("all")),
        ("lora_bias", serde_json::json!(true)),
        ("layer_replication", serde_json::json!([[0, 1], [0, 1]])),
        ("target_parameters", serde_json::json!(["mlp.experts"])),
        ("alora_invocation_tokens", serde_json::json!([1, 2])),
        ("fan_in_fan_out", serde_json::json!(true)),
        ("trainable_token_indices", serde_json::json!([3])),
        ("use_qalora", serde_json::json!(true)),
        ("peft_type", serde_json::json!("IA3")),
        ("modules_to_save", serde_json::json!(["norm"])),
        ("from_the_future", serde_json::json!(1)),
        ("r", serde_json::json!(0)),
    ];
    for (key, value) in refused {
        let dir = copy(&basic, |config| config[key] = value.clone());
        let error = error(dir.path(), &decoder);
        assert_eq!(error.name(), "bad-adapter-config", "{key}");
        assert!(error.to_string().contains(key), "{key}: {error}");
    }
}

#[test]
fn tensors_that_do_not_fit_are_listed_together() {
    let fixture = Fixture::open("llama");
    let decoder = fixture.decoder();
    let basic = fixture.dir.join("adapters/basic");
    // Fewer modules than tensors: the others would be dropped without a word.
    let dir = copy(&basic, |config| config["target_modules"] = serde_json::json!(["q_proj"]));
    let unused = error(dir.path(), &decoder);
    assert_eq!(unused.name(), "bad-adapter");
    assert!(unused.to_string().contains("v_proj.lora_A.weight` of shape"), "{unused}");
    // Another rank than that of the tensors.
    let dir = copy(&basic, |config| config["r"] = serde_json::json!(3));
    assert!(error(dir.path(), &decoder).to_string().contains("has shape"));
    // A name that no module of the model has.
    let dir = copy(&basic, |config| config["target_modules"] = serde_json::json!(["query"]));
    assert_eq!(error(dir.path(), &decoder).name(), "bad-targets");
    // Another model.
    let other = Fixture::open("qwen3").decoder();
    assert_eq!(error(&basic, &other).name(), "bad-adapter");
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(error(dir.path(), &decoder).name(), "adapter-not-found");
}

#[test]
fn a_saved_matrix_of_another_base_is_refused() {
    let folder = Fixture::open("llama").dir.join("adapters/embed");
    let files = ModelFiles::open(&Fixture::open("llama").dir).unwrap();
    let mut changed = files.clone();
    let head = &files.tensors["lm_head.weight"];
    let values = QuantTensor::new(head.format, head.shape[0], head.shape[1], head.bytes.clone());
    let negated: Vec<f32> = values.unwrap().dequantize().iter().map(|it| -it).collect();
    let bytes = Bytes::from_f32(&negated);
    changed.tensors.insert("lm_head.weight".into(), StoredTensor { bytes, ..head.clone() });
    let error = error(&folder, &load_decoder(&changed).unwrap());
    assert!(error.to_string().contains("not the matrix of this base"), "{error}");
}

#[test]
fn an_adapter_that_moves_nothing_is_known() {
    let fixture = Fixture::open("llama");
    let decoder = fixture.decoder();
    for case in ["sft_lora", "sft_dora"] {
        let folder = fixtures_dir().join("train").join(case);
        let fresh = peft::open(&folder.join("adapter_init"), &decoder).unwrap();
        assert!(fresh.is_without_effect().unwrap(), "{case}: B is zero");
        let trained = peft::open(&folder.join("adapter_final"), &decoder).unwrap();
        assert!(!trained.is_without_effect().unwrap(), "{case}");
    }
}

#[test]
fn a_scale_multiplies_the_change() {
    let fixture = Fixture::open("llama");
    let decoder = Arc::new(fixture.decoder());
    let open = |case: &str| peft::open(&fixture.dir.join("adapters").join(case), &decoder).unwrap();
    let ids = fixture.ids("ids_40");
    let base = logits(&decoder, None, &ids);
    let off = open("basic").scaled(0.0).unwrap();
    assert!(off.is_without_effect().unwrap());
    assert_eq!(logits(&decoder, Some(Arc::new(off)), &ids), base);
    let half = open("basic").scaled(0.5).unwrap();
    assert_ne!(half.modules()[0].scale, open("basic").modules()[0].scale);
    assert_eq!(open("dora").scaled(0.5).expect_err("DoRA").name(), "bad-setting");
}
