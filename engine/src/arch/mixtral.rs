//! Mixtral: Mistral with a mixture of experts in every layer.

use super::{
    config::ConfigReader,
    names::{self, FfnNames, Names},
    usual, window,
};
use crate::spec::{FfnSpec, ModelSpec};

pub(super) fn spec(config: &ConfigReader<'_>) -> ModelSpec {
    let mut spec = usual(config, "mixtral", 1e6, false);
    let window = window(config);
    let experts = match config.count_opt("num_local_experts", 1..=65_536) {
        Some(experts) => experts,
        None => config.count("num_experts", 1..=65_536),
    };
    let per_token = config.count("num_experts_per_tok", 1..=65_536);
    if per_token > experts {
        config.note(format!("{per_token} experts for each token, but there are only {experts}"));
    }
    for layer in &mut spec.layers {
        layer.window = window;
        if let FfnSpec::Dense { inner } = layer.ffn {
            layer.ffn = FfnSpec::Moe { experts, per_token, inner, normalize: true };
        }
    }
    spec
}

pub(super) fn names(spec: &ModelSpec) -> Names {
    let mut all = names::usual(spec);
    for (i, (layer, spec_layer)) in all.layers.iter_mut().zip(&spec.layers).enumerate() {
        let FfnSpec::Moe { experts, inner, .. } = spec_layer.ffn else { continue };
        let path = format!("model.layers.{i}.block_sparse_moe");
        layer.ffn = FfnNames::Moe {
            router: names::linear(&format!("{path}.gate"), experts, spec.hidden, false),
            experts: (0..experts)
                .map(|e| {
                    let path = format!("{path}.experts.{e}");
                    names::gated(&path, ["w1", "w3", "w2"], inner, spec.hidden, false)
                })
                .collect(),
        };
    }
    all
}
