//! Rotary embeddings of a GGUF file in config.json's keys: base, rotated part and scaling.
//!
//! It knows how both sides name the same numbers, and must not compute angles. Sources:
//! `modeling_rope_utils.py` of transformers, and llama.cpp's use of `rope.scaling.*`.

use serde_json::{Map, Value, json};

use super::{error::quoted, gguf::GgufValue, gguf_config::Family, gguf_keys::Keys, gguf_model};

/// Adds the keys about positions.
pub(super) fn insert_rope(
    keys: &mut Keys<'_>,
    family: Family,
    head_dim: u64,
    config: &mut Map<String, Value>,
) {
    config.insert("rope_theta".into(), json!(keys.number("rope.freq_base").unwrap_or(10_000.0)));
    if let Some(rotary) = keys.count("rope.dimension_count").filter(|it| *it != head_dim) {
        if rotary == 0 || rotary > head_dim {
            keys.problem(format!("{rotary} rotary dimensions of {head_dim}"));
        } else {
            config.insert("partial_rotary_factor".into(), json!(fraction(rotary, head_dim)));
        }
    }
    let original = keys.count("rope.scaling.original_context_length").filter(|it| *it > 0);
    if let (Family::Phi3, Some(original)) = (family, original) {
        config.insert("original_max_position_embeddings".into(), json!(original));
    }
    if let Some(scaling) = rope_scaling(keys, original) {
        config.insert("rope_scaling".into(), scaling);
    }
}

/// A number whose product with `whole` truncates to `part`, as transformers computes it.
fn fraction(part: u64, whole: u64) -> f64 {
    let quotient = part as f64 / whole as f64;
    if (quotient * whole as f64) as u64 == part { quotient } else { quotient.next_up() }
}

fn rope_scaling(keys: &mut Keys<'_>, original: Option<u64>) -> Option<Value> {
    let factor = keys.number("rope.scaling.factor").or_else(|| keys.number("rope.scale_linear"));
    let named = keys.text("rope.scaling.type");
    let has_factors = keys.gguf.tensors.contains_key("rope_factors_long.weight");
    let kind = match named {
        _ if has_factors => "longrope",
        Some(kind) => kind,
        None if factor.is_some_and(|factor| factor != 1.0) => "linear",
        None => "none",
    };
    let mut scaling = Map::new();
    scaling.insert("rope_type".into(), json!(kind));
    match kind {
        "none" => return None,
        "linear" => {
            scaling.insert("factor".into(), json!(factor.unwrap_or(1.0)));
        }
        "yarn" => insert_yarn(keys, factor, original, &mut scaling),
        "longrope" => insert_longrope(keys, original, &mut scaling),
        other => keys.problem(format!("rope scaling of type {} is not run", quoted(other))),
    }
    Some(scaling.into())
}

fn insert_yarn(
    keys: &mut Keys<'_>,
    factor: Option<f64>,
    original: Option<u64>,
    scaling: &mut Map<String, Value>,
) {
    let factor = factor.unwrap_or_else(|| {
        keys.problem("`rope.scaling.factor` is missing");
        1.0
    });
    scaling.insert("factor".into(), json!(factor));
    if let Some(original) = original {
        scaling.insert("original_max_position_embeddings".into(), json!(original));
    }
    for (theirs, ours) in [("yarn_beta_fast", "beta_fast"), ("yarn_beta_slow", "beta_slow")] {
        if let Some(beta) = keys.number(&format!("rope.scaling.{theirs}")) {
            scaling.insert(ours.into(), json!(beta));
        }
    }
    // In llama.cpp the key multiplies YaRN's own factor, which transformers' key replaces.
    if let Some(multiplier) = keys.number("rope.scaling.attn_factor").filter(|it| *it != 1.0) {
        let own = if factor > 1.0 { 0.1 * factor.ln() + 1.0 } else { 1.0 };
        scaling.insert("attention_factor".into(), json!(multiplier * own));
    }
}

fn insert_longrope(keys: &mut Keys<'_>, original: Option<u64>, scaling: &mut Map<String, Value>) {
    for length in ["long", "short"] {
        let name = format!("rope_factors_{length}.weight");
        match keys.gguf.tensors.get(&name).and_then(gguf_model::float_values) {
            Some(values) if values.iter().all(|value| value.is_finite() && *value > 0.0) => {
                let decimals = values.into_iter().map(|value| GgufValue::F32(value).as_f64());
                scaling.insert(format!("{length}_factor"), json!(decimals.collect::<Vec<_>>()));
            }
            _ => keys.problem(format!("tensor {name} is missing, or not of positive f32 numbers")),
        }
    }
    let Some(original) = original else {
        return keys.problem("`rope.scaling.original_context_length` is missing");
    };
    let longer = keys.count("context_length").unwrap_or(original) as f64 / original as f64;
    let own = if longer > 1.0 { (1.0 + longer.ln() / (original as f64).ln()).sqrt() } else { 1.0 };
    // Where the stored number is transformers' own but for its rounding, it is left out, so that
    // both compute the same one.
    const F32_ROUNDING: f64 = 1e-6;
    if let Some(stored) =
        keys.number("rope.scaling.attn_factor").filter(|it| (it / own - 1.0).abs() > F32_ROUNDING)
    {
        scaling.insert("attention_factor".into(), json!(stored));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotary_fraction_gives_its_dimensions_back() {
        for whole in 1..=512u64 {
            for part in 1..=whole {
                let dimensions = (whole as f64 * fraction(part, whole)) as u64;
                assert_eq!(dimensions, part, "{part} of {whole}");
            }
        }
    }
}
