//! Families: each maps its config.json and tensor names onto the shared nouns, and holds no
//! arithmetic.
//!
//! A family is a file with `spec` (config.json to [`ModelSpec`]) and `names` (where each weight
//! lies). What differs in arithmetic is data in the spec.

mod config;
mod llama;
mod mistral;
mod mixtral;
pub mod names;
mod phi3;
mod qwen2;
mod qwen3;
mod rope;

use std::cell::RefCell;

use serde_json::Value;

use self::{
    config::{ConfigReader, LayerKind},
    names::Names,
};
use crate::{
    model::ModelError,
    spec::{Biases, FfnSpec, Heads, LayerSpec, ModelSpec},
};

/// Largest count that any field of a config.json may hold.
const MAX_COUNT: usize = 1 << 24;

/// Most layers.
const MAX_LAYERS: usize = 4096;

/// The families, by `model_type`.
pub const FAMILIES: [&str; 7] =
    ["qwen2", "qwen3", "qwen3_moe", "llama", "mistral", "mixtral", "phi3"];

/// Reads a config.json.
///
/// # Errors
/// [`ModelError::Family`] for a family that is not supported, [`ModelError::Config`] with every
/// problem otherwise.
pub fn spec_from_config(config: &Value) -> Result<ModelSpec, ModelError> {
    let Some(map) = config.as_object() else {
        return Err(ModelError::Config { problems: vec!["it is not a JSON object".into()] });
    };
    let family = map.get("model_type").and_then(Value::as_str).unwrap_or("");
    let problems = RefCell::new(Vec::new());
    let reader = ConfigReader::new(map, &problems);
    let spec = match family {
        "qwen2" => qwen2::spec(&reader),
        "qwen3" => qwen3::spec(&reader),
        "qwen3_moe" => qwen3::spec_moe(&reader),
        "llama" => llama::spec(&reader),
        "mistral" => mistral::spec(&reader),
        "mixtral" => mixtral::spec(&reader),
        "phi3" => phi3::spec(&reader),
        other => return Err(ModelError::Family { family: other.to_string() }),
    };
    check_common(&reader);
    reader.finish()?;
    Ok(spec)
}

/// Where the weights of `spec` lie in a file with Hugging Face names.
pub fn names(spec: &ModelSpec) -> Names {
    match spec.family {
        "mixtral" => mixtral::names(spec),
        "phi3" => phi3::names(spec),
        _ => names::usual(spec),
    }
}

/// Settings that no family may have, because the arithmetic would silently differ.
fn check_common(config: &ConfigReader<'_>) {
    if let Some(activation) = config.text("hidden_act").or_else(|| config.text("hidden_activation"))
        && !matches!(activation, "silu" | "swish")
    {
        config.note(format!("activation `{activation}` is not supported (silu is)"));
    }
    if config.present("quantization_config").is_some() {
        config
            .note("weights quantized by `quantization_config` are not supported (GGUF is)".into());
    }
    if let Some(scale) = config.number_opt("attn_logit_softcapping", -1e9..=1e9) {
        config.note(format!("`attn_logit_softcapping` {scale} is not supported"));
    }
}

/// What every family reads alike. Families then change what is theirs.
fn usual(config: &ConfigReader<'_>, family: &'static str, theta: f64, tied: bool) -> ModelSpec {
    let hidden = config.count("hidden_size", 1..=MAX_COUNT);
    let query = config.count("num_attention_heads", 1..=65_536);
    let kv = config.count_opt("num_key_value_heads", 1..=65_536).unwrap_or(query);
    if !query.is_multiple_of(kv) {
        config.note(format!("{query} attention heads do not divide among {kv} key/value heads"));
    }
    let dim = config.count_opt("head_dim", 1..=65_536).unwrap_or_else(|| {
        if !hidden.is_multiple_of(query) {
            config.note(format!("{query} heads do not divide a hidden size of {hidden}"));
        }
        (hidden / query).max(1)
    });
    let context_len = config.count("max_position_embeddings", 1..=1 << 30);
    let num_layers = config.count("num_hidden_layers", 1..=MAX_LAYERS);
    let inner = config.count("intermediate_size", 1..=MAX_COUNT);
    let layer = LayerSpec { window: None, ffn: FfnSpec::Dense { inner } };
    ModelSpec {
        family,
        hidden,
        heads: Heads { query, kv, dim },
        biases: Biases::default(),
        qk_norm: false,
        norm_eps: config.number_opt("rms_norm_eps", 0.0..=1.0).unwrap_or(1e-6) as f32,
        rope: rope::rope(config, dim, context_len, theta),
        layers: vec![layer; num_layers],
        vocab_size: config.count("vocab_size", 1..=MAX_COUNT),
        context_len,
        tied: config.flag("tie_word_embeddings", tied),
    }
}

/// The sliding window that all layers share.
fn window(config: &ConfigReader<'_>) -> Option<usize> {
    config.count_opt("sliding_window", 1..=1 << 40)
}

/// Qwen's windows: off unless `use_sliding_window`; then by `layer_types`, or from
/// `max_window_layers` on.
fn qwen_windows(config: &ConfigReader<'_>, spec: &mut ModelSpec) {
    if !config.flag("use_sliding_window", false) {
        return;
    }
    let Some(window) = window(config) else { return };
    let kinds = config.layer_kinds(spec.layers.len());
    let first = config.count_opt("max_window_layers", 0..=MAX_LAYERS).unwrap_or(0);
    for (i, layer) in spec.layers.iter_mut().enumerate() {
        let slides = match &kinds {
            Some(kinds) => kinds[i] == LayerKind::Sliding,
            None => i >= first,
        };
        layer.window = slides.then_some(window);
    }
}
