//! `minicrit eval`: how good a critic is, beside another one, or over settings.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use minicrit_critic::{
    critique::{Profile, PromptStyle, profile},
    eval::{
        Calibration, Metric, ModelReport, Report, Suite, html, judge,
        run::{self, CaseResult},
        sweep,
    },
};
use minicrit_hub::atomic_file;
use serde_json::{Value, json};

use super::{Status, critic};
use crate::{
    errors::{self, Failure},
    model::ModelRef,
    printer,
    settings::{CriticSettings, EvalSettings, Sweep},
    signals::Answering,
};

/// Measures and prints.
///
/// # Errors
/// Those of the suite, the models and the files.
pub fn eval(settings: &EvalSettings) -> anyhow::Result<Status> {
    let mut suite = Suite::open(&settings.suite)?;
    if let Some(domain) = &settings.domain {
        suite = suite.of_domain(domain);
    }
    if let Some(limit) = settings.limit {
        suite.cases.truncate(limit);
    }
    minicrit_critic::case::both_labels(&suite.name, &suite.cases)?;
    if settings.calibrate {
        // Told before the work and not after it.
        profile_folder(&settings.critic)?;
    }
    if let Some(folder) = &settings.output {
        std::fs::create_dir_all(folder).map_err(|it| errors::file("create", folder, &it))?;
    }
    if !settings.sweep.is_empty() {
        return run_sweep(settings, &suite);
    }
    let Some(mut subject) = measure(settings, &settings.critic, &suite, "cases.jsonl")? else {
        return Ok(Status::Interrupted);
    };
    if settings.calibrate {
        calibrate(settings, &suite, &subject)?;
    }
    if let Some((judge, sample)) = &settings.judge {
        subject.poor = poor_explanations(settings, judge, *sample, &suite, &subject)?;
    }
    let report = match &settings.compare {
        None => Report::of_one(suite, subject),
        Some(other) => match measure(settings, other, &suite, "compared.jsonl")? {
            None => return Ok(Status::Interrupted),
            Some(first) => Report::of_two(suite, first, subject, settings.seed),
        },
    };
    write_files(settings, &report)?;
    let missed = missed(settings, report.subject());
    if settings.json {
        let mut value = report.to_json();
        value["missed"] = json!(missed);
        printer::json(&value)?;
    } else {
        print(&report)?;
    }
    for line in &missed {
        printer::note(&format!("missed: {line}"));
    }
    Ok(if missed.is_empty() { Status::Done } else { Status::Missed })
}

/// Judges every case; `None` where Ctrl-C came first.
fn measure(
    settings: &EvalSettings,
    of: &CriticSettings,
    suite: &Suite,
    file: &str,
) -> anyhow::Result<Option<ModelReport>> {
    let mut critic = critic::open(of)?;
    let file = settings.output.as_ref().map(|it| it.join(file));
    // The first verdict pays for pages that are read and buffers that are made.
    if let Some(first) = suite.cases.first() {
        critic.critique(&first.rationale)?;
    }
    let results = judge_all(&mut critic, of, suite, file.as_deref())?;
    let Some(results) = results else { return Ok(None) };
    let report = ModelReport::new(&of.label(), suite, results, settings.seed);
    if report.metrics.count == 0 {
        let why = report.results.iter().find_map(|it| it.error.clone()).unwrap_or_default();
        return Err(Failure::failed("no-verdicts", format!("no case got a verdict: {why}")).into());
    }
    Ok(Some(report))
}

fn judge_all(
    critic: &mut minicrit_critic::critique::Critic,
    of: &CriticSettings,
    suite: &Suite,
    file: Option<&Path>,
) -> anyhow::Result<Option<Vec<CaseResult>>> {
    let answering = Answering::begin();
    let bar = printer::Bar::start(&of.label(), suite.cases.len());
    let Calibration { slope, intercept } = of.calibration;
    let name = format!(
        "{} prompt={} quant={:?} calibration={slope},{intercept}",
        of.label(),
        of.style.name(),
        of.compute.quantize
    );
    let results = run::run(critic, suite, &name, file, &mut |done| {
        bar.set(done);
        !answering.interrupted()
    })?;
    if results.len() < suite.cases.len() {
        let how = if file.is_some() {
            "run the same command to go on"
        } else {
            "nothing was kept: pass --output to be able to go on"
        };
        printer::note(&format!(
            "stopped after {} of {} cases; {how}",
            results.len(),
            suite.cases.len()
        ));
        return Ok(None);
    }
    Ok(Some(results))
}

/// Fits the confidence to the verdicts and keeps the fit beside the adapter.
fn calibrate(settings: &EvalSettings, suite: &Suite, report: &ModelReport) -> anyhow::Result<()> {
    let scores: Vec<_> = std::iter::zip(&suite.cases, &report.results)
        .filter_map(|(case, it)| Some((it.log_odds?, case.label)))
        .collect();
    let fit = Calibration::fit(&scores).ok_or_else(|| {
        Failure::failed("no-calibration", "the confidence can't be fitted to these verdicts")
    })?;
    let folder = profile_folder(&settings.critic)?;
    let file = folder.join(profile::FILE);
    let profile = Profile {
        prompt: settings.critic.style.name().into(),
        calibration: fit,
        fitted_on: Some(suite.name.clone()),
        cases: Some(scores.len()),
    };
    let text = serde_json::to_string_pretty(&profile)? + "\n";
    write(&file, text.as_bytes())?;
    printer::note(&format!(
        "confidence fitted to {} cases (slope {:.3}, intercept {:.3}): {}\nthe figures of this run are those before the fit; measure on other cases",
        scores.len(),
        fit.slope,
        fit.intercept,
        file.display()
    ));
    Ok(())
}

/// Where a fit is kept: beside the adapter, else beside the model.
fn profile_folder(critic: &CriticSettings) -> Result<PathBuf, Failure> {
    match (&critic.compute.adapter, &critic.model) {
        (Some(adapter), _) => Ok(adapter.dir.clone()),
        (None, ModelRef::Path(path)) if path.is_dir() => Ok(path.clone()),
        _ => {
            let message = "a fit is kept in the folder of an adapter or model, and there is none";
            Err(Failure::usage("no-folder", message)
                .hint("pass --adapter DIR, or --model with a folder"))
        }
    }
}

fn poor_explanations(
    settings: &EvalSettings,
    judge: &CriticSettings,
    sample: usize,
    suite: &Suite,
    report: &ModelReport,
) -> anyhow::Result<Vec<String>> {
    let mut author = critic::open(&settings.critic)?;
    let mut backend = critic::backend(judge)?;
    let sampled = judge::sample(suite, report, sample, settings.seed);
    let bar = printer::Bar::start("explanations", sampled.len());
    let (mut poor, mut unanswered) = (Vec::new(), 0);
    for (at, case) in sampled.iter().enumerate() {
        match judge::is_poor(&mut author, backend.as_mut(), case) {
            Ok(true) => poor.push(case.id.clone()),
            Ok(false) => {}
            Err(_) => unanswered += 1,
        }
        bar.set(at + 1);
    }
    if unanswered > 0 {
        printer::note(&format!(
            "the judge gave no usable answer on {unanswered} of {} explanations",
            sampled.len()
        ));
    }
    Ok(poor)
}

/// What was asked for and not reached.
fn missed(settings: &EvalSettings, subject: &ModelReport) -> Vec<String> {
    let mut missed: Vec<String> = settings
        .thresholds
        .iter()
        .filter(|it| !it.is_cleared_by(subject))
        .map(|it| {
            let value = subject.metrics.get(it.metric);
            let word = if it.metric.higher_is_better() { "at least" } else { "at most" };
            format!("{} is {}, asked for {word} {}", it.metric.name(), fixed(value), it.bar)
        })
        .collect();
    let p95 = subject.latency_ms[1];
    if let Some(bar) = settings.max_p95_ms.filter(|&bar| p95.is_nan() || p95 > bar) {
        missed.push(format!("p95_ms is {p95:.1}, asked for at most {bar}"));
    }
    missed
}

fn write_files(settings: &EvalSettings, report: &Report) -> anyhow::Result<()> {
    let Some(folder) = &settings.output else { return Ok(()) };
    write(&folder.join("report.html"), html::page(report).as_bytes())?;
    write(&folder.join("report.json"), (report.to_json().to_string() + "\n").as_bytes())?;
    let subject = report.subject();
    let mut lines = String::new();
    for (kind, case) in subject.errors(&report.suite) {
        let result = subject.results.iter().find(|it| it.id == case.id);
        let mut line = serde_json::to_value(case)?;
        line["error"] = kind.name().into();
        line["said"] = json!(result);
        lines += &(line.to_string() + "\n");
    }
    write(&folder.join("errors.jsonl"), lines.as_bytes())?;
    printer::note(&format!("report: {}", folder.join("report.html").display()));
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    atomic_file::write(path, atomic_file::Readers::Umask, |file| file.write_all(bytes))
        .map_err(|error: std::io::Error| errors::file("write", path, &error).into())
}

fn print(report: &Report) -> anyhow::Result<()> {
    let valid = report.suite.cases.iter().filter(|it| it.flaw_type.is_none()).count();
    printer::data(&format!(
        "{}: {} cases, {valid} valid and {} flawed",
        report.suite.name,
        report.suite.cases.len(),
        report.suite.cases.len() - valid
    ))?;
    for model in &report.models {
        let rows: Vec<_> = Metric::ALL
            .into_iter()
            .filter(|it| !model.metrics.get(*it).is_nan())
            .map(|it| {
                let (value, interval) = model.metric(it);
                let arrow = if it.higher_is_better() { "up" } else { "down" };
                [
                    it.name().into(),
                    arrow.into(),
                    fixed(value),
                    fixed(interval.low),
                    fixed(interval.high),
                ]
            })
            .collect();
        let [p50, p95, p99] = model.latency_ms;
        printer::data(&format!("\n{}", model.name))?;
        printer::data(&printer::table(["METRIC", "BETTER", "VALUE", "LOW", "HIGH"], &rows))?;
        printer::data(&format!("latency ms: p50 {p50:.1}, p95 {p95:.1}, p99 {p99:.1}"))?;
        if model.failed() > 0 {
            printer::data(&format!("{} cases got no verdict", model.failed()))?;
        }
    }
    print_groups(report)?;
    if let Some(it) = &report.comparison {
        let rows: Vec<_> = it
            .differences
            .iter()
            .filter(|it| !it.1.value.is_nan())
            .map(|(metric, d)| {
                [
                    metric.name().into(),
                    format!("{:+.3}", d.value),
                    format!("{:+.3}", d.low),
                    format!("{:+.3}", d.high),
                    format!("{:.4}", d.p),
                ]
            })
            .collect();
        printer::data(&format!("\n{} against {}", report.models[1].name, report.models[0].name))?;
        printer::data(&printer::table(["METRIC", "DIFFERENCE", "LOW", "HIGH", "P"], &rows))?;
        printer::data(&format!(
            "only the first right: {}, only the second right: {}, McNemar p {:.4}",
            it.only_first, it.only_second, it.mcnemar_p
        ))?;
    }
    Ok(())
}

/// Right answers by kind and domain, and errors by kind.
fn print_groups(report: &Report) -> anyhow::Result<()> {
    let subject = report.subject();
    let by_kind = subject.accuracy_by(&report.suite, |it| it.kind.clone());
    let by_domain = subject.accuracy_by(&report.suite, |it| it.domain.clone());
    let rows: Vec<_> = by_kind
        .into_iter()
        .chain(by_domain)
        .map(|(name, (right, count))| {
            [name, format!("{right}/{count}"), fixed(right as f64 / count as f64)]
        })
        .collect();
    if !rows.is_empty() {
        printer::data("")?;
        printer::data(&printer::table(["CASES", "RIGHT", "SHARE"], &rows))?;
    }
    let mut kinds = std::collections::BTreeMap::new();
    for (kind, _) in subject.errors(&report.suite) {
        *kinds.entry(kind).or_insert(0) += 1;
    }
    let errors: Vec<String> =
        kinds.into_iter().map(|(kind, count)| format!("{} {count}", kind.name())).collect();
    if !errors.is_empty() {
        printer::data(&format!("errors: {}", errors.join(", ")))?;
    }
    Ok(())
}

/// Every combination of the settings, each measured once; temperatures need no further pass.
fn run_sweep(settings: &EvalSettings, suite: &Suite) -> anyhow::Result<Status> {
    let mut styles = vec![settings.critic.style];
    let mut temperatures = vec![0.0];
    for sweep in &settings.sweep {
        match sweep {
            Sweep::Prompt(list) => styles.clone_from(list),
            Sweep::Temperature(list) => temperatures.clone_from(list),
        }
    }
    let mut critic = critic::open(&settings.critic)?;
    let mut rows: Vec<Value> = Vec::new();
    for style in styles {
        critic.set_style(style);
        let of = CriticSettings { style, ..settings.critic.clone() };
        let file = settings
            .output
            .as_ref()
            .map(|it: &PathBuf| it.join(format!("cases-{}.jsonl", style.name())));
        let Some(results) = judge_all(&mut critic, &of, suite, file.as_deref())? else {
            return Ok(Status::Interrupted);
        };
        for &temperature in &temperatures {
            let results = sweep::at_temperature(&results, temperature, settings.seed);
            let report = ModelReport::new(&of.label(), suite, results, settings.seed);
            rows.push(sweep_row(style, temperature, &report));
        }
    }
    if settings.json {
        printer::json(&json!({ "suite": suite.name, "sweep": rows }))?;
        return Ok(Status::Done);
    }
    let shown: Vec<[String; 7]> = rows.iter().map(sweep_line).collect();
    let header = ["PROMPT", "TEMPERATURE", "F1", "FPR", "ACCURACY", "ECE", "P95 MS"];
    printer::data(&printer::table(header, &shown))?;
    Ok(Status::Done)
}

fn sweep_row(style: PromptStyle, temperature: f64, report: &ModelReport) -> Value {
    let value = |metric| report.metrics.get(metric);
    json!({
        "prompt": style.name(),
        "temperature": temperature,
        "f1": value(Metric::F1),
        "fpr": value(Metric::FalsePositiveRate),
        "accuracy": value(Metric::Accuracy),
        "ece": value(Metric::Ece),
        "p95_ms": report.latency_ms[1],
        "failed": report.failed(),
    })
}

fn sweep_line(row: &Value) -> [String; 7] {
    let number = |key: &str| row[key].as_f64().map_or_else(|| "-".into(), fixed);
    [
        row["prompt"].as_str().unwrap_or_default().into(),
        row["temperature"].to_string(),
        number("f1"),
        number("fpr"),
        number("accuracy"),
        number("ece"),
        number("p95_ms"),
    ]
}

fn fixed(value: f64) -> String {
    if value.is_nan() { "-".into() } else { format!("{value:.3}") }
}
