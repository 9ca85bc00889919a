//! A training run on disk: checkpoints, a log, evaluations, and the files of the result.
//!
//! What a run is made of is in [`Identity`]; a checkpoint holds it beside parameters, moments and
//! the step, so that a resumed run is the same run or is refused. This module prints nothing: an
//! [`Observer`] hears what happens.

mod card;
mod checkpoint;
mod log;
mod plot;
mod receipt;
mod result;

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

pub use self::{
    checkpoint::{Identity, newest},
    log::LogEntry,
    receipt::{RECEIPT_FILE, Receipt, check_base, read_receipt},
    result::Form,
};
use crate::{
    LoraError, Result,
    trainer::{Evaluation, ReferenceLogProbs, StepReport, Trainer, TrainingData},
};

/// When what happens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plan {
    /// Steps in all.
    pub total_steps: u64,
    /// Steps of one epoch, for the log.
    pub steps_per_epoch: f64,
    /// Saves a checkpoint after so many steps.
    pub save_every: Option<u64>,
    /// Evaluates after so many steps.
    pub eval_every: Option<u64>,
    /// Stops after so many evaluations in a row without a better loss.
    pub patience: Option<u64>,
    /// Checkpoints that are kept.
    pub keep: usize,
}

/// The best evaluation so far.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Best {
    /// After which step.
    pub step: u64,
    /// Its loss.
    pub loss: f64,
    /// Evaluations since then.
    pub since: u64,
}

/// Who hears what happens.
pub trait Observer {
    /// A step is done.
    fn step(&mut self, entry: &LogEntry);
    /// An evaluation is done; `best` says whether it is the best so far.
    fn evaluated(&mut self, step: u64, evaluation: &Evaluation, best: bool);
    /// A checkpoint is saved.
    fn saved(&mut self, folder: &Path);
    /// Whether the run shall stop after this step.
    fn stop_wanted(&self) -> bool;
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// All steps are done, or there was no better loss for long; the result is written.
    Finished {
        /// Steps done.
        steps: u64,
        /// Whether it stopped early.
        early: bool,
    },
    /// It was asked to stop; this checkpoint goes on from here.
    Interrupted {
        /// The checkpoint.
        checkpoint: PathBuf,
    },
}

/// A run.
pub struct Run {
    /// The trainer.
    pub trainer: Trainer,
    /// Data to evaluate on, and its log-probabilities under the reference.
    pub valid: Option<(TrainingData, ReferenceLogProbs)>,
    /// When what happens.
    pub plan: Plan,
    /// What the run is made of.
    pub identity: Identity,
    /// The kind of files that it writes.
    pub form: Form,
    /// Where it writes.
    pub output: PathBuf,
    /// The best evaluation so far.
    pub best: Option<Best>,
    log: log::Log,
}

impl Run {
    /// A run from its first step, or from the newest checkpoint in `output` where `resume`.
    ///
    /// # Errors
    /// `bad-resume` with all that differs, or that there is nothing to resume (or something that
    /// would be lost); files that can't be read or written.
    pub fn open(
        mut trainer: Trainer,
        (form, identity, plan): (Form, Identity, Plan),
        output: &Path,
        valid: Option<(TrainingData, ReferenceLogProbs)>,
        resume: bool,
    ) -> Result<Self> {
        std::fs::create_dir_all(output).map_err(|it| LoraError::file("write", output, it))?;
        checkpoint::remove_parts(output)?;
        let found = newest(output)?;
        let resumed = |problem: &str| LoraError::Resume {
            path: output.to_path_buf(),
            problems: vec![problem.to_string()],
        };
        // An adapter is trained anew at once; a whole model takes days, and is not overwritten.
        let model = output.join(result::MODEL_FILE);
        if !resume && matches!(form, Form::Model(_)) && model.exists() {
            return Err(LoraError::Exists { path: model });
        }
        let best = match (found, resume) {
            (Some(folder), true) => checkpoint::restore(&folder, &identity, &mut trainer)?,
            (None, true) => return Err(resumed("there is no checkpoint")),
            (Some(_), false) if !output.join(RECEIPT_FILE).exists() => {
                return Err(resumed("an unfinished run is there, which --resume goes on with"));
            }
            (Some(_), false) => {
                checkpoint::remove_all(output)?;
                None
            }
            (None, false) => None,
        };
        let log = log::Log::open(output, trainer.steps_done())?;
        Ok(Self { trainer, valid, plan, identity, form, output: output.to_path_buf(), best, log })
    }

    /// Trains to the end, and writes the result.
    ///
    /// # Errors
    /// `numerics`, or files that can't be written.
    pub fn train(&mut self, observer: &mut dyn Observer) -> Result<Outcome> {
        let begin = Instant::now();
        let first = self.trainer.steps_done();
        let mut early = false;
        while self.trainer.steps_done() < self.plan.total_steps && !early {
            let start = Instant::now();
            let report = self.trainer.step()?;
            let entry = self.entry(&report, start, begin, first);
            self.log.push(entry)?;
            observer.step(&entry);
            let step = report.step;
            if self.plan.eval_every.is_some_and(|it| step.is_multiple_of(it)) {
                early = self.evaluate(observer)?;
            }
            let last = step == self.plan.total_steps || early;
            let due = self.plan.save_every.is_some_and(|it| step.is_multiple_of(it));
            let stop = observer.stop_wanted() && !last;
            if due || stop {
                let folder = self.save()?;
                observer.saved(&folder);
                if stop {
                    return Ok(Outcome::Interrupted { checkpoint: folder });
                }
            }
        }
        self.finish(early)?;
        Ok(Outcome::Finished { steps: self.trainer.steps_done(), early })
    }

    /// Evaluates; true where there was no better loss for too long.
    fn evaluate(&mut self, observer: &mut dyn Observer) -> Result<bool> {
        let Some((data, reference)) = &self.valid else { return Ok(false) };
        let step = self.trainer.steps_done();
        let evaluation = self.trainer.evaluate(data, reference)?;
        let better = self.best.is_none_or(|it| evaluation.loss < it.loss);
        if better {
            self.best = Some(Best { step, loss: evaluation.loss, since: 0 });
            result::write_best(&self.output, &self.form, &self.trainer)?;
        } else if let Some(best) = &mut self.best {
            best.since += 1;
        }
        self.log.push_evaluation(step, &evaluation)?;
        observer.evaluated(step, &evaluation, better);
        let since = self.best.map_or(0, |it| it.since);
        Ok(self.plan.patience.is_some_and(|it| since >= it))
    }

    /// Saves a checkpoint, and removes the oldest ones.
    ///
    /// # Errors
    /// Files that can't be written.
    pub fn save(&mut self) -> Result<PathBuf> {
        self.log.sync()?;
        let folder =
            checkpoint::save(&self.output, &self.identity, &self.form, &self.trainer, self.best)?;
        checkpoint::remove_oldest(&self.output, self.plan.keep)?;
        Ok(folder)
    }

    fn finish(&mut self, early: bool) -> Result<()> {
        self.log.sync()?;
        let best = if early { self.best } else { None };
        let history = self.log.history();
        let receipt = Receipt::new(&self.identity, &self.trainer, history, self.best, best);
        result::write(&self.output, &self.form, &self.trainer, best)?;
        result::write_reports(&self.output, &self.form, &receipt, history, &self.plan)
    }

    fn entry(&self, report: &StepReport, start: Instant, begin: Instant, first: u64) -> LogEntry {
        let seconds = start.elapsed().as_secs_f64();
        let elapsed = begin.elapsed().as_secs_f64();
        let done = (report.step - first) as f64;
        let left = (self.plan.total_steps - report.step) as f64;
        LogEntry {
            step: report.step,
            total_steps: self.plan.total_steps,
            loss: report.loss,
            learning_rate: report.learning_rate,
            grad_norm: report.grad_norm,
            tokens: report.tokens,
            trained_tokens: report.trained_tokens,
            tok_s: report.tokens as f64 / seconds.max(1e-9),
            epoch: report.step as f64 / self.plan.steps_per_epoch,
            elapsed,
            remaining: elapsed / done.max(1.0) * left,
            rewards: report.rewards,
        }
    }
}
