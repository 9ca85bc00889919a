//! Templates that are known to cost no more than their messages: they may run in this process.
//!
//! The list is the folder `known`: our own copies of the conventions that models use.

use std::sync::LazyLock;

use super::environment::without_generation_tags;

macro_rules! known {
    ($($name:literal),* $(,)?) => {
        /// Name and source of each known template.
        pub const TEMPLATES: &[(&str, &str)] = &[$(($name, include_str!(concat!("known/", $name, ".jinja")))),*];
    };
}

known![
    "chatml",
    "deepseek-r1-distill",
    "gemma",
    "generation-tag",
    "llama2",
    "llama3",
    "llama3.2",
    "macro-loopcontrols",
    "mistral-v0.1",
    "mistral-v0.3",
    "nano",
    "phi3",
    "qwen2.5",
    "qwen3",
    "zephyr",
];

static HASHES: LazyLock<Vec<blake3::Hash>> = LazyLock::new(|| {
    TEMPLATES
        .iter()
        .map(|(_, source)| blake3::hash(without_generation_tags(source).as_bytes()))
        .collect()
});

/// Whether `source` (without generation tags) is, to the byte, a known template.
pub(super) fn contains(source: &str) -> bool {
    HASHES.contains(&blake3::hash(source.as_bytes()))
}
