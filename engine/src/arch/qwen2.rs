//! Qwen2 and Qwen2.5, and what is built on them (DeepSeek-R1-Distill-Qwen).

use super::{config::ConfigReader, qwen_windows, usual};
use crate::spec::{Biases, ModelSpec};

pub(super) fn spec(config: &ConfigReader<'_>) -> ModelSpec {
    let mut spec = usual(config, "qwen2", 10_000.0, false);
    spec.biases = Biases { qkv: true, out: false, ffn: false };
    qwen_windows(config, &mut spec);
    spec
}
