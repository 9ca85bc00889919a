//! Qwen3, dense and mixture of experts: queries and keys are normed per head.

use serde_json::Value;

use super::{MAX_COUNT, MAX_LAYERS, config::ConfigReader, qwen_windows, usual};
use crate::spec::{Biases, FfnSpec, ModelSpec};

pub(super) fn spec(config: &ConfigReader<'_>) -> ModelSpec {
    dense(config, "qwen3")
}

fn dense(config: &ConfigReader<'_>, family: &'static str) -> ModelSpec {
    let mut spec = usual(config, family, 10_000.0, false);
    if config.present("head_dim").is_none() && family == "qwen3" {
        spec.heads.dim = 128;
        spec.rope.dim = 128;
    }
    let bias = config.flag("attention_bias", false);
    spec.biases = Biases { qkv: bias, out: bias, ffn: false };
    spec.qk_norm = true;
    qwen_windows(config, &mut spec);
    spec
}

/// Some layers are dense: those in `mlp_only_layers`, and all but every `decoder_sparse_step`-th.
pub(super) fn spec_moe(config: &ConfigReader<'_>) -> ModelSpec {
    let mut spec = dense(config, "qwen3_moe");
    let experts = match config.count_opt("num_experts", 0..=65_536) {
        Some(experts) => experts,
        None => config.count("num_local_experts", 0..=65_536),
    };
    let per_token = config.count("num_experts_per_tok", 1..=65_536);
    let inner = config.count("moe_intermediate_size", 1..=MAX_COUNT);
    let step = config.count_opt("decoder_sparse_step", 1..=MAX_LAYERS).unwrap_or(1);
    let normalize = config.flag("norm_topk_prob", false);
    let dense_only = config.present("mlp_only_layers").and_then(Value::as_array);
    if experts > 0 && per_token > experts {
        config.note(format!("{per_token} experts for each token, but there are only {experts}"));
    }
    for (i, layer) in spec.layers.iter_mut().enumerate() {
        let is_dense =
            dense_only.is_some_and(|list| list.iter().any(|it| it.as_u64() == Some(i as u64)));
        if experts > 0 && !is_dense && (i + 1).is_multiple_of(step) {
            layer.ffn = FfnSpec::Moe { experts, per_token, inner, normalize };
        }
    }
    spec
}
