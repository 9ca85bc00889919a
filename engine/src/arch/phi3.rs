//! Phi-3 and Phi-3.5: queries, keys and values share a matrix, and so do gate and up.

use super::{
    config::ConfigReader,
    names::{self, FfnNames, LinearNames, Names, Part},
    usual, window,
};
use crate::spec::{FfnSpec, Heads, ModelSpec};

pub(super) fn spec(config: &ConfigReader<'_>) -> ModelSpec {
    let mut spec = usual(config, "phi3", 10_000.0, false);
    let window = window(config);
    spec.layers.iter_mut().for_each(|layer| layer.window = window);
    spec
}

pub(super) fn names(spec: &ModelSpec) -> Names {
    let Heads { query, kv, dim } = spec.heads;
    let mut all = names::usual(spec);
    for (i, layer) in all.layers.iter_mut().enumerate() {
        let path = format!("model.layers.{i}");
        let part = |name: &str, total: usize, rows: std::ops::Range<usize>| LinearNames {
            weight: Part::matrix(format!("{path}.{name}.weight"), total, spec.hidden).rows(rows),
            bias: None,
        };
        let total = (query + 2 * kv) * dim;
        let (k_start, v_start) = (query * dim, (query + kv) * dim);
        layer.q = part("self_attn.qkv_proj", total, 0..k_start);
        layer.k = part("self_attn.qkv_proj", total, k_start..v_start);
        layer.v = part("self_attn.qkv_proj", total, v_start..total);
        if let (FfnNames::Dense(ffn), FfnSpec::Dense { inner }) =
            (&mut layer.ffn, spec.layers[i].ffn)
        {
            ffn.gate = part("mlp.gate_up_proj", 2 * inner, 0..inner);
            ffn.up = part("mlp.gate_up_proj", 2 * inner, inner..2 * inner);
        }
    }
    all
}
