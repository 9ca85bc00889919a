//! The loss on data that is not trained on.

use super::{Method, Rewards, Trainer, TrainingData, batch::Packed, head, head::Want, layerwise};
use crate::{
    Result,
    trainer::{Learner, ReferenceLogProbs, method::slopes},
};

/// What an evaluation found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evaluation {
    /// Mean loss: per trained token (SFT) or per example.
    pub loss: f64,
    /// Rewards, for preference data.
    pub rewards: Option<Rewards>,
    /// Tokens that went through the model.
    pub tokens: usize,
}

impl Trainer {
    /// The mean loss over all of `data`, without dropout.
    ///
    /// # Errors
    /// What the arithmetic gives.
    pub fn evaluate(
        &self,
        data: &TrainingData,
        reference: &ReferenceLogProbs,
    ) -> Result<Evaluation> {
        evaluate(&self.learner, self.settings.method, data, reference, self.settings.batch_size)
    }
}

/// The mean loss of `method` over all of `data`.
fn evaluate(
    learner: &Learner,
    method: Method,
    data: &TrainingData,
    reference: &ReferenceLogProbs,
    batch_size: usize,
) -> Result<Evaluation> {
    let all: Vec<usize> = (0..data.len()).collect();
    let total = method.total(data, &all);
    let adapter = learner.lora.as_ref().map(|it| it as &dyn minicrit_engine::adapter::Adapter);
    let (mut loss, mut tokens, mut rewards) = (0.0, 0, Rewards::default());
    for examples in all.chunks(batch_size) {
        let packed = Packed::new(data.sequences(examples));
        let kept = layerwise::forward(learner, adapter, &packed, false)?;
        let rows_rd = kept.rows(&packed)?;
        let values = head::log_probs(learner, adapter, &packed, &rows_rd, Want::Values)?.0;
        let divergence = super::method::divergence(learner, method, data, examples)?;
        let of = reference.of(examples);
        let found = slopes(method, data, examples, &packed, &values, &of, divergence, total)?;
        loss += found.loss;
        rewards.add(&found.rewards);
        tokens += packed.tokens.len();
    }
    Ok(Evaluation { loss, rewards: rewards.mean(), tokens })
}
