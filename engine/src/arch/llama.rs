//! Llama 2 and 3.x, and what is built on them (DeepSeek-R1-Distill-Llama, SmolLM2).

use super::{config::ConfigReader, usual};
use crate::spec::{Biases, ModelSpec};

pub(super) fn spec(config: &ConfigReader<'_>) -> ModelSpec {
    let mut spec = usual(config, "llama", 10_000.0, false);
    let attention = config.flag("attention_bias", false);
    let ffn = config.flag("mlp_bias", false);
    spec.biases = Biases { qkv: attention, out: attention, ffn };
    spec
}
