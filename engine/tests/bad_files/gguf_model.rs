//! Sound GGUF files whose metadata describe no model that is run.

use minicrit_engine::source::{ModelFiles, SourceError, gguf::Gguf};
use minicrit_testkit::files::{GgufField, GgufFile};

use crate::{Checks, done};

const BAD: &str = "gguf-metadata";

fn open(change: impl FnOnce(&mut GgufFile)) -> Result<ModelFiles, SourceError> {
    let mut file = GgufFile::tiny_llama();
    change(&mut file);
    ModelFiles::from_gguf(Gguf::parse("x.gguf", file.to_bytes().into())?)
}

/// The tiny model under another architecture's name.
fn as_architecture(file: &mut GgufFile, architecture: &str) {
    for (key, _) in &mut file.entries {
        if let Some(rest) = key.strip_prefix(b"llama.") {
            *key = [architecture.as_bytes(), b".", rest].concat();
        }
    }
    file.set("general.architecture", architecture);
}

#[test]
fn other_things_than_models_of_ours_are_named() {
    let mut checks = Checks::default();
    for architecture in ["gemma2", "qwen2moe", "deepseek2", "gpt2", "mamba", "LLAMA", ""] {
        checks.refused(
            architecture,
            "unsupported-architecture",
            &format!("{architecture:?}"),
            || open(|it| as_architecture(it, architecture)),
        );
    }
    for kind in ["adapter", "mmproj", "imatrix"] {
        checks.refused(kind, "not-a-model", kind, || open(|it| done(it.set("general.type", kind))));
    }
    checks.refused("a part", "split-gguf", "one of 3 parts", || {
        open(|it| done(it.set("split.count", 3u16)))
    });
    checks.refused("no architecture", BAD, "general.architecture", || {
        open(|it| done(it.remove("general.architecture")))
    });
    checks.refused("architecture 3", BAD, "general.architecture", || {
        open(|it| done(it.set("general.architecture", 3u32)))
    });
    let empty = GgufFile::empty().to_bytes();
    checks.refused("nothing at all", BAD, "general.architecture", || {
        ModelFiles::from_gguf(Gguf::parse("x", empty.into())?)
    });
    checks.finish(14);
}

#[test]
fn missing_and_mistyped_keys_are_named() {
    let mut checks = Checks::default();
    for key in [
        "llama.context_length",
        "llama.embedding_length",
        "llama.block_count",
        "llama.feed_forward_length",
        "llama.attention.head_count",
        "llama.attention.layer_norm_rms_epsilon",
    ] {
        checks.refused(&format!("no {key}"), BAD, &format!("`{key}` is missing"), || {
            open(|it| done(it.remove(key)))
        });
        checks.refused(&format!("text {key}"), BAD, &format!("`{key}` is a string"), || {
            open(|it| done(it.set(key, "many")))
        });
    }
    for (case, key, value, says) in [
        ("no layers", "llama.block_count", GgufField::from(0u32), "is 0"),
        ("-1 layers", "llama.block_count", GgufField::from(-1i32), "is a signed integer"),
        ("half a layer", "llama.block_count", GgufField::from(0.5f32), "is a float"),
        (
            "heads that differ",
            "llama.attention.head_count",
            GgufField::i32s(&[2, 4]),
            "not one whole number",
        ),
        ("no heads", "llama.attention.head_count", GgufField::i32s(&[]), "not one whole number"),
        (
            "NaN",
            "llama.attention.layer_norm_rms_epsilon",
            GgufField::from(f32::NAN),
            "not a finite number",
        ),
        (
            "infinite theta",
            "llama.rope.freq_base",
            GgufField::from(f32::INFINITY),
            "not a finite number",
        ),
        (
            "values unlike keys",
            "llama.attention.value_length",
            GgufField::from(8u32),
            "beside keys of 4",
        ),
        (
            "rotary above the head",
            "llama.rope.dimension_count",
            GgufField::from(6u32),
            "6 rotary dimensions of 4",
        ),
        (
            "rope scaling unknown",
            "llama.rope.scaling.type",
            GgufField::from("su"),
            "\"su\" is not run",
        ),
        ("rope scaling a number", "llama.rope.scaling.type", GgufField::from(1u32), "not a text"),
        (
            "yarn without factor",
            "llama.rope.scaling.type",
            GgufField::from("yarn"),
            "factor` is missing",
        ),
        (
            "longrope without factors",
            "llama.rope.scaling.type",
            GgufField::from("longrope"),
            "rope_factors_long",
        ),
        (
            "start token too high",
            "tokenizer.ggml.bos_token_id",
            GgufField::from(6u32),
            "embeddings are of 6",
        ),
        ("end token -1", "tokenizer.ggml.eos_token_id", GgufField::from(-1i32), "not a token's id"),
        (
            "end token a text",
            "tokenizer.ggml.eos_token_id",
            GgufField::from("</s>"),
            "not a token's id",
        ),
        (
            "end of turn too high",
            "tokenizer.ggml.eot_token_id",
            GgufField::from(u32::MAX),
            "4294967295",
        ),
        ("too many tokens", "tokenizer.ggml.tokens", GgufField::strings(&["t"; 7]), "7 tokens"),
    ] {
        checks.refused(case, BAD, says, || open(|it| done(it.set(key, value))));
    }
    checks.refused("several", BAD, "2 problems", || {
        open(|it| done(it.remove("llama.block_count").remove("llama.context_length")))
    });
    checks.refused("a window in qwen2", BAD, "sliding window of 8", || {
        open(|it| {
            as_architecture(it, "qwen2");
            it.set("qwen2.attention.sliding_window", 8u32);
        })
    });
    checks.finish(32);
}

#[test]
fn tensors_that_do_not_fit_the_metadata_are_named() {
    let mut checks = Checks::default();
    checks.refused("no embeddings", BAD, "token_embd.weight is missing", || {
        open(|it| it.tensor("token_embd.weight").name = b"wte.weight".to_vec())
    });
    checks.refused("query rows", BAD, "8 rows do not divide into 3 heads", || {
        open(|it| {
            done(it.set("llama.attention.head_count", 3u32).set("llama.attention.key_length", 4u32))
        })
    });
    checks.refused("query of one number in three dimensions", BAD, "no rows of heads", || {
        open(|it| it.tensor("blk.0.attn_q.weight").dims = vec![8, 4, 2])
    });
    checks.refused("two tensors for one", BAD, "two tensors stand for \"lm_head.weight\"", || {
        open(|it| done(it.add_zeros("lm_head.weight", &[8, 6])))
    });
    let mixtral = |it: &mut GgufFile, experts: u64| {
        it.set("llama.expert_count", 2u32).set("llama.expert_used_count", 1u32);
        it.add_zeros("blk.0.ffn_gate_exps.weight", &[8, 16, experts]);
    };
    checks.refused("three experts for two", BAD, "not [2, outputs, inputs]", || {
        open(|it| mixtral(it, 3))
    });
    checks.refused("an expert twice", BAD, "two tensors stand for", || {
        open(|it| {
            mixtral(it, 2);
            it.add_zeros("blk.0.ffn_gate.1.weight", &[8, 16]);
        })
    });
    checks.refused(
        "no number of experts used",
        BAD,
        "`llama.expert_used_count` is missing",
        || {
            open(|it| {
                mixtral(it, 2);
                it.remove("llama.expert_used_count");
            })
        },
    );
    let phi3 = |it: &mut GgufFile, length: &str| {
        as_architecture(it, "phi3");
        it.set("phi3.rope.scaling.original_context_length", 16u32);
        it.add_zeros(&format!("rope_factors_{length}.weight"), &[2]);
    };
    checks.refused("factors of zero", BAD, "not of positive f32", || open(|it| phi3(it, "long")));
    checks.refused("long without short", BAD, "rope_factors_short.weight is missing", || {
        open(|it| phi3(it, "long"))
    });
    checks.finish(9);
}

#[test]
fn positions_are_described_as_transformers_describes_them() {
    let config = |change: &dyn Fn(&mut GgufFile)| open(|it| change(it)).unwrap().config;
    let plain = config(&|_| {});
    assert_eq!(
        (&plain["model_type"], plain["rope_theta"].as_f64()),
        (&"llama".into(), Some(10_000.0))
    );
    assert!(plain.get("rope_scaling").is_none() && plain.get("partial_rotary_factor").is_none());
    let half = config(&|it| done(it.set("llama.rope.dimension_count", 2u32)));
    assert_eq!(half["partial_rotary_factor"].as_f64(), Some(0.5));
    let linear = config(&|it| {
        it.set("llama.rope.scaling.type", "linear").set("llama.rope.scaling.factor", 2.5f32);
    });
    assert_eq!(linear["rope_scaling"], serde_json::json!({"rope_type": "linear", "factor": 2.5}));
    let of_2023 = config(&|it| done(it.set("llama.rope.scale_linear", 4f32)));
    assert_eq!(of_2023["rope_scaling"], serde_json::json!({"rope_type": "linear", "factor": 4.0}));
    let yarn = config(&|it| {
        it.set("llama.rope.scaling.type", "yarn").set("llama.rope.scaling.factor", 4f32);
        it.set("llama.rope.scaling.original_context_length", 8u32);
        it.set("llama.rope.scaling.yarn_beta_fast", 32.5f32);
    });
    let expected = serde_json::json!({
        "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8, "beta_fast": 32.5
    });
    assert_eq!(yarn["rope_scaling"], expected);
    let longrope = config(&|it| {
        as_architecture(it, "phi3");
        it.set("phi3.rope.scaling.original_context_length", 16u32);
        // sqrt(1 + ln 2 / ln 16), which is what transformers computes by itself.
        it.set("phi3.rope.scaling.attn_factor", 1.118_034f32);
        let factors = |values: [f32; 2]| values.map(f32::to_le_bytes).concat();
        it.add("rope_factors_long.weight", &[2], 0, &factors([1.1, 2.2]));
        it.add("rope_factors_short.weight", &[2], 0, &factors([1.0, 1.05]));
    });
    let expected = serde_json::json!({
        "rope_type": "longrope", "long_factor": [1.1, 2.2], "short_factor": [1.0, 1.05]
    });
    assert_eq!(longrope["rope_scaling"], expected);
    assert_eq!(longrope["original_max_position_embeddings"], 16);
}

#[test]
fn windows_and_end_tokens_come_from_the_metadata() {
    let files = open(|it| {
        it.set("llama.attention.sliding_window", 8u32);
        it.set("tokenizer.ggml.eos_token_id", 2u32).set("tokenizer.ggml.eot_token_id", 3u32);
        it.set("general.sampling.temp", 0.7f32).set("general.sampling.top_k", 20i32);
    });
    let files = files.unwrap();
    assert_eq!(
        (&files.config["model_type"], &files.config["sliding_window"]),
        (&"mistral".into(), &8.into())
    );
    assert_eq!(
        (&files.config["bos_token_id"], &files.config["eos_token_id"]),
        (&1.into(), &2.into())
    );
    let expected = serde_json::json!({
        "bos_token_id": 1, "eos_token_id": [2, 3], "temperature": 0.7, "top_k": 20, "do_sample": true
    });
    assert_eq!(files.generation_config.unwrap(), expected);
}
