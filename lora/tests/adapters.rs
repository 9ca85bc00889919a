//! Adapters combined, exported and fused.
#![allow(clippy::unwrap_used)]

use std::{path::Path, sync::Arc};

use minicrit_engine::{
    adapter::Adapter, load::load_decoder, sequence::Sequence, source::ModelFiles,
};
use minicrit_lora::{
    LoraError,
    adapters::{
        Combination, Factors, GgufBase, Pair, combine, create, gguf_bytes, remove, write_file,
    },
    divergence::divergence,
    fuse::{Fused, FusedDtype},
    peft,
};
use minicrit_testkit::fixtures::{Fixture, LOGITS_TOLERANCE, all_logits, read_json, read_npy};

/// A change of a weight, summed in another order.
const WEIGHT_TOLERANCE: f64 = 1e-6;

fn factors(fixture: &Fixture, case: &str) -> Factors {
    Factors::open(&fixture.dir.join("adapters").join(case)).unwrap()
}

/// `scale * B A`, in float64.
fn change(pair: &Pair) -> Vec<f64> {
    let (a, b) = (&pair.a, &pair.b);
    let mut out = vec![0.0; b.rows * a.cols];
    for row in 0..b.rows {
        for rank in 0..a.rows {
            let left = f64::from(pair.scale) * f64::from(b.values[row * b.cols + rank]);
            for col in 0..a.cols {
                out[row * a.cols + col] += left * f64::from(a.values[rank * a.cols + col]);
            }
        }
    }
    out
}

fn write(folder: &Path, adapter: &Factors) {
    create::<LoraError>(folder, |folder| {
        for (name, bytes) in adapter.files()? {
            write_file(&folder.join(name), |out| {
                out.write_all(&bytes).unwrap();
                Ok(())
            })?;
        }
        Ok(())
    })
    .unwrap();
}

fn assert_close(got: &[f32], expect: &[f32], what: &str) {
    assert_eq!(got.len(), expect.len(), "{what}");
    let off = got.iter().zip(expect).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(off <= LOGITS_TOLERANCE, "{what}: {off}");
}

fn logits(fixture: &Fixture, folder: &Path) -> Vec<f32> {
    let decoder = Arc::new(fixture.decoder());
    let lora: Arc<dyn Adapter> = Arc::new(peft::open(folder, &decoder).unwrap());
    all_logits(&mut Sequence::new(decoder, Some(lora)), &fixture.ids("ids_40"))
}

#[test]
fn cat_is_the_exact_sum_of_changes() {
    let fixture = Fixture::open("llama");
    let parts = [
        (factors(&fixture, "basic"), 0.7),
        (factors(&fixture, "patterns"), -0.4),
        (factors(&fixture, "subset"), 1.0),
    ];
    let merged = combine(&parts, Combination::Cat).unwrap();
    for (path, pair) in &merged.pairs {
        let got = change(pair);
        let mut expect = vec![0.0; got.len()];
        for (part, weight) in &parts {
            let Some(pair) = part.pairs.get(path) else { continue };
            expect.iter_mut().zip(change(pair)).for_each(|(sum, it)| *sum += weight * it);
        }
        let off = got.iter().zip(&expect).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(off <= WEIGHT_TOLERANCE, "{path}: {off}");
    }
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("merged"), &merged);
    let again = Factors::open(&dir.path().join("merged")).unwrap();
    assert_eq!(again.pairs, merged.pairs);
}

#[test]
fn one_adapter_merged_with_itself_alone_is_itself() {
    let fixture = Fixture::open("llama");
    let dir = tempfile::tempdir().unwrap();
    for (case, how) in [
        ("basic", Combination::Cat),
        ("patterns", Combination::Cat),
        ("rslora", Combination::Linear),
        ("basic", Combination::Ties { density: 1.0 }),
        ("basic", Combination::DareTies { density: 1.0, seed: 1 }),
    ] {
        let folder = dir.path().join(format!("{case}-{how:?}"));
        write(&folder, &combine(&[(factors(&fixture, case), 1.0)], how).unwrap());
        let expect = read_npy(&fixture.dir.join("adapters").join(case).join("logits_40.npy"));
        assert_close(&logits(&fixture, &folder), &expect, &format!("{case} {how:?}"));
    }
}

#[test]
fn what_can_not_be_merged_is_refused_by_name() {
    let fixture = Fixture::open("llama");
    let folder = |case: &str| fixture.dir.join("adapters").join(case);
    for case in ["dora", "saved_head", "embed"] {
        let error = Factors::open(&folder(case)).unwrap_err();
        assert!(matches!(error, LoraError::AdapterTensors { .. }), "{case}: {error}");
        assert!(error.to_string().contains("no low-rank change"), "{error}");
    }
    let parts = [(factors(&fixture, "basic"), 1.0), (factors(&fixture, "patterns"), 1.0)];
    let error = combine(&parts, Combination::Linear).unwrap_err();
    assert!(error.to_string().contains("only cat"), "{error}");
    assert!(combine(&[], Combination::Cat).is_err());
}

#[test]
fn an_exported_adapter_has_a_pair_for_every_module() {
    for (name, case) in [("llama", "rslora"), ("llama", "subset"), ("qwen3", "basic")] {
        let fixture = Fixture::open(name);
        let adapter = factors(&fixture, case);
        let base = GgufBase::of_config(&read_json(&fixture.dir.join("config.json"))).unwrap();
        let bytes = gguf_bytes(&adapter, &base, "test").unwrap();
        assert_eq!(&bytes[..8], b"GGUF\x03\0\0\0");
        let count = u64::from_le_bytes(bytes[8..16].try_into().unwrap());
        assert_eq!(count as usize, 2 * adapter.pairs.len());
        assert_eq!(bytes, gguf_bytes(&adapter, &base, "test").unwrap());
    }
    let error = GgufBase::of_config(&serde_json::json!({"model_type": "mixtral"})).unwrap_err();
    assert!(matches!(error, LoraError::Export { .. }));
}

/// Writes the fused model and gives its logits.
fn fused(fixture: &Fixture, folder: &Path, dtype: FusedDtype, out: &Path) -> Vec<f32> {
    let files = ModelFiles::open(&fixture.dir).unwrap();
    let decoder = load_decoder(&files).unwrap();
    let lora = peft::open(folder, &decoder).unwrap();
    let fused = Fused::new(&files, &lora, dtype).unwrap();
    std::fs::create_dir_all(out).unwrap();
    write_file(&out.join("model.safetensors"), |file| fused.write(file)).unwrap();
    std::fs::write(out.join("config.json"), fused.config().to_string()).unwrap();
    let decoder = load_decoder(&ModelFiles::open(out).unwrap()).unwrap();
    all_logits(&mut Sequence::new(Arc::new(decoder), None), &fixture.ids("ids_40"))
}

#[test]
fn a_fused_model_gives_the_logits_of_base_and_adapter() {
    let dir = tempfile::tempdir().unwrap();
    let cases = ["basic", "rslora", "dora", "patterns", "subset", "saved_head", "embed"];
    let all = ["llama", "qwen2"].iter().flat_map(|name| cases.map(|case| (*name, case)));
    for (name, case) in
        all.chain([("qwen2-tied", "basic"), ("qwen2-tied", "dora"), ("phi3", "fused")])
    {
        let fixture = Fixture::open(name);
        let folder = fixture.dir.join("adapters").join(case);
        if !folder.is_dir() {
            continue;
        }
        let out = dir.path().join(format!("{name}-{case}"));
        let got = fused(&fixture, &folder, FusedDtype::F32, &out);
        let expect = read_npy(&folder.join("logits_40_merged.npy"));
        assert_close(&got, &expect, &format!("{name}/{case}"));
    }
}

#[test]
fn rounding_a_fused_model_shows_in_the_divergence() {
    let fixture = Fixture::open("llama");
    let dir = tempfile::tempdir().unwrap();
    let folder = fixture.dir.join("adapters/all_linear");
    let base = Arc::new(fixture.decoder());
    let lora: Arc<dyn Adapter> = Arc::new(peft::open(&folder, &base).unwrap());
    let texts = [fixture.ids("ids_40")];
    let measure = |dtype, name: &str| {
        let out = dir.path().join(name);
        fused(&fixture, &folder, dtype, &out);
        let other = Arc::new(load_decoder(&ModelFiles::open(&out).unwrap()).unwrap());
        let with = || Sequence::new(Arc::clone(&base), Some(Arc::clone(&lora)));
        divergence(with, || Sequence::new(Arc::clone(&other), None), &texts).unwrap()
    };
    let exact = measure(FusedDtype::F32, "f32");
    assert!(exact.kl_mean < 1e-8 && exact.same_top1 == 1.0, "{exact:?}");
    let rounded = measure(FusedDtype::Bf16, "bf16");
    assert!(rounded.kl_mean > 10.0 * exact.kl_mean, "{rounded:?} {exact:?}");
    assert!(rounded.kl_mean < 0.05, "{rounded:?}");
}

#[test]
fn only_an_adapter_is_removed() {
    let fixture = Fixture::open("llama");
    let dir = tempfile::tempdir().unwrap();
    let adapter = dir.path().join("adapter");
    write(&adapter, &factors(&fixture, "basic"));
    assert!(matches!(remove(dir.path()), Err(LoraError::NoAdapter { .. })));
    assert!(adapter.is_dir());
    remove(&adapter).unwrap();
    assert!(!adapter.exists() && dir.path().is_dir());
}

#[test]
fn a_folder_appears_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new");
    let stop = || LoraError::Fuse { what: "stop".into() };
    let failed = create::<LoraError>(&path, |folder| {
        std::fs::write(folder.join("half"), "x").unwrap();
        Err(stop())
    });
    assert!(matches!(failed, Err(LoraError::Fuse { .. })));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    create::<LoraError>(&path, |_| Ok(())).unwrap();
    assert!(matches!(create::<LoraError>(&path, |_| Ok(())), Err(LoraError::Exists { .. })));
}
