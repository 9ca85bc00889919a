//! GGUF tensor names in Hugging Face's spelling.
//!
//! It knows the two spellings alone: not shapes, not bytes. A name that is neither known nor one of
//! ours passes as it is, and the loader, which knows what the model needs, refuses it.

use super::gguf_config::Family;

/// Where a GGUF tensor goes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// One tensor of this name.
    One(String),
    /// Query or key rows of attention, which architecture `llama` stores in another order.
    Rotary {
        /// Its name.
        name: String,
        /// Whether its rows are those of the key heads.
        is_key: bool,
    },
    /// The matrices of all experts of a layer, stacked: `{prefix}{expert}{suffix}`.
    Experts {
        /// What stands before the expert's number.
        prefix: String,
        /// What stands after it.
        suffix: String,
    },
    /// Read into the config.
    Config,
}

/// The place of the tensor that a GGUF file of `family` calls `name`.
pub(crate) fn place(family: Family, name: &str) -> Place {
    match name {
        "token_embd.weight" => return Place::One("model.embed_tokens.weight".into()),
        "output_norm.weight" => return Place::One("model.norm.weight".into()),
        "output.weight" => return Place::One("lm_head.weight".into()),
        "rope_factors_long.weight" | "rope_factors_short.weight" => return Place::Config,
        _ => {}
    }
    in_layer(family, name).unwrap_or_else(|| Place::One(name.to_owned()))
}

/// `blk.N.part.weight`, where the part is one that `family` has.
fn in_layer(family: Family, name: &str) -> Option<Place> {
    let (layer, rest) = name.strip_prefix("blk.")?.split_once('.')?;
    let layer = canonical_number(layer)?;
    let (part, kind) = rest.rsplit_once('.')?;
    if !matches!(kind, "weight" | "bias") {
        return None;
    }
    let one = |module: &str| Some(Place::One(format!("model.layers.{layer}.{module}.{kind}")));
    match part {
        "attn_norm" => one("input_layernorm"),
        "ffn_norm" => one("post_attention_layernorm"),
        "attn_q" | "attn_k" => {
            let letter = &part[5..];
            let name = format!("model.layers.{layer}.self_attn.{letter}_proj.{kind}");
            Some(Place::Rotary { name, is_key: letter == "k" })
        }
        "attn_v" => one("self_attn.v_proj"),
        "attn_qkv" if family == Family::Phi3 => one("self_attn.qkv_proj"),
        "attn_output" => one("self_attn.o_proj"),
        "attn_q_norm" => one("self_attn.q_norm"),
        "attn_k_norm" => one("self_attn.k_norm"),
        "ffn_up" if family == Family::Phi3 => one("mlp.gate_up_proj"),
        "ffn_gate" => one("mlp.gate_proj"),
        "ffn_up" => one("mlp.up_proj"),
        "ffn_down" => one("mlp.down_proj"),
        "ffn_gate_inp" => one(&format!("{}.gate", expert_module(family)?)),
        _ => in_experts(family, layer, part, kind),
    }
}

/// `ffn_gate_exps`, or `ffn_gate.E` as files of 2023 have it.
fn in_experts(family: Family, layer: u32, part: &str, kind: &str) -> Option<Place> {
    let module = expert_module(family)?;
    let (matrix, expert) = match part.strip_suffix("_exps") {
        Some(matrix) => (matrix, None),
        None => {
            let (matrix, expert) = part.rsplit_once('.')?;
            (matrix, Some(canonical_number(expert)?))
        }
    };
    let matrix = match (family, matrix) {
        (Family::Mixtral, "ffn_gate") => "w1",
        (Family::Mixtral, "ffn_down") => "w2",
        (Family::Mixtral, "ffn_up") => "w3",
        (_, "ffn_gate") => "gate_proj",
        (_, "ffn_down") => "down_proj",
        (_, "ffn_up") => "up_proj",
        _ => return None,
    };
    let prefix = format!("model.layers.{layer}.{module}.experts.");
    let suffix = format!(".{matrix}.{kind}");
    Some(match expert {
        Some(expert) => Place::One(format!("{prefix}{expert}{suffix}")),
        None => Place::Experts { prefix, suffix },
    })
}

fn expert_module(family: Family) -> Option<&'static str> {
    match family {
        Family::Mixtral => Some("block_sparse_moe"),
        Family::Qwen3Moe => Some("mlp"),
        _ => None,
    }
}

/// A number without sign or leading zeros, so that no two names mean one layer.
fn canonical_number(text: &str) -> Option<u32> {
    let number: u32 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(family: Family, name: &str) -> String {
        match place(family, name) {
            Place::One(name) | Place::Rotary { name, .. } => name,
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn each_family_has_its_own_feed_forward_names() {
        assert_eq!(
            one(Family::Llama, "blk.11.ffn_up.weight"),
            "model.layers.11.mlp.up_proj.weight"
        );
        assert_eq!(
            one(Family::Phi3, "blk.0.ffn_up.weight"),
            "model.layers.0.mlp.gate_up_proj.weight"
        );
        assert_eq!(
            one(Family::Mixtral, "blk.0.ffn_gate_inp.weight"),
            "model.layers.0.block_sparse_moe.gate.weight"
        );
        assert_eq!(
            one(Family::Qwen3Moe, "blk.0.ffn_gate_inp.weight"),
            "model.layers.0.mlp.gate.weight"
        );
        assert_eq!(
            one(Family::Mixtral, "blk.3.ffn_down.7.weight"),
            "model.layers.3.block_sparse_moe.experts.7.w2.weight"
        );
        assert_eq!(
            place(Family::Qwen3Moe, "blk.3.ffn_down_exps.weight"),
            Place::Experts {
                prefix: "model.layers.3.mlp.experts.".into(),
                suffix: ".down_proj.weight".into()
            }
        );
        let key =
            Place::Rotary { name: "model.layers.0.self_attn.k_proj.bias".into(), is_key: true };
        assert_eq!(place(Family::Qwen2, "blk.0.attn_k.bias"), key);
    }

    #[test]
    fn unknown_names_pass_as_they_are() {
        for name in [
            "blk.00.attn_q.weight",
            "blk.x.attn_q.weight",
            "blk.0.attn_q.scale",
            "blk.0",
            "v.blk.0.ln",
            "rope_freqs.weight",
        ] {
            assert_eq!(place(Family::Llama, name), Place::One(name.to_owned()));
        }
        assert_eq!(one(Family::Llama, "blk.0.ffn_gate_exps.weight"), "blk.0.ffn_gate_exps.weight");
        assert_eq!(one(Family::Qwen2, "blk.0.attn_qkv.weight"), "blk.0.attn_qkv.weight");
    }
}
