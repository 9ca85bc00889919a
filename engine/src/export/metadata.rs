//! What a model is, in the keys of a GGUF file: the inverse of `source/gguf_config.rs` and
//! `source/gguf_rope.rs`.
//!
//! Everything is taken from the checked [`ModelSpec`], so that what is written is what was run.

use serde_json::Value;

use super::ExportError;
use crate::{
    recipe::Mix,
    source::{ModelFiles, gguf::GgufValue, gguf_config::Family},
    spec::{FfnSpec, ModelSpec, RopeScaling},
};

/// Version of the block layouts that ggml uses since 2023.
const QUANTIZATION_VERSION: u64 = 2;

pub(super) type Metadata = Vec<(String, GgufValue)>;

/// The family that `spec` belongs to in GGUF's terms.
pub(super) fn family(spec: &ModelSpec) -> Result<Family, ExportError> {
    Ok(match spec.family {
        "llama" => Family::Llama,
        "mistral" => Family::Mistral,
        "mixtral" => Family::Mixtral,
        "qwen2" => Family::Qwen2,
        "qwen3" => Family::Qwen3,
        "qwen3_moe" => Family::Qwen3Moe,
        "phi3" => Family::Phi3,
        other => {
            let problems = vec![format!("there is no architecture for `{other}`")];
            return Err(ExportError::NoGgufForm { problems });
        }
    })
}

/// All keys but those of the tokenizer.
pub(super) fn metadata(
    files: &ModelFiles,
    spec: &ModelSpec,
    family: Family,
    mix: Mix,
    name: &str,
) -> Result<Metadata, ExportError> {
    let mut keys = Keys { prefix: family.prefix(), entries: Vec::new(), problems: Vec::new() };
    keys.whole("general", "architecture", GgufValue::String(family.prefix().into()));
    keys.whole("general", "type", GgufValue::String("model".into()));
    keys.whole("general", "name", GgufValue::String(name.into()));
    keys.whole("general", "file_type", GgufValue::Unsigned(mix.gguf_file_type().into()));
    keys.whole("general", "quantization_version", GgufValue::Unsigned(QUANTIZATION_VERSION));
    keys.count("context_length", spec.context_len);
    keys.count("embedding_length", spec.hidden);
    keys.count("block_count", spec.num_layers());
    keys.count("attention.head_count", spec.heads.query);
    keys.count("attention.head_count_kv", spec.heads.kv);
    keys.count("attention.key_length", spec.heads.dim);
    keys.count("attention.value_length", spec.heads.dim);
    keys.number("attention.layer_norm_rms_epsilon", f64::from(spec.norm_eps));
    keys.count("vocab_size", spec.vocab_size);
    feed_forward(&mut keys, files, spec, family);
    window(&mut keys, spec, family);
    rope(&mut keys, spec, family);
    sampling(&mut keys, files.generation_config.as_ref());
    if keys.problems.is_empty() {
        Ok(keys.entries)
    } else {
        Err(ExportError::NoGgufForm { problems: keys.problems })
    }
}

struct Keys {
    prefix: &'static str,
    entries: Metadata,
    problems: Vec<String>,
}

impl Keys {
    fn whole(&mut self, prefix: &str, key: &str, value: GgufValue) {
        self.entries.push((format!("{prefix}.{key}"), value));
    }

    fn count(&mut self, key: &str, value: usize) {
        self.whole(self.prefix, key, GgufValue::Unsigned(value as u64));
    }

    fn number(&mut self, key: &str, value: f64) {
        self.whole(self.prefix, key, GgufValue::F32(value as f32));
    }

    fn problem(&mut self, line: impl Into<String>) {
        self.problems.push(line.into());
    }
}

fn feed_forward(keys: &mut Keys, files: &ModelFiles, spec: &ModelSpec, family: Family) {
    let first = spec.layers.first().map(|it| it.ffn);
    if spec.layers.iter().any(|it| Some(it.ffn) != first) {
        keys.problem("its layers have different feed-forward blocks");
    }
    match first {
        Some(FfnSpec::Dense { inner }) => keys.count("feed_forward_length", inner),
        Some(FfnSpec::Moe { experts, per_token, inner, normalize }) => {
            keys.count("expert_count", experts);
            keys.count("expert_used_count", per_token);
            if !normalize {
                keys.problem("the weights of its chosen experts do not sum to one");
            }
            if family == Family::Qwen3Moe {
                keys.count("expert_feed_forward_length", inner);
                let dense = files.config.get("intermediate_size").and_then(Value::as_u64);
                keys.count("feed_forward_length", dense.map_or(inner, |it| it as usize));
            } else {
                keys.count("feed_forward_length", inner);
            }
        }
        None => keys.problem("it has no layers"),
    }
}

fn window(keys: &mut Keys, spec: &ModelSpec, family: Family) {
    let first = spec.layers.first().and_then(|it| it.window);
    let has_key = matches!(family, Family::Mistral | Family::Mixtral | Family::Phi3);
    if spec.layers.iter().any(|it| it.window != first) || (first.is_some() && !has_key) {
        return keys.problem("there is no key for its sliding windows");
    }
    // llama.cpp asks for the key in Phi-3 files, where 0 is how there is none.
    if let Some(window) = first.or((family == Family::Phi3).then_some(0)) {
        keys.count("attention.sliding_window", window);
    }
}

fn rope(keys: &mut Keys, spec: &ModelSpec, family: Family) {
    keys.count("rope.dimension_count", spec.rope.dim);
    keys.number("rope.freq_base", spec.rope.theta);
    let named = |keys: &mut Keys, kind: &str, original: usize| {
        keys.whole(keys.prefix, "rope.scaling.type", GgufValue::String(kind.into()));
        keys.count("rope.scaling.original_context_length", original);
    };
    match &spec.rope.scaling {
        // Llama 3's and unnamed divisors are a tensor.
        RopeScaling::None | RopeScaling::Llama3 { .. } | RopeScaling::Divisors(_) => {
            if family == Family::Phi3 {
                keys.count("rope.scaling.original_context_length", spec.context_len);
            }
        }
        RopeScaling::Linear { factor } => {
            keys.whole(keys.prefix, "rope.scaling.type", GgufValue::String("linear".into()));
            keys.number("rope.scaling.factor", *factor);
        }
        RopeScaling::Dynamic { .. } => keys.problem("there is no key for a dynamic rope"),
        RopeScaling::Yarn {
            factor,
            original,
            beta_fast,
            beta_slow,
            truncate,
            attention_factor,
            ..
        } => {
            if !truncate {
                keys.problem("there is no key for a YaRN passage between whole dimensions");
            }
            named(keys, "yarn", *original);
            keys.number("rope.scaling.factor", *factor);
            keys.number("rope.scaling.yarn_beta_fast", *beta_fast);
            keys.number("rope.scaling.yarn_beta_slow", *beta_slow);
            // llama.cpp multiplies YaRN's own factor by this one.
            let own = if *factor > 1.0 { 0.1 * factor.ln() + 1.0 } else { 1.0 };
            if (attention_factor / own - 1.0).abs() > 1e-9 {
                keys.number("rope.scaling.attn_factor", attention_factor / own);
            }
        }
        RopeScaling::LongRope { original, attention_factor, .. } => {
            keys.count("rope.scaling.original_context_length", *original);
            keys.number("rope.scaling.attn_factor", *attention_factor);
        }
    }
}

/// Recommended sampling, from generation_config.json.
fn sampling(keys: &mut Keys, generation_config: Option<&Value>) {
    let Some(config) = generation_config else { return };
    if config.get("do_sample").and_then(Value::as_bool) != Some(true) {
        return;
    }
    // Without a temperature, drawing is at 1.
    let temperature = config.get("temperature").and_then(Value::as_f64).unwrap_or(1.0);
    keys.whole("general", "sampling.temp", GgufValue::F32(temperature as f32));
    let names = [("top_p", "top_p"), ("min_p", "min_p"), ("penalty_repeat", "repetition_penalty")];
    for (theirs, ours) in names {
        if let Some(value) = config.get(ours).and_then(Value::as_f64) {
            let key = format!("sampling.{theirs}");
            keys.whole("general", &key, GgufValue::F32(value as f32));
        }
    }
    if let Some(top_k) = config.get("top_k").and_then(Value::as_i64) {
        keys.whole("general", "sampling.top_k", GgufValue::Signed(top_k));
    }
}

/// Divisors of the rotary frequencies, where a GGUF file has a tensor for them: its name and values.
pub(super) fn rope_tensors(spec: &ModelSpec) -> Vec<(&'static str, Vec<f32>)> {
    let narrow = |values: &[f64]| values.iter().map(|&it| it as f32).collect();
    match &spec.rope.scaling {
        RopeScaling::LongRope { short, long, .. } => vec![
            ("rope_factors_long.weight", narrow(long)),
            ("rope_factors_short.weight", narrow(short)),
        ],
        RopeScaling::Divisors(divisors) => vec![("rope_freqs.weight", narrow(divisors))],
        RopeScaling::Llama3 { .. } => vec![("rope_freqs.weight", llama3_divisors(spec))],
        _ => Vec::new(),
    }
}

/// Frequencies without scaling over those with it, as the converter of llama.cpp computes them.
fn llama3_divisors(spec: &ModelSpec) -> Vec<f32> {
    let RopeScaling::Llama3 { factor, low, high, original } = spec.rope.scaling else {
        unreachable!("invariant: called for Llama 3's ropes only");
    };
    let dim = spec.rope.dim as f64;
    let divisor = |pair: usize| {
        let exponent = (2 * pair) as f64 / dim;
        let wavelength = 2.0 * std::f64::consts::PI * spec.rope.theta.powf(exponent);
        let turns = original as f64 / wavelength;
        if turns > high {
            1.0
        } else if turns < low {
            factor
        } else {
            let smooth = (turns - low) / (high - low);
            1.0 / ((1.0 - smooth) / factor + smooth)
        }
    };
    (0..spec.rope.dim / 2).map(|pair| divisor(pair) as f32).collect()
}
