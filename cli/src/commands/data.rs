//! `minicrit data`: what is wrong with training data.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
};

use anstyle::{AnsiColor, Style};
use minicrit_hub::atomic_file::{self, Readers};
use minicrit_lora::data::{
    self, EncodeOptions, Encoder, FileReport, Layout, Listener, Problem, Rule, Severity,
};
use serde_json::{Value, json};

use super::Status;
use crate::{errors, printer, settings::DataCheckSettings, training_data};

const RED: Style = AnsiColor::Red.on_default().bold();
const YELLOW: Style = AnsiColor::Yellow.on_default().bold();
const BLUE: Style = AnsiColor::Blue.on_default().bold();
const CYAN: Style = AnsiColor::Cyan.on_default();

/// Prints every problem and what the files hold.
///
/// # Errors
/// Files that can't be read or written; problems of rows are a status.
pub fn check(settings: &DataCheckSettings) -> anyhow::Result<Status> {
    let encoder = encoder(settings)?;
    let mut shown = Shown::new(settings);
    let reports = {
        let _progress = printer::Progress::start("reading".into());
        match &settings.rejected {
            None => read(settings, encoder.as_ref(), &mut shown, None)?,
            Some(path) => write_rejected(settings, encoder.as_ref(), &mut shown, path)?,
        }
    };
    shown.finish(&reports, encoder.is_some())?;
    let clean = reports.iter().all(|it| it.num_problems() == 0);
    Ok(if clean { Status::Done } else { Status::Failed })
}

fn encoder(settings: &DataCheckSettings) -> anyhow::Result<Option<Encoder>> {
    let Some(model) = &settings.model else { return Ok(None) };
    let options = EncodeOptions {
        max_seq_len: settings.max_seq_len.unwrap_or(usize::MAX),
        ..EncodeOptions::default()
    };
    training_data::encoder(&model.files()?, &model.label(), options).map(Some)
}

fn read(
    settings: &DataCheckSettings,
    encoder: Option<&Encoder>,
    shown: &mut Shown,
    rejected: Option<&mut BufWriter<File>>,
) -> anyhow::Result<Vec<FileReport>> {
    let mut problem = |path: &Path, problem: &Problem| shown.problem(path, problem);
    let rejected = rejected.map(|it| it as &mut dyn Write);
    let mut listener = Listener { problem: &mut problem, rejected };
    Ok(data::check(&settings.files, encoder, &mut listener)?)
}

fn write_rejected(
    settings: &DataCheckSettings,
    encoder: Option<&Encoder>,
    shown: &mut Shown,
    path: &Path,
) -> anyhow::Result<Vec<FileReport>> {
    let mut reports = Vec::new();
    // Whoever may read the data may read what was taken out of it, and nobody else.
    atomic_file::write::<anyhow::Error>(path, Readers::Owner, |out| {
        reports = read(settings, encoder, shown, Some(out))?;
        Ok(())
    })
    .map_err(|error| match error.downcast::<io::Error>() {
        Ok(error) => errors::file("write", path, &error).into(),
        Err(error) => error,
    })?;
    Ok(reports)
}

/// Where problems go: they are printed as they are found, so that they take no memory.
struct Shown {
    json: bool,
    limit: u64,
    counts: BTreeMap<Rule, u64>,
    any: bool,
    /// The first failure of stdout; nothing is printed after it.
    failure: Option<io::Error>,
}

impl Shown {
    fn new(settings: &DataCheckSettings) -> Self {
        let DataCheckSettings { json, limit, .. } = *settings;
        let mut shown = Self { json, limit, counts: BTreeMap::new(), any: false, failure: None };
        if json {
            shown.print("{\"problems\":[");
        }
        shown
    }

    fn problem(&mut self, path: &Path, problem: &Problem) {
        let count = self.counts.entry(problem.rule).or_default();
        *count += 1;
        if *count > self.limit {
            return;
        }
        let text =
            if self.json { machine_form(path, problem) } else { compiler_form(path, problem) };
        let separator = if self.json && self.any { "," } else { "" };
        self.any = true;
        self.print(&format!("{separator}{text}"));
    }

    fn finish(mut self, reports: &[FileReport], with_model: bool) -> anyhow::Result<()> {
        if self.json {
            self.print(&machine_end(reports, with_model));
        } else {
            for (rule, count) in std::mem::take(&mut self.counts) {
                if count > self.limit {
                    let more = count - self.limit;
                    self.print(&format!("... and {more} more of `{}`\n", rule.name()));
                }
            }
            for report in reports {
                self.print(&summary(report, with_model));
            }
            if !with_model {
                printer::note("lengths and chat template were not checked: pass --model");
            }
        }
        match self.failure {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }

    fn print(&mut self, text: &str) {
        if self.failure.is_none() {
            let printed = if self.json { printer::piece(text) } else { printer::coloured(text) };
            self.failure = printed.err();
        }
    }
}

fn machine_form(path: &Path, problem: &Problem) -> String {
    let Problem { rule, severity, line, column, what, fix, .. } = problem;
    json!({
        "file": path, "line": line, "column": column, "severity": severity, "rule": rule,
        "what": what, "fix": fix,
    })
    .to_string()
}

/// All behind the list of problems.
fn machine_end(reports: &[FileReport], with_model: bool) -> String {
    let total = |count: fn(&FileReport) -> u64| reports.iter().map(count).sum::<u64>();
    let end = json!({
        "files": reports.iter().map(|it| machine_report(it, with_model)).collect::<Vec<_>>(),
        "read": total(|it| it.read),
        "used": total(|it| it.used),
        "rejected": total(|it| it.rejected),
        "num_problems": total(FileReport::num_problems),
    });
    format!("],{}\n", &end.to_string()[1..])
}

fn machine_report(report: &FileReport, with_model: bool) -> Value {
    let FileReport {
        path, split, format, layout, read, used, rejected, tokens, bounded, hash, ..
    } = report;
    let formats: BTreeMap<_, _> = report.formats.iter().map(|it| (it.0.name(), it.1)).collect();
    let problems: BTreeMap<_, _> = report.problems.iter().map(|it| (it.0.name(), it.1)).collect();
    let tokens = with_model.then(|| {
        json!({
            "sequences": tokens.sequences, "total": tokens.tokens, "trained": tokens.trained,
            "longest": tokens.longest, "below_power_of_two": tokens.by_length,
        })
    });
    json!({
        "file": path, "split": split.name(), "format": format.map(|it| it.name()),
        "formats": formats, "layout": if *layout == Layout::Lines { "lines" } else { "array" },
        "read": read, "used": used, "rejected": rejected, "problems": problems, "tokens": tokens,
        "duplicates_bounded": bounded, "blake3": hash.to_hex().as_str(),
    })
}

fn compiler_form(path: &Path, problem: &Problem) -> String {
    let Problem { rule, severity, line, column, what, fix, excerpt } = problem;
    let style = if *severity == Severity::Error { RED } else { YELLOW };
    let number = line.to_string();
    let margin = " ".repeat(number.len());
    let caret = " ".repeat(printer::width(&excerpt.text, excerpt.caret));
    format!(
        "{style}{severity}[{}]{style:#}: {}\n{margin}{BLUE}-->{BLUE:#} {}:{line}:{column}\n\
         {margin} {BLUE}|{BLUE:#}\n{BLUE}{number} |{BLUE:#} {}\n\
         {margin} {BLUE}|{BLUE:#} {caret}{style}^{style:#}\n{margin} {CYAN}= fix{CYAN:#}: {fix}\n\n",
        rule.name(),
        printer::clean(what),
        path.display(),
        printer::clean(&excerpt.text),
    )
}

fn summary(report: &FileReport, with_model: bool) -> String {
    let FileReport { path, split, read, used, rejected, tokens, bounded, .. } = report;
    let format = match report.format {
        Some(format) => format!("{format} ({})", format.task().name()),
        None => "no known format".into(),
    };
    let problems = report.num_problems();
    let mut text = format!(
        "{} ({}): {format}; {read} rows = {used} used + {rejected} rejected; {problems} problems\n",
        path.display(),
        split.name(),
    );
    if with_model && tokens.sequences > 0 {
        let share = 100.0 * tokens.trained as f64 / tokens.tokens as f64;
        text += &format!(
            "  {} tokens, {} of them trained ({share:.0} %); {} sequences, the longest has {}\n",
            tokens.tokens, tokens.trained, tokens.sequences, tokens.longest,
        );
        text += &histogram(&tokens.by_length);
    }
    if *bounded {
        text += "  duplicates were looked for among the first 14.6 million rows only\n";
    }
    text
}

/// Sequences by length, a bar for each doubling.
fn histogram(by_length: &[u64]) -> String {
    const WIDTH: u64 = 40;
    let most = by_length.iter().copied().max().unwrap_or(0).max(1);
    let mut text = String::new();
    for (power, &count) in by_length.iter().enumerate().filter(|it| *it.1 > 0) {
        let bar = "#".repeat((count * WIDTH).div_ceil(most) as usize);
        let least = if power == 0 { 0 } else { 1u64 << (power - 1) };
        text += &format!("  {least:>7} to {:>7} tokens {count:>9} {bar}\n", (1u64 << power) - 1);
    }
    text
}
