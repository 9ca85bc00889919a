//! Mistral, Nemo and Devstral: Llama with a sliding window and a free head width.

use super::{config::ConfigReader, usual, window};
use crate::spec::ModelSpec;

pub(super) fn spec(config: &ConfigReader<'_>) -> ModelSpec {
    let mut spec = usual(config, "mistral", 10_000.0, false);
    let window = window(config);
    spec.layers.iter_mut().for_each(|layer| layer.window = window);
    spec
}
