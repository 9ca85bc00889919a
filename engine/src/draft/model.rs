//! Drafts by a smaller model.

use super::{Draft, Drafter};
use crate::{
    Result,
    dist::{Dist, History, SamplingParams},
    language_model::{LanguageModel, common_prefix},
    rng::{Purpose, Rng},
};

/// Draws drafts from a model of the target's vocabulary, under the target's settings.
///
/// Its own context follows the one that it is given: what is common is kept, the rest (drafts that
/// were rejected, another prompt) forgotten. So it needs no word of what was accepted.
pub struct ModelDrafter {
    model: Box<dyn LanguageModel>,
    params: SamplingParams,
    prompt_len: usize,
}

impl ModelDrafter {
    /// A drafter that draws from `model`.
    pub fn new(model: Box<dyn LanguageModel>) -> Self {
        Self { model, params: SamplingParams::greedy(), prompt_len: 0 }
    }

    /// The model's context as it is now.
    pub fn tokens(&self) -> &[u32] {
        self.model.tokens()
    }
}

impl Drafter for ModelDrafter {
    fn vocab_size(&self) -> Option<usize> {
        Some(self.model.vocab_size())
    }

    fn begin(&mut self, prompt_len: usize, params: &SamplingParams) {
        self.prompt_len = prompt_len;
        self.params = params.clone();
    }

    fn draft(&mut self, context: &[u32], k: usize) -> Result<Vec<Draft>> {
        // The last draft is never fed, so k drafts need room for k - 1 tokens after the context.
        let room = (self.model.context_len() + 1).saturating_sub(context.len());
        let rng = Rng::new(self.params.seed);
        let mut extended = context.to_vec();
        let mut drafts = Vec::with_capacity(k.min(room));
        for _ in 0..k.min(room) {
            let known = common_prefix(self.model.tokens(), &extended).min(extended.len() - 1);
            self.model.truncate(known);
            let logits = self.model.extend(&extended[known..], 1)?;
            let history = History::new(&extended, self.prompt_len);
            let dist = Dist::new(logits.row(0), &self.params, history)?;
            let id = dist.sample(rng.uniform(extended.len() as u64, Purpose::Draft));
            drafts.push(Draft { id, dist: Some(dist) });
            extended.push(id);
        }
        Ok(drafts)
    }
}
