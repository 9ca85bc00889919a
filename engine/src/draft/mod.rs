//! Proposals for the next tokens, to be judged by [`crate::speculate::verify`].
//!
//! A drafter is allowed to be wrong, never to be trusted: whatever it proposes, the answer is the
//! target's. It knows the context and the sampling settings, not the target.

mod model;
mod ngram;

pub use model::ModelDrafter;
pub use ngram::NgramDrafter;

use crate::{
    Result,
    dist::{Dist, SamplingParams},
};

/// A proposed token.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    /// The token.
    pub id: u32,
    /// The distribution that it was drawn from; `None` where it was not drawn but certain.
    pub dist: Option<Dist>,
}

/// Something that proposes tokens.
pub trait Drafter: Send {
    /// Number of ids that it may propose; `None` where it only repeats what the context holds.
    fn vocab_size(&self) -> Option<usize>;

    /// Announces an answer to a prompt of `prompt_len` tokens, under `params`.
    fn begin(&mut self, prompt_len: usize, params: &SamplingParams);

    /// Proposes up to `k` tokens to follow `context`, which is never empty. What became of earlier
    /// proposals shows in the context alone.
    ///
    /// # Errors
    /// Those of a draft model.
    fn draft(&mut self, context: &[u32], k: usize) -> Result<Vec<Draft>>;
}
