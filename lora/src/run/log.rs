//! trainer_log.jsonl: a line for each step and each evaluation, under names that other tools read.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

use minicrit_hub::atomic_file::{self, Readers};
use serde_json::{Value, json};

use crate::{
    LoraError, Result,
    trainer::{Evaluation, Rewards},
};

/// The log's name in the output folder.
pub const LOG_FILE: &str = "trainer_log.jsonl";

/// What the log says about a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LogEntry {
    /// Number of the step, from 1.
    pub step: u64,
    /// Steps in all.
    pub total_steps: u64,
    /// Mean loss before the step's update.
    pub loss: f64,
    /// Learning rate.
    pub learning_rate: f64,
    /// Norm of the gradient before clipping.
    pub grad_norm: f64,
    /// Tokens that went through the model.
    pub tokens: usize,
    /// Tokens that carried loss.
    pub trained_tokens: usize,
    /// Tokens for each second.
    pub tok_s: f64,
    /// Epochs done.
    pub epoch: f64,
    /// Seconds since this process began to train.
    pub elapsed: f64,
    /// Seconds that are left, if steps go on like this.
    pub remaining: f64,
    /// Rewards, for preference data.
    pub rewards: Option<Rewards>,
}

impl LogEntry {
    fn to_json(self) -> Value {
        let mut value = json!({
            "step": self.step,
            "loss": self.loss,
            "learning_rate": self.learning_rate,
            "grad_norm": self.grad_norm,
            "tokens": self.tokens,
            "trained_tokens": self.trained_tokens,
            "tok_s": rounded(self.tok_s),
            "epoch": self.epoch,
            "current_steps": self.step,
            "total_steps": self.total_steps,
            "lr": self.learning_rate,
            "percentage": rounded(100.0 * self.step as f64 / self.total_steps as f64),
            "elapsed_time": clock(self.elapsed),
            "remaining_time": clock(self.remaining),
        });
        if let (Some(rewards), Value::Object(map)) = (self.rewards, &mut value) {
            map.insert("rewards/chosen".into(), json!(rewards.chosen));
            map.insert("rewards/rejected".into(), json!(rewards.rejected));
            map.insert("rewards/accuracies".into(), json!(rewards.accuracy));
            map.insert("rewards/margins".into(), json!(rewards.chosen - rewards.rejected));
        }
        value
    }
}

fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

fn clock(seconds: f64) -> String {
    let seconds = seconds as u64;
    format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// The log of a run, and all of it in memory.
pub struct Log {
    path: PathBuf,
    file: File,
    history: Vec<Value>,
}

impl Log {
    /// The log in `output`, without what lies behind `steps_done`.
    ///
    /// # Errors
    /// A file that can't be read or written.
    pub fn open(output: &Path, steps_done: u64) -> Result<Self> {
        let path = output.join(LOG_FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(LoraError::file("read", &path, error)),
        };
        let done = |it: &Value| it["step"].as_u64().is_some_and(|it| 0 < it && it <= steps_done);
        let history: Vec<Value> =
            text.lines().filter_map(|it| serde_json::from_str(it).ok()).filter(done).collect();
        let write = |error| LoraError::file("write", &path, error);
        atomic_file::write(&path, Readers::Umask, |file| {
            history.iter().try_for_each(|it| writeln!(file, "{it}"))
        })
        .map_err(write)?;
        let file = OpenOptions::new().append(true).open(&path).map_err(write)?;
        Ok(Self { path, file, history })
    }

    /// Appends a step.
    ///
    /// # Errors
    /// A file that can't be written.
    pub fn push(&mut self, entry: LogEntry) -> Result<()> {
        self.append(entry.to_json())
    }

    /// Appends an evaluation.
    ///
    /// # Errors
    /// A file that can't be written.
    pub fn push_evaluation(&mut self, step: u64, evaluation: &Evaluation) -> Result<()> {
        let mut value = json!({ "step": step, "eval_loss": evaluation.loss });
        if let (Some(rewards), Value::Object(map)) = (evaluation.rewards, &mut value) {
            map.insert("eval_rewards/accuracies".into(), json!(rewards.accuracy));
            map.insert("eval_rewards/margins".into(), json!(rewards.chosen - rewards.rejected));
        }
        self.append(value)
    }

    fn append(&mut self, value: Value) -> Result<()> {
        let line = format!("{value}\n");
        self.history.push(value);
        self.file.write_all(line.as_bytes()).map_err(|it| LoraError::file("write", &self.path, it))
    }

    /// Brings the log to the disk.
    ///
    /// # Errors
    /// A file that can't be written.
    pub fn sync(&mut self) -> Result<()> {
        self.file.sync_all().map_err(|it| LoraError::file("write", &self.path, it))
    }

    /// All lines.
    pub fn history(&self) -> &[Value] {
        &self.history
    }
}
