//! Rope settings of a config.json, in the older spelling (`rope_theta`, `rope_scaling` with `type`
//! or `rope_type`) and in the current one (`rope_parameters`).

use super::config::ConfigReader;
use crate::spec::{RopeScaling, RopeSpec};

/// Largest context that any rope may speak of.
const MAX_CONTEXT: usize = 1 << 30;

/// Reads the rope of a model with heads of `head_dim` and `context_len` positions.
pub fn rope(
    config: &ConfigReader<'_>,
    head_dim: usize,
    context_len: usize,
    theta: f64,
) -> RopeSpec {
    let settings = config.object("rope_parameters").or_else(|| config.object("rope_scaling"));
    // A key of the rope's own object wins over one at the top, as in transformers.
    let holder = |key: &str| match &settings {
        Some(it) if it.present(key).is_some() => it.clone(),
        _ => config.clone(),
    };
    let theta = holder("rope_theta").number_opt("rope_theta", 1.0..=1e15).unwrap_or(theta);
    let key = "partial_rotary_factor";
    let part = holder(key).number_opt(key, 0.0..=1.0).unwrap_or(1.0);
    let dim = (head_dim as f64 * part) as usize;
    if dim < 2 || !dim.is_multiple_of(2) {
        config.note(format!("{part} of a head of {head_dim} leaves {dim} values to rotate"));
    }
    let scaling = match &settings {
        Some(it) => scaling(config, it, dim / 2, context_len),
        None => RopeScaling::None,
    };
    RopeSpec { dim: dim.max(2), theta, scaling }
}

fn scaling(
    config: &ConfigReader<'_>,
    rope: &ConfigReader<'_>,
    frequencies: usize,
    context_len: usize,
) -> RopeScaling {
    let original = rope
        .count_opt("original_max_position_embeddings", 1..=MAX_CONTEXT)
        .or_else(|| config.count_opt("original_max_position_embeddings", 1..=MAX_CONTEXT));
    let kind = rope.text("rope_type").or_else(|| rope.text("type")).unwrap_or("default");
    match kind {
        "default" => {
            if let Some(layered) = rope.present("full_attention") {
                rope.note(format!("rope settings by kind of layer are not supported: {layered}"));
            }
            RopeScaling::None
        }
        "linear" => RopeScaling::Linear { factor: factor(rope) },
        "dynamic" => {
            RopeScaling::Dynamic { factor: factor(rope), original: original.unwrap_or(context_len) }
        }
        "llama3" => {
            let low = rope.number("low_freq_factor", 1e-3..=1e3);
            let high = rope.number("high_freq_factor", 1e-3..=1e3);
            if low >= high {
                rope.note(format!(
                    "`low_freq_factor` {low} is not below `high_freq_factor` {high}"
                ));
            }
            let original = original.unwrap_or(context_len);
            RopeScaling::Llama3 { factor: factor(rope), low, high, original }
        }
        "yarn" => yarn(rope, original, context_len),
        "longrope" | "su" => long_rope(rope, frequencies, original, context_len),
        other => {
            rope.note(format!(
                "rope type `{other}` is not supported (default, linear, dynamic, llama3, yarn, longrope are)"
            ));
            RopeScaling::None
        }
    }
}

fn factor(rope: &ConfigReader<'_>) -> f64 {
    rope.number("factor", 1.0..=1e6)
}

fn yarn(rope: &ConfigReader<'_>, original: Option<usize>, context_len: usize) -> RopeScaling {
    let factor = match (rope.number_opt("factor", 1.0..=1e6), original) {
        (Some(factor), _) => factor,
        (None, Some(original)) => (context_len as f64 / original as f64).max(1.0),
        (None, None) => self::factor(rope),
    };
    let magnitude = |scale: f64| if factor <= 1.0 { 1.0 } else { 0.1 * scale * factor.ln() + 1.0 };
    let by_dim =
        (rope.number_opt("mscale", 0.0..=1e3), rope.number_opt("mscale_all_dim", 0.0..=1e3));
    let attention_factor = match (rope.number_opt("attention_factor", 0.0..=1e3), by_dim) {
        (Some(given), _) => given,
        (None, (Some(a), Some(b))) if a != 0.0 && b != 0.0 => magnitude(a) / magnitude(b),
        _ => magnitude(1.0),
    };
    RopeScaling::Yarn {
        factor,
        original: original.unwrap_or(context_len),
        beta_fast: rope.number_opt("beta_fast", 1e-3..=1e6).unwrap_or(32.0),
        beta_slow: rope.number_opt("beta_slow", 1e-3..=1e6).unwrap_or(1.0),
        truncate: rope.flag("truncate", true),
        attention_factor,
    }
}

fn long_rope(
    rope: &ConfigReader<'_>,
    frequencies: usize,
    original: Option<usize>,
    context_len: usize,
) -> RopeScaling {
    let factor = match original {
        Some(original) => context_len as f64 / original as f64,
        None => rope.number_opt("factor", 1.0..=1e6).unwrap_or(1.0),
    };
    let original = original.unwrap_or(context_len);
    let computed = || {
        if factor <= 1.0 { 1.0 } else { (1.0 + factor.ln() / (original.max(2) as f64).ln()).sqrt() }
    };
    RopeScaling::LongRope {
        short: rope.numbers("short_factor", frequencies, 1e-6..=1e9),
        long: rope.numbers("long_factor", frequencies, 1e-6..=1e9),
        original,
        attention_factor: rope.number_opt("attention_factor", 0.0..=1e3).unwrap_or_else(computed),
    }
}
