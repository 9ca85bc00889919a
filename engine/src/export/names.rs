//! Hugging Face tensor names in GGUF's spelling: the inverse of `source/gguf_names.rs`.

use crate::source::gguf_config::Family;

/// Where a tensor goes in a GGUF file.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Clone)]
pub(super) struct GgufPlace {
    /// Its name there.
    pub(super) name: String,
    /// Its place in the stack of all experts' matrices.
    pub(super) expert: Option<usize>,
}

/// The place of the tensor `name` of a model of `family`.
pub(super) fn gguf_place(family: Family, name: &str) -> Option<GgufPlace> {
    let one = |name: String| Some(GgufPlace { name, expert: None });
    match name {
        "model.embed_tokens.weight" => return one("token_embd.weight".into()),
        "model.norm.weight" => return one("output_norm.weight".into()),
        "lm_head.weight" => return one("output.weight".into()),
        "rope_freqs.weight" => return one(name.into()),
        _ => {}
    }
    let (layer, rest) = name.strip_prefix("model.layers.")?.split_once('.')?;
    let (module, kind) = rest.rsplit_once('.')?;
    let part = match module {
        "input_layernorm" => "attn_norm",
        "post_attention_layernorm" => "ffn_norm",
        "self_attn.q_proj" => "attn_q",
        "self_attn.k_proj" => "attn_k",
        "self_attn.v_proj" => "attn_v",
        "self_attn.qkv_proj" => "attn_qkv",
        "self_attn.o_proj" => "attn_output",
        "self_attn.q_norm" => "attn_q_norm",
        "self_attn.k_norm" => "attn_k_norm",
        "mlp.gate_up_proj" | "mlp.up_proj" => "ffn_up",
        "mlp.gate_proj" => "ffn_gate",
        "mlp.down_proj" => "ffn_down",
        "mlp.gate" | "block_sparse_moe.gate" => "ffn_gate_inp",
        _ => {
            let (_, expert) = module.split_once(".experts.")?;
            let (expert, matrix) = expert.split_once('.')?;
            let part = match (family, matrix) {
                (Family::Mixtral, "w1") | (Family::Qwen3Moe, "gate_proj") => "ffn_gate_exps",
                (Family::Mixtral, "w2") | (Family::Qwen3Moe, "down_proj") => "ffn_down_exps",
                (Family::Mixtral, "w3") | (Family::Qwen3Moe, "up_proj") => "ffn_up_exps",
                _ => return None,
            };
            let name = format!("blk.{layer}.{part}.{kind}");
            return Some(GgufPlace { name, expert: Some(expert.parse().ok()?) });
        }
    };
    one(format!("blk.{layer}.{part}.{kind}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::gguf_names::{Place, place};

    #[test]
    fn names_lead_back() {
        let names = [
            (Family::Llama, "model.layers.3.self_attn.q_proj.weight"),
            (Family::Qwen2, "model.layers.0.self_attn.k_proj.bias"),
            (Family::Qwen3, "model.layers.12.self_attn.q_norm.weight"),
            (Family::Phi3, "model.layers.1.self_attn.qkv_proj.weight"),
            (Family::Phi3, "model.layers.1.mlp.gate_up_proj.weight"),
            (Family::Mixtral, "model.layers.1.block_sparse_moe.gate.weight"),
            (Family::Mixtral, "model.layers.1.block_sparse_moe.experts.7.w2.weight"),
            (Family::Qwen3Moe, "model.layers.1.mlp.experts.11.up_proj.weight"),
            (Family::Llama, "model.embed_tokens.weight"),
            (Family::Llama, "lm_head.weight"),
            (Family::Llama, "model.norm.weight"),
            (Family::Mistral, "model.layers.1.mlp.down_proj.weight"),
        ];
        for (family, name) in names {
            let there = gguf_place(family, name).unwrap_or_else(|| panic!("{name}"));
            let back = match place(family, &there.name) {
                Place::One(name) | Place::Rotary { name, .. } => name,
                Place::Experts { prefix, suffix } => {
                    format!("{prefix}{}{suffix}", there.expert.unwrap_or(usize::MAX))
                }
                Place::Config => String::new(),
            };
            assert_eq!(back, name);
        }
        assert_eq!(gguf_place(Family::Llama, "model.layers.0.other.weight"), None);
    }
}
