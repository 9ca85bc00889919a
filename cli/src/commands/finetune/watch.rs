//! What the user sees while it trains.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};
use minicrit_lora::{
    run::{LogEntry, Observer, Plan},
    trainer::Evaluation,
};

use crate::{printer, signals::Answering};

/// Between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// A bar on a terminal, lines elsewhere.
pub struct Watcher<'a> {
    bar: Option<ProgressBar>,
    last_line: Option<Instant>,
    answering: &'a Answering,
    total_steps: u64,
    tokens: usize,
    elapsed: f64,
    /// Loss of the first step that was seen.
    pub first_loss: Option<f64>,
    /// Loss of the last one.
    pub last_loss: Option<f64>,
}

impl<'a> Watcher<'a> {
    /// A watcher of a run that has done some steps already.
    pub fn new(plan: &Plan, steps_done: u64, answering: &'a Answering) -> Self {
        let bar = printer::stderr_is_terminal().then(|| {
            let template = "{bar:24} {pos}/{len} {msg} {eta} left";
            let style = ProgressStyle::with_template(template)
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar = ProgressBar::new(plan.total_steps).with_style(style);
            bar.set_position(steps_done);
            bar
        });
        Self {
            bar,
            last_line: None,
            answering,
            total_steps: plan.total_steps,
            tokens: 0,
            elapsed: 0.0,
            first_loss: None,
            last_loss: None,
        }
    }

    /// Tokens for each second over all steps that were seen.
    pub fn mean_tok_s(&self) -> f64 {
        self.tokens as f64 / self.elapsed.max(1e-9)
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.iter().for_each(ProgressBar::finish_and_clear);
    }

    fn note(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| printer::note(line)),
            None => printer::note(line),
        }
    }
}

impl Observer for Watcher<'_> {
    fn step(&mut self, entry: &LogEntry) {
        self.tokens += entry.tokens;
        self.elapsed = entry.elapsed;
        self.first_loss.get_or_insert(entry.loss);
        self.last_loss = Some(entry.loss);
        let figures = format!("loss {:.4} · {:.0} tok/s", entry.loss, entry.tok_s);
        match &self.bar {
            Some(bar) => {
                bar.set_position(entry.step);
                bar.set_message(figures);
            }
            None => {
                let due = self.last_line.is_none_or(|it| it.elapsed() >= LINE_EVERY);
                if due || entry.step == self.total_steps {
                    self.last_line = Some(Instant::now());
                    printer::note(&format!("step {}/{}: {figures}", entry.step, self.total_steps));
                }
            }
        }
    }

    fn evaluated(&mut self, step: u64, evaluation: &Evaluation, best: bool) {
        let best = if best { ", the best so far" } else { "" };
        self.note(&format!("step {step}: evaluation loss {:.4}{best}", evaluation.loss));
    }

    fn saved(&mut self, folder: &Path) {
        self.note(&format!("saved {}", folder.display()));
    }

    fn stop_wanted(&self) -> bool {
        self.answering.interrupted()
    }
}
