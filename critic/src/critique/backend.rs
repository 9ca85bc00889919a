//! What a critic needs of a model, wherever that runs.

use super::Prompt;
use crate::Result;

/// How text is drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// 0 takes the most probable token each time.
    pub temperature: f64,
    /// Seed of the draws.
    pub seed: u64,
    /// The most tokens.
    pub max_tokens: usize,
    /// Texts that end it and are not part of it.
    pub stop: Vec<String>,
}

impl Sampling {
    /// The most probable text of at most `max_tokens`.
    pub fn greedy(max_tokens: usize) -> Self {
        Self { temperature: 0.0, seed: 0, max_tokens, stop: Vec::new() }
    }
}

/// A model that scores labels and writes text.
pub trait Backend {
    /// What it is called in results.
    fn name(&self) -> &str;

    /// The natural logarithm of each label's probability as the next words of the answer. They
    /// need not sum to one: other words are possible.
    ///
    /// # Errors
    /// Those of the engine or the endpoint.
    fn label_scores(&mut self, prompt: &Prompt, labels: &[&str]) -> Result<Vec<f64>>;

    /// Text that goes on from the prompt.
    ///
    /// # Errors
    /// Those of the engine or the endpoint.
    fn generate(&mut self, prompt: &Prompt, sampling: &Sampling) -> Result<String>;
}
