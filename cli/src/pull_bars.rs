//! Bars of a pull on stderr: one for each file, with speed and time left.

use std::sync::{Mutex, PoisonError};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use minicrit_engine::NamedError;
use minicrit_hub::pull::Event;

use crate::printer;

const TEMPLATE: &str = "{msg:32!} {percent:>3}% [{bar:20}] {decimal_bytes:>10}/{decimal_total_bytes:10} {decimal_bytes_per_sec:>12} {eta:>4}";
/// Files below this come and go too fast for a bar.
const SMALL: u64 = 1 << 20;

/// The bars, or nothing where nobody looks.
#[derive(Debug)]
pub struct Bars {
    visible: bool,
    all: MultiProgress,
    /// By the file's number in the plan; `None` for a small one.
    bars: Mutex<Vec<Option<ProgressBar>>>,
}

impl Bars {
    /// Bars that are drawn if `visible`.
    pub fn new(visible: bool) -> Self {
        Self { visible, all: MultiProgress::new(), bars: Mutex::default() }
    }

    /// Draws what happened.
    pub fn show(&self, event: &Event<'_>) {
        if !self.visible {
            return;
        }
        let mut bars = self.bars.lock().unwrap_or_else(PoisonError::into_inner);
        let bar = |file: &usize| bars.get(*file).and_then(Option::as_ref);
        match event {
            Event::Planned { listing, .. } => {
                let style = ProgressStyle::with_template(TEMPLATE)
                    .unwrap_or_else(|_| ProgressStyle::default_bar());
                *bars = listing
                    .files
                    .iter()
                    .map(|it| {
                        (it.size >= SMALL).then(|| {
                            let bar = self.all.add(ProgressBar::new(it.size));
                            bar.set_style(style.clone());
                            bar.set_message(printer::clean(it.name.file_name()));
                            bar
                        })
                    })
                    .collect();
            }
            Event::Arrived { file, bytes } => {
                if let Some(bar) = bar(file) {
                    // What was here before would count as speed.
                    if bar.position() == 0 && *bytes > SMALL {
                        bar.reset_eta();
                    }
                    bar.set_position(*bytes);
                }
            }
            Event::Waiting { .. } => self.say("another process fetches this model: waiting for it"),
            Event::Retrying { error, wait, .. } => {
                self.say(&format!("{}: {error}; again in {} ms", error.name(), wait.as_millis()));
            }
            Event::Finished { file } => {
                if let Some(bar) = bar(file) {
                    bar.finish();
                }
            }
        }
    }

    /// Leaves the terminal as it was, with the bars' last state above.
    pub fn finish(&self) {
        for bar in self.bars.lock().unwrap_or_else(PoisonError::into_inner).iter().flatten() {
            bar.abandon();
        }
    }

    fn say(&self, text: &str) {
        // A terminal that is gone is no reason to stop a download.
        let _ = self.all.println(printer::clean(text));
    }
}
