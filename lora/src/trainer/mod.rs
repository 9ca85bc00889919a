//! The trainer: examples to a changed adapter (or model), one step after the other.
//!
//! A step is a pure function of the parameters, the moments, the data, the settings and the step's
//! number: nothing else is carried along, so a run that is resumed goes on with the same bits.
//! This module prints nothing and writes no files.

mod batch;
mod evaluate;
mod fused;
mod gradients;
mod head;
mod layerwise;
mod learner;
mod method;
mod order;
mod reference;

use minicrit_engine::adapter::Adapter;

use self::{
    batch::Packed,
    head::{Want, log_probs},
    method::{Slopes, slopes},
};
pub use self::{
    evaluate::Evaluation,
    gradients::Gradients,
    learner::{Compute, Learner, Param},
    method::{Method, Rewards, TrainingData},
    order::Order,
    reference::ReferenceLogProbs,
};
use crate::{
    LoraError, Result,
    lora::{Dropout, WithDropout},
    optimizer::{AdamW, Moments},
    schedule::Schedule,
};

/// How to train.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingSettings {
    /// What is minimised.
    pub method: Method,
    /// Units (examples, or packs of them) of one pass.
    pub batch_size: usize,
    /// Passes of one step.
    pub grad_accum: usize,
    /// Learning rates.
    pub schedule: Schedule,
    /// Constants of the optimizer.
    pub optimizer: AdamW,
    /// Largest norm of the gradient.
    pub clip: Option<f64>,
    /// Seed of the order of the data and of dropout.
    pub seed: u64,
    /// Dropout on the adapter's inputs.
    pub dropout: f32,
}

/// What one step did.
#[derive(Debug, Clone, PartialEq)]
pub struct StepReport {
    /// Number of the step, from 1.
    pub step: u64,
    /// Mean loss before the update: per trained token (SFT) or per example.
    pub loss: f64,
    /// Learning rate.
    pub learning_rate: f64,
    /// Norm of the gradient before clipping.
    pub grad_norm: f64,
    /// Tokens that went through the model.
    pub tokens: usize,
    /// Tokens that carried loss.
    pub trained_tokens: usize,
    /// Rewards, for preference data.
    pub rewards: Option<Rewards>,
}

/// A training run in memory.
pub struct Trainer {
    /// The model and what of it is trained.
    pub learner: Learner,
    settings: TrainingSettings,
    data: TrainingData,
    order: Order,
    reference: ReferenceLogProbs,
    moments: Vec<Moments>,
    steps_done: u64,
    gradients: Gradients,
    buffers: fused::Buffers,
}

impl Trainer {
    /// A run that has not begun. `reference` holds the log-probabilities that the method compares
    /// with, for each example of `data`; empty where it compares with nothing.
    pub fn new(
        learner: Learner,
        settings: TrainingSettings,
        data: TrainingData,
        order: Order,
        reference: ReferenceLogProbs,
    ) -> Self {
        let moments = learner.params().iter().map(|it| Moments::zeros(it.len())).collect();
        let gradients = Gradients::new(&learner);
        Self {
            learner,
            settings,
            data,
            order,
            reference,
            moments,
            steps_done: 0,
            gradients,
            buffers: fused::Buffers::new(fused::KEPT_BYTES),
        }
    }

    /// Lets passes in bfloat16 keep so many bytes of activations for the backward pass; what does not
    /// fit is computed again, to the same bits.
    #[must_use]
    pub fn with_kept_bytes(mut self, bytes: usize) -> Self {
        self.buffers = fused::Buffers::new(bytes);
        self
    }

    /// Steps done.
    pub fn steps_done(&self) -> u64 {
        self.steps_done
    }

    /// How it trains.
    pub fn settings(&self) -> &TrainingSettings {
        &self.settings
    }

    /// What it trains on.
    pub fn data(&self) -> &TrainingData {
        &self.data
    }

    /// The optimizer's state, in the order of the learner's parameters.
    pub fn moments(&self) -> &[Moments] {
        &self.moments
    }

    /// Goes on from a saved state: the parameters are the learner's already.
    ///
    /// # Errors
    /// `bad-setting` where moments do not fit the parameters.
    pub fn restore(&mut self, steps_done: u64, moments: Vec<Moments>) -> Result<()> {
        let fits = moments.len() == self.moments.len()
            && moments
                .iter()
                .zip(&self.moments)
                .all(|(a, b)| a.first.len() == b.first.len() && a.second.len() == b.second.len());
        if !fits {
            return Err(LoraError::setting("moments", "the optimizer's state does not fit"));
        }
        (self.steps_done, self.moments) = (steps_done, moments);
        Ok(())
    }

    /// The gradients of the last step, summed over its passes, before clipping.
    pub fn gradients(&self) -> &Gradients {
        &self.gradients
    }

    /// Examples of step `step`, counted from 0, pass by pass.
    fn passes(&mut self, step: u64) -> Vec<Vec<usize>> {
        let per_step = self.settings.batch_size * self.settings.grad_accum;
        let units = self.order.units(step * per_step as u64, per_step);
        units.chunks(self.settings.batch_size).map(<[_]>::concat).collect()
    }

    /// Computes the gradient of the next step and updates every parameter.
    ///
    /// # Errors
    /// `numerics` where loss or gradient is not finite (nothing is updated then), or what the
    /// arithmetic gives.
    pub fn step(&mut self) -> Result<StepReport> {
        let step = self.steps_done;
        let passes = self.passes(step);
        let examples: Vec<usize> = passes.concat();
        let total = self.settings.method.total(&self.data, &examples);
        self.gradients.clear();
        let (mut loss, mut tokens, mut trained_tokens) = (0.0, 0, 0);
        let (mut rewards, mut first_example) = (Rewards::default(), 0);
        for pass in &passes {
            let dropout = Dropout {
                probability: self.settings.dropout,
                seed: self.settings.seed,
                step,
                first_example,
            };
            let done = self.pass(pass, total, dropout)?;
            if !done.loss.is_finite() {
                return Err(self.non_finite("loss", step, pass));
            }
            loss += done.loss;
            tokens += done.tokens;
            trained_tokens += done.trained_tokens;
            rewards.add(&done.rewards);
            first_example += pass.len() as u64;
        }
        let grad_norm = self.gradients.norm();
        if !grad_norm.is_finite() {
            return Err(self.non_finite("gradient norm", step, &examples));
        }
        let learning_rate = self.settings.schedule.rate(step);
        self.update(step + 1, learning_rate, grad_norm)?;
        self.steps_done += 1;
        let rewards = rewards.mean();
        Ok(StepReport {
            step: step + 1,
            loss,
            learning_rate,
            grad_norm,
            tokens,
            trained_tokens,
            rewards,
        })
    }

    /// Adds the gradients of one pass.
    fn pass(&mut self, examples: &[usize], total: f64, dropout: Dropout) -> Result<PassReport> {
        if self.learner.is_fused() && self.settings.dropout == 0.0 {
            return self.fused_pass(examples, total);
        }
        let Self { learner, settings, data, reference, gradients, .. } = self;
        let packed = Packed::new(data.sequences(examples));
        let with_dropout;
        let adapter: Option<&dyn Adapter> = match &learner.lora {
            Some(lora) if dropout.probability > 0.0 => {
                with_dropout = WithDropout { lora, dropout };
                Some(&with_dropout)
            }
            Some(lora) => Some(lora),
            None => None,
        };
        let divergence = method::divergence(learner, settings.method, data, examples)?;
        let kept = layerwise::forward(learner, adapter, &packed, true)?;
        let rows_rd = kept.rows(&packed)?;
        let slopes_of = |log_probs: &[f32]| {
            let reference = reference.of(examples);
            slopes(
                settings.method,
                data,
                examples,
                &packed,
                log_probs,
                &reference,
                divergence,
                total,
            )
        };
        let (found, slope_rd): (Slopes, _) = if learner.trains_head() {
            let values = match settings.method {
                Method::Sft => vec![0.0; packed.ids.len()],
                _ => log_probs(learner, adapter, &packed, &rows_rd, Want::Values)?.0,
            };
            let rows = slopes_of(&values)?.rows;
            let want = Want::Slopes(&rows, gradients);
            let (values, dx) = log_probs(learner, adapter, &packed, &rows_rd, want)?;
            (slopes_of(&values)?, dx)
        } else {
            // The head is frozen, so each row's gradient is the loss's slope by its
            // log-probability times the slope of that: one pass over the head does for any loss.
            let (values, dx) = log_probs(learner, adapter, &packed, &rows_rd, Want::Unit)?;
            let found = slopes_of(&values)?;
            let scaled = head::scale_rows(&dx, &found.rows)?;
            (found, scaled)
        };
        layerwise::backward(learner, adapter, &packed, kept, &slope_rd, gradients)?;
        Ok(PassReport {
            loss: found.loss,
            rewards: found.rewards,
            tokens: packed.tokens.len(),
            trained_tokens: packed.ids.len(),
        })
    }

    /// [`Trainer::pass`] in bfloat16.
    fn fused_pass(&mut self, examples: &[usize], total: f64) -> Result<PassReport> {
        let Self { learner, settings, data, reference, gradients, buffers, .. } = self;
        let packed = Packed::new(data.sequences(examples));
        let divergence = method::divergence(learner, settings.method, data, examples)?;
        let lora = learner.lora.as_ref();
        let pass = fused::Forward::run(learner, lora, &packed, buffers, true)?;
        let (values, mut slope_rd) = pass.log_probs(&packed, true)?;
        let reference = reference.of(examples);
        let method = settings.method;
        let found =
            slopes(method, data, examples, &packed, &values, &reference, divergence, total)?;
        fused::scale_rows(&mut slope_rd, &found.rows);
        pass.backward(&packed, &slope_rd, buffers, gradients)?;
        Ok(PassReport {
            loss: found.loss,
            rewards: found.rewards,
            tokens: packed.tokens.len(),
            trained_tokens: packed.ids.len(),
        })
    }

    fn update(&mut self, step: u64, rate: f64, norm: f64) -> Result<()> {
        let factor = match self.settings.clip {
            Some(most) if norm > most => most / (norm + 1e-6),
            _ => 1.0,
        };
        let optimizer = self.settings.optimizer;
        for ((param, gradient), moments) in
            self.learner.params().iter().zip(self.gradients.values()).zip(&mut self.moments)
        {
            let mut values = param.values()?;
            let rate = rate * param.rate_factor;
            optimizer.update((step, rate, factor), &mut values, gradient, moments);
            param.set(values)?;
        }
        self.learner.refresh()
    }

    fn non_finite(&self, what: &'static str, step: u64, examples: &[usize]) -> LoraError {
        let lines = self.data.lines(examples);
        let lines: Vec<String> = lines.iter().map(u64::to_string).collect();
        LoraError::NonFinite { what, step: step + 1, lines: lines.join(", ") }
    }
}

struct PassReport {
    loss: f64,
    rewards: Rewards,
    tokens: usize,
    trained_tokens: usize,
}
